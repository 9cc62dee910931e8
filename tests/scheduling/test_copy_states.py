"""Every pair of a state and an event was thought of: it is a row of the table, or it is refused."""

from __future__ import annotations

import itertools

import pytest

from modelmgr.errors import InvalidTransitionError
from modelmgr.scheduling.states import (
    HELD,
    LOADED,
    REFUSED,
    STAYING,
    TERMINAL,
    TRANSITIONS,
    CopyEvent,
    CopyState,
    after,
)

PAIRS = list(itertools.product(CopyState, CopyEvent))


def test_every_pair_is_a_row_or_refused_and_never_both() -> None:
    assert set(TRANSITIONS) | REFUSED == set(PAIRS)
    assert not set(TRANSITIONS) & REFUSED
    assert (len(PAIRS), len(TRANSITIONS), len(REFUSED)) == (108, 23, 85)


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=lambda part: part.value)
def test_a_row_is_followed_and_a_refused_pair_raises_with_both_names(
    state: CopyState, event: CopyEvent
) -> None:
    if (state, event) in TRANSITIONS:
        assert after(state, event) is TRANSITIONS[state, event]
        return
    with pytest.raises(InvalidTransitionError, match=f"{state.value}.*{event.value}"):
        after(state, event)


def test_terminal_states_have_no_rows_and_all_others_can_end() -> None:
    assert {state for state, _ in TRANSITIONS}.isdisjoint(TERMINAL)
    ends = set(TERMINAL)
    while True:
        more = {state for (state, _), follows in TRANSITIONS.items() if follows in ends} - ends
        if not more:
            break
        ends |= more
    assert ends == set(CopyState)


def test_every_state_is_reached_from_reserved() -> None:
    reached = {CopyState.RESERVED}
    for _ in CopyState:
        reached |= {follows for (state, _), follows in TRANSITIONS.items() if state in reached}
    assert reached == set(CopyState)


def test_a_held_copy_is_unloaded_only_when_its_holder_lets_go_or_is_lost() -> None:
    """The pin promise, in the table itself."""
    leaving = {
        event
        for (state, event), follows in TRANSITIONS.items()
        if state in HELD and follows not in HELD
    }
    assert leaving == {CopyEvent.RELEASED, CopyEvent.HOLDER_LOST, CopyEvent.WORKER_LOST}
    assert (CopyState.DRAINING, CopyEvent.GRANTED) in REFUSED
    assert (CopyState.ACTIVE, CopyEvent.GRANTED) in REFUSED


def test_the_groups_say_what_their_names_say() -> None:
    assert {CopyState.ACTIVE, CopyState.DRAINING} == HELD
    assert HELD <= LOADED
    assert not LOADED & TERMINAL
    assert CopyState.DRAINING not in STAYING
    assert CopyState.UNLOADING not in STAYING | LOADED

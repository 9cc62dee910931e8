"""The plan over the waiting tickets: as cheap as the best of all plans, tried one by one."""

from __future__ import annotations

import itertools
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from modelmgr.scheduling.lookahead import Ahead, Idle, Waiting, first_victims
from modelmgr.scheduling.policies import IdleCopy, QueueValue
from modelmgr.scheduling.settings import SchedulerSettings
from support.virtual_driver import VirtualDriver

TAGS = "abcdefg"
OFTEN = settings(max_examples=150, deadline=None, derandomize=True)


@st.composite
def boards(draw: st.DrawFn) -> tuple[list[Idle], Ahead, dict[str, float]]:
    """Draw idle copies, waiting tickets, and a device that is full enough to need victims."""
    sizes = {tag: draw(st.integers(1, 6)) for tag in TAGS}
    reloads = {tag: draw(st.integers(1, 20)) for tag in TAGS}
    worth = {tag: float(draw(st.integers(0, reloads[tag]))) for tag in TAGS}
    loaded = draw(st.integers(1, 4))
    idle = [Idle(tag, sizes[tag], reloads[tag], worth[tag], False) for tag in TAGS[:loaded]]
    first = TAGS[loaded]
    tickets = [first, *draw(st.lists(st.sampled_from(TAGS), max_size=4))]
    used = sum(copy.size_bytes for copy in idle)
    room = draw(st.integers(max(sizes.values()), max(*sizes.values(), used + sizes[first] - 1)))
    waiting = [Waiting(tag, sizes[tag], sizes[tag], reloads[tag]) for tag in tickets]
    need = used + sizes[first] - room
    ahead = Ahead(need, room, waiting[0], tuple(waiting[1:]), (), len(waiting))
    return idle, ahead, worth


def least_cost(
    idle: list[Idle], ahead: Ahead, worth: dict[str, float], gone: frozenset[str]
) -> float:
    """Try every way to serve the tickets once ``gone`` went for the first."""
    tickets = (ahead.first, *ahead.others)
    sizes = {t.tag: t.resident_bytes for t in tickets} | {c.tag: c.size_bytes for c in idle}

    @cache
    def after(number: int, loaded: frozenset[str]) -> float:
        if number == len(tickets):
            return -sum(worth[tag] for tag in loaded)
        ticket = tickets[number]
        load = 0 if ticket.tag in loaded else ticket.reload_ns
        others = sorted(loaded - {ticket.tag})
        return load + min(
            after(number + 1, frozenset(kept) | {ticket.tag})
            for count in range(len(others) + 1)
            for kept in itertools.combinations(others, count)
            if sum(sizes[tag] for tag in kept) + ticket.needed_bytes <= ahead.room_bytes
        )

    stay = frozenset(copy.tag for copy in idle) - gone
    return after(1, stay | {ahead.first.tag})


@given(board=boards())
@OFTEN
def test_the_first_victims_are_those_of_the_cheapest_of_all_plans(
    board: tuple[list[Idle], Ahead, dict[str, float]],
) -> None:
    idle, ahead, worth = board
    if ahead.need_bytes <= 0:
        return
    chosen = first_victims(idle, ahead, worth, effort=100)
    assert sum(idle[place].size_bytes for place in chosen) >= ahead.need_bytes
    enough = [
        frozenset(copy.tag for copy in subset)
        for count in range(len(idle) + 1)
        for subset in itertools.combinations(idle, count)
        if sum(copy.size_bytes for copy in subset) >= ahead.need_bytes
    ]
    best = min(least_cost(idle, ahead, worth, gone) for gone in enough)
    gone = frozenset(idle[place].tag for place in chosen)
    assert least_cost(idle, ahead, worth, gone) == best


@given(board=boards())
@OFTEN
def test_with_little_effort_the_victims_still_suffice_and_none_is_needless(
    board: tuple[list[Idle], Ahead, dict[str, float]],
) -> None:
    idle, ahead, worth = board
    if ahead.need_bytes <= 0:
        return
    chosen = first_victims(idle, ahead, worth)
    assert chosen == first_victims(idle, ahead, worth)
    freed = sum(idle[place].size_bytes for place in chosen)
    assert freed >= ahead.need_bytes
    assert all(freed - idle[place].size_bytes < ahead.need_bytes for place in chosen)


def test_where_nothing_suffices_there_is_no_plan() -> None:
    ahead = Ahead(11, 100, Waiting("z", 50, 50, 1), (), (), 1)
    assert first_victims([Idle("a", 10, 5, 1.0, False)], ahead, {}) == ()


def waiting(tag: str, size: int) -> Waiting:
    return Waiting(tag, size, size, 100)


def shown(
    copy: int, tag: str, size: int, place: int | None = None, ahead: Ahead | None = None
) -> IdleCopy:
    return IdleCopy(
        copy, tag, 0, size, 0, 0, 100, False, False, 1, 1, int(place is not None), place, ahead
    )


def test_a_copy_that_cannot_stay_until_its_turn_is_not_kept_for_it() -> None:
    """Before a is wanted, d needs its room; b, which nobody in sight wants, can stay."""
    policy = QueueValue()
    for _ in range(20):
        policy.requested("b", 0)
    a, b = shown(1, "a", 60, 3), shown(2, "b", 40)
    alone = policy.values([a, b], 0)
    assert policy.choose([a, b], alone, 40) == (1,)
    tickets = (waiting("d", 60), waiting("a", 60))
    ahead = Ahead(40, 100, waiting("c", 40), tickets, (), 3)
    both = [a._replace(ahead=ahead), b._replace(ahead=ahead)]
    values = policy.values(both, 0)
    assert policy.choose(both, values, 40) == (0,)
    # What is kept is worth more than what goes, which keeps its value.
    assert values[0] == alone[0] < values[1]


class Watching(QueueValue):
    """Remembers what it was shown."""

    name = "watching"

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Ahead | None] = []

    def evicted(self, copy: IdleCopy, now_ns: int) -> None:
        self.seen.append(copy.ahead)
        super().evicted(copy, now_ns)


def test_a_policy_is_shown_who_waits_for_room_and_what_is_held() -> None:
    policy = Watching()
    driver = VirtualDriver(100, settings=SchedulerSettings(policy=policy, max_copies=1))
    for tag, size in (("x", 60), ("y", 40), ("c", 50), ("d", 45)):
        driver.know(tag, size, load_ns=1000)
    tickets = [driver.request(tag) for tag in "xy"]
    driver.obey()
    copies = [driver.granted(ticket) for ticket in tickets]
    for tag in "cdy":
        driver.request(tag)
    assert copies[0] is not None
    driver.release(copies[0])
    assert policy.seen == [
        Ahead(
            need_bytes=50,
            room_bytes=100,
            first=Waiting("c", 50, 50, 1000),
            others=(Waiting("d", 45, 45, 1000), Waiting("y", 40, 40, 1000)),
            held=(Waiting("y", 40, 0, 1000),),
            queued=3,
        )
    ]

"""The life of one loaded copy, as one table.

A *copy* is one instance of a model in memory. It is born when room is claimed for it and ends when
its memory is known to be back:

    RESERVED ─▶ LOADING ─▶ SETTLING ─▶ IDLE ⇄ ACTIVE ─▶ DRAINING ─▶ UNLOADING ─▶ GONE
                   │                                                  ▲
                   └▶ FAILED                        IDLE, SETTLING ───┘

* ``RESERVED``: room is claimed; victims may still be unloading. No loader runs.
* ``LOADING``: a loader runs; the whole reservation is charged.
* ``SETTLING``: the load ended; no reading taken *after* it has come in, so the reservation stays.
* ``IDLE``: loaded, nobody holds it. The only state from which a copy may be evicted.
* ``ACTIVE``: one holder has it. Never unloaded (the pin promise).
* ``DRAINING``: held, and condemned: it is unloaded when its holder lets go.
* ``UNLOADING``: told to go; its bytes stay charged.
* ``GONE`` and ``FAILED`` are terminal: the number is never used again.

``TRANSITIONS`` has one row for every accepted (state, event) pair; ``REFUSED`` lists all others, so
that a pair that nobody thought of cannot exist (a test counts them). Asking for a refused pair is a
bug of ours and raises ``InvalidTransitionError``.
"""

from __future__ import annotations

import enum
from typing import Final

from modelmgr.errors import InvalidTransitionError


class CopyState(enum.Enum):
    """Where a copy is in its life."""

    RESERVED = "reserved"
    LOADING = "loading"
    SETTLING = "settling"
    IDLE = "idle"
    ACTIVE = "active"
    DRAINING = "draining"
    UNLOADING = "unloading"
    GONE = "gone"
    FAILED = "failed"

    # Members are singletons and order matters nowhere: the identity hash is the fastest.
    __hash__ = object.__hash__


class CopyEvent(enum.Enum):
    """What can happen to a copy."""

    LOAD_STARTED = "load_started"
    LOAD_ABANDONED = "load_abandoned"
    LOAD_FINISHED = "load_finished"
    LOAD_FAILED = "load_failed"
    SETTLED = "settled"
    GRANTED = "granted"
    RELEASED = "released"
    CONDEMNED = "condemned"
    UNLOAD_STARTED = "unload_started"
    UNLOAD_FINISHED = "unload_finished"
    HOLDER_LOST = "holder_lost"
    WORKER_LOST = "worker_lost"

    __hash__ = object.__hash__


_S = CopyState
_E = CopyEvent

TRANSITIONS: dict[tuple[CopyState, CopyEvent], CopyState] = {
    (_S.RESERVED, _E.LOAD_STARTED): _S.LOADING,
    (_S.RESERVED, _E.LOAD_ABANDONED): _S.GONE,
    (_S.LOADING, _E.LOAD_FINISHED): _S.SETTLING,
    (_S.LOADING, _E.LOAD_FAILED): _S.FAILED,
    (_S.LOADING, _E.WORKER_LOST): _S.FAILED,
    (_S.SETTLING, _E.SETTLED): _S.IDLE,
    (_S.SETTLING, _E.GRANTED): _S.ACTIVE,
    (_S.SETTLING, _E.UNLOAD_STARTED): _S.UNLOADING,
    (_S.SETTLING, _E.WORKER_LOST): _S.GONE,
    (_S.IDLE, _E.GRANTED): _S.ACTIVE,
    (_S.IDLE, _E.UNLOAD_STARTED): _S.UNLOADING,
    (_S.IDLE, _E.WORKER_LOST): _S.GONE,
    (_S.ACTIVE, _E.SETTLED): _S.ACTIVE,
    (_S.ACTIVE, _E.RELEASED): _S.IDLE,
    (_S.ACTIVE, _E.CONDEMNED): _S.DRAINING,
    (_S.ACTIVE, _E.HOLDER_LOST): _S.UNLOADING,
    (_S.ACTIVE, _E.WORKER_LOST): _S.GONE,
    (_S.DRAINING, _E.SETTLED): _S.DRAINING,
    (_S.DRAINING, _E.RELEASED): _S.UNLOADING,
    (_S.DRAINING, _E.HOLDER_LOST): _S.UNLOADING,
    (_S.DRAINING, _E.WORKER_LOST): _S.GONE,
    (_S.UNLOADING, _E.UNLOAD_FINISHED): _S.GONE,
    (_S.UNLOADING, _E.WORKER_LOST): _S.GONE,
}

REFUSED: frozenset[tuple[CopyState, CopyEvent]] = frozenset(
    (state, event)
    for state in CopyState
    for event in CopyEvent
    if (state, event) not in TRANSITIONS
)

LOADED: Final = frozenset({_S.SETTLING, _S.IDLE, _S.ACTIVE, _S.DRAINING})
STAYING: Final = frozenset({_S.RESERVED, _S.LOADING, _S.SETTLING, _S.IDLE, _S.ACTIVE})
FREE: Final = frozenset({_S.SETTLING, _S.IDLE})
HELD: Final = frozenset({_S.ACTIVE, _S.DRAINING})
COMING: Final = frozenset({_S.RESERVED, _S.LOADING})
TERMINAL: Final = frozenset({_S.GONE, _S.FAILED})


# The same table by state, so that a move makes no pair, with what the move changes of how many of
# the model's copies are free, how many stay and how many are coming: every grant and every release
# asks.
Move = tuple[CopyState, int, int, int]
MOVES: Final[dict[CopyState, dict[CopyEvent, Move]]] = {
    state: {
        event: (
            to,
            (to in FREE) - (state in FREE),
            (to in STAYING) - (state in STAYING),
            (to in COMING) - (state in COMING),
        )
        for (of, event), to in TRANSITIONS.items()
        if of is state
    }
    for state in CopyState
}
WHEN_GRANTED: Final = {of: by[_E.GRANTED] for of, by in MOVES.items() if _E.GRANTED in by}
WHEN_RELEASED: Final = {of: by[_E.RELEASED] for of, by in MOVES.items() if _E.RELEASED in by}


def after(state: CopyState, event: CopyEvent) -> CopyState:
    """Return the state that follows; raise InvalidTransitionError for a refused pair."""
    move = MOVES[state].get(event)
    if move is None:
        raise InvalidTransitionError(f"a copy that is {state.value} cannot take {event.value}")
    return move[0]

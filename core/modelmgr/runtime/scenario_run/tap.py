"""Listens to a scheduler: every event that its driver tells it, and what it answered.

The scheduler's own methods are wrapped on the one instance, so that whoever calls it is heard:
the driver, its watch and the manager. All of them call it under the driver's lock, so what is heard
comes in the one order in which it was decided, with the very times that were passed.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

from modelmgr.records.decision_log import DecisionLog
from modelmgr.scheduling.actions import Action, Grant, StartLoad, StartUnload
from modelmgr.scheduling.copies import Copy
from modelmgr.scheduling.scheduler import Scheduler

EVENTS = (
    "set_costs",
    "pin",
    "request",
    "hit",
    "cancel",
    "release",
    "holder_lost",
    "load_finished",
    "load_failed",
    "unload_finished",
    "worker_lost",
    "memory_reading",
    "resize",
    "reading_failed",
    "deadline",
    "reset",
    "close",
)
"""The methods by which a scheduler is told something."""


class SchedulerEvent(NamedTuple):
    """One call: ``getattr(scheduler, name)(*args, **kwargs)``."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class SchedulerTap:
    """Hears what a scheduler is told and what it decides, from now until ``close``.

    Args:
        scheduler: must be called by one thread at a time; this is the driver's promise.
        heard: is given the time of each event that led to actions, and these, in order.
        told: is given each event before it happens, those without actions too.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        heard: Callable[[int, Sequence[Action]], object],
        *,
        told: Callable[[SchedulerEvent], object] | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._heard = heard
        self._told = told
        self._inside = False
        # Taps may lie upon one another; the last one is closed first.
        self._before = {name: vars(scheduler).get(name) for name in EVENTS}
        for name in EVENTS:
            setattr(scheduler, name, self._wrap(name, getattr(scheduler, name)))
        self._before["hand_out"] = vars(scheduler).get("hand_out")
        hand_out = scheduler.hand_out
        setattr(scheduler, "hand_out", partial(self._hand_out, hand_out))  # noqa: B010 - as above, on the one instance

    def close(self) -> None:
        """Hear nothing any more."""
        for name, method in self._before.items():
            if method is None:
                vars(self._scheduler).pop(name, None)
            else:
                setattr(self._scheduler, name, method)

    def _hand_out(
        self, hand_out: Callable[[str, int], Copy | None], tag: str, now_ns: int
    ) -> Copy | None:
        """Let a hit that needs no grant be heard as one that has it."""
        if self._inside:
            return hand_out(tag, now_ns)
        grant = self._scheduler.hit(tag, now_ns)
        return None if grant is None else self._scheduler.copies[grant.copy]

    def _wrap(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        place = list(inspect.signature(method).parameters).index("now_ns")

        @functools.wraps(method)
        def tapped(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any of the methods
            if self._inside:  # `request` asks `hit` first: that is one event
                return method(*args, **kwargs)
            if self._told is not None and name != "hit":
                self._told(SchedulerEvent(name, args, kwargs))
            self._inside = True
            try:
                answer = method(*args, **kwargs)
            finally:
                self._inside = False
            actions = _actions(name, answer)
            # A hit that was none changed nothing.
            if self._told is not None and name == "hit" and actions:
                self._told(SchedulerEvent(name, args, kwargs))
            if actions:
                now_ns = args[place] if place < len(args) else kwargs["now_ns"]
                self._heard(cast("int", now_ns), actions)
            return answer

        return tapped


def _actions(name: str, answer: Any) -> Sequence[Action]:  # noqa: ANN401 - by method
    if name == "request":
        return cast("Sequence[Action]", answer[1])
    if name == "hit":
        return () if answer is None else (cast("Grant", answer),)
    return cast("Sequence[Action]", answer)


def note_actions(log: DecisionLog, at_ns: int, actions: Sequence[Action]) -> None:
    """Write decisions into a log, as the simulation does."""
    for action in actions:
        if isinstance(action, Grant):
            log.grant(at_ns, *action)
        elif isinstance(action, StartLoad):
            log.start_load(at_ns, *action)
        elif isinstance(action, StartUnload):
            log.start_unload(
                at_ns,
                action.action_id,
                action.tag,
                action.copy,
                action.device,
                action.reason,
                action.requested_by,
                action.freed_bytes,
                action.chosen,
            )
        else:
            action_id, ticket_num, tag, refusal, message = action
            log.reject(at_ns, action_id, ticket_num, tag, refusal.value, message)

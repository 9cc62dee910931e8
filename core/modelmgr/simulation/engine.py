"""The virtual-time engine: takes events in order, tells the scheduler, and lets time pass.

Events are tuples ``(at_ns, serial, kind, what, more)`` on a heap, so that equal times keep the
order in which they were foreseen. At one moment what was foreseen comes first (jobs, loads and
unloads end), then what is due by the scheduler's own deadlines, then new requests in the source's
order: who leaves makes room for who comes.

The loop is one long function on purpose: it runs several times for every request, and what a call
costs in Python is what a scheduler decision should cost. Everything rarer than a request is a
method of ``simulation.world``, and calls the scheduler as ``runtime.driver`` does.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any, Final

from modelmgr.errors import InvalidTransitionError
from modelmgr.simulation.collecting import seldom_collecting
from modelmgr.simulation.copies import VirtualCopy
from modelmgr.simulation.striking import schedule_faults, strike, undo
from modelmgr.simulation.world import (
    ASKED,
    FAULT,
    FAULT_ENDS,
    FOUND_DEAD,
    LOAD_ENDS,
    MEMORY_BACK,
    NEVER,
    POLL,
    PROGRESSING,
    RELEASE,
    RUNS_OUT,
    UNLOAD_ENDS,
    Job,
    World,
)

# Final: compiled, a name of another module is looked up every time.
_pop: Final = heapq.heappop
_next: Final = next
_ROUNDS_BETWEEN_LOOKS: Final = 8_192
"""Events between two calls of ``progress`` and ``stop``: 30 to 100 ms of a simulation's time."""

_NO_MORE: Final[Job] = (NEVER, 0, 0, -1, -1)

Progress = Callable[[int, int], object]
"""Is told the simulated time, nanoseconds, and how many requests came so far."""


class Engine:
    """Runs a world to its end.

    Args:
        world: what to run.
        check: check every promise after every event; slow.
        progress: is told how far it is, now and then.
        stop: is asked now and then; True ends the run early.
        max_requests: ends the traffic after so many, None for all of it.
    """

    def __init__(
        self,
        world: World,
        *,
        check: bool = False,
        progress: Progress | None = None,
        stop: Callable[[], bool] | None = None,
        max_requests: int | None = None,
    ) -> None:
        self._world = world
        self._check = check
        self._progress = progress
        self._stop = stop
        self._most = NEVER if max_requests is None else max_requests
        self._arrivals: Iterator[Job] = islice(
            chain.from_iterable(iter(world.source.next_batch, [])), max_requests
        )
        self._polling = False
        self._traffic_over = False

    def run(self) -> bool:
        """Run until nothing is left to happen; False where ``stop`` ended it before."""
        schedule_faults(self._world)
        with seldom_collecting():
            finished = self._loop()
            self._cancel_the_rest()
        return finished

    def _loop(self) -> bool:  # noqa: PLR0912, PLR0915 - see the module
        world = self._world
        heap, pending, models, scheduler = world.heap, world.pending, world.models, world.scheduler
        keeps_schedule = world.schedule is not None
        latencies = world.latencies.buffer
        check = self._check
        looking = _ROUNDS_BETWEEN_LOOKS
        arrivals = self._arrivals
        arrival = _next(arrivals, _NO_MORE)
        arrival_ns = arrival[0]
        self._traffic_over = arrival is _NO_MORE
        # Hits, and releases while nobody waits, leave the scheduler's deadlines as they are.
        due_ns, unsure = NEVER, True
        while True:
            event_ns = heap[0][0]
            if unsure:
                soonest_ns = scheduler.next_deadline_ns()
                due_ns = NEVER if soonest_ns is None else soonest_ns
                unsure = False
            if due_ns < event_ns and due_ns <= arrival_ns:
                now_ns = due_ns
                unsure = True
                world.absorb(scheduler.deadline(now_ns), now_ns)
                again_ns = scheduler.next_deadline_ns()
                if again_ns is not None and again_ns <= now_ns:
                    raise InvalidTransitionError(f"a deadline at {now_ns} ns is due again at once")
                world.ended_ns = now_ns
            elif event_ns <= arrival_ns:
                if event_ns == NEVER:
                    return True
                now_ns, serial, kind, what, more = _pop(heap)
                if kind == RELEASE:
                    copy: VirtualCopy = what
                    job = copy.job
                    if copy.lease != more or job is None:
                        continue  # its copy or its holder was lost before
                    if copy.running:
                        copy.running = False
                        copy.busy_ns += now_ns - copy.granted_ns
                        copy.device.stop(copy.model.extra_bytes)
                    latencies.append(now_ns - job[0])
                    world.completed += 1
                    if keeps_schedule:
                        world.note_served(copy, now_ns)
                    if copy.measured:
                        world.measure_first_job(copy, now_ns)
                        unsure = True
                    copy.lease = 0
                    copy.job = None
                    actions = scheduler.release(copy.number, more, now_ns)
                    if actions:
                        world.absorb(actions, now_ns)
                        unsure = True
                    elif pending:
                        unsure = True
                    if job[4] >= 0:
                        world.ask_again(job, now_ns)
                    world.ended_ns = now_ns
                elif kind == ASKED:
                    unsure = True
                    if world.total < self._most:
                        self._ask(what, now_ns)
                elif kind in (POLL, FAULT):
                    unsure = True
                    if not self._look(kind, more, now_ns, arrival_ns):
                        return True
                else:
                    unsure = True
                    self._happen(serial, kind, what, more, now_ns)
            else:
                now_ns = arrival_ns
                model = models[arrival[1]]
                model.requests += 1
                world.total += 1
                if not world.hit(model, arrival, now_ns):
                    world.ask(arrival, now_ns)
                    unsure = True
                    if pending and not self._polling:
                        self._start_polling(now_ns)
                world.ended_ns = now_ns
                arrival = _next(arrivals, _NO_MORE)
                arrival_ns = arrival[0]
                if arrival is _NO_MORE:
                    self._traffic_over = True
            if check:
                world.check_valid()
            looking -= 1
            if not looking:
                looking = _ROUNDS_BETWEEN_LOOKS
                world.keep_bounded()
                if self._progress is not None:
                    self._progress(now_ns, world.total)
                if self._stop is not None and self._stop():
                    return False

    # Rarer events ----------------------------------------------------------------------------

    def _ask(self, job: Job, now_ns: int) -> None:
        world = self._world
        world.models[job[1]].requests += 1
        world.total += 1
        world.ask(job, now_ns)
        if world.pending and not self._polling:
            self._start_polling(now_ns)
        world.ended_ns = now_ns

    def _happen(self, serial: int, kind: int, what: Any, more: int, now_ns: int) -> None:  # noqa: ANN401 - what an event names
        """Let something rarer than a request happen."""
        world = self._world
        if kind == LOAD_ENDS:
            if what.end_serial != serial:
                return  # a fault moved its end
            world.load_ends(what, now_ns)
        elif kind == UNLOAD_ENDS:
            world.unload_ends(what, now_ns)
        elif kind == FOUND_DEAD:
            if what.lease == more:
                world.granted_dead(what, now_ns)
        elif kind == RUNS_OUT:
            if what.lease == more:
                world.runs_out(what, now_ns)
        elif kind == MEMORY_BACK:
            world.memory_back(what, now_ns)
        elif kind == FAULT_ENDS:
            device, fault = what
            undo(world, device, fault, more, now_ns)
        world.ended_ns = now_ns
        if world.pending and not self._polling:
            self._start_polling(now_ns)

    def _look(self, kind: int, fault: int, now_ns: int, arrival_ns: int) -> bool:
        """Poll, or let a fault strike; False where nothing else can happen any more."""
        world = self._world
        if kind == FAULT:
            if self._is_over():
                return False
            strike(world, fault, now_ns)
            if world.pending and not self._polling:
                self._start_polling(now_ns)
            world.ended_ns = now_ns
            return True
        self._polling = False
        if self._something_to_watch():
            world.read_all(now_ns)
            world.clear_away_the_dead(now_ns)
            world.absorb(world.scheduler.deadline(now_ns), now_ns)
            self._start_polling(now_ns + self._vain_polls_ns(now_ns, arrival_ns))
        return not self._is_over()

    def _start_polling(self, now_ns: int) -> None:
        self._polling = True
        self._world.push(now_ns + self._world.poll_interval_ns, POLL, None)

    def _vain_polls_ns(self, now_ns: int, arrival_ns: int) -> int:
        """Return for how long polls would find nothing: long loads are waited for without them."""
        world = self._world
        if world.unquiet:
            return 0
        due_ns = world.scheduler.next_deadline_ns()
        soonest_ns = min(arrival_ns, world.heap[0][0], NEVER if due_ns is None else due_ns)
        vain = (soonest_ns - now_ns) // world.poll_interval_ns - 1
        if vain <= 0 or any(copy.dead for copy in world.copies.values()):
            return 0
        return vain * world.poll_interval_ns

    def _something_to_watch(self) -> bool:
        """Say whether the driver's watch would go on reading."""
        world = self._world
        return bool(world.pending) or any(
            device.ledger.freeing_bytes or device.ledger.unsettled()
            for device in world.scheduler.devices
        )

    def _is_over(self) -> bool:
        """Say whether neither traffic, nor loads, nor time can bring anything more.

        Faults at a rate never end, and a request without a time-out may wait for something that
        never comes: neither keeps a run going.
        """
        world = self._world
        if not self._traffic_over or world.scheduler.next_deadline_ns() is not None:
            return False
        if any(kind in PROGRESSING or kind == FAULT_ENDS for _, _, kind, _, _ in world.heap):
            return False
        faults = world.armed.faults
        coming = any(event[2] == FAULT and not faults[event[4]].rate_per_s for event in world.heap)
        return not (coming and world.pending)

    def _cancel_the_rest(self) -> None:
        """End what is still waiting or in service when the run ends."""
        world = self._world
        for num in sorted(world.pending):
            if num in world.pending:
                world.absorb(world.scheduler.cancel(num, world.ended_ns), world.ended_ns)
        for copy in world.copies.values():
            if copy.lease:
                copy.lease, copy.job = 0, None
                world.cancelled += 1
        world.end_use(world.ended_ns)
        if self._check:
            ended = world.completed + world.timed_out + world.refused + world.failed
            assert ended + world.cancelled == world.total, "requests were lost"  # noqa: S101

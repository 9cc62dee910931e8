"""Sends a scenario's requests at their scheduled times, whatever became of those before.

Open loop: a request is sent when it is due and waits in a thread of its own, so that nobody's wait
is hidden by somebody else's (no coordinated omission). Closed loops' users ask again when their
last request ended. Requests that are due at the same moment ask in the source's order.
"""

from __future__ import annotations

import heapq
import queue
import threading
from collections.abc import Callable

from modelmgr.errors import ModelmgrError
from modelmgr.runtime.scenario_run.waiting import RunClock
from modelmgr.units import NS_PER_S
from modelmgr.workload.raw_requests import NOBODY, RawRequest
from modelmgr.workload.requests import RequestSource

# How long one that is due waits for the one before it to have asked: longer would delay its own
# wait, and one that has not asked by then is loading off somebody else's processor.
_TURN_S = 0.02
_LONGEST_WAIT_S = 0.05


class Sent:
    """One request on its way.

    Attributes:
        raw: what was asked for.
        number: in the order of sending, from 1.
        asked: set once the manager has been asked, so that the next one may.
        ticket: the manager's, where it has to wait.
    """

    __slots__ = ("asked", "number", "raw", "ticket")

    def __init__(self, raw: RawRequest, number: int) -> None:
        self.raw = raw
        self.number = number
        self.asked = threading.Event()
        self.ticket: int | None = None

    def ticketed(self, number: int) -> None:
        """Take note of the ticket."""
        self.ticket = number
        self.asked.set()


class Traffic:
    """Requests by their times, and how many are on their way; thread-safe.

    Args:
        source: where they come from.
        clock: the run's.
        max_requests: ends the traffic after so many, None for all.
        duration_ns: ends it at that time, None for never.
    """

    def __init__(
        self,
        source: RequestSource,
        clock: RunClock,
        *,
        max_requests: int | None,
        duration_ns: int | None,
    ) -> None:
        self._source = source
        self._clock = clock
        self._most = max_requests
        self._until_ns = duration_ns
        self._changed = threading.Condition()
        self._batch: list[RawRequest] = []
        self._exhausted = False
        self._again: list[tuple[int, int, RawRequest]] = []
        self._count = 0
        self._outstanding: dict[int, Sent] = {}

    @property
    def outstanding(self) -> tuple[Sent, ...]:
        """Those on their way."""
        with self._changed:
            return tuple(self._outstanding.values())

    def next_due(self) -> Sent | None:
        """Return the next request if it is due, and count it as sent."""
        with self._changed:
            at_ns = self._next_ns()
            if at_ns is None or at_ns > self._clock.now_ns():
                return None
            if self._again and self._again[0][0] == at_ns and not self._comes_first(at_ns):
                raw = heapq.heappop(self._again)[2]
            else:
                raw = self._batch.pop()
            self._count += 1
            sent = Sent(raw, self._count)
            self._outstanding[sent.number] = sent
            return sent

    def ended(self, sent: Sent) -> None:
        """Take note that a request ended; its user, where there is one, asks again."""
        with self._changed:
            self._outstanding.pop(sent.number, None)
            user = sent.raw[4]
            if user != NOBODY and not self._clock.stopping:
                following = self._source.served(user, self._clock.now_ns())
                if following is not None:
                    heapq.heappush(self._again, (following[0], sent.number, following))
            self._changed.notify_all()

    def wait(self) -> bool:
        """Wait until the next one is due, or something changes; False where all is over."""
        with self._changed:
            at_ns = self._next_ns()
            if at_ns is None and not self._outstanding:
                return False
            left_s = _LONGEST_WAIT_S
            if at_ns is not None:
                left_s = min(left_s, (at_ns - self._clock.now_ns()) / NS_PER_S)
            if left_s > 0:
                self._changed.wait(left_s)
            return True

    def wait_for_the_rest(self, timeout_s: float) -> bool:
        """Wait for those on their way; say whether all of them ended."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._outstanding, timeout_s)

    def _next_ns(self) -> int | None:
        """Return when the next one is due, None where none is known of. Under the lock."""
        if self._most is not None and self._count >= self._most:
            return None
        if not self._batch and not self._exhausted:
            # The last one first, so that taking one costs nothing.
            self._batch = self._source.next_batch()[::-1]
            self._exhausted = not self._batch
        at_ns = self._batch[-1][0] if self._batch else None
        if self._again and (at_ns is None or self._again[0][0] < at_ns):
            at_ns = self._again[0][0]
        if at_ns is not None and self._until_ns is not None and at_ns >= self._until_ns:
            return None
        return at_ns

    def _comes_first(self, at_ns: int) -> bool:
        return bool(self._batch) and self._batch[-1][0] == at_ns


class Crew:
    """As many threads as there are requests on their way, each used again."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._threads: list[threading.Thread] = []

    def do(self, task: Callable[[], None]) -> None:
        """Do something in a thread of its own.

        Raises:
            ModelmgrError: the machine gives no further thread.
        """
        with self._lock:
            start = not self._idle
            if not start:
                self._idle -= 1
        self._tasks.put(task)
        if not start:
            return
        number = len(self._threads) + 1
        thread = threading.Thread(target=self._work, name=f"modelmgr-request-{number}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise ModelmgrError(
                f"this machine gives no further thread: {number - 1} requests are on their way\n"
                "the scenario asks for more than it can serve: lower its rate or wait_timeout"
            ) from error
        self._threads.append(thread)

    def dismiss(self) -> None:
        """Let idle threads end; those at work end after it."""
        for _ in self._threads:
            self._tasks.put(None)

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            if task is None:
                return
            task()
            with self._lock:
                self._idle += 1


class Dispatcher:
    """Sends what is due, in the calling thread, until all of it has ended or it is stopped."""

    def __init__(self, traffic: Traffic, serve: Callable[[Sent], None]) -> None:
        self._traffic = traffic
        self._serve = serve
        self._crew = Crew()
        self._before: Sent | None = None

    def run(self, look: Callable[[], bool]) -> bool:
        """Send until the end; ``look`` is asked all the while, and True ends it: False then."""
        try:
            while True:
                if look():
                    return False
                sent = self._traffic.next_due()
                if sent is not None:
                    self._send(sent)
                elif not self._traffic.wait():
                    return True
        finally:
            self._crew.dismiss()

    def _send(self, sent: Sent) -> None:
        if self._before is not None:
            self._before.asked.wait(_TURN_S)
        self._before = sent

        def serve() -> None:
            try:
                self._serve(sent)
            finally:
                sent.asked.set()
                self._traffic.ended(sent)

        self._crew.do(serve)

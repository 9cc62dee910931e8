"""Readings and the passing of time, for the threaded driver.

One thread reads the devices and calls ``deadline`` while somebody waits or memory is on its way;
it ends when there has been nothing to watch for a while, so that an idle manager costs nothing.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from modelmgr.devices.reading import MemoryReading
from modelmgr.errors import DeviceError
from modelmgr.runtime.bounded_reader import PATIENCE_S, BoundedReader
from modelmgr.runtime.configuration import configuration_of
from modelmgr.runtime.gate import Gate
from modelmgr.runtime.learning import UseLearner
from modelmgr.runtime.loaded import Loaded
from modelmgr.scheduling.actions import Action
from modelmgr.scheduling.scheduler import Scheduler
from modelmgr.scheduling.states import CopyState
from modelmgr.units import NS_PER_S

# A stated size shows no load: a model that was measured there would look as if it cost nothing.
NEVER_READ = frozenset({"fixed", "virtual"})
# How long the thread stays once there is nothing to watch.
_IDLE_S = 1.0


class DeviceWatch:
    """Reads devices on demand and, while somebody waits, again and again.

    Attributes:
        asleep: nobody reads the devices, while models in use could be learned from.

    Args:
        scheduler: who is told; read under the lock only.
        readers: one for each of its devices.
        loaded: the loaded copies by number, to tell their own processes' bytes apart.
        gate: guards the scheduler.
        tell: calls the scheduler under the lock and sees to what follows.
        lose: is told of a copy whose process was seen to be gone.
        poll_interval_s: seconds between readings.
        learner: learns from readings what models cost in use.
        learn_in_use: read as long as a model is in use.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        readers: Sequence[BoundedReader],
        loaded: Mapping[int, Loaded],
        *,
        gate: Gate,
        tell: Callable[[Callable[[int], list[Action]]], None],
        lose: Callable[[int], None],
        poll_interval_s: float,
        learner: UseLearner,
        learn_in_use: bool,
    ) -> None:
        self._scheduler = scheduler
        self._readers = readers
        self._loaded = loaded
        self._gate = gate
        self._lose = lose
        self._tell = tell
        self._poll_interval_s = poll_interval_s
        self._learner = learner
        # A stated size is never read: there is nothing to be learned from it.
        self._learns = learn_in_use and any(
            reader.description.kind not in NEVER_READ for reader in readers
        )
        self._thread: threading.Thread | None = None
        # An attribute: it is asked with every hit.
        self.asleep = self._learns
        # By device: the copies that its last good reading told apart.
        self._told_apart: list[Collection[int]] = [()] * len(readers)

    def read_all(self, within_s: float = PATIENCE_S) -> None:
        """Read every device now, each within so many seconds."""
        for device in range(len(self._readers)):
            self.read(device, within_s)

    def see_gone(self, device: int, copy: int) -> None:
        """Look what is left of a copy whose process has ended, before its charge is dropped.

        Where readings do not tell it apart, a figure that was too high hid what others use.
        """
        if copy not in self._told_apart[device]:
            self.read(device, gone=copy)

    def read(self, device: int, within_s: float = PATIENCE_S, *, gone: int | None = None) -> None:
        """Read one device now and tell the scheduler, outside of the lock while reading.

        Args:
            device: its number.
            within_s: how long to wait for the reading.
            gone: a copy whose process has ended: it holds nothing of what is read.
        """
        reader = self._readers[device]
        mark = self._learner.mark(device, time.monotonic_ns())
        try:
            reading = reader.read(within_s)
        except DeviceError as error:
            reason = str(error)
            self._tell(lambda now_ns: self._scheduler.reading_failed(device, now_ns, reason))
            return
        slack = reader.description.slack

        def tell(now_ns: int) -> list[Action]:
            actions: list[Action] = []
            own_bytes = self._own_bytes(device, reading)
            self._told_apart[device] = own_bytes or ()
            if gone is not None:
                own_bytes = {**(own_bytes or {}), gone: 0}
            if reader.description.kind not in NEVER_READ:
                configuration = configuration_of(self._scheduler.devices[device], own_bytes)
                self._learner.reading(device, reading, configuration, mark)
            total_bytes = reading.total_bytes
            if total_bytes != self._scheduler.devices[device].ledger.total_bytes:
                limit_bytes = total_bytes - round(total_bytes * slack)
                actions += self._scheduler.resize(device, now_ns, total_bytes, limit_bytes)
            ledger = self._scheduler.devices[device].ledger
            at_ns, used_bytes = reading.at_ns, reading.used_bytes
            if gone is not None and (ledger.reading_at_ns or 0) > at_ns:
                # A later reading was faster, from one who knew of no end: it holds for that too.
                at_ns, used_bytes = ledger.reading_at_ns or 0, ledger.reading_used_bytes or 0
                own_bytes = {gone: 0}
            return actions + self._scheduler.memory_reading(
                device, now_ns, at_ns=at_ns, used_bytes=used_bytes, own_bytes=own_bytes
            )

        self._tell(tell)

    def wake(self) -> None:
        """See to it that somebody watches, and looks at once at what is due."""
        with self._gate.settled, self._gate.lock:
            # While the interpreter ends, a thread that is started never runs.
            if self._thread is None and not sys.is_finalizing() and self._something_to_watch():
                thread = threading.Thread(target=self._run, name="modelmgr-watch", daemon=True)
                thread.start()  # one that cannot be had is not taken for one that watches
                self._thread = thread
                self.asleep = False
            self._gate.due_sooner.notify_all()

    def _own_bytes(self, device: int, reading: MemoryReading) -> dict[int, int] | None:
        if reading.processes is None:
            return None
        return {
            copy: reading.processes[loaded.pid]
            for copy, loaded in self._loaded.items()
            if loaded.device == device
            and loaded.pid is not None
            and loaded.pid in reading.processes
        }

    def _clear_away_the_dead(self) -> None:
        """Take note of copies whose processes have died, in whoever's hands they are."""
        with self._gate.settled, self._gate.lock:
            dead = [
                copy
                for copy, loaded in self._loaded.items()
                if loaded.own_process and not getattr(loaded.instance, "alive", True)
            ]
        for copy in dead:
            state = self._scheduler.copies.get(copy)
            if state is not None and state.state is not CopyState.UNLOADING:
                self._lose(copy)

    def _something_to_watch(self) -> bool:
        return bool(
            len(self._scheduler.queue)
            or self._scheduler.committed_tickets
            or any(
                device.ledger.freeing_bytes or device.ledger.unsettled()
                for device in self._scheduler.devices
            )
            or (self._learns and any(copy.held for copy in self._scheduler.copies.values()))
        )

    def learn(self) -> None:
        """Take in what the readings taught, and tell the scheduler what has changed for it."""
        for tag in self._learner.take():

            def tell(now_ns: int, tag: str = tag) -> list[Action]:
                costs = self._learner.costs(tag, self._scheduler.model(tag).costs)
                return [] if costs is None else self._scheduler.set_costs(tag, costs, now_ns)

            self._tell(tell)

    def _run(self) -> None:
        try:
            self._watch()
        finally:
            with self._gate.settled, self._gate.lock:
                if self._thread is threading.current_thread():
                    self._forget_thread()

    def _forget_thread(self) -> None:
        """Note that the next who waits has to start another one. Under the lock."""
        self._thread = None
        self.asleep = self._learns

    def _watch(self) -> None:
        idle_since: float | None = None
        read_at = 0.0
        while True:
            with self._gate.settled, self._gate.lock:
                busy = self._something_to_watch()
                if not busy:
                    idle_since = idle_since or time.monotonic()
                    if time.monotonic() - idle_since > _IDLE_S:
                        self._forget_thread()
                        return
                else:
                    idle_since = None
                pause_s = self._poll_interval_s
                due_ns = self._scheduler.next_deadline_ns()
                if due_ns is not None:
                    pause_s = min(pause_s, max(0.0, (due_ns - time.monotonic_ns()) / NS_PER_S))
                self._gate.due_sooner.wait(pause_s)
            if busy and time.monotonic() >= read_at:
                read_at = time.monotonic() + self._poll_interval_s
                self.read_all()
                self._clear_away_the_dead()
                self.learn()
            self._tell(self._scheduler.deadline)

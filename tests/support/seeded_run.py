"""One long random run of the scheduler from a seed, as a log of its decisions.

Run as a script with a seed and a number of events, it prints the log: a test compares what several
interpreters print. Every event goes through ``VirtualDriver`` and is checked there.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

from modelmgr.scheduling.settings import SchedulerSettings
from support.virtual_devices import Phase, Reading
from support.virtual_driver import VirtualDriver

TAGS = "abcdefg"


class SeededRun:
    """Draws events from a seed."""

    def __init__(self, seed: int, *, steady: bool = True) -> None:
        self._draw = random.Random(seed)
        draw = self._draw
        limits = draw.choice([(36,), (60,), (72,), (36, 72), (18, 36), (40, 40, 40)])
        self.driver = VirtualDriver(
            *limits,
            foreign=[draw.randint(0, 6)] * len(limits),
            steady=steady,
            settings=SchedulerSettings(
                policy=draw.choice(["lru", "gdsf", "demand-tiers", "queue-value"]),
                isolation=draw.choice(["beside", "exclusive"]),
                max_bypass=draw.choice([0, 1, 3, 8]),
                max_copies=draw.choice([None, 1, 2]),
                cooldown_ns=draw.choice([0, 25]),
                patience_ns=40,
            ),
        )
        self._load_ns = draw.choice([None, 5, 50])
        self._in_flight: list[Reading] = []
        for tag in TAGS:
            resident = draw.randint(1, 30)
            self.driver.sizes(tag, resident, resident + draw.randint(0, 12))
        for tag in TAGS[: draw.randint(0, len(TAGS))]:
            self.driver.tell(tag, load_ns=self._load_ns)
        self._events: list[tuple[int, Callable[[], None]]] = [
            (24, self._request),
            (20, self._release),
            (1, self._lose_a_holder),
            (1, self._run_out),
            (3, self._run),
            (2, self._cancel),
            (2, self._pin),
            (1, self.driver.reset),
            (18, self._load_ends),
            (3, self._load_fails),
            (16, self._unload_ends),
            (4, self._late_comes_back),
            (1, self._lose_a_worker),
            (12, self._read),
            (3, self._query),
            (3, self._deliver),
            (1, self._spike),
            (2, self._fail_reading),
            (6, self._wait),
        ]
        if not steady:
            self._events.append((4, self._foreign_moves))

    def step(self) -> None:
        """Let one event happen (or none, where the one that was drawn cannot)."""
        weights = [weight for weight, _ in self._events]
        ((_, event),) = self._draw.choices(self._events, weights)
        event()

    def end(self) -> None:
        """Drain everything."""
        self.driver.true.foreign[:] = [0] * len(self.driver.true.foreign)
        self.driver.steady = False
        self.driver.drain()

    def log(self) -> str:
        """Return all decisions, one a line."""
        return "\n".join(map(repr, self.driver.log))

    def _one(self, *phases: Phase) -> int | None:
        found = [number for phase in phases for number in self.driver.in_phase(phase)]
        return self._draw.choice(found) if found else None

    def _device(self) -> int:
        return self._draw.randrange(len(self.driver.true.limits))

    def _request(self) -> None:
        tag = self._draw.choice(TAGS)
        peak = self.driver.true.sizes[tag].peak_bytes
        self.driver.request(
            tag,
            priority=self._draw.choice([0, 0, 0, 1, -1]),
            wait_ns=self._draw.choice([None, None, None, 0, 15, 300]),
            worst_case=self._draw.choice([None, peak + 2]),
            own_process=self._draw.random() < 0.5,
        )

    def _release(self) -> None:
        if not self.driver.leases:
            return
        number = self._draw.choice(list(self.driver.leases))
        tag = self.driver.true.copies[number].tag
        if self._draw.random() < 0.8 and self.driver.scheduler.model(tag).costs is None:
            self.driver.tell(tag, load_ns=self._load_ns)
        self.driver.release(number)

    def _lose_a_holder(self) -> None:
        if self.driver.leases:
            self.driver.holder_lost(self._draw.choice(list(self.driver.leases)))

    def _run_out(self) -> None:
        """Let a holder run out of memory with its copy and ask for another one, alone."""
        if not self.driver.leases:
            return
        number = self._draw.choice(list(self.driver.leases))
        tag = self.driver.true.copies[number].tag
        self.driver.holder_lost(number)
        self.driver.request(tag, own_process=self._draw.random() < 0.5, alone=True)

    def _run(self) -> None:
        for number in self.driver.leases:
            self.driver.true.copies[number].using_bytes = self._draw.randint(0, 42)

    def _cancel(self) -> None:
        if self.driver.open_tickets():
            self.driver.cancel(self._draw.choice(self.driver.open_tickets()))

    def _pin(self) -> None:
        self.driver.pin(self._draw.choice(TAGS), pinned=self._draw.random() < 0.3)

    def _load_ends(self) -> None:
        number = self._one(Phase.LOADING)
        if number is None:
            return
        copy = self.driver.true.copies[number]
        if self.driver.true.sizes[copy.tag].peak_bytes > copy.reserved_bytes:
            self.driver.fail_load(number, out_of_memory=True)
        else:
            self.driver.load(number, seen=self._draw.random() < 0.3)

    def _load_fails(self) -> None:
        number = self._one(Phase.LOADING)
        if number is not None:
            self.driver.fail_load(number, out_of_memory=self._draw.random() < 0.5)

    def _unload_ends(self) -> None:
        number = self._one(Phase.UNLOADING)
        if number is not None:
            how = self._draw.choice(["gone", "gone", "back", "late"])
            self.driver.unload(number, process_gone=how == "gone", late=how == "late")

    def _late_comes_back(self) -> None:
        number = self._one(Phase.LATE)
        if number is not None:
            self.driver.come_back(number)

    def _lose_a_worker(self) -> None:
        number = self._one(Phase.LOADED, Phase.UNLOADING, Phase.LOADING)
        if number is not None:
            self.driver.worker_lost(number)

    def _read(self) -> None:
        self.driver.read(self._device(), own=self._draw.random() < 0.4)

    def _query(self) -> None:
        self._in_flight.append(self.driver.query(self._device(), own=self._draw.random() < 0.4))

    def _deliver(self) -> None:
        if self._in_flight:
            self.driver.deliver(self._in_flight.pop(self._draw.randrange(len(self._in_flight))))

    def _spike(self) -> None:
        true = self.driver.query(self._device())
        more = self._draw.randint(1, 40)
        self.driver.deliver(Reading(true.device, true.at_ns, true.used_bytes + more, None))

    def _fail_reading(self) -> None:
        self.driver.fail_reading(self._device())

    def _wait(self) -> None:
        self.driver.wait(self._draw.choice([1, 10, 30, 100]))

    def _foreign_moves(self) -> None:
        self.driver.true.foreign[self._device()] = self._draw.choice([0, 0, 3, 8, 25])


def run(seed: int, events: int, *, steady: bool = True) -> str:
    """Return the decision log of a run that was drained at its end."""
    seeded = SeededRun(seed, steady=steady)
    for _ in range(events):
        seeded.step()
    seeded.end()
    return seeded.log()


if __name__ == "__main__":
    sys.stdout.write(run(int(sys.argv[1]), int(sys.argv[2])))

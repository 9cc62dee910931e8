"""Random events as plain data, so that a run can be repeated, cut short and printed.

An event is a tuple of its kind and numbers. A number that means a copy, a ticket or a device is an
index into those there are at that moment, taken modulo their count: without the events before it an
event still means something, which is what makes a long run shrink. ``Player.play`` says whether an
event could happen; one that could not changed nothing.

Owns what can go wrong outside the scheduler. Judges nothing: ``VirtualDriver`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from random import Random
from typing import cast

from modelmgr.scheduling.policies import POLICIES
from modelmgr.scheduling.settings import SchedulerSettings
from support.virtual_devices import Phase, Reading
from support.virtual_driver import VirtualDriver

TAGS = "abcdefg"
Event = tuple[str | int | None, ...]
_ANY = 720720  # divisible by every count up to sixteen: an index is even among few
_STALE = (
    "release",
    "holder_lost",
    "load_finished",
    "load_failed",
    "unload_finished",
    "worker_lost",
)


@dataclass(frozen=True, slots=True)
class World:
    """What a run starts from."""

    limits: tuple[int, ...]
    foreign: tuple[int, ...]
    steady: bool
    read: bool
    policy: str
    isolation: str
    max_bypass: int
    min_copies: int
    max_copies: int | None
    cooldown_ns: int
    patience_ns: int
    explain: bool
    sizes: tuple[tuple[int, int], ...]
    known: int
    load_ns: int | None
    load_peak: int

    @classmethod
    def draw(cls, draw: Random, *, steady: bool) -> World:
        """Draw a world."""
        limits = draw.choice([(36,), (60,), (72,), (36, 72), (18, 36), (40, 40, 40)])
        min_copies = draw.choice([0, 1, 1, 2])
        residents = [draw.randint(1, 30) for _ in TAGS]
        return cls(
            limits=limits,
            foreign=tuple(draw.randint(0, 6) for _ in limits),
            steady=steady,
            read=draw.random() < 0.9,
            policy=draw.choice(list(POLICIES)),
            isolation=draw.choice(["beside", "exclusive"]),
            max_bypass=draw.choice([0, 1, 3, 8]),
            min_copies=min_copies,
            max_copies=draw.choice([None, None, max(1, min_copies), 2, 3]),
            cooldown_ns=draw.choice([0, 25, 100]),
            patience_ns=40,
            explain=draw.random() < 0.2,
            sizes=tuple((resident, resident + draw.randint(0, 12)) for resident in residents),
            known=draw.randint(0, len(TAGS)),
            load_ns=draw.choice([None, 5, 50]),
            load_peak=draw.choice([0, 0, 5]),
        )

    @classmethod
    def from_json(cls, kept: dict[str, object]) -> World:
        """Read what ``as_json`` wrote."""
        made = {field.name: kept[field.name] for field in fields(cls)}
        for name in ("limits", "foreign", "sizes"):
            made[name] = _tuples(made[name])
        return cls(**made)  # type: ignore[arg-type]  # written by as_json

    def as_json(self) -> dict[str, object]:
        """Return all of it as plain data."""
        return asdict(self)

    def settings(self) -> SchedulerSettings:
        """Return how the scheduler decides there."""
        return SchedulerSettings(
            policy=self.policy,
            isolation="exclusive" if self.isolation == "exclusive" else "beside",
            max_bypass=self.max_bypass,
            min_copies=self.min_copies,
            max_copies=self.max_copies,
            cooldown_ns=self.cooldown_ns,
            patience_ns=self.patience_ns,
            explain=self.explain,
        )


def _tuples(kept: object) -> object:
    if isinstance(kept, list | tuple):
        return tuple(_tuples(one) for one in cast("Sequence[object]", kept))
    return kept


class Player:
    """Plays events upon a driver of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.driver = VirtualDriver(
            *world.limits,
            foreign=world.foreign,
            read=world.read,
            steady=world.steady,
            settings=world.settings(),
        )
        self._in_flight: list[Reading] = []
        self._hung: set[int] = set()
        self._lost_devices: set[int] = set()
        for tag, (resident, peak) in zip(TAGS, world.sizes, strict=True):
            self.driver.sizes(tag, resident, peak)
        for tag in TAGS[: world.known]:
            self._learn(tag)
        self._play: dict[str, Callable[..., bool]] = {
            name.removeprefix("on_"): getattr(self, name)
            for name in dir(self)
            if name.startswith("on_")
        }

    @property
    def kinds(self) -> list[str]:
        """Every kind of event."""
        return list(self._play)

    def play(self, event: Event) -> bool:
        """Let an event happen; False where it could not."""
        kind, *numbers = event
        return self._play[str(kind)](*numbers)

    def end(self) -> None:
        """Let everything come to its end; fail where something does not."""
        driver = self.driver
        driver.steady = False
        driver.true.foreign[:] = [0] * len(driver.true.foreign)
        for device, limit in enumerate(self.world.limits):
            if driver.true.limits[device] != limit:
                driver.resize(device, limit)
        driver.drain()

    # Choosing --------------------------------------------------------------------------------

    def _one(self, which: int, *phases: Phase, hung: bool | None = None) -> int | None:
        found = [
            copy.number
            for copy in self.driver.true.copies.values()
            if copy.phase in phases and (hung is None or (copy.number in self._hung) == hung)
        ]
        return found[which % len(found)] if found else None

    def _held(self, which: int) -> int | None:
        held = list(self.driver.leases)
        return held[which % len(held)] if held else None

    def _device(self, which: int) -> int:
        return which % len(self.driver.true.limits)

    def _learn(self, tag: str, more: int = 0) -> None:
        peak = self.driver.true.sizes[tag].peak_bytes + more
        load_peak = peak + self.world.load_peak if self.world.load_peak else None
        self.driver.tell(tag, load_ns=self.world.load_ns, load_peak=load_peak, more=more)

    # Callers ---------------------------------------------------------------------------------

    def on_request(  # noqa: PLR0917 - plain data
        self, model: int, priority: int, wait_ns: int | None, worst: int, own: int, alone: int
    ) -> bool:
        """Somebody asks for a copy."""
        tag = TAGS[model % len(TAGS)]
        peak = self.driver.true.sizes[tag].peak_bytes
        self.driver.request(
            tag,
            priority=priority,
            wait_ns=wait_ns,
            worst_case=peak + 2 if worst else None,
            own_process=bool(own),
            alone=bool(alone),
        )
        return True

    def on_release(self, which: int, learn: int) -> bool:
        """A holder is done; mostly its model has been measured by then."""
        number = self._held(which)
        if number is None:
            return False
        tag = self.driver.true.copies[number].tag
        if learn and tag not in self.driver.judge.known:
            self._learn(tag)
        if number in self.driver.leases:
            self.driver.release(number)
        return True

    def on_learn(self, model: int, more: int) -> bool:
        """An estimate changes; it is never too low."""
        tag = TAGS[model % len(TAGS)]
        if tag not in self.driver.judge.known:
            return False
        self._learn(tag, more)
        return True

    def on_holder_killed(self, which: int) -> bool:
        """A holder dies."""
        number = self._held(which)
        if number is not None:
            self.driver.holder_lost(number)
        return number is not None

    def on_out_of_memory_in_use(self, which: int, own: int) -> bool:
        """A holder runs out of memory with its copy and asks for another one, alone."""
        number = self._held(which)
        if number is None:
            return False
        tag = self.driver.true.copies[number].tag
        self.driver.holder_lost(number, "out-of-memory")
        self.driver.request(tag, own_process=bool(own), alone=True)
        return True

    def on_run(self, which: int, using: int) -> bool:
        """A holder's use of memory changes."""
        number = self._held(which)
        if number is not None:
            self.driver.true.copies[number].using_bytes = using
        return number is not None

    def on_cancel(self, which: int) -> bool:
        """Somebody does not want to wait any more."""
        waiting = self.driver.open_tickets()
        if waiting:
            self.driver.cancel(waiting[which % len(waiting)])
        return bool(waiting)

    def on_pin(self, model: int, pinned: int) -> bool:
        """A model is pinned, or is not any more."""
        self.driver.pin(TAGS[model % len(TAGS)], pinned=bool(pinned))
        return True

    def on_reset(self) -> bool:
        """Everything is to be unloaded."""
        self.driver.reset()
        return True

    def on_close(self) -> bool:
        """The manager is shut down."""
        if self.driver.scheduler.closed:
            return False
        self.driver.close()
        return True

    def on_restart(self, read: int) -> bool:
        """The manager dies, and another one starts with the costs that were known."""
        known = sorted(self.driver.judge.known)
        self._in_flight.clear()
        self._hung.clear()
        self.driver.restart(read=bool(read))
        for tag in known:
            self._learn(tag)
        return True

    # Workers ---------------------------------------------------------------------------------

    def on_load_ends(self, which: int, seen: int) -> bool:
        """A load ends, badly where its reservation was too small."""
        number = self._one(which, Phase.LOADING, hung=False)
        if number is not None:
            self._end_load(number, seen)
        return number is not None

    def _end_load(self, number: int, seen: int) -> None:
        copy = self.driver.true.copies[number]
        if self.driver.true.sizes[copy.tag].peak_bytes > copy.reserved_bytes:
            self.driver.fail_load(number, out_of_memory=True)
        else:
            self.driver.load(number, seen=bool(seen))

    def on_load_goes_on(self, which: int, part: int) -> bool:
        """A load takes some of its memory."""
        number = self._one(which, Phase.LOADING)
        if number is not None:
            copy = self.driver.true.copies[number]
            copy.using_bytes = min(part, copy.reserved_bytes)
        return number is not None

    def on_load_fails(self, which: int, out_of_memory: int) -> bool:
        """A load fails."""
        number = self._one(which, Phase.LOADING, hung=False)
        if number is not None:
            self.driver.fail_load(number, out_of_memory=bool(out_of_memory))
        return number is not None

    def on_hang(self, which: int) -> bool:
        """A load or an unload hangs, or its completion is never told."""
        number = self._one(which, Phase.LOADING, Phase.UNLOADING, hung=False)
        if number is not None:
            self._hung.add(number)
        return number is not None

    def on_hung_ends(self, which: int, killed: int) -> bool:
        """What hung ends late, or its worker is killed."""
        number = self._one(which, Phase.LOADING, Phase.UNLOADING, hung=True)
        if number is None:
            return False
        if killed:
            self.driver.worker_lost(number)
        elif self.driver.true.copies[number].phase is Phase.LOADING:
            self._end_load(number, 0)
        else:
            self.driver.unload(number)
        return True

    def on_unload_ends(self, which: int, how: int) -> bool:
        """An unload ends: the process is gone, the memory is back, or it comes back late."""
        number = self._one(which, Phase.UNLOADING, hung=False)
        if number is not None:
            self.driver.unload(number, process_gone=how < 2, late=how == 3)
        return number is not None

    def on_late_comes_back(self, which: int) -> bool:
        """Memory that was late comes back; nobody is told."""
        number = self._one(which, Phase.LATE)
        if number is not None:
            self.driver.come_back(number)
        return number is not None

    def on_worker_killed(self, which: int) -> bool:
        """A worker dies, in whatever state its copy is."""
        number = self._one(which, *Phase)
        if number is not None:
            self.driver.worker_lost(number)
        return number is not None

    # Readings --------------------------------------------------------------------------------

    def on_read(self, which: int, own: int) -> bool:
        """A device is read; one that is lost does not answer."""
        device = self._device(which)
        if device in self._lost_devices:
            self.driver.fail_reading(device)
        else:
            self.driver.read(device, own=bool(own))
        return True

    def on_query(self, which: int, own: int) -> bool:
        """A reading begins."""
        self._in_flight.append(self.driver.query(self._device(which), own=bool(own)))
        return True

    def on_deliver(self, which: int) -> bool:
        """A reading that began earlier comes in, maybe after later ones."""
        if not self._in_flight:
            return False
        self.driver.deliver(self._in_flight.pop(which % len(self._in_flight)))
        return True

    def on_spike(self, which: int, more: int) -> bool:
        """A reading lies: too much."""
        true = self.driver.query(self._device(which))
        self.driver.deliver(Reading(true.device, true.at_ns, true.used_bytes + more, None))
        return True

    def on_reading_too_low(self, which: int, less: int) -> bool:
        """A reading lies: too little. Only what was read can be promised from then on."""
        if self.world.steady:
            return False
        true = self.driver.query(self._device(which))
        used = max(0, true.used_bytes - less)
        self.driver.deliver(Reading(true.device, true.at_ns, used, None))
        return True

    def on_reading_fails(self, which: int) -> bool:
        """A reading fails."""
        self.driver.fail_reading(self._device(which))
        return True

    def on_device_lost(self, which: int) -> bool:
        """A device does not answer any more."""
        self._lost_devices.add(self._device(which))
        self.driver.fail_reading(self._device(which))
        return True

    def on_device_back(self) -> bool:
        """All devices answer again."""
        lost = bool(self._lost_devices)
        self._lost_devices.clear()
        return lost

    def on_foreign(self, which: int, foreign: int) -> bool:
        """Others take memory, or give it back."""
        if not self.world.steady:
            self.driver.true.foreign[self._device(which)] = foreign
        return not self.world.steady

    def on_resize(self, which: int, percent: int) -> bool:
        """A device turns out to have another size."""
        device = self._device(which)
        self.driver.resize(device, self.world.limits[device] * percent // 100)
        return True

    # Time and messages -----------------------------------------------------------------------

    def on_wait(self, duration_ns: int) -> bool:
        """Time passes."""
        self.driver.wait(duration_ns)
        return True

    def on_jump(self, by_ns: int) -> bool:
        """The clock steps; when a reading in flight was begun is not known after a step back."""
        if by_ns < 0:
            self._in_flight.clear()
        self.driver.jump(by_ns)
        return True

    def on_poke(self) -> bool:
        """The scheduler is woken though nothing is due."""
        self.driver.poke()
        return True

    def on_stale(self, what: int, which: int) -> bool:
        """A completion or a release comes twice, late, or for what is not in force."""
        kind = _STALE[what % len(_STALE)]
        driver = self.driver
        if kind in ("release", "holder_lost"):
            if not driver.past_leases:
                return False
            number, lease = driver.past_leases[-1 - which % min(8, len(driver.past_leases))]
            held = driver.leases.get(number)
            if held is not None and held.lease == lease:
                lease -= 1
            driver.stale(kind, number, lease)
            return True
        number = max(driver.true.copies, default=8) - which % 8
        copy = driver.true.copies.get(number)
        phase = None if copy is None else copy.phase
        if kind in ("load_finished", "load_failed"):
            fitting = phase is not Phase.LOADING
        elif kind == "unload_finished":
            fitting = phase is not Phase.UNLOADING and number not in driver.scheduler.copies
        else:
            fitting = phase is None and number not in driver.scheduler.copies
        if fitting:
            driver.stale(kind, number)
        return fitting


def drawn(draw: Random) -> dict[str, tuple[float, Callable[[], Sequence[int | None]]]]:
    """Return how often each kind of event happens, and what draws its numbers."""

    def any_one() -> int:
        return draw.randrange(_ANY)

    def model() -> int:
        return draw.randrange(len(TAGS))

    def chance(share: float) -> int:
        return int(draw.random() < share)

    def request() -> Sequence[int | None]:
        priority = draw.choice([0, 0, 0, 1, -1])
        wait_ns = draw.choice([None, None, None, 0, 15, 300])
        return model(), priority, wait_ns, chance(0.5), chance(0.5), chance(0.01)

    return {
        "request": (24, request),
        "release": (20, lambda: (any_one(), chance(0.8))),
        "learn": (0.7, lambda: (model(), draw.choice([0, 0, 2, 10]))),
        "holder_killed": (1, lambda: (any_one(),)),
        "out_of_memory_in_use": (1, lambda: (any_one(), chance(0.5))),
        "run": (3, lambda: (any_one(), draw.randint(0, 42))),
        "cancel": (2, lambda: (any_one(),)),
        "pin": (2, lambda: (model(), chance(0.3))),
        "reset": (0.7, tuple),
        "close": (0.1, tuple),
        "restart": (0.3, lambda: (chance(0.9),)),
        "load_ends": (18, lambda: (any_one(), chance(0.3))),
        "load_goes_on": (2, lambda: (any_one(), draw.randint(0, 30))),
        "load_fails": (2, lambda: (any_one(), chance(0.5))),
        "hang": (1, lambda: (any_one(),)),
        "hung_ends": (1, lambda: (any_one(), chance(0.4))),
        "unload_ends": (16, lambda: (any_one(), draw.randrange(4))),
        "late_comes_back": (4, lambda: (any_one(),)),
        "worker_killed": (1, lambda: (any_one(),)),
        "read": (12, lambda: (any_one(), chance(0.4))),
        "query": (3, lambda: (any_one(), chance(0.4))),
        "deliver": (3, lambda: (any_one(),)),
        "spike": (1, lambda: (any_one(), draw.randint(1, 40))),
        "reading_too_low": (1, lambda: (any_one(), draw.randint(1, 40))),
        "reading_fails": (2, lambda: (any_one(),)),
        "device_lost": (0.3, lambda: (any_one(),)),
        "device_back": (3, tuple),
        "foreign": (4, lambda: (any_one(), draw.choice([0, 0, 3, 8, 25]))),
        "resize": (0.3, lambda: (any_one(), draw.choice([100, 100, 80, 50, 120]))),
        "wait": (6, lambda: (draw.choice([1, 10, 30, 100]),)),
        "jump": (0.5, lambda: (draw.choice([-1, -20, -200, 50, 1_000, 10**12]),)),
        "poke": (1, tuple),
        "stale": (4, lambda: (draw.randrange(len(_STALE)), any_one())),
    }

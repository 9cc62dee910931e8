"""Whatever happens, in whatever order, the promises hold after every single event.

The machine draws events; ``VirtualDriver`` holds each one against books of its own (the memory
promise as a sum over true figures, one holder per copy, isolation, one ending per ticket, who was
passed over how often, nobody waiting for what is there). At the end everything must drain.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from modelmgr.scheduling.settings import SchedulerSettings
from support.virtual_devices import Phase, Reading
from support.virtual_driver import VirtualDriver, must

TAGS = "abcdefg"
SIZES = st.tuples(st.integers(1, 30), st.integers(0, 12))
WHICH = st.integers(0, 5)
POLICIES = st.sampled_from(["lru", "gdsf", "demand-tiers", "queue-value"])
LIMITS = st.sampled_from([(36,), (60,), (72,), (36, 72), (18, 36), (40, 40, 40)])

PROPERTIES = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


class SchedulerMachine(RuleBasedStateMachine):
    """Random events over devices whose foreign use does not move."""

    steady = True

    @initialize(
        limits=LIMITS,
        policy=POLICIES,
        exclusive=st.booleans(),
        max_bypass=st.sampled_from([0, 1, 3, 8]),
        max_copies=st.sampled_from([None, 1, 2]),
        cooldown_ns=st.sampled_from([0, 25]),
        sizes=st.lists(SIZES, min_size=len(TAGS), max_size=len(TAGS)),
        known=st.integers(0, len(TAGS)),
        foreign=st.integers(0, 6),
        load_ns=st.sampled_from([None, 5, 50]),
    )
    def start(
        self,
        *,
        limits: tuple[int, ...],
        policy: str,
        exclusive: bool,
        max_bypass: int,
        max_copies: int | None,
        cooldown_ns: int,
        sizes: list[tuple[int, int]],
        known: int,
        foreign: int,
        load_ns: int | None,
    ) -> None:
        self.in_flight: list[Reading] = []
        self.load_ns = load_ns
        self.driver = VirtualDriver(
            *limits,
            foreign=[foreign] * len(limits),
            steady=self.steady,
            settings=SchedulerSettings(
                policy=policy,
                isolation="exclusive" if exclusive else "beside",
                max_bypass=max_bypass,
                max_copies=max_copies,
                cooldown_ns=cooldown_ns,
                patience_ns=40,
            ),
        )
        for tag, (resident, more) in zip(TAGS, sizes, strict=True):
            self.driver.sizes(tag, resident, resident + more)
        for tag in TAGS[:known]:
            self.driver.tell(tag, load_ns=load_ns)

    def pick(self, which: int, *phases: Phase) -> int:
        found = [n for phase in phases for n in self.driver.in_phase(phase)]
        return found[which % len(found)]

    def some(self, *phases: Phase) -> bool:
        return any(self.driver.in_phase(phase) for phase in phases)

    def device(self, which: int) -> int:
        return which % len(self.driver.true.limits)

    # Callers

    @rule(
        tag=st.sampled_from(TAGS),
        priority=st.sampled_from([0, 0, 0, 1, -1]),
        wait_ns=st.sampled_from([None, None, None, 0, 15, 300]),
        worst=st.booleans(),
        own_process=st.booleans(),
    )
    def request(
        self, *, tag: str, priority: int, wait_ns: int | None, worst: bool, own_process: bool
    ) -> None:
        peak = self.driver.true.sizes[tag].peak_bytes
        self.driver.request(
            tag,
            priority=priority,
            wait_ns=wait_ns,
            worst_case=peak + 2 if worst else None,
            own_process=own_process,
        )

    @precondition(lambda self: self.driver.leases)
    @rule(which=WHICH, measured=st.sampled_from([True, True, False]))
    def release(self, *, which: int, measured: bool) -> None:
        held = list(self.driver.leases)
        number = held[which % len(held)]
        tag = self.driver.true.copies[number].tag
        if measured and self.driver.scheduler.model(tag).costs is None:
            self.driver.tell(tag, load_ns=self.load_ns)
        self.driver.release(number)

    @precondition(lambda self: self.driver.leases)
    @rule(which=WHICH)
    def lose_a_holder(self, *, which: int) -> None:
        held = list(self.driver.leases)
        self.driver.holder_lost(held[which % len(held)])

    @precondition(lambda self: self.driver.leases)
    @rule(which=WHICH, more=st.integers(0, 12))
    def run(self, *, which: int, more: int) -> None:
        copy = self.driver.true.copies[list(self.driver.leases)[which % len(self.driver.leases)]]
        copy.using_bytes = self.driver.true.sizes[copy.tag].resident_bytes + more

    @precondition(lambda self: self.driver.open_tickets())
    @rule(which=WHICH)
    def cancel(self, *, which: int) -> None:
        waiting = self.driver.open_tickets()
        self.driver.cancel(waiting[which % len(waiting)])

    @rule(tag=st.sampled_from(TAGS), pinned=st.booleans())
    def pin(self, *, tag: str, pinned: bool) -> None:
        self.driver.pin(tag, pinned=pinned)

    @precondition(lambda self: len(self.driver.log) % 7 == 3)
    @rule()
    def reset(self) -> None:
        self.driver.reset()

    # Workers

    @precondition(lambda self: self.some(Phase.LOADING))
    @rule(which=WHICH, seen=st.booleans())
    def load_ends(self, *, which: int, seen: bool) -> None:
        number = self.pick(which, Phase.LOADING)
        copy = self.driver.true.copies[number]
        if self.driver.true.sizes[copy.tag].peak_bytes > copy.reserved_bytes:
            self.driver.fail_load(number, out_of_memory=True)
        else:
            self.driver.load(number, seen=seen)

    @precondition(lambda self: self.some(Phase.LOADING))
    @rule(which=WHICH, out_of_memory=st.booleans())
    def load_fails(self, *, which: int, out_of_memory: bool) -> None:
        self.driver.fail_load(self.pick(which, Phase.LOADING), out_of_memory=out_of_memory)

    @precondition(lambda self: self.some(Phase.LOADING))
    @rule(which=WHICH, part=st.integers(0, 30))
    def load_goes_on(self, *, which: int, part: int) -> None:
        copy = self.driver.true.copies[self.pick(which, Phase.LOADING)]
        copy.using_bytes = min(part, copy.reserved_bytes)

    @precondition(lambda self: self.some(Phase.UNLOADING))
    @rule(which=WHICH, how=st.sampled_from(["gone", "gone", "back", "late"]))
    def unload_ends(self, *, which: int, how: str) -> None:
        self.driver.unload(
            self.pick(which, Phase.UNLOADING), process_gone=how == "gone", late=how == "late"
        )

    @precondition(lambda self: self.some(Phase.LATE))
    @rule(which=WHICH)
    def late_memory_comes_back(self, *, which: int) -> None:
        self.driver.come_back(self.pick(which, Phase.LATE))

    @precondition(
        lambda self: (
            len(self.driver.log) % 5 == 2
            and self.some(Phase.LOADED, Phase.UNLOADING, Phase.LOADING)
        )
    )
    @rule(which=WHICH)
    def lose_a_worker(self, *, which: int) -> None:
        self.driver.worker_lost(self.pick(which, Phase.LOADED, Phase.UNLOADING, Phase.LOADING))

    # Readings and time

    @rule(which=WHICH, own=st.booleans())
    def read(self, *, which: int, own: bool) -> None:
        self.driver.read(self.device(which), own=own)

    @rule(which=WHICH, own=st.booleans())
    def begin_a_reading(self, *, which: int, own: bool) -> None:
        self.in_flight.append(self.driver.query(self.device(which), own=own))

    @precondition(lambda self: self.in_flight)
    @rule(which=WHICH)
    def a_reading_arrives_late(self, *, which: int) -> None:
        self.driver.deliver(self.in_flight.pop(which % len(self.in_flight)))

    @rule(which=WHICH, spike=st.integers(1, 40))
    def read_too_much(self, *, which: int, spike: int) -> None:
        true = self.driver.query(self.device(which))
        self.driver.deliver(Reading(true.device, true.at_ns, true.used_bytes + spike, None))

    @rule(which=WHICH)
    def a_reading_fails(self, *, which: int) -> None:
        self.driver.fail_reading(self.device(which))

    @rule(duration_ns=st.sampled_from([1, 10, 30, 100]))
    def wait(self, *, duration_ns: int) -> None:
        self.driver.wait(duration_ns)

    @invariant()
    def nobody_is_passed_over_too_often_by_an_outside_count(self) -> None:
        # With several devices, or a ceiling, a ticket can be passed over by what it could not use.
        if not hasattr(self, "driver"):
            return
        if len(self.driver.true.limits) == 1 and self.driver.scheduler.settings.max_copies is None:
            most = max(self.driver.passed_over.values(), default=0)
            must(most <= self.driver.scheduler.settings.max_bypass, self.driver.state())

    def teardown(self) -> None:
        if hasattr(self, "driver"):
            self.driver.true.foreign[:] = [0] * len(self.driver.true.foreign)
            self.driver.steady = False
            self.driver.drain()


class MovingForeignMachine(SchedulerMachine):
    """The same, while others take and give back memory: the last reading is all there is."""

    steady = False

    @rule(which=WHICH, foreign=st.sampled_from([0, 0, 3, 8, 25]))
    def others_take_memory(self, *, which: int, foreign: int) -> None:
        self.driver.true.foreign[self.device(which)] = foreign

    @rule(which=WHICH)
    def what_was_read_is_never_believed_to_be_less(self, *, which: int) -> None:
        device = self.device(which)
        used = self.driver.true.used(device)
        self.driver.read(device)
        committed = self.driver.scheduler.devices[device].ledger.committed_bytes
        must(committed >= used, "believed less than was read", self.driver.state())


TestSteadyDevices = SchedulerMachine.TestCase
TestSteadyDevices.settings = PROPERTIES
TestMovingForeignUse = MovingForeignMachine.TestCase
TestMovingForeignUse.settings = PROPERTIES

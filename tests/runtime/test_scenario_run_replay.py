"""One brain, two clocks: the real driver and the virtual one decide the same.

Both claims hold however busy the machine is, because the times that really passed are recorded and
given to the other side: nothing is compared that a slow machine could move.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest

from modelmgr.runtime.scenario_run.run import run_scenario
from modelmgr.runtime.scenario_run.tap import SchedulerEvent
from modelmgr.scheduling.actions import Grant, StartLoad, StartUnload
from modelmgr.simulation.engine import Engine
from modelmgr.simulation.world import World
from modelmgr.units import MIB
from modelmgr.workload.raw_requests import NO_SHAPE, NOBODY, RawRequest
from modelmgr.workload.scenario import Fault, ManagerOptions, Scenario
from support.real_runs import Recorder, log_of, small_model, small_run
from support.small_scenarios import MS, constant, exponential, make_model

FAULTS = (
    Fault(kind="worker-killed", rate_per_s=2.0),
    Fault(kind="holder-lost", at_ns=700 * MS),
    Fault(kind="out-of-memory", at_ns=900 * MS),
    Fault(kind="load-failed", at_ns=400 * MS),
    Fault(kind="reading-wrong", at_ns=600 * MS, duration_ns=300 * MS, size_bytes=20 << 20),
)


@pytest.mark.parametrize("policy", ["lru", "gdsf", "demand-tiers", "queue-value"])
def test_a_fresh_scheduler_told_what_a_real_run_told_its_own_decides_the_same_byte_for_byte(
    monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    recorder = Recorder(monkeypatch)
    options = ManagerOptions(policy=policy, max_copies=2, wait_timeout_ns=3_000 * MS)
    models = [small_model(tag) for tag in "abc"] + [small_model("new", known=False)]
    scenario = small_run(models=models, rate_per_s=40, manager=options, faults=FAULTS)
    result = run_scenario(scenario).result

    assert result.evictions > 0
    assert result.requests.failed > 0
    assert recorder.log().count(b"\n") >= result.decisions > 50
    assert recorder.replayed() == recorder.log()


class _Script:
    """Durations that were measured, in their order, where the engine would draw."""

    def __init__(self, durations: Sequence[int]) -> None:
        self._next = iter(durations)

    def take(self) -> int:
        """Return the next one; the engine asks for no more than there were."""
        return next(self._next)


class _Source:
    """Requests as they really came, where the engine would ask the scenario."""

    def __init__(self, requests: Sequence[RawRequest]) -> None:
        self._batches = iter([list(requests)])

    def next_batch(self) -> list[RawRequest]:
        """Return all of them, then none."""
        nothing: list[RawRequest] = []
        return next(self._batches, nothing)

    def served(self, user: int, now_ns: int) -> None:
        """Let nobody ask again: those who did are among the requests."""


class _Measured:
    """What the events of a real run say of its times, in nanoseconds since its first request."""

    def __init__(self, recorder: Recorder, scenario: Scenario) -> None:
        index = {model.tag: number for number, model in enumerate(scenario.models)}
        asked = [event for event in recorder.events if event.name in {"hit", "request"}]
        self.origin_ns = _time(asked[0]) - MS
        ends = {e.args[0]: _time(e) for e in recorder.events if e.name == "load_finished"}
        gone = {e.args[0]: _time(e) for e in recorder.events if e.name == "unload_finished"}
        back = {e.args[1]: _time(e) for e in recorder.events if e.name == "release"}
        self.loads: dict[str, list[int]] = {model.tag: [] for model in scenario.models}
        self.unloads: dict[str, list[int]] = {model.tag: [] for model in scenario.models}
        service_ns: dict[int, int] = {}
        self.decided = [
            (at_ns, kept)
            for at_ns, actions in recorder.decided
            if (kept := tuple(a for a in actions if not _of_the_end(a)))
        ]
        for at_ns, action in ((at_ns, a) for at_ns, actions in self.decided for a in actions):
            if isinstance(action, StartLoad):
                self.loads[action.tag].append(ends[action.copy] - at_ns)
            elif isinstance(action, StartUnload):
                self.unloads[action.tag].append(gone[action.copy] - at_ns)
            elif isinstance(action, Grant):
                service_ns[action.ticket_num] = back[action.lease] - at_ns
        # Tickets are numbered in the order of asking.
        self.requests = [
            (
                _time(event) - self.origin_ns,
                index[event.args[0]],
                service_ns[number],
                NO_SHAPE,
                NOBODY,
            )
            for number, event in zip(itertools.count(1), asked, strict=False)
        ]


def _time(event: SchedulerEvent) -> int:
    place = {"hit": 1, "request": 1, "load_finished": 1, "unload_finished": 1, "release": 2}
    now_ns: int = event.args[place[event.name]]
    return now_ns


def _of_the_end(action: object) -> bool:
    return isinstance(action, StartUnload) and action.reason == "shutdown"


@pytest.mark.parametrize("policy", ["lru", "gdsf", "demand-tiers", "queue-value"])
def test_the_virtual_engine_given_the_times_of_a_real_run_decides_the_same_byte_for_byte(
    monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    recorder = Recorder(monkeypatch)
    # One copy a model: a second one is asked for when time has passed, and a real driver notices
    # that a moment later than a virtual one.
    options = ManagerOptions(policy=policy, max_copies=1, wait_timeout_ns=None)
    # Large enough for the megabyte that a stand-in is smaller than stated to teach nobody anything.
    models = [
        make_model(
            tag,
            resident=96 * MIB,
            peak=104 * MIB,
            load=constant(80 * MS),
            unload=constant(20 * MS),
            service=exponential(15 * MS),
        )
        for tag in "abcd"
    ]
    scenario = small_run(models=models, rate_per_s=25, seconds=2, manager=options, memory_mib=220)
    result = run_scenario(scenario).result
    assert result.requests.completed == result.requests.total
    preloads = [event for event in recorder.events if event.name == "set_costs"]
    assert len(preloads) == len(models), "what was learned meanwhile, the engine cannot know"
    measured = _Measured(recorder, scenario)

    written: list[bytes] = []
    world = World(
        scenario,
        write_log=written.append,
        poll_interval_ns=500 * MS,
        keep_schedule=False,
        read_always=True,
    )
    monkeypatch.setattr(world, "source", _Source(measured.requests))
    for model in world.models:
        monkeypatch.setattr(model, "load_times", _Script(measured.loads[model.tag]))
        monkeypatch.setattr(model, "unload_times", _Script(measured.unloads[model.tag]))
    Engine(world, check=True).run()
    world.log.flush()

    really = log_of(recorder.devices, measured.decided, measured.origin_ns)
    assert result.evictions > 0
    assert b"".join(written).splitlines() == really.splitlines()


def test_the_log_of_a_real_run_is_what_its_hash_says() -> None:
    written: list[bytes] = []
    scenario = replace(small_run("ab", seconds=0.5), seed=3)
    result = run_scenario(scenario, log=written.append).result
    content = b"".join(written)
    assert result.decisions_sha256 == "sha256:" + hashlib.sha256(content).hexdigest()
    assert result.decisions == content.count(b"\n") >= result.requests.total

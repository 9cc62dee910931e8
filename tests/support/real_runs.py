"""Small scenarios for real runs, and a recorder of everything that their scheduler was told."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

import pytest

from modelmgr.errors import LeaseError
from modelmgr.records.decision_log import DecisionLog
from modelmgr.runtime.open_scheduler import OpenScheduler
from modelmgr.runtime.scenario_run.tap import SchedulerEvent, SchedulerTap, note_actions
from modelmgr.scheduling.actions import Action
from modelmgr.scheduling.policies import make_policy
from modelmgr.scheduling.scheduler import Scheduler
from modelmgr.scheduling.settings import SchedulerSettings
from modelmgr.units import MIB
from modelmgr.workload.scenario import (
    Arrivals,
    Distribution,
    Fault,
    ManagerOptions,
    Phase,
    Scenario,
    ScenarioModel,
)
from support.small_scenarios import MS, constant, make_model, make_scenario

DeviceSizes = Sequence[tuple[str, int, int]]


def small_model(
    tag: str,
    *,
    known: bool = True,
    load_ms: int = 60,
    service: Distribution | None = None,
    peak_mib: int = 48,
    believed_mib: int | None = None,
) -> ScenarioModel:
    """Return a stand-in of 40 MiB that runs in 8 more."""
    return make_model(
        tag,
        resident=40 * MIB,
        peak=peak_mib * MIB,
        load=constant(load_ms * MS),
        unload=constant(20 * MS),
        service=service or constant(20 * MS),
        known=known,
        believed=None if believed_mib is None else believed_mib * MIB,
    )


def small_run(
    tags: str = "abc",
    *,
    seconds: float = 1.5,
    rate_per_s: float = 20.0,
    memory_mib: int = 110,
    models: Sequence[ScenarioModel] | None = None,
    manager: ManagerOptions | None = None,
    faults: Sequence[Fault] = (),
    arrivals: Arrivals | None = None,
    workload: Sequence[Phase] | None = None,
) -> Scenario:
    """Return a scenario of a second and a half in which two of three models fit."""
    return make_scenario(
        models or [small_model(tag) for tag in tags],
        rate_per_s=rate_per_s,
        seconds=seconds,
        memory=memory_mib * MIB,
        manager=manager or ManagerOptions(max_copies=1, wait_timeout_ns=20_000 * MS),
        faults=faults,
        arrivals=arrivals,
        workload=workload,
    )


def on(scenario: Scenario, kind: str) -> Scenario:
    """Return a scenario on devices of another kind."""
    assert kind in {"host", "cuda"}
    return replace(
        scenario,
        devices=tuple(
            replace(device, kind="host" if kind == "host" else "cuda")
            for device in scenario.devices
        ),
    )


class Recorder:
    """Hears the schedulers that managers make, from the first event on.

    Attributes:
        devices: of the scheduler that was made.
        settings: of that scheduler.
        events: everything that it was told, in order.
        decided: its decisions, ``(at_ns, actions)``.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.devices: DeviceSizes = ()
        self.settings: SchedulerSettings | None = None
        self.events: list[SchedulerEvent] = []
        self.decided: list[tuple[int, tuple[Action, ...]]] = []
        monkeypatch.setattr("modelmgr.runtime.manager.OpenScheduler", self._make)

    def _make(self, devices: DeviceSizes, settings: SchedulerSettings) -> Scheduler:
        assert not self.devices, "one manager is enough"
        self.devices, self.settings = tuple(devices), settings
        scheduler = OpenScheduler(devices, settings)
        SchedulerTap(
            scheduler,
            lambda at_ns, actions: self.decided.append((at_ns, tuple(actions))),
            told=self.events.append,
        )
        return scheduler

    def log(self) -> bytes:
        """Return the decisions as a decision log has them."""
        return log_of(self.devices, self.decided)

    def replayed(self) -> bytes:
        """Return the decision log of a fresh scheduler that is told the same."""
        assert self.settings is not None
        # A policy keeps what it was told: the fresh scheduler needs one of its own.
        name = make_policy(self.settings.policy).name
        scheduler = OpenScheduler(self.devices, replace(self.settings, policy=make_policy(name)))
        decided: list[tuple[int, tuple[Action, ...]]] = []
        tap = SchedulerTap(
            scheduler, lambda at_ns, actions: decided.append((at_ns, tuple(actions)))
        )
        for event in self.events:
            with contextlib.suppress(LeaseError):
                getattr(scheduler, event.name)(*event.args, **event.kwargs)
        tap.close()
        return log_of(self.devices, decided)


def log_of(
    devices: DeviceSizes, decided: Sequence[tuple[int, tuple[Action, ...]]], origin_ns: int = 0
) -> bytes:
    """Return decisions as a decision log has them, times since ``origin_ns``."""
    written: list[bytes] = []
    log = DecisionLog([name for name, _, _ in devices], written.append)
    for at_ns, actions in decided:
        note_actions(log, at_ns - origin_ns, actions)
    log.flush()
    return b"".join(written)

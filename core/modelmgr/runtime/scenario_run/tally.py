"""What a real run adds up to, and the result that it makes; counts as ``simulation.world`` does.

Threads call it at any time. It decides nothing and measures nothing itself.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from modelmgr._version import __version__
from modelmgr.estimation.cost_estimate import CostEstimate
from modelmgr.records.costs import Eviction, MachineInfo, ToolInfo
from modelmgr.records.result import DeviceUse, LearnedCost, ModelUse, RequestCounts, Result
from modelmgr.runtime.scenario_run.devices import RunDevice
from modelmgr.runtime.scenario_run.stated_times import Act, StatedTimes
from modelmgr.scheduling.actions import Action, StartUnload
from modelmgr.simulation.metrics import Durations, figures
from modelmgr.simulation.world import EVICTIONS_KEPT
from modelmgr.workload.scenario import Scenario

Ending = Literal["completed", "timed_out", "refused", "failed", "cancelled"]

EVICTED_FOR = frozenset({"make-room", "isolation"})
"""Reasons of an unload that make it an eviction."""
_REASONS_KEPT = 20


class ModelTally:
    """What was counted of one model."""

    def __init__(self) -> None:
        self.requests = 0
        self.hits = 0
        self.loads = 0
        self.evictions = 0
        self.waits = Durations()
        self.stated_times = StatedTimes()


class Tally:
    """Counts a run.

    Attributes:
        lags: how late requests were sent, nanoseconds after their scheduled times.
        troubles: why requests and loads failed, and how often, the first twenty kinds.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._lock = threading.Lock()
        self.models = {model.tag: ModelTally() for model in scenario.models}
        self._endings: Counter[Ending] = Counter()
        self._latencies = Durations()
        self.lags = Durations()
        self.troubles: Counter[str] = Counter()
        self._total = 0
        self._failed_loads = 0
        self._oom_events = 0
        self._loads_ns = 0
        self._first_loads_ns = 0
        self._ended_ns = 0

    # What happened ---------------------------------------------------------------------------

    @property
    def total(self) -> int:
        """Requests that came."""
        return self._total

    def came(self, tag: str, lag_ns: int, now_ns: int) -> None:
        """Count a request that was sent ``lag_ns`` after its time."""
        with self._lock:
            self._total += 1
            self.models[tag].requests += 1
            self.lags.buffer.append(max(0, lag_ns))
            self._ended_ns = max(self._ended_ns, now_ns)

    def granted(self, tag: str, wait_ns: int, *, hit: bool) -> None:
        """Count a request that was given a copy."""
        with self._lock:
            model = self.models[tag]
            model.waits.buffer.append(max(0, wait_ns))
            model.hits += hit

    def ended(self, how: Ending, now_ns: int, latency_ns: int | None = None) -> None:
        """Count how a request ended; its latency where it was served."""
        with self._lock:
            self._endings[how] += 1
            self._ended_ns = max(self._ended_ns, now_ns)
            if latency_ns is not None:
                self._latencies.buffer.append(latency_ns)

    def loaded(self, tag: str, took_ns: int) -> None:
        """Count a load that ended well."""
        with self._lock:
            model = self.models[tag]
            if not model.loads:
                self._first_loads_ns += took_ns
            model.loads += 1
            self._loads_ns += took_ns

    def took(self, tag: str, act: Act, stated_ns: int, over_ns: int) -> None:
        """Count what a stand-in took for something that went well: so much more than stated."""
        with self._lock:
            self.models[tag].stated_times.took(act, stated_ns, over_ns)

    def load_failed(self) -> None:
        """Count a load that did not."""
        with self._lock:
            self._failed_loads += 1

    def ran_out(self) -> None:
        """Count an out-of-memory event."""
        with self._lock:
            self._oom_events += 1

    def trouble(self, error: BaseException) -> None:
        """Keep why something failed, without what differs from time to time."""
        text = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        words = "".join("#" if letter.isdigit() else letter for letter in text)
        with self._lock:
            if words in self.troubles or len(self.troubles) < _REASONS_KEPT:
                self.troubles[words] += 1

    def decided(self, actions: Sequence[Action]) -> None:
        """Count what the scheduler decided; called under the manager's lock."""
        for action in actions:
            if isinstance(action, StartUnload) and action.reason in EVICTED_FOR:
                with self._lock:
                    self.models[action.tag].evictions += 1

    # What it came to -------------------------------------------------------------------------

    def result(
        self,
        *,
        devices: Sequence[RunDevice],
        started_at: str,
        machine: MachineInfo | None,
        decisions: int,
        decisions_sha256: str,
        learned: Mapping[str, CostEstimate],
        evictions: Sequence[Eviction],
        partial: bool,
    ) -> Result:
        """Return the record of the run."""
        with self._lock:
            models = self.models.values()
            ended = self._endings
            return Result(
                mode="run",
                scenario=self._scenario.name,
                seed=self._scenario.seed,
                policy=self._scenario.manager.policy,
                started_at=started_at,
                tool=ToolInfo(name="modelmgr", version=__version__),
                machine=machine,
                duration_ns=self._ended_ns,
                partial=partial,
                requests=RequestCounts(
                    total=self._total,
                    completed=ended["completed"],
                    timed_out=ended["timed_out"],
                    refused=ended["refused"],
                    failed=ended["failed"],
                    cancelled=ended["cancelled"],
                ),
                loads=sum(model.loads for model in models),
                failed_loads=self._failed_loads,
                hits=sum(model.hits for model in models),
                evictions=sum(model.evictions for model in models),
                oom_events=self._oom_events,
                reload_cost_ns=self._loads_ns,
                first_load_cost_ns=self._first_loads_ns,
                wait_ns=figures([model.waits for model in models]),
                latency_ns=figures([self._latencies]),
                devices={
                    device.name: DeviceUse(
                        limit_bytes=device.description.limit_bytes,
                        peak_bytes=device.meter.peak_bytes,
                        mean_bytes=device.meter.mean_bytes(self._ended_ns),
                    )
                    for device in devices
                },
                models={
                    tag: ModelUse(
                        requests=model.requests,
                        loads=model.loads,
                        hits=model.hits,
                        evictions=model.evictions,
                        wait_ns=figures([model.waits]),
                        stated_times=model.stated_times.record(),
                    )
                    for tag, model in self.models.items()
                },
                decisions=decisions,
                decisions_sha256=decisions_sha256,
                learned={
                    tag: LearnedCost(
                        resident_bytes=cost.resident_bytes,
                        peak_bytes=cost.peak_bytes,
                        upper_bytes=cost.upper_bytes,
                        interval_95=cost.interval_95,
                        source=cost.source,
                        observations=cost.observations,
                    )
                    for tag, cost in sorted(learned.items())
                },
                evictions_trace=tuple(evictions) if len(evictions) <= EVICTIONS_KEPT else None,
            )

"""What the conformance tests share: a manager with short patience, monitors that lag, cost files.

Owns no claim and decides nothing; each claim stands by itself in its test.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from modelmgr import CostDatabase, ModelManager
from modelmgr.records.costs import DeviceInfo, MachineInfo, ModelCost, ToolInfo
from modelmgr.records.measured import MeasuredDuration
from modelmgr.testing.fake_device import FakeDevice, FakeModel
from modelmgr.units import MIB, NS_PER_S
from support.parties import PATIENCE_S, wait_until

Make = Callable[[], FakeModel]


def manager_of(monitor: object, **options: Any) -> ModelManager:
    """A manager that keeps nothing warm and ends soon even where a claim does not hold."""
    options.setdefault("eviction_cooldown_seconds", 0.0)
    options.setdefault("wait_timeout_seconds", PATIENCE_S)
    options.setdefault("poll_interval", 0.02)
    return ModelManager(monitor, **options)  # type: ignore[arg-type]  # anything with get_stats()


def loader_of(device: FakeDevice, size_mb: float) -> Make:
    return lambda: FakeModel(device, size_mb)


def serve_once(manager: ModelManager, tag: str, loader: Callable[[], Any]) -> Any:
    """Acquire and release; return the instance, which is idle then."""
    instance = manager.acquire_model(tag, loader)
    manager.release_model(tag, instance)
    return instance


def wait_for_queue(manager: ModelManager, length: int) -> None:
    wait_until(lambda: len(manager.snapshot().queue) == length, f"{length} requests wait")


class CountedDevice(FakeDevice):
    """A device that counts its readings, so that a test can wait until it was looked at."""

    readings = 0

    def get_stats(self) -> tuple[float, float, float]:
        self.readings += 1
        return super().get_stats()


class PolledMonitor:
    """A monitor that polls in its own time: what it says is what was there at the last poll.

    It has no ``refresh``, as nothing else can make its figure newer.
    """

    def __init__(self, device: FakeDevice, interval_s: float) -> None:
        self._device = device
        self._interval_s = interval_s
        self._polled_at = time.monotonic()
        self._seen_mb, _, self._total_mb = device.get_stats()
        self._peak_mb = self._seen_mb

    def get_stats(self) -> tuple[float, float, float]:
        """Return the figures of the last poll, which is at most an interval ago."""
        if time.monotonic() - self._polled_at >= self._interval_s:
            self._polled_at = time.monotonic()
            self._seen_mb, _, _ = self._device.get_stats()
            self._peak_mb = max(self._peak_mb, self._seen_mb)
        return self._seen_mb, self._peak_mb, self._total_mb

    def reset_peak(self) -> None:
        self._peak_mb = self._seen_mb


def database_of(models: Mapping[str, tuple[float, float]]) -> CostDatabase:
    """A cost database of ``{tag: (MB, seconds to load)}``."""
    device = DeviceInfo(kind="cuda", name="Fake", total_bytes=10_000 * MIB)
    machine = MachineInfo(os="Linux", cpu=None, python="3.11", packages={}, device=device)
    return CostDatabase(
        created_at="2026-01-01T00:00:00Z",
        tool=ToolInfo(name="modelmgr", version="0"),
        machine=machine,
        models={
            tag: ModelCost(
                initial_estimate_bytes=round(size_mb * MIB),
                load_ns=_lasting(round(load_s * NS_PER_S)),
            )
            for tag, (size_mb, load_s) in models.items()
        },
    )


def _lasting(ns: int) -> MeasuredDuration:
    return MeasuredDuration(median=ns, p95=None, min=ns, max=ns, samples=(ns,))

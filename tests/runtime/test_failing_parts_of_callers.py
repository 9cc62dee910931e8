"""An estimator and a monitor are the caller's own code: whatever they raise harms no request."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from modelmgr import ModelManager, ResourceEstimator
from modelmgr.estimation.cost_estimate import CostEstimate
from modelmgr.testing.fake_device import FakeDevice, FakeModel
from support.parties import Party, wait_for


class UnknownRaises(ResourceEstimator):
    def is_unknown(self, tag: str) -> bool:
        raise ValueError(f"no idea of {tag}")


class RecordRaises(ResourceEstimator):
    def record_isolation(
        self, tag: str, resident_bytes: int | None, peak_bytes: int, weight: float = 1.0
    ) -> None:
        raise ValueError(f"no room for {tag}: {resident_bytes}, {peak_bytes}, {weight}")


class EstimateRaises(ResourceEstimator):
    def estimate(self, tag: str) -> CostEstimate | None:
        raise ValueError(f"no figure of {tag}")


class Told(ResourceEstimator):
    """Raises only once it was told a first measurement: when a later job is watched."""

    def record_isolation(
        self, tag: str, resident_bytes: int | None, peak_bytes: int, weight: float = 1.0
    ) -> None:
        if self.isolation_runs(tag):
            raise ValueError("once is enough")
        super().record_isolation(tag, resident_bytes, peak_bytes, weight)


@pytest.mark.parametrize("make", [UnknownRaises, RecordRaises, EstimateRaises, Told])
def test_an_estimator_that_raises_keeps_no_copy_from_its_release(
    make: Callable[[], ResourceEstimator], caplog: pytest.LogCaptureFixture
) -> None:
    device = FakeDevice()
    with ModelManager(device, estimator=make(), learn_in_use=False) as manager:
        for _ in range(3):
            lease = manager.lease("m", lambda: FakeModel(device, 100.0))
            lease.release()
            assert lease.over
            assert [copy.state for copy in manager.snapshot().copies] == ["idle"]
        manager.force_reset()
        assert manager.wait_until_free(None)
        with manager.lease("m", lambda: FakeModel(device, 300.0)):  # it has grown
            pass
    assert "the estimator failed for 'm'" in caplog.text


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), RuntimeError("away")])
def test_a_monitor_that_raises_anything_at_first_is_a_failed_reading(error: BaseException) -> None:
    device = FakeDevice()
    device.fail_next(error)
    with ModelManager(device, costs={"m": 100.0}) as manager:
        (snapshot,) = manager.snapshot().devices
        assert snapshot.reading_failed is not None
        assert snapshot.used_bytes is None
        with manager.lease("m", lambda: FakeModel(device, 100.0)):  # read again, and well
            pass


def test_a_monitor_that_hangs_from_the_first_holds_up_nobody_who_makes_a_manager() -> None:
    answered = threading.Event()

    class Hanging(FakeDevice):
        def get_stats(self) -> tuple[float, float, float]:
            wait_for(answered)
            return super().get_stats()

    device = Hanging()
    manager = Party(lambda: ModelManager(device, costs={"m": 100.0})).result()
    (snapshot,) = manager.snapshot().devices
    assert snapshot.reading_failed == "reading device did not end within 1 s"
    answered.set()
    manager.shutdown()

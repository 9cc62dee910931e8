"""Measurements that others spoiled are put right, and readings that failed harm nobody else."""

from __future__ import annotations

import threading

import pytest

from conformance.situations import PolledMonitor, loader_of, manager_of, serve_once
from modelmgr import ReadingError
from modelmgr.runtime.bounded_reader import BoundedReader
from modelmgr.scheduling.settings import IsolationMode
from modelmgr.testing.fake_device import FakeDevice, FakeModel
from modelmgr.units import GIB, MIB
from support.parties import wait_until
from support.scripted_reader import ScriptedReader


def test_a_reading_that_was_given_up_does_not_fail_the_next_ones() -> None:
    reader = BoundedReader(ScriptedReader(GIB))
    reader.read()  # its thread is there and idle
    with pytest.raises(ReadingError):
        reader.read(0.0)  # given up before the thread could begin
    for _ in range(50):
        threading.Event().wait(0.001)
        try:
            reading = reader.read()
        except ReadingError:
            continue
        assert reading.used_bytes == GIB
        return
    pytest.fail("no reading is under way, and every one fails")


@pytest.mark.parametrize("isolation", ["exclusive", "beside"])
def test_a_model_that_has_just_run_here_is_not_said_never_to_fit(isolation: IsolationMode) -> None:
    device = FakeDevice()
    with manager_of(device, isolation=isolation) as manager:
        serve_once(manager, "m", loader_of(device, 8800.0))  # of 9,000
        assert not serve_once(manager, "m", loader_of(device, 8800.0)).closed


def test_what_others_freed_while_a_model_was_measured_is_put_right_by_its_later_loads() -> None:
    device = FakeDevice(foreign_mb=1500.0)

    def load() -> FakeModel:
        model = FakeModel(device, 2000.0)
        device.foreign_mb = 0.0
        return model

    with manager_of(device) as manager:
        serve_once(manager, "m", load)
        for _ in range(4):
            manager.force_reset()
            wait_until(lambda: not manager.snapshot().copies, "it is gone")
            serve_once(manager, "m", loader_of(device, 2000.0))
            costs = manager.driver.scheduler.model("m").costs
            assert costs is not None
            assert costs.resident_bytes == 2000 * MIB  # at once
        assert manager.estimator.get_estimate("m") == pytest.approx(2000.0, rel=0.05)


def test_a_monitor_that_did_not_poll_during_the_job_teaches_nothing() -> None:
    device = FakeDevice()
    with manager_of(PolledMonitor(device, interval_s=3600.0), poll_interval=0.02) as manager:
        serve_once(manager, "m", loader_of(device, 3000.0))
        assert manager.estimator.is_unknown("m")

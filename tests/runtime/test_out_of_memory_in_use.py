"""A copy that runs out of memory in use goes, its estimate rises, and ``run`` tries once more."""

from __future__ import annotations

import pytest

from modelmgr import ModelManager, OutOfMemoryError
from modelmgr.testing.fake_device import FakeDevice, FakeModel
from support.parties import wait_until


def test_a_copy_that_ran_out_of_memory_is_unloaded_and_its_estimate_rises() -> None:
    device = FakeDevice(10_000.0)
    with ModelManager(device, costs={"m": 4000.0}) as manager:
        loaded: list[FakeModel] = []

        def load() -> FakeModel:
            loaded.append(FakeModel(device, 3500.0, 8000.0))
            return loaded[-1]

        lease = manager.lease("m", load)
        with pytest.raises(OutOfMemoryError), lease as model:
            model.infer(1)
        assert lease.exhausted
        wait_until(lambda: loaded[0].closed, "the copy is closed")
        (eviction,) = manager.evictions()
        assert (eviction.tag, eviction.reason) == ("m", "out-of-memory")
        assert manager.estimator.estimate("m").upper_bytes > 4000 * 2**20  # type: ignore[union-attr]  # it was preloaded
        wait_until(lambda: manager.snapshot().copies == (), "the copy is gone")
        with manager.lease("m", lambda: FakeModel(device, 3500.0)) as again:
            assert again is not loaded[0]
            (copy,) = manager.snapshot().copies
            assert copy.charged_bytes >= 4000 * 1.125 * 2**20


def test_any_other_error_in_the_body_leaves_the_copy_loaded() -> None:
    device = FakeDevice()
    with ModelManager(device, costs={"m": 1000.0}) as manager:
        with (
            pytest.raises(ValueError, match="mine"),
            manager.lease("m", lambda: FakeModel(device, 900.0)),
        ):
            raise ValueError("mine")
        with manager.lease("m", lambda: FakeModel(device, 900.0), timeout=0):
            pass
        assert device.loads == 1
        assert manager.evictions() == ()


def test_run_tries_again_with_the_device_to_itself_and_harms_nobody() -> None:
    device = FakeDevice(10_000.0)
    with ModelManager(
        device, slack_percentage=0.0, costs={"small": 6000.0, "m": 2000.0}
    ) as manager:
        small: list[FakeModel] = []

        def load_small() -> FakeModel:
            small.append(FakeModel(device, 6000.0))
            return small[-1]

        with manager.lease("small", load_small):
            pass
        # It needs 7000 MB in use, of which nobody was told: with the other one gone it fits.
        answer = manager.run(
            "m", lambda: FakeModel(device, 2000.0, 5000.0), lambda model: model.infer("batch")
        )
        assert answer == "batch"
        assert small[0].closed
        assert [eviction.reason for eviction in manager.evictions()] == [
            "out-of-memory",
            "isolation",
        ]
        snapshot = manager.snapshot()
        assert [copy.tag for copy in snapshot.copies] == ["m"]
        assert snapshot.queue == ()


def test_run_fails_with_the_models_own_error_when_it_runs_out_alone_as_well() -> None:
    device = FakeDevice(10_000.0)
    calls: list[object] = []

    def use(model: FakeModel) -> object:
        calls.append(model)
        return model.infer(1)

    with ModelManager(device, costs={"m": 2000.0}) as manager:
        with pytest.raises(OutOfMemoryError):
            manager.run("m", lambda: FakeModel(device, 2000.0, 9000.0), use)
        assert len(calls) == 2
        assert calls[0] is not calls[1]
        wait_until(lambda: manager.snapshot().copies == (), "the copy is gone")
        assert device.get_stats()[0] == 0.0


def test_run_calls_the_function_once_where_nothing_goes_wrong_and_lets_other_errors_pass() -> None:
    device = FakeDevice()
    calls: list[object] = []

    def use(model: FakeModel) -> int:
        calls.append(model)
        return len(calls)

    def fail(_: FakeModel) -> None:
        raise KeyError("mine")

    with ModelManager(device, costs={"m": 1000.0}) as manager:
        assert manager.run("m", lambda: FakeModel(device, 900.0), use) == 1
        with pytest.raises(KeyError, match="mine"):
            manager.run("m", lambda: FakeModel(device, 900.0), fail)
        assert device.loads == 1
        assert not any(copy.holder for copy in manager.snapshot().copies)

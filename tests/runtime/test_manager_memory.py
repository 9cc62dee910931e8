"""What the manager learns and promises about memory: never over the limit, never a false zero."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from modelmgr import AcquireTimeoutError, DoesNotFitError, ModelManager, UsageError
from modelmgr.devices.reading import MemoryReading
from modelmgr.records.devices import DeviceDescription
from modelmgr.runtime.bounded_reader import BoundedReader
from modelmgr.testing.fake_device import FakeDevice, FakeModel
from modelmgr.units import GIB, MIB
from support.parties import Party, wait_for, wait_until

Make = Callable[[], FakeModel]


def loader_of(device: FakeDevice, resident_mb: float, running_mb: float = 0.0) -> Make:
    return lambda: FakeModel(device, resident_mb, running_mb)


@pytest.mark.parametrize("isolation", ["exclusive", "beside"])
def test_an_unknown_model_is_measured_by_its_first_job(isolation: str) -> None:
    device = FakeDevice(foreign_mb=500.0)
    with ModelManager(device, isolation=isolation) as manager:  # type: ignore[arg-type]  # parametrised literal
        assert manager.estimator.is_unknown("m")
        with manager.lease("m", loader_of(device, 3000.0)):
            pass
        assert manager.estimator.get_estimate("m") == pytest.approx(3000.0, rel=0.01)


def test_deltas_and_absolutes_are_never_mixed() -> None:
    device = FakeDevice(foreign_mb=2000.0)
    with ModelManager(device) as manager:
        with manager.lease("first", loader_of(device, 1000.0)):
            pass
        with manager.lease("second", loader_of(device, 3000.0)):
            pass
        assert manager.estimator.get_estimate("second") == pytest.approx(3000.0, rel=0.01)


def test_exclusive_isolation_flushes_the_device_and_says_so() -> None:
    device = FakeDevice()
    with ModelManager(device, isolation="exclusive") as manager:
        with manager.lease("a", loader_of(device, 1000.0)) as a:
            pass
        with manager.lease("b", loader_of(device, 1000.0)):
            assert a.closed
        (eviction,) = manager.evictions()
        assert (eviction.tag, eviction.reason, eviction.requested_by) == ("a", "isolation", "b")
        assert eviction.freed_bytes == 1000 * MIB
        assert [c.tag for c in eviction.candidates] == ["a"]


def test_beside_isolation_leaves_the_residents_alone() -> None:
    device = FakeDevice()
    with ModelManager(device, isolation="beside") as manager:
        with manager.lease("a", loader_of(device, 1000.0)) as a:
            pass
        with manager.lease("b", loader_of(device, 1000.0)):
            assert not a.closed
        assert manager.evictions() == ()


def test_while_an_unknown_model_is_measured_from_aggregates_hits_wait_for_its_release() -> None:
    device = FakeDevice()
    with ModelManager(device, costs={"known": 1000.0}) as manager:
        with manager.lease("known", loader_of(device, 1000.0)):
            pass
        unknown = manager.lease("unknown", loader_of(device, 500.0))
        with pytest.raises(AcquireTimeoutError):
            manager.lease("known", loader_of(device, 1000.0), timeout=0)
        unknown.release()
        with manager.lease("known", loader_of(device, 1000.0), timeout=0):
            pass


def test_a_failed_reading_never_looks_like_free_memory() -> None:
    device = FakeDevice(foreign_mb=6000.0)
    costs = {"m": 2500.0, "n": 2500.0}
    with ModelManager(device, costs=costs) as manager:
        held = manager.lease("m", loader_of(device, 2500.0))
        device.fail_next(*[RuntimeError("driver hiccup")] * 10_000)
        with pytest.raises(AcquireTimeoutError):
            manager.lease("n", loader_of(device, 2500.0), timeout=0.05)
        (seen,) = manager.snapshot().devices
        assert seen.reading_failed is not None
        assert "driver hiccup" in seen.reading_failed
        assert seen.used_bytes == 8500 * MIB
        with pytest.raises(AcquireTimeoutError):
            manager.lease("n", loader_of(device, 2500.0), timeout=0)
        held.release()
        device.answer_truly()


@pytest.mark.parametrize(
    "figures",
    [
        (float("nan"), 0.0, 10_000.0),
        (-1.0, 0.0, 10_000.0),
        (20_000.0, 0.0, 10_000.0),
        (0.0, 0.0, 0.0),
    ],
)
def test_figures_that_cannot_be_true_are_a_failed_reading(
    figures: tuple[float, float, float],
) -> None:
    device = FakeDevice()
    device.fail_next(*[figures] * 10_000)
    with ModelManager(device, costs={"m": 100.0}) as manager:
        with pytest.raises(AcquireTimeoutError):
            manager.lease("m", loader_of(device, 100.0), timeout=0.05)
        assert device.loads == 0
        assert manager.snapshot().devices[0].used_bytes is None


def test_requests_wait_while_no_reading_ever_came_and_go_on_with_the_first() -> None:
    device = FakeDevice()
    device.fail_next(*[RuntimeError("not yet")] * 4)
    with ModelManager(device, costs={"m": 100.0}, poll_interval=0.01) as manager:
        with manager.lease("m", loader_of(device, 100.0), timeout=20):
            pass
        assert manager.snapshot().devices[0].limit_bytes == 9000 * MIB


def test_foreign_memory_is_noticed_at_the_next_reading() -> None:
    device = FakeDevice()
    with ModelManager(device, costs={"m": 4000.0}, poll_interval=0.01) as manager:
        device.foreign_mb = 7000.0
        with pytest.raises(AcquireTimeoutError):
            manager.lease("m", loader_of(device, 4000.0), timeout=0.05)
        waiter = Party(lambda: manager.lease("m", loader_of(device, 4000.0)))
        device.foreign_mb = 1000.0
        waiter.result().release()


def test_memory_that_comes_back_late_causes_one_eviction_not_three() -> None:
    device = FakeDevice()
    kept: list[FakeModel] = []
    costs = {f"m{i}": 2000.0 for i in range(4)} | {"new": 2500.0}

    def unload(instance: FakeModel) -> None:
        if kept:
            instance.close()
        else:
            kept.append(instance)

    with ModelManager(
        device,
        costs=costs,
        unload=unload,
        poll_interval=0.01,
        eviction_cooldown_seconds=0.0,
        policy="lru",
    ) as manager:
        for i in range(4):
            with manager.lease(f"m{i}", loader_of(device, 2000.0)):
                pass
        waiter = Party(lambda: manager.lease("new", loader_of(device, 2500.0)))
        wait_until(lambda: len(kept) == 1, "one victim is unloaded")
        for _ in range(5):
            manager.pin("nobody")  # any event: the plan under way must not grow
        assert len(manager.evictions()) == 1
        kept[0].close()
        waiter.result().release()
        assert [e.tag for e in manager.evictions()] == ["m0"]
        assert device.highest_mb <= 9000.0


def test_out_of_memory_at_load_is_retried_once_on_a_drained_device() -> None:
    device = FakeDevice()
    with ModelManager(device, costs={"a": 4000.0, "b": 4000.0}) as manager:
        with manager.lease("a", loader_of(device, 4000.0)) as a:
            pass
        with manager.lease("b", loader_of(device, 7000.0)):
            assert a.closed


def test_a_model_too_large_for_the_device_fails_with_the_loaders_own_error() -> None:
    device = FakeDevice()
    with (
        ModelManager(device) as manager,
        pytest.raises(RuntimeError, match="more than the fake device has"),
    ):
        manager.lease("m", loader_of(device, 20_000.0))


def test_a_stressed_device_is_never_over_its_limit() -> None:
    device = FakeDevice()
    sizes = {f"m{i}": 700.0 + 450.0 * i for i in range(7)}
    limit_mb = 9000.0

    def work(seed: int, manager: ModelManager) -> int:
        draw = random.Random(seed)
        done = 0
        for _ in range(40):
            tag = draw.choice(list(sizes))
            with manager.lease(tag, loader_of(device, sizes[tag]), timeout=60):
                done += 1
        return done

    with ModelManager(device, eviction_cooldown_seconds=0.0) as manager:
        parties = [Party(partial(work, seed, manager)) for seed in range(8)]
        assert sum(party.result() for party in parties) == 8 * 40
        assert device.highest_mb <= limit_mb
        assert manager.snapshot().queue == ()
        # A reservation ends with a reading that shows its load, which may come after the release.
        wait_until(lambda: manager.snapshot().devices[0].reserved_bytes == 0, "nothing is reserved")


def test_a_monitor_needs_only_get_stats() -> None:
    class Bare:
        def get_stats(self) -> tuple[float, float, float]:
            return 0.0, 0.0, 1000.0

    with ModelManager(Bare(), costs={"m": 100.0}, poll_interval=0.01) as manager:
        with manager.lease("m", object):
            pass
        manager.estimator.set_initial_estimate("big", 5000.0)
        with pytest.raises(DoesNotFitError):
            manager.lease("big", object)


def test_several_devices_are_one_manager_and_isolation_on_one_leaves_the_other_alone() -> None:
    devices = [
        DeviceDescription(name=name, kind="fixed", total_bytes=10 * GIB) for name in ("one", "two")
    ]
    loading, go = threading.Event(), threading.Event()

    def slow() -> object:
        loading.set()
        wait_for(go)
        return object()

    with ModelManager(devices=devices, costs={"known": 1000.0}, isolation="exclusive") as manager:
        unknown = Party(lambda: manager.lease("unknown", slow))
        wait_for(loading)
        busy = next(d.name for d in manager.snapshot().devices if d.isolating == "unknown")
        with manager.lease("known", object) as known:
            assert known is not None
            on = {c.tag: c.device for c in manager.snapshot().copies}
            assert on["known"] != busy
        go.set()
        unknown.result().release()


def test_a_stated_size_teaches_nothing_about_a_model() -> None:
    devices = [DeviceDescription(name="one", kind="fixed", total_bytes=10 * GIB)]
    with ModelManager(devices=devices) as manager:
        with manager.lease("m", object):
            pass
        assert manager.estimator.is_unknown("m")


def test_monitor_and_devices_together_are_refused() -> None:
    devices = [DeviceDescription(name="one", kind="fixed", total_bytes=GIB)]
    with pytest.raises(UsageError):
        ModelManager(FakeDevice(), devices=devices)
    with pytest.raises(UsageError):
        ModelManager(devices=[])
    with pytest.raises(UsageError, match="policy"):
        ModelManager(FakeDevice(), policy="fifo")


def test_costs_come_as_a_mapping_and_nonsense_is_refused(tmp_path: Path) -> None:
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError):
            ModelManager(FakeDevice(), costs={"m": bad})
    with pytest.raises(UsageError):
        ModelManager(FakeDevice(), costs=tmp_path / "missing.json")


class _OwnProcess(FakeModel):
    """A model whose process no reading tells apart, as on a GPU seen from within a container."""

    @property
    def alive(self) -> bool:
        return not self.closed


class _OwnProcessLoader:
    own_process = True

    def __init__(self, device: FakeDevice, resident_mb: float) -> None:
        self._device = device
        self._resident_mb = resident_mb
        self.made: list[_OwnProcess] = []

    def __call__(self) -> _OwnProcess:
        self.made.append(_OwnProcess(self._device, self._resident_mb))
        return self.made[-1]


def test_foreign_use_that_a_figure_too_high_hid_is_seen_before_its_room_is_given_away() -> None:
    """A process that is gone gave back its whole charge, also what others had of it by then."""
    device = FakeDevice()
    costs = {"small": 5000.0, "large": 7000.0}
    with ModelManager(device, costs=costs) as manager:
        with manager.lease("small", _OwnProcessLoader(device, 2000.0)):
            pass
        device.foreign_mb = 3000.0  # together what the one copy is taken to hold
        with pytest.raises(AcquireTimeoutError):
            manager.lease("large", _OwnProcessLoader(device, 7000.0), timeout=0.2)
        assert device.highest_mb <= 9000.0


def test_what_a_gone_process_hid_is_seen_though_a_later_reading_was_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The watching thread's reading begins later, is taken in first, and knows of no end."""
    device = FakeDevice()
    costs = {"small": 5000.0, "large": 7000.0}
    with ModelManager(device, costs=costs) as manager:
        with manager.lease("small", _OwnProcessLoader(device, 2000.0)):
            pass
        device.foreign_mb = 3000.0
        overtaken = [threading.current_thread()]
        read = BoundedReader.read

        def read_and_be_overtaken(self: BoundedReader, within_s: float = 1.0) -> MemoryReading:
            reading = read(self, within_s)
            thread = threading.current_thread()
            if thread.name.startswith("modelmgr-unload") and thread not in overtaken:
                overtaken.append(thread)
                manager.driver.watch.read(0)
            return reading

        monkeypatch.setattr(BoundedReader, "read", read_and_be_overtaken)
        with pytest.raises(AcquireTimeoutError):
            manager.lease("large", _OwnProcessLoader(device, 7000.0), timeout=0.2)
        assert len(overtaken) == 2
        assert device.highest_mb <= 9000.0


def test_foreign_use_that_a_dead_process_hid_is_seen_before_its_room_is_given_away() -> None:
    device = FakeDevice()
    loader = _OwnProcessLoader(device, 2000.0)
    costs = {"small": 5000.0, "large": 7000.0}
    with ModelManager(device, costs=costs) as manager:
        lease = manager.lease("small", loader)
        device.foreign_mb = 3000.0
        large = _OwnProcessLoader(device, 7000.0)
        waiting = Party(lambda: manager.lease("large", large, timeout=0.5).release())
        wait_until(lambda: len(manager.snapshot().queue) == 1, "it waits for room")
        loader.made[0].close()  # it dies
        lease.release()
        with pytest.raises(AcquireTimeoutError):
            waiting.result()
        assert device.highest_mb <= 9000.0

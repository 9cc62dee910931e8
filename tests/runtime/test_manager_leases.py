"""What a caller of the manager can rely on about leases: one copy, one holder, fenced, unharmed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from modelmgr import (
    AcquireTimeoutError,
    DoesNotFitError,
    LeaseError,
    ManagerClosedError,
    ModelManager,
    ModelmgrError,
    ShutdownTimeoutError,
    UsageError,
)
from modelmgr.testing.fake_device import FakeDevice, FakeModel
from support.parties import Party, wait_for, wait_until

KNOWN = {"small": 1000.0, "other": 2000.0, "half": 4500.0, "large": 8000.0}


def manager_of(device: FakeDevice, **options: Any) -> ModelManager:
    options.setdefault("costs", KNOWN)
    options.setdefault("eviction_cooldown_seconds", 0.0)
    return ModelManager(device, **options)


def loader_of(device: FakeDevice, tag: str) -> Callable[[], FakeModel]:
    return lambda: FakeModel(device, KNOWN[tag])


def test_a_released_model_is_granted_again_without_a_load() -> None:
    device = FakeDevice()
    with manager_of(device) as manager:
        first = manager.acquire_model("small", loader_of(device, "small"))
        manager.release_model("small", first)
        with manager.lease("small", loader_of(device, "small")) as again:
            assert again is first
        assert device.loads == 1


def test_two_holders_at_once_get_two_copies() -> None:
    device = FakeDevice()
    with manager_of(device) as manager:
        with (
            manager.lease("small", loader_of(device, "small")) as one,
            manager.lease("small", loader_of(device, "small")) as two,
        ):
            assert one is not two
            assert manager.all_models("small") == [one, two]
        assert manager.all_models("never seen") == []


def test_a_double_release_is_refused_and_changes_nothing() -> None:
    device = FakeDevice()
    with manager_of(device) as manager:
        lease = manager.lease("small", loader_of(device, "small"))
        lease.release()
        before = manager.snapshot()
        with pytest.raises(LeaseError):
            lease.release()
        with pytest.raises(LeaseError):
            manager.release_model("small", lease.instance)
        assert [c.state for c in manager.snapshot().copies] == [c.state for c in before.copies]


def test_a_foreign_or_wrongly_tagged_release_is_refused() -> None:
    device = FakeDevice()
    with manager_of(device) as manager:
        lease = manager.lease("small", loader_of(device, "small"))
        with pytest.raises(LeaseError):
            manager.release_model("small", object())
        with pytest.raises(LeaseError, match="'small', not as 'other'"):
            manager.release_model("other", lease.instance)
        assert [c.state for c in manager.snapshot().copies] == ["active"]
        lease.release()


@pytest.mark.parametrize("instance", [None, 0, "", [], "text"])
def test_identity_counts_never_truth_or_equality(instance: object) -> None:
    loads: list[object] = []

    def load() -> object:
        loads.append(instance)
        return instance

    with manager_of(FakeDevice()) as manager:
        for _ in range(2):
            got = manager.acquire_model("small", load)
            assert got is instance
            manager.release_model("small", got)
        assert len(loads) == 1


class _Vague:
    """Compares like an array: equality has no truth."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = object.__hash__


def test_an_array_like_instance_can_be_held_released_and_evicted() -> None:
    device = FakeDevice()
    with manager_of(device) as manager:
        manager.release_model("half", manager.acquire_model("half", _Vague))
        with manager.lease("large", loader_of(device, "large")):
            assert manager.all_models("half") == []


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_what_a_loader_raises_comes_back_unchanged_and_leaves_nothing(
    error: BaseException,
) -> None:
    device = FakeDevice()

    def load() -> object:
        raise error

    with manager_of(device, isolation="exclusive") as manager:
        with pytest.raises(type(error)) as caught:
            manager.lease("unknown", load)
        assert caught.value is error
        seen = manager.snapshot()
        assert seen.copies == ()
        assert seen.queue == ()
        assert seen.devices[0].isolating is None
        assert seen.devices[0].reserved_bytes == 0
        with manager.lease("small", loader_of(device, "small")):
            pass


def test_an_impossible_request_is_refused_at_once_and_evicts_nothing() -> None:
    device = FakeDevice(total_mb=6000.0)
    with manager_of(device, wait_timeout_seconds=None) as manager:
        with manager.lease("small", loader_of(device, "small")) as kept:
            pass
        with pytest.raises(DoesNotFitError) as refused:
            manager.lease("large", loader_of(device, "large"))
        assert refused.value.tag == "large"
        assert manager.all_models("small") == [kept]
        assert manager.evictions() == ()


def test_a_wait_ends_with_the_originals_words_and_both_error_types() -> None:
    device = FakeDevice()
    with manager_of(device) as manager, manager.lease("large", loader_of(device, "large")):
        with pytest.raises(AcquireTimeoutError, match=r"^Timeout waiting to acquire model"):
            manager.lease("half", loader_of(device, "half"), timeout=0.05)
        with pytest.raises(TimeoutError):
            manager.lease("half", loader_of(device, "half"), timeout=0)
        assert issubclass(AcquireTimeoutError, ModelmgrError)
        assert issubclass(ModelmgrError, RuntimeError)
        assert manager.snapshot().queue == ()


def test_a_waiter_is_granted_when_a_release_makes_room() -> None:
    device = FakeDevice()
    with manager_of(device) as manager:
        large = manager.lease("large", loader_of(device, "large"))
        waiter = Party(lambda: manager.lease("half", loader_of(device, "half")))
        wait_until(lambda: len(manager.snapshot().queue) == 1, "the request waits")
        assert not waiter.done
        large.release()
        waiter.result().release()
        assert device.highest_mb <= 9000.0
        assert [(e.tag, e.requested_by) for e in manager.evictions()] == [("large", "half")]


def test_a_hit_and_a_release_do_not_wait_for_anothers_load() -> None:
    device = FakeDevice()
    loading, go = threading.Event(), threading.Event()

    def slow() -> FakeModel:
        loading.set()
        wait_for(go)
        return FakeModel(device, KNOWN["other"])

    with manager_of(device) as manager:
        with manager.lease("small", loader_of(device, "small")):
            pass
        held = manager.lease("half", loader_of(device, "half"))
        load = Party(lambda: manager.lease("other", slow))
        wait_for(loading)
        with manager.lease("small", loader_of(device, "small"), timeout=0):
            held.release()
        assert not load.done
        go.set()
        load.result().release()


def test_two_models_load_at_the_same_time() -> None:
    device = FakeDevice()
    both = threading.Barrier(2, timeout=20)

    def loader(tag: str) -> Callable[[], FakeModel]:
        def load() -> FakeModel:
            both.wait()
            return FakeModel(device, KNOWN[tag])

        return load

    with manager_of(device) as manager:
        one = Party(lambda: manager.lease("small", loader("small")))
        two = Party(lambda: manager.lease("other", loader("other")))
        one.result().release()
        two.result().release()


def test_a_loader_may_not_acquire_from_its_own_manager() -> None:
    device = FakeDevice()
    with manager_of(device) as manager:
        with pytest.raises(UsageError):
            manager.lease("small", lambda: manager.lease("other", loader_of(device, "other")))
        with manager.lease("small", loader_of(device, "small")):
            pass


def test_shutdown_refuses_newcomers_and_waiters_and_can_be_called_twice() -> None:
    device = FakeDevice()
    manager = manager_of(device)
    held = manager.lease("large", loader_of(device, "large"))
    waiter = Party(lambda: manager.lease("half", loader_of(device, "half")))
    wait_until(lambda: len(manager.snapshot().queue) == 1, "the request waits")
    closing = Party(manager.shutdown)
    with pytest.raises(ManagerClosedError):
        waiter.result()
    with pytest.raises(ManagerClosedError):
        manager.lease("small", loader_of(device, "small"))
    assert not held.instance.closed
    held.release()
    closing.result()
    manager.shutdown()
    assert held.instance.closed
    with pytest.raises(ManagerClosedError), manager:
        pass


def test_a_shutdown_that_times_out_names_the_holders_and_unloads_when_they_let_go() -> None:
    device = FakeDevice()
    manager = manager_of(device)
    held = Party(lambda: manager.lease("small", loader_of(device, "small"))).result()
    with pytest.raises(ShutdownTimeoutError, match="'small'") as late:
        manager.shutdown(timeout=0)
    assert len(late.value.holders) == 1
    assert not held.instance.closed
    held.release()
    wait_until(lambda: held.instance.closed, "the copy is unloaded after its release")
    manager.shutdown()


def test_a_copy_that_the_calling_thread_holds_is_not_waited_for() -> None:
    device = FakeDevice()
    manager = manager_of(device)
    lease = manager.lease("small", loader_of(device, "small"))
    manager.shutdown()
    assert not lease.instance.closed
    lease.release()
    wait_until(lambda: lease.instance.closed, "the copy is unloaded after its release")


def test_force_reset_unloads_idle_copies_at_once_and_held_ones_on_release() -> None:
    device = FakeDevice()
    with manager_of(device) as manager:
        with manager.lease("other", loader_of(device, "other")) as idle:
            pass
        held = manager.lease("small", loader_of(device, "small"))
        manager.force_reset()
        wait_until(lambda: idle.closed, "the idle copy is unloaded")
        assert not held.instance.closed
        held.release()
        wait_until(lambda: held.instance.closed, "the held copy is unloaded on release")
        assert manager.estimator.get_estimate("small") == KNOWN["small"]
        with manager.lease("small", loader_of(device, "small")) as fresh:
            assert fresh is not held.instance


def test_an_unload_that_raises_is_logged_and_the_copy_counts_until_its_memory_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    device = FakeDevice()

    def unload(instance: FakeModel) -> None:
        instance.close()
        raise RuntimeError("driver says no")

    with manager_of(device, unload=unload) as manager:
        with manager.lease("half", loader_of(device, "half")):
            pass
        with manager.lease("large", loader_of(device, "large")):
            assert device.highest_mb <= 9000.0
    assert "driver says no" in caplog.text


def test_a_pinned_model_is_never_evicted_and_unpinning_lets_the_waiter_go_on() -> None:
    device = FakeDevice()
    with manager_of(device) as manager:
        manager.pin("half")
        with manager.lease("half", loader_of(device, "half")) as pinned:
            pass
        waiter = Party(lambda: manager.lease("large", loader_of(device, "large")))
        wait_until(lambda: len(manager.snapshot().queue) == 1, "the request waits")
        assert not pinned.closed
        manager.unpin("half")
        waiter.result().release()
        assert pinned.closed


def test_min_model_copies_may_be_zero_and_questions_change_nothing() -> None:
    device = FakeDevice()
    with manager_of(device, min_model_copies=0) as manager:
        assert manager.should_spawn_model("small", None)
        assert not manager.try_enter_isolation_mode("small", None)
        assert manager.try_enter_isolation_mode("stranger", None)
        assert manager.snapshot().copies == ()
        assert manager.evictions() == ()
        assert manager.estimator.is_unknown("stranger")

"""Rows 18 to 26: whoever can be served is served, whoever cannot is told, and nobody is starved."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from conformance.situations import loader_of, manager_of, serve_once, wait_for_queue
from modelmgr import AcquireTimeoutError, DoesNotFitError, ModelManager
from modelmgr.scheduling.settings import IsolationMode
from modelmgr.testing.fake_device import FakeDevice, FakeModel
from support.parties import PATIENCE_S, Party, wait_for

MAX_BYPASS = 8


def test_a_release_and_a_hit_do_not_wait_for_anothers_load() -> None:
    device = FakeDevice()
    began, go = threading.Event(), threading.Event()

    def slow() -> FakeModel:
        began.set()
        wait_for(go)
        return FakeModel(device, 1000.0)

    with manager_of(device, costs={"a": 1000.0, "b": 1000.0}) as manager:
        held = manager.acquire_model("a", loader_of(device, 1000.0))
        loading = Party(lambda: manager.acquire_model("b", slow))
        try:
            wait_for(began)
            release = Party(lambda: manager.release_model("a", held))
            release.result()
            hit = Party(lambda: serve_once(manager, "a", loader_of(device, 1000.0)))
            assert hit.result() is held
            assert not loading.done
        finally:
            go.set()
        manager.release_model("b", loading.result())


def test_models_that_fit_together_load_at_the_same_time() -> None:
    device = FakeDevice()
    both = threading.Barrier(2, timeout=PATIENCE_S)

    def load() -> FakeModel:
        both.wait()
        return FakeModel(device, 1000.0)

    with manager_of(device, costs={"a": 1000.0, "b": 1000.0}) as manager:
        parties = [Party(partial(serve_once, manager, tag, load)) for tag in ("a", "b")]
        for party in parties:
            assert not party.result().closed


def test_a_large_request_that_waits_lets_small_ones_that_fit_pass() -> None:
    device = FakeDevice()
    costs = {"held": 6000.0, "large": 8000.0, "small": 1000.0}
    with manager_of(device, costs=costs) as manager:
        held = manager.lease("held", loader_of(device, 6000.0))
        large = Party(lambda: manager.lease("large", loader_of(device, 8000.0)))
        wait_for_queue(manager, 1)
        small = Party(lambda: serve_once(manager, "small", loader_of(device, 1000.0)))
        assert not small.result().closed
        assert not large.done
        held.release()
        large.result().release()


def test_an_impossible_request_is_refused_at_once_and_evicts_nothing() -> None:
    device = FakeDevice(total_mb=6000.0)
    with manager_of(
        device, costs={"small": 1000.0, "huge": 8000.0}, wait_timeout_seconds=3600.0
    ) as manager:
        small = serve_once(manager, "small", loader_of(device, 1000.0))
        huge = Party(lambda: manager.acquire_model("huge", loader_of(device, 8000.0)))
        with pytest.raises(DoesNotFitError):
            huge.result()
        assert not small.closed
        assert manager.evictions() == ()


def test_nothing_is_evicted_for_a_request_that_would_still_not_fit() -> None:
    device = FakeDevice()
    costs = {"held": 5000.0, "idle": 2000.0, "large": 6000.0}
    with manager_of(device, costs=costs) as manager:
        held = manager.lease("held", loader_of(device, 5000.0))
        idle = serve_once(manager, "idle", loader_of(device, 2000.0))
        large = Party(lambda: manager.lease("large", loader_of(device, 6000.0)))
        wait_for_queue(manager, 1)
        assert not idle.closed
        assert manager.evictions() == ()
        held.release()
        large.result().release()
        assert not idle.closed  # the released copy alone was enough


def test_a_reset_lets_its_waiters_go_on() -> None:
    device = FakeDevice()
    with manager_of(device, costs={"held": 8000.0, "next": 8000.0}) as manager:
        held = manager.acquire_model("held", loader_of(device, 8000.0))
        waiter = Party(lambda: serve_once(manager, "next", loader_of(device, 8000.0)))
        wait_for_queue(manager, 1)
        manager.force_reset()
        assert not held.closed
        manager.release_model("held", held)
        assert not waiter.result().closed


def test_the_time_out_counts_and_not_the_granularity_of_a_lock() -> None:
    device = FakeDevice()
    with manager_of(
        device,
        costs={"held": 8000.0, "next": 8000.0},
        wait_timeout_seconds=0.2,
        lock_timeout_seconds=3600.0,
    ) as manager:
        held = manager.acquire_model("held", loader_of(device, 8000.0))
        waiter = Party(lambda: manager.acquire_model("next", loader_of(device, 8000.0)))
        with pytest.raises(AcquireTimeoutError, match=r"^Timeout waiting to acquire model"):
            waiter.result()
        manager.release_model("held", held)


@pytest.mark.parametrize("isolation", ["exclusive", "beside"])
def test_a_stream_of_hits_does_not_starve_an_unknown_model(isolation: IsolationMode) -> None:
    device = FakeDevice()
    with manager_of(
        device, costs={"known": 1000.0}, isolation=isolation, max_bypass=MAX_BYPASS
    ) as manager:
        load = loader_of(device, 1000.0)
        holding, spare = (manager.lease("known", load) for _ in range(2))
        spare.release()
        unknown = Party(lambda: serve_once(manager, "unknown", loader_of(device, 500.0)))
        wait_for_queue(manager, 1)
        for _ in range(50 * MAX_BYPASS):  # there is always one holder, at any moment
            try:
                following = manager.lease("known", load, timeout=0)
            except AcquireTimeoutError:
                break
            holding.release()
            holding = following
        else:
            pytest.fail("known models were served again and again before the unknown one")
        holding.release()
        assert not unknown.result().closed


@pytest.mark.parametrize("isolation", ["exclusive", "beside"])
def test_a_stream_of_unknown_models_does_not_starve_a_known_one(isolation: IsolationMode) -> None:
    device = FakeDevice()
    served: list[str] = []

    def serve(manager: ModelManager, tag: str) -> None:
        with manager.lease(tag, loader_of(device, 500.0)):
            served.append(tag)

    with manager_of(
        device, costs={"known": 500.0}, isolation=isolation, max_bypass=MAX_BYPASS
    ) as manager:
        first = manager.lease("first", loader_of(device, 500.0))
        known = Party(lambda: serve(manager, "known"))
        wait_for_queue(manager, 1)
        stream: list[Party[None]] = []
        for number in range(3 * MAX_BYPASS):
            stream.append(Party(partial(serve, manager, f"unknown {number}")))
            wait_for_queue(manager, number + 2)
        first.release()
        known.result()
        for party in stream:
            party.result()
        assert served.index("known") <= MAX_BYPASS

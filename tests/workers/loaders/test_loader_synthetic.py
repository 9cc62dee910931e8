"""A synthetic model takes the memory and the time that it states, and gives the memory back."""

from __future__ import annotations

import resource
import time
from types import SimpleNamespace
from typing import Any

import pytest

from modelmgr.devices.process_memory import read_host_memory, reset_peak
from modelmgr.errors import UsageError
from modelmgr.units import MIB
from modelmgr.workers.loaders import synthetic
from modelmgr.workers.loaders.exhaustion import is_out_of_memory
from modelmgr.workers.loaders.synthetic import SyntheticLoader, SyntheticModel
from modelmgr.workload.model_spec import ModelSpec

_SLACK_BYTES = 2 * MIB


def _spec(**options: Any) -> ModelSpec:
    return ModelSpec(tag="stand-in", loader="synthetic", options=options)


def test_the_resident_memory_is_real_and_given_back() -> None:
    before = read_host_memory().anon_bytes
    model = SyntheticLoader().load(_spec(resident_bytes=48 * MIB), device="cpu", seed=0)
    held = read_host_memory().anon_bytes
    model.close()
    after = read_host_memory().anon_bytes
    assert abs(held - before - 48 * MIB) < _SLACK_BYTES
    assert abs(after - before) < _SLACK_BYTES
    assert model.weights_bytes == 48 * MIB


def test_the_load_peak_is_above_the_result() -> None:
    reset_peak()
    before = read_host_memory().resident_bytes
    options = {"resident_bytes": 16 * MIB, "load_peak_bytes": 64 * MIB}
    model = SyntheticLoader().load(_spec(**options), device="cpu", seed=0)
    peak = read_host_memory().peak_bytes - before
    model.close()
    assert abs(peak - 64 * MIB) < _SLACK_BYTES


def test_the_activation_grows_with_the_batch_and_is_freed() -> None:
    model = SyntheticLoader().load(_spec(activation_bytes=8 * MIB), device="cpu", seed=0)
    batch = model.make_batch({"batch_size": 5}, seed=0)
    reset_peak()
    before = read_host_memory()
    assert model.infer(batch) == {"items": 5}
    after = read_host_memory()
    assert abs(after.peak_bytes - before.resident_bytes - 40 * MIB) < _SLACK_BYTES
    assert abs(after.anon_bytes - before.anon_bytes) < _SLACK_BYTES
    assert model.tensor_peak(batch) == 40 * MIB


def test_load_and_service_take_at_least_their_time() -> None:
    started_ns = time.monotonic_ns()
    model = SyntheticLoader().load(_spec(load_ns=3_000_000), device="cpu", seed=0)
    assert time.monotonic_ns() - started_ns >= 3_000_000
    model = SyntheticLoader().load(_spec(service_ns=2_000_000), device="cpu", seed=0)
    started_ns = time.monotonic_ns()
    model.infer(model.make_batch({}, seed=0))
    assert time.monotonic_ns() - started_ns >= 2_000_000


def test_touching_and_freeing_the_activation_is_part_of_the_stated_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Freed after the stated time, a batch of some size took longer than stated.
    now_ns = 0
    happened: list[tuple[str, int]] = []

    def passes(what: str, took_ns: int) -> None:
        nonlocal now_ns
        now_ns += took_ns
        happened.append((what, now_ns))

    class Block:
        def free(self) -> None:
            passes("freed", 10)

    def allocate(size_bytes: int) -> Any:
        if size_bytes:
            passes("touched", 40)
        return Block()

    def sleep_until(due_ns: int) -> None:
        passes("slept", max(0, due_ns - now_ns))

    sizes = dict.fromkeys(("resident_bytes", "load_peak_bytes", "load_ns"), 0)
    model = SyntheticModel(sizes | {"activation_bytes": 8, "service_ns": 100}, allocate, "")
    monkeypatch.setattr(synthetic, "_sleep_until", sleep_until)
    monkeypatch.setattr(synthetic, "time", SimpleNamespace(monotonic_ns=lambda: now_ns))
    now_ns = 0
    happened.clear()
    model.infer(model.make_batch({}, seed=0))
    assert happened == [("touched", 40), ("slept", 90), ("freed", 100), ("slept", 100)]


def test_no_room_is_a_memory_error() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (2**30, hard))
    try:
        with pytest.raises(MemoryError) as caught:
            SyntheticLoader().load(_spec(resident_bytes=2**31), device="cpu", seed=0)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    assert is_out_of_memory(caught.value)


def test_the_estimate_is_what_is_declared() -> None:
    spec = _spec(resident_bytes=100, activation_bytes=7)
    report = SyntheticLoader().estimate(spec, [{"batch_size": 1}, {"batch_size": 3}])
    assert (report.weights_bytes, report.activation_bytes) == (100, (7, 21))
    assert (report.method, report.reason) == ("declared", None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resident_byte": 1}, "did you mean 'resident_bytes'"),
        ({"resident_bytes": -1}, "0 or more, not -1"),
        ({"resident_bytes": True}, "not True"),
        ({"load_ns": 1.5}, "nanoseconds"),
        ({"resident_bytes": "3 parsecs"}, "unknown unit"),
        ({"resident_bytes": 9, "load_peak_bytes": 5}, r"load_peak_bytes \(5\) is below"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SyntheticLoader().check(_spec(**options))


def test_a_dimension_that_it_does_not_have_is_named() -> None:
    spec = ModelSpec(tag="s", loader="synthetic", input={"batch_sise": (1,)})
    with pytest.raises(UsageError, match=r"batch_sise.*did you mean 'batch_size'"):
        SyntheticLoader().check(spec)
    model = SyntheticLoader().load(_spec(), device="cpu", seed=0)
    with pytest.raises(ValueError, match="sequence_length"):
        model.make_batch({"sequence_length": 8}, seed=0)


def test_the_fingerprint_follows_the_options() -> None:
    def fingerprint(size: int) -> str | None:
        model = SyntheticLoader().load(_spec(resident_bytes=size), device="cpu", seed=0)
        model.close()
        return model.fingerprint

    assert fingerprint(4096) == fingerprint(4096) != fingerprint(8192)

"""The whole path on GPUs: the unmodified nvidia-ml-py, a library whose figures a worker moves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from modelmgr.measuring.ledger import ledger_total_bytes
from modelmgr.records.codec import decode_costs
from modelmgr.records.costs import CostDatabase
from support.fake_nvml import FakeNvml, compile_library
from support.nvml_model import CONTEXT_BYTES, ITEM_BYTES, WEIGHTS_BYTES

GIB = 1024**3
TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def machine(tmp_path: Path, library: Path) -> FakeNvml:
    return FakeNvml(tmp_path / "machine", library=library)


def profile(machine: FakeNvml, out: Path, device: str, gpu: int, *owner: int) -> Mapping[str, Any]:
    done = subprocess.run(  # noqa: S603 - our own interpreter on our own file
        [
            sys.executable,
            str(TESTS / "support" / "nvml_model.py"),
            *map(str, (out, device, gpu, *owner)),
        ],
        env={**os.environ, "PYTHONPATH": str(TESTS), **machine.env()},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return cast("Mapping[str, Any]", json.loads(done.stdout))


def database(answer: Mapping[str, Any]) -> CostDatabase:
    return decode_costs(cast("str", answer["database"]).encode())


def test_a_model_is_measured_on_the_gpu_that_was_named(machine: FakeNvml, tmp_path: Path) -> None:
    machine.add_gpu(used=7 * GIB)  # busy with somebody else's work: of no concern
    second = machine.add_gpu(used=2 * GIB, name="Fake RTX 4090")
    answer = profile(machine, tmp_path / "costs.json", "cuda:1", second)
    written = database(answer)
    assert written.machine.device.kind == "cuda"
    assert written.machine.device.name == "Fake RTX 4090"
    assert written.machine.device.driver == "570.00"
    for cost in written.models.values():
        assert cost.error is None
        assert cost.method == "isolation"
        assert cost.resident_bytes is not None
        assert cost.resident_bytes.value == CONTEXT_BYTES + WEIGHTS_BYTES
        assert cost.peak_bytes is not None
        assert cost.peak_bytes.value == CONTEXT_BYTES + WEIGHTS_BYTES + 4 * ITEM_BYTES
        assert cost.peak_bytes.evidence == "sampled"
        assert any("sampled every" in note for note in cost.notes)
        assert [
            shape.activation_bytes.value for shape in cost.shapes if shape.activation_bytes
        ] == [ITEM_BYTES, 4 * ITEM_BYTES]
        assert cost.copies is not None
        assert cost.copies.second_copy_bytes is not None
        assert cost.copies.second_copy_bytes.value == CONTEXT_BYTES + WEIGHTS_BYTES
        assert cost.ledger is not None
        assert cost.ledger.runtime_bytes is None  # no context before the load: not known apart
        assert cost.ledger.weights_bytes == WEIGHTS_BYTES
        assert ledger_total_bytes(cost.ledger) == cost.peak_bytes.value
        assert cost.unload is not None
        assert cost.unload.residue_bytes == 0
    assert answer["highest_bytes"] > 2 * GIB
    assert answer["notices"] == []


@pytest.mark.parametrize("listed", ["under no id that is here", "under another's id"])
def test_in_a_container_figures_are_differences_of_the_whole_device_and_never_zero(
    machine: FakeNvml, tmp_path: Path, listed: str
) -> None:
    gpu = machine.add_gpu(used=2 * GIB)
    owner: list[int] = []
    if listed == "under another's id":
        owner = [os.getpid()]  # the machine's id of the worker happens to be this test's here
    else:
        machine.set_processes(gpu, {2**22 + 1: None})  # beyond the largest id that Linux gives
    written = database(profile(machine, tmp_path / "costs.json", "cuda:0", gpu, *owner))
    for cost in written.models.values():
        assert cost.error is None
        assert cost.method == "aggregate"
        assert cost.resident_bytes is not None
        assert cost.resident_bytes.value == CONTEXT_BYTES + WEIGHTS_BYTES
        assert cost.resident_bytes.evidence == "sampled"
        assert cost.peak_bytes is not None
        assert cost.peak_bytes.value == CONTEXT_BYTES + WEIGHTS_BYTES + 4 * ITEM_BYTES

"""``modelmgr serve`` and ``top`` on GPUs: real processes and an NVML library made for tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import modelmgr as library
from support.command_line import Program
from support.fake_nvml import GIB, FakeNvml, compile_library
from support.served_program import ServedProgram

UUIDS = ["GPU-first", "GPU-second"]
MODELS = """
schema_version: 1
models:
  - {tag: a, loader: python, target: "support.placed_model:load", options: OPTIONS}
  - {tag: b, loader: python, target: "support.placed_model:load", options: OPTIONS}
"""
OPTIONS = f"{{uuids: {UUIDS}, size_bytes: {14 * GIB}}}"


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def machine(tmp_path: Path, nvml: Path) -> FakeNvml:
    made = FakeNvml(tmp_path / "machine", library=nvml)
    for uuid in UUIDS:
        made.add_gpu(uuid=uuid, used=GIB)
    (tmp_path / "models.yaml").write_text(MODELS.replace("OPTIONS", OPTIONS), "utf-8")
    return made


def _environment(machine: FakeNvml) -> dict[str, str]:
    return {**machine.env(), "PYTHONPATH": os.pathsep.join(sys.path)}


def test_every_gpu_is_served_and_a_copy_is_loaded_where_it_was_placed(
    tmp_path: Path, machine: FakeNvml, modelmgr: Program
) -> None:
    environment = _environment(machine)
    with (
        ServedProgram(tmp_path, environment=environment) as served,
        library.connect(served.socket) as manager,
        manager.lease("a", worst_case_mb=15_000) as one,
        manager.lease("b", worst_case_mb=15_000) as other,
    ):
        told = "".join(served.said)
        places = {one.device: one.infer(None), other.device: other.infer(None)}
        shown = modelmgr("top", "--socket", "s", environment=environment).stdout

    assert "cuda:0 (21.6 GiB of 24.0 GiB), cuda:1 (21.6 GiB of 24.0 GiB)" in told
    assert places == {"cuda:0": "GPU-first", "cuda:1": "GPU-second"}
    assert shown.count("used 15.0 GiB") == 2


def test_top_names_a_device_whose_readings_fail(
    tmp_path: Path, machine: FakeNvml, modelmgr: Program
) -> None:
    environment = _environment(machine)
    with (
        ServedProgram(tmp_path, "--device", "cuda:1", environment=environment) as served,
        library.connect(served.socket) as manager,
    ):
        machine.lose(1)
        with pytest.raises(library.AcquireTimeoutError):
            manager.lease("a", timeout=0)
        shown = modelmgr("top", "--socket", "s", environment=environment)

    assert shown.returncode == 0
    (line,) = (line for line in shown.stdout.splitlines() if "reading failed" in line)
    assert "cuda:0" not in shown.stdout
    assert "lost" in line.lower()

"""The NVML library that the tests compile, and processes that use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.fake_nvml import FakeNvml, compile_library
from support.nvml_probe import NvmlProbe, StartProbe


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def machine(tmp_path: Path, nvml_library: Path) -> FakeNvml:
    """A machine with a driver and, so far, no GPU."""
    return FakeNvml(tmp_path / "machine", library=nvml_library)


@pytest.fixture
def probe(machine: FakeNvml) -> Iterator[StartProbe]:
    """Start a process that reads the machine; keyword arguments are environment variables."""
    with ExitStack() as stack:

        def start(**env: str) -> NvmlProbe:
            return stack.enter_context(NvmlProbe({**machine.env(), **env}))

        yield start

"""Running the real program as a user does, and a cost database for it to look at."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from modelmgr.records.costs import (
    Copies,
    CostDatabase,
    CostError,
    DeviceInfo,
    Ledger,
    MachineInfo,
    ModelCost,
    ShapeCost,
    ToolInfo,
    Unload,
)
from modelmgr.records.measured import MeasuredBytes, MeasuredDuration
from modelmgr.units import MIB
from support.warm_program import WarmProgram

Finished = subprocess.CompletedProcess[str]

# A test's own environment must not colour or widen what the program writes.
_LEFT_OUT = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM", "PYTHONWARNINGS"}
# What only a process that starts reads: the interpreter, the linker.
_READ_AT_START = ("PYTHON", "LD_")
PATIENCE_S = 60.0
COMMAND = (sys.executable, "-m", "modelmgr_cli.app")


def clean_environment(**more: str) -> dict[str, str]:
    """Return this environment without what changes how output looks, and with ``more``."""
    return {name: v for name, v in os.environ.items() if name not in _LEFT_OUT} | more


@dataclass(frozen=True, slots=True)
class Program:
    """The program, called in a folder of its own: ``modelmgr("init", "--force")``.

    Attributes:
        folder: where it runs.
        warm: forks what it runs; without, an interpreter is started for each call.
    """

    folder: Path
    warm: WarmProgram | None = None

    def __call__(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 300,
    ) -> Finished:
        """Run it to its end and return what it wrote."""
        changed = environment or {}
        if self.warm is not None and not any(name.startswith(_READ_AT_START) for name in changed):
            return self.warm.run(
                arguments,
                folder=self.folder,
                environment=clean_environment(**changed),
                timeout_s=timeout_s,
            )
        with self.start(*arguments, environment=changed) as process:
            try:
                written = process.communicate(timeout=timeout_s)
            except BaseException:
                process.kill()
                raise
        return Finished(process.args, process.returncode, *written)

    def refused(
        self, *arguments: str, status: int = 2, environment: Mapping[str, str] | None = None
    ) -> str:
        """Run what is bad input and return what is said about it: no result, no traceback."""
        finished = self(*arguments, environment=environment)
        assert (finished.returncode, finished.stdout) == (status, ""), finished.stderr
        assert "Traceback" not in finished.stderr
        return finished.stderr

    def start(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        stdout: IO[str] | int = subprocess.PIPE,
        stderr: IO[str] | int = subprocess.PIPE,
        own_session: bool = False,
        open_files: int | None = None,
    ) -> subprocess.Popen[str]:
        """Start it anew, with a limit of open files where one is given, and return at once."""
        limited = (
            () if open_files is None else ("sh", "-c", f'ulimit -n {open_files}; exec "$@"', "")
        )
        return subprocess.Popen(  # noqa: S603  # our own program
            [*limited, *COMMAND, *arguments],
            stdout=stdout,
            stderr=stderr,
            text=True,
            encoding="utf-8",
            cwd=self.folder,
            env=clean_environment(**(environment or {})),
            start_new_session=own_session,
        )

    def into(self, stdout: IO[str], *arguments: str) -> tuple[int, str]:
        """Run it with this stdout; return its exit status and what it told on stderr."""
        with self.start(*arguments, stdout=stdout) as process:
            _, told = process.communicate(timeout=PATIENCE_S)
        return process.returncode, told


def _bytes(mib: float, *, evidence: str = "exact", spread: float = 0.002) -> MeasuredBytes:
    value = round(mib * MIB)
    return msgspec.convert(
        {
            "value": value,
            "evidence": evidence,
            "interval_95": [round(value * (1 - spread)), round(value * (1 + spread))],
            "samples": [value, value, value],
        },
        MeasuredBytes,
    )


def _ms(median: float) -> MeasuredDuration:
    value = round(median * 1_000_000)
    samples = (round(value * 0.95), value, round(value * 1.1))
    return MeasuredDuration(
        median=value, p95=None, min=samples[0], max=samples[-1], samples=samples
    )


def make_cost(weights_mib: float, activation_mib: float, latency_ms: float) -> ModelCost:
    """Return a model's cost whose ledger adds up, with a guess that is 1 % off."""
    runtime, cache, rest = 145.0, 3.5, 1.25
    resident = runtime + weights_mib + rest
    peak = resident + activation_mib + cache
    return ModelCost(
        initial_estimate_bytes=round(peak * 1.002 * MIB),
        resident_bytes=_bytes(resident),
        peak_bytes=_bytes(peak),
        load_peak_bytes=_bytes(resident * 1.3),
        ledger=Ledger(
            runtime_bytes=round(runtime * MIB),
            weights_bytes=round(weights_mib * MIB),
            activation_bytes=round(activation_mib * MIB),
            cache_bytes=round(cache * MIB),
            unaccounted_bytes=round(peak * MIB)
            - sum(round(line * MIB) for line in (runtime, weights_mib, activation_mib, cache)),
        ),
        copies=Copies(second_copy_bytes=_bytes(weights_mib + 14, evidence="sampled")),
        shapes=tuple(
            ShapeCost(
                dims={"batch_size": batch, "sequence_length": 128},
                activation_bytes=_bytes(activation_mib * batch / 4),
                latency_ns=_ms(latency_ms * batch / 4),
                throughput_per_s=4000 / latency_ms,
            )
            for batch in (1, 4)
        ),
        load_ns=_ms(1234.5),
        unload=Unload(reclaim_ns=_ms(35), residue_bytes=0),
        interval_95_bytes=(round(peak * 0.998 * MIB), round(peak * 1.002 * MIB)),
        observations=3,
        fingerprint="sha256:" + "ab" * 32,
        estimate={
            "weights_bytes": round(weights_mib * MIB),
            "activation_bytes": round(activation_mib * 1.01 * MIB),
            "method": "fake-tensor",
        },
        notes=("peak read from VmHWM",),
    )


def make_database() -> CostDatabase:
    """Return a database of three measured models and one that failed."""
    return CostDatabase(
        created_at="2026-01-02T03:04:05Z",
        tool=ToolInfo(name="modelmgr", version="0.1.0"),
        machine=MachineInfo(
            os="Linux 6.1",
            cpu="Some CPU",
            python="3.11.7",
            packages={"torch": "2.13.0"},
            device=DeviceInfo(kind="host", name="host", total_bytes=12 * 1024 * MIB),
        ),
        models={
            "bert-base": make_cost(417.6, 171.3, 145.1),
            "t5-small": make_cost(230.8, 12.4, 32.75),
            "a-model-with-a-rather-long-name-of-its-own": make_cost(4096, 880, 2345),
            "broken": ModelCost(
                error=CostError(
                    kind="ModelLoadError",
                    message="no module named 'my_package'\ninstall it, or correct the target",
                )
            ),
        },
    )

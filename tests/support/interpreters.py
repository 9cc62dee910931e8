"""Python in interpreters of its own, which see what the tests see."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PATIENCE_S = 200.0


def environment(**more: str) -> dict[str, str]:
    """Return this environment with ``more``, and with everything that this interpreter imports."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **more}


def run_python(*arguments: str | Path, **variables: str) -> str:
    """Run ``python ARGUMENTS`` to its good end and return what it wrote to stdout.

    What it wrote to stderr fails the test: a warning, an error that was swallowed.
    """
    return _ended(start_python(*arguments, **variables))


def outputs_under_hash_seeds(
    *arguments: str | Path, seeds: tuple[str, ...] = ("0", "1", "4242")
) -> set[str]:
    """Return the different outputs of a program under these hash seeds: one, if all is well."""
    started = [start_python(*arguments, PYTHONHASHSEED=seed) for seed in seeds]
    return {_ended(process) for process in started}


def start_python(*arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
    """Start ``python ARGUMENTS`` and return at once."""
    return subprocess.Popen(  # noqa: S603 - this interpreter and a program of the tests
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
    )


def _ended(process: subprocess.Popen[str]) -> str:
    with process:
        try:
            written, complaints = process.communicate(timeout=PATIENCE_S)
        except BaseException:
            process.kill()
            raise
    assert (process.returncode, complaints) == (0, "")
    return written

"""The same seed gives the same decisions, byte for byte, whatever the interpreter hashes with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import seeded_run

SCRIPT = Path(seeded_run.__file__)
EVENTS = 250


def decisions(seed: int, hash_seed: str) -> bytes:
    """Run the script in an interpreter of its own."""
    environment = os.environ | {
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    done = subprocess.run(  # noqa: S603 - our own script, by this very interpreter
        [sys.executable, str(SCRIPT), str(seed), str(EVENTS)],
        env=environment,
        capture_output=True,
        check=True,
        timeout=120,
    )
    return done.stdout


@pytest.mark.parametrize("seed", [1, 2])
def test_decisions_do_not_depend_on_the_hash_seed(seed: int) -> None:
    logs = [decisions(seed, hash_seed) for hash_seed in ("0", "1", "random")]
    assert len(logs[0].splitlines()) > 50
    assert logs[0] == logs[1] == logs[2]
    assert logs[0].decode() == seeded_run.run(seed, EVENTS)


@pytest.mark.parametrize("steady", [True, False], ids=["steady", "moving"])
@pytest.mark.parametrize("seed", range(100, 115))
def test_long_runs_keep_every_promise_and_drain(seed: int, *, steady: bool) -> None:
    """Longer than the state machine's runs: queues fill, tickets age, devices are kept free."""
    log = seeded_run.run(seed, 400, steady=steady)
    assert "Grant(" in log

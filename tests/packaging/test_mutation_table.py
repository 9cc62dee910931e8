"""The table of mutations keeps up with the scheduler: every row still applies, exactly once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def test_every_mutation_still_applies_to_the_scheduler() -> None:
    done = subprocess.run(
        [sys.executable, "results/soak/mutations.py", "--check"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr

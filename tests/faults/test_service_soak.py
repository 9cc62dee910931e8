"""The short form of the soak: clients and workers killed at random, and nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "results" / "soak" / "service_soak.py"
FLAGS = ("--seconds", "10", "--clients", "3", "--threads", "3")


@pytest.mark.slow
def test_nothing_is_lost_when_clients_and_workers_are_killed_at_random(tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, PROGRAM, *FLAGS, "--out", out],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["failures"] == []
    assert found["outcomes"]["granted"] > 0
    assert sum(found["kills"].values()) > 0

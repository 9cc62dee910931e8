"""What every test of the command line uses: the real program, and a cost database to look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelmgr.records.costs import CostDatabase
from support.command_line import Program, make_database
from support.profile_lists import ONE_MODEL
from support.warm_program import WarmProgram


@pytest.fixture
def modelmgr(tmp_path: Path, warm: WarmProgram) -> Program:
    """Return the program, run in an empty folder."""
    return Program(tmp_path, warm)


@pytest.fixture
def started_modelmgr(tmp_path: Path) -> Program:
    """Return the same, started anew for each call: for what the start itself decides."""
    return Program(tmp_path)


@pytest.fixture
def database() -> CostDatabase:
    """Return a database of three measured models and one that failed."""
    return make_database()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A list of one small synthetic model."""
    path = tmp_path / "models.yaml"
    path.write_text(ONE_MODEL)
    return path

"""What every test of the command line uses: the real program, and a cost database to look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelmgr.records.costs import CostDatabase
from support.command_line import Program, make_database


@pytest.fixture
def modelmgr(tmp_path: Path) -> Program:
    """Return the program, run in an empty folder."""
    return Program(tmp_path)


@pytest.fixture
def database() -> CostDatabase:
    """Return a database of three measured models and one that failed."""
    return make_database()

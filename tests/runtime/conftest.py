"""What tests of the runtime use: a check that no process is left behind."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from support.processes import descendants


@pytest.fixture
def nothing_left() -> Generator[None]:
    """Fail the test if this process has a descendant at its end that it had not before."""
    before = descendants(os.getpid())
    yield
    assert descendants(os.getpid()) <= before

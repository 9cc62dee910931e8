"""A launcher that the tests of one file share, and models to start with it."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from modelmgr.workers.launcher import WorkerLauncher


@pytest.fixture(scope="module")
def launcher() -> Generator[WorkerLauncher]:
    with WorkerLauncher() as shared:
        yield shared

"""The same seed gives the same decisions, byte for byte, whatever the interpreter hashes with."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import seeded_run
from support.interpreters import outputs_under_hash_seeds

SCRIPT = Path(seeded_run.__file__)
EVENTS = 250


@pytest.mark.parametrize("seed", [1, 2])
def test_decisions_do_not_depend_on_the_hash_seed(seed: int) -> None:
    (log,) = outputs_under_hash_seeds(SCRIPT, str(seed), str(EVENTS), seeds=("0", "1", "random"))
    assert len(log.splitlines()) > 50
    assert log == seeded_run.run(seed, EVENTS)


@pytest.mark.parametrize("steady", [True, False], ids=["steady", "moving"])
@pytest.mark.parametrize("seed", range(100, 115))
def test_long_runs_keep_every_promise_and_drain(seed: int, *, steady: bool) -> None:
    """Longer than the state machine's runs: queues fill, tickets age, devices are kept free."""
    log = seeded_run.run(seed, 400, steady=steady)
    assert "Grant(" in log

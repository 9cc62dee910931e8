"""The same seeds give the same decisions under every hash seed, in many worlds.

What depends on hashes shows only where something is tied: two devices as empty, several copies to
unload at once. One long run has few of these, many short ones in different worlds have all.
"""

from __future__ import annotations

import os
import subprocess
import sys

from support.virtual_driver import VirtualDriver

SEEDS = 24
EVENTS = 150
# The names of two and of three devices hash in different orders under these.
HASH_SEEDS = ("0", "4", "5")
PROGRAM = f"""
from support.seeded_run import run
for seed in range(500, 500 + {SEEDS}):
    print(seed, run(seed, {EVENTS}, steady=seed % 2 == 0))
"""


def decisions(hash_seed: str) -> bytes:
    """Run all seeds in an interpreter of its own."""
    environment = os.environ | {
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    done = subprocess.run(  # noqa: S603 - our own program, by this very interpreter
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        check=True,
        timeout=200,
    )
    return done.stdout


def test_many_worlds_decide_the_same_under_every_hash_seed() -> None:
    logs = {decisions(hash_seed) for hash_seed in HASH_SEEDS}
    assert len(logs) == 1
    assert logs.pop().count(b"Grant(") > SEEDS


def test_a_reset_unloads_in_the_order_of_birth() -> None:
    driver = VirtualDriver(100)
    for tag in "fbdaec":
        driver.know(tag, 10)
        driver.serve(tag)
    driver.reset()
    assert [unload.copy for unload in driver.unloads()] == [1, 2, 3, 4, 5, 6]

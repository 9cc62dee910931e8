"""The same seeds give the same decisions under every hash seed, in many worlds.

What depends on hashes shows only where something is tied: two devices as empty, several copies to
unload at once. One long run has few of these, many short ones in different worlds have all.
"""

from __future__ import annotations

from support.interpreters import outputs_under_hash_seeds
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


def test_many_worlds_decide_the_same_under_every_hash_seed() -> None:
    (log,) = outputs_under_hash_seeds("-c", PROGRAM, seeds=HASH_SEEDS)
    assert log.count("Grant(") > SEEDS


def test_a_reset_unloads_in_the_order_of_birth() -> None:
    driver = VirtualDriver(100)
    for tag in "fbdaec":
        driver.know(tag, 10)
        driver.serve(tag)
    driver.reset()
    assert [unload.copy for unload in driver.unloads()] == [1, 2, 3, 4, 5, 6]

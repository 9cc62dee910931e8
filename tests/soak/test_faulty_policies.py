"""A policy of somebody else's cannot break a promise, whatever it answers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from modelmgr.scheduling.policies import IdleCopy, Lru
from modelmgr.scheduling.settings import SchedulerSettings
from support.virtual_driver import VirtualDriver

Choice = tuple[int, ...] | None


class Faulty(Lru):
    """Answers always the same."""

    name = "faulty"

    def __init__(self, choice: Choice) -> None:
        self._choice = choice

    def choose(
        self, candidates: Sequence[IdleCopy], values: Sequence[float], need_bytes: int
    ) -> Choice:
        """Return the same victims whatever is needed."""
        del candidates, values, need_bytes
        return self._choice


@pytest.mark.parametrize("choice", [(), (0,), (0, 0), (7,), (-1, -2), None], ids=str)
def test_where_a_choice_does_not_suffice_lru_chooses(choice: Choice) -> None:
    driver = VirtualDriver(100, settings=SchedulerSettings(policy=Faulty(choice)))
    for tag in "abc":
        driver.know(tag, 30)
        driver.serve(tag)
    driver.know("big", 70)
    big = driver.request("big")
    assert [unload.tag for unload in driver.unloads()] == ["a", "b"]
    driver.obey()
    assert driver.granted(big) is not None

"""The interpreter's garbage collector is as it was once the last simulation has ended."""

from __future__ import annotations

import gc
from contextlib import ExitStack

import pytest

from modelmgr.simulation.collecting import seldom_collecting


def test_the_thresholds_come_back_with_the_last_that_overlap() -> None:
    before = gc.get_threshold()
    first, second = ExitStack(), ExitStack()
    first.enter_context(seldom_collecting())
    assert gc.get_threshold()[0] >= 100_000
    second.enter_context(seldom_collecting())
    first.close()
    assert gc.get_threshold()[0] >= 100_000
    second.close()
    assert gc.get_threshold() == before


def test_they_come_back_after_an_error_too() -> None:
    before = gc.get_threshold()
    with pytest.raises(KeyboardInterrupt), seldom_collecting():
        raise KeyboardInterrupt
    assert gc.get_threshold() == before


def test_who_switched_collecting_off_keeps_it_off() -> None:
    before = gc.get_threshold()
    gc.set_threshold(0)
    try:
        with seldom_collecting():
            assert gc.get_threshold()[0] == 0
        assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*before)

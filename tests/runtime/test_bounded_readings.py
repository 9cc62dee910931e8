"""A reading that does not come is a failed one; one that was given up does not fail the next."""

from __future__ import annotations

import contextlib
import threading

from modelmgr import ReadingError
from modelmgr.devices.reading import MemoryReading
from modelmgr.runtime.bounded_reader import BoundedReader
from modelmgr.units import GIB
from support.parties import wait_for, wait_until
from support.scripted_reader import ScriptedReader


class HangingReader(ScriptedReader):
    """Its readings end when the test lets them."""

    def __init__(self) -> None:
        super().__init__(GIB)
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def read(self) -> MemoryReading:
        self.begun.set()
        wait_for(self.go_on)
        return super().read()


def test_a_reading_that_was_given_up_before_it_began_does_not_fail_the_next_ones() -> None:
    """It was passed over, and every later reading failed for ever."""
    for _ in range(20):
        reader = BoundedReader(ScriptedReader(GIB))
        reader.read()  # its thread is there and idle
        with contextlib.suppress(ReadingError):  # it may also be in time
            reader.read(0.0)
        assert reader.read().used_bytes == GIB


def test_while_a_reading_hangs_others_fail_at_once_and_afterwards_they_are_good_again() -> None:
    hanging = HangingReader()
    reader = BoundedReader(hanging)

    def hangs() -> bool:
        try:
            reader.read(0.01)
        except ReadingError as error:
            return "has not ended for" in str(error)
        return False

    wait_until(hangs, "the reading is known to hang")
    hanging.go_on.set()

    def answers() -> bool:
        try:
            return reader.read().used_bytes == GIB
        except ReadingError:
            return False

    wait_until(answers, "readings are good again")

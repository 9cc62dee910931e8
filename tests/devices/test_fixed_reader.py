"""A device of a stated size says what it was told, and nothing else."""

from __future__ import annotations

import pytest

from modelmgr.devices.fixed import FixedReader
from modelmgr.devices.reading import MemoryReader
from modelmgr.errors import UsageError
from modelmgr.records.devices import DeviceDescription
from modelmgr.units import GIB

DEVICE = DeviceDescription(name="fixed:8GiB", kind="fixed", total_bytes=8 * GIB)


def test_a_fixed_device_says_what_it_was_told() -> None:
    reader = FixedReader(DEVICE, used_bytes=GIB)
    assert (reader.read().used_bytes, reader.read().total_bytes) == (GIB, 8 * GIB)
    reader.used_bytes = 2 * GIB
    assert reader.read().used_bytes == 2 * GIB
    assert reader.read().processes is None


def test_a_fixed_device_is_a_reader_like_any_other() -> None:
    reader: MemoryReader = FixedReader(DEVICE)
    reader.track(1)
    reader.untrack(1)
    reader.close()
    reader.close()
    assert reader.description == DEVICE


def test_a_negative_figure_is_refused() -> None:
    reader = FixedReader(DEVICE, used_bytes=5)
    with pytest.raises(UsageError, match="-1"):
        reader.used_bytes = -1
    assert reader.read().used_bytes == 5

"""Readers for the devices that a manager is to manage."""

from __future__ import annotations

from collections.abc import Sequence

from modelmgr.devices.fixed import FixedReader
from modelmgr.devices.reading import MemoryReader
from modelmgr.errors import DeviceError, UsageError
from modelmgr.records.devices import DeviceDescription


def open_readers(devices: Sequence[DeviceDescription] | None, slack: float) -> list[MemoryReader]:
    """Open a reader for each device; those of the machine where none are named."""
    from modelmgr.devices.discovery import discover  # noqa: PLC0415 - opens NVML

    if devices is None:
        return list(discover(slack=slack))
    if not devices:
        raise UsageError("devices= is empty; leave it out to manage what the machine has")
    opened: list[MemoryReader] = []
    try:
        opened.extend(_open(description) for description in devices)
    except DeviceError:
        for reader in opened:
            reader.close()
        raise
    return opened


def _open(description: DeviceDescription) -> MemoryReader:
    """Open the reader of one device's kind."""
    match description.kind:
        case "cuda":
            from modelmgr.devices.nvml import NvmlReader  # noqa: PLC0415 - opens NVML

            return NvmlReader(description)
        case "host":
            from modelmgr.devices.host import HostReader  # noqa: PLC0415 - reads /proc

            return HostReader(description)
        case "fixed" | "virtual":
            return FixedReader(description)

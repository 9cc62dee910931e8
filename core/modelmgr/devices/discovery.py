"""Which devices there are, and a reader for the one that a person named.

Owns the names that ``--device`` takes. The readers do the reading.
"""

from __future__ import annotations

import msgspec

from modelmgr.devices.fixed import FixedReader
from modelmgr.devices.host import HostReader, describe_host
from modelmgr.devices.nvml import NvmlReader, list_devices
from modelmgr.devices.reading import MemoryReader
from modelmgr.errors import UsageError
from modelmgr.records.devices import DeviceDescription
from modelmgr.units import format_bytes, parse_bytes

_FIXED = "fixed:"


def discover(budget_bytes: int | None = None, slack: float = 0.1) -> tuple[MemoryReader, ...]:
    """Return a reader for each GPU that this process may use, else one for the host's memory.

    Args:
        budget_bytes: the most that models may take of each device. On the host it is the device's
            size (default: half of what is available); a GPU keeps its size and gets the slack that
            leaves this much.
        slack: share of each device that stays free, 0 to 1.

    Raises:
        UsageError: the budget or slack makes no sense for a device.
        ReadingError: there is a driver, or a kernel, that does not tell.
    """
    _check(budget_bytes, slack)
    devices = list_devices(slack=slack)
    if devices:
        return tuple(NvmlReader(_limited(device, budget_bytes)) for device in devices)
    return (HostReader(describe_host(budget_bytes, slack=slack)),)


def open_reader(name: str, *, budget_bytes: int | None = None, slack: float = 0.1) -> MemoryReader:
    """Return a reader for a device by name.

    Args:
        name: ``auto`` (the first GPU, else the host), ``host``, ``cuda`` (the first GPU),
            ``cuda:N``, ``cuda:N/mig:M``, or ``fixed:SIZE`` such as ``fixed:24GiB``.
        budget_bytes: as for ``discover``.
        slack: as for ``discover``.

    Raises:
        UsageError: there is no such device (the message lists those there are), or the budget or
            slack makes no sense for it.
        ReadingError: there is a driver, or a kernel, that does not tell.
    """
    _check(budget_bytes, slack)
    if name.startswith(_FIXED):
        return FixedReader(_limited(_fixed(name, slack), budget_bytes))
    if name == "host":
        return HostReader(describe_host(budget_bytes, slack=slack))
    devices = list_devices(slack=slack)
    if name == "auto" and not devices:
        return HostReader(describe_host(budget_bytes, slack=slack))
    for device in devices:
        if name in {device.name, "auto", "cuda"}:
            return NvmlReader(_limited(device, budget_bytes))
    known = ", ".join((*(device.name for device in devices), "host", "fixed:SIZE", "auto"))
    raise UsageError(f"there is no device {name!r} here; there are: {known}")


def _check(budget_bytes: int | None, slack: float) -> None:
    if budget_bytes is not None and budget_bytes <= 0:
        raise UsageError(f"a budget of {format_bytes(budget_bytes)} holds no model; give a size")
    if not 0 <= slack < 1:
        raise UsageError(f"a slack of {slack} makes no sense; give 0 or more, and less than 1")


def _limited(device: DeviceDescription, budget_bytes: int | None) -> DeviceDescription:
    """Return the device with enough slack that no more than the budget can be used."""
    if budget_bytes is None or budget_bytes >= device.limit_bytes:
        if budget_bytes is not None and budget_bytes > device.total_bytes:
            raise UsageError(
                f"a budget of {format_bytes(budget_bytes)} is more than {device.name} has "
                f"({format_bytes(device.total_bytes)})"
            )
        return device
    slack = 1 - budget_bytes / device.total_bytes
    return msgspec.structs.replace(device, slack=slack)


def _fixed(name: str, slack: float) -> DeviceDescription:
    try:
        total_bytes = parse_bytes(name.removeprefix(_FIXED))
    except ValueError as error:
        raise UsageError(f"device {name!r}: {error}") from error
    if total_bytes == 0:
        raise UsageError(f"device {name!r} holds no model; give a size, as in 'fixed:24GiB'")
    return DeviceDescription(name=name, kind="fixed", total_bytes=total_bytes, slack=slack)

"""Tell two machines apart by what their databases say of them."""

from __future__ import annotations

from typing import NamedTuple

from modelmgr.records.costs import MachineInfo


class Difference(NamedTuple):
    """Something that two files say differently; None where one of them does not say it."""

    name: str
    old: str | None
    new: str | None


def machine_differences(old: MachineInfo, new: MachineInfo) -> tuple[Difference, ...]:
    """Return all that differs, the device first: it moves the figures most.

    The budget is left out: it says what was allowed, not what the machine is.
    """
    pairs: list[tuple[str, object, object]] = [
        (f"device.{name}", getattr(old.device, name), getattr(new.device, name))
        for name in ("kind", "name", "total_bytes", "driver")
    ]
    pairs += [(name, getattr(old, name), getattr(new, name)) for name in ("cpu", "os", "python")]
    packages = dict.fromkeys([*sorted(old.packages), *sorted(new.packages)])
    pairs += [
        (f"packages.{name}", old.packages.get(name), new.packages.get(name)) for name in packages
    ]
    return tuple(
        Difference(name, _text(before), _text(after))
        for name, before, after in pairs
        if before != after
    )


def is_same_device(old: MachineInfo, new: MachineInfo) -> bool:
    """Return whether figures of one hold for the other: same kind, product and size of device.

    On the host the processor is the device's product, whatever budget was given to it.
    """
    if old.device.kind != new.device.kind or old.device.name != new.device.name:
        return False
    if old.device.kind == "host":
        return old.cpu == new.cpu
    return old.device.total_bytes == new.device.total_bytes


def _text(value: object) -> str | None:
    return None if value is None else str(value)

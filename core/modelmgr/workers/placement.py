"""How a worker is told which device to use: the framework's name for it, and the environment.

NVML and CUDA number devices differently (bus order against fastest first, and
``CUDA_VISIBLE_DEVICES`` renumbers), and a MIG instance has no number in CUDA at all. The UUID names
the same device to both: a worker sees that one device alone, as its first.
"""

from __future__ import annotations

import msgspec

from modelmgr.records.devices import DeviceDescription


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where a worker puts its model; ``env`` goes beside the environment of this process."""

    device: str
    env: dict[str, str] = {}


def place(device: DeviceDescription) -> Placement:
    """Return how to tell a worker to use a device."""
    if device.kind != "cuda":
        return Placement(device="cpu")
    if device.uuid is None:
        return Placement(device=device.name, env={"CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    return Placement(device="cuda:0", env={"CUDA_VISIBLE_DEVICES": device.uuid})

"""Which GPUs a program may use: ``CUDA_VISIBLE_DEVICES`` over what the driver lists. Pure.

The rules are those of the CUDA C++ Programming Guide, "CUDA Environment Variables": a comma
separated list of indices or UUID prefixes (``GPU-...``, ``MIG-...``), in the order that the
program will number them; the first entry that names no device (``-1`` by custom, or an ambiguous
prefix) ends the list, and an empty list shows none. Indices are taken as NVML's (PCI order): on
machines with different GPUs set ``CUDA_DEVICE_ORDER=PCI_BUS_ID`` or name them by UUID.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FoundInstance:
    """A MIG instance; ``index`` counts the instances of its GPU."""

    index: int
    uuid: str


@dataclass(frozen=True, slots=True)
class FoundGpu:
    """A GPU that the driver lists.

    Attributes:
        index: NVML's.
        uuid: NVML's, None where it cannot be read.
        instances: its MIG instances, None where MIG is off: the GPU itself is the device then.
        problem: why it cannot be used, None where it can.
    """

    index: int
    uuid: str | None
    instances: tuple[FoundInstance, ...] | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class VisibleDevice:
    """A device that a program may use; ``instance`` is None for a whole GPU.

    Attributes:
        ordinal: number of the GPU among the visible ones, as CUDA counts them.
    """

    ordinal: int
    gpu: FoundGpu
    instance: FoundInstance | None

    @property
    def name(self) -> str:
        """``cuda:0``, or ``cuda:0/mig:1``."""
        name = f"cuda:{self.ordinal}"
        return name if self.instance is None else f"{name}/mig:{self.instance.index}"


_Part = tuple[FoundGpu, FoundInstance | None]


def select_visible(specification: str | None, gpus: Sequence[FoundGpu]) -> list[VisibleDevice]:
    """Return the devices that ``CUDA_VISIBLE_DEVICES`` shows, in its order; all for None.

    A GPU in MIG mode stands for its instances. An entry that is repeated counts once.
    """
    chosen: list[_Part] = []
    if specification is None:
        chosen = [device for gpu in gpus for device in _parts(gpu)]
    else:
        for entry in specification.split(","):
            named = _named(entry.strip(), gpus)
            if named is None:
                break
            chosen += [device for device in named if device not in chosen]
    ordinals: dict[int, int] = {}
    for gpu, _ in chosen:
        ordinals.setdefault(gpu.index, len(ordinals))
    return [VisibleDevice(ordinals[gpu.index], gpu, instance) for gpu, instance in chosen]


def _parts(gpu: FoundGpu) -> list[_Part]:
    if gpu.instances is None:
        return [(gpu, None)]
    return [(gpu, instance) for instance in gpu.instances]


def _named(entry: str, gpus: Sequence[FoundGpu]) -> list[_Part] | None:
    """Return what one entry names, None where it names nothing or more than one."""
    if entry.isascii() and entry.isdigit():
        matches = [gpu for gpu in gpus if gpu.index == int(entry)]
        return _parts(matches[0]) if matches else None
    if entry.startswith("MIG-"):
        found: list[_Part] = [
            (gpu, instance)
            for gpu in gpus
            for instance in gpu.instances or ()
            if instance.uuid.startswith(entry)
        ]
        return found if len(found) == 1 else None
    if entry.startswith("GPU-"):
        matches = [gpu for gpu in gpus if gpu.uuid is not None and gpu.uuid.startswith(entry)]
        return _parts(matches[0]) if len(matches) == 1 else None
    return None

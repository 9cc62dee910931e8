"""What torch's CUDA allocator says of itself, in a worker whose loader brought torch.

It imports no framework: where torch is not in the process, or CUDA was not set up, there is
nothing to ask and every figure is None.
"""

from __future__ import annotations

import sys
from typing import Any

_CUDA = "cuda"


def allocated_bytes(device: str) -> int | None:
    """Return the bytes of live tensors on the device, None where unknown."""
    cuda = _cuda(device)
    return None if cuda is None else int(cuda.memory_allocated(device))


def peak_bytes(device: str) -> int | None:
    """Return the peak of live tensor bytes since ``reset_peak``, None where unknown."""
    cuda = _cuda(device)
    return None if cuda is None else int(cuda.max_memory_allocated(device))


def reset_peak(device: str) -> None:
    """Make the peak start again from what is allocated now."""
    cuda = _cuda(device)
    if cuda is not None:
        cuda.reset_peak_memory_stats(device)


def give_back(device: str) -> None:
    """Return cached blocks to the driver."""
    cuda = _cuda(device)
    if cuda is not None:
        cuda.empty_cache()


def limit(device: str, budget_bytes: int) -> None:
    """Make the allocator refuse what goes beyond a budget; nothing happens without torch."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not device.startswith(_CUDA) or not torch.cuda.is_available():
        return
    total_bytes = int(torch.cuda.get_device_properties(device).total_memory)
    torch.cuda.set_per_process_memory_fraction(min(1.0, budget_bytes / total_bytes), device)


def _cuda(device: str) -> Any | None:  # noqa: ANN401 - torch.cuda, which is not imported here
    torch: Any = sys.modules.get("torch")
    if torch is None or not device.startswith(_CUDA) or not torch.cuda.is_initialized():
        return None
    return torch.cuda

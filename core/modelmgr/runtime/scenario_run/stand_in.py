"""What runs in the worker process of a model without a loader: a stand-in of its stated size.

It holds memory, all of it touched, and changes how much it holds when it is told to. Times are kept
by the process that tells it (``copies``), so that a wait there can be ended or prolonged at any
moment. It imports no framework but on a CUDA device.
"""

from __future__ import annotations

from typing import Any, cast

from modelmgr.workers.loaders.synthetic import SyntheticLoader, SyntheticModel
from modelmgr.workload.model_spec import ModelSpec

TARGET = f"{__name__}:load"
"""What ``loader: python`` is told."""
EXTRA = "extra_bytes"
"""The key of a batch that says how much to hold beside what is resident."""


class StandIn:
    """Holds ``resident_bytes``, and beside them as much as the last batch said."""

    def __init__(self, *, resident_bytes: int, extra_bytes: int, device: str) -> None:
        self._device = device
        self._resident = _block(resident_bytes, device)
        self._extra: SyntheticModel | None = None
        self._hold(extra_bytes)

    def infer(self, batch: object) -> object:
        """Hold as much beside the resident bytes as the batch says; MemoryError without room."""
        if not isinstance(batch, dict):
            raise TypeError(f"a batch says {{{EXTRA!r}: bytes}}, not {batch!r}")
        told = cast("dict[str, Any]", batch)
        self._hold(int(told[EXTRA]))
        return None

    def close(self) -> None:
        """Free everything."""
        self._hold(0)
        self._resident.close()

    def _hold(self, extra_bytes: int) -> None:
        if self._extra is not None:
            self._extra.close()
            self._extra = None
        if extra_bytes > 0:
            self._extra = _block(extra_bytes, self._device)


def load(*, resident_bytes: int, extra_bytes: int, device: str) -> StandIn:
    """Return a stand-in; MemoryError without room.

    Args:
        resident_bytes: what it holds until it is closed.
        extra_bytes: what it holds at first beside that.
        device: ``cpu`` or ``cuda:N``.
    """
    return StandIn(resident_bytes=resident_bytes, extra_bytes=extra_bytes, device=device)


def _block(size_bytes: int, device: str) -> SyntheticModel:
    spec = ModelSpec(tag="block", loader="synthetic", options={"resident_bytes": size_bytes})
    return SyntheticLoader().load(spec, device=device, seed=0)

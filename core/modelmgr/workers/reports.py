"""What a worker process tells of itself: plain numbers, each with its unit in its name.

These cross the pipe between parent and child as JSON (never pickled) and are validated there.
"""

from __future__ import annotations

import msgspec

from modelmgr.records.host_memory import HostMemory

__all__ = ["EstimateReport", "HostMemory", "LoadReport", "ShapeReport"]


class LoadReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A finished load.

    Attributes:
        load_ns: the loader's own time, framework import excluded.
        import_ns: what importing the framework took in this process (near 0 when preloaded).
        before: the process with its framework imported, before the model.
        after: right after the load, garbage collected; ``peak_bytes`` is the load's peak.
        weights_bytes: bytes of parameters and buffers as the framework counts them (each storage
            once), None where the loader cannot know.
        device_allocated_bytes: the framework's device allocator after the load (CUDA), else None.
        device_peak_bytes: that allocator's peak during the load, else None.
        fingerprint: ``sha256:…`` of weights or config, dtype and framework versions.
        packages: versions of the packages that matter to the figures.
        descendants: processes that the model started and that were alive after the load; ``after``
            and the budget know nothing of them.
        descendant_bytes: what they held then, resident, each page once for each process: sampled,
            for the kernel keeps no peak of a sum.
    """

    load_ns: int
    import_ns: int
    before: HostMemory
    after: HostMemory
    weights_bytes: int | None
    device_allocated_bytes: int | None = None
    device_peak_bytes: int | None = None
    fingerprint: str | None = None
    packages: dict[str, str] = {}
    descendants: int = 0
    descendant_bytes: int = 0


class ShapeReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One shape, run in one phase.

    Attributes:
        dims: the shape.
        phase: ``memory`` (allocator set to return what is freed, so the process's peak is the
            tensors' peak) or ``latency`` (allocator set for speed, as in production).
        before: right before the batches ran, peak reset.
        after: right after; ``peak_bytes`` is the exact resident peak while they ran.
        latencies_ns: one a batch, in order, warm-ups excluded.
        warmups: batches run before.
        tensor_peak_bytes: peak of live tensor bytes above the weights as the framework tracks them
            (a check on the kernel's figure), None where unknown or not asked for.
        device_peak_bytes: the device allocator's peak during the batches (CUDA), else None.
        device_before_bytes: the device allocator's figure before them (CUDA), else None.
        outputs: number of arrays or tensors that came back.
        descendants: processes that the model started and that were alive at the sample below.
        descendant_bytes: what they held, resident, in the larger of two samples: before the
            batches and after them.
    """

    dims: dict[str, int]
    phase: str
    before: HostMemory
    after: HostMemory
    latencies_ns: tuple[int, ...]
    warmups: int
    tensor_peak_bytes: int | None = None
    device_peak_bytes: int | None = None
    device_before_bytes: int | None = None
    outputs: int | None = None
    descendants: int = 0
    descendant_bytes: int = 0


class EstimateReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A guess without loading: parameters exact, activations from fake tensors.

    Attributes:
        weights_bytes: parameters and buffers, None where the loader cannot know.
        activation_bytes: one figure a shape of the list, in order; None where it cannot be known.
        method: ``fake-tensor``, ``file-size``, ``declared`` or ``none``.
        reason: why a figure is None, None where all are known.
        elapsed_ns: how long the guess took.
    """

    weights_bytes: int | None
    activation_bytes: tuple[int | None, ...]
    method: str
    reason: str | None = None
    elapsed_ns: int = 0

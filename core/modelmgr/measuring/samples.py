"""What one fresh process showed: raw figures before any statistics.

Device-neutral: host and accelerator gauges both fill these in, ``assembly`` reads them. Bytes and
nanoseconds; None is unknown.
"""

from __future__ import annotations

import msgspec

from modelmgr.measuring.leak import Leak


class ShapeSample(msgspec.Struct, frozen=True, kw_only=True):
    """One shape in one process.

    Attributes:
        dims: the shape.
        before_bytes: the copy's use right before the batches of the memory phase.
        activation_bytes: the peak of the memory phase above ``before_bytes``.
        default_peak_bytes: the copy's whole peak with the allocator set as in production.
        latencies_ns: one a batch, warm-ups left out.
    """

    dims: dict[str, int]
    before_bytes: int | None
    activation_bytes: int | None
    default_peak_bytes: int | None = None
    latencies_ns: tuple[int, ...] = ()

    @property
    def memory_peak_bytes(self) -> int | None:
        """The copy's whole peak in the memory phase."""
        if self.before_bytes is None or self.activation_bytes is None:
            return None
        return self.before_bytes + self.activation_bytes


class RepeatSample(msgspec.Struct, frozen=True, kw_only=True):
    """One model in one fresh process.

    Attributes:
        runtime_bytes: the process with its framework, without the model.
        weights_bytes: the framework's exact count of parameters and buffers.
        loaded_bytes: the copy's use right after the load.
        resident_bytes: the copy's use after a first inference.
        load_peak_bytes: the copy's peak while it loaded.
        load_ns: the loader's own time.
        shapes: in the list's order.
        reclaim_ns: from the unload's start until the process is gone and the memory is back.
        descendants: processes that the model started itself, where they held the most.
        descendant_bytes: the most that they held in any sample; part of every figure above but
            ``runtime_bytes``, ``weights_bytes`` and the shapes' activations.
        residue_bytes: the device's use after the unload above the use before the load.
        leak: how its memory grew with every batch, None where it did not.
        second_copy_bytes: what a second copy took while this one was held.
        fingerprint: of the model, as the loader gives it.
        packages: versions that matter to the figures.
        notes: what a reader of the figures should know.
    """

    runtime_bytes: int | None
    weights_bytes: int | None
    loaded_bytes: int | None
    resident_bytes: int | None
    load_peak_bytes: int | None
    load_ns: int
    shapes: tuple[ShapeSample, ...]
    descendants: int = 0
    descendant_bytes: int = 0
    reclaim_ns: int | None = None
    leak: Leak | None = None
    residue_bytes: int | None = None
    second_copy_bytes: int | None = None
    fingerprint: str | None = None
    packages: dict[str, str] = {}
    notes: tuple[str, ...] = ()

    @property
    def largest(self) -> ShapeSample | None:
        """The shape with the largest activation peak, None where none is known."""
        known = [shape for shape in self.shapes if shape.activation_bytes is not None]
        return max(known, key=lambda shape: shape.activation_bytes or 0, default=None)

    @property
    def peak_bytes(self) -> int | None:
        """The copy's highest use in any shape and phase, loading left out; None where unknown."""
        peaks = [
            peak
            for shape in self.shapes
            for peak in (shape.memory_peak_bytes, shape.default_peak_bytes)
            if peak is not None
        ]
        if self.resident_bytes is not None:
            peaks.append(self.resident_bytes)
        return max(peaks, default=None)


def with_descendants(sample: RepeatSample, *, processes: int, held_bytes: int) -> RepeatSample:
    """Return a worker's own sample with what the model's own processes held on top, bytes.

    The same figure everywhere, the most that was seen: they are sampled between batches only, so
    their share of one shape's rise is not known, and activations stay the worker's own.
    """

    def more(own_bytes: int | None) -> int | None:
        return None if own_bytes is None else own_bytes + held_bytes

    replace = msgspec.structs.replace
    return replace(
        sample,
        loaded_bytes=more(sample.loaded_bytes),
        resident_bytes=more(sample.resident_bytes),
        load_peak_bytes=more(sample.load_peak_bytes),
        shapes=tuple(
            replace(
                shape,
                before_bytes=more(shape.before_bytes),
                default_peak_bytes=more(shape.default_peak_bytes),
            )
            for shape in sample.shapes
        ),
        descendants=processes,
        descendant_bytes=held_bytes,
    )

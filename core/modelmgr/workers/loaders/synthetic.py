"""The ``synthetic`` loader: takes a stated size and a stated time, for trying things out.

The memory is real (private anonymous pages, all touched) and the time really passes, so that what
measures it has something true to measure. It knows no framework but on a CUDA device.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelmgr.errors import ModelLoadError, UsageError
from modelmgr.units import parse_bytes, parse_duration_ns
from modelmgr.workers.loaders.dimensions import refuse_empty, refuse_unknown
from modelmgr.workers.loaders.fingerprints import fingerprint_of
from modelmgr.workers.loaders.frameworks import import_framework
from modelmgr.workers.loaders.nearest import did_you_mean
from modelmgr.workers.reports import EstimateReport
from modelmgr.workload.model_spec import ModelSpec

_SIZES = ("resident_bytes", "activation_bytes", "load_peak_bytes")
_TIMES = ("load_ns", "service_ns")
_DIMENSIONS = ("batch_size",)


class _HostBlock:
    """Anonymous private pages, every one of them touched."""

    def __init__(self, size_bytes: int) -> None:
        self._pages: mmap.mmap | None = None
        if size_bytes == 0:
            return
        try:
            # Private: shared pages would be counted as files' (RssShmem), not as this process's.
            # Populated in one call, which takes three quarters of the time of a fault for each.
            # Huge pages would be faster or, where a host has to find them first, far slower.
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
            pages = mmap.mmap(-1, size_bytes, flags=flags)
        except OSError as error:
            raise MemoryError(f"no room for a block of {size_bytes} bytes") from error
        count = -(-size_bytes // mmap.PAGESIZE)
        pages[0 : size_bytes : mmap.PAGESIZE] = b"\x01" * count
        self._pages = pages

    def free(self) -> None:
        if self._pages is not None:
            self._pages.close()
            self._pages = None


class _CudaBlock:
    """A tensor on a CUDA device, filled; freed to the driver, not kept in torch's cache."""

    def __init__(self, size_bytes: int, device: str) -> None:
        torch = import_framework("torch")
        self._torch = torch
        self._device = device
        if not torch.cuda.is_available():
            raise ModelLoadError(f"device {device}: torch {torch.__version__} sees no CUDA device")
        self._tensor: Any = torch.full((size_bytes,), 1, dtype=torch.uint8, device=device)
        torch.cuda.synchronize(device)

    def free(self) -> None:
        self._tensor = None
        with self._torch.cuda.device(self._device):
            self._torch.cuda.empty_cache()


_Block = _HostBlock | _CudaBlock


def _sleep_until(deadline_ns: int) -> None:
    while (left_ns := deadline_ns - time.monotonic_ns()) > 0:
        time.sleep(left_ns / 1e9)


@dataclass(frozen=True, slots=True)
class SyntheticBatch:
    """A batch without content: how many items it has."""

    items: int


class SyntheticModel:
    """Holds ``resident_bytes``; each batch takes its memory and its time."""

    def __init__(
        self, sizes: Mapping[str, int], allocate: Callable[[int], _Block], fingerprint: str
    ) -> None:
        started_ns = time.monotonic_ns()
        self.weights_bytes: int | None = sizes["resident_bytes"]
        self.fingerprint: str | None = fingerprint
        self._activation_bytes = sizes["activation_bytes"]
        self._service_ns = sizes["service_ns"]
        self._allocate = allocate
        self._resident = allocate(sizes["resident_bytes"])
        try:
            allocate(sizes["load_peak_bytes"] - sizes["resident_bytes"]).free()
        except BaseException:
            self._resident.free()
            raise
        _sleep_until(started_ns + sizes["load_ns"])

    def make_batch(self, dims: Mapping[str, int], seed: int) -> object:
        """Return a batch of that many items; without content there is nothing to seed."""
        del seed
        refuse_unknown(dims, _DIMENSIONS, "a synthetic model")
        refuse_empty(dims)
        return SyntheticBatch(dims.get("batch_size", 1))

    def infer(self, batch: object) -> object:
        """Take ``activation_bytes`` for each item and ``service_ns`` for the batch."""
        if not isinstance(batch, SyntheticBatch):
            raise TypeError(f"a batch comes from make_batch, not {type(batch).__name__}")
        started_ns = time.monotonic_ns()
        due_ns = started_ns + self._service_ns
        block = self._allocate(self._activation_bytes * batch.items)
        try:
            # To free it, a fifth of what it took to touch it, is part of the stated time too.
            _sleep_until(due_ns - min(time.monotonic_ns() - started_ns, self._service_ns) // 4)
        finally:
            block.free()
        _sleep_until(due_ns)
        return {"items": batch.items}

    def tensor_peak(self, batch: object) -> int | None:
        """Return the bytes that this batch takes above the weights."""
        return self._activation_bytes * batch.items if isinstance(batch, SyntheticBatch) else None

    def close(self) -> None:
        """Unmap the resident pages."""
        self._resident.free()


def _read_options(spec: ModelSpec) -> dict[str, int]:
    known = (*_SIZES, *_TIMES)
    for key in spec.options:
        if key not in known:
            hint = did_you_mean(key, known)
            raise UsageError(f"model {spec.tag!r}: synthetic has no option {key!r}{hint}")
    values: dict[str, int] = {}
    for key in known:
        given: Any = spec.options.get(key, 0)
        try:
            if isinstance(given, str):
                given = parse_bytes(given) if key in _SIZES else parse_duration_ns(given)
        except ValueError as error:
            raise UsageError(f"model {spec.tag!r}: option {key!r}: {error}") from error
        if isinstance(given, bool) or not isinstance(given, int) or given < 0:
            unit = "bytes" if key in _SIZES else "nanoseconds"
            raise UsageError(
                f"model {spec.tag!r}: option {key!r} must be a whole number of {unit}, 0 or more, "
                f"not {given!r}"
            )
        values[key] = given
    if "load_peak_bytes" not in spec.options:
        values["load_peak_bytes"] = values["resident_bytes"]
    if values["load_peak_bytes"] < values["resident_bytes"]:
        raise UsageError(
            f"model {spec.tag!r}: load_peak_bytes ({values['load_peak_bytes']}) is below "
            f"resident_bytes ({values['resident_bytes']}); the peak of a load includes its result"
        )
    return values


class SyntheticLoader:
    """Options: ``resident_bytes``, ``activation_bytes`` (an item of the batch), ``load_peak_bytes``
    (default: the resident), ``load_ns``, ``service_ns``; all default to 0.
    """  # noqa: D205 - the option list is the summary

    name = "synthetic"
    preload: tuple[str, ...] = ()

    def check(self, spec: ModelSpec) -> None:
        """Raise UsageError where an option or a dimension is unknown or out of range."""
        _read_options(spec)
        try:
            refuse_unknown(spec.input, _DIMENSIONS, "a synthetic model")
        except ValueError as error:
            raise UsageError(f"model {spec.tag!r}: {error}") from error

    def prepare(self, spec: ModelSpec) -> None:
        """Do nothing: a synthetic model runs no code of anybody's."""
        del spec

    def load(self, spec: ModelSpec, *, device: str, seed: int) -> SyntheticModel:
        """Take the memory and the time; MemoryError where there is none."""
        del seed
        sizes = _read_options(spec)

        def allocate(size_bytes: int) -> _Block:
            return _HostBlock(size_bytes) if device == "cpu" else _CudaBlock(size_bytes, device)

        return SyntheticModel(sizes, allocate, fingerprint_of(loader=self.name, options=sizes))

    def default_input(self, spec: ModelSpec) -> dict[str, tuple[int, ...]]:
        """Return batches of 1 and 4."""
        del spec
        return {"batch_size": (1, 4)}

    def estimate(self, spec: ModelSpec, shapes: Sequence[Mapping[str, int]]) -> EstimateReport:
        """Return what the options declare."""
        started_ns = time.monotonic_ns()
        sizes = _read_options(spec)
        return EstimateReport(
            weights_bytes=sizes["resident_bytes"],
            activation_bytes=tuple(
                sizes["activation_bytes"] * shape.get("batch_size", 1) for shape in shapes
            ),
            method="declared",
            elapsed_ns=time.monotonic_ns() - started_ns,
        )

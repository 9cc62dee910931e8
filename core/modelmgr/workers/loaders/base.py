"""What a loader is: it turns a ``ModelSpec`` into something that runs a batch.

A loader runs only inside a worker process. Importing a loader's module imports no framework; its
``load`` and ``estimate`` do, and the forkserver imports ``preload`` beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from modelmgr.workers.reports import EstimateReport
from modelmgr.workload.model_spec import ModelSpec


class LoadedModel(Protocol):
    """A model in memory."""

    @property
    def weights_bytes(self) -> int | None:
        """Bytes of parameters and buffers, each storage once; None where unknown."""
        ...

    @property
    def fingerprint(self) -> str | None:
        """``sha256:…`` of the weights or config and the dtype; None where unknown."""
        ...

    def make_batch(self, dims: Mapping[str, int], seed: int) -> object:
        """Return a random batch of that shape; ValueError names a dimension it does not know."""
        ...

    def infer(self, batch: object) -> object:
        """Run one batch to its end (the device is synchronised) and return its outputs."""
        ...

    def close(self) -> None:
        """Free what the model holds."""
        ...


class TracksTensors(Protocol):
    """A loaded model whose framework can tell what a batch's tensors take; not all can."""

    def tensor_peak(self, batch: object) -> int | None:
        """Run the batch once and return the peak of live tensor bytes that it made.

        Weights and the batch itself, which lived before, are not in it; None where unknown. Slower
        than ``infer``: never within a timed run.
        """
        ...


class Loader(Protocol):
    """Loads models of one kind.

    Errors: ``load`` raises MissingPackageError, ModelLoadError (with what to do next) or UsageError
    (the spec lacks something); whatever else it raises is reported with its type and traceback.
    """

    @property
    def name(self) -> str:
        """As a model list's ``loader`` has it."""
        ...

    @property
    def preload(self) -> tuple[str, ...]:
        """Modules that a forkserver imports so that workers start at once."""
        ...

    def check(self, spec: ModelSpec) -> None:
        """Raise UsageError where the spec can be seen to be wrong without any framework."""
        ...

    def prepare(self, spec: ModelSpec) -> None:
        """Import what this model's ``load`` and ``infer`` will need, and start thread pools.

        A worker calls it before the ``before`` reading of its load, so that code and pools count as
        runtime and not as the model's weights. May be called twice; ``load`` works without it.
        """
        ...

    def load(self, spec: ModelSpec, *, device: str, seed: int) -> LoadedModel:
        """Load onto ``cpu`` or ``cuda:N``."""
        ...

    def default_input(self, spec: ModelSpec) -> dict[str, tuple[int, ...]]:
        """The shapes to measure where the list names none; needs no framework."""
        ...

    def estimate(self, spec: ModelSpec, shapes: Sequence[Mapping[str, int]]) -> EstimateReport:
        """Guess without loading; a report of ``method: none`` with a reason where it cannot."""
        ...

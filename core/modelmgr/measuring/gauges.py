"""What every gauge of a copy's memory answers, while the copy loads and runs.

``host_gauge`` reads worker processes, ``device_gauge`` an accelerator. Both answer in bytes of one
copy; None is unknown. Neither starts, ends or schedules anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

from modelmgr.measuring.assembly import FigureEvidence
from modelmgr.workers.launcher import Worker
from modelmgr.workers.reports import LoadReport, ShapeReport

Phase = Literal["memory", "latency"]


class LoadFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A load, as a gauge saw it; ``start_bytes`` is the copy's use before the model.

    ``descendant_bytes`` is what the model's own processes held after it, in no other figure here.
    """

    report: LoadReport
    start_bytes: int | None
    loaded_bytes: int | None
    peak_bytes: int | None
    descendant_bytes: int = 0


class RestFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A copy at rest after a first inference, and how much of it is the framework's."""

    resident_bytes: int | None
    runtime_bytes: int | None


class RunFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a shape: use right before its batches, the highest while they ran, the rise.

    ``activation_bytes`` is the rise from the one to the other, by the better witness there is.
    ``descendant_bytes`` is what the model's own processes held, in no other figure here.
    """

    report: ShapeReport
    before_bytes: int | None
    peak_bytes: int | None
    activation_bytes: int | None
    descendant_bytes: int = 0


class Gauge(Protocol):
    """Reads one copy's memory around what its worker does."""

    @property
    def evidence(self) -> FigureEvidence:
        """How good the figures are."""
        ...

    def load(self, worker: Worker, *, timeout_s: float | None) -> LoadFigures:
        """Let the worker load its model."""
        ...

    def rest(self, worker: Worker, load: LoadFigures) -> RestFigures:
        """Read the copy between two runs."""
        ...

    def run(
        self,
        worker: Worker,
        dims: Mapping[str, int],
        *,
        phase: Phase,
        warmups: int,
        repeats: int,
        seed: int,
        timeout_s: float | None,
    ) -> RunFigures:
        """Let the worker run a shape."""
        ...

    def further_copy(self, worker: Worker, load: LoadFigures) -> int | None:
        """Return what this copy takes while another one of the same model is there, bytes."""
        ...

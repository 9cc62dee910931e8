"""A copy's host memory: the kernel's own figures of its worker process.

Resident and peak (VmHWM after a reset) are exact, and the process is its own, so no neighbour is
in them. Processes that the model starts itself have no kernel's peak: the worker samples them, and
they stand apart.
"""

from __future__ import annotations

from collections.abc import Mapping

from modelmgr.devices.process_memory import read_host_memory
from modelmgr.errors import ReadingError
from modelmgr.measuring.assembly import FigureEvidence
from modelmgr.measuring.gauges import LoadFigures, Phase, RestFigures, RunFigures
from modelmgr.measuring.mappings import read_mapped_pages
from modelmgr.workers.launcher import Worker


class HostGauge:
    """Host memory: the worker process's own."""

    @property
    def evidence(self) -> FigureEvidence:
        """Everything is the kernel's own count."""
        return FigureEvidence(resident="exact", load_peak="exact", peak="exact", activation="exact")

    def load(self, worker: Worker, *, timeout_s: float | None) -> LoadFigures:
        """Load; the worker itself reads before and after, with nothing in between."""
        report = worker.load(timeout_s=timeout_s)
        return LoadFigures(
            report=report,
            start_bytes=report.before.resident_bytes,
            loaded_bytes=report.after.resident_bytes,
            peak_bytes=report.after.peak_bytes,
            descendant_bytes=report.descendant_bytes,
        )

    def rest(self, worker: Worker, load: LoadFigures) -> RestFigures:
        """Read the process, and its libraries' pages apart: they are the framework's."""
        memory = read_host_memory(worker.pid)
        before = load.report.before
        try:
            program_bytes = read_mapped_pages(worker.pid).program_bytes
        except ReadingError:
            program_bytes = before.file_bytes  # not permitted: what was there before the load
        return RestFigures(
            resident_bytes=memory.resident_bytes,
            runtime_bytes=before.anon_bytes + before.shmem_bytes + program_bytes,
        )

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
        """Run; the worker resets the kernel's peak right before its batches."""
        report = worker.run_shape(
            dims,
            phase=phase,
            warmups=warmups,
            repeats=repeats,
            seed=seed,
            timeout_s=timeout_s,
            count_tensors=False,
        )
        return RunFigures(
            report=report,
            before_bytes=report.before.resident_bytes,
            peak_bytes=report.after.peak_bytes,
            activation_bytes=max(0, report.after.peak_bytes - report.before.resident_bytes),
            descendant_bytes=report.descendant_bytes,
        )

    def further_copy(self, worker: Worker, load: LoadFigures) -> int | None:
        """Return the pages that no other process has: what the machine gets back at its end.

        Read while the first copy and the process that both were forked from are there, so pages
        of libraries, of mapped weights and of the preloaded framework, as far as neither wrote to
        them, are shared and not counted. That is what one more copy costs.
        """
        del load
        try:
            return read_mapped_pages(worker.pid).private_bytes
        except ReadingError:
            return None

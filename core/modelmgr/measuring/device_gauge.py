"""A copy's memory on an accelerator, from the device's reader and the framework's allocator.

A resting figure is one reading; a peak is the framework's own allocator peak where the worker
reports one (exact), else the highest of readings taken all the while (sampled). A device that does
not tell processes apart gives differences of its whole use instead, from before the copy was
loaded (``aggregate``).
"""

from __future__ import annotations

from collections.abc import Mapping

from modelmgr.devices.reading import MemoryReader, MemoryReading
from modelmgr.devices.sampler import PeakSampler
from modelmgr.errors import DeviceError, ReadingError
from modelmgr.measuring.assembly import FigureEvidence
from modelmgr.measuring.gauges import LoadFigures, Phase, RestFigures, RunFigures
from modelmgr.workers.launcher import Worker


class DeviceGauge:
    """Device memory: the worker's share of it, or the device's whole use above a baseline."""

    def __init__(self, reader: MemoryReader) -> None:
        """Take the device's reader."""
        self._reader = reader
        self._baselines_bytes: dict[int, int] = {}  # by pid: the device's use before its load
        self._by_process = False
        self._aggregate = False
        self._allocator_tells = False
        self._interval_ns = 0

    @property
    def evidence(self) -> FigureEvidence:
        """Peaks of the allocator are exact, others sampled; so are differences of the device."""
        notes: list[str] = []
        if self._interval_ns:
            notes.append(f"device peaks were sampled every {self._interval_ns / 1e6:.1f} ms")
        if self._aggregate:
            notes.append(
                "the device does not tell processes apart: figures are differences of its whole use"
            )
        return FigureEvidence(
            resident="sampled" if self._aggregate else "exact",
            load_peak="sampled",
            peak="sampled",
            activation="exact" if self._allocator_tells else "sampled",
            method="aggregate" if self._aggregate else "isolation",
            notes=tuple(notes),
        )

    def load(self, worker: Worker, *, timeout_s: float | None) -> LoadFigures:
        """Load, sampling the device meanwhile."""
        self._by_process = False
        reading = self._read()
        if reading is not None:
            self._baselines_bytes[worker.pid] = reading.used_bytes
        start_bytes = self._use(worker.pid)
        with PeakSampler(lambda: self._read_use(worker.pid)) as sampler:
            report = worker.load(timeout_s=timeout_s)
        # Only now is it known whether the driver lists this process: in a container it may list
        # nobody, or everybody under the machine's own ids.
        reading = self._read()
        listed = None if reading is None else reading.processes
        self._by_process = listed is not None and worker.pid in listed
        self._aggregate = self._aggregate or not self._by_process
        return LoadFigures(
            report=report,
            start_bytes=start_bytes,
            loaded_bytes=self._use(worker.pid),
            peak_bytes=self._peak(sampler),
        )

    def rest(self, worker: Worker, load: LoadFigures) -> RestFigures:
        """Read the device; a context that was there before the load is the runtime's."""
        return RestFigures(
            resident_bytes=self._use(worker.pid),
            # Without a context before the load, its size is not known apart from the model's.
            runtime_bytes=load.start_bytes or None,
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
        """Run, sampling the device meanwhile."""
        before_bytes = self._use(worker.pid)
        with PeakSampler(lambda: self._read_use(worker.pid)) as sampler:
            report = worker.run_shape(
                dims,
                phase=phase,
                warmups=warmups,
                repeats=repeats,
                seed=seed,
                timeout_s=timeout_s,
                count_tensors=False,
            )
        peak_bytes = self._peak(sampler)
        activation_bytes = None
        if report.device_peak_bytes is not None and report.device_before_bytes is not None:
            self._allocator_tells = True
            activation_bytes = report.device_peak_bytes - report.device_before_bytes
        elif peak_bytes is not None and before_bytes is not None:
            activation_bytes = max(0, peak_bytes - before_bytes)
        return RunFigures(
            report=report,
            before_bytes=before_bytes,
            peak_bytes=peak_bytes,
            activation_bytes=activation_bytes,
        )

    def further_copy(self, worker: Worker, load: LoadFigures) -> int | None:
        """Return the device's use by this copy alone."""
        del load
        return self._use(worker.pid)

    def _use(self, pid: int) -> int | None:
        try:
            return self._read_use(pid)
        except DeviceError:
            return None

    def _read_use(self, pid: int) -> int:
        """Return what a worker uses now.

        Raises:
            DeviceError: the device, or this process of it, cannot be read.
        """
        reading = self._reader.read()
        if reading.processes is not None and pid in reading.processes:
            return reading.processes[pid]
        if self._by_process:
            if reading.processes is None:
                raise ReadingError("the device does not tell its processes apart any more")
            return 0
        baseline_bytes = self._baselines_bytes.get(pid)
        if baseline_bytes is None:
            raise ReadingError(f"the device's use before process {pid} is not known")
        return reading.used_bytes - baseline_bytes

    def _peak(self, sampler: PeakSampler) -> int | None:
        self._interval_ns = sampler.result.interval_ns
        return sampler.result.peak_bytes

    def _read(self) -> MemoryReading | None:
        try:
            return self._reader.read()
        except DeviceError:
            return None

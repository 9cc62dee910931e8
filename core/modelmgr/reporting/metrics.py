"""A manager's state and counters for Prometheus: names, units and what answers scrapes.

Importing this module needs the extra ``modelmgr[metrics]``. It only reads: each scrape is one
snapshot. Names and units follow https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

import os
import platform
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from modelmgr._version import __version__
from modelmgr.errors import UsageError
from modelmgr.reporting.page_server import PATIENCE_S, PageServer
from modelmgr.runtime.counters import LOAD_BOUNDS_NS, WAIT_BOUNDS_NS, Durations, ModelTotals
from modelmgr.runtime.snapshot import DeviceSnapshot, ManagerSnapshot
from modelmgr.scheduling.actions import Refusal
from modelmgr.units import NS_PER_S

LOOPBACK = "127.0.0.1"
_PATH = "/metrics"
_GRANTED = "granted"
_OUTCOMES = (_GRANTED, *(refusal.value for refusal in Refusal))


class ManagerCollector(Collector):
    """Turns a manager's snapshots into metrics, one for each scrape.

    A series that was there once stays there, as 0: one that comes and goes has gaps, and alerts on
    it do not fire.

    Args:
        snapshot: ``ModelManager.snapshot``, or a remote manager's.
        models: tags whose series are there from the start.
    """

    def __init__(self, snapshot: Callable[[], ManagerSnapshot], models: Iterable[str] = ()) -> None:
        self._snapshot = snapshot
        self._lock = threading.Lock()
        self._models = set(models)
        self._copies: set[tuple[str, str, str]] = set()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        snapshot = self._snapshot()
        totals = {model.tag: model for model in snapshot.totals.models}
        queued = Counter(ticket.tag for ticket in snapshot.queue)
        copies = Counter((copy.tag, copy.device, copy.state) for copy in snapshot.copies)
        with self._lock:  # a scrape has a thread of its own
            self._models.update(totals, queued, (copy.tag for copy in snapshot.copies))
            self._copies.update(copies)
            models, places = sorted(self._models), sorted(self._copies)
        yield _build()
        yield from _devices(snapshot.devices)
        yield _gauge(
            "modelmgr_copies",
            "Copies of a model on a device by state.",
            ("model", "device", "state"),
            ((place, copies[place]) for place in places),
        )
        yield _gauge(
            "modelmgr_queue_length",
            "Requests that wait for a copy, those that a copy is being loaded for included.",
            ("model",),
            (((tag,), queued[tag]) for tag in models),
        )
        yield from _counters([totals.get(tag) or _nothing(tag) for tag in models])


class MetricsServer:
    """Answers scrapes at ``http://127.0.0.1:PORT/metrics``, to this machine alone.

    Args:
        collector: what is scraped; the process's own metrics (``process_*``) come with it.
        port: where to listen; 0 takes a free one.
        patience_s: how long a scrape may take, from its connection to its end, seconds.

    Raises:
        UsageError: the port is taken, or may not be listened on.
    """

    def __init__(self, collector: Collector, port: int, *, patience_s: float = PATIENCE_S) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(collector)
        ProcessCollector(registry=self._registry)
        try:
            self._server = PageServer(LOOPBACK, port, _PATH, self._render, patience_s=patience_s)
        except (OSError, OverflowError) as error:
            number = getattr(error, "errno", None)
            raise UsageError(
                f"metrics cannot be served at {LOOPBACK}:{port}: "
                f"{os.strerror(number) if number else error}; choose another port"
            ) from error
        self.port = self._server.port

    @property
    def url(self) -> str:
        """Where to scrape."""
        return f"http://{LOOPBACK}:{self.port}{_PATH}"

    def close(self) -> None:
        """Stop answering."""
        self._server.close()

    def _render(self, accept: str) -> tuple[bytes, str]:
        encode, kind = choose_encoder(accept)
        return encode(self._registry), kind

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop answering."""
        self.close()


def _build() -> Metric:
    return InfoMetricFamily(
        "modelmgr_build",
        "The version of modelmgr and of its interpreter.",
        {"version": __version__, "python": platform.python_version()},
    )


def _devices(devices: Sequence[DeviceSnapshot]) -> Iterator[Metric]:
    yield _gauge(
        "modelmgr_device_memory_bytes",
        "Memory of a device: its total, the limit, what the last good reading saw in use, what is "
        "committed, and of that what is reserved, foreign, or on its way back.",
        ("device", "kind"),
        (
            ((device.name, kind), value)
            for device in devices
            for kind, value in (
                ("total", device.total_bytes),
                ("limit", device.limit_bytes),
                ("used", device.used_bytes),
                ("committed", device.committed_bytes),
                ("reserved", device.reserved_bytes),
                ("foreign", device.foreign_bytes),
                ("freeing", device.freeing_bytes),
            )
        ),
    )
    yield _gauge(
        "modelmgr_reading_age_seconds",
        "Age of a device's last good memory reading.",
        ("device",),
        (
            ((device.name,), None if age_ns is None else age_ns / NS_PER_S)
            for device in devices
            for age_ns in (device.reading_age_ns,)
        ),
    )
    yield _gauge(
        "modelmgr_reading_failed",
        "Whether a device's latest memory reading failed.",
        ("device",),
        (((device.name,), int(device.reading_failed is not None)) for device in devices),
    )


def _counters(models: Sequence[ModelTotals]) -> Iterator[Metric]:
    yield _counter(
        "modelmgr_requests",
        "Requests that ended, by how.",
        ("model", "outcome"),
        (
            ((model.tag, outcome), value)
            for model in models
            for outcome, value in _outcomes(model).items()
        ),
    )
    yield _counter(
        "modelmgr_hits",
        "Requests that got a copy that had been loaded before.",
        ("model",),
        (((model.tag,), model.hits) for model in models),
    )
    yield _counter(
        "modelmgr_loads",
        "Loads begun.",
        ("model",),
        (((model.tag,), model.loads) for model in models),
    )
    yield _counter(
        "modelmgr_evictions",
        "Copies ordered to go, by reason.",
        ("model", "reason"),
        (
            ((model.tag, reason), value)
            for model in models
            for reason, value in sorted({"make-room": 0, **model.evictions}.items())
        ),
    )
    waits = HistogramMetricFamily(
        "modelmgr_wait_seconds",
        "How long requests waited that got a copy, loads included.",
        labels=("model",),
    )
    loads = HistogramMetricFamily(
        "modelmgr_load_seconds", "How long loads took that ended well.", labels=("model",)
    )
    for model in models:
        _add_durations(waits, model.tag, WAIT_BOUNDS_NS, model.waits)
        _add_durations(loads, model.tag, LOAD_BOUNDS_NS, model.load_times)
    yield waits
    yield loads


def _outcomes(model: ModelTotals) -> dict[str, int]:
    return {**dict.fromkeys(_OUTCOMES, 0), **model.refused, _GRANTED: model.granted}


def _add_durations(
    family: HistogramMetricFamily, tag: str, bounds_ns: Sequence[int], durations: Durations
) -> None:
    buckets: list[tuple[str, float]] = []
    below = 0
    for bound_ns, count in zip(bounds_ns, durations.counts, strict=False):
        below += count
        buckets.append((str(bound_ns / NS_PER_S), below))
    buckets.append(("+Inf", durations.count))
    family.add_metric((tag,), buckets, sum_value=durations.sum_ns / NS_PER_S)


def _nothing(tag: str) -> ModelTotals:
    return ModelTotals(
        tag=tag,
        granted=0,
        hits=0,
        refused={},
        loads=0,
        evictions={},
        waits=Durations((0,) * (len(WAIT_BOUNDS_NS) + 1), 0),
        load_times=Durations((0,) * (len(LOAD_BOUNDS_NS) + 1), 0),
    )


_Samples = Iterable[tuple[Sequence[str], float | None]]


def _gauge(name: str, documentation: str, labels: Sequence[str], samples: _Samples) -> Metric:
    """Return a gauge; a value that is not known has no sample, for 0 would say something else."""
    family = GaugeMetricFamily(name, documentation, labels=labels)
    for values, value in samples:
        if value is not None:
            family.add_metric(values, value)
    return family


def _counter(name: str, documentation: str, labels: Sequence[str], samples: _Samples) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=labels)
    for values, value in samples:
        if value is not None:
            family.add_metric(values, value)
    return family

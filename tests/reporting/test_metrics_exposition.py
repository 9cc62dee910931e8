"""Metrics as Prometheus reads them: names, units, labels, and what is not known."""

from __future__ import annotations

import io
import urllib.request
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_fd_to_metric_families

from modelmgr.errors import UsageError
from modelmgr.reporting.metrics import ManagerCollector, MetricsServer
from modelmgr.runtime.counters import ManagerCounters
from modelmgr.runtime.snapshot import (
    CopySnapshot,
    DeviceSnapshot,
    ManagerSnapshot,
    TicketSnapshot,
)
from modelmgr.scheduling.actions import Grant, Refusal, Reject, StartLoad, StartUnload
from modelmgr.units import GIB, NS_PER_S

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

DEVICE = DeviceSnapshot(
    name="cuda:0",
    total_bytes=10 * GIB,
    limit_bytes=9 * GIB,
    used_bytes=5 * GIB,
    committed_bytes=6 * GIB,
    reserved_bytes=GIB,
    freeing_bytes=GIB // 2,
    foreign_bytes=GIB // 4,
    reading_age_ns=NS_PER_S // 4,
    reading_failed=None,
    isolating=None,
)


def _snapshot(counters: ManagerCounters | None = None) -> ManagerSnapshot:
    return ManagerSnapshot(
        devices=(DEVICE,),
        copies=(
            CopySnapshot(1, "bert", "cuda:0", "idle", GIB, None, 0, 5, pinned=False),
            CopySnapshot(2, "bert", "cuda:0", "idle", GIB, None, 0, 5, pinned=False),
            CopySnapshot(3, "t5", "cuda:0", "active", GIB, "client 7", 0, None, pinned=True),
        ),
        queue=(TicketSnapshot(9, "gpt2", 0, NS_PER_S, 1, committed=False),),
        closed=False,
        totals=(counters or ManagerCounters()).totals(),
    )


def _text(collector: ManagerCollector) -> str:
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()


def _read(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_fd_to_metric_families(io.StringIO(text))
        for sample in family.samples
    }


def _key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_devices_copies_and_queue_are_gauges_in_bytes_and_seconds() -> None:
    samples = _read(_text(ManagerCollector(_snapshot)))

    memory = {
        dict(labels)["kind"]: value
        for (name, labels), value in samples.items()
        if name == "modelmgr_device_memory_bytes"
    }
    assert memory == {
        "total": 10 * GIB,
        "limit": 9 * GIB,
        "used": 5 * GIB,
        "committed": 6 * GIB,
        "reserved": GIB,
        "foreign": GIB // 4,
        "freeing": GIB // 2,
    }
    assert samples[_key("modelmgr_reading_age_seconds", device="cuda:0")] == 0.25
    assert samples[_key("modelmgr_reading_failed", device="cuda:0")] == 0
    idle = _key("modelmgr_copies", model="bert", device="cuda:0", state="idle")
    assert samples[idle] == 2
    assert samples[_key("modelmgr_queue_length", model="gpt2")] == 1
    assert samples[_key("modelmgr_queue_length", model="bert")] == 0


def test_what_is_not_known_has_no_sample_and_a_failed_reading_says_so() -> None:
    never_read = replace(
        DEVICE, used_bytes=None, reading_age_ns=None, reading_failed="the driver is gone"
    )
    collector = ManagerCollector(lambda: replace(_snapshot(), devices=(never_read,)))
    samples = _read(_text(collector))

    assert _key("modelmgr_device_memory_bytes", device="cuda:0", kind="used") not in samples
    assert _key("modelmgr_reading_age_seconds", device="cuda:0") not in samples
    assert samples[_key("modelmgr_reading_failed", device="cuda:0")] == 1


def test_counters_and_histograms_add_up() -> None:
    counters = ManagerCounters()
    counters.hit("bert")
    counters.observed(StartLoad(1, 2, "bert", 3, 0, 100, isolated=False))
    counters.observed(Grant(1, 2, "bert", 3, 0, 4, hit=False))
    counters.loaded("bert", 2 * NS_PER_S)
    counters.waited("bert", 3 * NS_PER_S)
    counters.observed(StartUnload(1, "bert", 3, 0, "isolation", None, 10))
    counters.observed(Reject(1, 5, "t5", Refusal.DOES_NOT_FIT, "never"))
    samples = _read(_text(ManagerCollector(lambda: _snapshot(counters))))

    def of(name: str, **labels: str) -> float:
        return samples[_key(name, model="bert", **labels)]

    assert of("modelmgr_requests_total", outcome="granted") == 2
    assert of("modelmgr_requests_total", outcome="cancelled") == 0
    assert of("modelmgr_hits_total") == 1
    assert of("modelmgr_loads_total") == 1
    assert of("modelmgr_evictions_total", reason="isolation") == 1
    assert of("modelmgr_evictions_total", reason="make-room") == 0
    assert of("modelmgr_wait_seconds_bucket", le="0.001") == 1
    assert of("modelmgr_wait_seconds_bucket", le="1.0") == 1
    assert of("modelmgr_wait_seconds_bucket", le="5.0") == 2
    assert of("modelmgr_wait_seconds_bucket", le="+Inf") == 2
    assert of("modelmgr_wait_seconds_count") == 2
    assert of("modelmgr_wait_seconds_sum") == 3
    assert of("modelmgr_load_seconds_bucket", le="2.5") == 1
    assert of("modelmgr_load_seconds_sum") == 2
    refused = _key("modelmgr_requests_total", model="t5", outcome="does-not-fit")
    assert samples[refused] == 1


def test_every_metric_has_a_type_a_text_and_a_name_of_ours() -> None:
    families = list(text_fd_to_metric_families(io.StringIO(_text(ManagerCollector(_snapshot)))))
    types = {family.name: family.type for family in families}

    assert all(family.documentation for family in families)
    assert all(name.startswith("modelmgr_") for name in types)
    assert types["modelmgr_hits"] == "counter"
    assert types["modelmgr_wait_seconds"] == "histogram"
    assert types["modelmgr_device_memory_bytes"] == "gauge"
    (build,) = (family for family in families if family.name == "modelmgr_build_info")
    assert set(build.samples[0].labels) == {"version", "python"}


def test_a_series_that_was_there_stays_and_listed_models_have_theirs_from_the_start() -> None:
    now = _snapshot()
    collector = ManagerCollector(lambda: now, models=["vit"])
    first = _read(_text(collector))
    now = replace(now, copies=(), queue=())
    second = _read(_text(collector))

    assert first[_key("modelmgr_requests_total", model="vit", outcome="granted")] == 0
    assert set(first) == set(second)
    active = _key("modelmgr_copies", model="t5", device="cuda:0", state="active")
    assert (first[active], second[active]) == (1, 0)


def test_a_tag_may_be_any_text() -> None:
    tag = 'a "quoted\\tag"\nof two lines ☃'
    counters = ManagerCounters()
    counters.hit(tag)
    samples = _read(_text(ManagerCollector(lambda: _snapshot(counters))))
    assert samples[_key("modelmgr_hits_total", model=tag)] == 1


def test_the_server_answers_scrapes_until_it_is_closed_and_has_its_port_alone() -> None:
    with MetricsServer(ManagerCollector(_snapshot), 0) as server:
        with urllib.request.urlopen(server.url, timeout=60) as answer:  # noqa: S310 - our own
            text = answer.read().decode()
        with pytest.raises(UsageError, match=f"127.0.0.1:{server.port}: Address already in use"):
            MetricsServer(ManagerCollector(_snapshot), server.port)
    assert _key("modelmgr_queue_length", model="gpt2") in _read(text)
    assert _key("process_start_time_seconds") in _read(text)
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(server.url, timeout=60)  # noqa: S310 - our own

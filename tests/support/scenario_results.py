"""A result of a small simulation, made by hand."""

from __future__ import annotations

import hashlib

from modelmgr.records.costs import ToolInfo
from modelmgr.records.result import DeviceUse, DurationFigures, ModelUse, RequestCounts, Result

_MS = 1_000_000


def make_result(*, log: bytes = b"") -> Result:
    """Return a simulation's result whose decision log has these bytes."""
    waits = DurationFigures(
        count=100, mean=9 * _MS, median=8 * _MS, p95=20 * _MS, p99=None, min=0, max=30 * _MS
    )
    return Result(
        mode="simulate",
        scenario="burst",
        seed=1,
        policy="queue-value",
        started_at=None,
        tool=ToolInfo(name="modelmgr", version="0.1.0"),
        machine=None,
        duration_ns=10**10,
        requests=RequestCounts(
            total=100, completed=98, timed_out=1, refused=0, failed=0, cancelled=1
        ),
        loads=10,
        hits=90,
        evictions=6,
        oom_events=0,
        reload_cost_ns=10**10,
        wait_ns=waits,
        latency_ns=waits,
        devices={"gpu0": DeviceUse(limit_bytes=10**10, peak_bytes=9 * 10**9, mean_bytes=10**9)},
        models={"bert": ModelUse(requests=100, loads=10, hits=90, evictions=6, wait_ns=waits)},
        decisions_sha256=f"sha256:{hashlib.sha256(log).hexdigest()}",
        decisions=log.count(b"\n"),
    )

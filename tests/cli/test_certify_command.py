"""``modelmgr certify``: what a certificate proves, whose it is, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from modelmgr.records.certificate import Certificate, encode_certificate
from modelmgr.records.costs import ToolInfo
from modelmgr.records.result import (
    Bound,
    DeviceUse,
    DurationFigures,
    ModelUse,
    RequestCounts,
    Result,
)
from modelmgr.simulation.bound import reload_bound, total
from modelmgr.simulation.certificate import make_certificate
from support.command_line import Program
from support.served_schedules import draw_schedule

DECISIONS = "sha256:" + "ab" * 32


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    """A certificate, also in the file certificate.json, and the result it belongs to."""
    schedule = draw_schedule(3, jobs=60, span=90)
    bound = reload_bound(schedule)
    made = make_certificate(
        [schedule],
        [bound],
        tool=ToolInfo(name="modelmgr", version="0.0.0"),
        decisions_sha256=DECISIONS,
    )
    made.save(tmp_path / "certificate.json")
    loads = {tag: sum(job.tag == tag for job in schedule.jobs()) for tag in schedule.tags}
    limits = {schedule.device: schedule.capacity_bytes}
    result = _result(total([bound]).reload_cost_ns, DECISIONS, loads, limits)
    result.save(tmp_path / "result.json")
    return made


def _result(bound_ns: int, decisions: str, loads: dict[str, int], limits: dict[str, int]) -> Result:
    return Result(
        mode="simulate",
        scenario="drawn",
        seed=1,
        policy="lru",
        started_at=None,
        tool=ToolInfo(name="modelmgr", version="0.0.0"),
        machine=None,
        duration_ns=2**62,
        requests=RequestCounts(total=0, completed=0, timed_out=0, refused=0, failed=0, cancelled=0),
        loads=0,
        hits=0,
        evictions=0,
        oom_events=0,
        reload_cost_ns=bound_ns * 3,
        wait_ns=None,
        latency_ns=None,
        devices={
            name: DeviceUse(limit_bytes=limit, peak_bytes=0, mean_bytes=0)
            for name, limit in limits.items()
        },
        models={
            tag: ModelUse(requests=count, loads=count, hits=0, evictions=0, wait_ns=_waits(count))
            for tag, count in loads.items()
        },
        decisions_sha256=decisions,
        bound=Bound(reload_cost_ns=bound_ns, ratio=3.0, method="exact"),
    )


def _waits(count: int) -> DurationFigures:
    return DurationFigures(count=count, mean=0, median=None, p95=None, p99=None, min=0, max=0)


def test_a_certificate_that_holds_is_said_to(modelmgr: Program, certificate: Certificate) -> None:
    finished = modelmgr("certify", "certificate.json", "--result", "result.json")

    assert (finished.returncode, finished.stderr) == (0, "")
    assert "The certificate holds: no policy costs less than" in finished.stdout
    assert "the solver's own bound, not proven here" in finished.stdout
    assert "times what is proven" in finished.stdout
    assert certificate.certified_ns > 0


def test_json_keeps_what_is_proven_from_what_the_solver_says(
    modelmgr: Program, certificate: Certificate
) -> None:
    finished = modelmgr("certify", "certificate.json", "--json")
    answer = json.loads(finished.stdout)

    assert finished.returncode == 0
    assert answer["holds"] is True
    assert answer["certified"]["reload_cost_ns"] == certificate.certified_ns
    assert answer["solver"]["reload_cost_ns"] == certificate.solver.reload_cost_ns
    assert answer["result"] is None


def test_a_tampered_certificate_fails_the_gate(
    modelmgr: Program, certificate: Certificate, tmp_path: Path
) -> None:
    more = msgspec.structs.replace(certificate, certified_ns=certificate.certified_ns + 1)
    (tmp_path / "more.json").write_bytes(encode_certificate(more))
    finished = modelmgr("certify", "more.json")

    assert finished.returncode == 1
    assert "refused: certified_ns of the whole claims" in finished.stdout
    assert "does not prove what it claims" in finished.stdout


def test_another_results_certificate_fails_the_gate(
    modelmgr: Program, certificate: Certificate, tmp_path: Path
) -> None:
    bound_ns = certificate.solver.reload_cost_ns
    _result(bound_ns + 1, "sha256:" + "cd" * 32, {}, {}).save(tmp_path / "other.json")
    good = Result.load(tmp_path / "result.json")
    msgspec.structs.replace(good, bound=None).save(tmp_path / "none.json")
    other = modelmgr("certify", "certificate.json", "--result", "other.json", "--json")
    unbound = modelmgr("certify", "certificate.json", "--result", "none.json")

    assert (other.returncode, unbound.returncode) == (1, 1)
    refusals = json.loads(other.stdout)["refusals"]
    assert "the certificate is of the decisions" in refusals[0]
    assert "the result's limit is none" in refusals[1]
    assert "less than the" in refusals[-1]
    assert "does not belong: the result has no bound" in unbound.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("nonsense", "not JSON"),
        ('{"kind": "modelmgr.result", "schema_version": 1}', "where a certificate"),
    ],
)
def test_a_file_that_is_no_certificate_is_bad_input(
    modelmgr: Program, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "bad.json").write_text(content)

    assert message in modelmgr.refused("certify", "bad.json")


def test_a_file_that_is_not_there_is_bad_input(modelmgr: Program) -> None:
    assert "none.json" in modelmgr.refused("certify", "none.json")

"""A certificate proves what it claims without a solver, and one that was changed is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from modelmgr.errors import InputError
from modelmgr.records.certificate import (
    Certificate,
    content_sha256,
    decode_certificate,
    encode_certificate,
)
from modelmgr.records.costs import ToolInfo
from modelmgr.simulation.bound import reload_bound
from modelmgr.simulation.certificate import check_certificate, make_certificate, schedule_of
from support.interpreters import run_python
from support.served_schedules import draw_schedule, least_cost_ns

TOOL = ToolInfo(name="modelmgr", version="0.0.0")


def _certificate(seed: int, *, jobs: int = 60, span: int = 90) -> Certificate:
    schedules = [draw_schedule(seed + more, jobs=jobs, span=span) for more in (0, 1000)]
    schedules[1].device = "gpu1"
    bounds = [reload_bound(schedule) for schedule in schedules]
    return make_certificate(
        schedules, bounds, tool=TOOL, scenario="drawn", decisions_sha256="sha256:12"
    )


def _changed(certificate: Certificate, change: Callable[[dict[str, Any]], None]) -> Certificate:
    """Return the certificate after somebody changed its file, and its hash to match."""
    plain: dict[str, Any] = json.loads(encode_certificate(certificate))
    change(plain)
    plain["sha256"] = ""
    unsigned = decode_certificate(json.dumps(plain).encode())
    plain["sha256"] = content_sha256(unsigned)
    return decode_certificate(json.dumps(plain).encode())


def test_a_certificate_proves_its_bound_after_a_round_trip() -> None:
    for seed in range(20):
        certificate = decode_certificate(encode_certificate(_certificate(seed)))
        verdict = check_certificate(certificate)

        assert verdict.refusals == ()
        assert verdict.holds
        assert verdict.proven_ns == certificate.certified_ns > 0
        assert certificate.certified_ns <= certificate.solver.reload_cost_ns <= certificate.best_ns


def test_what_is_certified_is_never_above_what_trying_everything_finds() -> None:
    for seed in range(100):
        schedule = draw_schedule(seed)
        made = make_certificate([schedule], [reload_bound(schedule)], tool=TOOL)
        verdict = check_certificate(made)

        assert verdict.proven_ns is not None
        assert verdict.proven_ns <= least_cost_ns(schedule) == verdict.best_ns


def test_the_schedule_is_in_the_file() -> None:
    schedule = draw_schedule(7, jobs=40, span=60)
    made = make_certificate([schedule], [reload_bound(schedule)], tool=TOOL)
    again = schedule_of(decode_certificate(encode_certificate(made)).devices[0])

    assert list(again.jobs()) == list(schedule.jobs())
    assert again.sha256() == schedule.sha256() == made.devices[0].schedule_sha256


def _claim_more(plain: dict[str, Any]) -> None:
    plain["devices"][0]["certified_ns"] += 100
    plain["certified_ns"] += 100


def _sum_wrong(plain: dict[str, Any]) -> None:
    plain["certified_ns"] += 1


def _solver_above_best(plain: dict[str, Any]) -> None:
    plain["solver"]["reload_cost_ns"] = plain["best_ns"] + 1


def _solver_below_proof(plain: dict[str, Any]) -> None:
    plain["solver"]["reload_cost_ns"] = plain["certified_ns"] - 1


def _dearer_loads(plain: dict[str, Any]) -> None:
    for model in plain["devices"][0]["models"].values():
        model["reload_cost_ns"] *= 2


def _smaller_device(plain: dict[str, Any]) -> None:
    plain["devices"][0]["capacity_bytes"] -= 1


def _one_job_less(plain: dict[str, Any]) -> None:
    for column in plain["devices"][0]["jobs"].values():
        column.pop()


def _longer_job(plain: dict[str, Any]) -> None:
    plain["devices"][0]["jobs"]["held_ns"][-1] += 1


def _negative_price(plain: dict[str, Any]) -> None:
    plain["devices"][0]["prices"] = {"denominator": 1, "states": [0], "numerators": [-5]}


def _no_denominator(plain: dict[str, Any]) -> None:
    plain["devices"][0]["prices"]["denominator"] = 0


def _price_nowhere(plain: dict[str, Any]) -> None:
    plain["devices"][0]["prices"] = {"denominator": 1, "states": [10**9], "numerators": [5]}


def _prices_out_of_order(plain: dict[str, Any]) -> None:
    plain["devices"][0]["prices"] = {"denominator": 1, "states": [1, 1], "numerators": [5, 5]}


def _other_prices(plain: dict[str, Any]) -> None:
    numerators = plain["devices"][0]["prices"]["numerators"]
    numerators[:] = [price * 2 for price in numerators]


def _keep_everything(plain: dict[str, Any]) -> None:
    plain["devices"][0]["reloaded"] = []


def _one_device_twice(plain: dict[str, Any]) -> None:
    plain["devices"][1]["name"] = "gpu0"


def _negative_time(plain: dict[str, Any]) -> None:
    plain["devices"][0]["jobs"]["started_after_ns"][3] = -5


def _endless_time(plain: dict[str, Any]) -> None:
    plain["devices"][0]["jobs"]["held_ns"][0] = 10**30


def _unknown_model(plain: dict[str, Any]) -> None:
    plain["devices"][0]["jobs"]["models"][0] = 400


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_claim_more, "certified_ns claims"),
        (_sum_wrong, "more than the"),
        (_solver_above_best, "is not between"),
        (_solver_below_proof, "is not between"),
        (_dearer_loads, "the schedule was changed"),
        (_smaller_device, "the schedule was changed"),
        (_one_job_less, "the schedule was changed"),
        (_longer_job, "the schedule was changed"),
        (_negative_price, "a price is negative: -5"),
        (_no_denominator, "prices over 0"),
        (_price_nowhere, "a price is on state 1000000000"),
        (_prices_out_of_order, "ascending"),
        (_other_prices, "certified_ns claims"),
        (_keep_everything, "no choice that fits"),
        (_one_device_twice, "there twice"),
        (_negative_time, "starts before"),
        (_endless_time, "beyond 64 bits"),
        (_unknown_model, "names a model outside"),
    ],
)
def test_a_changed_certificate_is_refused_with_the_reason(
    change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    verdict = check_certificate(_changed(_certificate(2), change))

    assert not verdict.holds
    assert reason in "\n".join(verdict.refusals)


def test_no_digit_of_a_certificate_can_be_changed_unnoticed() -> None:
    content = encode_certificate(_certificate(4, jobs=12, span=20))
    refused = 0
    for place, byte in enumerate(content):
        if not chr(byte).isdigit():
            continue
        other = b"1" if byte != ord("1") else b"2"
        try:
            verdict = check_certificate(
                decode_certificate(content[:place] + other + content[place + 1 :])
            )
        except InputError:
            refused += 1
            continue
        assert not verdict.holds, content[max(0, place - 40) : place + 10]
        refused += 1
    assert refused > 200


def test_checking_imports_no_solver() -> None:
    code = (
        "import sys, modelmgr.simulation.certificate, modelmgr.simulation.bound\n"
        "print([name for name in sys.modules if name.partition('.')[0] == 'scipy'])"
    )
    assert run_python("-c", code) == "[]\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"{}", "the kind is missing"),
        (b'{"kind": "modelmgr.costs", "schema_version": 1}', "where a certificate"),
        (b'{"kind": "modelmgr.certificate", "schema_version": 2}', "newer modelmgr"),
        (b'{"kind": "modelmgr.certificate", "schema_version": true}', "must be a whole number"),
        (b'{"kind": "modelmgr.certificate", "schema_version": 1}', "has no"),
        (b'{"kind": "modelmgr.certificate", "schema_version"', "cut short"),
    ],
)
def test_what_is_no_certificate_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        decode_certificate(content, path="c.json")

"""Whether a certificate is a result's: what the two files say of one run must agree.

A result holds no schedule, so what is compared is what it does hold: the hash of its decisions, its
bound, how many requests of each model were given a copy, the devices' limits, how long it took and
how much its loads cost. Sizes and load times of models are not in a result; the certificate's are
the scenario's only as far as whoever wrote it is believed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from modelmgr.records.certificate import Certificate
from modelmgr.records.result import Result
from modelmgr.simulation.certificate import Verdict

_HOW_MANY_NAMED = 3


def why_not_of(
    certificate: Certificate, verdict: Verdict, result: Result, cost_ns: int
) -> tuple[str, ...]:
    """Return why a certificate is not this result's; nothing where it is.

    Args:
        certificate: what claims to be of the result.
        verdict: what it proves.
        result: of the run.
        cost_ns: what the result's loads cost by the certificate.
    """
    return (
        *_other_decisions(certificate, result),
        *_other_devices(certificate, result),
        *_other_jobs(certificate, result),
        *_other_bound(certificate, verdict, result, cost_ns),
    )


def _other_decisions(certificate: Certificate, result: Result) -> Iterator[str]:
    if certificate.decisions_sha256 is None:
        yield "the certificate names no decision log, so it belongs to no result"
    elif certificate.decisions_sha256 != result.decisions_sha256:
        yield (
            f"the certificate is of the decisions {certificate.decisions_sha256}, the result has "
            f"{result.decisions_sha256}"
        )


def _other_devices(certificate: Certificate, result: Result) -> Iterator[str]:
    certified = {device.name: device.capacity_bytes for device in certificate.devices}
    for name in dict.fromkeys((*result.devices, *certified)):
        use = result.devices.get(name)
        limit = "none" if use is None else f"{use.limit_bytes} bytes"
        capacity = f"{certified[name]} bytes" if name in certified else "none"
        if limit != capacity:
            yield (
                f"the device {name!r}: the result's limit is {limit}, the certificate's {capacity}"
            )


def _other_jobs(certificate: Certificate, result: Result) -> Iterator[str]:
    certified: Counter[str] = Counter()
    longest_ns = 0
    for device in certificate.devices:
        tags = sorted(device.models)
        for index, count in Counter(device.jobs.models).items():
            if 0 <= index < len(tags):  # any other is refused by the check of the schedule
                certified[tags[index]] += count
        at_ns = 0
        for after_ns, held_ns in zip(
            device.jobs.started_after_ns, device.jobs.held_ns, strict=False
        ):
            at_ns += after_ns
            longest_ns = max(longest_ns, at_ns + held_ns)
    served = {
        tag: 0 if model.wait_ns is None else model.wait_ns.count
        for tag, model in result.models.items()
    }
    others = [tag for tag in {**served, **certified} if served.get(tag, 0) != certified[tag]]
    for tag in others[:_HOW_MANY_NAMED]:
        yield (
            f"{tag!r}: the result gave a copy to {served.get(tag, 0)} requests, the certificate "
            f"has {certified[tag]} jobs"
        )
    if len(others) > _HOW_MANY_NAMED:
        yield f"{len(others) - _HOW_MANY_NAMED} more models have other numbers of jobs"
    if longest_ns > result.duration_ns:
        yield (
            f"the certificate's last job ends at {longest_ns} ns, the result at "
            f"{result.duration_ns} ns"
        )


def _other_bound(
    certificate: Certificate, verdict: Verdict, result: Result, cost_ns: int
) -> Iterator[str]:
    bound = result.bound
    if bound is None:
        yield "the result has no bound"
    elif bound.reload_cost_ns != certificate.solver.reload_cost_ns:
        yield (
            f"the result has a bound of {bound.reload_cost_ns} ns, the certificate one of "
            f"{certificate.solver.reload_cost_ns} ns"
        )
    if verdict.proven_ns is not None and cost_ns < verdict.proven_ns:
        yield (
            f"the result's loads cost {cost_ns} ns, less than the {verdict.proven_ns} ns that any "
            "policy needs: they are not of this schedule"
        )

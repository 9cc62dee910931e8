"""Make the certificate of a bound, and check one in exact arithmetic without a solver.

The checker believes nothing in the file but the schedule: gaps and states are found again from the
jobs, the bound is computed from the prices (``simulation.prices``), and every figure that the file
claims must be the one that follows. What the solver said beyond that is no part of the proof; it is
only held between what is proven from below and from above.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import msgspec

from modelmgr.errors import UsageError
from modelmgr.records.certificate import (
    Certificate,
    CertificateModel,
    DeviceCertificate,
    JobColumns,
    SolverBound,
    StatePrices,
    content_sha256,
)
from modelmgr.records.costs import ToolInfo
from modelmgr.simulation.bound import Bound, total
from modelmgr.simulation.gaps import find_gaps
from modelmgr.simulation.prices import Prices, cost_of_keeping_ns, proven_bound_ns
from modelmgr.simulation.schedule import ModelFigures, ServedSchedule


@dataclass(frozen=True, slots=True)
class DeviceVerdict:
    """What follows for one device, whatever the file claims.

    Attributes:
        device: its name.
        jobs: how many were served.
        proven_ns: no policy's reload cost is below this; None where the file gives no proof.
        best_ns: some choice of evictions costs this; None where the file shows none.
        loads_ns: what a load for every job would cost; None where there is no schedule.
        refusals: why the file's claims about this device are refused; empty where they hold.
    """

    device: str
    jobs: int
    proven_ns: int | None
    best_ns: int | None
    loads_ns: int | None
    refusals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a certificate proves.

    Attributes:
        devices: by device.
        proven_ns: the sum over devices; None where a device has no proof.
        best_ns: the sum over devices; None where a device shows no choice.
        refusals: every reason to refuse the certificate; empty where it holds.
    """

    devices: tuple[DeviceVerdict, ...]
    proven_ns: int | None
    best_ns: int | None
    refusals: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether every claim was proven."""
        return not self.refusals


def make_certificate(
    schedules: Sequence[ServedSchedule],
    bounds: Sequence[Bound],
    *,
    tool: ToolInfo,
    scenario: str | None = None,
    decisions_sha256: str | None = None,
) -> Certificate:
    """Return the certificate of these schedules' bounds.

    Args:
        schedules: what was served, one a device.
        bounds: ``reload_bound`` of each, in the same order.
        tool: what writes it.
        scenario: the scenario's name.
        decisions_sha256: the result's, to tie the two together.
    """
    summed = total(bounds)
    certificate = Certificate(
        tool=tool,
        scenario=scenario,
        decisions_sha256=decisions_sha256,
        devices=tuple(
            _device(schedule, bound) for schedule, bound in zip(schedules, bounds, strict=True)
        ),
        certified_ns=summed.certified_ns,
        best_ns=summed.best_ns,
        solver=SolverBound(reload_cost_ns=summed.reload_cost_ns, method=summed.method),
    )
    return msgspec.structs.replace(certificate, sha256=content_sha256(certificate))


def check_certificate(certificate: Certificate) -> Verdict:
    """Check everything that a certificate claims, in integers; the time is a fraction of a solve.

    Nothing is raised for a claim that does not hold: the verdict says why it is refused.
    """
    devices = tuple(_check_device(device) for device in certificate.devices)
    refusals = [f"{verdict.device}: {reason}" for verdict in devices for reason in verdict.refusals]
    names = [device.name for device in certificate.devices]
    refusals += [f"the device {name!r} is there twice" for name in _repeated(names)]
    proven_ns = _sum([verdict.proven_ns for verdict in devices])
    best_ns = _sum([verdict.best_ns for verdict in devices])
    if not refusals:
        refusals += _differs("certified_ns of the whole", certificate.certified_ns, proven_ns)
        refusals += _differs("best_ns of the whole", certificate.best_ns, best_ns)
        said_ns = certificate.solver.reload_cost_ns
        if proven_ns is not None and best_ns is not None and not proven_ns <= said_ns <= best_ns:
            refusals.append(
                f"the solver's bound of {said_ns} ns is not between the {proven_ns} ns that are "
                f"proven and the {best_ns} ns that a choice of evictions costs"
            )
        elif (
            said_ns != best_ns
            and certificate.solver.method == "exact"
            and not _near(said_ns, best_ns)
        ):
            refusals.append(
                f"the solver's bound of {said_ns} ns is called exact and the best choice costs "
                f"{best_ns} ns"
            )
    if certificate.sha256 != content_sha256(certificate):
        refusals.append("the file was changed: its sha256 is not that of its content")
    return Verdict(devices, proven_ns, best_ns, tuple(refusals))


def cost_of_loads_ns(certificate: Certificate, loads: Mapping[str, int]) -> int:
    """Return what a run's loads cost by the certificate's figures: what to hold to its bound.

    Args:
        certificate: of the run.
        loads: by tag, on all devices together. Models that no certified job named cost nothing.

    Raises:
        UsageError: the devices disagree about what a load costs.
    """
    costs: dict[str, int] = {}
    for device in certificate.devices:
        for tag, model in device.models.items():
            if costs.setdefault(tag, model.reload_cost_ns) != model.reload_cost_ns:
                raise UsageError(f"the certificate's devices disagree about a load of {tag!r}")
    return sum(costs.get(tag, 0) * count for tag, count in loads.items())


def _device(schedule: ServedSchedule, bound: Bound) -> DeviceCertificate:
    starts = schedule.starts_ns
    held = zip(starts, schedule.ends_ns, strict=True)
    return DeviceCertificate(
        name=schedule.device,
        capacity_bytes=schedule.capacity_bytes,
        models={
            tag: CertificateModel(
                resident_bytes=figures.resident_bytes,
                peak_bytes=figures.peak_bytes,
                reload_cost_ns=figures.reload_cost_ns,
            )
            for tag, figures in zip(schedule.tags, schedule.figures, strict=True)
        },
        jobs=JobColumns(
            models=tuple(schedule.job_models),
            started_after_ns=tuple(
                start - (starts[job - 1] if job else 0) for job, start in enumerate(starts)
            ),
            held_ns=tuple(end - start for start, end in held),
        ),
        schedule_sha256=schedule.sha256(),
        prices=StatePrices(
            denominator=bound.prices.denominator,
            states=bound.prices.states,
            numerators=bound.prices.numerators,
        ),
        reloaded=bound.reloaded,
        certified_ns=bound.certified_ns,
        best_ns=bound.best_ns,
    )


def _check_device(claimed: DeviceCertificate) -> DeviceVerdict:
    jobs = len(claimed.jobs.models)
    refusals: list[str] = []
    try:
        schedule = schedule_of(claimed)
        if schedule.sha256() != claimed.schedule_sha256:
            refusals.append("the schedule was changed: its sha256 is another")
        gaps = find_gaps(schedule)
    except UsageError as error:
        refusals.append(f"no schedule: {error}")
        return DeviceVerdict(claimed.name, jobs, None, None, None, tuple(refusals))
    proven_ns = best_ns = None
    try:
        prices = Prices(
            claimed.prices.denominator, claimed.prices.states, claimed.prices.numerators
        )
        proven_ns = proven_bound_ns(schedule, gaps, prices)
        refusals += _differs("certified_ns", claimed.certified_ns, proven_ns)
    except UsageError as error:
        refusals.append(f"no proof: {error}")
    try:
        best_ns = cost_of_keeping_ns(schedule, gaps, claimed.reloaded)
        refusals += _differs("best_ns", claimed.best_ns, best_ns)
    except UsageError as error:
        refusals.append(f"no choice that fits: {error}")
    loads_ns = schedule.load_everything_ns()
    return DeviceVerdict(claimed.name, jobs, proven_ns, best_ns, loads_ns, tuple(refusals))


def schedule_of(device: DeviceCertificate) -> ServedSchedule:
    """Return the schedule that a certificate's device holds.

    Raises:
        UsageError: it is no schedule.
    """
    starts = list(accumulate(device.jobs.started_after_ns))
    if len(starts) != len(device.jobs.held_ns):
        raise UsageError(f"{len(starts)} starts and {len(device.jobs.held_ns)} times held")
    held = zip(starts, device.jobs.held_ns, strict=True)
    return ServedSchedule.from_columns(
        device=device.name,
        capacity_bytes=device.capacity_bytes,
        models={
            tag: ModelFigures(
                resident_bytes=model.resident_bytes,
                peak_bytes=model.peak_bytes,
                reload_cost_ns=model.reload_cost_ns,
            )
            for tag, model in device.models.items()
        },
        job_models=device.jobs.models,
        starts_ns=starts,
        ends_ns=[start + duration for start, duration in held],
    )


def _differs(name: str, claimed: int, found: int | None) -> list[str]:
    if found is None or claimed == found:
        return []
    more = "more than" if claimed > found else "other than"
    return [f"{name} claims {claimed} ns, {more} the {found} ns that follow"]


def _near(one: int, other: int | None) -> bool:
    """Say whether two costs differ by no more than a solver's arithmetic."""
    return other is not None and abs(one - other) * 10**8 <= other


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _repeated(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})

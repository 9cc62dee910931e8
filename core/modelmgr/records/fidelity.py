"""How far two results of one scenario are apart, in per cent: the simulation from the real run.

Pure. It informs and judges nothing: whether a distance is too large is a gate's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from modelmgr.records.result import DurationFigures, Mode, Result

Unit = Literal["count", "ns", "bytes"]


@dataclass(frozen=True, slots=True)
class Distance:
    """One figure of both results.

    Attributes:
        name: ``loads``, ``wait_p95_ns``, ``peak_bytes``.
        device: whose memory, None for a figure of the whole run.
        unit: of both values.
        reference: the value that the other is measured by; None where it is not known.
        other: the other one's.
        percent: (other - reference) / reference in per cent; None where one is not known, or the
            reference is 0 and the other is not.
    """

    name: str
    device: str | None
    unit: Unit
    reference: int | None
    other: int | None
    percent: float | None


@dataclass(frozen=True, slots=True)
class Fidelity:
    """All distances between two results.

    Attributes:
        reference: where the reference comes from: ``this`` result or the one it is held
            ``against``. A real run is the reference of a simulation.
        reference_mode: ``run`` or ``simulate``.
        other_mode: the other one's.
        distances: figure by figure.
        differences: what makes the two hard to compare, as ``(name, reference, other)``: another
            scenario, seed or policy, another number of requests, an interrupted run.
    """

    reference: Literal["this", "against"]
    reference_mode: Mode
    other_mode: Mode
    distances: tuple[Distance, ...]
    differences: tuple[tuple[str, str, str], ...]

    def of(self, name: str, device: str | None = None) -> Distance:
        """Return a figure's distance; KeyError where there is none of that name."""
        for distance in self.distances:
            if (distance.name, distance.device) == (name, device):
                return distance
        raise KeyError(name)


def compare_results(this: Result, against: Result) -> Fidelity:
    """Return how far two results are from each other.

    Args:
        this: the result at hand.
        against: the one that it is held against; the reference, unless it is a simulation and
            ``this`` is a real run.
    """
    this_is_real = this.mode == "run" and against.mode == "simulate"
    reference, other = (this, against) if this_is_real else (against, this)
    return Fidelity(
        reference="this" if this_is_real else "against",
        reference_mode=reference.mode,
        other_mode=other.mode,
        distances=tuple(_distances(reference, other)),
        differences=tuple(_differences(reference, other)),
    )


def _distances(reference: Result, other: Result) -> Iterator[Distance]:
    for name in ("hits", "loads", "evictions"):
        yield _distance(name, "count", getattr(reference, name), getattr(other, name))
    for name in ("mean", "median", "p95", "p99"):
        pair = (_figure(result.wait_ns, name) for result in (reference, other))
        yield _distance(f"wait_{name}_ns", "ns", *pair)
    for name in ("mean", "p95"):
        pair = (_figure(result.latency_ns, name) for result in (reference, other))
        yield _distance(f"latency_{name}_ns", "ns", *pair)
    yield _distance("service_mean_ns", "ns", *map(_mean_service_ns, (reference, other)))
    yield _distance("reload_cost_ns", "ns", reference.reload_cost_ns, other.reload_cost_ns)
    for device in dict.fromkeys([*reference.devices, *other.devices]):
        peaks = (
            None if (use := result.devices.get(device)) is None else use.peak_bytes
            for result in (reference, other)
        )
        yield _distance("peak_bytes", "bytes", *peaks, device=device)


def _mean_service_ns(result: Result) -> int | None:
    """Return what a job took on average; None where others waited than were served."""
    wait, latency = result.wait_ns, result.latency_ns
    if wait is None or latency is None or wait.count != latency.count:
        return None
    return latency.mean - wait.mean


def _figure(figures: DurationFigures | None, name: str) -> int | None:
    value: int | None = None if figures is None else getattr(figures, name)
    return value


def _distance(
    name: str, unit: Unit, reference: int | None, other: int | None, *, device: str | None = None
) -> Distance:
    percent: float | None = None
    if reference is not None and other is not None:
        if reference:
            percent = (other - reference) / reference * 100
        elif not other:
            percent = 0.0
    return Distance(name, device, unit, reference, other, percent)


def _differences(reference: Result, other: Result) -> Iterator[tuple[str, str, str]]:
    pairs = {
        "scenario": (reference.scenario, other.scenario),
        "seed": (reference.seed, other.seed),
        "policy": (reference.policy, other.policy),
        "requests": (reference.requests.total, other.requests.total),
        "interrupted": (reference.partial, other.partial),
    }
    for name, (left, right) in pairs.items():
        if left != right or (name == "interrupted" and left):
            yield name, _word(left), _word(right)


def _word(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)

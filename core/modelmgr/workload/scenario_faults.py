"""Read what goes wrong in a scenario: faults at a time or at a rate."""

from __future__ import annotations

from collections.abc import Sequence

from modelmgr.records.validation import nearest
from modelmgr.workload.places import At
from modelmgr.workload.scenario import Fault, FaultKind, ScenarioDevice, ScenarioModel
from modelmgr.workload.scenario_entries import FaultEntry
from modelmgr.workload.scenario_phases import check_tag

_OF_DEVICES: frozenset[FaultKind] = frozenset(
    {"late-free", "reading-failed", "reading-wrong", "foreign-memory", "device-lost"}
)
"""Faults that no model has."""
_MAX_RATE_PER_S = 1_000.0
"""One a millisecond: a device hit more often does nothing else, and neither does a simulation."""
_WITH_MEMORY: frozenset[FaultKind] = frozenset({"reading-wrong", "foreign-memory"})
_NEEDS_DURATION: frozenset[FaultKind] = frozenset(
    {"load-hangs", "late-free", "reading-failed", "reading-wrong"}
)
_WITH_DURATION: frozenset[FaultKind] = _NEEDS_DURATION.union(
    ("device-lost", "foreign-memory", "load-failed")
)


def read_faults(
    at: At,
    written: Sequence[FaultEntry],
    models: Sequence[ScenarioModel],
    devices: Sequence[ScenarioDevice],
) -> tuple[Fault, ...]:
    """Return the faults of a scenario, in its order.

    Raises:
        InputError: a fault for a model or a device that is not there, or that says too much or too
            little.
    """
    by_tag = {model.tag: model for model in models}
    names = [device.name for device in devices]
    return tuple(_fault(at / index, fault, by_tag, names) for index, fault in enumerate(written))


def _fault(
    at: At, written: FaultEntry, by_tag: dict[str, ScenarioModel], devices: Sequence[str]
) -> Fault:
    kind = written.kind
    if (written.at is None) == (written.rate is None):
        word = "neither 'at' nor" if written.at is None else "both 'at' and"
        raise at.error(
            f"{at.name} has {word} 'rate'",
            hint="a fault comes once, at a time, or again and again, at a rate",
        )
    if written.until is not None and written.rate is None:
        raise (at / "until").wrong("only a fault at a rate has an end")
    if written.model is not None:
        check_tag(at / "model", written.model, by_tag)
        if kind in _OF_DEVICES:
            raise (at / "model").wrong(
                f"{kind} happens to a device, not to a model", hint="name a 'device', or leave out"
            )
    if written.device is not None and written.device not in devices:
        raise (at / "device").error(
            f"there is no device {written.device!r}", hint=nearest(written.device, devices)
        )
    for key, kinds, needing in (
        ("duration", _WITH_DURATION, _NEEDS_DURATION),
        ("memory", _WITH_MEMORY, _WITH_MEMORY),
    ):
        given = getattr(written, key) is not None
        if given and kind not in kinds:
            raise (at / key).wrong(
                f"{kind} has no {key}", hint=f"with one: {', '.join(sorted(kinds))}"
            )
        if not given and kind in needing:
            raise at.error(f"{at.name} ({kind}) has no {key!r}", hint=f"add {key!r}")
    return Fault(
        kind=kind,
        at_ns=(at / "at").duration_ns(written.at),
        rate_per_s=(None if written.rate is None else _rate(at / "rate", written.rate)),
        until_ns=(at / "until").duration_ns(written.until),
        model=written.model,
        device=written.device,
        duration_ns=(
            None if written.duration is None else (at / "duration").positive_ns(written.duration)
        ),
        size_bytes=(
            None if written.memory is None else (at / "memory").positive_bytes(written.memory)
        ),
    )


def _rate(at: At, written: str) -> float:
    rate = at.positive_rate_per_s(written)
    if rate > _MAX_RATE_PER_S:
        raise at.wrong(f"{written!r} is too large", hint="faults come at up to 1000/s")
    return rate

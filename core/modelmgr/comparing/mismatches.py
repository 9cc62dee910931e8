"""What is not the same around two files' figures, and which figures depend on it.

Another device, driver, framework or machine moves figures without anything having got worse; these
differences are named first, and what depends on them is not judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Literal

from modelmgr.comparing.catalogue import Nature
from modelmgr.comparing.comparison import Mismatch
from modelmgr.records.costs import MachineInfo
from modelmgr.records.machines import Difference, machine_differences
from modelmgr.records.result import Result
from modelmgr.units import format_duration

Touched = Literal["all", "measured", "times", "judged", "none"]
_MOST_FIRST: tuple[Touched, ...] = ("all", "measured", "times", "judged", "none")

# Of the model alone: the same on any machine, with any framework that keeps its data type.
INDEPENDENT = frozenset({"ledger.weights_bytes"})
# What says that the traffic is another one can be compared all the same.
TRAFFIC = frozenset({"requests.total", "models.requests"})

MOST_OTHER_REQUESTS = Fraction(1, 10)
"""Of the baseline's. Users who ask again once they are answered (``closed`` arrivals) ask a little
more or less often as they are served; a result does not say whether its scenario has any."""


def machine_mismatches(old: MachineInfo | None, new: MachineInfo | None) -> tuple[Mismatch, ...]:
    """Return all that differs between two machines, what touches most first.

    The processor and the kernel decide how long something takes; on the host, where the processor
    is the device, it also decides what libraries lay out in memory. How much memory a device has
    is part of what it is, but for the host's: there it moves with a kernel's build.
    """
    if old is None or new is None:
        if old is new:
            return ()
        said = ["not said" if each is None else each.device.name for each in (old, new)]
        return (Mismatch(name="machine", old=said[0], new=said[1], touches="measured"),)
    on_host = old.device.kind == new.device.kind == "host"
    found = [
        Mismatch(name=each.name, old=each.old, new=each.new, touches=_touched(each, on_host))
        for each in machine_differences(old, new)
    ]
    return most_first(found)


def result_mismatches(old: Result, new: Result) -> tuple[Mismatch, ...]:
    """Return what makes two results tell of different things, what touches most first.

    The policy and the devices' sizes are settings, whose effect a comparison is there to show.
    """
    found = list(_other_traffic(old, new))
    found += [
        Mismatch(name=name, old=str(before), new=str(after), touches="all")
        for name, before, after in (
            ("mode", old.mode, new.mode),
            ("scenario", old.scenario, new.scenario),
            ("seed", old.seed, new.seed),
            ("interrupted", _interrupted(old, new), _interrupted(new, old)),
        )
        if before != after
    ]
    found += [
        Mismatch(name=name, old=before, new=after, touches="judged")
        for name, before, after in _settings(old, new)
        if before != after
    ]
    if "run" in {old.mode, new.mode}:
        found += machine_mismatches(old.machine, new.machine)
    return most_first(found)


def most_first(found: Iterable[Mismatch]) -> tuple[Mismatch, ...]:
    """Return them in the order of what they touch, otherwise as they are."""
    return tuple(sorted(found, key=lambda each: _MOST_FIRST.index(each.touches)))


def touched_by(
    mismatches: Sequence[Mismatch], figure: str, nature: Nature, *, measured: bool
) -> Mismatch | None:
    """Return the first mismatch that a figure depends on; None where it can be compared.

    Args:
        mismatches: as the functions above return them.
        figure: its name in the catalogue.
        nature: what it is.
        measured: on a machine, not simulated.
    """
    for each in mismatches:
        if each.touches == "all" and not (each.name == "traffic" and figure in TRAFFIC):
            return each
        if not measured or figure in INDEPENDENT:
            continue
        if each.touches == "measured" or (each.touches == "times" and nature == "time"):
            return each
    return None


def _other_traffic(old: Result, new: Result) -> Iterable[Mismatch]:
    """Yield that other requests came, and whether so many that it is another scenario."""
    before, after = (
        {tag: use.requests for tag, use in result.models.items()} for result in (old, new)
    )
    moved = {tag: abs(after.get(tag, 0) - before.get(tag, 0)) for tag in {**before, **after}}
    totals = old.requests.total, new.requests.total
    others = max(sum(moved.values()), abs(totals[1] - totals[0]))
    if not others:
        return
    said = [f"{total:,} requests" for total in totals]
    if totals[0] == totals[1]:
        most = max(moved, key=moved.__getitem__)
        said = [f"{side.get(most, 0):,} requests of {most}" for side in (before, after)]
    is_another = others > totals[0] * MOST_OTHER_REQUESTS
    touches: Touched = "all" if is_another else "judged"
    yield Mismatch(name="traffic", old=said[0], new=said[1], touches=touches)


def _settings(old: Result, new: Result) -> Iterable[tuple[str, str | None, str | None]]:
    yield "policy", old.policy, new.policy
    for name in dict.fromkeys([*old.devices, *new.devices]):
        limits = (
            None if (use := result.devices.get(name)) is None else str(use.limit_bytes)
            for result in (old, new)
        )
        before, after = limits
        yield f"devices.{name}.limit_bytes", before, after


def _touched(difference: Difference, on_host: bool) -> Touched:
    name = difference.name
    if name == "device.total_bytes":
        return "none" if on_host else "measured"
    if name == "cpu":
        return "measured" if on_host else "times"
    if name == "os":
        # The kernel's release; what it does with memory it does alike.
        systems = {(text or "").partition(" ")[0] for text in (difference.old, difference.new)}
        return "times" if len(systems) == 1 else "measured"
    if name.startswith("packages.") and None in {difference.old, difference.new}:
        return "none"  # a model of another framework came or went; the others do not load it
    return "measured"


def _interrupted(result: Result, other: Result) -> str:
    """Return whether a result is of a part; of two parts, of which."""
    if not result.partial:
        return "no"
    return f"after {format_duration(result.duration_ns)}" if other.partial else "yes"

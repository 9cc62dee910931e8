"""Say which models fit together on which device, how many copies, and why where they do not.

  modelmgr plan costs.json
  modelmgr plan costs.json --device gpu0=24GiB --device gpu1=16GiB
  modelmgr plan costs.json --device gpu0=24GiB,slack=5% --copies bert=2
  modelmgr plan costs.json --device gpu0=80GiB --weight bert=3 --weight gpt2=1 --max-copies 8
  modelmgr plan costs.json --device gpu0=24GiB --active 1

Every model of the database is wanted once, unless --only, --copies or --at-least say otherwise;
with --weight, the room that is left is filled with copies in proportion to the weights. The
placement is exact: no other one has room for more of the models. Figures are upper ones, all copies
running at once; with --active N, at most N of a device's copies.

Exit status: 0 everything wanted fits, 3 it does not: the best that fits is shown, and why.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from modelmgr.devices.host import describe_host
from modelmgr.devices.nvml import list_devices
from modelmgr.errors import UsageError
from modelmgr.records.costs import CostDatabase
from modelmgr.simulation.placement import Demand, PlanDevice, needs_of
from modelmgr.simulation.placement import plan as place
from modelmgr.units import parse_fraction
from modelmgr_cli.commands import options
from modelmgr_cli.lazy import DocCommand, nearest
from modelmgr_cli.outcome import Outcome
from modelmgr_cli.render.json import answer
from modelmgr_cli.render.plans import plan_as_plain, plan_page
from modelmgr_cli.solver_wait import solved
from modelmgr_cli.terminal import terminal_of

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_Value = TypeVar("_Value")
_WEIGHTED_AT_MOST = 8
_COPIES_AT_MOST = 9999  # beyond it the programme alone takes minutes to write down


@app.command(help=__doc__, cls=DocCommand)
def plan(
    context: typer.Context,
    *,
    database: options.Database,
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device",
            metavar="NAME[=SIZE]",
            help="A device of this size, e.g. gpu0=24GiB or gpu0=24GiB,slack=5%; or one of this "
            "machine by its name. May be given more than once. Default: those of this machine.",
        ),
    ] = None,
    slack: Annotated[
        str, typer.Option("--slack", metavar="SHARE", help="Of each device, what stays free.")
    ] = "10%",
    only: options.Only = None,
    copies: Annotated[
        list[str] | None,
        typer.Option("--copies", metavar="TAG=N", help="Exactly so many copies of a model."),
    ] = None,
    at_least: Annotated[
        list[str] | None,
        typer.Option("--at-least", metavar="TAG=N", help="So many copies of a model, or more."),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            "--weight",
            metavar="TAG=W",
            help="Fill what is left with copies, in proportion to these weights.",
        ),
    ] = None,
    max_copies: Annotated[
        int | None,
        typer.Option("--max-copies", metavar="N", help="Most copies of a model with a weight."),
    ] = None,
    active: Annotated[
        int | None,
        typer.Option(
            "--active", metavar="N", help="Copies of a device that run at once. Default: all."
        ),
    ] = None,
    time_limit: Annotated[
        str, typer.Option("--time-limit", metavar="TIME", help="Longest for each solving step.")
    ] = "30 s",
    json: options.AsJson = False,
) -> Outcome:
    """Read, place and show."""
    terminal = terminal_of(context)
    costs = options.load_database(database)
    needs = needs_of(costs)
    demands = _demands(
        _chosen(costs, set(needs), only, database),
        _counts("--copies", copies),
        _counts("--at-least", at_least),
        _values("--weight", weight, _weight),
        max_copies,
    )
    for tag in costs.models:
        if tag not in needs and not only:
            terminal.warn(f"{tag} was not measured and is left out")
    devices = _devices(device, options.read_share("--slack", slack))
    time_limit_s = options.read_seconds("--time-limit", time_limit)
    found = solved(lambda: place(needs, devices, demands, active=active, time_limit_s=time_limit_s))
    if json:
        terminal.out(answer("plan", plan_as_plain(found, needs, demands, active)))
    else:
        terminal.show(*plan_page(found, needs, demands, active, terminal.width(sys.stdout)))
    return Outcome.FINE if found.fits else Outcome.DOES_NOT_FIT


def _chosen(
    costs: CostDatabase, measured: set[str], only: list[str] | None, path: Path
) -> list[str]:
    for tag in only or ():
        if tag not in costs.models:
            raise UsageError(f"{path} has no model {tag!r}\n{nearest(tag, costs.models, 'Models')}")
        if tag not in measured:
            raise UsageError(
                f"{tag!r} was not measured, so nothing is known of what it needs\n"
                f"measure it: modelmgr profile MODELS.yaml --only {tag}"
            )
    chosen = [tag for tag in costs.models if tag in measured and (not only or tag in only)]
    if not chosen:
        raise UsageError(f"{path} has no measured model to place")
    return chosen


def _demands(
    tags: list[str],
    exactly: dict[str, int],
    at_least: dict[str, int],
    weights: dict[str, Fraction],
    max_copies: int | None,
) -> dict[str, Demand]:
    for option, given in (("--copies", exactly), ("--at-least", at_least), ("--weight", weights)):
        for tag in given:
            if tag not in tags:
                raise UsageError(
                    f"{option}: there is no model {tag!r} to place\n{nearest(tag, tags, 'Models')}"
                )
    both = sorted(set(exactly) & set(at_least))
    if both:
        raise UsageError(f"--copies and --at-least both say how many of {both[0]!r}; give one")
    if max_copies is not None and not weights:
        raise UsageError("--max-copies says how far --weight may go; give a --weight too")
    if max_copies is not None and max_copies < 1:
        raise UsageError(f"--max-copies: {max_copies} copies are none; give 1 or more")
    if max_copies is not None and max_copies > _COPIES_AT_MOST:
        raise UsageError(f"--max-copies: {max_copies} are too many; give {_COPIES_AT_MOST} or less")
    demands: dict[str, Demand] = {}
    for tag in tags:
        least = exactly.get(tag, at_least.get(tag, 1))
        most = least
        if tag in weights and tag not in exactly:
            most = max(least, max_copies or _WEIGHTED_AT_MOST)
        share = weights.get(tag, Fraction(0) if weights else Fraction(1))
        demands[tag] = Demand(at_least=least, at_most=most, weight=share)
    return demands


def _counts(option: str, texts: list[str] | None) -> dict[str, int]:
    return _values(option, texts, _count)


def _values(
    option: str, texts: list[str] | None, read: Callable[[str], _Value]
) -> dict[str, _Value]:
    """Return what ``TAG=VALUE`` says, by tag; a tag may have an equals sign itself."""
    found: dict[str, _Value] = {}
    for text in texts or ():
        tag, equals, value = text.rpartition("=")
        if not equals or not tag:
            raise UsageError(f"{option}: {text!r} names no model; write for example bert=2")
        if tag in found:
            raise UsageError(f"{option}: {tag!r} is given twice")
        found[tag] = options.read_value(option, value, read)
    return found


def _count(text: str) -> int:
    if not text.strip().isdecimal():
        raise ValueError(f"{text!r} is no number of copies; write for example bert=2")
    if len(text.strip()) > len(str(_COPIES_AT_MOST)):
        raise ValueError(f"{text!r} are too many; give {_COPIES_AT_MOST} or less")
    return int(text)


def _weight(text: str) -> Fraction:
    try:
        value = Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{text!r} is no weight; write for example bert=3") from None
    if not 0 < value < 10**9:
        raise ValueError(f"{text!r} is no weight; give a number above 0")
    return value


def _devices(texts: list[str] | None, slack: float) -> list[PlanDevice]:
    if not texts:
        here = list_devices(slack=_below_one(slack)) or (describe_host(slack=_below_one(slack)),)
        return [PlanDevice(name=found.name, limit_bytes=found.limit_bytes) for found in here]
    return [_device(text, slack) for text in texts]


def _device(text: str, slack: float) -> PlanDevice:
    name, equals, rest = text.partition("=")
    if not equals:
        return _device_here(name, slack)
    size, comma, more = rest.partition(",")
    if comma:
        key, _, share = more.partition("=")
        if key.strip() != "slack":
            raise UsageError(
                f"--device: {more!r} means nothing; write for example {name}=24GiB,slack=5%"
            )
        slack = options.read_value("--device", share, parse_fraction)
    total = options.read_size("--device", size)
    if not name or total is None:
        raise UsageError(f"--device: {text!r} has no name; write for example gpu0=24GiB")
    return PlanDevice(name=name, limit_bytes=total - round(total * _below_one(slack)))


def _device_here(name: str, slack: float) -> PlanDevice:
    here = {found.name: found for found in list_devices(slack=_below_one(slack))}
    if name == "host":
        here["host"] = describe_host(slack=_below_one(slack))
    if name not in here:
        known = ", ".join([*here, "host"])
        raise UsageError(
            f"--device: there is no {name!r} here; devices here: {known}\n"
            f"for one that is not here, give its size: {name}=24GiB"
        )
    return PlanDevice(name=name, limit_bytes=here[name].limit_bytes)


def _below_one(slack: float) -> float:
    if slack >= 1:
        raise UsageError("a slack of 100% leaves nothing to place on; give less")
    return slack

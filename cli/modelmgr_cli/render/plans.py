"""What ``plan`` found, as tables and one sentence, or as plain values for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from modelmgr.simulation.placement import Conflict, Demand, ModelNeed, Plan
from modelmgr.units import format_bytes
from modelmgr_cli.render import cells
from modelmgr_cli.render.rows import Rows
from modelmgr_cli.terminal import printable

_WIDE = 90


def plan_page(
    plan: Plan,
    needs: Mapping[str, ModelNeed],
    demands: Mapping[str, Demand],
    active: int | None,
    width: int,
) -> list[RenderableType]:
    """Return devices, models, and whether everything fits.

    Args:
        plan: what was found.
        needs: of one copy of each model.
        demands: how many were wanted.
        active: how many run at once on a device, None for all.
        width: columns of the terminal.
    """
    devices = Rows(
        ("device", "usable\nMiB", "needed\nMiB", "idle\nMiB", "left\nMiB"),
        (
            (
                cells.name(found.device.name),
                cells.mebibytes(found.device.limit_bytes),
                cells.mebibytes(found.needed_bytes),
                cells.mebibytes(found.idle_bytes),
                cells.mebibytes(found.left_bytes),
            )
            for found in plan.devices
        ),
    )
    running = "all copies running" if active is None else f"at most {active} running on a device"
    legend = (
        f"needed: the most at any time, {running}, or one loading while the others are idle; "
        "upper figures; more: copies that would still fit, of that model alone"
    )
    page: list[RenderableType] = [devices, Text(), _models(plan, needs, demands, width >= _WIDE)]
    page.append(Text(legend, style="dim"))
    if not plan.proven:
        page.append(Text("the time limit ended the search: there may be a better plan", "yellow"))
    return [*page, Text(), _sentence(plan)]


def plan_as_plain(
    plan: Plan, needs: Mapping[str, ModelNeed], demands: Mapping[str, Demand], active: int | None
) -> dict[str, Any]:
    """Return what JSON shows, bytes."""
    conflict = plan.conflict
    return {
        "fits": plan.fits,
        "proven": plan.proven,
        "active": active,
        "devices": [
            {
                "name": found.device.name,
                "limit_bytes": found.device.limit_bytes,
                "needed_bytes": found.needed_bytes,
                "idle_bytes": found.idle_bytes,
                "left_bytes": found.left_bytes,
                "copies": found.copies,
            }
            for found in plan.devices
        ],
        "models": {
            tag: {
                "copies": plan.copies[tag],
                "at_least": demand.at_least,
                "at_most": demand.at_most,
                "more": plan.more[tag],
                "resident_bytes": needs[tag].resident_bytes,
                "peak_bytes": needs[tag].peak_bytes,
                "load_bytes": needs[tag].load_bytes,
            }
            for tag, demand in demands.items()
        },
        "left_out": plan.left_out,
        "conflict": None
        if conflict is None
        else {
            "copies": conflict.copies,
            "needed_bytes": conflict.needed_bytes,
            "offered_bytes": conflict.offered_bytes,
            "message": why_not(plan, conflict),
        },
    }


def why_not(plan: Plan, conflict: Conflict) -> str:
    """Return why not everything fits, in one sentence."""
    names = [
        printable(tag) if count == 1 else f"{count} copies of {printable(tag)}"
        for tag, count in conflict.copies.items()
    ]
    several = len(names) > 1 or any(count > 1 for count in conflict.copies.values())
    verb, peaks = ("need", "at their peaks") if several else ("needs", "at its peak")
    when = "to be loaded" if conflict.to_load else peaks
    what = f"{_listed(names)} {verb} {format_bytes(conflict.needed_bytes)} {when}"
    if len(plan.devices) == 1:
        offer = f"{printable(plan.devices[0].device.name)} offers"
        offer = f"{offer} {format_bytes(conflict.offered_bytes)}"
    elif not several:
        offer = f"the largest device offers {format_bytes(conflict.largest_bytes)}"
    else:
        offer = f"the devices offer {format_bytes(conflict.offered_bytes)}"
        if conflict.needed_bytes <= conflict.offered_bytes:
            offer += " together, but no way to share them out fits"
    rest = ""
    if any(plan.copies.values()):
        rest = f"; without {_listed([printable(tag) for tag in plan.left_out])} the rest fits"
    return f"{what}, {offer}{rest}"


def _models(
    plan: Plan, needs: Mapping[str, ModelNeed], demands: Mapping[str, Demand], wide: bool
) -> Rows:
    titles = ["model", "copies", "idle\nMiB", "peak\nMiB", "more", "on"]
    if wide:
        titles.insert(4, "to load\nMiB")
    rows: list[list[str | Text]] = []
    for tag in demands:
        on = [
            printable(found.device.name)
            if found.copies[tag] == 1
            else f"{found.copies[tag]} x {printable(found.device.name)}"
            for found in plan.devices
            if tag in found.copies
        ]
        need = needs[tag]
        row: list[str | Text] = [
            cells.name(tag),
            str(plan.copies[tag]),
            cells.mebibytes(need.resident_bytes),
            cells.mebibytes(need.peak_bytes),
            str(plan.more[tag]),
            ", ".join(on) or (cells.UNKNOWN if tag not in plan.left_out else Text("out", "red")),
        ]
        if wide:
            row.insert(4, cells.mebibytes(need.load_bytes))
        rows.append(row)
    return Rows(titles, rows)


def _sentence(plan: Plan) -> Text:
    if plan.conflict is None:
        count = sum(plan.copies.values())
        what = "1 copy fits" if count == 1 else f"All {count} copies fit"
        return Text(f"{what}.", style="bold")
    return Text(f"Does not fit: {why_not(plan, plan.conflict)}.", style="bold red")


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

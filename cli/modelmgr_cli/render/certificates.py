"""What ``certify`` found, as a page or as plain values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from modelmgr.records.certificate import Certificate
from modelmgr.simulation.bound import ratio
from modelmgr.simulation.certificate import Verdict
from modelmgr.units import format_duration
from modelmgr_cli.render import cells
from modelmgr_cli.render.rows import Rows
from modelmgr_cli.terminal import printable


def certificate_page(
    certificate: Certificate, verdict: Verdict, cost_ns: int | None, strangers: Sequence[str]
) -> list[RenderableType]:
    """Return what is proven by device, what the solver says beyond that, and the verdict.

    Args:
        certificate: what was checked.
        verdict: what follows from it.
        cost_ns: what the loads of the result cost that it should belong to, None without one.
        strangers: why it does not belong to it.
    """
    table = Rows(
        ("device", "jobs", "proven\ns", "best found\ns", "a load each\ns"),
        (
            (
                cells.name(device.device),
                f"{device.jobs:,}",
                cells.seconds(device.proven_ns),
                cells.seconds(device.best_ns),
                cells.seconds(device.loads_ns),
            )
            for device in verdict.devices
        ),
    )
    legend = (
        "proven: no eviction and prefetch policy serves these jobs in this order, on the devices "
        "they were served on, with less reload cost; best found: some choice of evictions has it"
    )
    page: list[RenderableType] = [table, Text(legend, style="dim")]
    page += [Text(f"refused: {printable(reason)}", style="red") for reason in verdict.refusals]
    page += [Text(f"does not belong: {printable(reason)}", style="red") for reason in strangers]
    if not verdict.holds:
        return [*page, Text("\nThe certificate does not prove what it claims.", style="bold red")]
    if strangers:
        text = "\nThe certificate proves its bound, but not of this result."
        return [*page, Text(text, style="bold red")]
    solver = certificate.solver
    said = f"the solver's own bound, not proven here: {format_duration(solver.reload_cost_ns)}"
    page.append(Text(f"{said} ({solver.method})", style="dim"))
    if cost_ns is not None:
        page.append(Text(_distance(cost_ns, verdict)))
    proven = format_duration(verdict.proven_ns)
    text = f"\nThe certificate holds: no policy costs less than {proven}."
    return [*page, Text(text, style="bold")]


def certificate_as_plain(
    certificate: Certificate, verdict: Verdict, cost_ns: int | None, strangers: Sequence[str]
) -> dict[str, Any]:
    """Return what JSON shows; ``certified`` is proven, ``solver`` is not."""
    return {
        "holds": verdict.holds and not strangers,
        "refusals": [*verdict.refusals, *strangers],
        "certified": {"reload_cost_ns": verdict.proven_ns},
        "best": {"reload_cost_ns": verdict.best_ns},
        "solver": certificate.solver,
        "result": None
        if cost_ns is None
        else {"cost_of_loads_ns": cost_ns, "over_certified": _over(cost_ns, verdict)},
        "devices": [
            {
                "name": device.device,
                "jobs": device.jobs,
                "certified_ns": device.proven_ns,
                "best_ns": device.best_ns,
                "load_everything_ns": device.loads_ns,
                "refusals": device.refusals,
            }
            for device in verdict.devices
        ],
    }


def _over(cost_ns: int, verdict: Verdict) -> float | None:
    return None if verdict.proven_ns is None else ratio(cost_ns, verdict.proven_ns)


def _distance(cost_ns: int, verdict: Verdict) -> str:
    over = _over(cost_ns, verdict)
    times = "" if over is None else f", {over:.3f} times what is proven"
    return f"the result's loads at these costs: {format_duration(cost_ns)}{times}"

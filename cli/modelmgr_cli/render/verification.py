"""What ``costs verify`` and ``costs diff`` found, as pages."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from modelmgr.measuring.verify import VerifyOutcome
from modelmgr_cli.render import cells
from modelmgr_cli.render.rows import Rows
from modelmgr_cli.terminal import printable


def verification_page(outcome: VerifyOutcome, *, total: int) -> list[RenderableType]:
    """Return every figure that was compared, what else is different, and the verdict.

    Args:
        outcome: what was found.
        total: how many models the database has.
    """
    rows: list[list[str | Text]] = [
        [
            cells.name(figure.tag),
            figure.name.removesuffix("_bytes"),
            cells.mebibytes(figure.stored_bytes),
            cells.mebibytes(figure.measured_bytes),
            cells.percent(figure.relative, signed=True),
            Text("holds", style="green") if figure.holds else Text("does not hold", style="red"),
        ]
        for figure in outcome.figures
    ]
    titles = ("model", "figure", "stored\nMiB", "now\nMiB", "off by\n%", "")
    parts: list[RenderableType] = [Rows(titles, rows, left=2)] if rows else []
    for tag, why in outcome.failed.items():
        parts.append(Text(f"{printable(tag)} could not be measured: {printable(why)}", style="red"))
    parts += [Text(f"note: {printable(note)}", style="dim") for note in outcome.differences]
    return [*parts, _verdict(outcome, total)]


def _verdict(outcome: VerifyOutcome, total: int) -> Text:
    looked = f"{len(outcome.tags)} of its {total} models measured again"
    within = f"tolerance {outcome.tolerance:.1%}"
    if outcome.interrupted:
        return Text(f"\nInterrupted: nothing can be said ({looked}).", style="bold yellow")
    if outcome.holds:
        return Text(f"\nThe database holds on this machine ({looked}, {within}).", style="bold")
    return Text(
        f"\nThe database does not hold on this machine ({looked}, {within}).", style="bold red"
    )

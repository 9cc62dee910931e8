"""What ``doctor`` found, as a page: a mark, what, the fact, and what to do about it."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from modelmgr_cli.checkup import Checkup, State
from modelmgr_cli.terminal import printable

_MARKS: dict[State, tuple[str, str]] = {
    "fine": ("✓", "green"),
    "warning": ("!", "yellow"),
    "problem": ("✗", "red"),
}


def checkup_page(checkup: Checkup) -> list[RenderableType]:
    """Return the page."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for finding in checkup.findings:
        fact = Text(printable(finding.fact))
        if finding.advice is not None:
            fact.append(f"\n→ {printable(finding.advice)}", style="dim")
        table.add_row(Text(*_MARKS[finding.state]), printable(finding.name), fact)
    machine = checkup.machine
    parts: list[RenderableType] = []
    if machine is not None:
        facts = (machine.cpu, machine.os, f"Python {machine.python}")
        parts.append(Text(printable(", ".join(fact for fact in facts if fact)), style="dim"))
    conclusion = checkup.plan or "profile cannot work here: see the lines marked ✗"
    style = "" if checkup.usable else "bold red"
    return [*parts, table, Text(f"\n{conclusion}.", style=style)]

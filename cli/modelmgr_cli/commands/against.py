"""``--against RESULT.json`` of ``simulate`` and ``run``: how far two results are apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelmgr.records.fidelity import compare_results
from modelmgr.records.result import Result
from modelmgr.records.result_codec import load_result
from modelmgr_cli.render.fidelity import KIND, fidelity_as_plain, fidelity_page
from modelmgr_cli.render.json import answer
from modelmgr_cli.terminal import Terminal

Against = Annotated[
    Path | None,
    typer.Option(
        "--against",
        metavar="RESULT.json",
        help="Also say how far this is from another result, in per cent: the simulation from the "
        "real run. With --json, that is what is printed.",
    ),
]


def read_against(path: Path | None) -> Result | None:
    """Read the other result before anything is run; None where there is none."""
    return None if path is None else load_result(path)


def show_against(
    result: Result, against: Result, path: Path, terminal: Terminal, *, json: bool
) -> None:
    """Show how far apart they are."""
    found = compare_results(result, against)
    if json:
        terminal.out(answer(KIND, fidelity_as_plain(found, str(path))))
    else:
        terminal.show("", *fidelity_page(found, str(path)))

"""Check the certificate of an offline bound: exact arithmetic, no solver, nothing believed.

  modelmgr certify mixed-burst.certificate.json
  modelmgr certify mixed-burst.certificate.json --result mixed-burst.json
  modelmgr certify mixed-burst.certificate.json --json

The file holds the served schedule and what proves that no eviction and prefetch policy could have
served it with less reload cost. With --result: also that it belongs to that result (its decisions,
its bound, its devices' limits, how many requests of each model were given a copy), and how far its
loads are from what is proven, by the certificate's costs: a result holds no model's size or cost.

Exit status: 0 it proves what it claims, 1 it does not or belongs to another result, 2 it is no
certificate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelmgr.records.certificate import Certificate
from modelmgr.records.result import Result
from modelmgr.simulation.certificate import check_certificate, cost_of_loads_ns
from modelmgr.simulation.certified_result import why_not_of
from modelmgr_cli.commands import options
from modelmgr_cli.lazy import DocCommand
from modelmgr_cli.outcome import Outcome
from modelmgr_cli.render.certificates import certificate_as_plain, certificate_page
from modelmgr_cli.render.json import answer
from modelmgr_cli.terminal import terminal_of

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(help=__doc__, cls=DocCommand)
def certify(
    context: typer.Context,
    *,
    file: Annotated[
        Path, typer.Argument(metavar="CERTIFICATE.json", help="What simulate --bound wrote.")
    ],
    result: Annotated[
        Path | None,
        typer.Option("--result", metavar="RESULT.json", help="The result it should belong to."),
    ] = None,
    json: options.AsJson = False,
) -> Outcome:
    """Read, check and show."""
    terminal = terminal_of(context)
    certificate = Certificate.load(file)
    run = None if result is None else Result.load(result)
    verdict = check_certificate(certificate)
    cost_ns = None
    strangers: tuple[str, ...] = ()
    if run is not None:
        loads = {tag: model.loads for tag, model in run.models.items()}
        cost_ns = cost_of_loads_ns(certificate, loads)
        strangers = why_not_of(certificate, verdict, run, cost_ns)
    if json:
        plain = certificate_as_plain(certificate, verdict, cost_ns, strangers)
        terminal.out(answer("certificate-check", plain))
    else:
        terminal.show(*certificate_page(certificate, verdict, cost_ns, strangers))
    return Outcome.FINE if verdict.holds and not strangers else Outcome.GATE_FAILED

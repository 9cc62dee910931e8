"""Share one manager between the processes of this machine.

Listens on a Unix socket for this user's processes. What they ask for is loaded in worker processes
of the server's: never more on a device than its limit, and what is worth least goes first. A
process that dies, however it dies, loses what it held at once.

  modelmgr serve models.yaml --costs costs.json
  modelmgr serve models.yaml --device cuda:0 --device cuda:1 --policy lru --max-copies 2
  modelmgr serve models.yaml --costs costs.json --learn-to costs.json --metrics 9464

  >>> manager = modelmgr.connect()
  >>> with manager.lease("bert-base") as model: model.infer(batch)

Models that the costs do not know are measured when they are first asked for. The first Ctrl-C,
SIGTERM or SIGHUP refuses what is new, waits for holders and unloads; the second ends at once.

Exit status: 0 stopped by a client; 2 bad input, or somebody listens there already; 5 a device
cannot be read; 130 stopped by a signal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from modelmgr.errors import UsageError
from modelmgr.measuring.preflight import check_source, check_spec
from modelmgr.units import NS_PER_S, parse_duration_ns
from modelmgr.workload.model_list import ModelList
from modelmgr.workload.policy_plugins import find_policy, policy_names
from modelmgr_cli.commands import options
from modelmgr_cli.lazy import DocCommand
from modelmgr_cli.outcome import Outcome
from modelmgr_cli.render.server_log import server_log
from modelmgr_cli.serving import ServeSettings, serve_until_stopped
from modelmgr_cli.terminal import terminal_of

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_NEVER = "never"
_LAST_PORT = 65535


def _complete_policies(incomplete: str) -> list[str]:
    return [name for name in policy_names() if name.startswith(incomplete)]


@app.command(help=__doc__, cls=DocCommand)
def serve(
    context: typer.Context,
    *,
    models: options.ModelList,
    socket: Annotated[
        Path | None,
        typer.Option(
            "--socket",
            metavar="PATH",
            help="Where to listen. Default: below $XDG_RUNTIME_DIR, else a folder of this user's.",
        ),
    ] = None,
    costs: Annotated[
        Path | None,
        typer.Option("--costs", metavar="FILE", help="What the models cost; modelmgr profile."),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device",
            metavar="NAME",
            help="host, cuda:N or fixed:SIZE; may be given more than once. Default: every CUDA "
            "device, else the host.",
        ),
    ] = None,
    budget: options.Budget = None,
    slack: Annotated[
        str | None,
        typer.Option(
            "--slack",
            metavar="SHARE",
            help="What stays free of each device. Default: 10%, with --budget none.",
        ),
    ] = None,
    policy: Annotated[
        str,
        typer.Option(
            "--policy",
            metavar="NAME",
            help="What goes when room is needed: lru, gdsf, demand-tiers, queue-value or one that "
            "another package brings.",
            autocompletion=_complete_policies,
        ),
    ] = "queue-value",
    isolation: Annotated[
        Literal["exclusive", "beside"],
        typer.Option(
            "--isolation",
            metavar="exclusive|beside",
            help="Measure an unknown model on an empty device, or beside others where it fits.",
        ),
    ] = "beside",
    max_bypass: Annotated[
        int,
        typer.Option(
            "--max-bypass", metavar="N", help="How often a waiting request may be passed over."
        ),
    ] = 8,
    min_copies: Annotated[
        int,
        typer.Option(
            "--min-copies", metavar="N", help="Copies of a model that no other's growth may take."
        ),
    ] = 1,
    max_copies: Annotated[
        int | None,
        typer.Option(
            "--max-copies", metavar="N", help="Most copies of a model. Default: no ceiling."
        ),
    ] = None,
    cooldown: Annotated[
        str,
        typer.Option(
            "--cooldown",
            metavar="TIME",
            help="How long after its use no other's growth may take a copy.",
        ),
    ] = "10 s",
    wait_timeout: Annotated[
        str,
        typer.Option(
            "--wait-timeout",
            metavar="TIME",
            help="How long a request waits that does not say it; or never.",
        ),
    ] = "300 s",
    load_timeout: Annotated[
        str | None,
        typer.Option("--load-timeout", metavar="TIME", help="Longest for a load. Default: no end."),
    ] = None,
    stop_timeout: Annotated[
        str,
        typer.Option(
            "--stop-timeout",
            metavar="TIME",
            help="How long a stop waits for those who hold copies.",
        ),
    ] = "30 s",
    metrics: Annotated[
        int | None,
        typer.Option(
            "--metrics",
            metavar="PORT",
            help="Serve Prometheus metrics on this port of 127.0.0.1; 0 takes a free one.",
        ),
    ] = None,
    allow_specs: Annotated[
        bool,
        typer.Option(
            "--allow-specs",
            help="Let clients describe further models; no code that the list does not name.",
        ),
    ] = False,
    learn_to: Annotated[
        Path | None,
        typer.Option(
            "--learn-to",
            metavar="FILE",
            help="Write what use shows of the models' costs into this database; may be --costs.",
        ),
    ] = None,
) -> Outcome:
    """Check everything, then serve until somebody ends it."""
    terminal = terminal_of(context)
    budget_bytes = options.read_size("--budget", budget)
    if metrics is not None and not 0 <= metrics <= _LAST_PORT:
        raise UsageError(f"--metrics: {metrics} is no port; write one from 1024 to {_LAST_PORT}")
    try:
        find_policy(policy)
    except UsageError as error:
        raise UsageError(f"--policy: {error}") from error
    for option, count, least in (
        ("--max-bypass", max_bypass, 0),
        ("--min-copies", min_copies, 0),
        ("--max-copies", max_copies, max(1, min_copies)),
    ):
        if count is not None and count < least:
            raise UsageError(f"{option}: {count} is too few; write {least} or more")
    if learn_to is not None:
        options.check_output(learn_to, "--learn-to")
        options.keep_apart(learn_to, "--learn-to", {"the model list": models})
    chosen = _checked_models(models)
    settings = ServeSettings(
        models=chosen.models,
        devices=tuple(device or ()),
        budget_bytes=budget_bytes,
        slack=options.slack_for(budget_bytes) if slack is None else _share("--slack", slack),
        socket=socket,
        costs=None if costs is None else options.load_database(costs),
        learn_to=learn_to,
        policy=policy,
        isolation=isolation,
        max_bypass=max_bypass,
        min_copies=min_copies,
        max_copies=max_copies,
        cooldown_s=_seconds("--cooldown", cooldown),
        wait_timeout_s=None if wait_timeout == _NEVER else _seconds("--wait-timeout", wait_timeout),
        stop_timeout_s=_seconds("--stop-timeout", stop_timeout),
        load_timeout_s=options.read_seconds("--load-timeout", load_timeout),
        accept_specs=allow_specs,
        metrics_port=metrics,
    )
    with server_log(terminal):
        return serve_until_stopped(settings, terminal)


def _checked_models(path: Path) -> ModelList:
    """Read the list, and refuse what can be seen to be wrong with a model before it is loaded."""
    chosen = options.choose_models(path, None)
    for spec in chosen.models:
        check_spec(spec, chosen.places)
        check_source(spec, chosen.places)
    return chosen


def _seconds(option: str, text: str) -> float:
    """Return seconds; none is a time here."""
    return options.read_value(option, text, parse_duration_ns) / NS_PER_S


def _share(option: str, text: str) -> float:
    share = options.read_share(option, text)
    if share >= 1:
        raise UsageError(f"{option}: {text!r} leaves nothing for models; write for example '10%'")
    return share

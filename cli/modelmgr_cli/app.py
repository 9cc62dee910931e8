"""The program: its commands by name, and the one place where exit statuses are made.

Importing this module imports typer and nothing else of weight; each command's module is imported
when it is called (``lazy``). What each exit status means is in ``outcome``.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, ClassVar

import typer
import typer.main

from modelmgr_cli.lazy import LazyGroup
from modelmgr_cli.outcome import Outcome
from modelmgr_cli.terminal import Terminal, take_shared_flags

PROGRAM = "modelmgr"
_COMPLETION_VARIABLE = "_MODELMGR_COMPLETE"


class _Commands(LazyGroup):
    entries: ClassVar = {
        "profile": (
            "modelmgr_cli.commands.profile",
            "Measure what each model of a list costs and write a cost database.",
        ),
        "estimate": (
            "modelmgr_cli.commands.estimate",
            "Predict what each model costs without loading it.",
        ),
        "costs": (
            "modelmgr_cli.commands.costs",
            "Show, compare, merge, verify and export cost databases.",
        ),
        "plan": (
            "modelmgr_cli.commands.plan",
            "Say which models fit together on which device, and why where they do not.",
        ),
        "simulate": (
            "modelmgr_cli.commands.simulate",
            "Run a scenario in virtual time, through the scheduler that runs in production.",
        ),
        "run": (
            "modelmgr_cli.commands.run",
            "Run a scenario for real: worker processes, real memory, the wall clock.",
        ),
        "compare": (
            "modelmgr_cli.commands.compare",
            "Hold a database or a result against an earlier one; fail where it got worse.",
        ),
        "certify": (
            "modelmgr_cli.commands.certify",
            "Check the certificate of an offline bound, without a solver.",
        ),
        "serve": (
            "modelmgr_cli.commands.serve",
            "Share one manager between the processes of this machine.",
        ),
        "top": ("modelmgr_cli.commands.top", "Watch the shared manager."),
        "doctor": (
            "modelmgr_cli.commands.doctor",
            "Say what this machine has and what profile would do on it.",
        ),
        "init": ("modelmgr_cli.commands.init", "Write a starter model list."),
        "schema": ("modelmgr_cli.commands.schema", "Print the JSON Schema of a file format."),
    }


app = typer.Typer(name=PROGRAM, cls=_Commands, rich_markup_mode=None)


def _print_version(asked: bool) -> None:
    if asked:
        from modelmgr._version import __version__  # noqa: PLC0415  # only when it is asked for

        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback(
    help="""
Measure what each ML model costs on this machine: memory, load time, latency by shape.

  modelmgr init                    write a starter model list, models.yaml
  modelmgr profile models.yaml     measure it: a table, and costs.json
  modelmgr costs show costs.json   look at it again
""",
    epilog="modelmgr COMMAND --help explains a command, with examples.",
)
def _shared(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    # The four below are taken out of the arguments beforehand, wherever they stand
    # (terminal.take_shared_flags); they are declared so that help and completion know them.
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress and no remarks on stderr.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell every step.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    no_color: Annotated[
        bool, typer.Option("--no-color", help="No colours; so do NO_COLOR=1 and TERM=dumb.")
    ] = False,
) -> None:
    del version, quiet, verbose, debug, no_color


def main() -> None:
    """Run the program and exit."""
    _have_streams()
    if _COMPLETION_VARIABLE in os.environ:
        typer.main.get_command(app).main(prog_name=PROGRAM)  # a shell asks; this exits
    terminal, arguments = take_shared_flags(sys.argv[1:])
    try:
        outcome = _run(terminal, arguments)
    except BaseException as error:  # noqa: BLE001  # each one ends in a message and a status
        if terminal.debug and not isinstance(error, KeyboardInterrupt | SystemExit):
            import traceback  # noqa: PLC0415  # only after an error

            traceback.print_exc()
        outcome = _told(error, terminal)
    sys.exit(int(outcome))


def _run(terminal: Terminal, arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    try:
        with command.make_context(
            PROGRAM, arguments, obj=terminal, color=terminal.coloured(sys.stdout)
        ) as context:
            outcome: Any = command.invoke(context)
    except typer.Exit as ended:  # --help, --version
        return ended.exit_code
    return Outcome.FINE if outcome is None else int(outcome)


def _told(error: BaseException, terminal: Terminal) -> int:
    """Tell the user about an error in one message and return the exit status for it."""
    if isinstance(error, SystemExit):  # --install-completion, --show-completion
        return error.code if isinstance(error.code, int) else Outcome.FINE
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        terminal.tell("interrupted")
        return Outcome.INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return Outcome.FINE
    from modelmgr_cli.diagnostics import explain  # noqa: PLC0415  # only after an error

    outcome, message = explain(error)
    if outcome is Outcome.INTERNAL_ERROR and _came_of_an_interruption(error):
        terminal.tell("interrupted")
        return Outcome.INTERRUPTED
    terminal.complain(message)
    return outcome


def _came_of_an_interruption(error: BaseException) -> bool:
    """Say whether an error was raised while an interruption unwound.

    One that is asked for twice is thrown wherever the program is: into the middle of a lock's own
    work, for one, which then says that it was never taken.
    """
    before = error.__context__
    while before is not None:
        if isinstance(before, KeyboardInterrupt):
            return True
        before = before.__context__
    return False


def _have_streams() -> None:
    """Give closed streams somewhere to write, and let odd characters pass any encoding."""
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]  # `>&-` makes it None
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  # for the process's life
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]  # `2>&-` makes it None
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115  # for the process's life
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]


if __name__ == "__main__":
    main()

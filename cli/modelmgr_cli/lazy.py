"""Commands whose modules are imported when they are called, and help that needs none of them.

``modelmgr --help`` and shell completion read a table of names and summaries; importing every
command (and rich, msgspec, yaml with them) would make each of them several times slower.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any, ClassVar

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from modelmgr_cli.help import ClickCommand, ClickContext, ClickFormatter, write_help
from modelmgr_cli.outcome import Outcome


class DocCommand(TyperCommand):
    """A command whose help is its text as it was written: examples keep their lines."""

    def format_help(self, ctx: ClickContext, formatter: ClickFormatter) -> None:
        """Write the help page."""
        write_help(self, ctx, formatter, commands={})


class LazyGroup(TyperGroup):
    """A group that imports a command's module when it is called.

    Attributes:
        entries: command name to (module, one-line summary). The module holds ``app``, a typer
            application.
    """

    entries: ClassVar[Mapping[str, tuple[str, str]]] = {}

    def list_commands(self, ctx: ClickContext) -> list[str]:
        """Return the names, importing nothing."""
        del ctx
        return list(self.entries)

    def get_command(self, ctx: ClickContext, cmd_name: str) -> TyperCommand | TyperGroup | None:
        """Import the command's module and return its command; None where there is no such."""
        del ctx
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        command = typer.main.get_command(import_module(entry[0]).app)
        if not isinstance(command, TyperCommand | TyperGroup):  # pragma: no cover
            raise TypeError(f"{entry[0]}.app made {command!r}, which is no typer command")
        command.name = cmd_name
        gc.freeze()  # it all stays: looking through it for garbage took an eighth of a start
        gc.enable()
        return command

    def parse_args(self, ctx: ClickContext, args: list[str]) -> list[str]:
        """Parse the group's own options; no argument at all gets the help page, as wrong usage."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help(), err=True)
            raise typer.Exit(Outcome.BAD_INPUT)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: ClickContext, args: list[str]
    ) -> tuple[str | None, ClickCommand, list[str]]:
        """Find the command; a wrong name is refused with the nearest one."""
        name = args[0]
        if name not in self.entries and not name.startswith("-"):
            ctx.fail(f"No such command {name!r}. {nearest(name, self.entries, 'Commands')}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: ClickContext, incomplete: str) -> list[Any]:
        """Complete names from the table; options as typer does."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        item = _completion_item()
        return [
            item(name, help=summary)
            for name, (_, summary) in self.entries.items()
            if name.startswith(incomplete)
        ]

    def format_help(self, ctx: ClickContext, formatter: ClickFormatter) -> None:
        """Write the help page from the table."""
        summaries = {name: summary for name, (_, summary) in self.entries.items()}
        write_help(self, ctx, formatter, commands=summaries)


def nearest(name: str, known: Iterable[str], what: str) -> str:
    """Return "Did you mean ...?" with the nearest known name, else all of them."""
    names = list(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}?" if near else f"{what}: {', '.join(names)}."


def _completion_item() -> type[Any]:
    # The class that typer's shells understand has no public name; typer.core is where they meet it.
    from typer.core import CompletionItem  # type: ignore[attr-defined]  # pyright: ignore[reportPrivateImportUsage]  # not re-exported  # noqa: PLC0415  # without it only completion fails

    return CompletionItem

"""Do what a page says, in its order: write its files, run its commands, keep what they show.

A ``console`` block holds command lines after ``$`` and below each what it writes to stdout, or
nothing where that does not matter. A line of three dots stands for any number of lines, an ellipsis
(…) for any words within a line. A command
may only fail where ``echo $?`` comes next; then what it writes to stderr counts as well. The
program runs within this process, everything else in one of its own.

As a script it writes what commands show and which options they have today into the pages that it is
given, but for what has three dots: ``PYTHONPATH=tests python -m support.page_walk docs/*.md``.
"""

from __future__ import annotations

import difflib
import io
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from unittest import mock

from modelmgr_cli.app import main
from support.command_line import COMMAND, clean_environment
from support.program_options import commands
from support.written_pages import ROOT, Block, read_blocks, read_tables, source_of

_WIDTH = "100"
_ANY_LINES = "..."
_ANY_WORDS = "…"
_PATIENCE_S = 120
_AFTER = {"docs/library.md": "docs/profile.md", "docs/compare.md": "docs/profile.md"}
"""Pages that go on with the files of another one; every other has a folder of its own."""
_SAID_ONLY = ("make", "pip", ".")
"""Commands that other tests run, or that would change the installation."""
_FOREIGN = {"python": (sys.executable, "-W", "error"), "sha256sum": ("sha256sum",)}


@dataclass(slots=True)
class Command:
    """A command line of a ``console`` block, as one and as written, and what it is said to show."""

    line: str
    written: list[str]
    shown: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command wrote and how it ended."""

    stdout: str
    stderr: str
    status: int


@dataclass(frozen=True, slots=True)
class Told:
    """A command of a page and how it ended; ``may_fail`` where the page shows the status."""

    block: Block
    command: Command
    finished: Finished
    may_fail: bool

    @property
    def real(self) -> list[str]:
        """The lines that the page should show."""
        finished = self.finished
        text = finished.stdout + (finished.stderr if finished.status else "")
        return [line.rstrip() for line in text.splitlines()]

    @property
    def problem(self) -> str | None:
        """What is not as the page says; None where all of it is."""
        where = f"{self.block.place}: $ {self.command.line}\n"
        if self.finished.status and not self.may_fail:
            return f"{where}status {self.finished.status}\n{self.finished.stderr}"
        shown = self.command.shown
        if not shown or is_shown(shown, self.real, measured="figures" in self.block.marks):
            return None
        return where + "\n".join(
            difflib.unified_diff(shown, self.real, "shown", "real", lineterm="")
        )


def commands_of(block: Block) -> list[Command]:
    """Return a console block's command lines; a backslash at an end goes on in the next line."""
    found: list[Command] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:], [line]))
        elif not found:
            raise AssertionError(f"{block.place}: output before the first command")
        elif found[-1].line.endswith("\\"):
            found[-1].line = f"{found[-1].line[:-1]}{line.strip()}"
            found[-1].written.append(line)
        else:
            found[-1].shown.append(line)
    return found


def masked(text: str) -> str:
    """Return a text without what a machine and its load change: figures, units, widths, bars."""
    text = re.sub(r"sha256:[0-9a-f]+", "#", text)
    text = re.sub(r"\b[\dT:-]{10,}Z\b", "#", text)
    text = re.sub(r"[-+±]?\d[\d,.]*(e[-+]\d+)?( ?([KMGT]i)?B\b| ?[nµm]?s\b| ?%)?", "#", text)
    text = re.sub(r"\b([KMGT]iB|[nµm]s)\b", "#", text)
    text = re.sub(r"(?<=\s)-(?=\s)", "#", text)
    text = re.sub(r"[─█]+", "", text)
    return " ".join(text.split())


def is_shown(shown: Sequence[str], real: Sequence[str], *, measured: bool) -> bool:
    """Say whether a page shows what a command wrote; of what is measured, all but the figures."""
    parts = "\n".join(["", *shown, ""]).split(f"\n{_ANY_LINES}\n")
    text = "\n".join(["", *real, ""])
    if measured:
        parts, text = [masked(part) for part in parts], masked(text)
    pattern = ".*".join(re.escape(part).replace(_ANY_WORDS, "[^\n]*") for part in parts)
    return re.fullmatch(pattern, text, re.DOTALL) is not None


class Walk:
    """A folder in which pages are followed; the end of its block ends what they started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._told: dict[str, list[Told]] = {}
        self._stack = ExitStack()
        self._status = 0
        # A socket's path may be 107 bytes long, which a test's own folder may be alone.
        runtime = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="mm"))
        self._environment = clean_environment(
            COLUMNS=_WIDTH,
            CUDA_VISIBLE_DEVICES="",
            OMP_NUM_THREADS="1",  # on a busy machine threads that wait for each other take seconds
            XDG_RUNTIME_DIR=runtime,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def follow(self, page: str) -> list[Told]:
        """Do all that a page says, once, and return what its commands told."""
        if page not in self._told:
            first = _AFTER.get(page, page)
            if first != page:
                self.follow(first)
            self.folder = self._folder / Path(first).stem
            if not self.folder.exists():
                self.folder.mkdir()
                (self.folder / "scenarios").symlink_to(ROOT / "scenarios")
            self._environment["PYTHONPATH"] = str(self.folder)
            self._told[page] = [told for block in read_blocks(page) for told in self._do(block)]
        return self._told[page]

    def _do(self, block: Block) -> list[Told]:
        if "file" in block.marks:
            self._write(block)
        elif block.language == "python":
            (self.folder / "example.py").write_text(block.text, encoding="utf-8")
            command = Command("python example.py", [])
            return [Told(block, command, self._finish(command.line), may_fail=False)]
        elif block.language == "console":
            commands = commands_of(block)
            follow = [command.line for command in commands[1:]]
            return [
                Told(block, command, self._finish(command.line), may_fail=after == "echo $?")
                for command, after in zip(commands, [*follow, ""], strict=True)
            ]
        return []

    def _write(self, block: Block) -> None:
        path = self.folder / block.marks["file"]
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        if path.name == "pyproject.toml":  # what installing it would leave
            project = tomllib.loads(block.text)["project"]
            info = self.folder / f"{project['name']}-{project['version']}.dist-info"
            info.mkdir()
            head = (
                f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
            )
            (info / "METADATA").write_text(head)
            groups = project["entry-points"].items()
            text = "".join(
                f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
                for group, entries in groups
            )
            (info / "entry_points.txt").write_text(text)

    def _finish(self, line: str) -> Finished:
        if line == "echo $?":
            return Finished(f"{self._status}\n", "", 0)
        words = shlex.split(line, comments=True)
        if words[0] in _SAID_ONLY:
            return Finished("", "", 0)
        if words[-1] == "&":
            return self._start(words[1:-1])
        target = words[-1] if ">" in words else None
        if target is not None:
            words = words[: words.index(">")]
        finished = self._own(words[1:]) if words[0] == "modelmgr" else self._foreign(words)
        self._status = finished.status
        if target is not None:
            (self.folder / target).write_text(finished.stdout, encoding="utf-8")
            return Finished("", finished.stderr, finished.status)
        return finished

    def _own(self, arguments: Sequence[str]) -> Finished:
        raw = io.BytesIO(), io.BytesIO()
        status: object = None
        with (
            chdir(self.folder),
            mock.patch.dict(os.environ, self._environment, clear=True),
            mock.patch.object(sys, "argv", ["modelmgr", *arguments]),
            mock.patch.object(sys, "path", [str(self.folder), *sys.path]),
            redirect_stdout(io.TextIOWrapper(raw[0], "utf-8", write_through=True)) as out,
            redirect_stderr(io.TextIOWrapper(raw[1], "utf-8", write_through=True)) as err,
        ):
            try:
                main()
            except SystemExit as ended:
                status = ended.code
            finally:
                out.detach()
                err.detach()
        stdout, stderr = (stream.getvalue().decode() for stream in raw)
        return Finished(stdout, stderr, status if isinstance(status, int) else 0)

    def _foreign(self, words: Sequence[str]) -> Finished:
        finished = subprocess.run(  # noqa: S603  # our own pages
            [*_FOREIGN[words[0]], *words[1:]],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=self._environment,
            timeout=_PATIENCE_S,
        )
        # An example has no business with stderr; a program that tells its progress there may.
        status = finished.returncode or int(words[0] == "python" and finished.stderr != "")
        return Finished(finished.stdout, finished.stderr, status)

    def _start(self, arguments: Sequence[str]) -> Finished:
        """Start a server and wait until it says how to connect."""
        process = subprocess.Popen(  # noqa: S603  # our own program
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=self._environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._stack.callback(_stop, process)
        assert process.stderr is not None
        said = next((line for line in process.stderr if "modelmgr.connect(" in line), None)
        return Finished("", said or "it ended and never said how to connect", int(said is None))


def _stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=_PATIENCE_S)


def refreshed(page: str, told: Sequence[Told]) -> str:
    """Return a page with what its commands and options are today, where it says otherwise."""
    lines = source_of(page).splitlines()
    known = commands()
    changes: dict[int, tuple[int, list[str]]] = {}
    for table in read_tables(page):
        if table.marks.get("options of") in known:
            cells = [
                [c.replace("|", r"\|") for c in row] for row in known[table.marks["options of"]]
            ]
            rows = [f"| {' | '.join(row)} |" for row in cells]
            changes[table.line + 1] = len(table.rows), rows
    for item in told:
        block = item.block
        if block.language == "console":
            _, texts = changes.setdefault(block.line, (len(block.text.splitlines()), []))
            shown = item.command.shown
            kept = item.problem is None or _ANY_LINES in shown or _ANY_WORDS in "".join(shown)
            texts += [*item.command.written, *(shown if kept else item.real)]
    for line in sorted(changes, reverse=True):
        size, texts = changes[line]
        lines[line : line + size] = texts
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place, Walk(Path(place)) as walk:
        for name in sys.argv[1:]:
            (ROOT / name).write_text(refreshed(name, walk.follow(name)), encoding="utf-8")

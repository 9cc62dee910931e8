"""Do what a page says, in its order: write its files, run its commands, keep what they show.

A command may only fail where ``echo $?`` comes next; then what it writes to stderr counts as well.
The program runs within this process, everything else in one of its own.

As a script it writes what commands show and which options they have today into the pages that it is
given, but for what has dots: ``PYTHONPATH=tests python -m support.page_walk docs/*.md``.
"""

from __future__ import annotations

import difflib
import io
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from unittest import mock

from modelmgr_cli.app import main
from support.command_line import COMMAND, clean_environment
from support.console_blocks import ANY_LINES, ANY_WORDS, Command, commands_of, is_shown
from support.program_options import commands
from support.written_pages import ROOT, Block, read_blocks, read_tables, source_of

_WIDTH = "100"
_PATIENCE_S = 120
_AFTER = {"docs/library.md": "docs/profile.md"}
"""A page that goes on with the files of another one; every other has a folder of its own."""
_SAID_ONLY = ("make", "pip", ".")
"""Commands that other tests run, or that would change the installation."""
_FOREIGN = {"python": (sys.executable, "-W", "error"), "sha256sum": ("sha256sum",)}


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


class Walk:
    """A folder in which pages are followed; the end of its block ends what they started."""

    def __init__(self, folder: Path) -> None:
        self._folder = self._page_folder = folder
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
            self._page_folder = self._folder / Path(first).stem
            if not self._page_folder.exists():
                self._page_folder.mkdir()
                (self._page_folder / "scenarios").symlink_to(ROOT / "scenarios")
            self._environment["PYTHONPATH"] = str(self._page_folder)
            self._told[page] = [told for block in read_blocks(page) for told in self._do(block)]
        return self._told[page]

    def _do(self, block: Block) -> list[Told]:
        if "file" in block.marks:
            self._write(block)
        elif block.language == "python":
            (self._page_folder / "example.py").write_text(block.text, encoding="utf-8")
            command = Command("python example.py", [])
            return [Told(block, command, self._finish(command.line), may_fail=False)]
        elif block.language == "console":
            lines = commands_of(block)
            after = [*(command.line for command in lines[1:]), ""]
            return [
                Told(block, command, self._finish(command.line), may_fail=then == "echo $?")
                for command, then in zip(lines, after, strict=True)
            ]
        return []

    def _write(self, block: Block) -> None:
        path = self._page_folder / block.marks["file"]
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        if path.name == "pyproject.toml":  # what installing it would leave
            project = tomllib.loads(block.text)["project"]
            info = self._page_folder / f"{project['name']}-{project['version']}.dist-info"
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
            (self._page_folder / target).write_text(finished.stdout, encoding="utf-8")
            return Finished("", finished.stderr, finished.status)
        return finished

    def _own(self, arguments: Sequence[str]) -> Finished:
        raw = io.BytesIO(), io.BytesIO()
        status: object = None
        with (
            chdir(self._page_folder),
            mock.patch.dict(os.environ, self._environment, clear=True),
            mock.patch.object(sys, "argv", ["modelmgr", *arguments]),
            mock.patch.object(sys, "path", [str(self._page_folder), *sys.path]),
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
            cwd=self._page_folder,
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
            cwd=self._page_folder,
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
            kept = item.problem is None or ANY_LINES in shown or ANY_WORDS in "".join(shown)
            texts += [*item.command.written, *(shown if kept else item.real)]
    for line in sorted(changes, reverse=True):
        size, texts = changes[line]
        lines[line : line + size] = texts
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place, Walk(Path(place)) as walk:
        for name in sys.argv[1:]:
            (ROOT / name).write_text(refreshed(name, walk.follow(name)), encoding="utf-8")

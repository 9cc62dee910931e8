"""``modelmgr serve`` in a process of its own, for tests of it and of what talks to it."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path
from typing import Self

from modelmgr.records.costs import ModelCost
from modelmgr.units import MIB
from support.command_line import Program
from support.some_database import database_of

PATIENCE_S = 60.0

MODELS = """
schema_version: 1
models:
  - {tag: bert, loader: synthetic, options: {resident: 6 MiB, load: 10 ms}}
  - {tag: gpt2, loader: synthetic, options: {resident: 9 MiB, load: 10 ms}}
  - {tag: t5, loader: synthetic, options: {resident: 5 MiB, load: 10 ms}}
"""


def write_inputs(folder: Path, **needed_mib: int) -> None:
    """Write ``models.yaml`` and ``costs.json``: bert, gpt2 and t5 need so much, or 100 MiB."""
    (folder / "models.yaml").write_text(MODELS, "utf-8")
    needed = {"bert": 100, "gpt2": 100, "t5": 100, **needed_mib}
    database_of(
        {tag: ModelCost(initial_estimate_bytes=size * MIB) for tag, size in needed.items()}
    ).save(folder / "costs.json")


class ServedProgram:
    """``modelmgr serve models.yaml ...`` from when it listens; killed at the end of the block.

    Args:
        folder: where it runs; the socket is ``s`` there.
        arguments: further ones.
        environment: further variables.
        open_files: how many it may have, None for as many as this process.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        environment: dict[str, str] | None = None,
        open_files: int | None = None,
    ) -> None:
        self.socket = folder / "s"
        self.said: list[str] = []
        self.process = Program(folder).start(
            *("serve", "models.yaml", "--socket", "s", *arguments),
            environment=environment,
            open_files=open_files,
        )
        try:
            self.wait_for("listening at ")
        except BaseException:
            self.__exit__()
            raise

    def wait_for(self, text: str) -> str:
        """Return the next line on stderr that has the text."""
        while True:
            line = self._next_line()
            assert line, f"it ended: {self.said}"
            self.said.append(line)
            if text in line:
                return line

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.end()

    def end(self) -> int:
        """Wait for its end; what it still said is in ``said``."""
        while line := self._next_line():
            self.said.append(line)
        return self.process.wait(PATIENCE_S)

    def _next_line(self) -> str:
        assert self.process.stderr is not None
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stderr], [], [], PATIENCE_S)
            assert ready, f"it says nothing more after: {self.said}"
            read = os.read(self.process.stderr.fileno(), 1)
            if not read:
                break
            line += read
        return line.decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

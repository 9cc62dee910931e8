"""``modelmgr top``: a snapshot in a pipe, a page on a terminal, a server that comes and goes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Self

import pytest

import modelmgr as library
from support.command_line import COMMAND, Program, clean_environment
from support.served_program import PATIENCE_S, ServedProgram, write_inputs

FIXED = (
    *("--device", "fixed:250MiB", "--slack", "0", "--costs", "costs.json"),
    *("--max-copies", "1", "--cooldown", "0 s"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_inputs(tmp_path)
    return tmp_path


@contextlib.contextmanager
def _busy(served: ServedProgram) -> Generator[None]:
    """Have bert held, gpt2 evicted for t5, and somebody waiting for bert."""
    waiting: list[BaseException | None] = []

    def wait() -> None:
        try:
            manager.lease("bert", timeout=None, priority=3).release()
        except library.ModelmgrError as error:
            waiting.append(error)

    with library.connect(served.socket) as manager:
        with manager.lease("gpt2"):
            pass
        with manager.lease("bert"):
            with manager.lease("t5"):
                pass
            thread = threading.Thread(target=wait)
            thread.start()
            while not manager.snapshot().queue:
                pass
            manager.pin("t5")
            yield
        thread.join(PATIENCE_S)
        assert not waiting


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_a_pipe_gets_one_snapshot_as_wide_as_asked(
    folder: Path, modelmgr: Program, columns: int
) -> None:
    with ServedProgram(folder, *FIXED) as served, _busy(served):
        shown = modelmgr("top", "--socket", "s", environment={"COLUMNS": str(columns)})

    assert shown.returncode == 0, shown.stderr
    assert not shown.stderr
    lines = shown.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    assert f"process {served.process.pid}" in lines[0]
    text = " ".join(" ".join(lines).split())
    assert "200.0 MiB of 250.0 MiB, 80.0 %" in text
    assert "models 200.0 MiB" in text
    assert "used 0 B" in text
    assert "gpt2 (copy 1) left fixed:250MiB for t5: make-room, 100.0 MiB" in text
    assert "chosen of 1: gpt2 1;" in text
    assert "lru, gdsf, demand-tiers: the same" in text
    assert "idle, pinned" in text
    assert f"client {os.getpid()}" in text
    assert f"process {os.getpid()}" in text  # it holds bert and waits for another
    assert "per minute" not in text  # one look says nothing of it
    if columns >= 80:
        (waiting,) = (line.split() for line in lines if " waiting " in line)
        assert waiting[0] == "bert"
        assert waiting[3] == "3"
        (since,) = (line.split() for line in lines if line.startswith("since start"))
        assert since[2:8] == ["3", "0", "0.00", "3", "1", "0"]
    assert "\x1b" not in shown.stdout


def test_json_has_everything(folder: Path, modelmgr: Program) -> None:
    with ServedProgram(folder, *FIXED) as served, _busy(served):
        shown = modelmgr("top", "--socket", "s", "--json")
    told = json.loads(shown.stdout)

    assert (told["kind"], told["schema_version"]) == ("modelmgr.top", 1)
    assert told["server_pid"] == served.process.pid
    snapshot = told["snapshot"]
    assert [copy["tag"] for copy in snapshot["copies"]] == ["bert", "t5"]
    assert snapshot["queue"][0]["tag"] == "bert"
    assert snapshot["devices"][0]["limit_bytes"] == 250 * 1024**2
    totals = {model["tag"]: model for model in snapshot["totals"]["models"]}
    assert totals["gpt2"]["evictions"] == {"make-room": 1}
    (client,) = told["clients"]
    assert client["pid"] == os.getpid()
    assert (client["held"], client["waiting"]) == (["bert"], ["bert"])
    assert client["user"]
    (eviction,) = told["evictions"]
    assert (eviction["tag"], eviction["requested_by"]) == ("gpt2", "t5")


def test_an_idle_server_has_a_page_too(folder: Path, modelmgr: Program) -> None:
    with ServedProgram(folder, *FIXED):
        shown = modelmgr("top", "--socket", "s", "--once")
    assert "no copy is loaded" in shown.stdout
    assert "nobody waits" in shown.stdout
    assert "no client is connected" in shown.stdout  # but the one that asks
    assert "nothing was evicted" in shown.stdout


@pytest.mark.parametrize("flag", ["--once", "--json", "--interval=1 s"])
def test_where_nobody_listens_it_says_so(tmp_path: Path, modelmgr: Program, flag: str) -> None:
    (said,) = modelmgr.refused("top", "--socket", "s", flag, status=5).splitlines()
    assert f"no server listens at {tmp_path / 's'}" in said


@pytest.mark.parametrize("interval", ["1", "0 s", "soon"])
def test_an_interval_that_is_none_is_refused(modelmgr: Program, interval: str) -> None:
    assert "--interval" in modelmgr.refused("top", "--interval", interval)


class _OnATerminal:
    """``modelmgr top`` on a terminal of its own, until the end of the block."""

    def __init__(self, folder: Path, columns: int, **environment: str) -> None:
        self.seen = b""
        self._ours, theirs = pty.openpty()
        self.resize(columns, quiet=True)
        self.process = subprocess.Popen(  # noqa: S603 - our own program
            [*COMMAND, "top", "--socket", "s", "--interval", "50 ms"],
            cwd=folder,
            env=clean_environment(TERM="xterm-256color", **environment),
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
        )
        os.close(theirs)

    def resize(self, columns: int, *, quiet: bool = False) -> None:
        """Change the terminal's size."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        if not quiet:  # it is not the program's controlling terminal, whose kernel would tell it
            self.process.send_signal(signal.SIGWINCH)

    def wait_for(self, *texts: str) -> str:
        """Return what is shown from now on until it has all the texts."""
        self.seen = b""
        while not all(text.encode() in self.seen for text in texts):
            assert self._read(), (texts, self.seen.decode())
        return self.seen.decode()

    def interrupt(self) -> int:
        """Press Ctrl-C, and return the exit status."""
        self.seen = b""
        self.process.send_signal(signal.SIGINT)
        while self._read():
            pass
        return self.process.wait(PATIENCE_S)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._ours], [], [], PATIENCE_S)
        assert ready, self.seen.decode()
        try:
            chunk = os.read(self._ours, 65536)
        except OSError:  # Linux says so when the other side is closed
            return False
        self.seen += chunk
        return bool(chunk)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
        assert self.process.stderr is not None
        self.process.stderr.close()


def test_a_terminal_gets_a_page_that_follows_its_size_and_is_given_back(folder: Path) -> None:
    with ServedProgram(folder, *FIXED) as served, _busy(served), _OnATerminal(folder, 80) as top:
        narrow = top.wait_for("\x1b[?1049h", "client ", "per minute", "the same")
        top.resize(140)
        wide = top.wait_for("─" * 60, "the same")
        assert top.interrupt() == 130
        assert top.process.stderr is not None
        assert top.process.stderr.read() == b""

    assert "\x1b[" in narrow
    assert wide
    assert "\x1b[?1049l" in top.seen.decode()  # the screen of before
    assert "\x1b[?25h" in top.seen.decode()  # with its cursor


def test_the_terminal_is_given_back_whenever_it_is_interrupted(folder: Path) -> None:
    """In the middle of drawing it was not: once in some hundred times."""
    with ServedProgram(folder, *FIXED):
        for _ in range(4):
            with _OnATerminal(folder, 200) as top:
                top.wait_for("\x1b[?1049h")  # the first page follows
                assert top.interrupt() == 130
            assert "\x1b[?1049l" in top.seen.decode()
            assert "\x1b[?25h" in top.seen.decode()


def test_no_color_takes_the_colours_and_leaves_the_page(folder: Path) -> None:
    with ServedProgram(folder, *FIXED), _OnATerminal(folder, 80, NO_COLOR="1") as top:
        seen = top.wait_for("nobody waits", "nothing was evicted")
        assert top.interrupt() == 130
    assert "\x1b[3" not in seen.replace("\x1b[3m", "")
    assert "\x1b[9" not in seen


def test_a_server_that_went_is_awaited(folder: Path) -> None:
    with ServedProgram(folder, *FIXED) as served, _OnATerminal(folder, 100) as top:
        top.wait_for("nobody waits")
        assert served.stop() == 130
        top.wait_for("the server is gone or stopped", "nobody waits")
        with ServedProgram(folder, *FIXED) as again:
            seen = top.wait_for(f"process {again.process.pid}", "nothing was evicted")
            assert top.interrupt() == 130
    assert "the server is gone" not in seen.rpartition(f"process {again.process.pid}")[2]


def test_a_server_that_is_stopped_is_told_from_a_quiet_one(folder: Path) -> None:
    with ServedProgram(folder, *FIXED) as served, _OnATerminal(folder, 100) as top:
        top.wait_for("nobody waits")
        served.process.send_signal(signal.SIGSTOP)
        try:
            top.wait_for("the server is gone or stopped")
        finally:
            served.process.send_signal(signal.SIGCONT)
        while "gone or stopped" in top.wait_for(f"process {served.process.pid}", "was evicted"):
            pass
        assert top.interrupt() == 130

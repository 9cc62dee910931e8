"""The program in a process that has imported it already and forks for every call.

A call then costs a fork instead of an interpreter's start and a second of imports. Else it is what
it is to a user: a process with arguments, environment, folder and streams of its own that ends with
an exit status. What a real start decides (what is imported when, what the interpreter itself reads,
the order of hashes) is tested by ``command_line.Program`` without this.

Run as a script with a socket's descriptor, this file is the process that forks.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_MOST_BYTES = 2**20
_IMPORTED_LATE = (
    *("pydantic.type_adapter", "rich.console", "rich.progress", "rich.table"),
    *("scipy.optimize", "scipy.sparse"),
)


class WarmProgram:
    """The process, from the first call until ``close``; one call at a time."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._running: tuple[socket.socket, subprocess.Popen[bytes]] | None = None

    def run(
        self,
        arguments: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        timeout_s: float,
    ) -> subprocess.CompletedProcess[str]:
        """Run the program to its end, as ``subprocess.run`` does."""
        call = {"arguments": arguments, "folder": str(folder), "environment": dict(environment)}
        with self._turn, ThreadPoolExecutor(2) as readers:
            forker = self._forker()
            forker.settimeout(timeout_s)
            (out, write_out), (err, write_err) = os.pipe(), os.pipe()
            written = [readers.submit(_read_all, stream) for stream in (out, err)]
            socket.send_fds(forker, [json.dumps(call).encode()], [write_out, write_err])
            os.close(write_out)
            os.close(write_err)
            child = int(forker.recv(_MOST_BYTES) or self._last_words())
            try:
                status = int(forker.recv(_MOST_BYTES))
            except BaseException:
                os.kill(child, signal.SIGKILL)
                forker.recv(_MOST_BYTES)
                raise
            stdout, stderr = (text.result() for text in written)
        return subprocess.CompletedProcess(list(arguments), status, stdout, stderr)

    def close(self) -> None:
        """End the process."""
        if self._running is not None:
            forker, process = self._running
            forker.close()
            process.communicate()

    def _last_words(self) -> str:
        """Return what the process said that ended instead of forking."""
        assert self._running is not None
        return self._running[1].communicate()[0].decode()

    def _forker(self) -> socket.socket:
        if self._running is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                process = subprocess.Popen(  # noqa: S603 - ourselves
                    [sys.executable, __file__, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,  # as in a fork, so that Python's streams fit
                    stderr=subprocess.STDOUT,
                    pass_fds=(theirs.fileno(),),
                )
            self._running = ours, process
        return self._running[0]


def _read_all(descriptor: int) -> str:
    with open(descriptor, encoding="utf-8") as stream:
        return stream.read()


def _import_everything() -> None:
    """Import what any command may import, at its start or late."""
    program = importlib.import_module("modelmgr_cli")
    for module in pkgutil.walk_packages(program.__path__, "modelmgr_cli."):
        importlib.import_module(module.name)
    for name in _IMPORTED_LATE:
        with contextlib.suppress(ModuleNotFoundError):  # typer does without pydantic
            importlib.import_module(name)
    gc.freeze()  # a collection in a fork would copy all of it


def _fork_for_each_call(calls: socket.socket) -> bool:
    """Fork for each call; return True in each fork, and False once nobody calls any more."""
    while True:
        request, streams, _, _ = socket.recv_fds(calls, _MOST_BYTES, 2)
        if not request:
            return False
        child = os.fork()
        if child == 0:
            calls.close()
            _become(json.loads(request), streams)
            return True
        for stream in streams:
            os.close(stream)
        calls.send(str(child).encode())
        _, status = os.waitpid(child, 0)
        calls.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(call: dict[str, Any], streams: Sequence[int]) -> None:
    for number, stream in enumerate(streams, start=1):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(call["folder"])
    os.environ.clear()
    os.environ.update(call["environment"])
    sys.argv[1:] = call["arguments"]
    sys.path[0] = call["folder"]  # as `python -m` has it


if __name__ == "__main__":
    _import_everything()
    with contextlib.suppress(KeyboardInterrupt):  # of a terminal's Ctrl-C, which the tests get too
        if not _fork_for_each_call(socket.socket(fileno=int(sys.argv[1]))):
            sys.exit()
    importlib.import_module("modelmgr_cli.app").main()

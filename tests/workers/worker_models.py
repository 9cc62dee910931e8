"""Models that misbehave in every way that a worker must survive, for the ``python`` loader.

Imported in worker processes only, as ``workers.worker_models:load``.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

import numpy as np

from modelmgr.errors import MissingPackageError, OutOfMemoryError, UsageError
from modelmgr.workers.protocol import MAX_JSON_BYTES


class BrokenMessageError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message for you")


class Model:
    """Does ``on_infer`` for each batch, else gives it back."""

    def __init__(self, options: Mapping[str, object]) -> None:
        self._options = options
        size = options.get("resident_bytes", 0)
        assert isinstance(size, int)
        self._pages = np.ones(size, dtype=np.uint8)
        self.weights_bytes = size

    def make_batch(self, dims: dict[str, int], seed: int) -> object:
        unknown = set(dims) - {"batch_size"}
        if unknown:
            raise ValueError(f"no dimension {min(unknown)!r}")
        return {"batch_size": dims.get("batch_size", 1), "seed": seed}

    def infer(self, batch: object) -> object:
        act(self._options.get("on_infer"), self._options)
        activation = self._options.get("activation_bytes")
        if isinstance(activation, int):
            return {"out": np.ones(activation, dtype=np.uint8)[:1]}
        return batch

    def close(self) -> None:
        act(self._options.get("on_close"), self._options)


def load(**options: object) -> Model:
    act(options.get("on_load"), options)
    return Model(options)


def where(**options: object) -> Environment:
    return Environment(options)


class Environment:
    """Tells what the process sees, asked for by name."""

    def __init__(self, options: Mapping[str, object]) -> None:
        self._options = options

    def infer(self, batch: object) -> object:
        match batch:
            case "environment":
                return dict(os.environ)
            case "folder":
                return str(Path.cwd())
            case "signals":
                return [
                    signal.getsignal(number) == signal.SIG_IGN
                    for number in (signal.SIGINT, signal.SIGHUP)
                ]
            case "session":
                return os.getsid(0)
            case "descriptors":
                return sorted(str(Path(f"/proc/self/fd/{n}").readlink()) for n in _descriptors())
            case "random number":
                return np.random.randint(2**60)
            case "a set":
                return {"found": [1, {2}]}
            case "a generator":
                return (number for number in range(3))
            case "an object":
                return object()
            case "more text than fits":
                return "x" * (MAX_JSON_BYTES + 1)
            case "oom_score_adj":
                return int(Path("/proc/self/oom_score_adj").read_text())
            case _:
                raise ValueError(f"nothing is known of {batch!r}")


def act(name: object, options: Mapping[str, object]) -> None:
    if name is not None:
        _ACTIONS[str(name)](options)


def _descriptors() -> list[int]:
    found: list[int] = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them
            os.fstat(int(link.name))
            found.append(int(link.name))
    return found


def _sockets() -> list[int]:
    return [fd for fd in _descriptors() if stat.S_ISSOCK(os.fstat(fd).st_mode)]


def _hang(_: Mapping[str, object]) -> None:
    threading.Event().wait()


def _signal_then_hang(options: Mapping[str, object]) -> None:
    """Say on a named pipe that it hangs now."""
    Path(str(options["path"])).write_text("hanging")
    threading.Event().wait()


def _garbage(_: Mapping[str, object]) -> None:
    for descriptor in _sockets():
        os.write(descriptor, b"Loading checkpoint shards: 100%|##########| 2/2\n")
    threading.Event().wait()


def _huge_header(_: Mapping[str, object]) -> None:
    for descriptor in _sockets():
        os.write(descriptor, b"MMW1\xff\xff\xff\xff\x00\x00\x00\x01")
    threading.Event().wait()


def _lying_reply(_: Mapping[str, object]) -> None:
    text = b'{"type":"Closed","id":999}'
    for descriptor in _sockets():
        os.write(descriptor, b"MMW1" + len(text).to_bytes(4, "big") + bytes(4) + text)
    threading.Event().wait()


def _close_pipe(_: Mapping[str, object]) -> None:
    for descriptor in _sockets():
        socket.socket(fileno=descriptor).shutdown(socket.SHUT_RDWR)
    threading.Event().wait()


def _daemon_then_exit(options: Mapping[str, object]) -> None:
    """Leave a process behind that holds the pipe open, in a session of its own or not."""
    ready, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        if options.get("own_session"):
            os.setsid()
        Path(str(options["path"])).write_text(str(os.getpid()))
        os.write(done, b"x")
        threading.Event().wait()
    os.read(ready, 1)
    os._exit(5)


def _leave_daemon(options: Mapping[str, object]) -> None:
    """Leave a process behind as daemons do: in a session of its own, its parent gone."""
    ready, done = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.setsid()
        if os.fork() == 0:
            Path(str(options["path"])).write_text(str(os.getpid()))
            os.write(done, b"x")
            threading.Event().wait()
        os._exit(0)
    os.waitpid(middle, 0)
    os.read(ready, 1)


def _hold_in_child(options: Mapping[str, object]) -> None:
    """Take memory in a process of the model's own, which stays."""
    ready, done = os.pipe()
    if os.fork() == 0:
        held = np.ones(int(str(options["child_bytes"])), dtype=np.uint8)
        os.write(done, bytes(held[:1]))
        threading.Event().wait()
    os.read(ready, 1)


def _segfault(_: Mapping[str, object]) -> None:
    ctypes.string_at(0)


def _exit_3(_: Mapping[str, object]) -> None:
    print("about to leave")  # noqa: T201 - what a model prints is what is tested
    os._exit(3)


def _sys_exit(_: Mapping[str, object]) -> NoReturn:
    sys.exit("licence not found")


def _interrupt(_: Mapping[str, object]) -> NoReturn:
    raise KeyboardInterrupt


def _recurse(options: Mapping[str, object]) -> None:
    _recurse(options)


def _value_error(_: Mapping[str, object]) -> NoReturn:
    print("a line of the model's own")  # noqa: T201 - as above
    raise ValueError("the weights are upside down")


def _broken_message(_: Mapping[str, object]) -> NoReturn:
    raise BrokenMessageError


def _endless_message(_: Mapping[str, object]) -> NoReturn:
    raise ValueError("x" * 50_000_000)


def _lone_surrogate(_: Mapping[str, object]) -> NoReturn:
    raise ValueError("a name of \udcff")


def _missing_package(_: Mapping[str, object]) -> NoReturn:
    raise MissingPackageError("frobnicate is not installed; pip install frobnicate")


def _usage(_: Mapping[str, object]) -> NoReturn:
    raise UsageError("options.size must be positive")


def _out_of_memory(_: Mapping[str, object]) -> NoReturn:
    raise OutOfMemoryError("the device is full")


def _says_nothing(_: Mapping[str, object]) -> NoReturn:
    raise MemoryError


def _torch_says_no(_: Mapping[str, object]) -> NoReturn:
    raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...")


def _eat(_: Mapping[str, object]) -> None:
    pieces: list[object] = []
    while True:
        pieces.append(np.ones(16 * 1024**2, dtype=np.uint8))


def _bad_alloc(_: Mapping[str, object]) -> None:
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
    os.abort()


def _print_much(_: Mapping[str, object]) -> None:
    for _line in range(20_000):
        print("progress " * 10)  # noqa: T201 - as above
    os.write(1, b"\xff\xfe not text\n")
    sys.stderr.write("last words\n")


def _kill_itself(_: Mapping[str, object]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_server(_: Mapping[str, object]) -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    threading.Event().wait()


_ACTIONS: dict[str, Callable[[Mapping[str, object]], None]] = {
    "bad_alloc": _bad_alloc,
    "broken_message": _broken_message,
    "close_pipe": _close_pipe,
    "daemon_then_exit": _daemon_then_exit,
    "eat": _eat,
    "endless_message": _endless_message,
    "exit_3": _exit_3,
    "garbage": _garbage,
    "hang": _hang,
    "hold_in_child": _hold_in_child,
    "huge_header": _huge_header,
    "interrupt": _interrupt,
    "kill_itself": _kill_itself,
    "kill_server": _kill_server,
    "leave_daemon": _leave_daemon,
    "lone_surrogate": _lone_surrogate,
    "lying_reply": _lying_reply,
    "missing_package": _missing_package,
    "out_of_memory": _out_of_memory,
    "print_much": _print_much,
    "recurse": _recurse,
    "says_nothing": _says_nothing,
    "segfault": _segfault,
    "signal_then_hang": _signal_then_hang,
    "sys_exit": _sys_exit,
    "torch_says_no": _torch_says_no,
    "usage": _usage,
    "value_error": _value_error,
}

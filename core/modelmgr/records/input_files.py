"""Read a caller's file whole, never more of it than a stated limit.

Owns what can go wrong between a path and its bytes: nothing there, a folder, no permission, too
large, endless. It does not look at the content.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import stat
from pathlib import Path

from modelmgr.errors import InputError
from modelmgr.units import format_bytes

_CHUNK_BYTES = 1 << 20


def read_input(path: str | Path, *, limit_bytes: int, what: str) -> bytes:
    """Return the file's bytes.

    A regular file is refused by its size before a byte of it is read. Pipes and devices (a shell's
    ``<(...)``, ``/dev/stdin``) are read up to the limit, so an endless one is refused as soon as it
    passes it.

    Args:
        path: the file.
        limit_bytes: the largest size to accept.
        what: what the file should be, for the messages (``model list``).

    Raises:
        InputError: there is no such file, it cannot be read, or it is too large.
    """
    name = os.fspath(path)
    # An empty text would be read as the current folder by the checks that follow.
    if not name or "\0" in name:
        raise InputError(f"{name!r} is no file name", hint=f"name the {what} to read")
    try:
        # Without O_NONBLOCK, opening a named pipe that nobody writes to would wait for ever.
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor has no path
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_size > limit_bytes:
                raise _too_large(name, what, limit_bytes, status.st_size)
            os.set_blocking(descriptor, True)
            # A regular file in one piece, which is then its content without being copied.
            chunk_bytes = max(_CHUNK_BYTES, status.st_size)
            chunks: list[bytes] = []
            room_bytes = limit_bytes + 1
            while room_bytes:
                chunk = file.read(min(chunk_bytes, room_bytes))
                if not chunk:
                    return b"".join(chunks)
                chunks.append(chunk)
                room_bytes -= len(chunk)
    except OSError as error:
        raise _unreadable(name, what, error) from error
    raise _too_large(name, what, limit_bytes, None)


def _too_large(name: str, what: str, limit_bytes: int, size_bytes: int | None) -> InputError:
    size = "endless or too large" if size_bytes is None else f"{format_bytes(size_bytes)} large"
    return InputError(
        f"is {size}; a {what} has at most {format_bytes(limit_bytes)}",
        path=name,
        hint=f"check that this is the {what} that was meant",
    )


def _unreadable(name: str, what: str, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"there is no such {what}", path=name, hint=_nearby(name))
    if isinstance(error, IsADirectoryError):
        return InputError(
            f"is a folder, not a {what}", path=name, hint="name a file in that folder"
        )
    if isinstance(error, PermissionError):
        return InputError(
            f"no permission to read this {what}", path=name, hint="check the file's owner and mode"
        )
    if isinstance(error, NotADirectoryError):
        return InputError(
            f"there is no such {what}: part of its path is a file, not a folder", path=name
        )
    reason = error.strerror or str(error)
    return InputError(f"cannot read this {what}: {reason}", path=name)


def _nearby(name: str) -> str:
    """Say which file of that folder was probably meant."""
    folder = Path(name).parent
    if not folder.is_dir():
        return f"there is no folder {str(folder)!r} either"
    entries: list[str] = []
    with contextlib.suppress(OSError), os.scandir(folder) as scan:
        # A folder of a million files is no reason to compare a million names.
        entries = [entry.name for entry, _ in zip(scan, range(10_000), strict=False)]
    close = difflib.get_close_matches(Path(name).name, sorted(entries), n=1, cutoff=0.6)
    if close:
        return f"did you mean {str(folder / close[0])!r}?"
    return "check the spelling of the path"

"""Write a file so that a reader finds the old content or the new, and never a part of either.

Owns the temporary file, its flushing and its way to the name. It does not know what is written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from pathlib import Path

from modelmgr.errors import UsageError
from modelmgr.units import format_bytes

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def write_atomically(path: str | Path, content: bytes) -> None:
    """Replace the file's content, or make the file.

    A temporary file beside it is written, flushed to the disk and renamed; then the folder is
    flushed, so that the name survives a power cut too. An old file keeps its permissions; a link is
    followed and stays one. What is no regular file (``/dev/stdout``, a pipe) is written to as it
    is.

    Raises:
        UsageError: the folder does not exist or may not be written, the disk is full. The old file
            is as it was and no temporary file is left.
    """
    name = _checked_name(path)
    try:
        target = Path(name).resolve()
        status = _status(target, name)
        if status is not None and not stat.S_ISREG(status.st_mode):
            target.write_bytes(content)
        else:
            _replace(target, content, status)
    except OSError as error:
        raise _unwritable(name, content, error) from error


def check_writable(path: str | Path) -> None:
    """Refuse a file that could not be written, before anything is done for it.

    Raises:
        UsageError: as ``write_atomically``. The file is as it was.
    """
    name = _checked_name(path)
    try:
        target = Path(name).resolve()
        status = _status(target, name)
        if status is None or stat.S_ISREG(status.st_mode):
            # What a folder permits says too little: root may write everywhere, but not to a
            # read-only disk.
            temporary, descriptor = _make_temporary(target)
            os.close(descriptor)
            temporary.unlink()
    except OSError as error:
        raise _unwritable(name, b"", error) from error


def _checked_name(path: str | Path) -> str:
    name = os.fspath(path)
    if not name or "\0" in name:
        raise UsageError(f"{name!r} is no file name; name the file to write")
    return name


def _status(target: Path, name: str) -> os.stat_result | None:
    try:
        status = target.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(f"{name} is a folder; name a file in it")
    return status


def _replace(target: Path, content: bytes, old: os.stat_result | None) -> None:
    temporary, descriptor = _make_temporary(target)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if old is not None:
                _keep_permissions(descriptor, old)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(target)
    except BaseException:  # Ctrl-C too must leave no temporary file
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(target.parent)


def _make_temporary(target: Path) -> tuple[Path, int]:
    """Make an empty file beside the target; return its path and its descriptor."""
    # Cut, so that the longest legal name still leaves room for the suffix.
    stem = os.fsdecode(os.fsencode(target.name)[:200])
    _remove_left_behind(target.parent, stem)
    temporary = target.with_name(f".{stem}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    # The kernel applies the umask; mkstemp would make every result private to its writer.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return temporary, os.open(temporary, flags, 0o666)


def _remove_left_behind(folder: Path, stem: str) -> None:
    """Remove the temporary files of this target whose writers were killed."""
    ours = re.compile(rf"\.{re.escape(stem)}\.([0-9]+)\.[0-9a-f]{{8}}\.tmp")
    with contextlib.suppress(OSError):  # not to be listed, or gone meanwhile: nothing is lost
        for entry in list(folder.iterdir()):
            found = ours.fullmatch(entry.name)
            if found is not None and _is_gone(int(found[1])):
                entry.unlink(missing_ok=True)


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def _keep_permissions(descriptor: int, old: os.stat_result) -> None:
    # Only root may give files away; the mode alone is kept for everybody else.
    with contextlib.suppress(PermissionError):
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def _flush_folder(folder: Path) -> None:
    # Some file systems cannot flush a folder; the new content is in place either way.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _unwritable(name: str, content: bytes, error: OSError) -> UsageError:
    folder = Path(name).parent
    if isinstance(error, FileNotFoundError) and not folder.exists():
        return UsageError(
            f"cannot write {name}: the folder {str(folder)!r} does not exist; make it with "
            f"'mkdir -p {folder}'"
        )
    if error.errno in _FULL:
        return UsageError(
            f"cannot write {name}: no room for {format_bytes(len(content))} "
            f"({error.strerror}); make room, or write to another disk. The old file is untouched"
        )
    if error.errno in _FORBIDDEN:
        return UsageError(
            f"cannot write {name}: {error.strerror}; choose a folder that you may write to"
        )
    if isinstance(error, NotADirectoryError):
        return UsageError(f"cannot write {name}: a part of its path is a file, not a folder")
    return UsageError(f"cannot write {name}: {error.strerror or error}")

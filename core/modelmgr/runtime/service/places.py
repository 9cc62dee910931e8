"""Where a server is found: the socket's path, its folder, and who may be there.

Owns what lies in the file system. A socket file says nothing of whether its server lives; the lock
beside it does, for the kernel drops it with the process. Where the lock was cleared away, as old
files in temporary folders are, the socket is knocked at before it is replaced.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import tempfile
from pathlib import Path

from modelmgr.errors import UsageError
from modelmgr.runtime.service.peers import peer_of

MAX_PATH_BYTES = 107
"""What ``sun_path`` holds beside its final zero (unix(7))."""

_NAME = "manager.sock"
_BACKLOG = 128


def default_socket_path() -> Path:
    """Return where this user's server listens: below ``$XDG_RUNTIME_DIR``, else a folder of ours.

    Raises:
        UsageError: the folder belongs to somebody else, or others may enter it.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_absolute() and _is_own(Path(runtime)):
        folder = Path(runtime) / "modelmgr"
    else:
        folder = Path(tempfile.gettempdir()) / f"modelmgr-{os.geteuid()}"
    if folder.is_symlink() or (folder.exists() and not _is_own(folder)):
        raise UsageError(
            f"{folder} is not a folder of this user that others cannot enter (mode 0700); remove "
            "it, or name another socket path"
        )
    return folder / _NAME


def checked_path(path: object) -> Path:
    """Return the path of a socket; UsageError where a socket can have no such path."""
    if path is not None and (not isinstance(path, str | Path) or "\0" in str(path)):
        raise UsageError(f"a socket's path is a text or a Path, not {path!r}")
    found = default_socket_path() if path is None else Path(path).absolute()
    size = len(os.fsencode(found))
    if size > MAX_PATH_BYTES:
        raise UsageError(
            f"the socket's path is {size} bytes long, and the system takes {MAX_PATH_BYTES} at "
            f"most: {found}; choose a shorter one"
        )
    return found


class ListeningPlace:
    """A listening socket at a path, which no other server has; call ``close`` at the end.

    Args:
        path: the socket's file; its folder is made, for this user alone, where there is none.

    Raises:
        UsageError: a server listens there already, or the path cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_path = path.with_name(f"{path.name}.lock")
        try:
            _make_folder(path.parent)
            self._lock = self._take_lock()
        except OSError as error:
            raise UsageError(f"no server can listen at {path}: {error}") from error
        try:
            self.socket = self._bind()
            self._identity = _identity(path)
        except OSError as error:
            self._leave()
            raise UsageError(f"no server can listen at {path}: {error}") from error
        except BaseException:
            self._leave()
            raise

    def stop_listening(self) -> None:
        """Let nobody connect any more, and wake a thread that waits for somebody who does."""
        with contextlib.suppress(OSError):
            if _identity(self.path) == self._identity:
                self.path.unlink()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Remove what was made and leave the place to others; a second call does nothing."""
        if self._lock >= 0:
            self.stop_listening()
            self.socket.close()
            self._leave()

    def _take_lock(self) -> int:
        while True:
            how = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            lock = os.open(self._lock_path, how, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
                os.close(lock)
                raise self._taken(owner) from None
            except BaseException:
                os.close(lock)
                raise
            with contextlib.suppress(OSError):
                # A server that ended removes its lock: one that was removed locks nobody out.
                if _identity(self._lock_path) == _identity_of(os.fstat(lock)):
                    os.ftruncate(lock, 0)
                    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
                    return lock
            os.close(lock)

    def _bind(self) -> socket.socket:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(self.path.lstat().st_mode):
                raise UsageError(
                    f"{self.path} is a file and no socket; remove it, or choose another path"
                )
            if (owner := _listener_at(self.path)) is not None:
                raise self._taken(owner)
            self.path.unlink()  # of a server that is dead
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Before it is bound: the file has this mode from its first moment.
            os.fchmod(listener.fileno(), 0o600)
            listener.bind(str(self.path))
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener

    def _taken(self, owner: str) -> UsageError:
        return UsageError(
            f"a server{f' (process {owner})' if owner else ''} listens at {self.path} already; "
            "use it, stop it, or choose another socket path"
        )

    def _leave(self) -> None:
        lock, self._lock = self._lock, -1
        with contextlib.suppress(OSError):
            if _identity(self._lock_path) == _identity_of(os.fstat(lock)):
                self._lock_path.unlink()
        os.close(lock)


def _listener_at(path: Path) -> str | None:
    """Return the process that listens at a socket, "" where it cannot be seen, None for nobody."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        end.setblocking(False)
        try:
            end.connect(str(path))
        except BlockingIOError:  # so many wait to be let in that it cannot be asked who it is
            return ""
        except OSError:
            return None
        pid = peer_of(end).pid
        return str(pid) if pid > 0 else ""


def _make_folder(folder: Path) -> None:
    """Make a folder, and those above it, for this user alone."""
    if not folder.parent.exists():
        _make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)


def _is_own(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    mode = stat.S_IMODE(found.st_mode)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not mode & 0o077


def _identity(path: Path) -> tuple[int, int]:
    return _identity_of(path.lstat())


def _identity_of(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino

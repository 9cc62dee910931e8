"""What a worker or a forkserver prints: the last of it is kept, so that an error can show it."""

from __future__ import annotations

import os
import threading

_KEPT_BYTES = 32 * 1024
_READ_BYTES = 64 * 1024
_SHOWN_LINES = 40


class OutputLog:
    """Owns the reading end of a process's output pipe. Thread-safe."""

    def __init__(self) -> None:
        self._reading, self.writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reading, False)
        self._kept = bytearray()
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """Return the reading end's descriptor, -1 once it is closed."""
        return self._reading

    def close_writing(self) -> None:
        """Close this process's copy of the writing end: the child has its own now."""
        descriptor, self.writing = self.writing, -1
        if descriptor >= 0:
            os.close(descriptor)

    def drain(self) -> bool:
        """Take what is there without waiting; return False at the pipe's end."""
        with self._lock:
            while self._reading >= 0:
                try:
                    data = os.read(self._reading, _READ_BYTES)
                except BlockingIOError:
                    return True
                if not data:
                    return False
                self._kept += data
                del self._kept[:-_KEPT_BYTES]
            return False

    def tail(self) -> str | None:
        """Return the last lines, None where nothing was printed."""
        self.drain()
        with self._lock:
            text = self._kept.decode("utf-8", "replace").strip()
        return "\n".join(text.splitlines()[-_SHOWN_LINES:]) or None

    def close(self) -> None:
        """Close both ends; what was kept stays. A second call does nothing."""
        self.close_writing()
        with self._lock:
            descriptor, self._reading = self._reading, -1
            if descriptor >= 0:
                os.close(descriptor)

"""A real child process that takes and gives back known amounts of memory when it is told to.

``MemoryChild`` is the test's side; run as a script, this file is the child. Each command is
answered when it is done, so that no test ever sleeps.
"""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self


class MemoryChild:
    """A child whose memory moves by command. Usable as a context manager; ends with it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this very file, by this very interpreter
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self._ask("ready")

    def hold(self, size_bytes: int) -> None:
        """Take that many anonymous bytes and touch all of them."""
        self._ask(f"hold {size_bytes}")

    def drop(self) -> None:
        """Give everything back that ``hold`` took."""
        self._ask("drop")

    def map_file(self, path: Path, touched_bytes: int) -> None:
        """Map a file and touch its first bytes."""
        self._ask(f"map {touched_bytes} {path}")

    def kill(self, *, reap: bool = True) -> None:
        """Kill the child and wait until it is dead; ``reap=False`` leaves a zombie."""
        if not reap:
            self._process.kill()
            assert self._process.stdout is not None
            self._process.stdout.read()  # ends when the kernel has closed the dead child's files
            while "(zombie)" not in Path(f"/proc/{self.pid}/status").read_text():
                pass
            return
        self.close()

    def close(self) -> None:
        """End the child and reap it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _ask(self, command: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer == "done\n", f"the child answered {answer!r} to {command!r}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _main() -> None:
    held: list[mmap.mmap] = []
    mapped: list[mmap.mmap] = []
    for line in sys.stdin:
        command, *arguments = line.rstrip("\n").split(" ", 2)
        if command == "hold":
            block = mmap.mmap(-1, int(arguments[0]), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            block[:: mmap.PAGESIZE] = b"x" * len(range(0, len(block), mmap.PAGESIZE))
            held.append(block)
        elif command == "drop":
            while held:
                held.pop().close()
        elif command == "map":
            with Path(arguments[1]).open("rb") as file:
                view = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
            # Read-ahead would make neighbouring pages resident too.
            view.madvise(mmap.MADV_RANDOM)
            sum(view[offset] for offset in range(0, int(arguments[0]), mmap.PAGESIZE))
            mapped.append(view)
        sys.stdout.write("done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()

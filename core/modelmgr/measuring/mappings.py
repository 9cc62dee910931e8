"""What a process's resident pages belong to: programs and libraries, data files, or itself alone.

Reads ``/proc/PID/smaps`` once (1-55 ms, growing with the number of pages: for a few points of a
measurement, never for sampling). The counters of ``status`` cannot tell a library's page from one
of a mapped weights file; this can.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from modelmgr.errors import ReadingError

_KIB = 1024


class MappedPages(msgspec.Struct, frozen=True, kw_only=True):
    """Resident bytes of one process by what they belong to.

    Attributes:
        program_bytes: unmodified pages of files that are mapped executable somewhere in the
            process: the interpreter, libraries.
        data_bytes: unmodified pages of all other files: weights that are mapped, locale tables.
        private_bytes: pages that no other process has (the kernel's Private_Clean and
            Private_Dirty): what the machine gets back when this process ends.
    """

    program_bytes: int
    data_bytes: int
    private_bytes: int


def read_mapped_pages(pid: int) -> MappedPages:
    """Return what a process's pages belong to.

    Raises:
        ReadingError: the process is gone, or its mappings may not be read.
    """
    path = Path("/proc") / str(pid) / "smaps"
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ReadingError(f"{path} cannot be read: {error.strerror or error}") from error
    if not text:
        raise ReadingError(f"process {pid} is gone: it has no mappings any more")
    return parse_smaps(text)


def parse_smaps(text: bytes) -> MappedPages:
    """Return the sums of a ``smaps`` text (proc_pid_smaps(5))."""
    clean: dict[tuple[bytes, bytes], int] = {}
    executable: set[tuple[bytes, bytes]] = set()
    private = 0
    file: tuple[bytes, bytes] | None = None
    for line in text.splitlines():
        name, *fields = line.split()
        if not name.endswith(b":"):  # "start-end perms offset device inode [path]"
            permissions, _, device, inode, *_ = fields
            file = (device, inode) if inode != b"0" else None
            if file is not None and b"x" in permissions:
                executable.add(file)
        elif name in {b"Private_Clean:", b"Private_Dirty:"}:
            private += int(fields[0]) * _KIB
        elif file is not None and name in {b"Rss:", b"Anonymous:"}:
            size = int(fields[0]) * _KIB
            clean[file] = clean.get(file, 0) + (size if name == b"Rss:" else -size)
    program = sum(size for file, size in clean.items() if file in executable)
    return MappedPages(
        program_bytes=program, data_bytes=sum(clean.values()) - program, private_bytes=private
    )

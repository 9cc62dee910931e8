"""Resident pages are told apart: libraries, data files, a process's own."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelmgr.errors import ReadingError
from modelmgr.measuring.mappings import parse_smaps, read_mapped_pages

SMAPS = b"""\
1000-3000 r--p 00000000 fe:00 11 /usr/lib/libx.so
Rss:                   8 kB
Private_Clean:         4 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
3000-5000 r-xp 00002000 fe:00 11 /usr/lib/libx.so
Rss:                   8 kB
Private_Clean:         0 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
5000-6000 rw-p 00004000 fe:00 11 /usr/lib/libx.so
Rss:                   4 kB
Private_Clean:         0 kB
Private_Dirty:         4 kB
Anonymous:             4 kB
6000-9000 r--p 00000000 fe:00 12 /data/model (v2).safetensors
Rss:                  12 kB
Private_Clean:        12 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
9000-a000 rw-p 00000000 00:00 0 [heap]
Rss:                   4 kB
Private_Clean:         0 kB
Private_Dirty:         4 kB
Anonymous:             4 kB
VmFlags: rd wr mr mw me ac sd
"""


def test_a_library_counts_as_program_whole_and_a_weights_file_as_data() -> None:
    pages = parse_smaps(SMAPS)
    assert pages.program_bytes == 16 * 1024  # its modified page is private memory, not the file's
    assert pages.data_bytes == 12 * 1024
    assert pages.private_bytes == 24 * 1024


def test_a_mapped_file_is_seen_as_data_once_it_is_touched(tmp_path: Path) -> None:
    size = 8 * 1024 * 1024
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(size))
    before = read_mapped_pages(os.getpid())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert sum(mapped[::4096]) > 0
        touched = read_mapped_pages(os.getpid())
    assert touched.data_bytes - before.data_bytes == size
    assert before.program_bytes > 0


def test_a_process_that_is_gone_is_an_error_and_not_zero_bytes() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    with pytest.raises(ReadingError):
        read_mapped_pages(child.pid)

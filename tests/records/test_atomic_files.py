"""A reader finds the old content or the new, whatever goes wrong while it is written."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelmgr.errors import UsageError
from modelmgr.records.atomic_files import check_writable, write_atomically
from support.other_users import another_owner, without_privileges


@contextmanager
def _small_disk(limit_bytes: int) -> Generator[None]:
    """Let writes beyond a size fail in the kernel, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)


def test_new_content_replaces_old_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    write_atomically(path, b"old")
    write_atomically(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["costs.json"]  # noqa: PTH208 - hidden files count


def test_a_new_file_gets_the_mode_of_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", b"")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_an_old_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    path.write_bytes(b"old")
    path.chmod(0o604)
    write_atomically(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_an_old_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    path.write_bytes(b"old")
    owner = another_owner()
    os.chown(path, *owner)
    write_atomically(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == owner


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "costs.json"
    link = tmp_path / "costs.json"
    link.symlink_to(target)
    write_atomically(link, b"through a dangling link")
    write_atomically(link, b"through a link")
    assert link.is_symlink()
    assert target.read_bytes() == b"through a link"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write_atomically(pipe, b"content")
    reader.join()
    assert received == [b"content"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_the_longest_legal_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    write_atomically(path, b"content")
    assert path.read_bytes() == b"content"


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    path.write_bytes(b"old")
    with _small_disk(4096), pytest.raises(UsageError, match=r"no room for 64\.0 KiB") as caught:
        write_atomically(path, b"x" * 65536)
    assert "make room" in str(caught.value)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["costs.json"]  # noqa: PTH208 - hidden files count


def test_a_device_that_is_full_says_so() -> None:
    with pytest.raises(UsageError, match="no room for 3 B"):
        write_atomically("/dev/full", b"abc")


def test_an_interrupted_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "costs.json"
    path.write_bytes(b"old")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["costs.json"]  # noqa: PTH208 - hidden files count


def test_a_writer_that_is_killed_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    path.write_bytes(b"old")
    killed = (
        "import os, signal, sys\n"
        "from modelmgr.records.atomic_files import write_atomically\n"
        "os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(sys.argv[1], b'new' * 100_000)\n"
    )
    finished = subprocess.run([sys.executable, "-c", killed, str(path)], check=False)  # noqa: S603 - our own program
    assert finished.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("missing/costs.json", r"'.*/missing' does not exist; make it with 'mkdir -p"),
        ("", "is a folder; name a file in it"),
        ("file/costs.json", "part of its path is a file"),
        ("x" * 256, "File name too long"),
        ("a\0b", "is no file name"),
    ],
)
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match=problem):
        write_atomically(f"{tmp_path}/{name}", b"content")


def test_a_folder_without_permission_is_named() -> None:
    # Not pytest's folder: another user could not even look into that one.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "costs.json"
        path.write_bytes(b"old")
        folder.chmod(0o555)
        with (
            without_privileges(),
            pytest.raises(UsageError, match="Permission denied; choose a folder"),
        ):
            write_atomically(path, b"new")
        with without_privileges(), pytest.raises(UsageError, match="Permission denied; choose"):
            check_writable(path)
        folder.chmod(0o755)
        assert path.read_bytes() == b"old"
        assert os.listdir(folder) == ["costs.json"]  # noqa: PTH208 - hidden files count


def test_whether_a_file_could_be_written_is_known_without_writing_it(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    check_writable(path)
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - hidden files count
    path.write_bytes(b"old")
    check_writable(path)
    assert path.read_bytes() == b"old"
    for wrong, said in (
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "costs.json", "mkdir -p"),
        (Path("/proc/costs.json"), "cannot write /proc/costs.json"),  # not even by root
    ):
        with pytest.raises(UsageError, match=said):
            check_writable(wrong)


def test_what_a_killed_writer_left_is_removed_by_the_next_and_nothing_else(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    left = tmp_path / f".costs.json.{ended.pid}.0123abcd.tmp"
    others = [
        tmp_path / f".costs.json.{os.getpid()}.0123abcd.tmp",  # its writer lives
        tmp_path / f".other.json.{ended.pid}.0123abcd.tmp",
        tmp_path / f".costs.json.{ended.pid}.tmp",
    ]
    for path in (left, *others):
        path.write_bytes(b"half")
    write_atomically(tmp_path / "costs.json", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {
        "costs.json",
        *(path.name for path in others),
    }

"""Where a server listens, and who may come: permission bits, owners, locks, long paths."""

from __future__ import annotations

import os
import socket
import stat
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

import modelmgr
from modelmgr import ServiceLostError, ServiceServer, UsageError
from modelmgr.runtime.service.places import (
    MAX_PATH_BYTES,
    ListeningPlace,
    checked_path,
    default_socket_path,
)
from support.interpreters import run_python, start_python
from support.other_users import NOBODY
from support.parties import Party, wait_until
from support.service_parties import Child, serving


@pytest.fixture
def other_uid(monkeypatch: pytest.MonkeyPatch) -> int:
    """The user that a child becomes, who is not this process's.

    Where only root could, it is this process that takes itself for another than it is.
    """
    if os.geteuid() == 0:
        return NOBODY
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    return os.getuid()


@pytest.fixture
def open_folder() -> Generator[Path]:
    """A folder for everybody. Another user could not even look into pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


_COMES = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
end = socket.socket(socket.AF_UNIX)
end.connect(sys.argv[2])
try:
    end.sendall(b"hello")
    print("cut off" if end.recv(100) == b"" else "answered")
except (ConnectionResetError, BrokenPipeError):
    print("cut off")
"""
_LISTENS = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[2])
listener.listen()
print("listening", flush=True)
end, _ = listener.accept()
end.recv(1)
"""


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_folder_and_socket_are_the_owner_s_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        place = ListeningPlace(tmp_path / "a" / "b" / "m.sock")
    finally:
        os.umask(before)
    try:
        assert mode_of(tmp_path / "a") == 0o700
        assert mode_of(tmp_path / "a" / "b") == 0o700
        assert mode_of(place.path) == 0o600
        assert stat.S_ISSOCK(place.path.lstat().st_mode)
    finally:
        place.close()
    assert list((tmp_path / "a" / "b").iterdir()) == []
    place.close()


def test_the_socket_never_had_another_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    listen = socket.socket.listen

    def look(self: socket.socket, backlog: int) -> None:
        seen.append(mode_of(tmp_path / "m.sock"))  # bound, and nobody can connect yet
        listen(self, backlog)

    monkeypatch.setattr(socket.socket, "listen", look)
    ListeningPlace(tmp_path / "m.sock").close()
    assert seen == [0o600]


def test_two_servers_at_one_path_is_a_usage_error_that_names_the_first(tmp_path: Path) -> None:
    with serving(tmp_path / "m.sock") as server:
        with pytest.raises(UsageError, match=f"process {os.getpid()}"):
            ListeningPlace(server.path)
        with modelmgr.connect(server.path) as client, client.lease("echo") as model:
            assert model.infer(1) == 1


def test_a_dead_server_s_socket_and_lock_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "m.sock"
    with Child("serve", path) as server:
        server.said()
        server.kill()
    assert path.exists()
    with pytest.raises(ServiceLostError, match="no server listens"):
        modelmgr.connect(path)
    with serving(path) as second, modelmgr.connect(path) as client:
        assert client.epoch == second.epoch


def test_a_living_server_keeps_its_address_though_its_lock_was_cleared_away(tmp_path: Path) -> None:
    path = tmp_path / "m.sock"
    first = ListeningPlace(path)
    path.with_name("m.sock.lock").unlink()  # as a clearing of the temporary folder does
    with pytest.raises(UsageError, match=rf"\(process {os.getpid()}\) listens at .* already"):
        ListeningPlace(path)
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(str(path))  # the first is still found there
    first.close()
    ListeningPlace(path).close()


def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_unharmed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / "m.sock.lock").symlink_to(precious)
    with pytest.raises(UsageError, match=r"m\.sock\.lock"):
        ListeningPlace(tmp_path / "m.sock")
    assert precious.read_text() == "kept"


def test_a_runtime_folder_that_is_no_whole_path_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runtime").mkdir(mode=0o700)
    monkeypatch.chdir(tmp_path)  # a client in another folder would look elsewhere
    monkeypatch.setenv("XDG_RUNTIME_DIR", "runtime")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    assert default_socket_path().is_relative_to(tmp_path / "temporary")


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(UsageError, match="is a file and no socket"):
        ListeningPlace(path)
    assert path.read_text() == "mine"
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_path_that_is_too_long_is_refused_on_both_sides(tmp_path: Path) -> None:
    long = tmp_path / ("x" * (MAX_PATH_BYTES - len(os.fsencode(tmp_path))))
    for use in (lambda: checked_path(long), lambda: modelmgr.connect(long)):
        with pytest.raises(UsageError, match=str(MAX_PATH_BYTES)):
            use()
    fits = Path("/tmp") / ("y" * (MAX_PATH_BYTES - 5))  # noqa: S108 - nothing is made there
    assert checked_path(fits) == fits


def test_the_longest_path_that_is_allowed_works(tmp_path: Path) -> None:
    name = "x" * (MAX_PATH_BYTES - len(os.fsencode(tmp_path)) - 1)
    place = ListeningPlace(checked_path(tmp_path / name))
    place.close()


def test_the_default_is_in_the_runtime_folder_or_in_one_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert default_socket_path() == runtime / "modelmgr" / "manager.sock"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ours = tmp_path / f"modelmgr-{os.geteuid()}"
    assert default_socket_path() == ours / "manager.sock"
    ours.mkdir(mode=0o700)
    assert default_socket_path() == ours / "manager.sock"
    ours.chmod(0o755)
    with pytest.raises(UsageError, match="0700"):
        default_socket_path()
    ours.rmdir()
    ours.symlink_to(runtime)
    with pytest.raises(UsageError, match="0700"):
        default_socket_path()


def test_a_default_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_uid: int
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ours = tmp_path / f"modelmgr-{os.geteuid()}"
    ours.mkdir(mode=0o700)
    os.chown(ours, other_uid, -1)
    with pytest.raises(UsageError, match="not a folder of this user"):
        default_socket_path()


def test_another_user_is_cut_off_even_where_the_files_would_let_him_in(
    open_folder: Path, other_uid: int
) -> None:
    with serving(open_folder / "m.sock") as server:
        open_folder.chmod(0o777)
        server.path.chmod(0o777)
        said = run_python("-c", _COMES, str(other_uid), str(server.path))
        assert said == "cut off\n"
        assert server.clients() == ()


def test_a_client_refuses_a_server_of_another_user(open_folder: Path, other_uid: int) -> None:
    path = open_folder / "m.sock"
    with start_python("-c", _LISTENS, str(other_uid), str(path)) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "listening\n"
        with pytest.raises(UsageError, match=rf"user {other_uid}\b"):
            modelmgr.connect(path)


def test_connections_are_limited_in_number_and_the_others_unharmed(tmp_path: Path) -> None:
    with (
        serving(
            tmp_path / "m.sock",
            max_connections=8,
            max_connections_per_client=6,
            frame_timeout_s=100.0,
        ) as server,
        modelmgr.connect(server.path) as client,
        client.lease("echo") as model,
    ):
        strangers = [socket.socket(socket.AF_UNIX) for _ in range(20)]
        for stranger in strangers:
            stranger.connect(str(server.path))
        wait_until(lambda: any(_is_cut(s) for s in strangers), "those beyond the limit are cut off")
        with pytest.raises(ServiceLostError, match="8 connections already, and takes no more"):
            modelmgr.connect(server.path)
        assert model.infer(1) == 1
        for stranger in strangers:
            stranger.close()
        wait_until(lambda: _connects(server), "there is room again")


_CONNECTS = """
import sys, modelmgr
with modelmgr.connect(sys.argv[1]) as client, client.lease("echo") as model:
    print(model.infer(7))
"""


def test_one_process_cannot_take_the_connections_of_all_others(tmp_path: Path) -> None:
    """A process that connected 1,024 times and closed nothing kept everybody else out."""
    with serving(
        tmp_path / "m.sock",
        max_connections=40,
        max_connections_per_client=5,
        frame_timeout_s=100.0,
    ) as server:
        greedy = [socket.socket(socket.AF_UNIX) for _ in range(60)]
        for end in greedy:
            end.connect(str(server.path))
        wait_until(lambda: _is_cut(greedy[-1], b"no process may have more"), "the last is told")
        with pytest.raises(ServiceLostError, match=rf"process {os.getpid()} has 10 connections"):
            modelmgr.connect(server.path)
        assert run_python("-c", _CONNECTS, str(server.path)) == "7\n"
        for end in greedy:
            end.close()
        wait_until(lambda: _connects(server), "there is room again")


def test_a_process_may_be_one_client_at_least(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="9 connections for a process, 10 for a client"),
        serving(tmp_path / "m.sock", max_connections_per_client=10, max_connections_per_process=9),
    ):
        pass


def _is_cut(end: socket.socket, told: bytes = b"takes no more") -> bool:
    end.setblocking(False)
    try:
        return told in end.recv(4096)
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return False


def _connects(server: ServiceServer) -> bool:
    try:
        modelmgr.connect(server.path).shutdown()
    except ServiceLostError:
        return False
    return True


def test_a_server_can_be_closed_by_several_and_again_while_clients_come_and_go(
    tmp_path: Path,
) -> None:
    with serving(tmp_path / "m.sock") as server:

        def come_and_go() -> int:
            count = 0
            while True:
                try:
                    with modelmgr.connect(server.path) as client, client.lease("echo"):
                        count += 1
                except modelmgr.ModelmgrError:
                    return count

        visitors = [Party(come_and_go) for _ in range(4)]
        wait_until(lambda: server.clients() != (), "they come")
        closers = [Party(lambda: server.close(5)) for _ in range(3)]
        for closer in closers:
            closer.result()
        for visitor in visitors:
            visitor.result()
        assert server.close() == closers[0].result()
    assert sys.exc_info() == (None, None, None)

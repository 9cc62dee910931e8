"""Descriptors: a server takes whom it has them for, and says the truth to everybody else."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Generator, Iterator
from pathlib import Path

import msgspec
import pytest

import modelmgr
from modelmgr import ServiceLostError, UsageError
from modelmgr.runtime.service import descriptors
from modelmgr.runtime.service.framing import NoRoomError, Stream
from modelmgr.runtime.service.quotas import MOST, Quotas
from modelmgr.workers.shared_arrays import share
from support.interpreters import run_python
from support.other_users import NOBODY
from support.parties import wait_until
from support.service_parties import Child, serving

CONNECTIONS = 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.sock"


@pytest.fixture
def limited(path: Path) -> Iterator[Child]:
    """A server whose process may have as many descriptors as so many connections need."""
    with Child("limited", path, str(CONNECTIONS)) as child:
        yield child


@contextlib.contextmanager
def _soft_limit(count: int) -> Generator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def _opened() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_as_many_clients_as_a_server_takes_find_descriptors_and_the_next_is_told(
    limited: Child, path: Path
) -> None:
    """1,024 were promised; at the usual limit of open files 504 of them came in.

    The others were told that their process was gone.
    """
    said = limited.said()
    assert said["connections"] == CONNECTIONS
    with contextlib.ExitStack() as opened:
        clients = [opened.enter_context(modelmgr.connect(path)) for _ in range(CONNECTIONS)]
        with pytest.raises(ServiceLostError, match=f"has {CONNECTIONS} connections already"):
            modelmgr.connect(path)
        for client in clients[::2]:
            client.shutdown()
        wait_until(lambda: len(clients[1].clients()) == CONNECTIONS // 2, "half of them are gone")
        with clients[1].lease("echo") as model:
            assert model.infer(bytes(1 << 20)) == bytes(1 << 20)


def test_a_server_without_a_descriptor_says_so_and_goes_on(limited: Child, path: Path) -> None:
    """It was told as a process that is gone, or as a server that may be stopped."""
    why = f"limit of {limited.said()['limit']} open files is used up"
    with modelmgr.connect(path) as client, client.lease("echo") as model:
        for _left in (0, 1):  # none, and one for the connection but none beside it
            limited.tell()
            limited.said()
            for _ in range(3):
                with pytest.raises(ServiceLostError, match=why):
                    modelmgr.connect(path)
        assert model.infer(1) == 1
        limited.tell()
        limited.said()
        with modelmgr.connect(path) as other:
            assert other.models()
        assert model.infer(bytes(1 << 20)) == bytes(1 << 20)


def test_arrays_that_a_server_has_no_descriptor_for_are_no_malformed_message(
    limited: Child, path: Path
) -> None:
    why = f"limit of {limited.said()['limit']} open files is used up"
    with modelmgr.connect(path) as client, client.lease("echo") as model:
        limited.tell()
        limited.said()
        with pytest.raises(ServiceLostError, match=why):
            model.infer(bytes(1 << 20))
        assert model.infer("small") == "small"  # once its lease was taken back


_STARVED = """
import os, sys, modelmgr
manager = modelmgr.connect(sys.argv[1])
eaten = []
try:
    while True:
        eaten.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
for ask in (lambda: modelmgr.connect(sys.argv[1]), manager.models):
    try:
        ask()
    except modelmgr.ServiceLostError as error:
        print(error)
for each in eaten:
    os.close(each)
print(manager.models()[0])
"""


def test_a_client_without_a_descriptor_is_told_that_it_is_its_own(path: Path) -> None:
    with serving(path), _soft_limit(256):
        first, second, third = run_python("-c", _STARVED, str(path)).splitlines()
    for said in (first, second):
        assert "has no connection left" in said
        assert "its limit of 256 open files is used up" in said
    assert third == "small"


def test_a_client_that_cannot_send_its_arrays_is_told_so_and_its_lease_stays(path: Path) -> None:
    with Child("serve", path) as served:
        served.said()
        with modelmgr.connect(path) as client, client.lease("echo") as model:
            with (
                _soft_limit(3),  # what is open stays open
                pytest.raises(ServiceLostError, match=r"to send: its limit of 3 open files"),
            ):
                model.infer(bytes(1 << 20))
            assert model.infer(bytes(1 << 20)) == bytes(1 << 20)


def test_memory_that_finds_no_descriptor_costs_its_message_alone() -> None:
    ours, theirs = (Stream(end, frame_timeout_s=60.0) for end in socket.socketpair())
    encoder = msgspec.msgpack.Encoder()
    memory = share(b"", [memoryview(b"1234")])
    for message in ("first", "second"):
        theirs.send(encoder, message, memory)
    os.close(memory)
    with _soft_limit(3), pytest.raises(NoRoomError, match="its limit of 3 open files is used up"):
        ours.receive()
    body, received = ours.receive()
    assert isinstance(body, memoryview)
    assert msgspec.msgpack.decode(body) == "second"
    assert received is not None
    os.close(received)
    ours.close()
    theirs.close()


_LOCKED_OUT = """
import os, sys
from modelmgr import ServiceLostError, connect
if os.geteuid() == 0:
    os.setuid(int(sys.argv[2]))
try:
    connect(sys.argv[1])
except ServiceLostError as error:
    print(error)
"""


def test_who_may_not_connect_is_not_told_that_nobody_listens(path: Path) -> None:
    with serving(path):
        path.chmod(0)
        said = run_python("-c", _LOCKED_OUT, str(path), str(NOBODY))
    assert "cannot be connected to" in said
    assert "Permission denied" in said


def test_the_numbers_follow_from_the_limit() -> None:
    assert Quotas.choose(None, None, None) == Quotas(MOST, MOST // 8, MOST // 4)
    opened = _opened()
    with _soft_limit(opened + descriptors.RESERVED + 2 * 80):
        assert Quotas.choose(None, None, None) == Quotas(80, 10, 20)
        assert Quotas.choose(8, None, None) == Quotas(8, 5, 10)
        with pytest.raises(UsageError, match=r"81 connections .* limit of .* room for 80 "):
            Quotas.choose(81, None, None)
    with (
        _soft_limit(opened + descriptors.RESERVED + 2 * 5 - 1),
        pytest.raises(UsageError, match=r"5 connections .* room for 4 .*ulimit -n"),
    ):
        Quotas.choose(None, None, None)

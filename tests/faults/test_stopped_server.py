"""A server that is there and does nothing (SIGSTOP, a debugger, a frozen container)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import modelmgr
from modelmgr import ManagerClosedError, RemoteManager, ServiceLostError, UsageError
from support.parties import Party, wait_until
from support.service_parties import Child

PATIENCE_S = 0.6
FOR_EVER = None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.sock"


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    found = tmp_path / "pipe"
    os.mkfifo(found)
    return found


@pytest.fixture
def served(path: Path, pipe: Path) -> Iterator[Child]:
    with Child("serve", path, pipe) as child:
        child.said()
        yield child


@pytest.fixture
def client(served: Child, path: Path) -> Iterator[RemoteManager]:
    assert served.process.poll() is None
    with modelmgr.connect(path, patience_s=PATIENCE_S) as made:
        yield made


def stop(child: Child) -> None:
    child.process.send_signal(signal.SIGSTOP)
    _, status = os.waitpid(child.process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)


def go_on(child: Child) -> None:
    child.process.send_signal(signal.SIGCONT)


def test_every_kind_of_request_fails_within_the_patience(
    served: Child, client: RemoteManager, path: Path, pipe: Path
) -> None:
    """Short ones waited for a minute, and those that may take long for ever."""
    lease = client.lease("echo")
    hanging = client.lease("hang")
    waiting = Party(lambda: client.lease("echo", timeout=FOR_EVER))
    wait_until(lambda: len(client.snapshot().queue) == 1, "it waits")
    calling = Party(lambda: hanging.instance.infer(1))
    pipe.read_text()
    stop(served)
    requests: list[Callable[[], object]] = [
        client.snapshot,
        client.models,
        lambda: client.pin("small"),
        lambda: client.lease("small", timeout=FOR_EVER),
        lease.instance.memory,
        lambda: lease.instance.infer(bytes(1 << 22)),
        lease.release,
        waiting.result,
        calling.result,
        client.reconnect,
        lambda: modelmgr.connect(path, patience_s=PATIENCE_S),
    ]
    for request in requests:
        with pytest.raises(ServiceLostError, match=r"for 0\.6 s|within 0\.6 s"):
            request()
    go_on(served)


def test_a_server_that_goes_on_is_of_use_again_and_keeps_nothing_of_what_was_given_up(
    served: Child, client: RemoteManager
) -> None:
    lease = client.lease("echo")
    waiting = Party(lambda: client.lease("echo", timeout=FOR_EVER))
    wait_until(lambda: len(client.snapshot().queue) == 1, "it waits")
    stop(served)
    with pytest.raises(ServiceLostError):
        client.snapshot()
    with pytest.raises(ServiceLostError):
        waiting.result()
    go_on(served)
    wait_until(lambda: client.snapshot().queue == (), "nobody waits any more")
    assert lease.instance.infer(1) == 1
    lease.release()
    with client.lease("echo", timeout=20.0) as model:
        assert model.infer(2) == 2


def test_a_stopped_server_that_is_replaced_can_be_connected_to(
    served: Child, client: RemoteManager, path: Path, pipe: Path
) -> None:
    client.lease("echo")
    stop(served)
    with pytest.raises(ServiceLostError):
        client.reconnect()
    served.kill()
    with Child("serve", path, pipe) as other:
        other.said()
        with pytest.raises(ServiceLostError, match="is gone"):
            client.snapshot()
        client.reconnect()
        with client.lease("echo", timeout=20.0) as model:
            assert model.infer(3) == 3


def test_a_wait_that_is_longer_than_the_patience_goes_on_while_the_server_lives(
    client: RemoteManager, path: Path
) -> None:
    lease = client.lease("echo")
    with modelmgr.connect(path, patience_s=0.05) as impatient:
        waiting = Party(lambda: impatient.lease("echo", timeout=FOR_EVER).release())
        wait_until(lambda: len(client.snapshot().queue) == 1, "it waits")
        (before,) = (ticket.waited_ns for ticket in client.snapshot().queue)
        wait_until(
            lambda: client.snapshot().queue[0].waited_ns > before + 500_000_000, "it goes on"
        )
        assert not waiting.done
        lease.release()
        waiting.result()


def test_no_patience_is_a_mistake(path: Path) -> None:
    for patience_s in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="patience_s"):
            modelmgr.connect(path, patience_s=patience_s)


def test_a_closed_connection_is_told_as_that(client: RemoteManager) -> None:
    client.shutdown()
    with pytest.raises(ManagerClosedError):
        client.snapshot()

"""Clients and servers that are killed, interrupted, forked and restarted, in real processes."""

from __future__ import annotations

import os
import random
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

import modelmgr
from modelmgr import (
    LeaseError,
    RemoteManager,
    ServiceLostError,
    ServiceServer,
    UsageError,
    WorkerDiedError,
)
from modelmgr.runtime.service import messages, parcels
from modelmgr.runtime.service.framing import Stream
from support.parties import Party, wait_until
from support.processes import descriptors, open_pidfds, still_running
from support.service_parties import Child, serving


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe on which a model that hangs says that it does now."""
    found = tmp_path / "pipe"
    os.mkfifo(found)
    return found


@pytest.fixture
def server(tmp_path: Path, pipe: Path) -> Iterator[ServiceServer]:
    with serving(tmp_path / "m.sock", pipe=str(pipe)) as made:
        yield made


@pytest.fixture
def client(server: ServiceServer) -> Iterator[RemoteManager]:
    with modelmgr.connect(server.path) as made:
        yield made


def states(client: RemoteManager, tag: str) -> list[str]:
    return [copy.state for copy in client.snapshot().copies if copy.tag == tag]


def test_an_idle_holder_that_is_killed_loses_its_lease_and_the_copy_stays(
    server: ServiceServer, client: RemoteManager
) -> None:
    with Child("hold", server.path, "idle") as holder:
        said = holder.said()
        waiting = Party(lambda: client.lease("echo", timeout=None))
        wait_until(lambda: len(client.snapshot().queue) == 1, "it is held")
        holder.kill()
        lease = waiting.result()
        assert lease.instance.pid == said["worker"]
        assert lease.instance.infer(1) == 1
        lease.release()


def test_a_holder_that_is_killed_in_a_call_costs_the_copy(
    server: ServiceServer, client: RemoteManager, pipe: Path
) -> None:
    with Child("hold", server.path, "calling") as holder:
        worker = holder.said()["worker"]
        pidfds = open_pidfds([worker])
        pipe.read_text()  # the model hangs now
        holder.kill()
        assert still_running(pidfds) == set()
        wait_until(lambda: states(client, "hang") == [], "the copy is gone")
    with client.lease("hang", timeout=30.0) as model:
        assert model.pid != worker
    assert {e.reason for e in client.evictions() if e.tag == "hang"} <= {"holder-lost"}


def test_a_client_that_is_killed_while_it_waits_leaves_no_ticket(
    server: ServiceServer, client: RemoteManager
) -> None:
    with client.lease("echo") as model, Child("hold", server.path, "waiting") as waiter:
        waiter.said()
        wait_until(lambda: len(client.snapshot().queue) == 1, "it waits")
        waiter.kill()
        wait_until(lambda: client.snapshot().queue == (), "its ticket is gone")
        assert model.infer(1) == 1
    with client.lease("echo", timeout=0):
        pass


def test_a_client_that_is_killed_while_its_load_runs_leaves_no_copy(
    server: ServiceServer, client: RemoteManager, pipe: Path
) -> None:
    with Child("hold", server.path, "loading") as loader:
        loader.said()
        pipe.read_text()  # the load hangs now
        assert states(client, "stuck") == ["loading"]
        loader.kill()
        wait_until(lambda: states(client, "stuck") == [], "the load was given up")
    seen = client.snapshot()
    assert seen.queue == ()
    assert seen.devices[0].reserved_bytes == 0


def test_a_load_goes_on_for_others_that_wait_for_the_same_model(
    server: ServiceServer, client: RemoteManager
) -> None:
    with modelmgr.connect(server.path) as leaver:
        left = Party(lambda: leaver.lease("slow", timeout=None))
        wait_until(lambda: states(client, "slow") == ["loading"], "it is being loaded")
        (copy,) = [c.copy for c in client.snapshot().copies if c.tag == "slow"]
        waiting = Party(lambda: client.lease("slow", timeout=None))
        wait_until(lambda: len(client.snapshot().queue) == 2, "another waits")
        leaver.shutdown()
        with pytest.raises(modelmgr.ManagerClosedError):
            left.result()
    lease = waiting.result()
    assert lease.copy == copy
    lease.release()


def test_a_killed_holder_whose_descendant_keeps_its_connections_is_noticed(
    server: ServiceServer, client: RemoteManager
) -> None:
    with Child("hold", server.path, "with-descendant") as holder:
        descendant = psutil.Process(holder.said()["child"])
        try:
            assert states(client, "echo") == ["active"]
            holder.kill()
            assert descendant.is_running()
            client.lease("echo", timeout=30.0).release()
            assert [info.pid for info in server.clients()] == [os.getpid()]
        finally:
            descendant.kill()


def test_an_interrupted_wait_leaves_neither_ticket_nor_lease(
    server: ServiceServer, client: RemoteManager
) -> None:
    lease = client.lease("echo")
    with Child("hold", server.path, "interrupted") as waiter:
        waiter.said()
        wait_until(lambda: len(client.snapshot().queue) == 1, "it waits")
        waiter.process.send_signal(signal.SIGINT)
        assert waiter.said()["interrupted"] > 0
        wait_until(lambda: client.snapshot().queue == (), "its ticket is gone")
        lease.release()
        assert [info.held for info in server.clients() if info.pid == waiter.process.pid] == [
            ("small",)
        ]


def test_an_interrupted_call_costs_the_copy_and_its_lease_can_still_be_released(
    server: ServiceServer, client: RemoteManager, pipe: Path
) -> None:
    with Child("hold", server.path, "interrupted-call") as caller:
        caller.said()
        pipe.read_text()
        caller.process.send_signal(signal.SIGINT)
        assert caller.said()["released"]
        wait_until(lambda: states(client, "hang") == [], "the copy is gone")


class Interrupted(BaseException):
    """What a signal raises, at any moment."""


@pytest.mark.filterwarnings(  # a finaliser can be interrupted as well, and says so
    "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_interrupts_at_any_moment_leave_no_lease_behind(
    server: ServiceServer, client: RemoteManager
) -> None:
    with client.lease("echo"):
        pass
    rng = random.Random(5)

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        for _ in range(400):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.00002, 0.0012))
                with client.lease("echo", timeout=30.0):
                    pass
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupted:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 50
    client.lease("echo", timeout=30.0).release()
    wait_until(lambda: server.clients()[0].held == (), "nothing is held")
    assert client.snapshot().queue == ()


def test_a_forked_child_neither_uses_nor_ends_what_its_parent_holds(
    server: ServiceServer, client: RemoteManager
) -> None:
    with Child("hold", server.path, "forked") as parent:
        assert parent.said() == {
            "lease": "UsageError",
            "release": "LeaseError",
            "infer": "UsageError",
            "shutdown": None,
            "own": True,
        }
        assert parent.said()["still"] == "held"
        assert states(client, "echo") == ["active"]


def test_a_server_that_is_killed_leaves_no_process_and_is_replaced_at_its_path(
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.sock"
    with Child("serve", path) as first:
        before = first.said()
        client = modelmgr.connect(path)
        lease = client.lease("echo")
        other = client.lease("small")
        pidfds = open_pidfds(before["pids"])
        assert len(pidfds) >= 2
        first.kill()
        assert still_running(pidfds) == set()
        assert path.exists()
        with pytest.raises(ServiceLostError, match="reconnect"):
            lease.instance.infer(1)
        with pytest.raises(ServiceLostError):
            client.snapshot()
        with pytest.raises(ServiceLostError, match="no server listens"):
            client.reconnect()
        with Child("serve", path) as second:
            assert second.said()["epoch"] != before["epoch"]
            with pytest.raises(ServiceLostError):
                client.lease("echo")
            client.reconnect()
            with client.lease("echo") as model:
                assert model.infer("again") == "again"
            for stale in (lease, other):
                with pytest.raises(LeaseError, match="earlier connection"):
                    stale.release()
            with pytest.raises(LeaseError):
                lease.instance.infer(1)
            client.shutdown()


def ask(stream: Stream, request: object) -> messages.Reply:
    parcels.post(stream, msgspec.msgpack.Encoder(), request)
    parcel = parcels.receive(stream)
    reply = parcel.decode(messages.REPLIES)
    parcel.close()
    return reply


def open_stream(path: Path) -> Stream:
    end = socket.socket(socket.AF_UNIX)
    end.connect(str(path))
    return Stream(end, frame_timeout_s=30.0)


def test_stale_foreign_and_made_up_leases_are_refused_by_the_server_and_change_nothing(
    server: ServiceServer, client: RemoteManager
) -> None:
    lease = client.lease("echo")
    streams = [open_stream(server.path) for _ in range(3)]
    anchor, own, stranger = streams
    hello = messages.Hello(version=messages.PROTOCOL_VERSION)
    welcome = ask(anchor, hello)
    assert isinstance(welcome, messages.Welcome)
    joining = msgspec.structs.replace(hello, token=welcome.token)
    assert isinstance(ask(own, joining), messages.Welcome)
    for token in (b"", bytes(16), welcome.token[:-1]):
        refused = ask(stranger, msgspec.structs.replace(hello, token=token))
        assert isinstance(refused, messages.Failed)
        assert "no session" in refused.fault.message
        stranger.close()
        stranger = open_stream(server.path)
    stranger.close()
    for epoch, serial in (
        (server.epoch, lease.serial),  # another client's
        ("0123456789abcdef", lease.serial),  # another life's
        (server.epoch, 10**9),
    ):
        for request in (
            messages.Release(epoch=epoch, serial=serial),
            messages.Infer(epoch=epoch, serial=serial, tree=1),
            messages.ReadMemory(epoch=epoch, serial=serial),
        ):
            reply = ask(own, request)
            assert isinstance(reply, messages.Failed)
            assert reply.fault.error == "LeaseError"
    assert states(client, "echo") == ["active"]
    assert lease.instance.infer(1) == 1
    lease.release()
    reply = ask(own, messages.Acquire(tag="echo"))
    assert isinstance(reply, messages.Granted)
    own.close()  # its answer may never have been read
    wait_until(lambda: states(client, "echo") == ["idle"], "it was taken back")
    anchor.close()


def shared_mappings() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:modelmgr-arrays")


def test_a_thousand_leases_and_many_deaths_leave_no_descriptor_and_no_memory(
    server: ServiceServer, client: RemoteManager, pipe: Path
) -> None:
    def settle() -> dict[str, str]:
        wait_until(
            lambda: [info.connections for info in server.clients()] == [2], "one client is left"
        )
        wait_until(lambda: states(client, "hang") == [], "its copies are gone")
        return {name: to for name, to in descriptors().items() if "pidfd" not in to}

    with client.lease("hang"):
        pass
    with client.lease("echo") as model:
        model.infer(bytes(1 << 20))
    client.force_reset()
    with client.lease("echo"):
        pass
    before = settle()
    for turn in range(1000):
        with client.lease("echo") as model:
            if turn % 50 == 0:
                model.infer(bytes(1 << 20))
    for what in ("idle", "waiting", "calling-large", "idle"):
        with Child("hold", server.path, what) as holder:
            holder.said()
            if what == "calling-large":
                pipe.read_text()
            holder.kill()
        with client.lease("echo", timeout=30.0):
            pass
    settle()
    # A connection that ends is counted out first and closed a moment later.
    wait_until(lambda: len(settle()) <= len(before), "their descriptors are closed")
    assert shared_mappings() == 0


def test_a_call_whose_worker_is_killed_fails_and_harms_no_other_client(
    server: ServiceServer, client: RemoteManager, pipe: Path
) -> None:
    with modelmgr.connect(server.path) as other, other.lease("echo") as echo:
        lease = client.lease("hang")
        calling = Party(lambda: lease.instance.infer(1))
        pipe.read_text()
        assert lease.instance.pid is not None
        os.kill(lease.instance.pid, signal.SIGKILL)
        with pytest.raises(WorkerDiedError):
            calling.result()
        assert echo.infer(2) == 2
        lease.release()


def test_a_call_after_the_worker_s_death_says_that_it_died(client: RemoteManager) -> None:
    lease = client.lease("echo")
    assert lease.instance.pid is not None
    os.kill(lease.instance.pid, signal.SIGKILL)
    wait_until(lambda: not lease.instance.alive, "it is seen to be gone")
    for _ in range(2):  # before and after it was cleared away
        with pytest.raises(WorkerDiedError):
            lease.instance.infer(1)
        client.force_reset()
        waiting = Party(lambda: client.lease("large", timeout=0.5).release())
        waiting.result()
    lease.release()


def test_a_manager_cannot_be_sent_to_another_process(client: RemoteManager) -> None:
    with client.lease("echo") as model, pytest.raises(TypeError):
        model.__reduce__()
    with pytest.raises(UsageError):
        client.lease("echo", timeout=-1)

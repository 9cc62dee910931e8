"""Whatever comes on the socket: answered or cut off, and nobody else is harmed."""

from __future__ import annotations

import array
import contextlib
import os
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import modelmgr
from modelmgr import RemoteManager, ServiceServer
from modelmgr.errors import WorkerProtocolError
from modelmgr.runtime.service import messages, parcels
from modelmgr.runtime.service.framing import MAX_BODY_BYTES, Stream
from modelmgr.workers.shared_arrays import Received, share
from support.parties import Party, wait_until
from support.processes import descriptors
from support.service_parties import serving

HEADER = struct.Struct(">2sBxI")
MEMORY, SHARED_BODY = 1, 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceServer]:
    with serving(tmp_path_factory.mktemp("frames") / "m.sock", frame_timeout_s=0.2) as made:
        yield made


@pytest.fixture(scope="module")
def client(server: ServiceServer) -> Iterator[RemoteManager]:
    with modelmgr.connect(server.path) as made:
        yield made


@pytest.fixture(autouse=True)
def everybody_else_is_unharmed(server: ServiceServer, client: RemoteManager) -> Iterator[None]:
    with client.lease("echo") as model:
        yield
        assert model.infer("still") == "still"
    wait_until(lambda: len(server.clients()) == 1, "only the well-behaved is left")


def frame(body: bytes, flags: int = 0, size: int | None = None, magic: bytes = b"MS") -> bytes:
    return HEADER.pack(magic, flags, len(body) if size is None else size) + body


def packed(message: object) -> bytes:
    return msgspec.msgpack.encode(message)


HELLO = frame(packed(messages.Hello(version=messages.PROTOCOL_VERSION)))


class Rogue:
    """A client that says what it likes, on a connection that was greeted properly."""

    def __init__(self, path: Path, *, greeted: bool = True) -> None:
        self.ends: list[socket.socket] = []
        self.path = path
        self.end = self._open()
        if greeted:
            self.end.sendall(HELLO)
            welcome = self.reply()
            assert isinstance(welcome, messages.Welcome)
            joining = messages.Hello(version=messages.PROTOCOL_VERSION, token=welcome.token)
            self.end = self._open()
            self.end.sendall(frame(packed(joining)))
            assert isinstance(self.reply(), messages.Welcome)

    def _open(self) -> socket.socket:
        end = socket.socket(socket.AF_UNIX)
        end.settimeout(20)
        end.connect(str(self.path))
        self.ends.append(end)
        return end

    def reply(self) -> messages.Reply:
        _, _, size = HEADER.unpack(self._read(HEADER.size))
        return messages.REPLIES.decode(self._read(size))

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.end.recv(size - len(data))
            assert more, "it was cut off without an answer"
            data += more
        return data

    def send(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.end.sendall(data)

    def is_cut_off(self) -> bool:
        """Read to the end; a time-out fails the test."""
        with contextlib.suppress(ConnectionResetError):
            while self.end.recv(65536):
                pass
        return True

    def refused(self) -> str:
        """Return why it was refused; it must have been cut off after that."""
        reply = self.reply()
        assert isinstance(reply, messages.Failed)
        assert self.is_cut_off()
        return reply.fault.message

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for end in self.ends:
            end.close()


NESTED = b"\x91" * 5000

MALFORMED = {
    "no magic": b"GET / HTTP/1.1\r\n\r\n",
    "unknown flags": frame(b"", flags=128),
    "a body in memory without memory": frame(b"", flags=SHARED_BODY),
    "memory announced and not sent": frame(packed(messages.Reset()), flags=MEMORY),
    "oversized": frame(b"", size=MAX_BODY_BYTES + 1),
    "far too large": frame(b"", size=2**32 - 1),
    "no msgpack": frame(b"\xc1" * 40),
    "empty": frame(b""),
    "json": frame(b'{"type":"Reset"}'),
    "truncated msgpack": frame(packed(messages.Acquire(tag="echo"))[:-2]),
    "trailing bytes": frame(packed(messages.Reset()) + b"\x00"),
    "unknown type": frame(packed({"type": "Execute", "code": "import os"})),
    "no type": frame(packed({"tag": "echo"})),
    "unknown field": frame(packed({"type": "Reset", "harder": True})),
    "wrong type of a field": frame(packed({"type": "Acquire", "tag": 7})),
    "a negative time-out": frame(packed({"type": "Acquire", "tag": "a", "timeout_s": -1.0})),
    "an endless tag": frame(packed({"type": "Acquire", "tag": "x" * 5000})),
    "a reply": frame(packed(messages.Done())),
    "a greeting again": HELLO,
    "deep nesting": frame(NESTED),
    "a pickle": frame(b"\x80\x04\x95\x1e\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."),
    "deep nesting in a field": frame(
        packed({"type": "Infer", "epoch": "e", "serial": 1})[:-1] + b"\x01\xa4tree" + NESTED
    ),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_what_is_no_message_is_refused_and_ends_its_connection(
    server: ServiceServer, what: str
) -> None:
    with Rogue(server.path) as rogue:
        rogue.send(MALFORMED[what])
        assert rogue.refused().startswith("malformed message: ")


@pytest.mark.parametrize("what", [name for name in MALFORMED if name != "a greeting again"])
def test_what_is_no_greeting_is_refused_as_well(server: ServiceServer, what: str) -> None:
    with Rogue(server.path, greeted=False) as rogue:
        rogue.send(MALFORMED[what])
        assert rogue.refused().startswith("malformed message: ")


def test_another_protocol_version_is_told_both_versions(server: ServiceServer) -> None:
    with Rogue(server.path, greeted=False) as rogue:
        newer = {"type": "Hello", "version": 99, "token": None, "compression": "zstd"}
        rogue.send(frame(packed(newer)))
        said = rogue.refused()
        assert "protocol 99" in said
        assert f"protocol {messages.PROTOCOL_VERSION}" in said


def test_one_who_says_nothing_or_half_a_message_is_cut_off(server: ServiceServer) -> None:
    with Rogue(server.path, greeted=False) as silent:
        assert silent.is_cut_off()
    for sent in (b"M", HELLO[:-1], frame(b"abc", size=100)):
        with Rogue(server.path) as slow:
            slow.send(sent)
            assert "did not come within" in slow.refused()


def test_one_who_does_not_read_is_cut_off(server: ServiceServer, client: RemoteManager) -> None:
    ask = frame(packed(messages.TakeSnapshot()))
    with Rogue(server.path) as rogue:
        sending = Party(lambda: rogue.send(ask * 200_000))
        sending.result()  # it ends because the server closed the connection
        assert rogue.is_cut_off()
    assert client.snapshot().queue == ()


def test_messages_that_come_together_are_answered_one_after_another(server: ServiceServer) -> None:
    with Rogue(server.path) as rogue:
        rogue.send(frame(packed(messages.TakeSnapshot())) * 3 + frame(packed(messages.Reset()))[:5])
        for _ in range(3):
            assert isinstance(rogue.reply(), messages.Snapshot)


def test_messages_that_come_byte_by_byte_are_answered(tmp_path: Path) -> None:
    del tmp_path
    ours, theirs = socket.socketpair()
    stream = Stream(theirs, frame_timeout_s=20)
    data = frame(packed(messages.Acquire(tag="echo"))) * 2

    def send() -> None:
        for byte in data:
            ours.sendall(bytes([byte]))

    sending = Party(send)
    for _ in range(2):
        parcel = parcels.receive(stream)
        assert parcel.decode(messages.REQUESTS) == messages.Acquire(tag="echo")
    sending.result()
    stream.close()
    ours.close()


def rights(*fds: int) -> list[tuple[int, int, array.array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]


def infer_shared(*sizes: int) -> bytes:
    return packed(messages.Infer(epoch="e", serial=1, tree=None, shared=sizes))


def test_memory_that_can_be_changed_or_is_none_is_refused(
    server: ServiceServer, tmp_path: Path
) -> None:
    plain = os.memfd_create("plain", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(plain, 4096)
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    ready, done = os.pipe()
    for descriptor in (plain, file, ready):
        with Rogue(server.path) as rogue:
            rogue.end.sendmsg([frame(infer_shared(100), flags=MEMORY)], rights(descriptor))
            assert "malformed message" in rogue.refused()
    for descriptor in (plain, file, ready, done):
        os.close(descriptor)


def test_arrays_beyond_what_came_are_refused(server: ServiceServer) -> None:
    memory = share(b"", [memoryview(bytes(100))])
    for sizes in ((101,), (2**62,), (2**63 - 1, 2**63 - 1), (1,) * 10_000):
        with Rogue(server.path) as rogue:
            rogue.end.sendmsg([frame(infer_shared(*sizes), flags=MEMORY)], rights(memory))
            assert "malformed message" in rogue.refused()
    with Rogue(server.path) as rogue:
        head = HEADER.pack(b"MS", MEMORY | SHARED_BODY, 5000)
        rogue.end.sendmsg([head], rights(memory))
        assert "malformed message" in rogue.refused()
    os.close(memory)


def test_descriptors_that_nobody_asked_for_are_refused_and_closed(server: ServiceServer) -> None:
    memory = share(b"", [memoryview(bytes(100))])
    before = len(descriptors())
    for flags, count in ((0, 1), (MEMORY, 2), (MEMORY, 5), (0, 250)):
        with Rogue(server.path) as rogue:
            body = packed(messages.TakeSnapshot())
            rogue.end.sendmsg([frame(body, flags=flags)], rights(*[memory] * count))
            assert "malformed message" in rogue.refused()
    # A connection that ends is counted out first and closed a moment later.
    wait_until(lambda: len(descriptors()) <= before, "their descriptors are closed")
    os.close(memory)


def test_sealed_memory_cannot_be_changed_by_its_sender() -> None:
    memory = share(b"body", [memoryview(b"data")])
    for change in (
        lambda: os.truncate(memory, 0),
        lambda: os.pwrite(memory, b"x", 0),
        lambda: os.truncate(memory, 1 << 20),
    ):
        with pytest.raises(PermissionError):
            change()
    received = Received(memory)
    assert received.body(4) == b"body"
    with pytest.raises(WorkerProtocolError):
        received.map(4, [5000])
    received.close()


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=200),
            st.binary(max_size=200).map(frame),
            st.recursive(
                st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=9),
                lambda inner: (
                    st.lists(inner, max_size=4)
                    | st.dictionaries(st.text(max_size=6), inner, max_size=4)
                ),
            ).map(lambda value: frame(packed(value))),
        ),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)
def test_any_bytes_at_all_harm_nobody(
    server: ServiceServer, client: RemoteManager, pieces: list[bytes], greeted: bool
) -> None:
    with Rogue(server.path, greeted=greeted) as rogue:
        for piece in pieces:
            rogue.send(piece)
    assert client.snapshot().closed is False


def test_true_messages_with_flipped_bytes_harm_nobody(
    server: ServiceServer, client: RemoteManager
) -> None:
    rng = random.Random(11)
    epoch = server.epoch
    true: list[object] = [
        messages.Acquire(tag="small", timeout_s=0.0),
        messages.Release(epoch=epoch, serial=1),
        messages.Infer(epoch=epoch, serial=1, tree={"list": [1, {"array": 0}]}, inline=(b"x",)),
        messages.TakeSnapshot(),
        messages.ListCopies(tag="echo"),
        messages.AskSpawn(tag="echo", ticket_num=None),
    ]
    for _ in range(150):
        data = bytearray(frame(packed(rng.choice(true))))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        with Rogue(server.path, greeted=rng.random() < 0.8) as rogue:
            rogue.send(bytes(data))
            if rng.random() < 0.5:
                rogue.end.shutdown(socket.SHUT_WR)
                rogue.is_cut_off()
    assert client.snapshot().closed is False


def test_a_batch_that_is_no_tree_is_a_usage_error_on_a_connection_that_goes_on(
    server: ServiceServer,
) -> None:
    with Rogue(server.path) as rogue:
        for tree in (
            {"array": 0, "dtype": "object", "shape": [1]},
            {"array": 7},
            {"list": 3},
            {"nonsense": 1},
            {"int": "zz"},
        ):
            request = messages.Infer(epoch=server.epoch, serial=1, tree=tree, inline=(b"12345678",))
            rogue.send(frame(packed(request)))
            reply = rogue.reply()
            assert isinstance(reply, messages.Failed)
            assert reply.fault.error == "UsageError"

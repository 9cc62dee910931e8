"""A message arrives whole or is refused; no length is believed before its bytes are there."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Generator

import pytest

from modelmgr.errors import UsageError, WorkerProtocolError
from modelmgr.workers import protocol
from modelmgr.workers.protocol import Channel
from modelmgr.workers.shared_arrays import Segment


@pytest.fixture
def ends() -> Generator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    yield channel, theirs
    channel.close()
    theirs.close()


@pytest.mark.parametrize("times", [1, 20_000])
def test_a_message_and_its_buffers_arrive(ends: tuple[Channel, socket.socket], times: int) -> None:
    channel, theirs = ends
    sent = [memoryview(bytes(range(256)) * times), memoryview(b""), memoryview(b"more")]
    other = Channel(theirs)
    sender = threading.Thread(target=other.send, args=(protocol.Outputs(id=3, tree=[1, "a"]), sent))
    sender.start()
    reply, arrived = channel.receive_reply()
    sender.join()
    assert reply == protocol.Outputs(id=3, tree=[1, "a"])
    assert isinstance(arrived, Segment) == (times > 1000)
    for buffers in (
        (arrived.copies(), arrived.private(), arrived.views())
        if isinstance(arrived, Segment)
        else (arrived,)
    ):
        assert [bytes(part) for part in buffers] == [bytes(part) for part in sent]


@pytest.mark.parametrize(
    "garbage",
    [
        b"Loading checkpoint shards: 100%",
        b"MMW1\xff\xff\xff\xff\x00\x00\x00\x00",
        b"MMW1\x00\x00\x00\x02\xff\xff\xff\xff",
        b"MMW1\x00\x00\x00\x02\x00\x00\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff{}",
        b"MMW1\x00\x00\x00\x02\x00\x00\x00\x00{}",
        b"MMW1\x00\x00\x00\x04\x00\x00\x00\x00\xff\xfe\xfd\xfc",
        b"MMW1" + (30).to_bytes(4, "big") + bytes(4) + b'{"type":"Closed","id":-1}     ',
        b"MMW1" + (27).to_bytes(4, "big") + bytes(4) + b'{"type":"Surprise","id":1} ',
        b"MMW1" + (200_000).to_bytes(4, "big") + bytes(4) + b"[" * 200_000,
    ],
)
def test_bytes_that_are_no_message_are_refused(
    ends: tuple[Channel, socket.socket], garbage: bytes
) -> None:
    channel, theirs = ends
    sender = threading.Thread(target=theirs.sendall, args=(garbage,))
    sender.start()
    with pytest.raises(WorkerProtocolError):
        channel.receive_reply()
    sender.join()


def test_an_end_in_the_middle_of_a_message_is_an_end(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    theirs.sendall(b"MMW1\x00\x00\x00\x40\x00\x00\x00\x00{")
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(EOFError):
        channel.receive_reply()


def test_what_json_cannot_hold_and_what_is_too_large_is_the_callers_mistake() -> None:
    with pytest.raises(UsageError, match="cannot be sent"):
        protocol.pack(protocol.Outputs(id=1, tree=object()))
    with pytest.raises(UsageError, match="numpy arrays"):
        protocol.pack(protocol.Outputs(id=1, tree="x" * (protocol.MAX_JSON_BYTES + 1)))
    with pytest.raises(UsageError, match="smaller batches"):
        protocol.pack(
            protocol.Outputs(id=1, tree=None), [memoryview(b"a")] * (protocol.MAX_BUFFERS + 1)
        )


def test_a_message_that_promises_memory_and_brings_none_is_refused(
    ends: tuple[Channel, socket.socket],
) -> None:
    channel, theirs = ends
    theirs.sendall(b"MMW1\x00\x00\x00\x02\x80\x00\x00\x00" + bytes(8) + b"{}")
    with pytest.raises(WorkerProtocolError, match="do not agree"):
        channel.receive_reply()


def test_what_one_side_writes_into_a_batch_no_other_side_sees(
    ends: tuple[Channel, socket.socket],
) -> None:
    channel, theirs = ends
    sent = memoryview(bytes(1 << 20))
    Channel(theirs).send(protocol.Infer(id=1, tree=None), [sent])
    _, (buffer,) = channel.receive_request()
    assert not buffer.readonly
    buffer[:3] = b"abc"
    assert bytes(buffer[:3]) == b"abc"
    assert bytes(sent[:3]) == bytes(3)


def test_memory_that_came_is_closed_with_the_last_who_knows_it(
    ends: tuple[Channel, socket.socket],
) -> None:
    channel, theirs = ends
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count
    for turn in range(3):
        Channel(theirs).send(protocol.Outputs(id=turn, tree=None), [memoryview(bytes(1 << 20))])
        channel.receive_reply()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - a count

"""A small HTTP server for one page: bounded in connections, in time and in size.

Any user of the machine can connect to a TCP port. So it has one thread and a fixed number of
descriptors, whoever comes and whatever they send or leave out: a further connection takes the place
of the oldest, and each is cut when its time is over. One connection is one request (RFC 9112).
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import urlsplit

MOST_CONNECTIONS = 16
"""At one time; a scraper has one."""
MOST_REQUEST_BYTES = 8192
"""Of a request line and its headers; a scraper's are some hundred."""
PATIENCE_S = 5.0
"""From a connection to the end of its answer."""

_LOG = logging.getLogger("modelmgr")
_PAUSE_S = 0.05  # where the process has no descriptor for a further connection
_METHODS = ("GET", "HEAD")
_VERSIONS = ("HTTP/1.0", "HTTP/1.1")
_WORDS = 3  # of a request line
_TEXT = "text/plain; charset=utf-8"


class PageServer:
    """Serves one page from the moment it is made; ``close`` ends it.

    Args:
        address: where to listen.
        port: which port; 0 takes a free one.
        path: where the page is.
        render: makes the page: the request's ``Accept`` to the body and its type.
        patience_s: how long a connection may last, seconds.

    Raises:
        OSError, OverflowError: the port cannot be listened on.
    """

    def __init__(
        self,
        address: str,
        port: int,
        path: str,
        render: Callable[[str], tuple[bytes, str]],
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._path = path
        self._render = render
        self._patience_s = patience_s
        self._visits: dict[socket.socket, _Visit] = {}  # the oldest first
        self._stopping = threading.Event()
        self._listener = socket.create_server((address, port), backlog=MOST_CONNECTIONS)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        try:
            self._selector = selectors.DefaultSelector()
        except BaseException:
            self._listener.close()
            raise
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="modelmgr-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering and cut who is connected; a second call does nothing."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join()
        for end in list(self._visits):
            self._drop(end)
        self._selector.close()
        self._listener.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(self._until_first_deadline()):
                if key.fileobj is self._listener:
                    self._take()
                elif key.data in self._visits:  # or it was cut meanwhile
                    self._go_on(key.data)
            now = time.monotonic()
            for end in [end for end, visit in self._visits.items() if visit.deadline <= now]:
                self._drop(end)

    def _until_first_deadline(self) -> float | None:
        for visit in self._visits.values():
            return max(0.0, visit.deadline - time.monotonic())
        return None

    def _take(self) -> None:
        if len(self._visits) >= MOST_CONNECTIONS:
            self._drop(next(iter(self._visits)))
        try:
            end, _ = self._listener.accept()
        except OSError:  # nobody is there any more, or there is no descriptor for who is
            self._stopping.wait(_PAUSE_S)
            return
        end.setblocking(False)
        self._visits[end] = _Visit(time.monotonic() + self._patience_s)
        self._selector.register(end, selectors.EVENT_READ, end)
        self._go_on(end)  # its request is here already, mostly

    def _go_on(self, end: socket.socket) -> None:
        visit = self._visits[end]
        try:
            if visit.answer is None:
                self._hear(end, visit)
            if visit.answer:
                visit.answer = visit.answer[end.send(visit.answer) :]
                if visit.answer:
                    self._selector.modify(end, selectors.EVENT_WRITE, end)
                else:  # it closes first: what it still sends would undo an answer on its way
                    end.shutdown(socket.SHUT_WR)
                    self._selector.modify(end, selectors.EVENT_READ, end)
            elif visit.answer is not None and not end.recv(MOST_REQUEST_BYTES):
                self._drop(end)
        except BlockingIOError:
            return
        except (EOFError, OSError):
            self._drop(end)

    def _hear(self, end: socket.socket, visit: _Visit) -> None:
        """Read on; once the request is complete, or can be no good one, have an answer."""
        data = end.recv(MOST_REQUEST_BYTES)
        if not data:
            raise EOFError
        visit.asked += data
        if b"\r\n\r\n" in visit.asked:
            visit.answer = memoryview(self._answer(visit.asked))
        elif len(visit.asked) > MOST_REQUEST_BYTES:
            visit.answer = memoryview(_said(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))

    def _answer(self, asked: bytearray) -> bytes:
        line, *fields = asked.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        words = line.split(" ")
        if len(words) != _WORDS or words[2] not in _VERSIONS:
            return _said(HTTPStatus.BAD_REQUEST)
        method, target, _ = words
        with contextlib.suppress(ValueError):
            target = urlsplit(target).path
        if target != self._path:
            return _said(HTTPStatus.NOT_FOUND, f"the page is {self._path}")
        if method not in _METHODS:
            return _said(HTTPStatus.METHOD_NOT_ALLOWED, "", f"Allow: {', '.join(_METHODS)}")
        accept = ""
        for field in fields:
            name, _, value = field.partition(":")
            if name.strip().lower() == "accept":
                accept = value.strip()
        try:
            body, kind = self._render(accept)
        except Exception:  # noqa: BLE001 - whatever it is, it must not end the answering
            _LOG.exception("a page could not be made")
            return _said(HTTPStatus.INTERNAL_SERVER_ERROR, "the log says why")
        answer = _reply(HTTPStatus.OK, body, kind)
        return answer if method == "GET" else answer[: len(answer) - len(body)]

    def _drop(self, end: socket.socket) -> None:
        del self._visits[end]
        self._selector.unregister(end)
        end.close()


class _Visit:
    """What came on a connection, and what of its answer is left to send; None: there is none."""

    __slots__ = ("answer", "asked", "deadline")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.asked = bytearray()
        self.answer: memoryview | None = None


def _said(status: HTTPStatus, more: str = "", *fields: str) -> bytes:
    told = f"{status.phrase}: {more}" if more else status.phrase
    return _reply(status, f"{told}\n".encode(), _TEXT, *fields)


def _reply(status: HTTPStatus, body: bytes, kind: str, *fields: str) -> bytes:
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *fields,
    )
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body

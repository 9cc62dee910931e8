"""The metrics' port, as any user of the machine may use it: few, short, small, and cut in time."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.core import Metric

from modelmgr.reporting.metrics import ManagerCollector, MetricsServer
from modelmgr.reporting.page_server import MOST_CONNECTIONS, MOST_REQUEST_BYTES
from modelmgr.runtime.counters import ManagerCounters
from modelmgr.runtime.snapshot import ManagerSnapshot

PATIENCE_S = 60.0
GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


def _nothing_yet() -> ManagerSnapshot:
    return ManagerSnapshot(
        devices=(), copies=(), queue=(), closed=False, totals=ManagerCounters().totals()
    )


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    with MetricsServer(ManagerCollector(_nothing_yet), 0) as made:
        yield made


def _connected(server: MetricsServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)


def _read_to_end(end: socket.socket) -> bytes:
    """Return all that comes until the server closes the connection."""
    said = b""
    try:
        while data := end.recv(65536):
            said += data
    except ConnectionResetError:
        pass
    return said


def _send_until_cut(end: socket.socket) -> None:
    while True:
        end.sendall(b"more")


def _answer(server: MetricsServer, request: bytes) -> tuple[str, dict[str, str], bytes]:
    with _connected(server) as end:
        end.sendall(request)
        head, _, body = _read_to_end(end).partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    named = dict(field.split(": ", 1) for field in fields)
    assert named["Connection"] == "close"
    return first.removeprefix("HTTP/1.1 "), named, body


def _scrape(server: MetricsServer) -> str:
    with urllib.request.urlopen(server.url, timeout=PATIENCE_S) as answer:  # noqa: S310 - our own
        body: bytes = answer.read()
    return body.decode()


def test_connections_that_say_nothing_keep_no_scraper_out_and_are_few(
    server: MetricsServer,
) -> None:
    """Each had a thread and a descriptor for ever: any user could take all that there were."""
    silent = [_connected(server) for _ in range(3 * MOST_CONNECTIONS)]
    for end in silent:
        end.sendall(b"G")
    assert "modelmgr_build_info" in _scrape(server)
    for end in silent[: 2 * MOST_CONNECTIONS]:
        assert _read_to_end(end) == b""
    for end in silent:
        end.close()


def test_a_request_that_never_ends_is_cut_in_time() -> None:
    with (
        MetricsServer(ManagerCollector(_nothing_yet), 0, patience_s=0.05) as server,
        _connected(server) as slow,
    ):
        slow.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert _read_to_end(slow) == b""


def test_who_does_not_read_or_close_is_cut_in_time() -> None:
    with (
        MetricsServer(ManagerCollector(_nothing_yet), 0, patience_s=0.05) as server,
        _connected(server) as lingering,
    ):
        lingering.sendall(GET)
        assert _read_to_end(lingering).startswith(b"HTTP/1.1 200 OK\r\n")
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            _send_until_cut(lingering)


def test_one_page_is_served_to_two_methods_and_the_rest_is_refused(server: MetricsServer) -> None:
    status, fields, body = _answer(server, GET)
    assert status == "200 OK"
    assert fields["Content-Type"].startswith("text/plain; version=0.0.4")
    assert int(fields["Content-Length"]) == len(body)
    assert b"modelmgr_build_info" in body
    assert _answer(server, GET.replace(b"/metrics", b"/metrics?a=b"))[0] == "200 OK"
    assert _answer(server, GET.replace(b"/metrics", b"http://x/metrics"))[0] == "200 OK"

    status, fields, body = _answer(server, GET.replace(b"GET", b"HEAD"))
    assert (status, body) == ("200 OK", b"")
    assert int(fields["Content-Length"]) > 0

    for path in (b"/", b"/foo", b"/metrics/", b"http://["):
        status, _, body = _answer(server, GET.replace(b"/metrics", path))
        assert (status, body) == ("404 Not Found", b"Not Found: the page is /metrics\n")
    for method in (b"POST", b"PUT", b"OPTIONS", b"get"):
        status, fields, _ = _answer(server, GET.replace(b"GET", method))
        assert (status, fields["Allow"]) == ("405 Method Not Allowed", "GET, HEAD")
    for nonsense in (b"\r\n\r\n", b"GET /metrics\r\n\r\n", b"GET /metrics HTTP/2\r\n\r\n"):
        assert _answer(server, nonsense)[0] == "400 Bad Request"


def test_a_request_has_a_size_and_beyond_it_gets_its_answer_too(server: MetricsServer) -> None:
    padding = b"X: " + b"x" * (MOST_REQUEST_BYTES - len(GET) - 5) + b"\r\n\r\n"
    whole = GET[:-2] + padding
    assert len(whole) == MOST_REQUEST_BYTES
    assert _answer(server, whole)[0] == "200 OK"
    status, _, _ = _answer(server, GET[:-2] + b"X: " + b"x" * (4 * MOST_REQUEST_BYTES))
    assert status == "431 Request Header Fields Too Large"


def test_a_request_may_come_in_pieces_and_name_the_format_it_wants(server: MetricsServer) -> None:
    request = GET[:-2] + b"ACCEPT: application/openmetrics-text; version=1.0.0\r\n\r\n"
    with _connected(server) as end:
        for byte in request:
            end.sendall(bytes([byte]))
        said = _read_to_end(end)
    assert b"Content-Type: application/openmetrics-text" in said
    assert said.endswith(b"# EOF\n")


def test_a_large_answer_arrives_whole_however_slowly_it_is_read() -> None:
    models = [f"model-{number}-{'x' * 100}" for number in range(2000)]
    with (
        MetricsServer(ManagerCollector(_nothing_yet, models), 0) as server,
        _connected(server) as end,
    ):
        end.sendall(GET)
        said = end.recv(100)
        while data := end.recv(1 << 16):
            said += data
    head, _, body = said.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert len(body) > 1 << 22


def test_a_page_that_cannot_be_made_costs_its_request_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Fails(ManagerCollector):
        def collect(self) -> Iterator[Metric]:
            if broken:
                raise ValueError("no such thing")
            return super().collect()

    broken = False
    with MetricsServer(Fails(_nothing_yet), 0) as server:
        broken = True
        assert _answer(server, GET)[0] == "500 Internal Server Error"
        assert "no such thing" in caplog.text
        broken = False
        assert "modelmgr_build_info" in _scrape(server)


def test_the_end_cuts_who_is_connected_and_a_second_end_does_nothing() -> None:
    server = MetricsServer(ManagerCollector(_nothing_yet), 0)
    with _connected(server) as end:
        server.close()
        server.close()
        assert _read_to_end(end) == b""

"""What a shared manager cannot be asked: refused here, by name, and the connection stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modelmgr
from modelmgr import RemoteManager, UsageError
from modelmgr.runtime.service.framing import Stream
from support.service_parties import serving


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.sock"


@pytest.fixture
def client(path: Path) -> Iterator[RemoteManager]:
    with serving(path), modelmgr.connect(path) as made:
        yield made


@pytest.mark.parametrize("patience_s", [1e300, float("inf"), float("nan"), 0.0, -1, True, "1"])
def test_a_patience_is_a_time_that_the_system_takes(path: Path, patience_s: Any) -> None:
    with pytest.raises(UsageError, match=r"patience_s must be seconds, more than 0") as refused:
        modelmgr.connect(path, patience_s=patience_s)
    assert str(refused.value).endswith(f"not {patience_s!r}")


def test_the_longest_patience_is_taken(path: Path) -> None:
    with serving(path), modelmgr.connect(path, patience_s=1e6) as client, client.lease("echo"):
        assert client.models()


def test_a_server_s_patience_is_such_a_time_as_well(path: Path) -> None:
    with (
        pytest.raises(UsageError, match="frame_timeout_s must be"),
        serving(path, frame_timeout_s=1e300),
    ):
        pass


@pytest.mark.parametrize("place", [3, b"/s", "a\0b", ()])
def test_a_socket_s_path_is_a_text_or_a_path(place: Any) -> None:
    with pytest.raises(UsageError) as refused:
        modelmgr.connect(place)
    assert str(refused.value) == f"a socket's path is a text or a Path, not {place!r}"


def test_what_the_server_would_take_for_a_malformed_message_is_refused_by_name(
    client: RemoteManager,
) -> None:
    anything: Any = client
    wrong: dict[str, list[Callable[[], object]]] = {
        "last must be a whole number, 0 or more, not": [
            lambda: anything.evictions(-1),
            lambda: anything.evictions(1.5),
            lambda: anything.evictions(True),
        ],
        "a tag is a text, not": [
            lambda: anything.pin(None),
            lambda: anything.unpin(3),
            lambda: anything.lease(b"echo"),
            lambda: anything.all_models(3),
            lambda: anything.should_spawn_model(3, None),
        ],
        "ticket_num must be a whole number, not": [
            lambda: anything.should_spawn_model("echo", "a"),
            lambda: anything.try_enter_isolation_mode("echo", 1.5),
        ],
        "priority must be a whole number, not": [lambda: anything.lease("echo", priority=0.5)],
    }
    for message, requests in wrong.items():
        for request in requests:
            with pytest.raises(UsageError, match=f"^{message}"):
                request()
    assert client.evictions(0) == ()
    with anything.lease("echo", priority=np.int64(3), worst_case_mb=np.float32(100)):
        pass


def test_a_stream_that_was_interrupted_before_it_had_a_socket_says_nothing_at_its_end() -> None:
    """An interrupt in ``connect`` left "Exception ignored in ... no attribute '_socket'"."""
    unfinished = Stream.__new__(Stream)
    del unfinished  # what goes wrong here fails the test: warnings are errors

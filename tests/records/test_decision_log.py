"""The decision log: its bytes, and the hash of them."""

from __future__ import annotations

import hashlib
import json

from modelmgr.records.decision_log import DecisionLog


def fill(log: DecisionLog, grants: int = 3) -> None:
    log.start_load(5, 1, 1, 'a "quoted" tag', 1, 0, 1024, False)
    for number in range(grants):
        log.grant(9, 2 + number, 1 + number, "bert", 1, 1, 1, number > 0)
    log.start_unload(10, 90, "bert", 1, 1, "make-room", "gpt2", 512, (1, 4))
    log.start_unload(10, 91, "bert", 4, 1, "reset", None, 512, ())
    log.reject(11, 92, 7, "größer", "timed-out", "after 3 s")


def test_the_hash_is_that_of_the_bytes_that_were_written() -> None:
    written: list[bytes] = []
    log = DecisionLog(["gpu0", "gpu1"], written.append)
    fill(log, 2_000)
    digest = log.sha256()
    assert digest == "sha256:" + hashlib.sha256(b"".join(written)).hexdigest()
    assert log.count == 2_004
    silent = DecisionLog(["gpu0", "gpu1"])
    fill(silent, 2_000)
    assert silent.sha256() == digest


def test_every_line_is_json_with_its_keys_in_order() -> None:
    written: list[bytes] = []
    log = DecisionLog(["gpu0", "gpu1"], written.append)
    fill(log)
    log.flush()
    lines = b"".join(written).decode().splitlines()
    load, grant, *_, unload, reset, reject = map(json.loads, lines)
    assert load["tag"] == 'a "quoted" tag'
    assert list(grant) == [
        *("at_ns", "action_id", "action", "ticket", "tag", "copy", "device", "lease", "hit"),
    ]
    assert grant["device"] == "gpu1"
    assert grant["hit"] is False
    assert unload["chosen"] == [1, 4]
    assert reset["requested_by"] is None
    assert reject["tag"] == "größer"
    assert reject["refusal"] == "timed-out"


def test_another_decision_gives_another_hash() -> None:
    one, other = DecisionLog(["gpu0"]), DecisionLog(["gpu0"])
    one.grant(9, 1, 1, "a", 1, 0, 1, True)
    other.grant(9, 1, 1, "a", 1, 0, 1, False)
    assert one.sha256() != other.sha256()

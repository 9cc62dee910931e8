"""The page of ``top``: within its width and height, whole figures, and what is wrong by name."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from modelmgr.records.costs import Eviction, EvictionCandidate
from modelmgr.runtime.counters import ManagerCounters, ManagerTotals
from modelmgr.runtime.service.messages import ClientInfo
from modelmgr.runtime.snapshot import (
    CopySnapshot,
    DeviceSnapshot,
    ManagerSnapshot,
    TicketSnapshot,
)
from modelmgr.scheduling.actions import Grant
from modelmgr.units import GIB, MIB, NS_PER_S
from modelmgr_cli.render.ages import brief
from modelmgr_cli.render.device_bars import device_lines
from modelmgr_cli.render.manager_page import ManagerView, manager_page
from modelmgr_cli.render.rates import History, since_start

DEVICE = DeviceSnapshot(
    name="cuda:0",
    total_bytes=80 * GIB,
    limit_bytes=72 * GIB,
    used_bytes=36 * GIB,
    committed_bytes=54 * GIB,
    reserved_bytes=9 * GIB,
    freeing_bytes=9 * GIB,
    foreign_bytes=18 * GIB,
    reading_age_ns=300_000_000,
    reading_failed=None,
    isolating=None,
)


def _totals(*, age_s: float = 100, hits: int = 0, others: int = 0) -> ManagerTotals:
    counters = ManagerCounters()
    for _ in range(hits):
        counters.hit("bert")
    for number in range(others):
        counters.observed(Grant(number, number, "t5", number, 0, number, hit=False))
        counters.waited("t5", 2 * NS_PER_S)
        counters.loaded("t5", NS_PER_S)
    return replace(counters.totals(), age_ns=round(age_s * NS_PER_S))


def _copy(number: int, state: str) -> CopySnapshot:
    held, idle = state == "active", state == "idle"
    return CopySnapshot(
        copy=number,
        tag=f"a-model-with-a-rather-long-name-{number}",
        device="cuda:0",
        state=state,
        charged_bytes=12_345 * MIB,
        holder="client 4711" if held else None,
        last_used_ns=0,
        idle_ns=7 * NS_PER_S if idle else None,
        pinned=False,
    )


def _eviction(number: int) -> Eviction:
    return Eviction(
        at_ns=number * NS_PER_S,
        device="cuda:0",
        tag="bert",
        copy=number,
        reason="make-room",
        requested_by="gpt2",
        freed_bytes=GIB,
        candidates=tuple(
            EvictionCandidate(tag=tag, copy=copy, value=1.0, size_bytes=GIB)
            for tag, copy in (("bert", number), ("t5", 77))
        ),
        chosen=(number,),
        instead={"lru": (77,), "gdsf": (number,), "demand-tiers": (77, number)},
    )


def _view(copies: int = 3, tickets: int = 2, evictions: int = 3, clients: int = 2) -> ManagerView:
    states = ("idle", "active", "loading")
    return ManagerView(
        path="/run/user/1000/modelmgr/manager.sock",
        server_pid=1234,
        snapshot=ManagerSnapshot(
            devices=(DEVICE, replace(DEVICE, name="cuda:1", reading_failed="GPU is lost " * 9)),
            copies=tuple(_copy(number, states[number % 3]) for number in range(copies)),
            queue=tuple(
                TicketSnapshot(number, "gpt2", 0, 12 * NS_PER_S, 2, committed=number == 0)
                for number in range(tickets)
            ),
            closed=False,
            totals=_totals(hits=30, others=10),
        ),
        evictions=tuple(_eviction(number) for number in range(evictions)),
        clients=tuple(_client(4711 + number, number) for number in range(clients)),
    )


def _client(pid: int, leases: int) -> ClientInfo:
    return ClientInfo(
        pid=pid,
        user="ada",
        connected_ns=90 * NS_PER_S,
        connections=2,
        held=("bert",) * leases,
        waiting=("gpt2", "t5"),
    )


def _shown(view: ManagerView, width: int, height: int | None = None) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        for part in manager_page(view, width, height):
            console.print(part)
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("copies", [0, 1, 5, 200])
@pytest.mark.parametrize("evictions", [0, 1, 20])
def test_the_page_keeps_to_its_size(width: int, copies: int, evictions: int) -> None:
    for height in (35, 40, 60):
        for clients in (0, 1, 30):
            lines = _shown(_view(copies, 50, evictions, clients), width, height)
            assert len(lines) <= height
            assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", [50, 60, 70])
def test_a_narrow_page_is_longer_and_no_wider(width: int) -> None:
    assert max(map(len, _shown(_view(), width))) <= width


def test_without_a_height_nothing_is_left_out() -> None:
    lines = _shown(_view(200, 50, 20), 140)
    assert sum("a-model-with" in line for line in lines) == 200
    assert sum(line.startswith("gpt2") for line in lines) == 50
    assert sum("make-room" in line for line in lines) == 20


def test_clients_are_told_with_what_they_hold_and_wait_for() -> None:
    lines = _shown(_view(clients=3), 100)
    (busiest, second, third) = (line.split() for line in lines if line.startswith("process"))
    assert busiest == ["process", "4713", "ada", "2", "bert", "gpt2,", "t5", "1", "min", "30", "s"]
    assert second[3:] == ["bert", "gpt2,", "t5", "1", "min", "30", "s"]
    assert third[3:] == ["gpt2,", "t5", "1", "min", "30", "s"]
    assert "no client is connected" in _shown(_view(clients=0), 100)


def test_clients_that_are_left_out_are_counted() -> None:
    lines = _shown(_view(200, 50, 20, 30), 100, 45)
    shown = sum(line.startswith("process") for line in lines)
    assert 0 < shown < 30
    assert f"and {30 - shown} more" in lines


def test_what_is_left_out_is_counted_and_what_happens_is_shown_first() -> None:
    text = "\n".join(_shown(_view(200, 50, 20), 100, 45))
    assert "idle " not in text.replace("idle for", "")
    assert "more: " in text
    assert " 67 idle" in text


def test_a_bar_has_every_part_and_the_reading_in_proportion() -> None:
    headline, figures, *_ = (line.plain for line in device_lines(DEVICE, 140))
    bar = headline[13:85]
    # 72 columns for 72 GiB, one of them the mark of the reading, in what is reserved.
    assert [bar.count(glyph) for glyph in "▒━╍·┄"] == [18, 18, 8, 9, 18]
    assert bar.index("│") == 36
    assert headline.endswith("54.0 GiB of 72.0 GiB, 75.0 %")
    assert "▒ foreign 18.0 GiB  ━ models 18.0 GiB  ╍ reserved 9.0 GiB" in figures


def test_a_part_too_small_for_a_column_is_seen_all_the_same() -> None:
    device = replace(
        DEVICE, committed_bytes=MIB, foreign_bytes=MIB, reserved_bytes=0, freeing_bytes=0
    )
    assert "▒" in device_lines(replace(device, used_bytes=GIB), 80)[0].plain


@pytest.mark.parametrize("width", [70, 80, 140])
def test_failed_and_missing_readings_are_said_in_full(width: int) -> None:
    failed = replace(
        DEVICE,
        used_bytes=None,
        reading_age_ns=None,
        reading_failed="NVML: GPU is lost (error 15), see the kernel's log",
        isolating="vit",
    )
    text = " ".join(" ".join(line.plain for line in device_lines(failed, width)).split())
    assert "never read: nothing is loaded before" in text
    assert "! reading failed: NVML: GPU is lost (error 15), see the kernel's log" in text
    assert "measuring vit" in text


def test_more_committed_than_the_limit_is_no_bar_beyond_the_page() -> None:
    device = replace(DEVICE, committed_bytes=90 * GIB, used_bytes=95 * GIB)
    headline = device_lines(device, 80)[0].plain
    assert len(headline) <= 80
    assert headline.endswith("125.0 %")


def test_an_eviction_says_what_other_policies_would_have_taken() -> None:
    text = " ".join(" ".join(_shown(_view(evictions=1), 80)).split())
    assert "1 min 40 s ago bert (copy 0) left cuda:0 for gpt2: make-room, 1.0 GiB" in text
    assert "chosen of 2: bert 0; lru: t5 77; gdsf: the same; demand-tiers: bert 0 + t5 77" in text


def test_nothing_that_a_client_names_steers_the_terminal() -> None:
    view = _view(1, 1, 1)
    snapshot = replace(
        view.snapshot,
        copies=(replace(view.snapshot.copies[0], tag="evil\x1b[2J", holder="\x1b]0;x\x07"),),
        queue=(replace(view.snapshot.queue[0], tag="evil\x9b2J\n\tof two lines"),),
    )
    evil = ClientInfo(
        pid=1, user="\x1b[2J", connected_ns=0, connections=1, held=("\x9b2J",), waiting=("\t",)
    )
    view = replace(view, clients=(evil,))
    text = "".join(_shown(replace(view, snapshot=snapshot), 100))
    assert not any(mark in text for mark in "\x1b\x9b\x07\t")
    assert "evil\\x9b2J\\n\\tof two lines" in text


def test_a_lost_server_and_one_that_stops_are_said_so() -> None:
    view = _view()
    stopping = replace(view, snapshot=replace(view.snapshot, closed=True))
    assert "stopping" in _shown(stopping, 100)[0]
    assert _shown(replace(view, lost="the server is gone"), 100)[1] == "! the server is gone"


def test_rates_are_of_the_last_minute() -> None:
    history = History()
    assert history.add(_totals(age_s=0)) is None
    after_30 = history.add(_totals(age_s=30, hits=60))
    assert after_30 is not None
    assert after_30.per_minute(after_30.hits) == 120
    history.add(_totals(age_s=60, hits=120))
    after_90 = history.add(_totals(age_s=90, hits=120, others=10))
    assert after_90 is not None
    assert (after_90.span_ns, after_90.hits) == (60 * NS_PER_S, 60)
    assert after_90.hit_share == 60 / 70
    assert after_90.mean_load_ns == NS_PER_S


def test_rates_begin_anew_with_a_server_that_was_started_anew() -> None:
    history = History()
    history.add(_totals(age_s=100, hits=500))
    assert history.add(_totals(age_s=1, hits=2)) is None


def test_what_did_not_happen_has_no_mean() -> None:
    nothing = since_start(_totals())
    assert (nothing.hit_share, nothing.mean_wait_ns, nothing.mean_load_ns) == (None, None, None)
    assert replace(nothing, span_ns=0).per_minute(5) is None


@pytest.mark.parametrize(
    ("value_ns", "text"),
    [
        (-5, "0 ms"),
        (35_900_000, "35 ms"),
        (1_290_000_000, "1.2 s"),
        (48_900_000_000, "48 s"),
        (192_900_000_000, "3 min 12 s"),
    ],
)
def test_ages_are_short(value_ns: int, text: str) -> None:
    assert brief(value_ns) == text

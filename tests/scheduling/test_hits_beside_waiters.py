"""Hits while others wait: an idle copy whose model nobody waits for is handed out at once."""

from __future__ import annotations

from modelmgr.scheduling.actions import Grant, StartLoad
from modelmgr.scheduling.copies import ModelCosts
from modelmgr.scheduling.queue import HITS_PER_BYPASS
from modelmgr.scheduling.scheduler import Scheduler
from modelmgr.scheduling.settings import SchedulerSettings


def scheduler_with(*loaded: str, max_bypass: int = 8) -> tuple[Scheduler, dict[str, Grant]]:
    """Return a scheduler of one full device: ``loaded`` of 40 bytes each, all of them held."""
    settings = SchedulerSettings(max_bypass=max_bypass, max_copies=1)
    scheduler = Scheduler([("gpu0", 100, 100)], settings)
    scheduler.memory_reading(0, 0, at_ns=0, used_bytes=0)
    for tag, size in (("a", 40), ("b", 40), ("large", 90)):
        scheduler.set_costs(tag, ModelCosts(resident_bytes=size, peak_bytes=size), 0)
    held: dict[str, Grant] = {}
    for tag in loaded:
        (load,) = scheduler.request(tag, 1)[1]
        assert isinstance(load, StartLoad)
        (grant,) = scheduler.load_finished(load.copy, 2)
        assert isinstance(grant, Grant)
        held[tag] = grant
    scheduler.memory_reading(0, 3, at_ns=3, used_bytes=40 * len(loaded))
    return scheduler, held


def release(scheduler: Scheduler, grant: Grant, now_ns: int) -> None:
    assert scheduler.release(grant.copy, grant.lease, now_ns) == []


def test_an_idle_copy_is_handed_out_while_somebody_waits_for_another_model() -> None:
    scheduler, held = scheduler_with("a", "b")
    num, actions = scheduler.request("b", 4)
    assert actions == []
    assert num in scheduler.queue
    release(scheduler, held["a"], 5)
    copy = scheduler.hand_out("a", 6)
    assert copy is not None
    assert copy.number == held["a"].copy
    assert copy.lease != held["a"].lease
    scheduler.check_valid()


def test_nobody_is_handed_a_copy_before_one_who_waits_for_that_model() -> None:
    scheduler, held = scheduler_with("a")
    waiting, _ = scheduler.request("a", 4)
    assert scheduler.hand_out("a", 5) is None
    (grant,) = scheduler.release(held["a"].copy, held["a"].lease, 6)
    assert isinstance(grant, Grant)
    assert grant.ticket_num == waiting


def test_hits_cannot_keep_a_large_model_out_for_ever() -> None:
    scheduler, held = scheduler_with("a", "b", max_bypass=1)
    large, _ = scheduler.request("large", 4)
    assert large in scheduler.queue
    hits = 0
    for now_ns in range(5, 100):
        release(scheduler, held["a"], now_ns)
        copy = scheduler.hand_out("a", now_ns)
        scheduler.check_valid()
        if copy is None:
            break
        hits += 1
        assert copy.lease is not None
        held["a"] = held["a"]._replace(lease=copy.lease)
    assert hits == HITS_PER_BYPASS
    assert large in scheduler.queue
    (unload, *_) = scheduler.release(held["b"].copy, held["b"].lease, 100)
    assert unload.tag in {"a", "b"}

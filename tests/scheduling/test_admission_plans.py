"""What it takes to serve a ticket: which device, and whose memory."""

from __future__ import annotations

import pickle

import pytest

from modelmgr.errors import UsageError
from modelmgr.scheduling.actions import Grant, Refusal
from modelmgr.scheduling.copies import ModelCosts
from modelmgr.scheduling.scheduler import Scheduler
from modelmgr.scheduling.settings import SchedulerSettings
from support.driver_states import holder
from support.virtual_devices import Phase
from support.virtual_driver import VirtualDriver

# Which device ------------------------------------------------------------------------------------


def test_a_load_goes_to_the_emptiest_device_where_it_fits() -> None:
    driver = VirtualDriver(50, 100, 80)
    driver.know("a", 30)
    assert driver.loads() == []
    for expected in (1, 2, 1, 0):
        driver.request("a")
        assert driver.loads()[-1].device == expected, driver.state()


def test_among_equally_empty_devices_the_first_is_taken() -> None:
    driver = VirtualDriver(60, 60)
    driver.know("a", 30)
    driver.request("a")
    assert driver.loads()[0].device == 0


def test_a_device_with_room_is_preferred_to_evicting_on_an_emptier_one() -> None:
    driver = VirtualDriver(40, 100)
    driver.know("big", 70)
    driver.know("small", 35)
    driver.serve("big")
    driver.request("small")
    assert driver.loads()[-1].device == 0
    assert driver.unloads() == []


def test_where_room_must_be_made_the_device_with_the_least_valuable_victims_is_taken() -> None:
    driver = VirtualDriver(50, 50)
    driver.know("dear", 40, load_ns=1_000_000)
    driver.know("cheap", 40, load_ns=10)
    driver.know("c", 40)
    driver.serve("dear")
    driver.serve("cheap")
    driver.request("c")
    assert [unload.tag for unload in driver.unloads()] == ["cheap"]


def test_a_hit_is_taken_on_whatever_device_it_is() -> None:
    driver = VirtualDriver(50, 100)
    driver.know("a", 30)
    first, second = holder(driver, "a"), holder(driver, "a")
    driver.release(first)
    assert driver.granted(driver.request("a")) == first
    driver.release(second)
    assert driver.granted(driver.request("a")) == second


# Victims -----------------------------------------------------------------------------------------


def test_an_unload_explains_itself() -> None:
    driver = VirtualDriver(100, settings=SchedulerSettings(policy="lru"))
    for tag in "abc":
        driver.know(tag, 40)
    driver.serve("a")
    driver.serve("b")
    driver.request("c")
    (unload,) = driver.unloads()
    assert (unload.tag, unload.reason, unload.requested_by) == ("a", "make-room", "c")
    assert (unload.freed_bytes, unload.chosen) == (40, (1,))
    assert [(c.tag, c.copy, c.size_bytes) for c in unload.candidates] == [
        ("a", 1, 40),
        ("b", 2, 40),
    ]


def test_a_pinned_copy_is_never_evicted_and_its_request_waits_until_it_is_unpinned() -> None:
    driver = VirtualDriver(100)
    driver.know("a", 80)
    driver.know("b", 80)
    driver.pin("a")
    driver.serve("a")
    ticket = driver.request("b")
    driver.wait(10**12)
    assert driver.unloads() == []
    driver.pin("a", pinned=False)
    driver.obey()
    assert driver.granted(ticket) is not None


def test_a_plan_that_cannot_succeed_evicts_nobody() -> None:
    """40 idle and 40 held of 100: 80 cannot be had by evicting the idle one."""
    driver = VirtualDriver(100)
    driver.know("idle", 40)
    driver.know("held", 40)
    driver.know("big", 80)
    driver.serve("idle")
    held = holder(driver, "held")
    ticket = driver.request("big")
    assert driver.unloads() == []
    driver.release(held)
    driver.obey()
    assert driver.granted(ticket) is not None


def test_an_impossible_request_is_refused_at_once_and_evicts_nobody() -> None:
    driver = VirtualDriver(100, 50)
    driver.know("a", 90)
    driver.know("huge", 60, 101)
    driver.know("tight", 60, 100)
    driver.serve("a")
    assert driver.refusal(driver.request("huge")) is Refusal.DOES_NOT_FIT
    assert driver.unloads() == []
    assert driver.granted(driver.serve("tight")) is not None


def test_the_peak_while_loading_is_needed_too() -> None:
    driver = VirtualDriver(100)
    driver.know("a", 40, 50, load_peak=101)
    driver.know("b", 40, 50, load_peak=90)
    assert driver.refusal(driver.request("a")) is Refusal.DOES_NOT_FIT
    driver.request("b")
    assert driver.loads()[0].reserved_bytes == 90


def test_memory_freed_late_costs_one_eviction_and_not_three() -> None:
    """The unloaded 30 bytes take their time; meanwhile nobody else is evicted for them."""
    driver = VirtualDriver(100)
    for tag in "abc":
        driver.know(tag, 30)
    driver.know("d", 40)
    for tag in "abc":
        driver.serve(tag)
    ticket = driver.request("d")
    (victim,) = driver.in_phase(Phase.UNLOADING)
    driver.unload(victim, process_gone=False, late=True)
    for _ in range(5):
        driver.read()
    assert driver.loads()[3:] == []
    driver.come_back(victim)
    assert driver.loads()[3:] == []
    driver.read()
    assert len(driver.loads()) == 4
    driver.obey()
    assert driver.granted(ticket) is not None
    assert len(driver.unloads()) == 1


def test_memory_that_never_comes_back_makes_a_new_plan_after_the_drivers_patience() -> None:
    driver = VirtualDriver(100, settings=SchedulerSettings(patience_ns=50))
    for tag in "abc":
        driver.know(tag, 30)
    driver.know("d", 40)
    for tag in "abc":
        driver.serve(tag)
    ticket = driver.request("d")
    (lost,) = driver.in_phase(Phase.UNLOADING)
    driver.unload(lost, process_gone=False, late=True)
    driver.read()
    driver.wait(40)
    assert len(driver.unloads()) == 1
    driver.wait(20)
    assert len(driver.unloads()) == 2
    driver.obey()
    assert driver.granted(ticket) is not None


def test_while_a_plan_waits_for_its_victims_others_cannot_take_its_room() -> None:
    driver = VirtualDriver(100)
    driver.know("a", 60)
    driver.know("b", 80)
    driver.know("c", 30)
    driver.serve("a")
    first = driver.request("b")
    second = driver.request("c")
    assert driver.loads()[1:] == []
    driver.unload(driver.in_phase(Phase.UNLOADING)[0])
    assert [load.ticket_num for load in driver.loads()[1:]] == [first]
    assert driver.outcome[second] is None


def test_room_is_made_to_run_an_idle_copy_whose_peak_does_not_fit() -> None:
    driver = VirtualDriver(100)
    driver.know("a", 40, 80)
    driver.know("b", 50)
    driver.serve("a")
    driver.serve("b")
    ticket = driver.request("a")
    assert [unload.tag for unload in driver.unloads()] == ["b"]
    driver.obey()
    granted = driver.outcome[ticket]
    assert isinstance(granted, Grant)
    assert granted.hit
    assert len(driver.loads()) == 2


def test_a_copy_that_no_device_could_run_is_dropped_and_its_request_refused() -> None:
    """An unknown model turned out larger than its device when it was measured."""
    driver = VirtualDriver(100)
    driver.sizes("u", 60, 90)
    copy = holder(driver, "u")
    driver.sizes("u", 60, 120)
    driver.steady = False
    driver.tell("u")
    driver.release(copy)
    ticket = driver.request("u")
    assert driver.refusal(ticket) is Refusal.DOES_NOT_FIT


def test_what_is_idle_may_all_go_for_a_model_that_has_no_copy_at_all() -> None:
    """Floors and the cooldown hold against one more copy only."""
    driver = VirtualDriver(100, settings=SchedulerSettings(min_copies=1, cooldown_ns=10**18))
    driver.know("a", 80)
    driver.know("b", 80)
    driver.serve("a")
    assert driver.granted(driver.serve("b")) is not None
    assert [unload.tag for unload in driver.unloads()] == ["a"]


# Questions ---------------------------------------------------------------------------------------


def test_questions_change_nothing() -> None:
    driver = VirtualDriver(100)
    driver.know("a", 60)
    driver.know("b", 60)
    holder(driver, "a")
    waiting = driver.request("b")
    before = pickle.dumps(driver.scheduler)
    scheduler = driver.scheduler
    assert scheduler.plan_for("b", waiting, driver.now_ns) is None
    assert scheduler.plan_for("never-mentioned", None, driver.now_ns) is None
    assert not scheduler.has_idle("a")
    assert not scheduler.has_idle("nobody")
    assert scheduler.waiting_for(waiting) is not None
    assert scheduler.waiting_for(99) is None
    assert pickle.dumps(scheduler) == before


def test_a_question_answers_what_a_request_would_get() -> None:
    driver = VirtualDriver(100)
    driver.know("a", 60)
    driver.know("b", 60)
    driver.serve("a")
    assert driver.scheduler.has_idle("a")
    plan = driver.scheduler.plan_for("b", None, driver.now_ns)
    assert plan is not None
    assert (plan.need_bytes, [victim.tag for victim in plan.victims]) == (60, ["a"])
    assert driver.scheduler.plan_for("u", None, driver.now_ns) is not None
    assert "u" not in driver.scheduler.models


# Settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("max_bypass", -1),
        ("min_copies", -1),
        ("cooldown_ns", -1),
        ("patience_ns", -1),
        ("max_copies", 0),
        ("isolation", "sometimes"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(setting: str, value: object) -> None:
    with pytest.raises(UsageError, match=setting):
        SchedulerSettings(**{setting: value})  # type: ignore[arg-type]  # a wrong one is the point


def test_a_ceiling_below_the_floor_is_refused_and_a_floor_of_nothing_is_legal() -> None:
    with pytest.raises(UsageError, match="max_copies"):
        SchedulerSettings(min_copies=3, max_copies=2)
    assert SchedulerSettings(min_copies=0, max_copies=1).min_copies == 0


def test_a_scheduler_needs_devices_with_names_of_their_own() -> None:
    with pytest.raises(UsageError, match="at least one"):
        Scheduler([])
    with pytest.raises(UsageError, match="unique"):
        Scheduler([("x", 1, 1), ("x", 1, 1)])


def test_costs_that_no_ledger_could_carry_are_refused() -> None:
    for resident, peak in ((-1, 5), (6, 5)):
        with pytest.raises(ValueError, match="resident"):
            ModelCosts(resident, peak)

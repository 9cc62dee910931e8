"""What the scheduler answers: hits, misses, releases, costs, and what others once got wrong."""

from __future__ import annotations

import pickle

import pytest

from modelmgr.scheduling.actions import Grant, Refusal, StartLoad, StartUnload
from modelmgr.scheduling.scheduler import Scheduler
from modelmgr.scheduling.settings import SchedulerSettings
from modelmgr.scheduling.states import CopyState
from support.driver_states import LIVE, driver_with, holder, in_state
from support.virtual_devices import Phase
from support.virtual_driver import VirtualDriver


@pytest.mark.parametrize("state", LIVE, ids=lambda state: state.value)
def test_every_live_state_can_be_had(state: CopyState) -> None:
    driver, number = in_state(state)
    assert driver.copy(number).state is state


# The plain way -----------------------------------------------------------------------------------


def test_a_miss_loads_then_grants_and_a_hit_grants_at_once() -> None:
    driver = driver_with("a", size=20, peak=30)
    ticket = driver.request("a")
    assert [type(action) for action in driver.last] == [StartLoad]
    assert driver.loads()[0].reserved_bytes == 30
    driver.load(1)
    (grant,) = driver.last
    assert isinstance(grant, Grant)
    assert (grant.ticket_num, grant.copy, grant.tag, grant.hit) == (ticket, 1, "a", False)
    driver.read()
    driver.release(1)
    driver.request("a")
    (again,) = driver.last
    assert isinstance(again, Grant)
    assert (again.copy, again.hit) == (1, True)
    assert again.lease > grant.lease


def test_loads_of_several_models_run_side_by_side() -> None:
    driver = driver_with("a", "b", "c", size=30)
    for tag in "abc":
        driver.request(tag)
    assert driver.tags(Phase.LOADING) == ["a", "b", "c"]


def test_small_ones_that_fit_go_past_a_big_one_that_does_not() -> None:
    driver = driver_with("held", "small", size=30)
    driver.know("big", 90)
    held = holder(driver, "held")
    big = driver.request("big")
    small = driver.request("small")
    driver.obey()
    copy = driver.granted(small)
    assert copy is not None
    driver.release(copy)
    driver.release(held)
    driver.obey()
    assert driver.granted(big) is not None


def test_a_big_one_is_passed_over_no_more_often_than_allowed() -> None:
    driver = VirtualDriver(100, settings=SchedulerSettings(max_bypass=3))
    driver.know("held", 30)
    driver.know("big", 90)
    for number in range(10):
        driver.know(f"s{number}", 10)
    held = holder(driver, "held")
    big = driver.request("big")
    for number in range(10):
        driver.request(f"s{number}")
    assert [load.tag for load in driver.loads()[1:]] == ["s0", "s1", "s2"]
    assert driver.passed_over[big] == 3
    for _ in range(4):
        driver.obey()
        for copy in list(driver.leases):
            if copy != held:
                driver.release(copy)
    driver.release(held)
    driver.obey()
    assert driver.granted(big) is not None


def test_hits_on_copies_that_were_idle_anyway_pass_nobody_over_until_it_is_urgent() -> None:
    driver = VirtualDriver(100, settings=SchedulerSettings(max_bypass=1))
    driver.know("held", 30)
    driver.know("idle", 10)
    driver.know("small", 10)
    driver.know("big", 90)
    driver.serve("idle")
    held = holder(driver, "held")
    big = driver.request("big")
    for _ in range(5):
        copy = driver.granted(driver.request("idle"))
        assert copy is not None
        driver.release(copy)
    waiting = driver.scheduler.waiting_for(big)
    assert waiting is not None
    assert driver.scheduler.queue.passed_over(waiting) == 0
    driver.serve("small")
    assert driver.scheduler.queue.passed_over(waiting) == 1
    assert driver.granted(driver.request("idle")) is None, "now hits wait as well"
    driver.release(held)
    driver.obey()
    assert driver.granted(big) is not None


def test_a_copy_that_is_released_to_a_later_ticket_passes_the_older_one_over() -> None:
    driver = VirtualDriver(100, settings=SchedulerSettings(max_bypass=2, max_copies=1))
    driver.know("a", 40)
    driver.know("big", 90)
    copy = holder(driver, "a")
    big = driver.request("big")
    later = [driver.request("a", priority=-1) for _ in range(3)]
    waiting = driver.scheduler.waiting_for(big)
    assert waiting is not None
    for count, ticket in enumerate(later[:2], start=1):
        driver.release(copy)
        assert driver.granted(ticket) == copy
        assert driver.scheduler.queue.passed_over(waiting) == driver.passed_over[big] == count
    driver.release(copy)
    driver.obey()
    assert driver.granted(later[2]) is None
    assert driver.granted(big) is not None


def test_a_stream_of_hits_cannot_keep_a_big_one_out_for_ever() -> None:
    """Two warm copies, one of which is always in use, would never leave the device to it."""
    driver = VirtualDriver(100, settings=SchedulerSettings(max_bypass=1))
    driver.know("a", 30)
    driver.know("b", 30)
    driver.know("big", 90)
    driver.serve("b")
    held = holder(driver, "a")
    big = driver.request("big")
    hits = 0
    while (copy := driver.granted(driver.request("ba"[hits % 2]))) is not None:
        driver.release(held)
        held = copy
        hits += 1
        assert hits < 40, "nothing ever stops them"
    driver.release(held)
    driver.obey()
    assert driver.granted(big) is not None


def test_a_released_copy_goes_to_the_oldest_of_equals_and_priority_goes_first() -> None:
    driver = VirtualDriver(100, settings=SchedulerSettings(max_copies=1))
    driver.know("a", 40)
    copy = holder(driver, "a")
    first, second = driver.request("a"), driver.request("a")
    urgent = driver.request("a", priority=-1)
    for expected in (urgent, first, second):
        driver.release(copy)
        assert driver.granted(expected) == copy
    driver.release(copy)


# Costs -------------------------------------------------------------------------------------------


def test_learning_that_a_waiting_model_never_fits_refuses_it() -> None:
    driver = driver_with("a", size=60)
    driver.know("b", 60)
    holder(driver, "a")
    ticket = driver.request("b")
    driver.sizes("b", 120)
    driver.steady = False
    driver.tell("b")
    assert driver.refusal(ticket) is Refusal.DOES_NOT_FIT


def test_learning_that_a_model_is_smaller_serves_who_waits() -> None:
    driver = driver_with("a", size=60)
    driver.know("b", 60)
    holder(driver, "a")
    ticket = driver.request("b")
    driver.sizes("b", 30)
    driver.tell("b")
    driver.obey()
    assert driver.granted(ticket) is not None


def test_what_a_copy_was_seen_to_take_is_charged_where_it_is_more() -> None:
    driver = driver_with("a", size=20)
    driver.request("a")
    driver.scheduler.load_finished(1, driver.now_ns, resident_bytes=35, peak_bytes=36)
    assert driver.scheduler.devices[0].ledger.committed_bytes == 36


# Original failures that a pure scheduler can show ------------------------------------------------


def test_a_reservation_ends_only_when_a_reading_taken_after_the_load_covers_it() -> None:
    """The original let it end with the load: 12 GB on a 10 GB device."""
    driver = driver_with("a", "b", size=30, peak=60)
    driver.pin("a")
    early = driver.query(0)
    driver.request("a")
    driver.load(1)
    waiting = driver.request("b")
    driver.release(1)
    driver.deliver(early)
    assert driver.outcome[waiting] is None
    assert len(driver.loads()) == 1
    driver.read()
    assert len(driver.loads()) == 2


def test_another_loads_reservation_is_never_erased() -> None:
    driver = driver_with("a", "b", "c", size=40)
    first, second = driver.request("a"), driver.request("b")
    driver.load(1)
    driver.read()
    driver.release(1)
    ledger = driver.scheduler.devices[0].ledger
    assert ledger.charge_of(2) == 40
    driver.fail_load(2)
    assert ledger.charge_of(1) == 40
    assert (driver.granted(first), driver.refusal(second)) == (1, Refusal.LOAD_FAILED)


def test_a_copy_in_use_outlives_an_isolation_flush_and_returns_to_the_pool_alive() -> None:
    driver = VirtualDriver(100, settings=SchedulerSettings(isolation="exclusive"))
    driver.know("a", 20)
    driver.sizes("u", 20)
    held = holder(driver, "a")
    driver.request("u")
    driver.reset()
    assert driver.unloads() == []
    driver.release(held)
    assert [unload.copy for unload in driver.unloads()] == [held]
    assert driver.copy(held).state is CopyState.UNLOADING


def test_a_scheduler_can_be_copied_by_value_so_that_a_snapshot_is_a_snapshot() -> None:
    driver = driver_with("a")
    holder(driver, "a")
    twin = pickle.loads(pickle.dumps(driver.scheduler))  # noqa: S301 - made one line above
    assert isinstance(twin, Scheduler)
    lease = driver.leases[1].lease
    assert repr(twin.release(1, lease, 10**6)) == repr(driver.scheduler.release(1, lease, 10**6))


def test_an_unload_says_what_it_frees() -> None:
    driver = driver_with("a", "b", size=50, peak=60)
    driver.serve("a")
    driver.request("b")
    (unload,) = [action for action in driver.last if isinstance(action, StartUnload)]
    assert unload.freed_bytes == 50

"""What ends a wait, a load, a lease or the scheduler itself, and what becomes of the others."""

from __future__ import annotations

import pytest

from modelmgr.scheduling.actions import Refusal, Reject
from modelmgr.scheduling.settings import SchedulerSettings
from modelmgr.scheduling.states import CopyState
from support.driver_states import LIVE, driver_with, holder, in_state
from support.virtual_devices import Phase
from support.virtual_driver import VirtualDriver

# Time-outs ---------------------------------------------------------------------------------------


def test_a_wait_ends_exactly_at_its_deadline() -> None:
    driver = driver_with("a", "b", size=60)
    holder(driver, "a")
    ticket = driver.request("b", wait_ns=500)
    due = driver.now_ns + 500
    assert driver.scheduler.next_deadline_ns() == due
    driver.wait(499)
    assert driver.outcome[ticket] is None
    driver.wait(1)
    assert driver.refusal(ticket) is Refusal.TIMED_OUT
    assert driver.scheduler.next_deadline_ns() is None


def test_calling_early_is_harmless() -> None:
    driver = driver_with("a", "b", size=60)
    holder(driver, "a")
    driver.request("b", wait_ns=500)
    for _ in range(5):
        assert driver.scheduler.deadline(driver.now_ns) == []


def test_a_request_that_does_not_wait_is_granted_or_refused_at_once() -> None:
    driver = driver_with("a", "b", size=60)
    copy = holder(driver, "a")
    refused = driver.request("b", wait_ns=0)
    assert driver.refusal(refused) is Refusal.TIMED_OUT
    assert driver.unloads() == []
    driver.release(copy)
    assert driver.granted(driver.request("a", wait_ns=0)) == copy


def test_a_time_out_while_victims_unload_gives_the_room_to_the_next() -> None:
    driver = driver_with("a", "b", "c", size=60)
    driver.serve("a")
    first = driver.request("b", wait_ns=100)
    second = driver.request("c")
    driver.wait(200)
    assert driver.refusal(first) is Refusal.TIMED_OUT
    driver.obey()
    assert driver.granted(second) is not None
    assert driver.scheduler.devices[0].ledger.claimed_bytes == 0
    assert [unload.tag for unload in driver.unloads()] == ["a"]


def test_after_a_time_out_the_next_grant_and_isolation_work_as_ever() -> None:
    """The original raised at the next grant, and its isolation stuck."""
    driver = VirtualDriver(100, settings=SchedulerSettings(isolation="exclusive"))
    driver.know("a", 40)
    driver.sizes("u", 40)
    held = holder(driver, "a")
    unknown = driver.request("u", wait_ns=100)
    driver.wait(100)
    assert driver.refusal(unknown) is Refusal.TIMED_OUT
    assert driver.granted(driver.serve("a")) is not None
    driver.release(held)
    measured = driver.request("u")
    driver.obey()
    assert driver.granted(measured) is not None


def test_a_load_that_runs_is_not_interrupted_by_its_tickets_deadline() -> None:
    driver = driver_with("a")
    ticket = driver.request("a", wait_ns=100)
    driver.wait(500)
    assert driver.outcome[ticket] is None
    driver.load(1)
    assert driver.granted(ticket) == 1


# Cancelling --------------------------------------------------------------------------------------


def test_a_cancelled_ticket_ends_once_in_whatever_stage_it_is() -> None:
    waiting = driver_with("a", "b", size=60)
    holder(waiting, "a")
    claiming = driver_with("a", "b", size=60)
    claiming.serve("a")
    loading = driver_with("b")
    for driver in (waiting, claiming, loading):
        ticket = driver.request("b")
        driver.cancel(ticket)
        assert driver.refusal(ticket) is Refusal.CANCELLED
        driver.cancel(ticket)
        assert driver.last == []
        driver.drain()
        assert [load.tag for load in driver.loads()].count("b") == (driver is loading)


def test_cancelling_what_was_granted_or_never_was_does_nothing() -> None:
    driver = driver_with("a")
    ticket = driver.request("a")
    driver.obey()
    driver.cancel(ticket)
    driver.cancel(99)
    assert driver.last == []
    assert driver.copy(1).state is CopyState.ACTIVE


def test_a_load_whose_ticket_was_cancelled_goes_to_the_next_in_line() -> None:
    driver = VirtualDriver(100, settings=SchedulerSettings(max_copies=1))
    driver.know("a", 40)
    first = driver.request("a")
    second = driver.request("a")
    driver.cancel(first)
    driver.load(1)
    assert driver.granted(second) == 1


def test_a_load_that_nobody_waits_for_any_more_is_idle_and_may_be_evicted() -> None:
    driver = driver_with("a", "b", size=60)
    driver.cancel(driver.request("a"))
    driver.load(1)
    assert driver.copy(1).state is CopyState.SETTLING
    driver.read()
    assert driver.copy(1).state is CopyState.IDLE
    driver.request("b")
    assert [unload.copy for unload in driver.unloads()] == [1]


# Loads that fail ---------------------------------------------------------------------------------


def test_a_load_that_fails_ends_its_ticket_with_its_message_and_leaves_nothing() -> None:
    driver = driver_with("a")
    ticket = driver.request("a")
    driver.fail_load(1)
    outcome = driver.outcome[ticket]
    assert isinstance(outcome, Reject)
    assert (outcome.refusal, outcome.message) == (Refusal.LOAD_FAILED, "boom")
    assert driver.scheduler.copies == {}
    assert driver.scheduler.devices[0].ledger.committed_bytes == 0
    assert driver.granted(driver.serve("a")) is not None


def test_a_load_that_fails_ends_isolation() -> None:
    driver = VirtualDriver(100, settings=SchedulerSettings(isolation="exclusive"))
    driver.sizes("u", 40)
    driver.know("a", 40)
    driver.request("u")
    driver.fail_load(1)
    assert driver.granted(driver.serve("a")) is not None


def test_out_of_memory_is_tried_once_more_alone_and_then_it_fails() -> None:
    driver = driver_with("a", "b")
    driver.serve("b")
    ticket = driver.request("a")
    driver.fail_load(2, out_of_memory=True)
    assert driver.outcome[ticket] is None
    driver.unload(1)
    retry = driver.loads()[-1]
    assert (retry.ticket_num, retry.isolated) == (ticket, True)
    assert retry.reserved_bytes >= 40
    driver.fail_load(retry.copy, out_of_memory=True)
    assert driver.refusal(ticket) is Refusal.LOAD_FAILED
    assert len(driver.loads()) == 3


def test_the_second_try_after_out_of_memory_can_succeed() -> None:
    driver = driver_with("a")
    ticket = driver.request("a")
    driver.fail_load(1, out_of_memory=True)
    driver.obey()
    copy = driver.granted(ticket)
    assert copy is not None
    driver.release(copy)
    assert driver.scheduler.devices[0].isolating is None


def test_others_go_on_when_one_load_fails() -> None:
    driver = driver_with("a", "b")
    failed, fine = driver.request("a"), driver.request("b")
    driver.fail_load(1)
    driver.obey()
    assert driver.refusal(failed) is Refusal.LOAD_FAILED
    assert driver.granted(fine) is not None


# Holders and workers that are lost ---------------------------------------------------------------


def test_what_a_lost_holder_had_is_unloaded_and_its_room_goes_to_who_waits() -> None:
    driver = driver_with("a", "b", size=60)
    copy = holder(driver, "a")
    waiting = driver.request("b")
    driver.holder_lost(copy)
    (unload,) = driver.unloads()
    assert (unload.copy, unload.reason) == (copy, "holder-lost")
    driver.obey()
    assert driver.granted(waiting) is not None


def test_a_lost_holder_ends_the_isolation_it_held() -> None:
    driver = VirtualDriver(100, settings=SchedulerSettings(isolation="exclusive"))
    driver.sizes("u", 40)
    driver.sizes("w", 40)
    copy = holder(driver, "u")
    other = driver.request("w")
    driver.holder_lost(copy)
    driver.obey()
    assert driver.granted(other) is not None


@pytest.mark.parametrize("state", LIVE[1:], ids=lambda state: state.value)
def test_a_lost_worker_gives_its_memory_back_at_once_in_every_state(state: CopyState) -> None:
    driver, number = in_state(state)
    driver.worker_lost(number)
    assert number not in driver.scheduler.copies
    assert driver.scheduler.devices[0].ledger.charge_of(number) == 0
    driver.drain()


def test_a_worker_lost_while_loading_fails_its_ticket() -> None:
    driver = driver_with("a")
    ticket = driver.request("a")
    driver.worker_lost(1)
    assert driver.refusal(ticket) is Refusal.LOAD_FAILED


def test_a_killed_client_blocks_no_unknown_model() -> None:
    """The original waited for ever for the hold of a client that was killed."""
    driver = VirtualDriver(100, settings=SchedulerSettings(isolation="exclusive"))
    driver.know("a", 40)
    driver.sizes("u", 40)
    copy = holder(driver, "a")
    unknown = driver.request("u")
    driver.worker_lost(copy)
    driver.obey()
    assert driver.granted(unknown) is not None


# Reset and close ---------------------------------------------------------------------------------


def test_reset_unloads_the_idle_now_the_held_when_released_and_keeps_waiters() -> None:
    driver = VirtualDriver(100, settings=SchedulerSettings(max_copies=1))
    driver.know("a", 30)
    driver.know("b", 30)
    driver.serve("a")
    held = holder(driver, "b")
    waiting = driver.request("b")
    driver.reset()
    assert [(u.tag, u.reason) for u in driver.unloads()] == [("a", "reset")]
    # A condemned copy no longer counts against the ceiling: the waiter need not wait for it.
    driver.obey()
    driver.release(held)
    assert [(u.copy, u.reason) for u in driver.unloads()[1:]] == [(held, "reset")]
    driver.obey()
    assert driver.granted(waiting) is not None
    assert driver.scheduler.model("a").costs is not None


def test_reset_does_not_touch_what_is_being_made() -> None:
    driver = driver_with("a", "b", size=60)
    ticket = driver.request("a")
    driver.reset()
    driver.obey()
    assert driver.granted(ticket) == 1
    assert driver.unloads() == []


def test_close_refuses_waiters_and_newcomers_and_leaves_holders_their_copies() -> None:
    driver = driver_with("a", "b", "c", size=30)
    driver.know("big", 90)
    driver.serve("a")
    held = holder(driver, "b")
    waiting = driver.request("big")
    loading = driver.request("c")
    driver.close()
    assert driver.refusal(waiting) is Refusal.CLOSED
    assert driver.outcome[loading] is None
    assert [(u.tag, u.reason) for u in driver.unloads()] == [("a", "shutdown")]
    assert driver.refusal(driver.request("b")) is Refusal.CLOSED
    driver.load(driver.in_phase(Phase.LOADING)[0])
    assert driver.refusal(loading) is Refusal.CLOSED
    assert held in driver.leases
    driver.release(held)
    driver.obey()
    assert driver.scheduler.copies == {}
    driver.close()
    assert driver.last == []


def test_a_load_that_runs_out_of_memory_after_close_is_not_tried_again() -> None:
    driver = driver_with("a")
    ticket = driver.request("a")
    driver.close()
    driver.fail_load(1, out_of_memory=True)
    assert driver.refusal(ticket) is Refusal.LOAD_FAILED
    assert len(driver.loads()) == 1


def test_close_after_reset_still_unloads_a_condemned_copy_when_it_is_released() -> None:
    driver = driver_with("a")
    held = holder(driver, "a")
    driver.reset()
    driver.close()
    assert driver.unloads() == []
    driver.release(held)
    assert [unload.reason for unload in driver.unloads()] == ["shutdown"]

"""Everything the scheduler can be told, in every stage, and what is stale, foreign or too late."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest

from modelmgr.errors import LeaseError
from modelmgr.scheduling.actions import Grant, Refusal, Reject, StartLoad, StartUnload
from modelmgr.scheduling.scheduler import Scheduler
from modelmgr.scheduling.settings import SchedulerSettings
from modelmgr.scheduling.states import CopyState
from support.virtual_devices import Phase
from support.virtual_driver import VirtualDriver


def driver_with(
    *tags: str, limit: int = 100, size: int = 40, peak: int | None = None
) -> VirtualDriver:
    driver = VirtualDriver(limit)
    for tag in tags:
        driver.know(tag, size, peak)
    return driver


def holder(driver: VirtualDriver, tag: str) -> int:
    ticket = driver.request(tag)
    driver.obey()
    copy = driver.granted(ticket)
    assert copy is not None, driver.state()
    return copy


def in_state(state: CopyState) -> tuple[VirtualDriver, int]:
    """Return a driver with one copy of a in that state."""
    driver = driver_with("a", "b", size=60)
    if state is CopyState.RESERVED:
        driver.serve("b")
        driver.request("a")
        return driver, 2
    ticket = driver.request("a")
    if state is CopyState.LOADING:
        return driver, 1
    if state is CopyState.SETTLING:
        driver.cancel(ticket)
        driver.load(1)
        return driver, 1
    driver.load(1)
    driver.read()
    if state is CopyState.ACTIVE:
        return driver, 1
    if state is CopyState.DRAINING:
        driver.reset()
        return driver, 1
    driver.release(1)
    if state is CopyState.UNLOADING:
        driver.request("b")
    return driver, 1


def unchanged(driver: VirtualDriver, event: Callable[[], object]) -> object:
    """Do something; fail unless the scheduler is byte for byte what it was."""
    before = pickle.dumps(driver.scheduler)
    answer = event()
    assert pickle.dumps(driver.scheduler) == before
    return answer


LIVE = [
    CopyState.RESERVED,
    CopyState.LOADING,
    CopyState.SETTLING,
    CopyState.IDLE,
    CopyState.ACTIVE,
    CopyState.DRAINING,
    CopyState.UNLOADING,
]


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


# Leases ------------------------------------------------------------------------------------------


def test_a_double_release_is_refused_and_changes_nothing() -> None:
    driver = driver_with("a")
    copy = holder(driver, "a")
    lease = driver.leases[copy].lease
    driver.release(copy)

    def again() -> None:
        with pytest.raises(LeaseError, match=f"lease {lease}"):
            driver.scheduler.release(copy, lease, driver.now_ns + 50)

    unchanged(driver, again)


def test_a_stale_lease_cannot_release_what_the_next_holder_has() -> None:
    driver = driver_with("a")
    copy = holder(driver, "a")
    old = driver.leases[copy].lease
    driver.release(copy)
    holder(driver, "a")

    def stale() -> None:
        with pytest.raises(LeaseError):
            driver.scheduler.release(copy, old, driver.now_ns + 50)
        assert driver.scheduler.holder_lost(copy, old, driver.now_ns + 50) == []

    unchanged(driver, stale)
    driver.release(copy)


@pytest.mark.parametrize("state", LIVE, ids=lambda state: state.value)
def test_a_foreign_release_is_refused_in_every_state(state: CopyState) -> None:
    driver, number = in_state(state)
    driver.scheduler.memory_reading(0, driver.now_ns, at_ns=driver.now_ns, used_bytes=60)

    def foreign() -> None:
        for copy, lease in ((number, 999), (number, 0), (77, 1), (-1, -1)):
            with pytest.raises(LeaseError):
                driver.scheduler.release(copy, lease, driver.now_ns + 50)
            assert driver.scheduler.holder_lost(copy, lease, driver.now_ns + 50) == []

    unchanged(driver, foreign)


def test_the_lease_of_a_lost_worker_is_refused() -> None:
    driver = driver_with("a")
    copy = holder(driver, "a")
    lease = driver.leases[copy].lease
    driver.worker_lost(copy)

    def late() -> None:
        with pytest.raises(LeaseError):
            driver.scheduler.release(copy, lease, driver.now_ns)

    unchanged(driver, late)


# Completions that come too late ------------------------------------------------------------------


@pytest.mark.parametrize("state", [*LIVE, None], ids=lambda s: s.value if s else "no such copy")
def test_a_completion_for_another_state_is_expected_and_changes_nothing(
    state: CopyState | None,
) -> None:
    driver, number = in_state(state or CopyState.IDLE)
    if state is None:
        number = 99
    scheduler, now = driver.scheduler, driver.now_ns + 50
    if state is not CopyState.LOADING:
        assert unchanged(driver, lambda: scheduler.load_finished(number, now)) == []
        assert unchanged(driver, lambda: scheduler.load_failed(number, now, "x")) == []
        oom = unchanged(driver, lambda: scheduler.load_failed(number, now, "x", out_of_memory=True))
        assert oom == []
    if state is not CopyState.UNLOADING:
        for gone in (True, False):
            answer = unchanged(
                driver,
                lambda gone=gone: scheduler.unload_finished(number, now, process_gone=gone),  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            )
            assert answer == []
    if state in (None, CopyState.RESERVED):
        assert unchanged(driver, lambda: scheduler.worker_lost(number, now)) == []


def test_a_finished_copy_takes_no_completion_again() -> None:
    driver = driver_with("a", "b", size=60)
    driver.serve("a")
    driver.request("b")
    driver.unload(1)
    for late in (
        lambda: driver.scheduler.unload_finished(1, driver.now_ns, process_gone=True),
        lambda: driver.scheduler.worker_lost(1, driver.now_ns),
        lambda: driver.scheduler.load_finished(1, driver.now_ns),
    ):
        assert unchanged(driver, late) == []


def test_a_second_answer_to_one_unload_may_still_say_that_the_process_is_gone() -> None:
    driver = driver_with("a", "b", size=60)
    driver.serve("a")
    driver.request("b")
    driver.unload(1, process_gone=False, late=True)
    assert driver.loads()[1:] == []
    driver.come_back(1)
    actions = driver.scheduler.unload_finished(1, driver.now_ns, process_gone=True)
    assert [type(action) for action in actions] == [StartLoad]


def test_a_clock_that_steps_back_undoes_nothing() -> None:
    driver = driver_with("a", "b", size=60)
    holder(driver, "a")
    driver.now_ns += 1000
    ticket = driver.request("b", wait_ns=500)
    due_ns = driver.now_ns + 500
    assert driver.scheduler.deadline(0) == []
    assert driver.scheduler.next_deadline_ns() == due_ns
    driver.now_ns = 3
    driver.release(1)
    assert driver.copy(1).last_used_ns == due_ns - 500
    assert driver.outcome[ticket] is None


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

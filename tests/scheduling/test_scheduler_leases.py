"""What is stale, foreign or too late changes nothing."""

from __future__ import annotations

import pytest

from modelmgr.errors import LeaseError
from modelmgr.scheduling.actions import StartLoad
from modelmgr.scheduling.states import CopyState
from support.driver_states import LIVE, driver_with, holder, in_state, unchanged

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

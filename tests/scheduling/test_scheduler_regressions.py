"""Faults that the scheduler once had, each as the shortest replay that showed it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from modelmgr.scheduling.actions import Refusal, Reject
from modelmgr.scheduling.policies import IdleCopy, Lru, QueueValue
from modelmgr.scheduling.settings import SchedulerSettings as S
from support.virtual_devices import Phase
from support.virtual_driver import VirtualDriver


def _granted(d: VirtualDriver, ticket: int) -> int:
    copy = d.granted(ticket)
    assert copy is not None
    return copy


def test_a_timeout_that_passed_while_loading_still_ends_the_wait_after_an_oom_retry() -> None:
    # The wake is popped while the ticket loads and is not pushed again when OOM requeues it.
    d = VirtualDriver(100)
    d.know("a", 10)
    d.know("b", 10)
    d.serve("b")
    d.request("b")
    t = d.request("a", wait_ns=100)
    c = d.in_phase(Phase.LOADING)[0]
    d.wait(200)
    d.fail_load(c, out_of_memory=True)
    d.wait(1000)
    assert d.refusal(t) is Refusal.TIMED_OUT, d.state()


def test_a_request_that_does_not_wait_evicts_nothing() -> None:
    # request(deadline<=now): victims are ordered out, then the ticket is refused: promise 5.
    d = VirtualDriver(100)
    d.know("a", 80)
    d.know("b", 80)
    d.serve("a")
    t = d.request("b", wait_ns=0)
    assert d.refusal(t) is Refusal.TIMED_OUT
    assert not d.unloads()


def test_a_cancelled_isolation_load_does_not_block_the_device_for_ever() -> None:
    # load_finished with no ticket: device.isolating stays; the copy is SETTLING for ever (no
    # costs), no known model loads again.
    d = VirtualDriver(100)
    d.sizes("u", 20)
    d.know("a", 10)
    t = d.request("u", own_process=True)
    c = d.in_phase(Phase.LOADING)[0]
    d.cancel(t)
    d.load(c)
    d.read()
    t = d.request("a")
    d.obey()
    assert d.granted(t) is not None


def test_a_worker_lost_while_its_idle_copy_waits_for_room_to_run() -> None:
    # IDLE copy with copy.ticket set (room_to_run claim): _gone leaves the ticket committed to
    # nothing, stuck for ever.
    d = VirtualDriver(100)
    d.know("a", 40, 80)
    d.know("b", 50)
    d.serve("a")
    d.serve("b")
    d.request("a")
    d.worker_lost(next(n for n, c in d.true.copies.items() if c.tag == "a"))
    d.drain()


def test_hits_go_on_while_readings_fail_and_a_device_is_kept_for_an_unknown_model() -> None:
    # kept_for bars hits although the drain cannot come true while readings fail.
    d = VirtualDriver(100, settings=S(isolation="exclusive"))
    d.know("a", 10)
    d.serve("a")
    h = d.request("a")
    d.sizes("u", 20)
    d.request("u")
    d.fail_reading()
    d.release(_granted(d, h))
    t = d.request("a")
    assert d.granted(t) is not None, d.state()


def test_lru_ties_in_time_are_broken_by_order_of_use() -> None:
    # equal timestamps (a trace in whole seconds, service 0): last used is b,a -> b goes; the code
    # takes the lower number.
    d = VirtualDriver(100, settings=S(policy="lru"))
    for t in "abc":
        d.know(t, 40)
    d._tick = lambda: None  # type: ignore[method-assign]  # all in one moment
    d.serve("a")
    d.serve("b")
    d.serve("a")
    d.serve("c")
    assert d.unloads()[0].tag == "b"


def test_hits_go_on_beside_a_measurement_that_takes_the_rest() -> None:
    # "hits on that device go on"; takes_rest reserves the room that residents need to
    # run (peak - resident).
    d = VirtualDriver(100)
    d.know("a", 10, 15)
    d.serve("a")
    d.sizes("u", 20)
    d.request("u", own_process=True)
    t = d.request("a")
    assert d.granted(t) is not None, d.state()


def test_an_oom_retry_of_a_known_model_reserves_what_it_is_known_to_need() -> None:
    # exclusive retry takes "the rest" even if that is less than the known need: promise 1 and a
    # sure second OOM.
    d = VirtualDriver(100)
    d.know("p", 40, 70)
    d.serve("p")
    d.pin("p")
    d.know("a", 60)
    d.request("a", own_process=True)
    c = d.in_phase(Phase.LOADING)[0]
    d.request("p", priority=-1)
    d.fail_load(c, out_of_memory=True)
    assert not d.loads()[2:] or d.loads()[-1].reserved_bytes >= 60, d.state()


def test_exclusive_isolation_waits_for_a_copy_that_is_promised_to_somebody() -> None:
    # Admission._only_pinned_held is vacuously true when nobody holds, but an idle copy is claimed
    # (room_to_run).
    d = VirtualDriver(100, settings=S(isolation="exclusive"))
    d.know("a", 40, 80)
    d.know("b", 50)
    d.sizes("u", 10)
    d.serve("a")
    d.serve("b")
    d.request("a")  # evicts b, a waits for its room to run
    d.request("u", own_process=True)  # isolates although a is promised and will be held
    d.unload(d.in_phase(Phase.UNLOADING)[0])


def test_exclusive_isolation_waits_for_a_settling_copy() -> None:
    # _drained: SETTLING copies are no candidates, no holders, no loads: they stay beside the
    # "exclusive" measurement.
    d = VirtualDriver(100, settings=S(isolation="exclusive"))
    d.know("a", 40)
    d.sizes("u", 10)
    t = d.request("a")
    d.cancel(t)
    d.load(d.in_phase(Phase.LOADING)[0])
    d.request("u", own_process=True)


def test_an_older_ticket_is_not_hidden_behind_a_barred_one_of_its_own_model() -> None:
    # heads() offers only the first of each line: ticket 5 (priority -1) is barred by the kept
    # device, ticket 3 is not.
    d = VirtualDriver(100, settings=S(isolation="exclusive", max_copies=1))
    d.know("a", 10)
    d.know("b", 10)
    d.sizes("u", 10)
    a = d.request("a")
    d.obey()
    d.request("b")
    d.obey()
    old = d.request("a")
    d.request("u")  # keeps the device
    d.request("a", priority=-1)  # barred: newer than u
    d.release(_granted(d, a))
    assert d.granted(old) is not None, d.state()


def test_among_equals_surplus_goes_before_last_before_fewer() -> None:
    # "among equals, surplus before last, cold before warm, fewer before more";
    # cheapest_cover prefers fewer first.
    def c(n: int, size: int, surplus: bool) -> IdleCopy:
        return IdleCopy(n, str(n), 0, size, 0, 0, 0, surplus, False, 1, 1, 0, None)

    p = QueueValue()
    # nobody ever asked: every value is equal (0)
    copies = [c(1, 10, False), c(2, 5, True), c(3, 5, True)]
    assert p.choose(copies, p.values(copies, 0), 10) == (1, 2)


def test_a_line_that_waits_for_a_copy_that_is_coming_is_not_looked_at_again_and_again() -> None:
    """A ticket older than a load asked to be woken in the past, at every wake."""
    driver = VirtualDriver(100)
    driver.know("a", 20, load_ns=5, hold_ns=1)
    driver.request("a")
    driver.request("a")
    for _ in range(20):
        driver.wait(1)
        due_ns = driver.scheduler.next_deadline_ns()
        assert due_ns is None or due_ns > driver.now_ns


def test_a_waiting_ticket_is_refused_once_its_model_turns_out_too_large_for_every_device() -> None:
    """Its model was at its ceiling, and nobody looked any more at tickets that wait for that."""
    driver = VirtualDriver(36, settings=S(max_copies=1))
    driver.sizes("g", 20, 30)
    first, second = driver.request("g"), driver.request("g")
    driver.load(1)
    driver.tell("g", more=10)
    assert driver.granted(first) == 1
    assert isinstance(driver.outcome[second], Reject)


class Careless(Lru):
    """Answers what it was made with, whatever it is asked."""

    name = "careless"

    def __init__(self, answer: tuple[int, ...] | None) -> None:
        self.answer = answer

    def choose(
        self, candidates: Sequence[IdleCopy], values: Sequence[float], need_bytes: int
    ) -> tuple[int, ...] | None:
        """Answer."""
        del candidates, values, need_bytes
        return self.answer


@pytest.mark.parametrize("answer", [None, (), (9,), (-1,), (0, 0)])
def test_a_policy_whose_answer_is_no_covering_set_is_passed_over_for_lru(
    answer: tuple[int, ...] | None,
) -> None:
    """An index that was not there broke the scheduler in the middle of a request."""
    driver = VirtualDriver(100, settings=S(policy=Careless(answer)))
    for tag in "abc":
        driver.know(tag, 40)
        driver.serve(tag)
    assert [unload.tag for unload in driver.unloads()] == ["a"]


def test_an_older_ticket_whose_idle_copy_is_evicted_for_a_later_one_was_passed_over() -> None:
    """It waited for room to run the copy; models with a copy were not counted at all."""
    driver = VirtualDriver(100, settings=S(policy="lru", max_bypass=1))
    driver.know("c", 30, 80)
    driver.know("a", 40)
    driver.know("d", 60)
    driver.serve("c")
    driver.request("a")
    driver.load(driver.loads()[-1].copy)
    older = driver.request("c")
    waiting = driver.scheduler.waiting_for(older)
    assert waiting is not None
    assert driver.granted(older) is None
    driver.request("d", priority=-1)
    assert [unload.tag for unload in driver.unloads()] == ["c"]
    assert driver.scheduler.queue.passed_over(waiting) == 1


def test_what_a_copy_was_seen_to_hold_beyond_its_charge_is_not_forgotten_as_it_settles() -> None:
    # The reading that ended the reservation was explained by the reservation.
    d = VirtualDriver(100)
    d.know("a", 4, 12)
    t = d.request("a")
    d.load(1)
    d.true.copies[1].using_bytes = 10
    begun = d.query(0, own=True)
    d.release(_granted(d, t))
    d.deliver(begun)
    ledger = d.scheduler.devices[0].ledger
    assert ledger.reserved_bytes == 0
    assert ledger.committed_bytes == begun.used_bytes == 10

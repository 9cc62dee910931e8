"""What it takes to serve a ticket: which device, whose memory, whether alone, whether one more."""

from __future__ import annotations

import pickle

import pytest

from modelmgr.errors import UsageError
from modelmgr.scheduling.actions import Grant, Refusal
from modelmgr.scheduling.copies import ModelCosts
from modelmgr.scheduling.scheduler import Scheduler
from modelmgr.scheduling.settings import SchedulerSettings
from support.virtual_devices import Phase
from support.virtual_driver import VirtualDriver

EXCLUSIVE = SchedulerSettings(isolation="exclusive")
BESIDE = SchedulerSettings(isolation="beside")
GREEDY_SCALING = SchedulerSettings(cooldown_ns=0)


def holder(driver: VirtualDriver, tag: str, **how: bool) -> int:
    """Request a model, carry out all orders; return the copy that is now held."""
    ticket = driver.request(tag, **how)
    driver.obey()
    copy = driver.granted(ticket)
    assert copy is not None, driver.state()
    return copy


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


# One more copy -----------------------------------------------------------------------------------


def scaling(*, cooldown_ns: int = 0, min_copies: int = 1) -> VirtualDriver:
    """Return 100 bytes with 40 held by a and 40 idle with b; hold and load times are known."""
    driver = VirtualDriver(
        100, settings=SchedulerSettings(cooldown_ns=cooldown_ns, min_copies=min_copies)
    )
    driver.know("a", 40, load_ns=1000, hold_ns=10)
    driver.know("b", 40, load_ns=1000, hold_ns=10)
    driver.serve("b")
    holder(driver, "a")
    return driver


def test_one_more_copy_does_not_evict_another_models_last_one() -> None:
    driver = scaling()
    ticket = driver.request("a")
    driver.wait(10**6)
    assert driver.unloads() == []
    assert driver.outcome[ticket] is None


def test_one_more_copy_may_evict_what_is_above_the_floor() -> None:
    driver = scaling(min_copies=0)
    driver.request("a")
    assert driver.unloads() == []
    driver.wait(1000)
    assert [unload.tag for unload in driver.unloads()] == ["b"]


def test_one_more_copy_may_evict_only_what_is_cold_and_time_alone_brings_that_about() -> None:
    driver = scaling(min_copies=0, cooldown_ns=50_000)
    driver.request("a")
    driver.wait(40_000)
    assert driver.unloads() == []
    cold_ns = driver.copy(1).last_used_ns + 50_000
    assert driver.scheduler.next_deadline_ns() == cold_ns, "the driver must call then"
    driver.wait(20_000)
    assert [unload.tag for unload in driver.unloads()] == ["b"]


def test_a_ticket_rents_until_it_has_waited_as_long_as_a_load_takes_then_it_buys() -> None:
    driver = VirtualDriver(100)
    driver.know("a", 20, load_ns=1000, hold_ns=10)
    holder(driver, "a")
    driver.request("a")
    assert driver.scheduler.next_deadline_ns() == driver.now_ns + 1000, "the driver must call then"
    driver.wait(900)
    assert len(driver.loads()) == 1
    driver.wait(200)
    assert len(driver.loads()) == 2


def test_a_line_that_takes_longer_than_a_load_buys_at_once() -> None:
    driver = VirtualDriver(100)
    driver.know("a", 20, load_ns=1000, hold_ns=400)
    holder(driver, "a")
    driver.request("a")
    driver.request("a")
    assert len(driver.loads()) == 1
    driver.request("a")
    driver.read()
    assert len(driver.loads()) == 2


def test_renting_ends_when_a_copy_is_released() -> None:
    driver = VirtualDriver(100)
    driver.know("a", 20, load_ns=1000, hold_ns=10)
    copy = holder(driver, "a")
    ticket = driver.request("a")
    driver.release(copy)
    assert driver.granted(ticket) == copy
    driver.wait(10_000)
    assert len(driver.loads()) == 1


def test_a_model_whose_load_time_nobody_knows_is_scaled_up_at_once() -> None:
    driver = VirtualDriver(100)
    driver.know("a", 20)
    driver.request("a")
    driver.request("a")
    assert len(driver.loads()) == 2


def test_the_ceiling_holds_and_copies_on_their_way_out_do_not_count() -> None:
    driver = VirtualDriver(100, settings=SchedulerSettings(max_copies=2))
    driver.know("a", 20)
    copies = [holder(driver, "a"), holder(driver, "a")]
    ticket = driver.request("a")
    driver.wait(10**12)
    assert len(driver.loads()) == 2
    driver.holder_lost(copies[0])
    assert len(driver.loads()) == 3
    driver.obey()
    assert driver.granted(ticket) is not None


# Unknown models ----------------------------------------------------------------------------------


def test_exclusive_isolation_flushes_the_device_and_keeps_others_off_until_it_is_released() -> None:
    driver = VirtualDriver(100, settings=EXCLUSIVE)
    driver.know("a", 10)
    driver.sizes("u", 20)
    driver.serve("a")
    ticket = driver.request("u", own_process=True)
    (unload,) = driver.unloads()
    assert (unload.tag, unload.reason, unload.requested_by) == ("a", "isolation", "u")
    later = driver.request("a")
    driver.obey()
    copy = driver.granted(ticket)
    assert copy is not None
    assert driver.loads()[-1].isolated
    assert driver.outcome[later] is None
    driver.tell("u")
    assert driver.outcome[later] is None
    driver.release(copy)
    driver.obey()
    assert driver.granted(later) is not None


def test_exclusive_isolation_waits_for_holders_and_evicts_nobody_before() -> None:
    driver = VirtualDriver(100, settings=EXCLUSIVE)
    driver.know("idle", 10)
    driver.know("held", 10)
    driver.sizes("u", 20)
    driver.serve("idle")
    held = holder(driver, "held")
    driver.request("u")
    assert driver.unloads() == []
    later = driver.request("idle")
    assert driver.outcome[later] is None, "hits of later tickets wait, or it would never drain"
    driver.release(held)
    assert {unload.tag for unload in driver.unloads()} == {"idle", "held"}


def test_on_other_devices_life_goes_on_while_one_is_isolated() -> None:
    driver = VirtualDriver(100, 100, settings=EXCLUSIVE)
    driver.know("a", 10)
    driver.know("b", 10)
    driver.sizes("u", 20)
    driver.serve("a")
    assert driver.true.copies[1].device == 0
    ticket = driver.request("u")
    assert driver.loads()[-1].device == 1, "the idlest device is drained"
    assert driver.unloads() == []
    assert driver.granted(driver.request("a")) is not None
    driver.request("b")
    assert driver.loads()[-1].device == 0
    driver.obey()
    assert driver.granted(ticket) is not None


def test_beside_residents_nobody_is_flushed_and_nobody_else_loads() -> None:
    driver = VirtualDriver(100, settings=BESIDE)
    driver.know("a", 20)
    driver.know("b", 20)
    driver.sizes("u", 20)
    driver.serve("a")
    ticket = driver.request("u", worst_case=30, own_process=True)
    assert driver.unloads() == []
    assert (driver.loads()[-1].reserved_bytes, driver.loads()[-1].isolated) == (30, True)
    other = driver.request("b")
    assert len(driver.loads()) == 2
    hit = driver.request("a")
    assert driver.granted(hit) is not None, "hits go on"
    driver.obey()
    copy = driver.granted(ticket)
    assert copy is not None
    assert len(driver.loads()) == 2
    driver.release(copy)
    assert driver.loads()[-1].ticket_num == other


def test_where_only_an_aggregate_can_be_read_hits_wait_until_the_measurement_is_released() -> None:
    driver = VirtualDriver(100, settings=BESIDE)
    driver.know("a", 20)
    driver.sizes("u", 20)
    driver.serve("a")
    measured = driver.request("u", worst_case=30, own_process=False)
    hit = driver.request("a")
    assert driver.outcome[hit] is None
    driver.obey()
    copy = driver.granted(measured)
    assert copy is not None
    assert driver.outcome[hit] is None
    driver.release(copy)
    assert driver.granted(hit) is not None


def test_an_aggregate_measurement_waits_for_holders_first() -> None:
    driver = VirtualDriver(100, settings=BESIDE)
    driver.know("a", 20)
    driver.sizes("u", 20)
    held = holder(driver, "a")
    driver.request("u", worst_case=30, own_process=False)
    assert len(driver.loads()) == 1
    driver.release(held)
    assert driver.loads()[-1].isolated
    assert driver.unloads() == []


def test_the_worst_case_is_what_is_declared_else_what_is_left_of_the_device() -> None:
    for declared, reserved in ((30, 30), (None, 80)):
        driver = VirtualDriver(100, settings=BESIDE)
        driver.know("a", 20)
        driver.sizes("u", 20)
        driver.serve("a")
        driver.request("u", worst_case=declared, own_process=True)
        assert driver.loads()[-1].reserved_bytes == reserved
        assert driver.unloads() == []


def test_a_worst_case_that_does_not_fit_beside_drains_the_device() -> None:
    driver = VirtualDriver(100, settings=BESIDE)
    driver.know("a", 50)
    driver.sizes("u", 20)
    driver.serve("a")
    ticket = driver.request("u", worst_case=60, own_process=True)
    assert [unload.tag for unload in driver.unloads()] == ["a"]
    driver.obey()
    assert driver.granted(ticket) is not None


def test_a_sliver_that_is_left_is_no_place_to_measure() -> None:
    """Less than a quarter of the device, or than the largest known model: it drains first."""
    for resident, flushed in ((74, False), (76, True)):
        driver = VirtualDriver(100, settings=BESIDE)
        driver.know("a", resident)
        driver.sizes("u", 20)
        driver.serve("a")
        driver.know("a", resident)
        driver.scheduler.model("a").costs = ModelCosts(1, 1)
        driver.request("u", own_process=True)
        assert bool(driver.unloads()) is flushed
    driver = VirtualDriver(100, settings=BESIDE)
    driver.know("a", 55)
    driver.sizes("u", 20)
    driver.serve("a")
    driver.request("u", own_process=True)
    assert len(driver.unloads()) == 1


def test_a_second_request_for_a_model_being_measured_waits_for_its_figures() -> None:
    driver = VirtualDriver(100, settings=BESIDE)
    driver.sizes("u", 20)
    measured = driver.request("u", own_process=True)
    second = driver.request("u", own_process=True)
    driver.obey()
    copy = driver.granted(measured)
    assert copy is not None
    assert len(driver.loads()) == 1
    driver.tell("u")
    driver.release(copy)
    assert driver.granted(second) == copy
    driver.read()
    assert driver.scheduler.devices[0].ledger.room_bytes() == 80


def test_unknown_and_known_models_do_not_starve_each_other() -> None:
    """A stream of unknown ones lets a known one in after max_bypass of them, and the reverse."""
    for known_first in (True, False):
        driver = VirtualDriver(100, settings=SchedulerSettings(max_bypass=2, isolation="exclusive"))
        driver.know("k", 60)
        for number in range(8):
            driver.sizes(f"u{number}", 50)
            driver.know(f"k{number}", 50)
        first = driver.request("k0" if known_first else "u0")
        waiting = driver.request("u7" if known_first else "k")
        stream = [
            driver.request(f"k{n}" if known_first else f"u{n}", priority=-1) for n in range(1, 7)
        ]
        for _ in range(20):
            driver.obey()
            for copy in list(driver.leases):
                driver.tell(driver.true.copies[copy].tag)
                driver.release(copy)
            driver.read()
        order = [action.ticket_num for action in driver.log if isinstance(action, Grant)]
        assert len(order) == 8, driver.state()
        assert order[0] == first
        assert len(set(order[: order.index(waiting)]) & set(stream)) <= 2


def test_readings_that_fail_postpone_measuring_and_leave_known_models_alone() -> None:
    driver = VirtualDriver(100, settings=BESIDE)
    driver.know("a", 20)
    driver.sizes("u", 20)
    driver.serve("a")
    driver.fail_reading()
    unknown = driver.request("u", own_process=True)
    assert driver.granted(driver.request("a")) is not None, "hits go on"
    assert len(driver.loads()) == 1
    driver.read()
    assert driver.loads()[-1].ticket_num == unknown


def test_while_readings_fail_what_fits_under_the_last_good_one_is_loaded_and_no_more() -> None:
    driver = VirtualDriver(100, foreign=[30])
    driver.know("fits", 70)
    driver.know("more", 71)
    driver.fail_reading()
    assert driver.outcome[driver.request("more")] is None
    assert driver.loads() == []
    driver.request("fits")
    assert len(driver.loads()) == 1


def test_if_the_first_reading_fails_nothing_is_loaded_and_requests_wait() -> None:
    driver = VirtualDriver(100, read=False)
    driver.know("a", 20)
    driver.sizes("u", 20)
    driver.fail_reading()
    tickets = [driver.request("a"), driver.request("u")]
    driver.wait(10**12)
    assert [driver.outcome[ticket] for ticket in tickets] == [None, None]
    assert driver.log == []
    driver.read()
    assert len(driver.loads()) == 1


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

"""One more copy of a model that has one: what it may evict, and when it is bought."""

from __future__ import annotations

from modelmgr.scheduling.settings import SchedulerSettings
from support.driver_states import holder
from support.virtual_driver import VirtualDriver

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


def test_the_first_in_order_gets_the_copy_that_the_oldest_of_its_line_waited_for() -> None:
    driver = VirtualDriver(100)
    driver.know("a", 20, load_ns=1000, hold_ns=10)
    holder(driver, "a")
    driver.request("a", priority=1)
    driver.wait(600)
    first = driver.request("a", priority=0)
    assert len(driver.loads()) == 1
    driver.wait(500)
    assert [load.ticket_num for load in driver.loads()[1:]] == [first]


def test_who_could_buy_and_had_no_room_is_served_as_soon_as_there_is_some() -> None:
    driver = VirtualDriver(60)
    for tag, size in (("a", 18), ("b", 20), ("c", 20)):
        driver.know(tag, size, load_ns=1000)
    for tag in ("a", "b", "c"):
        driver.request(tag)
    waits = driver.request("a")  # a copy is coming: one more does not pay yet
    driver.load(1)
    assert len(driver.loads()) == 3, "it pays, and there is no room"
    driver.worker_lost(2)
    assert [load.ticket_num for load in driver.loads()[3:]] == [waits]

"""Memory that came while copies were there may be theirs: the last resort is to let them go."""

from __future__ import annotations

from modelmgr.scheduling.settings import SchedulerSettings
from support.driver_states import holder
from support.virtual_driver import VirtualDriver

PATIENCE_NS = SchedulerSettings().patience_ns


def larger_than_told(*, own: bool = False, steady: bool = True) -> VirtualDriver:
    """Return 100 bytes with x, told to take 10 and holding 60, and a small s, both idle."""
    driver = VirtualDriver(100, steady=steady)
    driver.know("s", 5)
    driver.know("x", 10)
    driver.know("z", 70)
    held = holder(driver, "s")
    other = holder(driver, "x")
    driver.sizes("x", 60)
    driver.release(other)
    driver.release(held)
    driver.read(own=own)
    return driver


def test_a_request_is_served_though_an_idle_copy_holds_more_than_it_is_charged() -> None:
    for own in (False, True):
        driver = larger_than_told(own=own)
        assert driver.scheduler.devices[0].ledger.foreign_bytes == 50
        ticket = driver.request("z")
        assert driver.unloads() == []
        assert driver.scheduler.next_deadline_ns() == driver.now_ns + PATIENCE_NS
        driver.wait(PATIENCE_NS)
        driver.obey()
        driver.read()
        driver.obey()
        assert driver.granted(ticket) is not None, driver.state()


def test_a_model_whose_own_idle_copy_holds_the_room_to_run_it_is_loaded_anew() -> None:
    driver = VirtualDriver(100)
    driver.know("x", 10, 60)
    held = holder(driver, "x")
    driver.release(held)
    driver.sizes("x", 60)
    driver.read()
    ticket = driver.request("x")
    driver.wait(PATIENCE_NS)
    driver.obey()
    driver.read()
    driver.obey()
    assert driver.granted(ticket) is not None, driver.state()


def test_what_stays_after_all_have_left_is_others_and_nobody_is_evicted_for_it_again() -> None:
    driver = VirtualDriver(100, steady=False)
    driver.know("s", 5)
    driver.know("z", 70)
    driver.serve("s")
    driver.true.foreign[0] = 50
    driver.read()
    ticket = driver.request("z")
    driver.wait(PATIENCE_NS)
    driver.obey()
    driver.read()
    driver.obey()
    assert driver.outcome[ticket] is None
    assert [unload.tag for unload in driver.unloads()] == ["s"]
    driver.serve("s")
    driver.read()
    assert driver.outcome[ticket] is None
    assert len(driver.unloads()) == 1, "it is known to be others'"
    driver.true.foreign[0] = 0
    driver.read()
    driver.obey()
    assert driver.granted(ticket) is not None


def test_nobody_is_evicted_for_doubtful_memory_while_a_holder_may_make_room() -> None:
    driver = larger_than_told()
    holder(driver, "s")
    driver.request("z")
    driver.wait(PATIENCE_NS)
    assert driver.unloads() == []


def test_a_pinned_copy_stays_whatever_it_holds() -> None:
    driver = larger_than_told(steady=False)
    driver.pin("x")
    driver.request("z")
    driver.wait(PATIENCE_NS)
    assert [unload.tag for unload in driver.unloads()] == ["s"]


def test_memory_that_was_there_before_any_copy_is_not_in_doubt() -> None:
    driver = VirtualDriver(100, foreign=(50,), settings=SchedulerSettings(cooldown_ns=0))
    driver.know("s", 5)
    driver.know("z", 70)
    driver.serve("s")
    driver.request("z")
    driver.wait(PATIENCE_NS)
    assert driver.unloads() == []


def test_doubt_that_comes_late_asks_for_no_moment_that_is_over() -> None:
    driver = VirtualDriver(100, steady=False)
    driver.know("s", 5)
    driver.know("z", 70)
    held = holder(driver, "s")
    driver.true.foreign[0] = 50
    driver.read()
    driver.request("z")
    driver.scheduler.devices[0].ledger.believe_others()
    driver.wait(2 * PATIENCE_NS)
    driver.true.foreign[0] = 60
    driver.read()
    driver.wait(10)
    assert driver.scheduler.next_deadline_ns() is None
    driver.release(held)


def test_others_are_believed_though_a_pinned_copy_stayed_and_could_hold_it_as_well() -> None:
    driver = VirtualDriver(100, steady=False)
    driver.know("p", 1)
    driver.know("s", 5)
    driver.know("z", 70)
    driver.serve("p")
    driver.pin("p")
    driver.serve("s")
    driver.true.foreign[0] = 50
    driver.read()
    ticket = driver.request("z")
    driver.wait(PATIENCE_NS)
    driver.obey()
    driver.read()
    assert driver.outcome[ticket] is None
    assert [unload.tag for unload in driver.unloads()] == ["s"]
    driver.serve("s")
    driver.read()
    driver.wait(2 * PATIENCE_NS)
    assert len(driver.unloads()) == 1

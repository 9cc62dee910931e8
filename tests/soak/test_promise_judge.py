"""What the judge of the soak must not hold against the scheduler."""

from __future__ import annotations

from modelmgr.scheduling.settings import SchedulerSettings
from support.driver_states import holder
from support.virtual_driver import VirtualDriver


def test_what_an_older_one_evicted_was_not_taken_by_those_who_load_beside_it() -> None:
    driver = VirtualDriver(100, 100, settings=SchedulerSettings(max_bypass=1))
    driver.know("c", 100, load_ns=1000, hold_ns=10)
    driver.know("g", 30)
    held = holder(driver, "c")
    driver.request("c")
    driver.wait(2000)
    driver.obey()
    oldest = driver.request("g")
    driver.request("c")
    driver.release(held)  # the one before is passed over: it is urgent from now on
    waits = driver.request("c")
    beside = [driver.request("g"), driver.request("g")]
    driver.release(held)
    assert [unload.tag for unload in driver.unloads()] == ["c"]
    assert driver.scheduler.committed_tickets.keys() == {oldest, *beside}
    queued = driver.scheduler.queue.get(waits)
    assert queued is not None
    assert driver.scheduler.queue.passed_over(queued) == 0


def test_whose_only_copy_no_device_can_run_is_not_scaled_up() -> None:
    driver = VirtualDriver(36, 72)
    driver.know("b", 39)
    driver.know("e", 32)
    driver.request("b")
    driver.request("e")
    driver.tell("e", more=10)
    driver.request("e")
    driver.drain()
    assert [(unload.tag, unload.candidates == ()) for unload in driver.unloads()] == [
        ("e", True),
        ("b", False),
    ]

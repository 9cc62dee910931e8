"""A device whose readings fail may be lost: loads go elsewhere, where there is an elsewhere."""

from __future__ import annotations

from support.driver_states import holder
from support.virtual_driver import VirtualDriver


def test_a_load_goes_to_a_device_whose_readings_are_good_though_another_is_emptier() -> None:
    driver = VirtualDriver(100, 60)
    driver.know("a", 40)
    driver.fail_reading(0)
    driver.request("a")
    assert [load.device for load in driver.loads()] == [1]


def test_a_request_waits_for_room_rather_than_for_a_device_that_may_be_lost() -> None:
    driver = VirtualDriver(100, 100)
    driver.know("a", 40)
    driver.know("b", 80)
    driver.fail_reading(0)
    held = holder(driver, "b")
    waits = driver.request("a")
    assert len(driver.loads()) == 1
    driver.release(held)
    driver.obey()
    assert driver.granted(waits) is not None
    assert [load.device for load in driver.loads()] == [1, 1]


def test_a_device_whose_readings_are_good_again_takes_loads_again() -> None:
    driver = VirtualDriver(100, 100)
    driver.know("a", 40)
    driver.know("b", 80)
    driver.fail_reading(0)
    holder(driver, "b")
    driver.request("a")
    driver.read(0)
    assert [load.device for load in driver.loads()] == [1, 0]


def test_what_fits_nowhere_else_is_loaded_by_the_last_good_reading() -> None:
    driver = VirtualDriver(100, 30)
    driver.know("a", 40)
    driver.fail_reading(0)
    driver.request("a")
    assert [load.device for load in driver.loads()] == [0]


def test_where_all_readings_fail_the_last_good_ones_stand() -> None:
    driver = VirtualDriver(100, 60)
    driver.know("a", 40)
    driver.fail_reading(0)
    driver.fail_reading(1)
    driver.request("a")
    assert [load.device for load in driver.loads()] == [0]


def test_an_urgent_request_does_not_keep_free_a_device_that_may_be_lost() -> None:
    driver = VirtualDriver(100, 100)
    driver.know("big", 90)
    driver.know("b", 40)
    driver.fail_reading(0)
    held = [holder(driver, "b")]
    big = driver.request("big")
    for _ in range(20):
        driver.request("b")
        driver.release(held.pop())
        number = next((n for n, copy in driver.true.copies.items() if copy.held), None)
        if number is None:
            break
        held.append(number)
    driver.drain()
    assert driver.granted(big) is not None
    assert {load.device for load in driver.loads()} == {1}

"""A device that loses copies and cannot be read may be lost: loads go elsewhere, if they can."""

from __future__ import annotations

from support.driver_states import holder
from support.virtual_driver import VirtualDriver


def lose(driver: VirtualDriver, device: int) -> None:
    """Let a copy's process die on a device, and its readings fail from then on."""
    driver.know("victim", 1)
    held = holder(driver, "victim")
    assert driver.true.copies[held].device == device
    driver.worker_lost(held)
    driver.fail_reading(device)


def devices_of_loads(driver: VirtualDriver) -> list[int]:
    """Return where all others were loaded, in order."""
    return [load.device for load in driver.loads() if load.tag != "victim"]


def test_a_load_goes_to_a_device_whose_readings_are_good_though_another_is_emptier() -> None:
    driver = VirtualDriver(100, 60)
    driver.know("a", 40)
    lose(driver, 0)
    driver.request("a")
    assert devices_of_loads(driver) == [1]


def test_a_request_waits_for_room_rather_than_for_a_device_that_may_be_lost() -> None:
    driver = VirtualDriver(100, 100)
    driver.know("a", 40)
    driver.know("b", 80)
    lose(driver, 0)
    held = holder(driver, "b")
    waits = driver.request("a")
    assert devices_of_loads(driver) == [1]
    driver.release(held)
    driver.obey()
    assert driver.granted(waits) is not None
    assert devices_of_loads(driver) == [1, 1]


def test_a_device_whose_readings_are_good_again_takes_loads_again() -> None:
    driver = VirtualDriver(100, 100)
    driver.know("a", 40)
    driver.know("b", 80)
    lose(driver, 0)
    holder(driver, "b")
    driver.request("a")
    driver.read(0)
    assert devices_of_loads(driver) == [1, 0]


def test_what_fits_nowhere_else_is_loaded_by_the_last_good_reading() -> None:
    driver = VirtualDriver(100, 30)
    driver.know("a", 40)
    lose(driver, 0)
    driver.request("a")
    assert devices_of_loads(driver) == [0]


def test_a_failed_reading_alone_closes_no_device() -> None:
    driver = VirtualDriver(100, 60)
    driver.know("a", 40)
    driver.fail_reading(0)
    driver.request("a")
    assert devices_of_loads(driver) == [0]


def test_where_all_readings_fail_the_last_good_ones_stand() -> None:
    driver = VirtualDriver(100, 60)
    driver.know("a", 40)
    lose(driver, 0)
    lose(driver, 1)
    driver.request("a")
    assert devices_of_loads(driver) == [0]


def test_an_urgent_request_does_not_keep_free_a_device_that_may_be_lost() -> None:
    driver = VirtualDriver(100, 100)
    driver.know("big", 90)
    driver.know("b", 40)
    lose(driver, 0)
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
    assert set(devices_of_loads(driver)) == {1}

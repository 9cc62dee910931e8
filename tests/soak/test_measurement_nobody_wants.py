"""What the mutation check found that no other test held: a measurement that nobody waits for."""

from __future__ import annotations

from support.virtual_devices import Phase
from support.virtual_driver import VirtualDriver


def test_an_isolated_load_that_was_cancelled_leaves_its_device_to_others() -> None:
    driver = VirtualDriver(100)
    driver.know("a", 10)
    driver.know("b", 10)
    second_try = driver.request("a", alone=True)
    (number,) = driver.in_phase(Phase.LOADING)
    driver.cancel(second_try)
    driver.load(number)
    driver.read()
    assert driver.tags() == ["a"]
    other = driver.request("b")
    driver.obey()
    assert driver.granted(other) is not None


def test_an_unknown_model_is_not_measured_a_second_time_while_a_copy_is_there() -> None:
    driver = VirtualDriver(100, 100)
    driver.sizes("u", 10)
    driver.request("u", own_process=True, worst_case=20)
    waiting = driver.request("u", own_process=True, worst_case=20)
    driver.obey()
    assert len(driver.loads()) == 1
    assert driver.granted(waiting) is None

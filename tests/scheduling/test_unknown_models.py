"""Models that nobody measured: alone or beside others, and nobody starves."""

from __future__ import annotations

from modelmgr.scheduling.actions import Grant
from modelmgr.scheduling.copies import ModelCosts
from modelmgr.scheduling.settings import SchedulerSettings
from support.driver_states import holder
from support.virtual_driver import VirtualDriver

EXCLUSIVE = SchedulerSettings(isolation="exclusive")


BESIDE = SchedulerSettings(isolation="beside")


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

"""Virtual drivers where a test starts from: a copy held, a copy in any stage of its life."""

from __future__ import annotations

import pickle
from collections.abc import Callable

from modelmgr.scheduling.states import CopyState
from support.virtual_driver import VirtualDriver


def driver_with(
    *tags: str, limit: int = 100, size: int = 40, peak: int | None = None
) -> VirtualDriver:
    """Return a driver of one device that knows these models, all of one size."""
    driver = VirtualDriver(limit)
    for tag in tags:
        driver.know(tag, size, peak)
    return driver


def holder(driver: VirtualDriver, tag: str, **how: bool) -> int:
    """Request a model, carry out all orders; return the copy that is now held."""
    ticket = driver.request(tag, **how)
    driver.obey()
    copy = driver.granted(ticket)
    assert copy is not None, driver.state()
    return copy


def in_state(state: CopyState) -> tuple[VirtualDriver, int]:
    """Return a driver with one copy of a in that state."""
    driver = driver_with("a", "b", size=60)
    if state is CopyState.RESERVED:
        driver.serve("b")
        driver.request("a")
        return driver, 2
    ticket = driver.request("a")
    if state is CopyState.LOADING:
        return driver, 1
    if state is CopyState.SETTLING:
        driver.cancel(ticket)
        driver.load(1)
        return driver, 1
    driver.load(1)
    driver.read()
    if state is CopyState.ACTIVE:
        return driver, 1
    if state is CopyState.DRAINING:
        driver.reset()
        return driver, 1
    driver.release(1)
    if state is CopyState.UNLOADING:
        driver.request("b")
    return driver, 1


def unchanged(driver: VirtualDriver, event: Callable[[], object]) -> object:
    """Do something; fail unless the scheduler is byte for byte what it was."""
    before = pickle.dumps(driver.scheduler)
    answer = event()
    assert pickle.dumps(driver.scheduler) == before
    return answer


LIVE = [
    CopyState.RESERVED,
    CopyState.LOADING,
    CopyState.SETTLING,
    CopyState.IDLE,
    CopyState.ACTIVE,
    CopyState.DRAINING,
    CopyState.UNLOADING,
]

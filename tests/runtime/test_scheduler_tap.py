"""Whoever listens to a scheduler hears everything, hits on the driver's shortest way too."""

from __future__ import annotations

from collections.abc import Sequence

from modelmgr import ModelManager
from modelmgr.runtime.scenario_run.tap import SchedulerEvent, SchedulerTap
from modelmgr.scheduling.actions import Action, Grant
from modelmgr.testing.fake_device import FakeDevice, FakeModel


def test_a_hit_of_the_manager_is_heard_once_by_each_who_listens() -> None:
    """Hits are handed out without a grant; a run's log and counts were without them."""
    device = FakeDevice()
    heard: list[tuple[str, bool]] = []
    told: list[str] = []

    def hear(_: int, actions: Sequence[Action]) -> None:
        heard.extend((action.tag, action.hit) for action in actions if isinstance(action, Grant))

    def tell(event: SchedulerEvent) -> None:
        told.append(event.name)

    with ModelManager(device, costs={"m": 100.0}) as manager:
        with manager.lease("m", lambda: FakeModel(device, 100.0)):
            pass
        outer = SchedulerTap(manager.driver.scheduler, hear)
        inner = SchedulerTap(manager.driver.scheduler, lambda _at_ns, _actions: None, told=tell)
        with manager.lease("m", lambda: FakeModel(device, 100.0)):
            pass
        assert heard == [("m", True)]
        assert told.count("hit") == 1
        inner.close()
        outer.close()
        with manager.lease("m", lambda: FakeModel(device, 100.0)):
            pass
        assert heard == [("m", True)]

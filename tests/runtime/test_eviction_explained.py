"""Every eviction says who could have gone, what each was worth, and what others had taken."""

from __future__ import annotations

from modelmgr import ModelManager
from modelmgr.records.devices import DeviceDescription
from modelmgr.units import GIB


def test_an_eviction_says_what_each_other_policy_would_have_taken() -> None:
    device = DeviceDescription(name="d", kind="fixed", total_bytes=10 * GIB, slack=0.0)
    costs = {"old": 6 * 1024.0, "often": 2 * 1024.0, "big": 2 * 1024.0, "new": 1024.0}
    with ModelManager(devices=[device], costs=costs, policy="lru") as manager:
        for tag in ("old", "often", "often", "often", "big", "new"):
            with manager.lease(tag, object):
                pass
        copies = {copy.tag: copy.copy for copy in manager.snapshot().copies}
        assert "old" not in copies
        (eviction,) = manager.evictions()
        assert {candidate.tag for candidate in eviction.candidates} == {"old", "often", "big"}
        assert eviction.chosen == (eviction.copy,)
        assert set(eviction.instead) == {"gdsf", "demand-tiers", "queue-value"}
        offered = {candidate.copy for candidate in eviction.candidates}
        for chosen in eviction.instead.values():
            assert chosen
            assert set(chosen) <= offered


def test_what_everybody_must_leave_for_is_no_choice_and_names_no_other() -> None:
    device = DeviceDescription(name="d", kind="fixed", total_bytes=10 * GIB, slack=0.0)
    with ModelManager(devices=[device], costs={"a": 100.0}) as manager:
        with manager.lease("a", object):
            pass
        manager.force_reset()
        (eviction,) = manager.evictions()
        assert (eviction.reason, eviction.candidates, eviction.instead) == ("reset", (), {})

"""Other packages' eviction policies: found by name, imported when asked for, checked when made."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from modelmgr import ModelManager, UsageError
from modelmgr.errors import InputError
from modelmgr.records.devices import DeviceDescription
from modelmgr.scheduling.policies import POLICIES, Lru
from modelmgr.simulation.simulate import simulate
from modelmgr.units import GIB
from modelmgr.workload.policy_plugins import find_policy, policy_names
from modelmgr.workload.scenario_reader import parse_scenario
from support.interpreters import run_python

POLICY = """
from modelmgr.scheduling.policies import Lru

class Newest(Lru):
    name = "newest"
    def choose(self, candidates, values, need_bytes):
        order = sorted(range(len(candidates)), key=lambda i: -candidates[i].last_used_ns)
        freed, chosen = 0, []
        for i in order:
            if freed >= need_bytes:
                break
            chosen.append(i)
            freed += candidates[i].size_bytes
        return tuple(chosen) if freed >= need_bytes else None

def number():
    return 7
"""
ENTRIES = """
[modelmgr.policies]
newest = other_policies:Newest
broken = other_policies_that_are_not_there:Policy
number = other_policies:number
lru = other_policies:Newest
"""


PHASES = "".join(
    f"  - {{mix: {{{tag}: 1}}, arrivals: {{pattern: constant, rate: 1/s}}, duration: 1 s}}\n"
    for tag in "abcd"
)
MODELS = "".join(
    f"  - {{tag: {tag}, cost: {{resident: 1 GiB, peak: 1 GiB, load: 1 ms, service: 1 ms}}}}\n"
    for tag in "abcd"
)
SCENARIO = f"""schema_version: 1
name: one-after-another
seed: 1
devices: [{{name: gpu0, memory: 3 GiB, slack: 0%}}]
manager: {{policy: newest}}
models:
{MODELS}workload:
{PHASES}"""

WITH_PACKAGE = pytest.mark.usefixtures("package")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that registers policies."""
    (tmp_path / "other_policies.py").write_text(POLICY)
    info = tmp_path / "other_policies-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-policies\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "other_policies", raising=False)
    return tmp_path


def test_the_built_in_policies_are_known_and_each_is_made_anew() -> None:
    assert set(policy_names()) >= set(POLICIES)
    assert find_policy("lru") is not find_policy("lru")
    own = Lru()
    assert find_policy(own) is own


@WITH_PACKAGE
def test_a_manager_evicts_by_the_policy_that_a_package_registered() -> None:
    assert "newest" in policy_names()
    device = DeviceDescription(name="d", kind="fixed", total_bytes=3 * GIB, slack=0.0)
    costs = {"a": 1024.0, "b": 1024.0, "c": 1024.0, "d": 1024.0}
    with ModelManager(devices=[device], costs=costs, policy="newest") as manager:
        for tag in "abcd":
            with manager.lease(tag, object):
                pass
        assert [eviction.tag for eviction in manager.evictions()] == ["c"]


@WITH_PACKAGE
def test_a_scenario_is_simulated_under_the_policy_that_a_package_registered() -> None:
    scenario = parse_scenario(SCENARIO)
    written: list[bytes] = []
    assert simulate(scenario, log=written.append).result.policy == "newest"
    evicted = [
        d["tag"]
        for d in map(json.loads, b"".join(written).splitlines())
        if d["action"] == "start_unload"
    ]
    assert evicted == ["c"]


@WITH_PACKAGE
def test_a_scenario_with_a_broken_policy_says_where_and_which_package_is_to_blame() -> None:
    with pytest.raises(InputError, match=r"^<text>:\d+:\d+: manager\.policy: .*entry point"):
        parse_scenario(SCENARIO.replace("newest", "broken"))


@WITH_PACKAGE
def test_a_package_cannot_replace_a_built_in_policy() -> None:
    assert type(find_policy("lru")) is Lru
    assert policy_names().count("lru") == 1


@WITH_PACKAGE
def test_a_policy_that_does_not_import_or_is_none_says_which_package_is_to_blame() -> None:
    with pytest.raises(UsageError, match=r"'broken'.*other_policies_that_are_not_there"):
        find_policy("broken")
    with pytest.raises(UsageError, match=r"'number'.*int lacks name, requested"):
        find_policy("number")


def test_an_unknown_name_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(UsageError, match=r"unknown policy 'queue_value'.*did you mean 'queue-val"):
        find_policy("queue_value")
    with pytest.raises(UsageError, match="unknown policy"):
        ModelManager(policy="fifo")


def test_policies_that_nobody_asked_for_are_not_imported(package: Path) -> None:
    program = (
        "import sys; from modelmgr.workload.policy_plugins import policy_names, find_policy; "
        "assert 'newest' in policy_names(); find_policy('gdsf'); "
        "assert 'other_policies' not in sys.modules"
    )
    assert run_python("-c", program, PYTHONPATH=str(package)) == ""

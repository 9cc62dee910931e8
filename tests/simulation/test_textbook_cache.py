"""With no service time and one copy a model, ``lru`` is the textbook's size-aware LRU cache."""

from __future__ import annotations

import json
from collections import OrderedDict

import pytest

from modelmgr.simulation.simulate import simulate
from modelmgr.units import MIB
from modelmgr.workload.requests import RequestSource
from modelmgr.workload.scenario import ManagerOptions, Scenario
from support.small_scenarios import constant, make_model, make_scenario


def textbook_hits(requests: list[tuple[str, int]], capacity: int) -> list[bool]:
    """Return whether each request hits a size-aware LRU cache."""
    cached: OrderedDict[str, int] = OrderedDict()
    hits: list[bool] = []
    for tag, size in requests:
        hits.append(tag in cached)
        if tag in cached:
            cached.move_to_end(tag)
            continue
        while sum(cached.values()) + size > capacity:
            cached.popitem(last=False)
        cached[tag] = size
    return hits


def cache_scenario(seed: int) -> Scenario:
    sizes = {f"m{number:02}": (100 + 37 * number % 700) * MIB for number in range(30)}
    models = [
        make_model(tag, resident=size, load=constant(0), service=constant(0))
        for tag, size in sizes.items()
    ]
    return make_scenario(
        models,
        rate_per_s=50,
        seconds=60,
        memory=3000 * MIB,
        mix={tag: 1 / (1 + place) for place, tag in enumerate(sizes)},
        manager=ManagerOptions(policy="lru", max_copies=1),
        seed=seed,
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_lru_hits_request_for_request_as_the_textbook_does(seed: int) -> None:
    scenario = cache_scenario(seed)
    written: list[bytes] = []
    result = simulate(scenario, log=written.append).result
    sizes = {model.tag: model.cost.resident_bytes for model in scenario.models if model.cost}
    requests = [(request.tag, sizes[request.tag]) for request in RequestSource(scenario)]
    expected = textbook_hits(requests, scenario.devices[0].limit_bytes)
    decisions = map(json.loads, b"".join(written).splitlines())
    grants = [(d["tag"], d["hit"]) for d in decisions if d["action"] == "grant"]
    assert grants == [(tag, hit) for (tag, _), hit in zip(requests, expected, strict=True)]
    assert result.loads == expected.count(False)
    assert result.evictions > 100

"""A sweep's keys and values: what ``KEY=VALUES`` means, and what it does to a scenario."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelmgr.errors import UsageError
from modelmgr.units import GIB, NS_PER_S
from modelmgr.workload.scenario import MixPhase
from modelmgr.workload.swept_keys import ImpossibleValueError, ScenarioTemplate, read_swept_key

SCENARIO = """
schema_version: 1
name: small
devices:
  - {name: gpu0, memory: 4 GiB, slack: 10%}
models:
  - {tag: bert, cost: &cost {resident: 1 GiB, peak: 1.5 GiB, load: 2 s, service: 35 ms}}
  - {tag: gpt-3.5, cost: *cost}
workload:
  - {mix: {bert: 3, gpt-3.5: 1}, arrivals: {pattern: poisson, rate: 5/s}, duration: 60 s}
"""


@pytest.fixture
def template(tmp_path: Path) -> ScenarioTemplate:
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO, "utf-8")
    return ScenarioTemplate.read(path)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("manager.policy=lru,gdsf", ["lru", "gdsf"]),
        ("devices.gpu0.memory=8GiB..24GiB:8GiB", ["8 GiB", "16 GiB", "24 GiB"]),
        ("devices.gpu0.memory=8..24GiB:8", ["8 GiB", "16 GiB", "24 GiB"]),
        ("devices.gpu0.memory=1GiB..2GiB:512MiB", ["1 GiB", "1.5 GiB", "2 GiB"]),
        ("devices.gpu0.memory=4GiB,8GiB..16GiB:8GiB", ["4GiB", "8 GiB", "16 GiB"]),
        ("seed=1..4:1", ["1", "2", "3", "4"]),
        ("workload.0.arrivals.rate=0.5/s..1.5/s:0.5/s", ["0.5/s", "1/s", "1.5/s"]),
        ("devices.gpu0.slack=0%..20%:10%", ["0%", "10%", "20%"]),
        ("a=1..2:0.4", ["1", "1.4", "1.8"]),
    ],
)
def test_lists_and_ranges_are_the_values_they_say(text: str, values: list[str]) -> None:
    assert [value.text for value in read_swept_key(text).values] == values


def test_amounts_are_in_base_units() -> None:
    key = read_swept_key("devices.gpu0.memory=1GiB,512MiB")
    assert key.quantity == "bytes"
    assert [value.amount for value in key.values] == [GIB, GIB // 2]
    assert read_swept_key("models.bert.cost.load=1s..2s:1s").values[1].amount == 2 * NS_PER_S
    assert read_swept_key("workload.0.arrivals.rate=60/min").values[0].amount == 1.0
    mixed = read_swept_key("x=lru,5")
    assert mixed.quantity == "text"
    assert [value.amount for value in mixed.values] == [None, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed", "KEY=VALUES"),
        ("=1", "KEY=VALUES"),
        ("seed=", "KEY=VALUES"),
        ("seed=1,,2", "empty value"),
        ("seed=1..5", "no step"),
        ("seed=5..1:1", "goes nowhere"),
        ("seed=1..5:0", "goes nowhere"),
        ("seed=1,1", "twice"),
        ("seed=a..b:c", "no range"),
        ("seed=1..10000000:1", "10000"),
        ("devices.gpu0.memory=1GiB..2/s:1GiB", "mixes units"),
    ],
)
def test_values_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_swept_key(text)


def test_a_value_reaches_the_place_that_its_key_names(template: ScenarioTemplate) -> None:
    scenario = template.with_values(
        {
            "devices.gpu0.memory": "8 GiB",
            "manager.max_bypass": "3",
            "models.gpt-3.5.cost.resident": "512 MiB",
            "workload.0.arrivals.rate": "7/s",
            "workload.0.mix.gpt-3.5": "9",
            "seed": "12",
        }
    )
    assert scenario.devices[0].total_bytes == 8 * GIB
    assert scenario.manager.max_bypass == 3
    assert scenario.seed == 12
    phase = scenario.workload[0]
    assert isinstance(phase, MixPhase)
    assert phase.arrivals.rate_per_s == 7
    assert dict(phase.mix)["gpt-3.5"] == 9


def test_an_aliased_value_changes_only_where_the_key_leads(template: ScenarioTemplate) -> None:
    scenario = template.with_values({"models.gpt-3.5.cost.resident": "512 MiB"})
    bert, gpt = (scenario.model(tag).cost for tag in ("bert", "gpt-3.5"))
    assert bert is not None
    assert gpt is not None
    assert (bert.resident_bytes, gpt.resident_bytes) == (GIB, GIB // 2)
    assert template.with_values({"seed": "2"}).model("gpt-3.5").cost == bert


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("device.gpu0.memory", "did you mean 'devices'"),
        ("devices.gpu1.memory", "did you mean 'gpu0'"),
        ("devices.gpu0.memry", "did you mean 'memory'"),
        ("manager.polcy", "did you mean 'policy'"),
        ("models.bart.cost.load", "did you mean 'bert'"),
        ("workload.3.arrivals.rate", "there is no '3'"),
        ("workload.0.arrivals.rat", "did you mean 'rate'"),
        ("workload.0.mix.brt", "did you mean 'bert'"),
        ("models.bert.cost", "not a single value"),
        ("manager", "manager.policy"),
        ("devices.gpu0.memory.size", "there is no 'size'"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(
    template: ScenarioTemplate, key: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as refusal:
        template.place(key)
    assert key in str(refusal.value)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("manager.policy", "lrru", "did you mean 'lru'"),
        ("devices.gpu0.memory", "8", "memory"),
        ("devices.gpu0.memory", "8 GB/s", "unit"),
        ("workload.0.arrivals.rate", "-3/s", "negative"),
        ("seed", "one", "seed"),
    ],
)
def test_a_value_that_its_key_cannot_have_is_impossible(
    template: ScenarioTemplate, key: str, text: str, message: str
) -> None:
    with pytest.raises(ImpossibleValueError, match=message) as refusal:
        template.with_values({key: text})
    assert str(refusal.value).startswith(f"{key}={text}: ")


def test_a_device_too_small_for_every_model_is_no_impossible_value(
    template: ScenarioTemplate,
) -> None:
    with pytest.raises(UsageError, match="too small for every model") as refusal:
        template.with_values({"devices.gpu0.memory": "1 GiB"})
    assert not isinstance(refusal.value, ImpossibleValueError)

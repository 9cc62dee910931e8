"""A scenario is read as it was meant, and each mistake in it gets one sentence with its place."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from modelmgr.errors import InputError
from modelmgr.records.codec import save_costs
from modelmgr.records.costs import (
    CostError,
    ModelCost,
    ShapeCost,
)
from modelmgr.records.measured import MeasuredBytes, MeasuredDuration
from modelmgr.units import GIB, MIB, NS_PER_S
from modelmgr.workload.requests import RequestSource
from modelmgr.workload.scenario import (
    BelievedCost,
    Distribution,
    MixPhase,
    Scenario,
    ScenarioDevice,
    TracePhase,
)
from modelmgr.workload.scenario_reader import parse_scenario, read_scenario
from modelmgr.workload.schema import json_schema
from support.some_database import database_of

_SHIPPED = sorted(
    path
    for path in Path(__file__).parents[2].glob("scenarios/*.yaml")
    if "workload" in yaml.safe_load(path.read_text())
)
_VALIDATOR: Any = Draft202012Validator(json_schema("scenario"))

# The documented example, but for the two files that it names.
_GOOD = """\
schema_version: 1
name: two-models-burst
seed: 1
devices:
  - {name: gpu0, memory: 24 GiB, slack: 10%}
manager: {policy: queue-value, isolation: exclusive, max_bypass: 8, min_copies: 1, max_copies: 4,
          eviction_cooldown: 10 s, wait_timeout: 300 s}
models:
  - tag: bert
    cost: {resident: 1.2 GiB, peak: 1.6 GiB, load: 2.5 s,
           service: {distribution: exponential, mean: 35 ms}}
  - {tag: gpt2, cost: {resident: 1 GiB, peak: 2 GiB, load_peak: 3 GiB, load: 1 s, service: 5 ms}}
  - {tag: stand-in, loader: synthetic, pinned: true, options: {resident: 500 MiB, load: 1 s}}
workload:
  - {mix: {bert: 3, gpt2: 1}, arrivals: {pattern: poisson, rate: 5/s}, duration: 10 min}
faults:
  - {at: 60 s, kind: worker-killed, model: bert}
"""
_BERT_COST = (
    "cost: {resident: 1.2 GiB, peak: 1.6 GiB, load: 2.5 s,\n           "
    "service: {distribution: exponential, mean: 35 ms}}"
)


def _with(old: str, new: str) -> str:
    assert old in _GOOD
    return _GOOD.replace(old, new)


def _read(text: str) -> Scenario:
    return parse_scenario(text, "s.yaml")


def test_the_documented_example_is_read() -> None:
    scenario = _read(_GOOD)
    assert scenario.devices == (
        ScenarioDevice(name="gpu0", kind="virtual", total_bytes=24 * GIB, slack=0.1),
    )
    assert (scenario.manager.max_copies, scenario.manager.cooldown_ns) == (4, 10 * NS_PER_S)
    bert, gpt2, stand_in = scenario.models
    assert bert.cost is not None
    assert bert.cost.service == Distribution(kind="exponential", mean_ns=35_000_000)
    assert gpt2.believed == BelievedCost(
        resident_bytes=GIB, peak_bytes=2 * GIB, load_peak_bytes=3 * GIB, load_ns=NS_PER_S
    )
    assert stand_in.pinned
    assert stand_in.spec is not None
    assert stand_in.cost is not None
    assert stand_in.cost.resident_bytes == 500 * MIB
    (phase,) = scenario.workload
    assert isinstance(phase, MixPhase)
    assert phase.mix == (("bert", 3.0), ("gpt2", 1.0))
    assert phase.duration_ns == 600 * NS_PER_S
    assert scenario.faults[0].at_ns == 60 * NS_PER_S
    assert _VALIDATOR.is_valid(yaml.safe_load(_GOOD))


@pytest.mark.parametrize("kind", ["load-failed", "device-lost", "foreign-memory, memory: 1 GiB"])
def test_a_fault_may_last_for_a_while_or_say_nothing_of_it(kind: str) -> None:
    once = _read(_with("worker-killed, model: bert", kind)).faults[0]
    lasting = _read(_with("worker-killed, model: bert", f"{kind}, duration: 3 s")).faults[0]
    assert (once.duration_ns, lasting.duration_ns) == (None, 3 * NS_PER_S)


def test_users_of_a_closed_loop_in_which_no_time_passes_are_refused() -> None:
    """They would ask for ever in the same nanosecond."""
    users = "bert: 0, gpt2: 1}, arrivals: {pattern: closed, concurrency: 5"
    text = _with("bert: 3, gpt2: 1}, arrivals: {pattern: poisson, rate: 5/s", users)
    assert _read(text).traffic_ends_ns == 600 * NS_PER_S
    still = text.replace("service: 5 ms", "service: 0 s")
    with pytest.raises(
        InputError, match=r"^s\.yaml:15:41: .* users neither think nor .*\ngive them"
    ):
        _read(still)
    thinking = _read(still.replace("concurrency: 5", "concurrency: 5, think: 1 ms"))
    assert thinking.traffic_ends_ns == 600 * NS_PER_S


def test_at_least_eight_scenarios_are_shipped() -> None:
    assert {path.stem for path in _SHIPPED} >= {
        "quickstart-scenario",
        "mixed-burst",
        "long-tail",
        "oom-storm",
        "two-gpus",
        "isolation-cold-start",
        "worker-faults",
        "ci-benchmark",
    }


@pytest.mark.parametrize("path", _SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_scenario_passes_reader_and_schema_and_asks_for_every_model(path: Path) -> None:
    scenario = read_scenario(path)
    assert [
        error.message for error in _VALIDATOR.iter_errors(yaml.safe_load(path.read_text()))
    ] == []
    source = RequestSource(scenario)
    asked: set[int] = set()
    while (batch := source.next_batch()) and len(asked) < len(scenario.models):
        asked |= {request[1] for request in batch}
    assert len(asked) == len(scenario.models)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("bert: 3", "brt: 3", r"^s\.yaml:15:12: there is no model 'brt'\ndid you mean 'bert'\?"),
        ("rate: 5/s", "rate: -5/s", r"^s\.yaml:15:66: .*rate: '-5/s' is negative"),
        ("rate: 5/s", "rate: 0/s", r"^s\.yaml:15:66: .*rate: must be more than 0, not '0/s'"),
        ("rate: 5/s", "rate: 1e300/s", r"^s\.yaml:15:66: .*too large"),
        ("at: 60 s, ", "rate: 1e9/s, ", r"^s\.yaml:17:.*\nfaults come at up to 1000/s"),
        ("rate: 5/s", "raet: 5/s", r"^s\.yaml:15:60: unknown key 'raet'.*\ndid you mean 'rate'\?"),
        ("rate: 5/s", "rate: 5/s, cv: 2", r"^s\.yaml:15:71: unknown key 'cv'"),
        ("24 GiB", "100 MiB", r"^s\.yaml:5:5: device 'gpu0' is too small for every model"),
        ("24 GiB", "0 GiB", r"^s\.yaml:5:26: devices\[0\]\.memory: must be more than 0"),
        ("memory: 24 GiB, ", "", r"^s\.yaml:5:5: device 'gpu0' has no 'memory'"),
        ("memory: 24 GiB, ", "kind: cuda, ", r"has no 'memory'\n.*only a real run can ask"),
        ("slack: 10%", "slack: 100%", r"^s\.yaml:5:41: devices\[0\]\.slack: leaves nothing"),
        ("slack: 10%", "slack: 110%", r"outside of 0% to 100%"),
        ("model: bert}", "model: bort}", r"^s\.yaml:17:44: there is no model 'bort'\ndid you mean"),
        ("model: bert}", "device: gpu1}", r"^s\.yaml:17:45: there is no device 'gpu1'"),
        ("at: 60 s, ", "", r"^s\.yaml:17:5: faults\[0\] has neither 'at' nor 'rate'"),
        ("at: 60 s, ", "at: 60 s, rate: 1/s, ", r"has both 'at' and 'rate'"),
        ("worker-killed, model: bert", "device-lost, model: bert", r"happens to a device"),
        ("worker-killed", "load-hangs", r"\(load-hangs\) has no 'duration'"),
        ("worker-killed", "load-hangs, duration: 0 s", r"duration: must be more than 0"),
        ("worker-killed", "worker-killed, memory: 1 GiB", r"worker-killed has no memory"),
        ("bert: 3, gpt2: 1", "bert: 0, gpt2: 0", r"^s\.yaml:15:11: workload\[0\]\.mix: every we"),
        ("bert: 3", "bert: -3", r"^s\.yaml:15:18: workload\[0\]\.mix\.bert must be at least 0"),
        ("bert: 3, gpt2: 1", "", r"^s\.yaml:15:11: workload\[0\]\.mix is empty"),
        ("tag: gpt2", "tag: bert", r"^s\.yaml:12:11: the tag 'bert' is taken by .* in line 9"),
        ("duration: 10 min", "duration: 0 s", r"^s\.yaml:15:82: .*duration: must be more than 0"),
        ("duration: 10 min", "duration: 500000 d", r"duration: .*too (long|large)"),
        ("mix: {bert", "mx: {bert", r"^s\.yaml:15:6: unknown key 'mx'.*\ndid you mean 'mix'\?"),
        ("mix: {bert", "trace: t.csv, mix: {bert", r"has both 'mix' and 'trace'"),
        ("queue-value", "lruu", r"^s\.yaml:6:19: .*unknown policy 'lruu'.*\ndid you mean 'lru'\?"),
        ("max_copies: 4", "max_copies: 1, min_copies: 2", r"'min_copies' is given twice"),
        ("min_copies: 1, max_copies: 4", "min_copies: 5, max_copies: 4", r"below min_copies \(5\)"),
        ("pinned: true", "pined: true", r"unknown key 'pined'.*\ndid you mean 'pinned'\?"),
        ("loader: synthetic", "loader: synthetics", r"loader cannot be 'synthetics'"),
        ("poisson", "poison", r"^s\.yaml:15:51: .*cannot be 'poison'\ndid you mean 'poisson'\?"),
        ("mean: 35 ms", "mean: 35", r"mean must be a duration with its unit such as '35 ms'"),
        (", mean: 35 ms", "", r"the exponential distribution has no 'mean'"),
        ("exponential, mean", "gamma, mean", r"the gamma distribution has no 'cv'"),
        ("exponential, mean", "exponential, cv: 2, mean", r"has no cv to set"),
        ("exponential, mean", "uniform, cv: 2, mean", r"a cv of at most 0\.5774, not 2"),
        ("exponential, mean: 35 ms", "empirical", r"has no 'samples'"),
        ("peak: 1.6 GiB", "peak: 1 GiB", r"peak \(1 GiB\) is below resident \(1\.2 GiB\)"),
        ("resident: 1.2 GiB", "resident: 0 GiB", r"resident: must be more than 0"),
        (_BERT_COST, "known: true", r"^s\.yaml:9:5: model 'bert' has neither 'cost' nor 'costs'"),
        (_BERT_COST, "costs: no.json", r"^s\.yaml:10:12: .*no such cost database"),
        ("tag: gpt2", "tag: gpt2, costs: no.json", r"has both 'cost' and 'costs'"),
        ("tag: gpt2", "tag: gpt2, known: false, believed: {resident: 1 GiB, peak: 1 GiB}", "known"),
        ("seed: 1", "sed: 1", r"^s\.yaml:3:1: unknown key 'sed'\ndid you mean 'seed'\?"),
        ("seed: 1", "seed: -1", r"^s\.yaml:3:7: seed must be at least 0"),
        ("schema_version: 1", "schema_version: 2", r"written for a newer modelmgr"),
        (
            "poisson, rate: 5/s",
            "burst, rate: 1/s, burst_rate: 9/s, burst: 2 s, period: 1 s",
            "longer",
        ),
        ("poisson, rate: 5/s", "closed, concurrency: 0", r"concurrency must be at least 1"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_column(old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _read(_with(old, new))


def test_two_devices_have_two_names() -> None:
    with pytest.raises(InputError, match=r"^s\.yaml:6:12: the name 'gpu0' is taken .* in line 5"):
        _read(_with("slack: 10%}", "slack: 10%}\n  - {name: gpu0, memory: 1 GiB}"))


def test_a_model_that_fits_nowhere_is_read_as_its_requests_are_to_be_refused() -> None:
    scenario = _read(
        _with("resident: 1 GiB, peak: 2 GiB, load_peak: 3 GiB", "resident: 90 GiB, peak: 90 GiB")
    )
    assert scenario.model("gpt2").cost is not None


def test_a_hundred_megabytes_of_nothing_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "nothing.yaml"
    with path.open("wb") as file:
        file.truncate(100 * MIB)
    with pytest.raises(InputError, match=r"is 100\.0 MiB large; a scenario has at most 4\.0 MiB"):
        read_scenario(path)


def test_a_real_run_asks_the_machine_and_needs_no_cost_of_what_it_can_load() -> None:
    text = _with("memory: 24 GiB, ", "kind: cuda, ").replace(
        _BERT_COST, "loader: onnx\n    model: m"
    )
    asked: list[tuple[str, str]] = []

    def machine_memory(kind: str, name: str) -> int:
        asked.append((kind, name))
        return 8 * GIB

    scenario = parse_scenario(text, purpose="run", machine_memory=machine_memory)
    assert asked == [("cuda", "gpu0")]
    assert scenario.devices[0].total_bytes == 8 * GIB
    bert = scenario.model("bert")
    assert (bert.cost, bert.believed) == (None, None)
    assert bert.spec is not None
    assert bert.spec.loader == "onnx"
    with pytest.raises(InputError, match="neither 'cost' nor 'costs'"):
        parse_scenario(text, machine_memory=machine_memory)


def test_what_is_believed_may_differ_from_the_truth_and_an_unknown_is_believed_nothing_of() -> None:
    scenario = _read(
        _with("tag: gpt2", "tag: gpt2, believed: {resident: 1 MiB, peak: 2 MiB}").replace(
            "tag: bert\n", "tag: bert\n    known: false\n"
        )
    )
    assert scenario.model("gpt2").believed == BelievedCost(
        resident_bytes=MIB, peak_bytes=2 * MIB, load_ns=NS_PER_S
    )
    assert scenario.model("bert").believed is None


def _database(path: Path) -> None:
    def size(value: int) -> MeasuredBytes:
        return MeasuredBytes(value=value, evidence="exact")

    def times(*samples: int) -> MeasuredDuration:
        return MeasuredDuration(
            median=samples[0], p95=None, min=min(samples), max=max(samples), samples=samples
        )

    def shape(batch: int, *samples: int) -> ShapeCost:
        return ShapeCost(
            dims={"sequence_length": 32, "batch_size": batch},
            activation_bytes=None,
            latency_ns=times(*samples),
            throughput_per_s=None,
        )

    bert = ModelCost(
        initial_estimate_bytes=300 * MIB,
        resident_bytes=size(200 * MIB),
        peak_bytes=size(250 * MIB),
        load_ns=times(10**9, 3 * 10**9),
        shapes=(shape(1, 10, 20), shape(4, 40)),
    )
    save_costs(
        database_of(
            {
                "bert": bert,
                "broken": ModelCost(error=CostError(kind="WorkerDiedError", message="it died")),
                "untimed": ModelCost(initial_estimate_bytes=MIB),
            }
        ),
        path,
    )


def test_costs_come_from_a_database_beside_the_scenario(tmp_path: Path) -> None:
    _database(tmp_path / "costs.json")
    path = tmp_path / "s.yaml"
    path.write_text(
        _with(_BERT_COST, "costs: costs.json").replace(
            "duration: 10 min",
            "duration: 10 min, shapes: {bert: [{shape: {batch_size: 4, sequence_length: 32}}]}",
        )
    )
    scenario = read_scenario(path)
    bert = scenario.model("bert")
    assert bert.cost is not None
    assert (bert.cost.resident_bytes, bert.cost.peak_bytes) == (200 * MIB, 250 * MIB)
    assert bert.believed == BelievedCost(
        resident_bytes=200 * MIB, peak_bytes=300 * MIB, load_ns=10**9
    )
    assert bert.cost.load.samples_ns == (10**9, 3 * 10**9)
    assert sorted(bert.cost.service.samples_ns) == [10, 20, 40]
    small = (("batch_size", 1), ("sequence_length", 32))
    assert bert.cost.service_by_shape[small].samples_ns == (10, 20)
    requests = RequestSource(scenario).next_batch()
    assert {request[2] for request in requests if request[1] == 0} == {40}


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("brt", r"s\.yaml:\d+:\d+: .*costs\.json has no model 'brt'\ndid you mean 'bert'\?"),
        ("broken", r"no usable cost of 'broken': it died"),
        ("untimed", r"has no load time of 'untimed'"),
    ],
)
def test_a_model_that_a_database_cannot_tell_of_is_refused(
    tmp_path: Path, tag: str, message: str
) -> None:
    _database(tmp_path / "costs.json")
    path = tmp_path / "s.yaml"
    path.write_text(
        _with(
            "tag: stand-in, loader: synthetic, pinned: true, "
            "options: {resident: 500 MiB, load: 1 s}",
            f"tag: {tag}, costs: costs.json",
        )
    )
    with pytest.raises(InputError, match=message):
        read_scenario(path)


def test_a_shape_that_was_not_measured_is_refused(tmp_path: Path) -> None:
    _database(tmp_path / "costs.json")
    path = tmp_path / "s.yaml"
    path.write_text(
        _with(_BERT_COST, "costs: costs.json").replace(
            "duration: 10 min", "duration: 10 min, shapes: {bert: [{shape: {batch_size: 2}}]}"
        )
    )
    with pytest.raises(
        InputError, match=r"not measured in the shape batch_size 2\nmeasured: batch"
    ):
        read_scenario(path)


_MIX = "{mix: {bert: 3, gpt2: 1}, arrivals: {pattern: poisson, rate: 5/s}, duration: 10 min}"


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        ("{trace: no.csv}", r"^\S+:15:13: workload\[0\]\.trace: there is no file 'no\.csv'"),
        ("{trace: t.parquet}", r"'t\.parquet' is no kind of trace"),
        ("{trace: t.csv, from: 5 s, until: 5 s}", r"until \(5 s\) is not after 'from'"),
        ("{trace: t.csv, speedup: 0}", r"speedup must be more than 0|above 0|at least"),
        ("{trace: t.csv, model: brt}", r"there is no model 'brt'"),
        ("{trace: t.csv, columns: {time: x}}", r"unknown key 'time' in workload\[0\]\.columns"),
        ("{trace: t.csv, columns: {t_s: x}}", r"t\.csv:1: has no column 'x' for 't_s'"),
        ("{trace: t.csv, top: 0}", r"top must be at least 1"),
    ],
)
def test_a_bad_trace_phase_is_refused_before_anything_runs(
    tmp_path: Path, phase: str, message: str
) -> None:
    (tmp_path / "t.csv").write_text("t_s,model\n0,bert\n")
    path = tmp_path / "s.yaml"
    path.write_text(_with(_MIX, phase))
    with pytest.raises(InputError, match=message):
        read_scenario(path)


def test_a_trace_phase_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("when,model\n0,bert\n")
    path = tmp_path / "s.yaml"
    path.write_text(
        _with(
            _MIX,
            "{trace: t.csv, columns: {t_s: when}, speedup: 2, from: 0 s, until: 1 h, "
            "top: 3, start: 5 s}",
        )
    )
    assert read_scenario(path).workload == (
        TracePhase(
            path=tmp_path / "t.csv",
            columns={"t_s": "when"},
            speedup=2.0,
            until_ns=3600 * NS_PER_S,
            top_models=3,
            start_ns=5 * NS_PER_S,
        ),
    )


_EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 12),
        st.text("[]{}:,-&*!|>#%@`\"'\\\n\t ~<é0123456789./eaxnGMisu\0", max_size=6),
    ),
    min_size=1,
    max_size=4,
)


@given(_EDITS)
def test_an_edited_scenario_is_read_or_refused_with_a_place(
    edits: list[tuple[float, int, str]],
) -> None:
    text = _GOOD
    for share, removed, inserted in edits:
        at = int(share * len(text))
        text = text[:at] + inserted + text[at + removed :]
    with contextlib.suppress(InputError):
        _read(text)

"""A trace is streamed as it is written, and its first bad row is named."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from modelmgr.errors import InputError
from modelmgr.units import NS_PER_S
from modelmgr.workload.requests import RequestSource
from modelmgr.workload.scenario import (
    Arrivals,
    Distribution,
    ManagerOptions,
    Scenario,
    ScenarioCost,
    ScenarioModel,
    TracePhase,
)
from modelmgr.workload.traces import count_models, read_trace, top_models
from support.traffic import mix, scenario, traffic

_ROWS: list[dict[str, Any]] = [
    {"t_s": 0, "model": "a", "duration_s": 1.5},
    {"t_s": 0.25, "model": "b", "duration_s": 2},
    {"t_s": 0.25, "model": "a", "duration_s": 0},
    {"t_s": 7, "model": "c", "duration_s": 0.001},
    {"t_s": 9.5, "model": "a", "duration_s": 3},
]


def _csv(rows: list[dict[str, Any]]) -> str:
    lines = [",".join(rows[0]), *(",".join(str(cell) for cell in row.values()) for row in rows)]
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def _times(phase: TracePhase) -> list[float]:
    return [request[0] / NS_PER_S for request in traffic([phase])]


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.jsonl", "t.jsonl.gz"])
def test_every_kind_of_file_gives_the_same_requests(tmp_path: Path, name: str) -> None:
    text = "".join(json.dumps(row) + "\n" for row in _ROWS) if "jsonl" in name else _csv(_ROWS)
    phase = TracePhase(path=_write(tmp_path / name, text))
    assert [request[:3] for request in traffic([phase])] == [
        (0, 0, 1_500_000_000),
        (250_000_000, 1, 2_000_000_000),
        (250_000_000, 0, 0),
        (7_000_000_000, 2, 1_000_000),
        (9_500_000_000, 0, 3_000_000_000),
    ]


def test_columns_may_have_other_names_and_further_ones_are_left_alone(tmp_path: Path) -> None:
    path = _write(tmp_path / "t.csv", "who,what,when\nx,a,1\ny,b,2\n")
    phase = TracePhase(path=path, columns={"t_s": "when", "model": "what"})
    assert [(row.at_ns, row.model) for row in read_trace(phase)] == [
        (NS_PER_S, "a"),
        (2 * NS_PER_S, "b"),
    ]


def test_a_file_without_models_is_all_of_one(tmp_path: Path) -> None:
    path = _write(tmp_path / "t.csv", "t_s\n1\n2\n")
    assert [request[1] for request in traffic([TracePhase(path=path, model="b")])] == [1, 1]


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_a_model_that_the_phase_names_is_every_rows_whatever_the_file_says(
    tmp_path: Path, name: str
) -> None:
    text = "".join(json.dumps(row) + "\n" for row in _ROWS) if "jsonl" in name else _csv(_ROWS)
    phase = TracePhase(path=_write(tmp_path / name, text), model="b")
    assert {request[1] for request in traffic([phase])} == {1}


def test_speedup_slice_and_start_say_when_a_row_happens(tmp_path: Path) -> None:
    path = _write(tmp_path / "t.csv", _csv(_ROWS))
    assert _times(TracePhase(path=path, speedup=2)) == [0, 0.125, 0.125, 3.5, 4.75]
    sliced = TracePhase(
        path=path, from_ns=NS_PER_S // 4, until_ns=9 * NS_PER_S, start_ns=100 * NS_PER_S
    )
    assert _times(sliced) == [100, 100, 106.75]


def test_only_the_most_frequent_models_are_kept(tmp_path: Path) -> None:
    path = _write(tmp_path / "t.csv", _csv(_ROWS))
    phase = TracePhase(path=path, top_models=2)
    assert count_models(phase) == {"a": 3, "b": 1, "c": 1}
    assert top_models(phase) == ["a", "b"]
    assert [request[1] for request in traffic([phase], ["a", "b"])] == [0, 1, 0, 0]


def test_the_phase_after_a_trace_begins_when_it_ends(tmp_path: Path) -> None:
    path = _write(tmp_path / "t.csv", _csv(_ROWS))
    after = mix({"b": 1}, Arrivals(pattern="constant", rate_per_s=10), seconds=1)
    of_after = [request[0] for request in traffic([TracePhase(path=path), after])][5:]
    assert len(of_after) == 10
    assert 9.5 * NS_PER_S < of_after[0] < 9.7 * NS_PER_S
    bounded = traffic([TracePhase(path=path, until_ns=20 * NS_PER_S), after])
    assert bounded[5][0] >= 20 * NS_PER_S


def _tokens_scenario(path: Path, cost: Mapping[str, Any]) -> RequestSource:
    fixed = Distribution(kind="constant", mean_ns=1000)
    model = ScenarioModel(
        tag="a",
        cost=ScenarioCost(resident_bytes=1, peak_bytes=1, load=fixed, service=fixed, **cost),
        believed=None,
    )
    return RequestSource(
        Scenario(
            name="t",
            seed=1,
            devices=(),
            manager=ManagerOptions(),
            models=(model,),
            workload=(TracePhase(path=path),),
        )
    )


def test_tokens_add_to_the_service_time(tmp_path: Path) -> None:
    path = _write(tmp_path / "t.csv", "t_s,model,input_tokens,output_tokens\n0,a,100,7\n1,a,3,\n")
    source = _tokens_scenario(path, {"per_input_token_ns": 10, "per_output_token_ns": 1000})
    assert [request[2] for request in source.next_batch()] == [1000 + 1000 + 7000, 1000 + 30]


def test_a_prompt_runs_in_the_measured_shape_that_holds_it(tmp_path: Path) -> None:
    rows = "".join(f"{at},a,{tokens}\n" for at, tokens in enumerate((1, 32, 33, 900)))
    path = _write(tmp_path / "t.csv", f"t_s,model,input_tokens\n{rows}")
    shapes = {
        (("batch_size", batch), ("sequence_length", length)): Distribution(
            kind="constant", mean_ns=length * batch
        )
        for batch in (4, 1)
        for length in (128, 32)
    }
    source = _tokens_scenario(path, {"service_by_shape": shapes})
    assert [request[2] for request in source.next_batch()] == [32, 32, 128, 128]


def test_clocks_that_disagree_by_less_than_a_second_are_simultaneous(tmp_path: Path) -> None:
    path = _write(tmp_path / "t.csv", "t_s,model\n5,a\n4.5,b\n5.5,a\n")
    assert _times(TracePhase(path=path)) == [5, 5, 5.5]


_HEAD = "t_s,model,duration_s\n0,a,1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_HEAD + "x,a,1\n", r"t.csv:3: row 2: 't_s' must be a number of seconds, not the text 'x'"),
        (_HEAD + "nan,a,1\n", r"t.csv:3: row 2: 't_s' must be a number of seconds"),
        (_HEAD + "1,a,-1\n", r"t.csv:3: row 2: 'duration_s' is negative: -1"),
        (_HEAD + "1,a,-1e-9\n", r"t.csv:3: row 2: 'duration_s' is negative: -1e-09"),
        (_HEAD + "1,a,1e15\n", r"t.csv:3: row 2: 'duration_s' is too large: 1e\+15 s; at most 100"),
        (_HEAD + "1e12,a,1\n", r"t.csv:3: row 2: 't_s' is too large: 1e\+12 s; .* in seconds"),
        ("t_s,model,input_tokens\n0,a,-1\n", r"t.csv:2: row 1: 'input_tokens' is negative: -1"),
        ("t_s,model,output_tokens\n0,a,1e3\n", r"'output_tokens' must be a whole number"),
        ("t_s,model,input_tokens\n0,a," + "9" * 30 + "\n", r"'input_tokens' is too large: 1e\+30"),
        ("t_s,model,t_s\n0,a,1\n", r"t.csv:1: has 2 columns 't_s'\ngive each its own name"),
        (_HEAD + "-1,a,1\n", r"t.csv:3: row 2: 't_s' is negative: -1 s"),
        (_HEAD + "9,a,1\n7,a,1\n", r"t.csv:4: row 3: time goes back from 9 s to 7 s; sort"),
        (_HEAD + "1_0,a,1\n", r"t.csv:3: row 2: 't_s' must be a number of seconds, not the text"),
        (_HEAD + "\u0661,a,1\n", r"t.csv:3: row 2: 't_s' must be a number of seconds, not the"),
        (_HEAD + "1,a,1_0\n", r"t.csv:3: row 2: 'duration_s' must be a number of seconds, not"),
        ("t_s,model,input_tokens\n0,a,1_0\n", r"'input_tokens' must be a whole number, not"),
        (_HEAD + "1,a\n", r"t.csv:3: row 2: has 2 cells, and the header 3"),
        (_HEAD + "1,,1\n", r"t.csv:3: row 2: 'model' is empty"),
        (_HEAD + "1,aa,1\n", r"t.csv:3: row 2: the scenario has no model 'aa'\ndid you mean 'a'\?"),
        ("time,model\n1,a\n", r"t.csv:1: has no column 't_s'\n.*did you mean|known: time, model"),
        ("t_s,modell\n1,a\n", r"t.csv:1: has no column 'model'\ndid you mean 'modell'\?"),
        ("t_s,model\n", r"t.csv: has no rows\ncheck that this is the trace"),
        ("", r"t.csv:1: has no column 't_s'\nnothing stands there"),
        ("\0" * 300_000, r"t.csv"),
        (_HEAD + "1," + "a" * 200_000 + ",1\n", r"t.csv:3: row 2: "),
    ],
)
def test_a_bad_row_is_named_with_its_number(tmp_path: Path, text: str, message: str) -> None:
    path = _write(tmp_path / "t.csv", text)
    with pytest.raises(InputError, match=message):
        traffic([TracePhase(path=path)])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", r"row 2: is no JSON object on one line"),
        ("[1, 2]", r"row 2: is no JSON object on one line"),
        ('{"model": "a"}', r"t.jsonl:2: has no column 't_s'"),
        ('{"t_s": 1}', r"t.jsonl:2: has no column 'model'"),
        ('{"t_s": 1, "model": 7}', r"row 2: 'model' is empty or no text"),
        ('{"t_s": [], "model": "a"}', r"row 2: 't_s' must be a number of seconds, not a list"),
        ('{"t_s": true, "model": "a"}', r"row 2: 't_s' must be a number of seconds, not true"),
        (
            '{"t_s": 1, "model": "a", "input_tokens": 5.7}',
            r"row 2: 'input_tokens' must be a whole number, not 5.7",
        ),
        ("[" * 5000, r"row 2: is no JSON object on one line"),
    ],
)
def test_a_bad_json_line_is_named_with_its_number(tmp_path: Path, line: str, message: str) -> None:
    path = _write(tmp_path / "t.jsonl", '{"t_s": 0, "model": "a"}\n' + line + "\n")
    with pytest.raises(InputError, match=message):
        traffic([TracePhase(path=path)])


def test_a_bad_row_is_found_when_its_time_comes(tmp_path: Path) -> None:
    rows = "".join(f"{at},a\n" for at in range(10_000))
    path = _write(tmp_path / "t.csv", "t_s,model\n" + rows + "oops,a\n")
    source = RequestSource(scenario([TracePhase(path=path)], ["a"]))
    assert source.next_batch()
    with pytest.raises(InputError, match=r":10002: row 10001:"):
        list(iter(source.next_batch, []))


@pytest.mark.parametrize("cut", [0, 5, 30])
def test_half_a_gzip_file_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(_csv(_ROWS).encode())[:cut] if cut else b"t_s,model\n")
    with pytest.raises(InputError, match=r"t\.csv\.gz: is no whole gzip file"):
        traffic([TracePhase(path=path)])


def test_tokens_of_json_may_be_written_with_a_point(tmp_path: Path) -> None:
    path = _write(tmp_path / "t.jsonl", '{"t_s": 0, "model": "a", "input_tokens": 5.0}\n')
    assert [row.input_tokens for row in read_trace(TracePhase(path=path))] == [5]


def test_a_trace_that_is_slowed_down_beyond_all_times_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "t.csv", "t_s,model\n0,a\n100,a\n")
    with pytest.raises(InputError, match=r":3: row 2: .* 100 years later: 'speedup' is 1e-09"):
        traffic([TracePhase(path=path, speedup=1e-9)])


def test_a_slice_without_rows_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "t.csv", _csv(_ROWS))
    with pytest.raises(InputError, match="no row in the slice"):
        traffic([TracePhase(path=path, from_ns=100 * NS_PER_S)])


def test_a_long_trace_is_never_held_whole(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    with path.open("w") as file:
        file.write("t_s,model\n")
        file.writelines(f"{at},a\n" for at in range(60_000))
    source = RequestSource(scenario([TracePhase(path=path)], ["a"]))
    tracemalloc.start()
    count = 0
    while batch := source.next_batch():
        count += len(batch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 60_000
    assert peak < 2_000_000  # all of it at once would be nine times as much

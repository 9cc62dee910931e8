"""Comparing results: what is simulated is compared exactly, and decisions one by one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmgr.comparing.compare import compare_results
from modelmgr.comparing.comparison import Comparison
from modelmgr.comparing.thresholds import Thresholds, read_thresholds
from modelmgr.errors import InputError
from modelmgr.records.costs import DeviceInfo, Eviction, EvictionCandidate, MachineInfo, ToolInfo
from modelmgr.records.result import (
    DeviceUse,
    DurationFigures,
    Mode,
    ModelUse,
    RequestCounts,
    Result,
)
from modelmgr.reporting.comparison_words import remarks

MS = 1_000_000


def lasting(*samples: int) -> DurationFigures:
    ordered = sorted(samples)
    count = len(ordered)
    return DurationFigures(
        count=count,
        mean=sum(ordered) // count,
        median=ordered[count // 2],
        p95=ordered[min(count - 1, round(count * 0.95))],
        p99=None,
        min=ordered[0],
        max=ordered[-1],
        samples=samples,
    )


def result(mode: Mode = "simulate", **changes: object) -> Result:
    waits = lasting(*range(10 * MS, 110 * MS, MS))
    whole = Result(
        mode=mode,
        scenario="burst",
        seed=1,
        policy="queue-value",
        started_at=None,
        tool=ToolInfo(name="modelmgr", version="0.1.0"),
        machine=None if mode == "simulate" else machine(),
        duration_ns=10**10,
        requests=RequestCounts(
            total=100, completed=98, timed_out=1, refused=0, failed=0, cancelled=1
        ),
        loads=10,
        hits=90,
        evictions=6,
        oom_events=0,
        reload_cost_ns=10**10,
        wait_ns=waits,
        latency_ns=waits,
        devices={"gpu0": DeviceUse(limit_bytes=10**10, peak_bytes=9 * 10**9, mean_bytes=10**9)},
        models={
            tag: ModelUse(requests=50, loads=5, hits=45, evictions=3, wait_ns=waits)
            for tag in ("a", "b")
        },
        decisions_sha256="sha256:" + "0" * 64,
        decisions=116,
    )
    return msgspec.structs.replace(whole, **changes)


def machine(cpu: str = "EPYC") -> MachineInfo:
    device = DeviceInfo(kind="host", name="host", total_bytes=2**34)
    return MachineInfo(os="Linux 6.1", cpu=cpu, python="3.11.7", packages={}, device=device)


def gate(*texts: str) -> Thresholds:
    return read_thresholds(texts, "result")


def failed(found: Comparison) -> set[str]:
    return {each.figure for each in found.figures if each.failed}


def eviction(at_ns: int, tag: str = "a", copy: int = 1, value: float = 1.0) -> Eviction:
    return Eviction(
        at_ns=at_ns,
        device="gpu0",
        tag=tag,
        copy=copy,
        reason="make-room",
        requested_by="c",
        freed_bytes=10**9,
        candidates=(EvictionCandidate(tag=tag, copy=copy, value=value, size_bytes=10**9),),
        chosen=(copy,),
    )


def log_line(at_ns: int, action: str = "grant", tag: str = "a", copy: int = 1) -> bytes:
    return msgspec.json.encode(
        {"at_ns": at_ns, "action_id": at_ns, "action": action, "tag": tag, "copy": copy,
         "device": "gpu0"}
    )  # fmt: skip


OTHER_HASH = "sha256:" + "1" * 64


@given(st.integers(0, 10**12), st.integers(0, 3), st.sampled_from(["simulate", "run"]))
@settings(deadline=None, max_examples=40)
def test_a_result_compared_with_itself_never_fails(cost_ns: int, oom: int, mode: Mode) -> None:
    same = result(mode, reload_cost_ns=cost_ns, oom_events=oom)
    strict = gate(
        *("decisions", "wait_ns.p95", "latency_ns.max:0", "reload_cost_ns:0", "hits:0"),
        *("models.wait_ns.p95:0", "devices.peak_bytes", "requests.total", "oom_events"),
    )
    for thresholds in (None, strict):
        found = compare_results(same, same, thresholds, keep_same=True)
        assert found.ending == "fine"
        assert found.counts["same"] == sum(found.counts.values())
        assert found.decisions is not None
        assert found.decisions.verdict == "same"


@given(st.integers(1, 10**15), st.integers(0, 10_000))
@settings(deadline=None)
def test_a_simulated_figure_is_judged_exactly_at_its_limit(old_ns: int, basis: int) -> None:
    thresholds = gate(f"reload_cost_ns:{basis / 100}%")
    edge = old_ns + old_ns * basis // 10_000
    old = result(reload_cost_ns=old_ns)
    assert compare_results(old, result(reload_cost_ns=edge), thresholds).ending == "fine"
    beyond = compare_results(old, result(reload_cost_ns=edge + 1), thresholds)
    assert beyond.ending == "regression"
    assert beyond.figures[0].exact


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 100), st.integers(0, 100))
@settings(deadline=None)
def test_swapping_simulated_sides_turns_worse_into_better(
    old_loads: int, new_loads: int, old_hits: int, new_hits: int
) -> None:
    old, new = result(loads=old_loads, hits=old_hits), result(loads=new_loads, hits=new_hits)
    thresholds = gate("loads:5%", "hits:5%")

    def verdicts(found: Comparison, verdict: str) -> set[str]:
        return {each.figure for each in found.figures if each.verdict == verdict}

    there, back = compare_results(old, new, thresholds), compare_results(new, old, thresholds)
    assert verdicts(there, "worse") == verdicts(back, "better")
    assert verdicts(there, "better") == verdicts(back, "worse")


def test_fewer_hits_are_worse_and_more_are_better() -> None:
    assert failed(compare_results(result(), result(hits=89), gate("hits"))) == {"hits"}
    assert compare_results(result(), result(hits=91), gate("hits")).ending == "fine"


def test_a_worse_policy_fails_by_default_and_is_named() -> None:
    worse = result(policy="lru", reload_cost_ns=2 * 10**10, loads=20)
    found = compare_results(result(), worse)
    assert found.ending == "regression"
    assert failed(found) == {"reload_cost_ns"}
    assert [(each.name, each.new) for each in found.mismatches] == [("policy", "lru")]


@pytest.mark.parametrize(
    "changes",
    [{"seed": 2}, {"scenario": "tail"}, {"partial": True}, {"mode": "run"}],
    ids=["seed", "scenario", "interrupted", "mode"],
)
def test_results_of_other_traffic_have_nothing_in_common(changes: dict[str, object]) -> None:
    other = msgspec.structs.replace(
        result(reload_cost_ns=10**11, decisions_sha256=OTHER_HASH), **changes
    )
    found = compare_results(result(), other, gate("reload_cost_ns:0", "decisions"))
    assert found.ending == "nothing-in-common"
    assert found.mismatches[0].touches == "all"
    allowed = compare_results(result(), other, gate("hits:0"), allow_mismatch=True)
    assert allowed.ending in {"fine", "inconclusive"}


def requests(total: int, **by_model: int) -> dict[str, Any]:
    counts = msgspec.structs.replace(result().requests, total=total, completed=total - 2)
    models = {
        tag: msgspec.structs.replace(result().models["a"], requests=count)
        for tag, count in by_model.items()
    }
    return {"requests": counts, "models": models}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (requests(10, a=5, b=5), "another traffic: 100 requests, now 10 requests (no figure"),
        (requests(100, a=90, b=10), "another traffic: 50 requests of a, now 90 requests of a (no"),
        (
            requests(150, a=50, b=50, c=50),
            "another traffic: 100 requests, now 150 requests (no figure",
        ),
    ],
    ids=["less", "another mix", "another model"],
)
def test_other_traffic_under_the_same_name_is_not_comparable(
    changes: dict[str, Any], told: str
) -> None:
    """A tenth of the requests was six figures better, and nothing said that fewer had come."""
    found = compare_results(result(), result(reload_cost_ns=1, **changes))
    assert found.ending == "nothing-in-common"
    assert next(remarks(found)).text.startswith(told)
    allowed = compare_results(result(), result(**changes), allow_mismatch=True)
    assert allowed.ending == "fine"


def test_how_much_was_asked_is_compared_whatever_was_asked() -> None:
    fewer = result(**requests(10, a=5, b=5))
    assert failed(compare_results(result(), fewer, gate("requests.total"))) == {"requests.total"}


def test_a_little_more_traffic_is_said_and_judged() -> None:
    """Users who ask again once they are answered ask less often of a slower scheduler."""
    slower = result(reload_cost_ns=10**12, **requests(95, a=45, b=50))
    found = compare_results(result(), slower)
    assert failed(found) == {"reload_cost_ns"}
    (remark,) = (each.text for each in remarks(found) if "traffic" in each.text)
    assert remark == "another traffic: 100 requests, now 95 requests (what it changes is judged)"


def test_a_changed_setting_is_not_said_to_change_nothing() -> None:
    """Of the policy that had made the reloads dearer it said that no figure depended on it."""
    larger = DeviceUse(limit_bytes=2 * 10**10, peak_bytes=9 * 10**9, mean_bytes=10**9)
    found = compare_results(result(), result(policy="lru", devices={"gpu1": larger}))
    assert [each.text for each in remarks(found) if each.text.startswith("another")] == [
        "another policy: queue-value, now lru (what it changes is judged)",
        "another devices.gpu0.limit_bytes: 9.3 GiB, now none (what it changes is judged)",
        "another devices.gpu1.limit_bytes: none, now 18.6 GiB (what it changes is judged)",
    ]


def test_what_moved_of_one_model_is_shown_though_nothing_gates_it() -> None:
    """One of twenty models waited twenty times as long, and no line named it."""
    waits = lasting(*range(200 * MS, 2200 * MS, 20 * MS))
    worse = ModelUse(requests=50, loads=5, hits=0, evictions=3, wait_ns=waits)
    found = compare_results(result(), result(models={**result().models, "b": worse}))
    shown = {(each.model, each.figure, each.verdict) for each in found.figures}
    assert {("b", "hits", "worse"), ("b", "wait_ns.mean", "worse")} <= shown
    assert {each.model for each in found.figures} == {"b"}
    of_all = result(loads=11, models={**result().models, "b": worse})
    first = compare_results(result(), of_all).figures[0]
    assert (first.model, first.figure) == (None, "loads")
    assert not any(each.gated for each in found.figures)
    assert found.ending == "fine"
    every = compare_results(result(), result(), keep_same=True)
    assert {each.model for each in every.figures} == {None, "a", "b"}


def test_two_interrupted_results_are_comparable_only_if_they_end_at_the_same_time() -> None:
    old = result(partial=True)
    other = result(partial=True, duration_ns=10**9, reload_cost_ns=10**11)
    found = compare_results(old, other)
    assert (found.ending, found.mismatches[0].name) == ("nothing-in-common", "interrupted")
    assert compare_results(old, result(partial=True)).ending == "fine"


def test_a_threshold_of_a_model_that_nobody_has_is_said_to_gate_nothing() -> None:
    found = compare_results(result(), result(), gate("bret:wait_ns.p95:3%", "reload_cost_ns"))
    assert (found.ending, found.unused) == ("fine", ("bret:models.wait_ns.p95:3%",))
    assert any("bret:models.wait_ns.p95:3% gates nothing" in each.text for each in remarks(found))


def test_a_threshold_of_a_model_that_is_never_served_is_said_to_gate_nothing() -> None:
    never = msgspec.structs.replace(result().models["a"], wait_ns=None)
    same = result(models={**result().models, "image": never})
    nothing = "image:models.wait_ns.p95:10%"
    alone = compare_results(same, same, gate("image:wait_ns.p95:10%"))
    assert (alone.ending, alone.unused) == ("nothing-in-common", (nothing,))
    beside = compare_results(same, same, gate("image:wait_ns.p95:10%", "decisions"))
    assert (beside.ending, beside.unused) == ("fine", (nothing,))
    assert compare_results(same, same).unused == ()


def test_a_real_run_of_another_machine_is_not_comparable_but_its_failures_are_facts() -> None:
    other = result("run", machine=machine("Xeon"), oom_events=2, loads=99)
    found = compare_results(result("run"), other)
    assert found.ending == "nothing-in-common"
    assert "not-comparable" in {each.verdict for each in found.figures}
    here = compare_results(result("run"), result("run", oom_events=2))
    assert failed(here) == {"oom_events"}


def test_waits_of_a_real_run_are_judged_with_their_noise() -> None:
    slower = lasting(*range(30 * MS, 330 * MS, 3 * MS))
    found = compare_results(result("run"), result("run", wait_ns=slower), gate("wait_ns.p95:10%"))
    assert failed(found) == {"wait_ns.p95"}
    (figure,) = (each for each in found.figures if each.failed)
    assert figure.interval_99 is not None
    assert figure.interval_99[0] > 0.1


def test_waits_that_were_none_can_be_judged() -> None:
    none = lasting(*[0] * 100)
    some = lasting(*[20 * MS + n for n in range(100)])
    old, new = result("run", wait_ns=none), result("run", wait_ns=some)
    assert failed(compare_results(old, new, gate("wait_ns:5ms"))) == {"wait_ns"}
    assert compare_results(new, old, gate("wait_ns:5ms")).counts["better"] >= 1


def test_loads_of_a_real_run_have_no_noise_to_ask_for() -> None:
    found = compare_results(result("run"), result("run", loads=30), gate("loads:10%"))
    assert found.ending == "inconclusive"


def test_a_model_of_a_result_that_vanished_fails() -> None:
    alone = result(models={"a": result().models["a"]})
    found = compare_results(result(), alone)
    assert (found.ending, found.vanished) == ("regression", ("b",))


def test_a_models_own_figures_have_thresholds() -> None:
    worse = result().models["b"]
    models = {**result().models, "b": msgspec.structs.replace(worse, loads=6)}
    found = compare_results(result(), result(models=models), gate("b:loads:0"))
    assert [(each.model, each.figure) for each in found.figures if each.failed] == [("b", "loads")]
    found = compare_results(result(), result(models=models), gate("models.loads:0"))
    assert found.ending == "regression"
    assert compare_results(result(), result(models=models), gate("a:loads:0")).ending == "fine"


def test_the_first_differing_decision_comes_with_what_led_to_it() -> None:
    shared = [log_line(at_ns) for at_ns in range(10)]
    old_trace = (eviction(5), eviction(20, "a", 7, value=3.0))
    new_trace = (eviction(5), eviction(21, "b", 8, value=4.0))
    old_log = [*shared, log_line(20, "start_unload", "a", 7), log_line(30)]
    new_log = [*shared, log_line(21, "start_unload", "b", 8), log_line(30)]
    found = compare_results(
        result(evictions_trace=old_trace),
        result(evictions_trace=new_trace, decisions_sha256=OTHER_HASH),
        gate("decisions"),
        logs=lambda: (old_log, new_log),
    )
    assert found.ending == "regression"
    decisions = found.decisions
    assert decisions is not None
    assert (decisions.source, decisions.index, decisions.at_ns) == ("log", 10, 20)
    assert decisions.old is not None
    assert decisions.new is not None
    assert [each["at_ns"] for each in decisions.old.before] == [6, 7, 8, 9]
    assert decisions.old.decision == msgspec.json.decode(old_log[10])
    assert decisions.new.decision == msgspec.json.decode(new_log[10])
    assert decisions.old.candidates is not None
    assert decisions.new.candidates is not None
    assert decisions.old.candidates[0]["value"] == 3.0
    assert decisions.new.candidates[0]["value"] == 4.0
    assert decisions.reason is None


def test_the_same_decisions_in_another_order_are_called_that() -> None:
    lines = [log_line(at_ns, tag=tag) for at_ns, tag in enumerate("aabbab")]
    moved = [lines[0], lines[2], lines[1], *lines[3:]]
    found = compare_results(
        result(),
        result(decisions_sha256=OTHER_HASH),
        gate("decisions"),
        logs=lambda: (lines, moved),
    )
    assert found.ending == "regression"
    assert found.decisions is not None
    assert found.decisions.index == 1
    assert found.decisions.reason == "the same decisions in another order"


def test_a_log_that_ends_early_has_no_further_decision() -> None:
    lines = [log_line(at_ns) for at_ns in range(4)]
    found = compare_results(
        result(), result(decisions_sha256=OTHER_HASH), logs=lambda: (lines, lines[:3])
    )
    assert found.decisions is not None
    assert found.decisions.new is not None
    assert found.decisions.new.decision is None
    assert found.decisions.index == 3


def test_a_log_with_something_else_in_it_is_bad_input() -> None:
    lines = [log_line(1)]
    with pytest.raises(InputError, match="no decision"):
        compare_results(
            result(), result(decisions_sha256=OTHER_HASH), logs=lambda: (lines, [b"[1]\n"])
        )


def test_without_logs_the_evictions_say_where_it_began() -> None:
    trace = tuple(eviction(at_ns) for at_ns in range(6))
    other = (*trace[:5], eviction(9, "b", 2))
    found = compare_results(
        result(evictions_trace=trace),
        result(evictions_trace=other, decisions_sha256=OTHER_HASH),
    )
    assert found.decisions is not None
    assert (found.decisions.source, found.decisions.index) == ("evictions", 5)
    assert found.decisions.old is not None
    assert len(found.decisions.old.before) == 4


def test_other_decisions_are_told_and_fail_only_where_that_is_asked() -> None:
    other = result(decisions_sha256=OTHER_HASH)
    told = compare_results(result(), other)
    assert told.ending == "fine"
    assert told.decisions is not None
    assert (told.decisions.verdict, told.decisions.failed) == ("differs", False)
    assert compare_results(result(), other, gate("decisions")).ending == "regression"


def test_real_runs_decide_by_their_clocks() -> None:
    found = compare_results(
        result("run"), result("run", decisions_sha256=OTHER_HASH), gate("decisions")
    )
    assert found.decisions is not None
    assert found.decisions.verdict == "not-comparable"
    assert found.ending == "nothing-in-common"


def test_the_default_thresholds_are_those_of_the_mode() -> None:
    worse_waits = result(wait_ns=lasting(*range(20 * MS, 220 * MS, 2 * MS)))
    assert failed(compare_results(result(), worse_waits)) == {"wait_ns.mean", "wait_ns.p95"}

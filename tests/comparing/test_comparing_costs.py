"""Comparing cost databases: what is worse is said, and noise is never taken for it."""

from __future__ import annotations

import random
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmgr.comparing.compare import compare_costs, ledger_growth
from modelmgr.comparing.comparison import Comparison
from modelmgr.comparing.thresholds import Thresholds, read_thresholds
from modelmgr.records.costs import (
    Copies,
    CostDatabase,
    CostError,
    DeviceInfo,
    Ledger,
    MachineInfo,
    ModelCost,
    ShapeCost,
    ToolInfo,
    Unload,
)
from modelmgr.records.measured import MeasuredBytes, MeasuredDuration
from modelmgr.units import MIB
from support.record_strategies import DATABASES

MS = 1_000_000


def machine(**changes: object) -> MachineInfo:
    device = DeviceInfo(kind="host", name="host", total_bytes=2**34)
    whole = MachineInfo(
        os="Linux 6.1", cpu="EPYC", python="3.11.7", packages={"torch": "2.13"}, device=device
    )
    return msgspec.structs.replace(whole, **changes)


def database(**models: ModelCost) -> CostDatabase:
    return database_on(machine(), models)


def database_on(where: MachineInfo, models: Mapping[str, ModelCost]) -> CostDatabase:
    return CostDatabase(
        created_at="2026-01-01T00:00:00Z",
        tool=ToolInfo(name="modelmgr", version="0.1.0"),
        machine=where,
        models=dict(models),
    )


def measured(value: float, noise: float = 0.001, seed: int = 0, count: int = 3) -> MeasuredBytes:
    drawn = random.Random(f"{value} {seed}")
    samples = tuple(round(value * drawn.gauss(1, noise)) for _ in range(count))
    return MeasuredBytes(
        value=sorted(samples)[count // 2], evidence="sampled", samples=samples, interval_95=None
    )


def lasting(value: float, noise: float = 0.03, seed: int = 0, count: int = 30) -> MeasuredDuration:
    drawn = random.Random(f"{value} {seed}")
    samples = tuple(round(value * (1 + abs(drawn.gauss(0, noise)))) for _ in range(count))
    ordered = sorted(samples)
    return MeasuredDuration(
        median=ordered[count // 2], p95=None, min=ordered[0], max=ordered[-1], samples=samples
    )


def cost(
    seed: int = 0, *, memory: float = 1.0, activation: float = 1.0, time: float = 1.0
) -> ModelCost:
    weights = round(100 * MIB * memory)
    peak = measured(120 * MIB * memory, seed=seed)
    return ModelCost(
        initial_estimate_bytes=round(130 * MIB * memory),
        resident_bytes=measured(105 * MIB * memory, seed=seed),
        peak_bytes=peak,
        load_peak_bytes=measured(140 * MIB * memory, seed=seed),
        ledger=Ledger(
            runtime_bytes=MIB,
            weights_bytes=weights,
            activation_bytes=0,
            cache_bytes=0,
            unaccounted_bytes=peak.value - weights - MIB,
        ),
        copies=Copies(second_copy_bytes=measured(101 * MIB * memory, seed=seed)),
        shapes=tuple(
            ShapeCost(
                dims={"batch_size": batch},
                activation_bytes=measured(
                    batch * 4 * MIB * (activation if batch == 4 else 1.0), seed=seed
                ),
                latency_ns=lasting(batch * 3 * MS * time, seed=seed),
                throughput_per_s=None,
            )
            for batch in (1, 4, 16)
        ),
        load_ns=lasting(2000 * MS * time, seed=seed, count=3),
        unload=Unload(reclaim_ns=lasting(50 * MS, seed=seed, count=3), residue_bytes=0),
        observations=3,
    )


def gate(*texts: str) -> Thresholds:
    return read_thresholds(texts, "costs")


def worse(found: Comparison) -> set[tuple[str | None, str]]:
    return {(each.model, each.figure) for each in found.figures if each.failed}


_SCALES = st.floats(0.6, 1.6)


def test_two_measurements_of_the_same_models_are_the_same() -> None:
    old = database(a=cost(1), b=cost(2), c=cost(3))
    new = database(a=cost(4), b=cost(5), c=cost(6))
    found = compare_costs(old, new)
    assert found.ending == "fine"
    assert found.counts["worse"] == found.counts["better"] == 0


@pytest.mark.parametrize(
    ("changed", "figure"),
    [
        (cost(9, memory=1.1), "peak_bytes"),
        (cost(9, activation=1.1), "shapes[batch_size=4].activation_bytes"),
        (cost(9, time=1.15), "shapes[batch_size=16].latency_ns"),
    ],
    ids=["ten per cent larger", "one activation ten per cent larger", "15 per cent slower"],
)
def test_a_planted_regression_is_caught_and_named(changed: ModelCost, figure: str) -> None:
    found = compare_costs(database(a=cost(1), b=cost(2)), database(a=changed, b=cost(5)))
    assert found.ending == "regression"
    assert ("a", figure) in worse(found)
    assert {model for model, _ in worse(found)} == {"a"}


def test_an_activation_that_grew_at_one_shape_fails_at_that_shape_alone() -> None:
    found = compare_costs(database(a=cost(1)), database(a=cost(9, activation=1.1)))
    assert worse(found) == {("a", "shapes[batch_size=4].activation_bytes")}


def test_what_stays_behind_after_an_unload_is_a_leak() -> None:
    leaking = msgspec.structs.replace(cost(1), unload=Unload(residue_bytes=5 * MIB))
    found = compare_costs(database(a=cost(1)), database(a=leaking))
    assert worse(found) == {("a", "unload.residue_bytes")}


def test_a_model_that_vanished_fails_and_a_new_one_does_not() -> None:
    found = compare_costs(database(a=cost(1), b=cost(2)), database(a=cost(1)))
    assert (found.ending, found.vanished) == ("regression", ("b",))
    found = compare_costs(database(a=cost(1)), database(a=cost(1), b=cost(2)))
    assert (found.ending, found.added) == ("fine", ("b",))


def test_two_databases_of_different_models_have_nothing_in_common() -> None:
    found = compare_costs(database(a=cost(1)), database(b=cost(1)))
    assert (found.ending, found.vanished, found.added) == ("nothing-in-common", ("a",), ("b",))
    assert compare_costs(database(a=cost(1)), database()).ending == "regression"
    assert compare_costs(database(), database(a=cost(1))).ending == "nothing-in-common"


def test_a_measurement_that_now_fails_fails_and_names_the_error() -> None:
    failed = ModelCost(error=CostError(kind="ModelLoadError", message="no such file"))
    found = compare_costs(database(a=cost(1), b=cost(2)), database(a=cost(1), b=failed))
    assert found.ending == "regression"
    (told,) = found.failing
    assert (told.model, told.message) == ("b", "ModelLoadError: no such file")


def test_the_ledgers_lines_that_grew_come_largest_first() -> None:
    old = Ledger(
        runtime_bytes=10,
        weights_bytes=20,
        activation_bytes=5,
        cache_bytes=None,
        unaccounted_bytes=3,
    )
    new = Ledger(
        runtime_bytes=11, weights_bytes=29, activation_bytes=5, cache_bytes=7, unaccounted_bytes=2
    )
    assert ledger_growth(old, new) == (("weights", 9), ("runtime", 1))
    assert ledger_growth(None, new) == ()


def test_a_model_that_is_another_one_now_is_said() -> None:
    before, after = (
        msgspec.structs.replace(cost(1), fingerprint=f"sha256:{digit * 64}") for digit in "ab"
    )
    found = compare_costs(database(a=before), database(a=after))
    assert found.ending == "fine"
    assert "the model itself changed" in found.noted[0].message
    elsewhere = database_on(machine(cpu="Xeon"), {"a": after})
    assert compare_costs(database(a=before), elsewhere).noted == ()


def test_a_leak_that_the_measurement_noticed_is_said() -> None:
    leaking = msgspec.structs.replace(cost(1), notes=("memory grew by 1 MiB per batch",))
    found = compare_costs(database(a=cost(1)), database(a=leaking))
    assert [each.message for each in found.noted] == ["memory grew by 1 MiB per batch"]


def test_sizes_without_samples_are_judged_by_their_own_intervals() -> None:
    def stated(value: int, reach: int) -> ModelCost:
        figure = MeasuredBytes(
            value=value, evidence="sampled", interval_95=(value - reach, value + reach)
        )
        return ModelCost(initial_estimate_bytes=1, peak_bytes=figure)

    def verdict(old: ModelCost, new: ModelCost) -> str:
        return compare_costs(database(a=old), database(a=new), gate("peak_bytes:5%")).ending

    assert verdict(stated(1000, 5), stated(1100, 5)) == "regression"
    assert verdict(stated(1000, 5), stated(1010, 5)) == "fine"
    assert verdict(stated(1000, 50), stated(1080, 50)) == "inconclusive"


def test_a_figure_that_became_null_is_said_and_does_not_fail() -> None:
    unknown = msgspec.structs.replace(cost(1), load_peak_bytes=None)
    found = compare_costs(database(a=cost(1)), database(a=unknown))
    assert found.ending == "fine"
    (gone,) = found.known_once
    assert (gone.model, gone.figure, gone.new, gone.gated) == ("a", "load_peak_bytes", None, True)


def test_a_gate_whose_only_figure_became_null_compares_nothing() -> None:
    unknown = msgspec.structs.replace(cost(1), load_peak_bytes=None)
    found = compare_costs(database(a=cost(1)), database(a=unknown), gate("load_peak_bytes:5%"))
    assert found.ending == "nothing-in-common"


@pytest.mark.parametrize(
    ("changes", "touches"),
    [
        ({"packages": {"torch": "2.14"}}, "measured"),
        ({"cpu": "Xeon"}, "measured"),
        ({"python": "3.12.1"}, "measured"),
        ({"device": DeviceInfo(kind="cuda", name="H200", total_bytes=2**37)}, "measured"),
        ({"os": "Linux 6.2"}, "times"),
    ],
)
def test_another_machine_is_named_first_and_is_no_regression(
    changes: dict[str, object], touches: str
) -> None:
    larger = database_on(machine(**changes), {"a": cost(2, memory=2, time=2)})
    found = compare_costs(database(a=cost(1)), larger)
    assert found.mismatches[0].touches == touches
    dependent = {each.figure for each in found.figures if each.verdict == "not-comparable"}
    assert "load_ns" in dependent
    assert ("peak_bytes" in dependent) == (touches == "measured")
    assert found.ending == ("nothing-in-common" if touches == "measured" else "regression")
    allowed = compare_costs(database(a=cost(1)), larger, allow_mismatch=True)
    assert allowed.ending == "regression"
    assert allowed.mismatch_allowed


def test_a_package_that_another_model_brought_makes_nothing_incomparable() -> None:
    more = machine(packages={"torch": "2.13", "onnxruntime": "1.20"})
    found = compare_costs(database(a=cost(1)), database_on(more, {"a": cost(2), "b": cost(3)}))
    assert found.ending == "fine"
    assert found.mismatches[0].touches == "none"


def test_a_slower_machine_is_not_taken_for_slower_models() -> None:
    old = database(**{f"m{index}": cost(index) for index in range(6)})
    new = database(**{f"m{index}": cost(index + 20, time=1.5) for index in range(6)})
    found = compare_costs(old, new)
    assert found.counts["worse"] == 0
    assert found.common_shift == pytest.approx(0.5, abs=0.05)
    assert found.ending == "inconclusive"


def test_a_model_that_is_slower_than_the_slower_machine_is_worse() -> None:
    old = database(**{f"m{index}": cost(index) for index in range(6)})
    slower = {f"m{index}": cost(index + 20, time=1.2) for index in range(5)}
    found = compare_costs(old, database(**slower, m5=cost(25, time=2.4)))
    assert {model for model, _ in worse(found)} == {"m5"}


def test_two_samples_that_say_nothing_of_their_noise_cannot_say() -> None:
    def once(value: float) -> ModelCost:
        return ModelCost(
            initial_estimate_bytes=1, shapes=(), load_ns=lasting(value, noise=0, count=1)
        )

    found = compare_costs(database(a=once(1e9)), database(a=once(1.5e9)), gate("load_ns:10%"))
    assert found.ending == "inconclusive"
    (figure,) = (each for each in found.figures if each.figure == "load_ns")
    assert (figure.verdict, figure.interval_99) == ("cannot-say", None)


def test_noise_wider_than_the_limit_is_too_noisy_to_say() -> None:
    def noisy(seed: int) -> ModelCost:
        return ModelCost(
            initial_estimate_bytes=1, load_ns=lasting(1e9, noise=0.5, seed=seed, count=5)
        )

    found = compare_costs(database(a=noisy(1)), database(a=noisy(2)), gate("load_ns:5%"))
    assert found.ending == "inconclusive"


def test_a_quiet_model_that_is_slower_is_worse_beside_noisy_ones() -> None:
    """The noise of the others was taken for its own, and five values could outrank no five."""

    def timed(value: float, noise: float, seed: int) -> ModelCost:
        return ModelCost(
            initial_estimate_bytes=1, load_ns=lasting(value, noise=noise, seed=seed, count=5)
        )

    noisy_old = {f"n{index}": timed(1e9, 0.4, index) for index in range(4)}
    noisy_new = {f"n{index}": timed(1e9, 0.4, index + 50) for index in range(4)}
    found = compare_costs(
        database(quiet=timed(2e8, 0.001, 1), **noisy_old),
        database(quiet=timed(2.3e8, 0.001, 2), **noisy_new),
        gate("load_ns:10%"),
    )
    assert worse(found) == {("quiet", "load_ns")}


def test_values_that_all_lie_within_the_limit_are_the_same_however_few_they_are() -> None:
    """Three pages more or less of a small model: the gate could say nothing, and ended with 4."""

    def small(*samples_kib: int) -> CostDatabase:
        samples = tuple(each * 1024 for each in samples_kib)
        peak = MeasuredBytes(value=sorted(samples)[1], evidence="exact", samples=samples)
        return database(a=ModelCost(initial_estimate_bytes=1, peak_bytes=peak))

    old, new = small(992, 1004, 832), small(940, 928, 940)
    for keep_same in (False, True):
        found = compare_costs(old, new, gate("peak_bytes:5%+256KiB"), keep_same=keep_same)
        assert (found.ending, found.counts["cannot-say"]) == ("fine", 0)


@given(_SCALES, _SCALES, _SCALES, st.integers(0, 5))
@settings(deadline=None, max_examples=40)
def test_listing_what_is_the_same_changes_no_verdict(
    memory: float, activation: float, time: float, seed: int
) -> None:
    """An export lists it: compare ended with 4 beside one, and with 0 without."""
    old = database(a=cost(seed), b=cost(seed + 1))
    new = database(a=cost(7, memory=memory, activation=activation, time=time), b=cost(8))

    short, long = (compare_costs(old, new, keep_same=each) for each in (False, True))
    assert (short.ending, short.counts) == (long.ending, long.counts)
    assert short.figures == tuple(each for each in long.figures if each.verdict != "same")


@given(DATABASES)
@settings(deadline=None, max_examples=30)
def test_a_database_compared_with_itself_never_fails(costs: CostDatabase) -> None:
    texts = [
        *(f"{name}:0" for name in ("peak_bytes", "shapes.latency_ns.p95", "load_ns")),
        "resident_bytes",
    ]
    for thresholds in (None, gate(*texts)):
        found = compare_costs(costs, costs, thresholds, keep_same=True)
        assert found.ending in {"fine", "nothing-in-common"}
        assert set(worse(found)) == set()
        assert found.counts["same"] == sum(found.counts.values())


@given(_SCALES, _SCALES, _SCALES, st.integers(0, 5))
@settings(deadline=None, max_examples=40)
def test_swapping_the_sides_turns_worse_into_better(
    memory: float, activation: float, time: float, seed: int
) -> None:
    old = database(a=cost(seed), b=cost(seed + 1))
    new = database(a=cost(7, memory=memory, activation=activation, time=time), b=cost(8))

    def verdicts(found: Comparison, verdict: str) -> set[tuple[str | None, str]]:
        return {(e.model, e.figure) for e in found.figures if e.verdict == verdict}

    there, back = compare_costs(old, new), compare_costs(new, old)
    assert verdicts(there, "worse") == verdicts(back, "better")
    assert verdicts(there, "better") == verdicts(back, "worse")


def _exactly(value: int) -> ModelCost:
    same = MeasuredBytes(value=value, evidence="exact", samples=(value, value, value))
    return ModelCost(initial_estimate_bytes=1, peak_bytes=same)


@given(
    st.integers(1, 2**45),
    st.one_of(
        st.integers(0, 5000).map(lambda hundredths: f"{hundredths / 100}%"),
        st.integers(0, 2**20).map(lambda kib: f"{kib}KiB"),
        st.integers(0, 300).map(lambda per_cent: f"{per_cent}%+1MiB"),
    ),
)
@settings(deadline=None)
def test_a_threshold_is_exact_at_its_edge(old: int, limit: str) -> None:
    thresholds = gate(f"peak_bytes:{limit}")
    (threshold,) = thresholds.given
    assert threshold.limit is not None
    edge = old + int(threshold.limit.allowed(old))
    within = compare_costs(database(a=_exactly(old)), database(a=_exactly(edge)), thresholds)
    assert within.ending == "fine"
    beyond = compare_costs(database(a=_exactly(old)), database(a=_exactly(edge + 1)), thresholds)
    assert beyond.ending == "regression"


def test_a_models_own_threshold_holds_instead_of_all_models() -> None:
    old = database(a=_exactly(1000), b=_exactly(1000))
    new = database(a=_exactly(1030), b=_exactly(1030))
    found = compare_costs(old, new, gate("peak_bytes:5%", "b:peak_bytes:2%"))
    assert worse(found) == {("b", "peak_bytes")}
    found = compare_costs(old, new, gate("b:peak_bytes:5%", "peak_bytes:2%"))
    assert worse(found) == {("a", "peak_bytes")}


def test_a_shapes_own_threshold_holds_instead_of_all_shapes() -> None:
    old, new = database(a=cost(1)), database(a=cost(9, activation=1.1))
    wide = gate("shapes.activation_bytes:5%", "shapes[batch_size=4].activation_bytes:30%")
    assert compare_costs(old, new, wide).ending == "fine"
    narrow = gate("shapes.activation_bytes:30%", "shapes[batch_size=4].activation_bytes:5%")
    assert compare_costs(old, new, narrow).ending == "regression"


def test_a_threshold_of_a_model_or_shape_that_nobody_has_is_said_to_gate_nothing() -> None:
    """A slip of the pen left a model ungated, and nobody was told."""
    old = database(bert=cost(0), gone=cost(1))
    used = ("peak_bytes:5%", "gone:peak_bytes:5%", "shapes[batch_size=4].latency_ns:5%")
    unused = ("bret:peak_bytes:2%", "bert:shapes[batch_size=5].latency_ns:5%")
    found = compare_costs(old, database(bert=cost(0)), gate(*used, *unused))
    assert found.unused == unused
    assert compare_costs(old, old).unused == ()


def test_a_threshold_of_a_figure_that_is_null_on_both_sides_is_said_to_gate_nothing() -> None:
    """A 95th percentile of five loads is null: a limit on it passed for ever, in silence."""
    old, new = database(bert=cost(0)), database(bert=cost(1))
    assert old.models["bert"].load_ns is not None
    assert old.models["bert"].load_ns.p95 is None
    nothing = "load_ns.p95:10%"
    alone = compare_costs(old, new, gate(nothing))
    assert (alone.ending, alone.unused) == ("nothing-in-common", (nothing,))
    beside = compare_costs(old, new, gate(nothing, "peak_bytes:5%"))
    assert (beside.ending, beside.unused) == ("fine", (nothing,))


@pytest.mark.parametrize("keep_same", [True, False])
def test_only_figures_that_there_are_can_be_the_same(*, keep_same: bool) -> None:
    """Statistics that are null on both sides were counted too, unless all figures were listed."""
    same = database(bert=cost(0))
    plain = compare_costs(same, same, gate("load_ns"), keep_same=keep_same)
    with_nulls = compare_costs(same, same, gate("load_ns", "load_ns.p95"), keep_same=keep_same)
    assert with_nulls.counts == plain.counts


def test_a_percentile_that_became_null_is_said_though_the_times_are_the_same() -> None:
    was = lasting(10 * MS)
    old = msgspec.structs.replace(cost(0), load_ns=msgspec.structs.replace(was, p95=was.max))
    new = msgspec.structs.replace(cost(0), load_ns=was)
    found = compare_costs(database(a=old), database(a=new), gate("load_ns.p95:50%", "load_ns:50%"))
    assert [(each.figure, each.new) for each in found.known_once] == [("load_ns.p95", None)]
    assert found.unused == ()


def test_what_fails_comes_first_then_what_moved_most() -> None:
    old = database(a=_exactly(1000), b=_exactly(1000), c=_exactly(1000))
    new = database(a=_exactly(1100), b=_exactly(1300), c=_exactly(500))
    found = compare_costs(old, new, gate("peak_bytes:5%"))
    assert [each.model for each in found.figures] == ["b", "a", "c"]

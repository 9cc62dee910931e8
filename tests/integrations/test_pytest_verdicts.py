"""What is said of a model above its limit or its baseline, without measuring any."""

from __future__ import annotations

import msgspec
import pytest

from modelmgr.comparing.compare import compare_costs
from modelmgr.comparing.comparison import Comparison
from modelmgr.errors import UsageError
from modelmgr.integrations.pytest_baseline import read_tolerance
from modelmgr.integrations.pytest_verdicts import (
    LEDGER_LINES,
    Limit,
    growth,
    is_of_elsewhere,
    limit_for,
    looks_grown,
    over_limit,
    read_limit,
)
from modelmgr.measuring.summary import summarise_bytes
from modelmgr.records.costs import ModelCost
from modelmgr.records.measured import Evidence
from modelmgr.units import GIB, MIB
from support.command_line import make_cost, make_database


def limit(size_bytes: int, model: str | None = None, *, of_test: bool = True) -> Limit:
    return Limit(size_bytes, "as written", model, of_test)


def peak(cost: ModelCost) -> int:
    assert cost.peak_bytes is not None
    return cost.peak_bytes.value


def grown_by(cost: ModelCost, line: str, step_bytes: int) -> ModelCost:
    """Return the cost of a model whose one part takes more; its other figures stay."""
    assert cost.ledger is not None
    assert cost.peak_bytes is not None
    name = f"{line}_bytes"
    ledger = msgspec.structs.replace(cost.ledger, **{name: getattr(cost.ledger, name) + step_bytes})
    more = msgspec.structs.replace(cost.peak_bytes, value=cost.peak_bytes.value + step_bytes)
    return msgspec.structs.replace(cost, ledger=ledger, peak_bytes=more)


def test_a_limit_is_read_with_its_unit_and_its_model() -> None:
    assert read_limit(("1.5 GiB",), {}, of_test=True) == Limit(3 * GIB // 2, "1.5 GiB", None, True)
    named = read_limit(("500 MB",), {"model": "bert"}, of_test=False)
    assert named == Limit(500_000_000, "500 MB", "bert", False)


@pytest.mark.parametrize(
    ("arguments", "keywords", "said"),
    [
        ((), {}, "0 limits"),
        (("1 GiB", "2 GiB"), {}, "2 limits"),
        ((1.2,), {}, "no unit"),
        (("1.2",), {}, "no unit"),
        (("1.2 GiBs",), {}, "unknown unit 'GiBs'"),
        (("-1 GiB",), {}, "negative"),
        (("0 GiB",), {}, "holds no model"),
        (("1 GiB",), {"modle": "bert"}, "unknown keyword 'modle'"),
        (("1 GiB",), {"model": ["bert", "gpt2"]}, "a marker of its own"),
    ],
)
def test_a_wrong_limit_is_refused_with_what_to_write(
    arguments: tuple[object, ...], keywords: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        read_limit(arguments, keywords, of_test=True)


def test_a_limit_that_names_the_model_comes_before_one_that_is_nearer() -> None:
    limits = [limit(1), limit(2, "bert"), limit(3, "bert")]
    assert limit_for("bert", limits) == limit(2, "bert")
    assert limit_for("gpt2", limits) == limit(1)
    assert limit_for("gpt2", [limit(2, "bert")]) is None


def test_a_limit_holds_at_the_very_byte() -> None:
    cost = make_cost(400, 100, 10)
    assert over_limit("bert", cost, limit(peak(cost))) is None
    assert over_limit("bert", cost, limit(peak(cost) - 1)) is not None


def test_a_model_over_its_limit_is_told_by_how_much_and_by_which_part() -> None:
    cost = make_cost(400, 100, 10)
    said = over_limit("bert", cost, Limit(peak(cost) - 50 * MIB, "599.8 MiB", None, True))
    assert said is not None
    first, *parts = said.splitlines()
    assert first == (
        "'bert' takes 649.8 MiB at its peak, 50.0 MiB more than its limit of 599.8 MiB; "
        "most of it is weights: 400.0 MiB"
    )
    assert [line.split()[0] for line in parts] == [*LEDGER_LINES, "peak"]


def test_a_part_that_is_not_known_is_said_to_be_unknown() -> None:
    cost = make_cost(400, 100, 10)
    assert cost.ledger is not None
    blurred = msgspec.structs.replace(cost.ledger, weights_bytes=None)
    said = over_limit("bert", msgspec.structs.replace(cost, ledger=blurred), limit(MIB))
    assert said is not None
    assert "most of it is runtime" in said
    assert "weights          unknown" in said


def test_a_model_whose_peak_is_not_known_does_not_pass_its_limit() -> None:
    assert over_limit("bert", ModelCost(ledger=None), limit(GIB)) is not None


def compared(before: ModelCost, now: ModelCost, tolerance: str = "5%") -> Comparison:
    database = make_database()
    old, new = (msgspec.structs.replace(database, models={"bert": c}) for c in (before, now))
    return compare_costs(old, new, read_tolerance(tolerance).thresholds)


def told(before: ModelCost, now: ModelCost, tolerance: str = "5%") -> str | None:
    found = compared(before, now, tolerance)
    return growth("bert", before, now, found, tolerance=tolerance, baseline="costs.json")


def with_peak(cost: ModelCost, *samples_mib: int, evidence: Evidence = "exact") -> ModelCost:
    samples = tuple(sample * MIB for sample in samples_mib)
    return msgspec.structs.replace(cost, peak_bytes=summarise_bytes(samples, evidence))


def with_activation(cost: ModelCost, step_bytes: int) -> ModelCost:
    """Return the cost of a model whose smallest shape alone takes more while it runs."""
    small, *others = cost.shapes
    assert small.activation_bytes is not None
    value = small.activation_bytes.value + step_bytes
    figure = msgspec.structs.replace(small.activation_bytes, value=value, samples=(value,) * 3)
    grown = msgspec.structs.replace(small, activation_bytes=figure)
    return msgspec.structs.replace(cost, shapes=(grown, *others))


@pytest.mark.parametrize("part", LEDGER_LINES)
def test_the_part_that_grew_is_named_whichever_it_is(part: str) -> None:
    before = make_cost(400, 100, 10)
    said = told(before, grown_by(before, part, 200 * MIB))
    assert said is not None
    first, *others = said.splitlines()
    assert first == (
        "'bert' grew by more than 5% over costs.json; "
        f"the part that grew most is {part}: +200.0 MiB"
    )
    assert "  peak_bytes 649.8 MiB -> 849.8 MiB, +200.0 MiB (+30.8%)" in others


def test_the_tolerance_holds_at_the_very_byte() -> None:
    before = make_cost(400, 100, 10)

    def said(step_bytes: int) -> str | None:
        return told(before, grown_by(before, "cache", step_bytes), "64 MiB")

    assert said(64 * MIB) is None
    assert said(64 * MIB + 1) is not None
    assert said(-100 * MIB) is None


def test_growth_at_one_shape_only_is_seen_though_the_peak_stays() -> None:
    before = make_cost(400, 100, 10)
    said = told(before, with_activation(before, 5 * MIB // 2))
    assert said is not None
    assert "shapes[batch_size=1 sequence_length=128].activation_bytes 25.0 MiB -> 27.5 MiB" in said
    assert "peak_bytes" not in said


def test_what_the_kernel_may_count_late_is_no_growth_where_a_share_is_the_limit() -> None:
    before = make_cost(40, 1, 10)
    assert told(before, with_activation(before, 250 * 1024), "0%") is None
    assert told(before, with_activation(before, 250 * 1024), "0%+100KiB") is not None


@pytest.mark.parametrize(
    ("old", "new"), [((650, 651, 650), (700,)), ((650, 651), (700, 701)), ((650,), (700,))]
)
def test_few_processes_are_enough_to_see_growth_of_an_exact_figure_but_of_no_sampled_one(
    old: tuple[int, ...], new: tuple[int, ...]
) -> None:
    cost = make_cost(400, 100, 10)
    assert told(with_peak(cost, *old), with_peak(cost, *new)) is not None
    before, now = (with_peak(cost, *each, evidence="sampled") for each in (old, new))
    assert told(before, now) is None
    assert looks_grown(compared(before, now))


def test_what_may_be_noise_is_no_growth_and_is_not_hidden() -> None:
    cost = make_cost(400, 100, 10)
    before, now = with_peak(cost, 500, 650, 800), with_peak(cost, 520, 700, 850)
    assert told(before, now) is None
    assert looks_grown(compared(before, now))
    assert not looks_grown(compared(now, before))


def test_figures_of_another_machine_are_no_growth() -> None:
    before = make_cost(400, 100, 10)
    now = grown_by(before, "weights", 200 * MIB)
    database = make_database()
    elsewhere = msgspec.structs.replace(
        msgspec.structs.replace(database, models={"bert": now}),
        machine=msgspec.structs.replace(database.machine, packages={"torch": "9.9"}),
    )
    old = msgspec.structs.replace(database, models={"bert": before})
    found = compare_costs(old, elsewhere, read_tolerance("5%").thresholds)
    assert growth("bert", before, now, found, tolerance="5%", baseline="costs.json") is None
    assert is_of_elsewhere(found)
    assert not is_of_elsewhere(compared(before, now))


def test_a_shape_that_only_one_of_them_measured_is_not_compared() -> None:
    before = make_cost(400, 100, 10)
    fewer = msgspec.structs.replace(before, shapes=before.shapes[:1])
    assert told(before, fewer, "0%") is None
    assert told(fewer, before, "0%") is None


def test_a_baseline_without_a_ledger_still_tells_growth() -> None:
    now = make_cost(400, 100, 10)
    before = msgspec.structs.replace(grown_by(now, "weights", -200 * MIB), ledger=None)
    said = told(before, now)
    assert said is not None
    assert "the part that grew most" not in said
    assert "unknown -> " in said


@pytest.mark.parametrize("text", ["", "five", "5 %%", "-5%", "5 ms"])
def test_a_tolerance_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no limit"):
        read_tolerance(text)

"""The tables of a cost database: whatever the width, rows stay on one line and say their units."""

from __future__ import annotations

import io

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from modelmgr.records.costs import CostDatabase, CostError, ModelCost
from modelmgr.records.measured import MeasuredBytes
from modelmgr.units import MIB
from modelmgr_cli.render import cells
from modelmgr_cli.render.details import model_details
from modelmgr_cli.render.tables import cost_table, ledger_table
from support.command_line import make_cost, make_database


def _text(parts: list[RenderableType], width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return [line.rstrip() for line in capture.get().splitlines()]


def _row(lines: list[str], tag: str) -> list[str]:
    return next(line for line in lines if line.startswith(tag)).split()


@pytest.mark.parametrize("width", [80, 100, 120, 140, 200])
def test_every_model_is_one_row_and_one_of_guesses(database: CostDatabase, width: int) -> None:
    lines = _text(cost_table(database, width), width)

    assert all(len(line) <= width for line in lines)
    body = lines[lines.index(next(line for line in lines if line.startswith("──"))) + 1 :][:6]
    assert [line.split()[0] for line in body][::2][:2] == ["bert-base", "t5-small"]
    assert [line.split()[0] for line in body][1::2] == ["guessed"] * 3
    assert body[4].startswith("a-model-")


@given(width=st.integers(min_value=40, max_value=250), tag=st.text(min_size=1, max_size=80))
def test_no_figure_is_cut_at_any_width_whatever_the_tag(width: int, tag: str) -> None:
    database = make_database()
    models = {tag: make_cost(417.6, 171.3, 145.1)}
    lines = _text(cost_table(msgspec.structs.replace(database, models=models), width), width)

    # At 40 columns they used to read "3…" and "0.…".
    words = " ".join(lines).split()
    for figure in ("417.6", "563.9", "738.6", "0.20", "1.234", "145.1"):
        assert figure in words, lines


@pytest.mark.parametrize("width", [40, 60, 80, 140])
def test_no_figure_of_any_page_is_cut(database: CostDatabase, width: int) -> None:
    bert = {"bert-base": database.models["bert-base"]}
    pages = {
        "ledger": ledger_table(msgspec.structs.replace(database, models=bert)),
        "details": model_details("bert-base", database.models["bert-base"], width),
    }
    for figures, page in (
        (("145.0", "417.6", "171.3", "738.6"), "ledger"),
        (("145.0", "417.6", "738.6", "563.9", "145.1", "137.8", "23.2%"), "details"),
    ):
        lines = _text(pages[page], width)
        words = " ".join(lines).split()
        assert all(len(line) <= width for line in lines)
        assert not [word for word in words if "…" in word]
        for figure in figures:
            assert figure in words, lines


def test_a_narrow_terminal_gets_a_line_for_each_figure(database: CostDatabase) -> None:
    lines = _text(cost_table(database, 40), 40)

    start = lines.index("bert-base")
    assert lines[start + 1].split() == ["weights", "MiB", "417.6"]
    assert lines[start + 2].split() == ["resident", "MiB", "563.9"]
    assert all(len(line) <= 40 for line in lines)


def test_the_legend_explains_only_what_stands_above_it(database: CostDatabase) -> None:
    bert = database.models["bert-base"]
    assert bert.peak_bytes is not None
    once = msgspec.structs.replace(
        bert,
        observations=1,
        estimate=None,
        peak_bytes=msgspec.structs.replace(bert.peak_bytes, interval_95=None),
    )

    def page(*costs: ModelCost) -> str:
        models = {f"m{at}": cost for at, cost in enumerate(costs)}
        lines = _text(cost_table(msgspec.structs.replace(database, models=models), 80), 80)
        return " ".join(" ".join(lines).split())

    # A column of dashes says nothing; with one interval known the dashes are explained.
    assert "±" not in page(once)
    assert "guessed" not in page(once)
    assert "1 fresh process;" in page(once)
    assert "- of too few processes" in page(once, bert)
    assert "too few" not in page(bert)
    assert "3 fresh processes;" in page(bert)


def test_a_duration_that_was_measured_once_is_no_median(database: CostDatabase) -> None:
    bert = database.models["bert-base"]
    assert bert.load_ns is not None
    once = msgspec.structs.replace(bert.load_ns, samples=(bert.load_ns.median,))
    cost = msgspec.structs.replace(bert, load_ns=once)

    line = next(
        line for line in _text(model_details("bert", cost, 80), 80) if line.startswith("  load  ")
    )
    assert line.split()[1:] == ["1.23", "s", "without", "imports"]


def test_a_wider_terminal_shows_more_columns(database: CostDatabase) -> None:
    narrow = "\n".join(_text(cost_table(database, 80), 80))
    wide = "\n".join(_text(cost_table(database, 140), 140))

    assert "2nd copy" not in narrow
    for title in ("2nd copy", "evidence", "largest", "items"):
        assert title in wide


def test_a_figure_that_is_not_exact_is_marked(database: CostDatabase) -> None:
    lines = _text(cost_table(database, 140), 140)

    assert "~431.6" in _row(lines, "bert-base")  # the second copy was sampled
    assert "738.6" in _row(lines, "bert-base")  # the peak is exact: no mark
    assert any("~ sampled" in line for line in lines)


def test_an_unknown_figure_is_a_dash_and_never_zero(database: CostDatabase) -> None:
    unknown = ModelCost(
        initial_estimate_bytes=5 * MIB,
        peak_bytes=MeasuredBytes(value=5 * MIB, evidence="estimated"),
        observations=1,
    )
    only = msgspec.structs.replace(database, models={"hardly": unknown})

    row = _row(_text(cost_table(only, 60), 60), "hardly")
    assert "?5.0" in row
    assert set(row) == {"hardly", "?5.0", "-"}


def test_a_failed_model_stands_below_with_its_whole_reason(database: CostDatabase) -> None:
    text = "\n".join(_text(cost_table(database, 80), 80))

    assert "1 model was not measured:" in text
    assert "broken: ModelLoadError: no module named 'my_package'" in text
    assert "install it, or correct the target" in text


def test_a_model_that_failed_lately_keeps_its_row_and_says_so(database: CostDatabase) -> None:
    stale = msgspec.structs.replace(
        database.models["bert-base"], error=CostError(kind="WorkerDiedError", message="signal 9")
    )
    only = msgspec.structs.replace(database, models={"bert-base": stale})

    text = "\n".join(_text(cost_table(only, 80), 80))

    assert "738.6" in text
    assert "its figures are of an earlier run" in text


def test_an_error_message_cannot_steer_the_terminal(database: CostDatabase) -> None:
    evil = ModelCost(error=CostError(kind="ModelLoadError", message="\x1b[2Jgone [red]x[/red]"))
    only = msgspec.structs.replace(database, models={"\x1b]0;t\x07": evil})

    text = "\n".join(_text(cost_table(only, 80), 80))

    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]x[/red]" in text


@pytest.mark.parametrize("width", [80, 140])
def test_the_ledger_adds_up_on_the_page_too(database: CostDatabase, width: int) -> None:
    lines = _text(ledger_table(database), width)

    *parts, peak = (float(cell) for cell in _row(lines, "bert-base")[1:])
    assert sum(parts) == pytest.approx(peak, abs=0.3)  # each is rounded to 0.1
    assert all(len(line) <= width for line in lines)


def test_the_details_of_a_model_have_every_shape_and_every_line(database: CostDatabase) -> None:
    text = "\n".join(_text(model_details("bert-base", database.models["bert-base"], 80), 80))

    for word in ("resident", "load peak", "second copy", "preload", "memory back after"):
        assert f"  {word}" in text
    for line in ("runtime", "weights", "activation", "cache", "unaccounted", "= peak"):
        assert f"  {line}" in text
    assert "sampled, ±0.20 %" in text
    assert "+1.0 % off" in text  # the guess of the activation
    assert "peak read from VmHWM" in text
    assert database.models["bert-base"].fingerprint in text.split()


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (cells.milliseconds(123_456), "0.123"),
        (cells.milliseconds(5_432_100), "5.43"),
        (cells.milliseconds(1_234_567_890), "1,234.6"),
        (cells.seconds(1_234_567_890), "1.235"),
        (cells.seconds(61_000_000_000), "61.0"),
        (cells.percent(0.0004), "0.04"),
        (cells.percent(-0.0000001, signed=True), "0.00"),
        (cells.percent(0.123, signed=True), "+12.3"),
        (cells.rate(1234.5), "1,234"),
        (cells.rate(None), "-"),
        (cells.mebibytes(0), "0.0"),
    ],
)
def test_figures_have_the_digits_that_matter(shown: str, expected: str) -> None:
    assert shown == expected

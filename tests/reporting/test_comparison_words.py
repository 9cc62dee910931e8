"""A comparison's figures in words: no exponent, no end that nobody can use."""

from __future__ import annotations

import pytest

from modelmgr.comparing.comparison import Comparison, FigureComparison
from modelmgr.reporting.comparison_words import change_text, headline, interval_text


def figure(
    change: float | None = 0.1, interval: tuple[float, float] | None = None, *, exact: bool = False
) -> FigureComparison:
    return FigureComparison(
        model="bert",
        device=None,
        figure="load_ns",
        unit="ns",
        verdict="cannot-say",
        gated=True,
        failed=False,
        old=100,
        new=110,
        change=change,
        interval_99=interval,
        exact=exact,
        limit="5%",
    )


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0521, "+5.21 %"),
        (-0.5, "-50 %"),
        (9.99, "+999 %"),
        (12.344, "+1,234 %"),
        (999.0, "+99,900 %"),
        (1e9, "> +99,999 %"),
        (1e-12, "< +0.01 %"),
        (-1e-12, "> -0.01 %"),
        (0.0, "+0 %"),
        (None, "from 0"),
    ],
)
def test_a_change_is_told_without_an_exponent(share: float | None, text: str) -> None:
    assert change_text(figure(share)) == text


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        ((0.041, 0.063), "+4.1 to +6.3 %"),
        ((-0.36, 1.99), "-36 to +199 %"),
        ((0.18883, 0.18931), "+18.88 to +18.93 %"),
        ((0.995, 1.004), "+99.5 to +100.4 %"),
        ((-1.0, 1.7e11), "-100 to > +999 %"),
        ((-0.93, 1e304), "-93 to > +999 %"),
        ((-50.0, 0.0), "< -999 to 0 %"),
        ((-0.00001, 0.00001), "0.00 to 0.00 %"),
    ],
)
def test_an_intervals_ends_are_as_fine_as_it_is_narrow_and_never_endless(
    interval: tuple[float, float], text: str
) -> None:
    assert interval_text(figure(interval=interval)) == text


def test_a_figure_without_an_interval_says_why() -> None:
    assert interval_text(figure(exact=True)) == "exact"
    assert interval_text(figure()) == "?"


def test_what_is_worse_and_not_gated_is_not_called_nothing() -> None:
    found = Comparison(
        compared="costs",
        baseline="old.json",
        new="new.json",
        ending="fine",
        thresholds=("peak_bytes:5%",),
        counts={"worse": 2, "same": 3},
        figures=(),
    )
    assert headline(found) == "Nothing that is gated got worse. Figures: 2 worse, 3 same."

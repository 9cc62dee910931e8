"""A sweep as a page to look at: reload cost and wait over memory, and what no row beats.

The page is one HTML file that needs no network; it is drawn by plotly (extra ``plots``), which is
imported when it is asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

from modelmgr.errors import UsageError
from modelmgr.records.sweep import Sweep, SweepRow
from modelmgr.units import GIB, NS_PER_S


def check_plotting() -> None:
    """Refuse a plot before anything is computed for it; UsageError without plotly."""
    _plotly()


def plot_sweep(sweep: Sweep) -> str:
    """Return the page: equal sweeps give equal pages with the same plotly.

    Raises:
        UsageError: plotly is not installed.
    """
    objects, subplots = _plotly()
    rows = {row.number: row for row in sweep.rows}
    figure = subplots.make_subplots(
        rows=2,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.08,
        subplot_titles=("time of loads (s)", "wait, 95th percentile (s)"),
    )
    for place, (name, numbers) in enumerate(_series(sweep)):
        shown = [rows[number] for number in numbers]
        for row_number, value in ((1, _reload_s), (2, _wait_s)):
            figure.add_trace(
                objects.Scatter(
                    x=[_memory_gib(row) for row in shown],
                    y=[value(row) for row in shown],
                    name=name,
                    legendgroup=name,
                    showlegend=row_number == 1,
                    mode="lines+markers" if sweep.curves else "markers",
                    text=[_label(row) for row in shown],
                    marker={
                        "symbol": [
                            "star" if row.number in sweep.pareto else "circle" for row in shown
                        ],
                        "size": 9,
                        "color": _COLOURS[place % len(_COLOURS)],
                    },
                    line={"color": _COLOURS[place % len(_COLOURS)]},
                ),
                row=row_number,
                col=1,
            )
    figure.update_xaxes(title_text="memory of all devices (GiB)", row=2, col=1)
    figure.update_layout(
        title=f"{sweep.scenario}: stars are what no other row beats", template="plotly_white"
    )
    page: str = figure.to_html(full_html=True, include_plotlyjs=True, div_id="sweep")
    return page


# Okabe and Ito's palette: told apart by the colour-blind as well (jfly.uni-koeln.de/color).
_COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#000000",
    "#F0E442",
)


def _series(sweep: Sweep) -> list[tuple[str, tuple[int, ...]]]:
    if sweep.curves:
        return [
            (", ".join(curve.values.values()) or sweep.scenario, curve.rows)
            for curve in sweep.curves
        ]
    done = tuple(row.number for row in sweep.rows if row.figures is not None)
    return [(sweep.scenario, done)]


def _label(row: SweepRow) -> str:
    return "<br>".join(f"{key} = {text}" for key, text in row.values.items())


def _memory_gib(row: SweepRow) -> float | None:
    return None if row.memory_bytes is None else row.memory_bytes / GIB


def _reload_s(row: SweepRow) -> float | None:
    return None if row.figures is None else row.figures.reload_cost_ns / NS_PER_S


def _wait_s(row: SweepRow) -> float | None:
    wait = None if row.figures is None else row.figures.wait_ns
    return None if wait is None or wait.p95 is None else wait.p95 / NS_PER_S


def _plotly() -> tuple[Any, Any]:
    try:
        return (
            importlib.import_module("plotly.graph_objects"),
            importlib.import_module("plotly.subplots"),
        )
    except ImportError as error:
        raise UsageError(
            "plotly is not installed\ninstall it: pip install 'modelmgr[plots]'"
        ) from error

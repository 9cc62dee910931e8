"""What ``estimate`` predicted, as a table or as plain values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from modelmgr.measuring.estimate import ModelEstimate
from modelmgr.reporting.figures import shape_name
from modelmgr_cli.render import cells
from modelmgr_cli.render.reasons import shortened
from modelmgr_cli.render.rows import Rows
from modelmgr_cli.terminal import printable

_FITS = {True: "yes", False: "no", None: "?"}


def estimates_page(estimates: Sequence[ModelEstimate], width: int) -> list[RenderableType]:
    """Return the table, a legend, and what could not be predicted of models that did not fail."""
    titles = ["model", "weights\nMiB", "activ.\nMiB", "method", "took\ns", "fits"]
    wide = width >= 110
    if wide:
        titles.insert(3, "largest shape")
    rows: list[list[str | Text]] = []
    reasons: list[Text] = []
    for item in estimates:
        report = item.report
        tag = cells.name(item.tag)
        if report is None:
            rows.append([tag, *[cells.UNKNOWN] * (len(titles) - 2), _FITS[item.fits]])
            continue
        if report.reason is not None:
            reason = f"{printable(item.tag)}: {shortened(report.reason)}"
            reasons.append(Text(reason, style="dim"))
        largest, activation = _largest(item)
        row: list[str | Text] = [
            tag,
            cells.mebibytes(report.weights_bytes),
            cells.mebibytes(activation),
            report.method,
            cells.seconds(report.elapsed_ns),
            _FITS[item.fits],
        ]
        if wide:
            row.insert(3, largest)
        rows.append(row)
    legend = (
        "estimated, nothing was loaded; activ.: peak of live tensors above the weights at the "
        "largest shape"
    )
    return [Rows(titles, rows), Text(legend, style="dim"), *reasons]


def estimates_as_plain(estimates: Sequence[ModelEstimate]) -> dict[str, Any]:
    """Return what JSON shows: by tag, every shape with its figure, bytes and nanoseconds."""
    models: dict[str, Any] = {}
    for item in estimates:
        if item.report is None:
            error = {"kind": type(item.error).__name__, "message": str(item.error)}
            models[item.tag] = {"error": error}
            continue
        models[item.tag] = {
            "weights_bytes": item.report.weights_bytes,
            "shapes": [
                {**shape, "activation_bytes": activation}
                for shape, activation in zip(
                    item.shapes, item.report.activation_bytes, strict=False
                )
            ],
            "method": item.report.method,
            "reason": item.report.reason,
            "elapsed_ns": item.report.elapsed_ns,
            "evidence": "estimated",
            "fits": item.fits,
            "least_bytes": item.least_bytes,
        }
    return {"models": models}


def _largest(item: ModelEstimate) -> tuple[str, int | None]:
    pairs = zip(item.shapes, item.report.activation_bytes if item.report else (), strict=False)
    known = [(value, shape) for shape, value in pairs if value is not None]
    if not known:
        return cells.UNKNOWN, None
    value, shape = max(known, key=lambda pair: pair[0])
    return shape_name(shape), value

"""A cost database as GitHub-flavoured Markdown: for a README, a pull request, a job's summary."""

from __future__ import annotations

from collections.abc import Sequence

from modelmgr.records.costs import CostDatabase, ModelCost
from modelmgr.records.measured import MeasuredBytes
from modelmgr.reporting.figures import (
    LEDGER_LINES,
    activation_bytes,
    difference,
    failed_models,
    guess_bytes,
    largest_shape,
    measured_models,
    shape_name,
    spread,
    weights_bytes,
)
from modelmgr.reporting.markdown_text import escaped, table
from modelmgr.units import format_bytes, format_duration


def export_markdown(database: CostDatabase) -> str:
    """Return the database's figures, ledger, failures and machine as Markdown text."""
    measured = measured_models(database)
    parts = ["## Model costs", _machine(database)]
    if measured:
        parts.append(_costs(measured))
        parts.append(
            "± is half of the 95 % interval of the peak. Activation and latency (median of one "
            "batch) are those of the largest shape; the guess is made without loading the model."
        )
        if any(cost.ledger is not None for cost in measured.values()):
            parts += ["### Where the peak goes", _ledgers(measured)]
    else:
        parts.append("No model was measured.")
    failed = failed_models(database)
    if failed:
        parts += ["### Not measured", _failures(failed)]
    return "\n\n".join(parts) + "\n"


def _machine(database: CostDatabase) -> str:
    machine = database.machine
    device = machine.device
    facts = [
        f"device {device.name or device.kind} ({format_bytes(device.total_bytes)})",
        f"driver {device.driver}" if device.driver else "",
        machine.cpu or "",
        machine.os,
        f"Python {machine.python}",
        *(f"{name} {version}" for name, version in machine.packages.items()),
    ]
    described = ", ".join(escaped(fact) for fact in facts if fact)
    return (
        f"Measured by {escaped(database.tool.name)} {escaped(database.tool.version)} "
        f"at {escaped(database.created_at)} on {described}."
    )


def _costs(costs: dict[str, ModelCost]) -> str:
    header = (
        "model", "weights", "activation", "resident", "peak", "±", "evidence",
        "load", "latency", "largest shape", "guess off by",
    )  # fmt: skip
    rows: list[Sequence[str]] = []
    for tag, cost in costs.items():
        shape = largest_shape(cost)
        activation = activation_bytes(cost)
        off_weights = difference(guess_bytes(cost, "weights_bytes"), weights_bytes(cost))
        off_activation = difference(
            guess_bytes(cost, "activation_bytes"), activation.value if activation else None
        )
        rows.append(
            (
                escaped(tag),
                format_bytes(weights_bytes(cost)),
                _size(activation),
                _size(cost.resident_bytes),
                _size(cost.peak_bytes),
                _percent(spread(cost.peak_bytes), signed=False),
                cost.peak_bytes.evidence if cost.peak_bytes else "-",
                format_duration(cost.load_ns.median if cost.load_ns else None),
                format_duration(shape.latency_ns.median if shape and shape.latency_ns else None),
                escaped(shape_name(shape.dims)) if shape else "-",
                f"{_percent(off_weights)} / {_percent(off_activation)}"
                if off_weights is not None or off_activation is not None
                else "-",
            )
        )
    return table(header, rows)


def _ledgers(costs: dict[str, ModelCost]) -> str:
    rows = [
        (
            escaped(tag),
            *(format_bytes(getattr(cost.ledger, f"{line}_bytes")) for line in LEDGER_LINES),
            _size(cost.peak_bytes),
        )
        for tag, cost in costs.items()
        if cost.ledger is not None
    ]
    return table(("model", *LEDGER_LINES, "= peak"), rows)


def _failures(costs: dict[str, ModelCost]) -> str:
    rows = [
        (escaped(tag), escaped(cost.error.kind), escaped(cost.error.message))
        for tag, cost in costs.items()
        if cost.error is not None
    ]
    return table(("model", "error", "message"), rows, right=())


def _size(figure: MeasuredBytes | None) -> str:
    return format_bytes(figure.value if figure is not None else None)


def _percent(share: float | None, *, signed: bool = True) -> str:
    if share is None:
        return "-"
    return f"{share:+.1%}" if signed else f"{share:.1%}"

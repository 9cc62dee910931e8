"""The Markdown export: tables that GitHub renders whatever a tag or a message holds."""

from __future__ import annotations

import msgspec

from modelmgr.records.costs import (
    CostDatabase,
    CostError,
    DeviceInfo,
    Ledger,
    ModelCost,
)
from modelmgr.records.measured import MeasuredBytes
from modelmgr.reporting import export_markdown
from modelmgr.units import MIB
from support.some_database import HOST, database_of

_GPU_MACHINE = msgspec.structs.replace(
    HOST,
    cpu="A CPU",
    device=DeviceInfo(kind="cuda", name="A GPU", total_bytes=1024 * MIB, driver="550"),
)


def _database(models: dict[str, ModelCost]) -> CostDatabase:
    return database_of(models, _GPU_MACHINE)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("\\|", "").strip("|").split("|")]


def test_figures_stand_with_their_unit_their_spread_and_their_evidence() -> None:
    peak = MeasuredBytes(value=200 * MIB, evidence="sampled", interval_95=(199 * MIB, 202 * MIB))
    text = export_markdown(_database({"bert": ModelCost(peak_bytes=peak)}))

    row = _cells(next(line for line in text.splitlines() if line.startswith("| bert")))

    assert "200.0 MiB" in row
    assert "1.0%" in row
    assert "sampled" in row
    assert "-" in row  # what nobody measured


def test_the_ledger_is_shown_with_the_peak_it_adds_up_to() -> None:
    cost = ModelCost(
        peak_bytes=MeasuredBytes(value=10 * MIB, evidence="exact"),
        ledger=Ledger(
            runtime_bytes=4 * MIB,
            weights_bytes=3 * MIB,
            activation_bytes=2 * MIB,
            cache_bytes=None,
            unaccounted_bytes=1 * MIB,
        ),
    )

    lines = export_markdown(_database({"m": cost})).splitlines()

    assert "| m | 4.0 MiB | 3.0 MiB | 2.0 MiB | - | 1.0 MiB | 10.0 MiB |" in lines


def test_a_tag_or_message_full_of_markup_stays_in_its_cell() -> None:
    failed = ModelCost(error=CostError(kind="ModelLoadError", message="a|b\n<script> *x*"))

    text = export_markdown(_database({"we|ird`tag`": failed}))

    row = next(line for line in text.splitlines() if "ModelLoadError" in line)
    assert _cells(row) == ["weird\\`tag\\`", "ModelLoadError", "ab \\<script\\> \\*x\\*"]
    assert "No model was measured." in text


def test_the_machine_that_was_measured_is_named() -> None:
    text = export_markdown(_database({}))

    assert "modelmgr 0.1.0 at 2026-01-02T03:04:05Z on device A GPU (1.0 GiB), driver 550" in text

"""A guess without loading is quick, says what is certain, and never more than that."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelmgr.errors import UsageError
from modelmgr.measuring.estimate import estimate_models
from modelmgr.measuring.guess import fit_from_guess
from modelmgr.measuring.settings import ProfileSettings
from modelmgr.workers.reports import EstimateReport
from modelmgr.workload.model_spec import ModelSpec
from support.profile_observer import RecordingObserver

MIB = 1024**2
GIB = 1024**3


def report(weights: int | None, activation: tuple[int | None, ...], method: str) -> EstimateReport:
    return EstimateReport(weights_bytes=weights, activation_bytes=activation, method=method)


@pytest.mark.parametrize(
    ("guess", "fits"),
    [
        (report(11 * GIB, (MIB,), "fake-tensor"), False),
        (report(9 * GIB, (2 * GIB,), "declared"), False),
        (report(GIB, (GIB,), "fake-tensor"), True),
        (report(9 * GIB, (GIB,), "fake-tensor"), None),  # with the allocator's waste perhaps not
        (report(GIB, (GIB, None), "fake-tensor"), None),  # a shape is unknown
        (report(11 * GIB, (MIB,), "file-size"), None),  # a file is not what is in memory
        (report(None, (MIB,), "fake-tensor"), None),
        (report(None, (), "none"), None),
    ],
)
def test_only_what_is_certain_is_said_to_fit_or_not(
    guess: EstimateReport, fits: bool | None
) -> None:
    assert fit_from_guess(guess, limit_bytes=10 * GIB).fits is fits


def stated(tag: str, resident: str) -> ModelSpec:
    return ModelSpec(
        tag=tag,
        loader="synthetic",
        options={"resident_bytes": resident, "activation_bytes": "1 MiB"},
        input={"batch_size": (1, 2)},
    )


def test_models_are_guessed_in_order_and_nothing_is_written(tmp_path: Path) -> None:
    settings = ProfileSettings(out=tmp_path / "costs.json", device="host", budget_bytes=2 * GIB)
    broken = ModelSpec(tag="broken", loader="python", target="no_such_module_of_ours:load")
    small, failed, large = estimate_models(
        [stated("small", "10 MiB"), broken, stated("large", "3 GiB")],
        settings,
        RecordingObserver(),
    )
    assert small.report is not None
    assert small.report.weights_bytes == 10 * MIB
    assert small.report.activation_bytes == (MIB, 2 * MIB)
    assert small.shapes == ({"batch_size": 1}, {"batch_size": 2})
    assert small.fits is True
    assert failed.report is None
    assert "no_such_module_of_ours" in str(failed.error)
    assert large.fits is False
    assert large.least_bytes is not None
    assert large.least_bytes > 3 * GIB
    assert list(tmp_path.iterdir()) == []


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="empty"):
        estimate_models([], ProfileSettings(out=tmp_path / "x.json"), RecordingObserver())

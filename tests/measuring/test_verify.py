"""A database holds here when measuring again gives the same figures, and only then."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from modelmgr.errors import UsageError
from modelmgr.measuring.profile import profile_models
from modelmgr.measuring.settings import ProfileSettings
from modelmgr.measuring.verify import choose_models, describe_differences, verify_costs
from modelmgr.records.costs import CostDatabase
from modelmgr.workload.model_spec import ModelSpec
from support.profile_observer import RecordingObserver

GIB = 1024**3


def stated(tag: str, resident: str = "30 MiB") -> ModelSpec:
    return ModelSpec(
        tag=tag,
        loader="synthetic",
        options={"resident_bytes": resident, "activation_bytes": "2 MiB"},
        input={"batch_size": (1,)},
        repeats=1,
    )


def settings(out: Path) -> ProfileSettings:
    return ProfileSettings(out=out, device="host", budget_bytes=2 * GIB, repeats=1)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> CostDatabase:
    out = tmp_path_factory.mktemp("verify") / "costs.json"
    models = [stated("a"), stated("b"), stated("c")]
    return profile_models(models, settings(out), RecordingObserver()).database


def test_an_unchanged_model_holds_and_nothing_is_written(
    measured: CostDatabase, tmp_path: Path
) -> None:
    outcome = verify_costs(
        measured,
        [stated("a"), stated("b"), stated("unmeasured")],
        settings(tmp_path / "costs.json"),
        RecordingObserver(),
        sample=None,
        tolerance=0.05,
    )
    assert outcome.holds
    assert outcome.tags == ("a", "b")
    assert {figure.name for figure in outcome.figures} == {"resident_bytes", "peak_bytes"}
    assert outcome.differences == ()
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_grew_does_not_hold_and_says_by_how_much(
    measured: CostDatabase, tmp_path: Path
) -> None:
    outcome = verify_costs(
        measured,
        [stated("a", "60 MiB")],
        settings(tmp_path / "costs.json"),
        RecordingObserver(),
        sample=None,
        tolerance=0.05,
    )
    assert not outcome.holds
    resident = next(figure for figure in outcome.figures if figure.name == "resident_bytes")
    assert resident.relative is not None
    assert resident.relative > 0.3
    assert not resident.holds


def test_a_model_that_cannot_be_measured_any_more_does_not_hold(
    measured: CostDatabase, tmp_path: Path
) -> None:
    outcome = verify_costs(
        measured,
        [stated("a", "5 GiB")],
        settings(tmp_path / "costs.json"),
        RecordingObserver(),
        sample=1,
        tolerance=0.05,
    )
    assert not outcome.holds
    assert list(outcome.failed) == ["a"]


def test_a_sample_is_the_same_for_the_same_seed_and_in_the_lists_order(
    measured: CostDatabase,
) -> None:
    models = [stated("a"), stated("b"), stated("c")]
    for seed in range(5):
        chosen = choose_models(measured, models, sample=2, seed=seed)
        assert chosen == choose_models(measured, models, sample=2, seed=seed)
        assert [spec.tag for spec in chosen] == sorted(spec.tag for spec in chosen)
        assert len(chosen) == 2


def test_what_makes_no_sense_is_refused(measured: CostDatabase, tmp_path: Path) -> None:
    for models, sample, tolerance in (
        ([stated("unmeasured")], None, 0.1),
        ([stated("a")], 0, 0.1),
        ([stated("a")], None, -0.1),
    ):
        with pytest.raises(UsageError):
            verify_costs(
                measured,
                models,
                settings(tmp_path / "x.json"),
                RecordingObserver(),
                sample=sample,
                tolerance=tolerance,
            )


def test_another_version_of_a_package_is_told(measured: CostDatabase) -> None:
    stored = msgspec.structs.replace(
        measured.machine, packages={**measured.machine.packages, "numpy": "0.1"}
    )
    [difference] = describe_differences(stored, measured.machine)
    assert difference.startswith("numpy was 0.1 and is ")

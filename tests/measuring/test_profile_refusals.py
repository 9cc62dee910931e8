"""What is refused before it is measured leaves every file as it was, and makes no new one."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from modelmgr.errors import InputError, UsageError
from modelmgr.measuring.profile import plan_models, profile_models
from modelmgr.measuring.session import Session
from modelmgr.measuring.settings import ProfileSettings
from modelmgr.workload.model_list import ModelList, parse_model_list
from modelmgr.workload.model_spec import ModelSpec
from support.profile_observer import RecordingObserver

GIB = 1024**3


def stated(tag: str) -> ModelSpec:
    return ModelSpec(tag=tag, loader="synthetic", input={"batch_size": (1,)}, repeats=1)


def host(out: Path) -> ProfileSettings:
    return ProfileSettings(out=out, device="host", budget_bytes=2 * GIB)


@pytest.fixture
def created(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every file that a journal was opened for, even where it is removed again."""
    opened: list[Path] = []
    real = Path.with_name

    def noting(self: Path, name: str) -> Path:
        if name.endswith(".journal"):
            opened.append(self)
        return real(self, name)

    monkeypatch.setattr(Path, "with_name", noting)
    return opened


@pytest.mark.parametrize("text", [b"{", b'{"a": 1}', b"models:\n- tag: a\n", b"some notes"])
def test_an_output_that_is_no_database_gets_no_journal_beside_it(
    tmp_path: Path, created: list[Path], text: bytes
) -> None:
    out = tmp_path / "notes.txt"
    out.write_bytes(text)
    with pytest.raises(UsageError):
        profile_models([stated("a")], host(out), RecordingObserver())
    assert created == []
    assert out.read_bytes() == text
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("name", ["/dev/null", "/dev/full"])
def test_a_device_file_keeps_no_database_and_gets_no_journal(
    name: str, created: list[Path]
) -> None:
    with pytest.raises(UsageError, match="no regular file"):
        profile_models([stated("a")], host(Path(name)), RecordingObserver())
    assert created == []


def test_a_run_that_is_stopped_before_its_first_model_says_that_nothing_was_written(
    tmp_path: Path,
) -> None:
    observer = RecordingObserver(lambda _tag, _step: os.kill(os.getpid(), signal.SIGTERM))
    outcome = profile_models([stated("a")], host(tmp_path / "costs.json"), observer)
    assert outcome.interrupted
    assert not outcome.written
    assert list(tmp_path.iterdir()) == []


BAD = {
    "module": "loader: python, target: 'no_such_module.inside:load'",
    "submodule": "loader: python, target: 'json.no_such_part:load'",
    "callable": "loader: python, target: 'workers.worker_models:lode'",
    "package": "loader: onnx, model: 'package:nopkg/x.onnx'",
    "onnx": "loader: onnx, model: garbage.onnx",
}


BAD_TO_TRANSFORMERS = (
    "model: nobody/no-such-model",
    "architecture: brt",
    "architecture: bert, config: {hidden_sise: 32}",
)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The database of an earlier run over models of the same tags."""
    out = tmp_path_factory.mktemp("earlier") / "costs.json"
    profile_models([stated("a"), stated("bad")], host(out), RecordingObserver())
    return out.read_bytes()


def a_list_with(bad: str) -> ModelList:
    """Return a list whose second model is wrong, in its fourth line."""
    text = f"""schema_version: 1
models:
- {{tag: a, loader: synthetic, options: {{resident: 5 MiB}}}}
- {{tag: bad, {bad}}}
"""
    return parse_model_list(text, "list.yaml")


@pytest.mark.parametrize("bad", BAD)
def test_one_bad_model_refuses_the_list_with_its_place_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: bytes, bad: str
) -> None:
    (tmp_path / "garbage.onnx").write_bytes(b"this is no protobuf at all" * 9)
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "costs.json"
    out.write_bytes(earlier)
    models = a_list_with(BAD[bad])
    observer = RecordingObserver()
    with pytest.raises(InputError, match=r"^list\.yaml:4:9: ") as caught:
        profile_models(models.models, host(out), observer, places=models.places)
    assert "bad" in str(caught.value) or "nopkg" in str(caught.value)
    assert observer.steps == {}
    assert out.read_bytes() == earlier
    assert {path.name for path in tmp_path.iterdir()} == {"costs.json", "garbage.onnx"}


@pytest.mark.parametrize(
    ("loader", "package", "remedy"),
    [
        ("onnx, model: x.onnx", "onnxruntime", "pip install 'modelmgr[onnx]'"),
        ("transformers, architecture: bert", "transformers", "pip install 'modelmgr[torch]'"),
    ],
)
def test_a_loader_without_its_package_refuses_the_list_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loader: str, package: str, remedy: str
) -> None:
    """Once the models before it were measured first, and no line was named."""
    (tmp_path / "x.onnx").write_bytes(b"\x3a\x00")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    models = a_list_with(f"loader: {loader}")
    observer = RecordingObserver()
    with pytest.raises(InputError) as caught:
        profile_models(models.models, host(tmp_path / "costs.json"), observer, places=models.places)
    assert str(caught.value) == (
        f"list.yaml:4:9: model 'bad': {package} is not installed; try: {remedy}"
    )
    assert observer.steps == {}
    assert {path.name for path in tmp_path.iterdir()} == {"x.onnx"}


@pytest.mark.torch
def test_what_a_framework_refuses_is_refused_by_a_run_before_it_measures_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One process with the framework answers for all of them: importing it takes seconds.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    observer = RecordingObserver()
    with Session(host(tmp_path / "costs.json"), observer) as session:
        for bad in BAD_TO_TRANSFORMERS:
            models = a_list_with(f"loader: transformers, {bad}")
            plans = plan_models(models.models, host(tmp_path / "costs.json"), models.places)
            with pytest.raises(InputError, match=r"^list\.yaml:4:9: .*bad"):
                session.check_each(plans, models.places)
    assert observer.steps == {}
    assert list(tmp_path.iterdir()) == []

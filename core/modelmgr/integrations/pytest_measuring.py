"""Measure the models of a test session: each once, alone, by the machinery of ``profile``.

Owns what a test may pass for a model, and the folder in which the processes of one session (those
of pytest-xdist) meet: a lock, so that no two models are measured at a time, and what was measured,
so that none is measured twice. What the figures mean for a test is ``pytest_gate``'s.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec

from modelmgr.errors import InputError, ModelmgrError, UsageError
from modelmgr.measuring.journal import fingerprint_of
from modelmgr.measuring.observer import SilentObserver
from modelmgr.measuring.profile import profile_models
from modelmgr.measuring.settings import ProfileSettings
from modelmgr.records.codec import load_costs
from modelmgr.records.costs import CostDatabase, ModelCost
from modelmgr.units import NS_PER_S, parse_bytes, parse_duration_ns
from modelmgr.workers.failures import remote_details
from modelmgr.workload.model_list import Place, parse_model_list, read_model_list
from modelmgr.workload.model_spec import ModelSpec

Model = str | Mapping[str, Any] | ModelSpec
"""A tag of the model list, a model as a model list has it, or a spec."""


class MeasureModel:
    """What the ``model_cost`` fixture gives to one test.

    Attributes:
        costs: what this test has measured so far, by tag.
    """

    def __init__(self, meter: ModelMeter) -> None:
        self.costs: dict[str, ModelCost] = {}
        self._meter = meter

    def __call__(
        self,
        model: Model,
        *,
        models: str | Path | None = None,
        budget: str | None = None,
        repeats: int | None = None,
        timeout: str | None = None,
        seed: int = 0,
    ) -> ModelCost:
        """Return what a model costs; it is measured where this session has not done so yet.

        Args:
            model: a dict as in a model list, a tag of a model list, or a ``ModelSpec``.
            models: the model list, where it is not the session's.
            budget: what the model may use, ``"8 GiB"``; default: the device, half of the host.
            repeats: fresh processes to measure in; default: as the model says, else 3.
            timeout: the longest that it may take, ``"2 min"``; default: for ever.
            seed: of random weights and batches.

        Raises:
            UsageError: there is no such model, its description is wrong, or another one of this
                session has its tag.
            WorkerError, MeasurementError, DoesNotFitError: it could not be measured; notes have
                the worker's own traceback.
            DeviceError: the device is not there or cannot be read.
        """
        __tracebackhide__ = True
        try:
            tag, cost = self._meter.measure(
                model, models, _settings(budget, repeats, timeout, seed)
            )
        except ModelmgrError as error:
            # Without its way through our modules: the test's own line is what tells.
            raise error.with_traceback(None) from None
        self.costs[tag] = cost
        return cost


class ModelMeter:
    """Measures for a whole session.

    Attributes:
        measured: every model of this process's session, each in a database of its own.
        elapsed_ns: how long measuring took, nanoseconds, waiting for others left out.
    """

    def __init__(
        self, folder: Path, *, device: str, models: Path | None, check: Callable[[], None]
    ) -> None:
        """Measure nothing yet.

        Args:
            folder: where the processes of the session meet; made when needed.
            device: where models are measured.
            models: the model list that tags are of, None where none was named.
            check: raises where measuring would be in vain; called before the first measurement.
        """
        self.measured: dict[str, CostDatabase] = {}
        self.elapsed_ns = 0
        self._folder = folder
        self._device = device
        self._models = models
        self._check = check
        self._descriptions: dict[str, str] = {}

    def measure(
        self, model: Model, models: Path | str | None, settings: ProfileSettings
    ) -> tuple[str, ModelCost]:
        """Return a model's tag and its cost; errors as ``MeasureModel.__call__``."""
        spec, places = find_model(model, self._models if models is None else Path(models))
        description = _description(spec, settings)
        if not self.measured:
            self._check()
        if spec.tag not in self.measured:
            with self._alone(spec.tag) as place:
                self.measured[spec.tag] = self._measured(spec, places, settings, place, description)
                self._descriptions[spec.tag] = description
        if self._descriptions[spec.tag] != description:
            raise _taken(spec.tag)
        return spec.tag, self.measured[spec.tag].models[spec.tag]

    @contextmanager
    def _alone(self, tag: str) -> Generator[Path]:
        """Keep other processes of the session from measuring; give the folder for this tag."""
        place = self._folder / hashlib.sha256(tag.encode()).hexdigest()[:32]
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            place.mkdir(exist_ok=True)
            lock = (self._folder / "lock").open("w")
        except OSError as error:
            raise UsageError(f"cannot measure in {self._folder}: {error.strerror}") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed, whatever becomes of us
            yield place

    def _measured(
        self,
        spec: ModelSpec,
        places: Mapping[str, Place],
        settings: ProfileSettings,
        place: Path,
        description: str,
    ) -> CostDatabase:
        """Return what another process of the session measured, else measure."""
        out, described = place / "costs.json", place / "description"
        if described.exists():
            if described.read_text() != description:
                raise _taken(spec.tag)
            return load_costs(out)
        database = self._profile(spec, places, settings, out)
        described.write_text(description)
        return database

    def _profile(
        self,
        spec: ModelSpec,
        places: Mapping[str, Place],
        settings: ProfileSettings,
        out: Path,
    ) -> CostDatabase:
        observer = _FailureKeeper()
        settings = msgspec.structs.replace(settings, out=out, device=self._device)
        started_ns = time.monotonic_ns()
        try:
            outcome = profile_models([spec], settings, observer, places=places)
        finally:
            self.elapsed_ns += time.monotonic_ns() - started_ns
        if outcome.interrupted:
            raise KeyboardInterrupt
        if observer.error is not None:
            details = remote_details(observer.error)
            if details is not None:
                observer.error.add_note(f"in the process of {spec.tag!r}:\n{details}")
            raise observer.error
        return outcome.database


class _FailureKeeper(SilentObserver):
    """Keeps why a model could not be measured: its record has the words only."""

    def __init__(self) -> None:
        self.error: ModelmgrError | None = None

    def model_failed(self, tag: str, error: ModelmgrError) -> None:
        """Keep the error."""
        del tag
        self.error = error


def find_model(model: object, models: Path | None) -> tuple[ModelSpec, Mapping[str, Place]]:
    """Return what a test calls a model, and where it stands in its list.

    Args:
        model: as ``MeasureModel`` takes it.
        models: the model list that a tag is looked up in.

    Raises:
        UsageError: it is none, or its description or its list is wrong.
    """
    if isinstance(model, ModelSpec):
        return model, {}
    if isinstance(model, Mapping):
        return _described(cast("Mapping[object, object]", model)), {}
    if not isinstance(model, str):
        raise UsageError(
            f"a model is a dict as in a model list, a tag of one, or a ModelSpec, not {model!r}"
        )
    if models is None:
        raise UsageError(
            f"no model list was named in which {model!r} could be: name it with --modelmgr-models "
            "FILE or, in the ini-file, with modelmgr_models"
        )
    chosen = read_model_list(models).only([model])
    return chosen.models[0], chosen.places


def _described(model: Mapping[object, object]) -> ModelSpec:
    """Read a dict by the rules of a model list; its places are of no use to anybody."""
    try:
        text = json.dumps({"schema_version": 1, "models": [model]}, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"a model has plain values only, as in a model list: {error}") from error
    try:
        return parse_model_list(text).models[0]
    except InputError as error:
        problem = error.problem.replace("models[0].", "").replace("models[0]", "the model")
        raise InputError(problem, hint=error.hint) from error


def _settings(
    budget: str | None, repeats: int | None, timeout: str | None, seed: int
) -> ProfileSettings:
    """Return how to measure; where and on which device is the session's."""
    try:
        budget_bytes = None if budget is None else parse_bytes(budget)
        timeout_s = None if timeout is None else parse_duration_ns(timeout) / NS_PER_S
    except ValueError as error:
        raise UsageError(f"model_cost: {error}") from error
    settings = ProfileSettings(
        out=Path(),
        budget_bytes=budget_bytes,
        repeats=repeats,
        timeout_s=timeout_s,
        seed=seed,
        command="pytest",
    )
    if budget is not None:  # what somebody stated is meant as it stands
        settings = msgspec.structs.replace(settings, slack=0.0)
    settings.check()
    return settings


def _description(spec: ModelSpec, settings: ProfileSettings) -> str:
    """Return a text that is the same where the very same would be measured."""
    try:
        return fingerprint_of(spec, settings.budget_bytes, settings.repeats, settings.seed)
    except TypeError as error:
        raise UsageError(f"model {spec.tag!r} has a value that is not plain: {error}") from error


def _taken(tag: str) -> UsageError:
    return UsageError(
        f"another model, or the same one with other settings, was measured as {tag!r} in this "
        "session: give each a tag of its own"
    )

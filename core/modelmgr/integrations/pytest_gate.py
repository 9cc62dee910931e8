"""What the plugin does once it is used: measure, judge at a test's end, keep the baseline, sum up.

Owns the session's state and pytest's hooks for it. Measuring is ``pytest_measuring``'s, whether a
figure is too large ``pytest_verdicts``'s. With pytest-xdist each worker has a gate, judges its own
tests and reports its costs when it ends; the process that started them writes the baseline and the
summary.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from modelmgr.devices.discovery import open_reader
from modelmgr.devices.nvml import list_devices
from modelmgr.errors import ModelmgrError, UsageError
from modelmgr.integrations.pytest_baseline import Baseline, read_tolerance
from modelmgr.integrations.pytest_measuring import MeasureModel, ModelMeter, find_model
from modelmgr.integrations.pytest_plugin import MARKER, WORKER_REPORT, meeting_place
from modelmgr.integrations.pytest_summary import (
    SessionReport,
    all_measured,
    put_together,
    summary,
)
from modelmgr.integrations.pytest_verdicts import Limit, limit_for, over_limit, read_limit
from modelmgr.measuring.machine import describe_machine
from modelmgr.records.codec import encode_costs

_COSTS = pytest.StashKey[MeasureModel]()
_LIMITS = pytest.StashKey[tuple[Limit, ...]]()
_WRONG_MARKER = pytest.StashKey[str]()


def open_gate(config: pytest.Config) -> ModelGate:
    """Return a session's gate by its options.

    Raises:
        pytest.UsageError: an option makes no sense, or the device or the baseline cannot be read.
    """
    options = config.option
    try:
        _check_device(options.modelmgr_device)
    except ModelmgrError as error:
        raise pytest.UsageError(f"--modelmgr-device: {error}") from None
    if options.modelmgr_baseline is None:
        return ModelGate(config, None)
    try:
        tolerance = read_tolerance(options.modelmgr_tolerance)
    except UsageError as error:
        raise pytest.UsageError(f"--modelmgr-tolerance: {error}") from None
    try:
        baseline = Baseline(
            config.invocation_params.dir / options.modelmgr_baseline,
            name=options.modelmgr_baseline,
            tolerance=tolerance,
            is_renewed=options.modelmgr_update_baseline,
            allow_mismatch=options.modelmgr_allow_mismatch,
        )
    except UsageError as error:
        raise pytest.UsageError(f"--modelmgr-baseline: {error}") from None
    return ModelGate(config, baseline)


class ModelGate:
    """A session's models, limits and baseline, as a plugin of pytest."""

    def __init__(self, config: pytest.Config, baseline: Baseline | None) -> None:
        """Measure nothing yet."""
        self._baseline = baseline
        self._device: str = config.option.modelmgr_device
        # pytest-xdist's, None where it is not used or this is the process that starts workers.
        self._worker_input: Mapping[str, Any] | None = getattr(config, "workerinput", None)
        run_id = uuid4().hex if self._worker_input is None else self._worker_input["testrunuid"]
        self._folder = meeting_place(run_id)
        self._reports: list[SessionReport] = []
        self._failed: set[str] = set()
        self._renewal: list[str] = []
        self._models = _model_list(config)
        self._known: set[str | None] = set()
        self._meter = ModelMeter(
            self._folder, device=self._device, models=self._models, check=self._check
        )

    def fixture_for(self, item: pytest.Item) -> MeasureModel:
        """Return what measures for a test."""
        item.stash[_COSTS] = MeasureModel(self._meter)
        return item.stash[_COSTS]

    def read_markers(self, items: Sequence[pytest.Item]) -> None:
        """Read the limits of tests that have some.

        Raises:
            pytest.UsageError: a marker says something that makes no sense. In a worker of
                pytest-xdist, which could only crash, its test fails instead.
        """
        for item in items:
            try:
                item.stash[_LIMITS] = limits = _limits_of(item)
                if "model_cost" not in getattr(item, "fixturenames", ()):
                    self._refuse_unknown(limits)
            except UsageError as error:
                problem = f"{item.nodeid}: {MARKER}: {error}"
                if self._worker_input is None:
                    raise pytest.UsageError(problem) from None
                item.stash[_WRONG_MARKER] = problem

    def hear_worker(self, report: bytes) -> None:
        """Take what a worker of pytest-xdist measured."""
        self._reports.append(msgspec.json.decode(report, type=SessionReport))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Hold what a test measured to its limits and to the baseline, once it passed."""
        result = yield
        limits = item.stash.get(_LIMITS, ())
        wrong = item.stash.get(_WRONG_MARKER, None)
        if wrong is not None:
            pytest.fail(wrong, pytrace=False)
        if limits or _COSTS in item.stash:
            try:
                problems = self._judge(item, limits)
            except ModelmgrError as error:
                problems = [str(error)]
            if problems:
                pytest.fail("\n".join(f"modelmgr: {said}" for said in problems), pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note the models of tests that failed, which are no baseline."""
        report = yield
        if report.failed and _COSTS in item.stash:
            self._failed.update(item.stash[_COSTS].costs)
        return report

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Report to who started this worker, else write the baseline that is to be renewed."""
        if self._meter.measured:
            self._reports.append(
                SessionReport(
                    elapsed_ns=self._meter.elapsed_ns,
                    costs=encode_costs(put_together(self._meter.measured.values())),
                    failed=tuple(self._failed),
                )
            )
        if self._worker_input is not None:
            output: dict[str, Any] = getattr(session.config, "workeroutput", {})
            if self._reports:
                output[WORKER_REPORT] = msgspec.json.encode(self._reports[0])
        elif self._reports and self._baseline is not None and self._baseline.is_renewed:
            failed = sorted({tag for report in self._reports for tag in report.failed})
            name = self._baseline.name
            try:
                is_written = self._baseline.renew(all_measured(self._reports), failed=failed)
                self._renewal = [f"modelmgr: {name} was {'' if is_written else 'not '}written"]
            except ModelmgrError as error:
                self._renewal = [f"modelmgr: the baseline was not written: {error}"]
                session.exitstatus = pytest.ExitCode.USAGE_ERROR
            if failed:
                why = f"not taken into {name}, as a test of it failed"
                self._renewal.append(f"modelmgr: {why}: {', '.join(failed)}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say how many models were measured, and what the baseline says of them."""
        lines = summary(self._reports, self._baseline, verbose=terminalreporter.verbosity > 0)
        if lines:
            terminalreporter.section("modelmgr")
        for line in (*lines, *self._renewal):
            terminalreporter.line(line)

    def pytest_unconfigure(self) -> None:
        """Remove what the processes of the session shared."""
        if self._worker_input is None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _judge(self, item: pytest.Item, limits: Sequence[Limit]) -> list[str]:
        """Return what is wrong with the models of a test.

        Raises:
            ModelmgrError: a model that a limit names cannot be measured.
        """
        measure = item.stash.get(_COSTS, None) or self.fixture_for(item)
        for limit in limits:
            if limit.model is not None and limit.model not in measure.costs:
                measure(limit.model)
        if not measure.costs and any(limit.of_test for limit in limits):
            said = f"{MARKER} has nothing to limit: the test measured no model"
            return [f"{said}; measure one with model_cost, or name one: model='TAG'"]
        problems: list[str | None] = []
        for tag, cost in measure.costs.items():
            held_to = limit_for(tag, limits)
            if held_to is not None:
                problems.append(over_limit(tag, cost, held_to))
            if self._baseline is not None:
                problems.append(self._baseline.judge(tag, self._meter.measured[tag]))
        return [problem for problem in problems if problem is not None]

    def _refuse_unknown(self, limits: Sequence[Limit]) -> None:
        """Refuse limits of models that only the model list could have, and has not."""
        for model in {limit.model for limit in limits} - self._known - {None}:
            find_model(model, self._models)
            self._known.add(model)

    def _check(self) -> None:
        """Refuse to measure for a baseline that could not take it."""
        if self._baseline is not None and self._baseline.is_renewed:
            with closing(open_reader(self._device)) as reader:
                self._baseline.check_renewal(describe_machine(reader.description))


def _check_device(name: str) -> None:
    """Refuse a device that is not here, or that nothing can be measured on."""
    if name in {"auto", "host"}:
        return
    cuda = [device.name for device in list_devices()]
    known = ["auto", "host", *(["cuda"] if cuda else []), *cuda]
    if name not in known:
        here = f"devices here: {', '.join(known)}"
        raise UsageError(f"there is no device {name!r} to measure on; {here}")


def _limits_of(item: pytest.Item) -> tuple[Limit, ...]:
    """Return the limits of a test, the nearest first; of several at one place the least.

    Raises:
        UsageError: one makes no sense.
    """
    limits: dict[tuple[str, str | None], Limit] = {}
    for node, marker in item.iter_markers_with_node(MARKER):
        limit = read_limit(marker.args, marker.kwargs, of_test=node is item)
        place = (node.nodeid, limit.model)
        limits[place] = min(limits.get(place, limit), limit, key=lambda each: each.limit_bytes)
    return tuple(limits.values())


def _model_list(config: pytest.Config) -> Path | None:
    """Return the model list: the option's, else the ini-file's, else None."""
    named: str | None = config.option.modelmgr_models
    if named is not None:
        return config.invocation_params.dir / named
    written: str = config.getini("modelmgr_models")
    if not written:
        return None
    return (config.rootpath if config.inipath is None else config.inipath.parent) / written

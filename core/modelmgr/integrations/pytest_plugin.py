"""The pytest plugin (entry point ``modelmgr``): a test-suite holds its models to a budget.

Owns what pytest must know before anything is used: options, the marker, the fixture, and the
waking of ``pytest_gate``, which does the work. pytest imports this module in every run of everybody
who has modelmgr installed, so it imports nothing that pytest does not, has no hook that runs for
each test, and says nothing until a test measures a model, has the marker, or a baseline is named.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from modelmgr.integrations.pytest_gate import ModelGate
    from modelmgr.integrations.pytest_measuring import MeasureModel

MARKER = "limit_model_memory"
WORKER_REPORT = "modelmgr"
"""What a worker of pytest-xdist calls its report to the process that started it."""

_ANY_DEVICE = "auto"
_GATE = pytest.StashKey["ModelGate"]()
_RUN_OF_WORKERS = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; what they say is read when they are used."""
    group = parser.getgroup("modelmgr", "memory of models (modelmgr)")
    group.addoption(
        "--modelmgr-baseline",
        metavar="FILE",
        help="cost database that measured models are compared with: one that grew fails its test",
    )
    group.addoption(
        "--modelmgr-tolerance",
        metavar="LIMIT",
        default="5%",
        help="how far each figure may grow, e.g. 5%%, 64MiB, 5%%+1MiB (default: %(default)s)",
    )
    group.addoption(
        "--modelmgr-update-baseline",
        action="store_true",
        help="write what was measured into the baseline instead of comparing with it",
    )
    group.addoption(
        "--modelmgr-allow-mismatch",
        action="store_true",
        help="compare with a baseline of another machine or version all the same",
    )
    group.addoption(
        "--modelmgr-models",
        metavar="FILE",
        help="model list that tags are looked up in (default: modelmgr_models of the ini-file)",
    )
    group.addoption(
        "--modelmgr-device",
        metavar="NAME",
        default=_ANY_DEVICE,
        help="where models are measured: auto (a CUDA device, else the host), host, cuda, cuda:N",
    )
    parser.addini("modelmgr_models", "model list, relative to this file (YAML)", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(limit, *, model=None): fail the test when a model that it measures, or the "
        "model named, has a peak above the limit, e.g. '1.2 GiB' (modelmgr)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Look at the device and the baseline, so that wrong ones are refused before any test runs."""
    options = session.config.option
    if options.modelmgr_baseline is not None or options.modelmgr_device != _ANY_DEVICE:
        _gate_of(session.config)
    if options.modelmgr_baseline is None and options.modelmgr_update_baseline:
        raise pytest.UsageError(
            "--modelmgr-update-baseline: which one? name it with --modelmgr-baseline FILE"
        )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Read the markers, so that a wrong one is refused before any test runs."""
    marked = [item for item in items if item.get_closest_marker(MARKER) is not None]
    if marked:
        _gate_of(config).read_markers(marked)


@pytest.fixture
def model_cost(request: pytest.FixtureRequest) -> MeasureModel:
    """Measure what a model costs, in a process of its own: ``model_cost(model) -> ModelCost``.

    ``model`` is a dict as in a model list, or a tag of the list that ``--modelmgr-models`` (or
    ``modelmgr_models`` of the ini-file) names. Each model is measured once in a session.
    """
    return _gate_of(request.config).fixture_for(request.node)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # noqa: ANN401 - pytest-xdist's, which has no types
    """Note where the workers of pytest-xdist will meet."""
    node.config.stash[_RUN_OF_WORKERS] = node.workerinput["testrunuid"]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - as above
    """Take what a worker of pytest-xdist measured."""
    report = getattr(node, "workeroutput", {}).get(WORKER_REPORT)
    if report is not None:
        _gate_of(node.config).hear_worker(report)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what workers shared, also where they were interrupted."""
    run_id = config.stash.get(_RUN_OF_WORKERS, None)
    if run_id is not None:
        shutil.rmtree(meeting_place(run_id), ignore_errors=True)


def meeting_place(run_id: str) -> Path:
    """Return the folder that the processes of one session share; nobody else can guess it."""
    return Path(tempfile.gettempdir()) / f"modelmgr-pytest-{run_id}"


def _gate_of(config: pytest.Config) -> ModelGate:
    """Return the session's gate; it is made and joins pytest's plugins when first asked for."""
    gate = config.stash.get(_GATE, None)
    if gate is None:
        # Here and not above: whoever does not use the plugin must not wait for what it needs.
        from modelmgr.integrations.pytest_gate import open_gate  # noqa: PLC0415

        gate = config.stash[_GATE] = open_gate(config)
        config.pluginmanager.register(gate, "modelmgr-gate")
    return gate

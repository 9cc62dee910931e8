"""Test-suites that hold their models against a baseline, run as their owners run them."""

from __future__ import annotations

import json

import msgspec
import pytest

from modelmgr.measuring.observer import SilentObserver
from modelmgr.measuring.profile import profile_models
from modelmgr.measuring.settings import ProfileSettings
from modelmgr.records.codec import load_costs, save_costs
from modelmgr.records.costs import CostDatabase
from modelmgr.units import MIB
from modelmgr.workload.model_list import parse_model_list
from support.command_line import make_database
from support.plugin_runs import PLUGIN, SMALL, Suite

pytest_plugins = ["pytester"]

_SUITE = f"""
SMALL = {SMALL}

def test_small(model_cost):
    model_cost(SMALL)

def test_small_again(model_cost):
    assert model_cost(SMALL).error is None
"""
_GROWN = _SUITE.replace("'activation': '8 MiB'", "'activation': '20 MiB'")
_OTHER = """
def test_other(model_cost):
    model_cost({"tag": "other", "loader": "synthetic", "options": {"resident": "10 MiB"},
                "input": {"batch_size": 1}, "repeats": 1})
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    return Suite(pytester, monkeypatch)


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> CostDatabase:
    """What ``modelmgr profile`` writes of the small model."""
    document = json.dumps({"schema_version": 1, "models": [{**SMALL, "repeats": 2}]})
    out = tmp_path_factory.mktemp("profiled") / "costs.json"
    settings = ProfileSettings(out=out, device="host")
    return profile_models(parse_model_list(document).models, settings, SilentObserver()).database


def test_a_baseline_is_written_kept_to_and_tells_which_part_grew(suite: Suite) -> None:
    costs = suite.path / "costs.json"
    suite.write("test_models.py", _SUITE)
    written = suite.run("--modelmgr-baseline=costs.json", "--modelmgr-update-baseline")
    written.assert_outcomes(passed=2)
    written.stdout.fnmatch_lines(["modelmgr: 1 model measured on host in *", "modelmgr: *written*"])
    assert [path.name for path in suite.path.glob("*costs*")] == ["costs.json"]
    first = load_costs(costs)
    assert list(first.models) == ["small"]
    assert len(first.runs) == 1
    activation = first.models["small"].shapes[0].activation_bytes
    assert activation is not None
    assert abs(activation.value - 16 * MIB) < MIB

    suite.write("test_models.py", _GROWN + _OTHER)
    grown = suite.run("--modelmgr-baseline=costs.json")
    grown.assert_outcomes(passed=1, failed=2)
    grown.stdout.fnmatch_lines(
        [
            "*'small' grew by more than 5% over costs.json; the part * most is activation: +2*",
            "  peak_bytes * MiB -> * MiB, +2?.? MiB (+*%)",
            "  shapes?batch_size=2?.activation_bytes * MiB -> * MiB, +2?.? MiB (+*%)",
            "  weights * 40.0 MiB -> * 40.0 MiB * +0 B",
            "  activation *-> * +2?.? MiB",
            "*= modelmgr =*",
        ]
    )
    assert "resident_bytes" not in grown.stdout.str()  # it did not grow
    grown.stdout.fnmatch_lines(
        [
            "modelmgr: 1 model held against costs.json, 1 grew by more than 5%: small",
            "modelmgr: not in costs.json: other",
        ]
    )
    assert load_costs(costs) == first

    suite.write("test_models.py", _OTHER)
    suite.run("--modelmgr-baseline=costs.json", "--modelmgr-update-baseline").assert_outcomes(
        passed=1
    )
    both = load_costs(costs)
    assert both.models["small"] == first.models["small"]
    assert set(both.models) == {"small", "other"}
    assert len(both.runs) == 2


def test_growth_within_the_tolerance_passes_and_what_was_never_measured_is_new(
    suite: Suite, profiled: CostDatabase
) -> None:
    failed = make_database().models["broken"]
    models = {**profiled.models, "other": failed}
    save_costs(msgspec.structs.replace(profiled, models=models), suite.path / "costs.json")
    suite.write("test_models.py", _SUITE.replace("'8 MiB'", "'10 MiB'") + _OTHER)
    result = suite.run("--modelmgr-baseline", "costs.json", "--modelmgr-tolerance", "40%", "-v")

    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["  small * MiB", "  other * MiB", "*0 grew by more than 40%"])
    result.stdout.fnmatch_lines(["modelmgr: not in costs.json: other*"])


def test_a_baseline_of_another_python_is_named_and_is_no_regression(
    suite: Suite, profiled: CostDatabase
) -> None:
    machine = msgspec.structs.replace(profiled.machine, python="2.7.18")
    save_costs(msgspec.structs.replace(profiled, machine=machine), suite.path / "costs.json")
    suite.write("test_models.py", _GROWN)
    result = suite.run("--modelmgr-baseline=costs.json")

    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "modelmgr: 1 model not held against costs.json, which is of another machine *",
            "  python was 2.7.18 and is 3.*",
        ]
    )
    suite.run("--modelmgr-baseline=costs.json", "--modelmgr-allow-mismatch").assert_outcomes(
        failed=2
    )


def test_workers_of_xdist_measure_each_model_once_and_write_one_baseline(
    suite: Suite, profiled: CostDatabase
) -> None:
    save_costs(profiled, suite.path / "costs.json")
    wrong = """
import pytest

@pytest.mark.limit_model_memory(1)
def test_wrong():
    pass

def test_fails(model_cost):
    model_cost({"tag": "failing", "loader": "synthetic", "options": {"resident": "10 MiB"},
                "input": {"batch_size": 1}, "repeats": 1})
    raise AssertionError
"""
    suite.write("test_0.py", _SUITE + _OTHER)
    suite.write("test_1.py", _SUITE + wrong)
    options = ("-n2", "--dist=loadfile", "--modelmgr-update-baseline")
    result = suite.run(*options, "--modelmgr-baseline=costs.json", plugins=(PLUGIN, "xdist.plugin"))

    result.assert_outcomes(passed=5, failed=2)
    result.stdout.fnmatch_lines(["test_1.py::test_wrong: limit_model_memory: 1 has no unit*"])
    result.stdout.fnmatch_lines(
        [
            "modelmgr: 3 models measured on host in *",
            "*was written",
            "*a test of it failed: failing",
        ]
    )
    database = load_costs(suite.path / "costs.json")
    assert set(database.models) == {"small", "other"}
    assert len(database.runs) == 2
    assert list(suite.scratch.glob("modelmgr-*")) == []


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        (None, ("--modelmgr-baseline=cost.json",), "or write it with --modelmgr-update-baseline"),
        ("{", ("--modelmgr-baseline=costs.json",), "costs.json"),
        ('{"kind": "modelmgr.costs", "schema_version": 99}', ("--modelmgr-baseline=costs.json",),
         "newer modelmgr"),
        (None, ("--modelmgr-update-baseline",), "name it with --modelmgr-baseline FILE"),
        (None, ("--modelmgr-baseline=no/costs.json", "--modelmgr-update-baseline"),
         "does not exist"),
        (None, ("--modelmgr-baseline=/proc/costs.json", "--modelmgr-update-baseline"),
         "--modelmgr-baseline: cannot write /proc/costs.json: "),
        (None, ("--modelmgr-baseline=/proc", "--modelmgr-update-baseline"), "/proc"),
        (None, (f"--modelmgr-baseline={'x' * 300}",), "cannot read this cost database: File name"),
        ("{}", ("--modelmgr-baseline=costs.json", "--modelmgr-tolerance=5 %%"),
         "--modelmgr-tolerance: '5 %%' is no limit"),
    ],
)  # fmt: skip
def test_a_baseline_that_cannot_be_used_is_one_usage_error(
    suite: Suite, content: str | None, arguments: tuple[str, ...], said: str
) -> None:
    suite.write("test_models.py", "def test_it():\n    pass\n")
    if content is not None:
        suite.write("costs.json", content)
    result = suite.run(*arguments)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert "passed" not in result.stdout.str()


def test_a_baseline_of_another_device_is_not_measured_for_in_vain(suite: Suite) -> None:
    save_costs(make_database(), suite.path / "costs.json")
    before = (suite.path / "costs.json").read_bytes()
    suite.write("test_models.py", _SUITE)
    result = suite.run("--modelmgr-baseline=costs.json", "--modelmgr-update-baseline")

    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["E * was measured on another processor (Some CPU; *"])
    assert (suite.path / "costs.json").read_bytes() == before


def test_what_a_failing_test_measured_becomes_no_baseline(
    suite: Suite, profiled: CostDatabase
) -> None:
    """A model above its limit became the baseline that it was then held to."""
    save_costs(profiled, suite.path / "costs.json")
    limited = f"""
import pytest

@pytest.mark.limit_model_memory("10 MiB")
def test_small_fails(model_cost):
    model_cost({SMALL})
"""
    suite.write("test_models.py", limited + _SUITE + _OTHER)
    options = ("--modelmgr-baseline=costs.json", "--modelmgr-update-baseline")
    result = suite.run(*options)

    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        [
            "modelmgr: costs.json was written",
            "modelmgr: not taken into costs.json, as a test of it failed: small",
        ]
    )
    database = load_costs(suite.path / "costs.json")
    assert database.models["small"] == profiled.models["small"]
    assert "other" in database.models

    before = (suite.path / "costs.json").read_bytes()
    suite.write("test_models.py", limited)
    suite.run(*options).stdout.fnmatch_lines(["modelmgr: costs.json was not written*", "*: small"])
    assert (suite.path / "costs.json").read_bytes() == before


def test_a_baseline_and_no_model_says_that_nothing_was_measured(suite: Suite) -> None:
    save_costs(make_database(), suite.path / "costs.json")
    suite.write("test_models.py", "def test_it():\n    pass\n")
    result = suite.run("--modelmgr-baseline=costs.json")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["modelmgr: no model was measured"])

"""Test-suites that limit their models' memory, run as their owners run them."""

from __future__ import annotations

import pytest

from modelmgr.records.codec import load_costs
from support.plugin_runs import SMALL, Suite

pytest_plugins = ["pytester"]

_MODELS = """
import numpy as np

class Model:
    def __init__(self, mib):
        self.pages = np.ones(mib << 20, dtype=np.uint8)
        self.weights_bytes = self.pages.nbytes

    def infer(self, batch):
        return batch

def load(mib):
    return Model(mib)

def broken():
    raise RuntimeError("the weights are gone")
"""

_LIST = """
schema_version: 1
defaults: {repeats: 1}
models:
  - {tag: listed, loader: python, target: "team_models:load", options: {mib: 30}}
  - {tag: broken, loader: python, target: "team_models:broken"}
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    return Suite(pytester, monkeypatch)


def test_a_suite_is_held_to_its_limits_and_told_which_part_is_too_large(suite: Suite) -> None:
    suite.write("team_models.py", _MODELS)
    suite.write("models.yaml", _LIST)
    suite.write(
        "test_budgets.py",
        f"""
        import pytest
        from modelmgr import ModelLoadError, UsageError

        SMALL = {SMALL}

        @pytest.mark.limit_model_memory("500 MiB")
        def test_within(model_cost):
            cost = model_cost(SMALL)
            assert cost.peak_bytes.value > 56 << 20
            assert cost.ledger.weights_bytes == 40 << 20

        @pytest.mark.limit_model_memory("50 MiB")
        def test_over(model_cost):
            model_cost(SMALL)

        @pytest.mark.limit_model_memory("500 MiB")
        @pytest.mark.limit_model_memory("10 MiB", model="small")
        def test_over_its_own(model_cost):
            model_cost(SMALL)

        @pytest.mark.limit_model_memory("20 MiB")
        @pytest.mark.limit_model_memory("500 MiB")
        def test_of_two_the_least(model_cost):
            model_cost(SMALL)

        @pytest.mark.limit_model_memory("500 MiB", model="listed")
        def test_named_and_not_measured_by_the_test():
            pass

        @pytest.mark.limit_model_memory("20 MiB", model="listed")
        def test_named_and_over():
            pass

        @pytest.mark.limit_model_memory("500 MiB", model="broken")
        def test_named_and_broken():
            pass

        @pytest.mark.limit_model_memory("500 MiB")
        def test_nothing_to_limit():
            pass

        @pytest.mark.limit_model_memory("20 MiB")
        class TestOfOneClass:
            def test_measures_nothing(self):
                pass

            @pytest.mark.xfail(strict=True)
            def test_expected(self, model_cost):
                model_cost("listed")

            @pytest.mark.limit_model_memory("500 MiB")
            def test_the_nearest_holds(self, model_cost):
                model_cost("listed")

        def test_measured_once(model_cost):
            assert model_cost(SMALL) is model_cost(dict(SMALL))

        def test_unknown(model_cost):
            with pytest.raises(UsageError, match="did you mean 'listed'"):
                model_cost("lsited")

        def test_wrong_key(model_cost):
            with pytest.raises(UsageError, match="unknown key 'lodaer'"):
                model_cost({{"tag": "a", "lodaer": "synthetic"}})

        def test_taken(model_cost):
            model_cost(SMALL)
            with pytest.raises(UsageError, match="a tag of its own"):
                model_cost({{**SMALL, "input": {{"batch_size": 3}}}})

        def test_broken_on_purpose(model_cost):
            with pytest.raises(ModelLoadError) as caught:
                model_cost("broken")
            assert "the weights are gone" in str(caught.value)

        def test_broken(model_cost):
            model_cost("broken")
        """,
    )
    result = suite.run("--modelmgr-models", "models.yaml", "-rA")

    result.assert_outcomes(passed=9, failed=7, xfailed=1)
    text = result.stdout.str()
    for name in ("over", "over_its_own", "named_and_over", "named_and_broken", "nothing_to_limit"):
        assert f"FAILED test_budgets.py::test_{name} " in text
    result.stdout.fnmatch_lines(
        [
            "*'small' takes * more than its limit of 50 MiB; most of it is weights: 40.0 MiB",
            "  runtime * MiB",
            "  weights * 40.0 MiB",
            "  activation * MiB",
            "  cache *",
            "  unaccounted *",
            "  peak * MiB",
        ]
    )
    result.stdout.fnmatch_lines(
        [
            "*limit of 10 MiB;*",
            "*'small' takes*limit of 20 MiB;*",
            "*'listed' takes*limit of 20 MiB;*",
        ]
    )
    result.stdout.fnmatch_lines(["modelmgr: limit_model_memory has nothing to limit:*"])
    result.stdout.fnmatch_lines(["*= modelmgr =*", "modelmgr: 2 models measured on host in *"])
    # The failing line is the test's own; nothing of how we measure stands between.
    result.stdout.fnmatch_lines([">       model_cost(?broken?)", "E       *the weights are gone*"])
    for ours in ("pytest_measuring.py", "profile.py", "pytest_gate.py"):
        assert ours not in text


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ("'12 parsecs'", "'12 parsecs' has an unknown unit 'parsecs'"),
        ("1200", "1200 has no unit; write for example '1.2 GiB'"),
        ("'1 GiB', model='lsited'", "models.yaml has no model 'lsited'; did you mean 'listed'?"),
    ],
)
def test_a_wrong_marker_is_one_usage_error_before_any_test_runs(
    suite: Suite, marker: str, said: str
) -> None:
    suite.write("models.yaml", _LIST)
    suite.write(
        "test_budgets.py",
        f"""
        import pytest

        def test_fine():
            pass

        @pytest.mark.limit_model_memory({marker})
        def test_marked():
            pass
        """,
    )
    result = suite.run("--modelmgr-models", "models.yaml")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()
    assert "test_budgets.py::test_marked: limit_model_memory: " in result.stderr.str()
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert "passed" not in result.stdout.str()


@pytest.mark.parametrize("device", ["bogus", "fixed:8GiB", "cuda:99"])
def test_a_device_that_is_not_there_is_one_usage_error_before_any_test_runs(
    suite: Suite, device: str
) -> None:
    suite.write("test_models.py", f"def test_it(model_cost):\n    model_cost({SMALL})\n")
    result = suite.run(f"--modelmgr-device={device}")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = (
        f"--modelmgr-device: there is no device '{device}' to measure on; devices here: auto, host"
    )
    assert said in result.stderr.str()
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert "failed" not in result.stdout.str()


def test_the_ini_file_may_name_the_model_list(suite: Suite) -> None:
    suite.write("models.yaml", _LIST)
    suite.write("pytest.ini", "[pytest]\nmodelmgr_models = models.yaml\n")
    suite.write(
        "tests/test_budgets.py",
        """
        import pytest

        @pytest.mark.limit_model_memory("1 GiB", model="lsited")
        def test_marked():
            pass
        """,
    )
    result = suite.run("tests")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "models.yaml has no model 'lsited'" in result.stderr.str()


def test_a_tag_without_any_model_list_says_how_to_name_one(suite: Suite) -> None:
    suite.write("test_budgets.py", "def test_it(model_cost):\n    model_cost('bert')\n")
    result = suite.run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E * no model list was named *--modelmgr-models FILE*"])


def test_an_interrupted_suite_leaves_nothing_behind_but_what_it_had_measured(suite: Suite) -> None:
    suite.write(
        "team_models.py",
        """
        import os, signal

        def interrupts():
            os.kill(int(os.environ["SUITE_PID"]), signal.SIGINT)
            signal.pause()
        """,
    )
    suite.write(
        "test_models.py",
        f"""
        import os

        os.environ["SUITE_PID"] = str(os.getpid())

        def test_first(model_cost):
            model_cost({SMALL})

        def test_second(model_cost):
            model_cost({{"tag": "stops", "loader": "python", "target": "team_models:interrupts"}})

        def test_never():
            pass
        """,
    )
    result = suite.run("--modelmgr-baseline=costs.json", "--modelmgr-update-baseline")

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["modelmgr: 1 model measured on host*", "*was written"])
    assert list(load_costs(suite.path / "costs.json").models) == ["small"]
    assert list(suite.scratch.iterdir()) == []


@pytest.mark.parametrize("option", ["--help", "--markers", "--fixtures"])
def test_help_is_given_whatever_the_options_say(suite: Suite, option: str) -> None:
    result = suite.run(option, "--modelmgr-baseline=missing.json")

    assert result.ret == (pytest.ExitCode.USAGE_ERROR if option == "--fixtures" else 0)
    assert ("modelmgr" in result.stdout.str()) is (option != "--fixtures")

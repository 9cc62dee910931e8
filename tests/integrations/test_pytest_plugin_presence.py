"""What the plugin is to suites that do not use it: nothing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from support.command_line import clean_environment
from support.plugin_runs import PLUGIN, Suite

pytest_plugins = ["pytester"]

_ROOT = Path(__file__).resolve().parents[2]
_SHOW = """
import sys

def test_it():
    pass

def teardown_module():
    ours = sorted(name for name in sys.modules if name.split(".")[0] == "modelmgr")
    heavy = [name for name in {heavy} if name in sys.modules]
    print("OURS", ours)
    print("HEAVY", heavy)
"""
_HEAVY = ("msgspec", "numpy", "psutil", "rich", "scipy", "torch", "typer", "yaml")


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    return Suite(pytester, monkeypatch)


def test_a_suite_that_does_not_use_it_imports_nothing_and_is_told_nothing(suite: Suite) -> None:
    suite.write("test_theirs.py", _SHOW.format(heavy=_HEAVY))
    result = suite.run("-s", "--strict-markers", "--strict-config", "-Werror")

    result.assert_outcomes(passed=1)
    packages = ["modelmgr", "modelmgr._version", "modelmgr.integrations", PLUGIN]
    text = result.stdout.str()
    assert f"OURS {packages}\nHEAVY []\n" in text
    assert "modelmgr:" not in text


def test_importing_the_plugin_imports_no_more_than_pytest_does() -> None:
    code = f"""
import sys, pytest
before = set(sys.modules)
import {PLUGIN}
print(*sorted(set(sys.modules) - before))
"""
    imported = subprocess.run(  # noqa: S603  # this interpreter, our own line
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(),
    ).stdout
    assert imported.split() == ["modelmgr", "modelmgr._version", "modelmgr.integrations", PLUGIN]


def test_a_fixture_of_theirs_with_our_name_is_theirs(suite: Suite) -> None:
    suite.write(
        "test_theirs.py",
        """
        import pytest

        @pytest.fixture
        def model_cost():
            return 7

        def test_it(model_cost):
            assert model_cost == 7
        """,
    )
    suite.run("-Werror").assert_outcomes(passed=1)


def test_pytest_finds_the_plugin_by_the_entry_point_that_the_package_has(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["pytest11"]
    (name,) = points
    info = suite.path / "site" / "team-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: team\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[pytest11]\n{name} = {points[name]}\n")
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    monkeypatch.setenv("PYTHONPATH", str(info.parent))
    suite.write("test_theirs.py", "def test_it(model_cost):\n    assert callable(model_cost)\n")

    suite.run(plugins=()).assert_outcomes(passed=1)
    without = suite.run("-p", f"no:{name}", plugins=())
    without.assert_outcomes(errors=1)
    without.stdout.fnmatch_lines(["*fixture 'model_cost' not found"])

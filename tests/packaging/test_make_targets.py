"""The Makefile: what it lists, what it refuses, and that a broken installation is gone on with.

Python is a script of ours that notes how it was called, so that nothing is installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.command_line import clean_environment

_ROOT = Path(__file__).resolve().parents[2]
_MAKEFILE = (_ROOT / "Makefile").read_text()
_PYTHON = """\
#!/bin/sh
echo "$*" >> calls
case "$*" in
  -V) echo "Python 3.9.2" ;;
  "-c import sys"*) test ! -e too_old ;;
  "-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  *" install -c "*) test ! -e no_network ;;
esac
"""


@dataclass(frozen=True, slots=True)
class Clone:
    """What make needs of a clone, with a Python that only pretends."""

    folder: Path

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run make and return what it wrote."""
        return subprocess.run(  # noqa: S603  # our own Makefile
            ["make", "PYTHON=./python", *arguments],  # noqa: S607  # the make that users have
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=clean_environment(MAKEFLAGS="", MAKELEVEL=""),
            timeout=60,
        )

    def calls(self) -> list[str]:
        """Return how Python was called so far."""
        calls = self.folder / "calls"
        return calls.read_text().splitlines() if calls.exists() else []


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(_ROOT / name, tmp_path)
    (tmp_path / "constraints.txt").touch()
    (tmp_path / "python").write_text(_PYTHON)
    (tmp_path / "python").chmod(0o755)
    return Clone(tmp_path)


def test_make_alone_lists_every_target_and_does_nothing(clone: Clone) -> None:
    listed = re.findall(r"^  make ([a-z-]+) +\w", clone.make().stdout, re.MULTILINE)

    (phony,) = re.findall(r"^\.PHONY: (.*)$", _MAKEFILE, re.MULTILINE)
    assert listed == phony.split()
    assert clone.calls() == []


def test_an_old_python_is_refused_before_anything_is_made(clone: Clone) -> None:
    (clone.folder / "too_old").touch()

    finished = clone.make("test")

    assert finished.returncode == 2
    assert "modelmgr: needs Python >= 3.11, ./python is Python 3.9.2" in finished.stderr
    assert not (clone.folder / ".venv").exists()


def test_no_python_at_all_is_refused_with_what_to_say(clone: Clone) -> None:
    finished = clone.make("install", "PYTHON=python9.99")

    assert finished.returncode == 2
    assert "modelmgr: python9.99 was not found" in finished.stderr
    assert "make PYTHON=" in finished.stderr


def test_an_installation_that_fails_is_gone_on_with_and_one_that_succeeds_is_not_repeated(
    clone: Clone,
) -> None:
    (clone.folder / "no_network").touch()
    failed = clone.make("install")
    (clone.folder / "no_network").unlink()
    repeated = clone.make("install")
    calls = clone.calls()
    again = clone.make("install")

    assert failed.returncode == 2
    assert "the package index could not be reached" in failed.stderr
    assert repeated.returncode == 0
    assert calls.count("-m venv --clear .venv") == 1
    assert again.returncode == 0
    assert clone.calls() == calls


def test_an_environment_whose_python_is_too_old_is_named_and_left_alone(clone: Clone) -> None:
    clone.make("install")
    (clone.folder / ".venv" / ".installed").unlink()
    (clone.folder / "too_old").touch()

    finished = clone.make("install")

    assert finished.returncode == 2
    assert ".venv was made with Python 3.9.2; run: make clean" in finished.stderr
    assert (clone.folder / ".venv" / "bin" / "python").exists()

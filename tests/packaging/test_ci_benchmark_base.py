"""The action measures a pull request's base with the base's code and libraries, not the head's."""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

import pytest

import modelmgr
import modelmgr_cli
from support.composite_action import Job, Runner
from support.team_repository import git

_ROOT = Path(__file__).resolve().parents[2]
_LOCAL = "--no-deps --no-build-isolation"
_MODELS = """\
schema_version: 1
models:
  - {tag: bert, loader: python, target: "teammodels:load", input: {batch_size: 1}, repeats: 1}
"""
_CODE = """\
import numpy as np

class Model:
    def __init__(self):
        self.weights = np.ones(MIB << 20, dtype=np.uint8)

    def infer(self, batch):
        return batch

def load():
    return Model()
"""
_PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "teammodels"
version = "1"
[tool.hatch.build.targets.wheel]
packages = ["FOLDER"]
dev-mode-dirs = ["src"]
"""
# What the action installs: a modelmgr that is the one under test.
_STAND_IN = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "modelmgr"
version = "99"
[project.scripts]
modelmgr = "modelmgr_cli.start:main"
[tool.hatch.build.targets.wheel]
bypass-selection = true
"""


class Team:
    """A repository and the runner that its pull requests get.

    Attributes:
        checkout: what the runner has checked out.
    """

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "team"
        self.checkout.mkdir()
        self._folder = folder
        git(self.checkout, "init", "--quiet", "--initial-branch=main")
        self.write("models.yaml", _MODELS)

    def write(self, name: str, text: str) -> None:
        """Write a file of the repository."""
        path = self.checkout / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self) -> str:
        """Commit all there is; return the commit."""
        git(self.checkout, "add", ".")
        git(self.checkout, "commit", "--quiet", "-m", "A change")
        return git(self.checkout, "rev-parse", "HEAD")

    def merge(self, branch: str) -> str:
        """Make the commit that a pull request's workflow is started for."""
        git(self.checkout, "merge", "--quiet", "--no-ff", "-m", "A merge", branch)
        return git(self.checkout, "rev-parse", "HEAD")

    def clone_shallow(self) -> None:
        """Go on in a checkout that has the last commit alone."""
        origin = self.checkout
        self.checkout = self._folder / "shallow"
        git(self._folder, "clone", "--quiet", "--depth=1", origin.as_uri(), "shallow")

    def pull(self, sha: str, install: str, **environment: str) -> Job:
        """Run the action for a pull request."""
        action, temp, programs = (self._folder / name for name in ("action", "temp", "programs"))
        for folder in (action, temp, programs):
            folder.mkdir()
        shutil.copy(_ROOT / "action.yml", action)
        (action / "pyproject.toml").write_text(_STAND_IN)
        python = programs / "python"
        python.write_text(_python())
        python.chmod(0o755)
        environment |= {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"}
        runner = Runner(action / "action.yml", self.checkout, temp, programs, **environment)
        return runner.use("pull_request", sha=sha, models="models.yaml", install=install)


def _python() -> str:
    """Return a python whose environments have already what the network would bring."""
    packages = [folder for folder in sys.path if folder.endswith("site-packages")]
    ours = [str(Path(str(each.__file__)).parents[1]) for each in (modelmgr, modelmgr_cli)]
    shared = "\\n".join([*packages, *ours])
    return f"""#!/bin/sh
[ "$2" = venv ] || exec {sys.executable} "$@"
{sys.executable} -m venv --without-pip "$3" "$4" || exit
for packages in "$4"/lib/python*/site-packages; do
    printf '{shared}\\n' > "$packages/shared.pth"
done
"""


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path)


def _says_that_the_weights_grew(job: Job) -> bool:
    rows = job.summary.replace("\\", "").splitlines()
    return any("❌ worse | bert peak_bytes" in row and "grown by: weights" in row for row in rows)


@pytest.mark.parametrize(
    ("folder", "install", "paths"),
    [
        ("src/teammodels", f"python -m pip install {_LOCAL} -e .", "{checkout}/src"),
        ("teammodels", f"python -m pip install {_LOCAL} .", ""),
    ],
    ids=["src layout, editable", "flat layout"],
)
def test_code_whose_weights_grow_tenfold_fails_against_the_code_of_the_base(
    team: Team, folder: str, install: str, paths: str
) -> None:
    """Both were measured with the installed code, which is the pull request's: it passed."""
    team.write("pyproject.toml", _PROJECT.replace("FOLDER", folder))
    team.write(f"{folder}/__init__.py", _CODE.replace("MIB", "16"))
    base = team.commit()
    git(team.checkout, "switch", "--quiet", "--create", "topic")
    team.write(f"{folder}/__init__.py", _CODE.replace("MIB", "160"))
    team.commit()
    git(team.checkout, "switch", "--quiet", "main")

    job = team.pull(team.merge("topic"), install, PYTHONPATH=paths.format(checkout=team.checkout))

    assert job.failed
    assert _says_that_the_weights_grew(job)
    assert f"The base is {base[:10]}" in job.summary
    assert "WARNING" not in job.summary


def _add_wheel(folder: Path, version: str, mib: int) -> None:
    """Publish a library of somebody else's that has the models."""
    info = f"teammodels-{version}.dist-info"
    with zipfile.ZipFile(folder / f"teammodels-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("teammodels.py", _CODE.replace("MIB", str(mib)))
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: teammodels\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def test_a_library_that_grows_with_its_pin_fails_in_a_checkout_of_one_commit_too(
    team: Team, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    index.mkdir()
    _add_wheel(index, "1", 16)
    _add_wheel(index, "2", 160)
    team.write("constraints.txt", "teammodels==1\n")
    team.commit()
    git(team.checkout, "switch", "--quiet", "--create", "topic")
    team.write("constraints.txt", "teammodels==2\n")
    team.commit()
    git(team.checkout, "switch", "--quiet", "main")
    merge = team.merge("topic")
    team.clone_shallow()

    install = f"python -m pip install --find-links {index} -c constraints.txt teammodels"
    job = team.pull(merge, install)

    assert job.failed
    assert _says_that_the_weights_grew(job)


def test_what_others_merged_meanwhile_is_not_blamed_on_a_pull_request(team: Team) -> None:
    """The base that an event names may be older than what the pull request is merged into."""
    team.write("teammodels.py", _CODE.replace("MIB", "16"))
    team.commit()
    git(team.checkout, "switch", "--quiet", "--create", "topic")
    team.write("README", "Better words")
    team.commit()
    git(team.checkout, "switch", "--quiet", "main")
    team.write("teammodels.py", _CODE.replace("MIB", "160"))
    others = team.commit()

    job = team.pull(team.merge("topic"), "true")

    assert not job.failed
    assert f"The base is {others[:10]}" in job.summary

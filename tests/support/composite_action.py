"""A runner for composite actions, as far as one machine can be it: inputs, conditions, shell steps.

It knows the expressions that our ``action.yml`` uses and refuses any other. Steps that use another
action are noted and not run.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from support.command_line import clean_environment

_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
_CHOICE = re.compile(r"(\S+) == '([^']*)' && format\('([^']*)', (\S+)\) \|\| ''")
# As the documentation of workflow syntax has it for `shell: bash`.
_BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")


@dataclass(frozen=True, slots=True)
class RanStep:
    """One step that was run or would have been."""

    name: str
    uses: str | None
    environment: Mapping[str, str]
    status: int
    text: str


@dataclass(slots=True)
class Job:
    """One use of the action: what its steps left."""

    steps: list[RanStep] = field(default_factory=list[RanStep])
    failed: bool = False
    summary: str = ""

    def step(self, name: str) -> RanStep:
        """Return the step of this name; the test fails where it was skipped."""
        return next(step for step in self.steps if step.name == name)

    @property
    def names(self) -> list[str]:
        """The steps that were not skipped, in order."""
        return [step.name for step in self.steps]


class Runner:
    """Runs ``action.yml`` in a checkout."""

    def __init__(
        self, action: Path, checkout: Path, temp: Path, programs: Path, **environment: str
    ) -> None:
        """Read the action; ``programs`` comes first on its PATH, ``environment`` is the job's."""
        document: Any = yaml.safe_load(action.read_text(encoding="utf-8"))
        self._inputs = cast("dict[str, dict[str, str]]", document["inputs"])
        self._steps = cast("list[dict[str, Any]]", document["runs"]["steps"])
        self._action = action
        self._checkout = checkout
        self._temp = temp
        self._programs = programs
        self._environment = {**environment, "GITHUB_WORKSPACE": str(checkout)}

    def use(self, event: str = "push", *, sha: str = "", **given: str) -> Job:
        """Run the steps, with these inputs (``_`` for ``-``), until the end, failed or not."""
        known = {
            "github.token": "a-token",
            "github.event_name": event,
            "github.sha": sha,
            "runner.temp": str(self._temp),
        }
        inputs = {name: _filled(each["default"], known) for name, each in self._inputs.items()}
        inputs |= {name.replace("_", "-"): value for name, value in given.items()}
        assert inputs.keys() == self._inputs.keys(), "no such input"
        known |= {f"inputs.{name}": value for name, value in inputs.items()}
        job = Job()
        files = {name: self._temp / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for path in files.values():
            path.write_text("")
        for step in self._steps:
            condition = str(step.get("if", "success()"))
            if not self._holds(condition, known, failed=job.failed):
                continue
            ran = self._run(step, known, files)
            job.steps.append(ran)
            job.failed |= ran.status != 0 and not step.get("continue-on-error", False)
            if "id" in step:
                outcome = "success" if ran.status == 0 else "failure"
                known[f"steps.{step['id']}.outcome"] = outcome
                outputs = (
                    line.partition("=") for line in files["GITHUB_OUTPUT"].read_text().splitlines()
                )
                known |= {f"steps.{step['id']}.outputs.{k}": v for k, _, v in outputs}
        job.summary = files["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8")
        return job

    def _run(
        self, step: dict[str, Any], known: Mapping[str, str], files: Mapping[str, Path]
    ) -> RanStep:
        environment = {k: _filled(str(v), known) for k, v in step.get("env", {}).items()}
        if "run" not in step:
            return RanStep(step["name"], step["uses"], environment, 0, "")
        assert step["shell"] == "bash"
        finished = subprocess.run(  # noqa: S603  # our own action
            [*_BASH, step["run"]],
            check=False,
            cwd=self._checkout,
            env=clean_environment(
                **{name: str(path) for name, path in files.items()},
                PATH=f"{self._programs}{os.pathsep}{os.environ['PATH']}",
                GITHUB_ACTION_PATH=str(self._action.parent),
                RUNNER_TEMP=str(self._temp),
                **{**self._environment, **environment},
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        return RanStep(step["name"], None, environment, finished.returncode, finished.stdout)

    @staticmethod
    def _holds(condition: str, known: Mapping[str, str], *, failed: bool) -> bool:
        """Tell whether a step runs: `&&` of comparisons and status functions is all there is."""
        inside = _EXPRESSION.fullmatch(condition)
        terms = (inside[1] if inside else condition).split(" && ")
        if failed and "!cancelled()" not in terms:
            return False
        for term in terms:
            if term in {"!cancelled()", "success()"}:
                continue
            compared = re.fullmatch(r"(\S+) (==|!=) '([^']*)'", term)
            assert compared is not None, term
            if (known[compared[1]] == compared[3]) is not (compared[2] == "=="):
                return False
        return True


def _filled(text: str, known: Mapping[str, str]) -> str:
    return _EXPRESSION.sub(lambda found: _value(found[1], known), text)


def _value(expression: str, known: Mapping[str, str]) -> str:
    """Return what is named, or the one formatted value that depends on a comparison."""
    chosen = _CHOICE.fullmatch(expression)
    if chosen is None:  # a step that failed has not written all of its outputs
        return known.get(expression, "") if ".outputs." in expression else known[expression]
    name, wanted, form, filled = chosen.groups()
    return form.format(known[filled]) if known[name] == wanted else ""

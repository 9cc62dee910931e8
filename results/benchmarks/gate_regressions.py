"""Make things worse on purpose, for real, and run the CI benchmark: does it fail and name them?

    python results/benchmarks/gate_regressions.py --out results/gate_regressions.json

The tree is copied, a baseline is made in the copy as ``make ci-baseline`` makes it, and a run with
nothing changed must pass. Then each regression is planted in the copy's own sources (never in a
figure that was measured), ``make ci-benchmark`` runs as it does in CI, and the copy is put right
again. A regression counts as caught where make fails, and as named where a failing line of the
tables that the job writes says the model (or the decisions) and the figure that it must.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from modelmgr import __version__
from modelmgr.records.atomic_files import write_atomically

RAW = argparse.RawDescriptionHelpFormatter
TREE = Path(__file__).resolve().parents[2]
COPIED = ("Makefile", "constraints.txt", "pyproject.toml", "cli", "core", "results/ci", "scenarios")
OUT = Path("build") / "ci-benchmark"
FAILED = "\N{CROSS MARK}"
UNDECIDED = "\N{WHITE QUESTION MARK ORNAMENT}"


@dataclass(frozen=True, slots=True)
class Finished:
    """One run of the job."""

    status: int
    text: str
    took_s: float


class Job:
    """A copy of the tree in which the CI benchmark runs as it does in CI."""

    def __init__(self, folder: Path) -> None:
        """Copy what the job needs, unless the copy is there; ``.venv``'s packages are shared."""
        self.folder = folder
        if (folder / ".venv").exists():
            return
        for name in COPIED:
            source, target = TREE / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, target, ignore=ignored)
            else:
                shutil.copy2(source, target)
        (folder / ".venv").mkdir()
        (folder / ".venv" / "bin").symlink_to((TREE / ".venv" / "bin").resolve())
        (folder / ".venv" / ".installed").touch()

    def make_baseline(self) -> None:
        """Make what the copy says now its baseline; SystemExit where it says nothing."""
        finished = self.benchmark()
        for name in ("result.json", "result.jsonl", "costs.json"):
            if not (self.folder / OUT / name).exists():
                raise SystemExit(f"no {name} to begin with:\n{finished.text}")
            shutil.copy(self.folder / OUT / name, self.folder / "results" / "ci")

    def benchmark(self) -> Finished:
        """Run ``make ci-benchmark`` in the copy, with the copy's sources."""
        # Before the installed ones, which are the original tree's.
        sources = os.pathsep.join(str(self.folder / name) for name in ("core", "cli"))
        environment = {
            **{name: v for name, v in os.environ.items() if not name.startswith("MAKE")},
            "PYTHONPATH": sources,
            "PYTHONDONTWRITEBYTECODE": "1",  # a planted line and the original may share a second
            "NO_COLOR": "1",
        }
        began_s = time.monotonic()
        finished = subprocess.run(
            ["make", "ci-benchmark"],  # noqa: S607 - the make that CI has
            check=False,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1200,
        )
        return Finished(finished.returncode, finished.stdout, time.monotonic() - began_s)

    def lines_marked(self, mark: str) -> list[str]:
        """Return what the tables of the last run say failed, or was gated and undecided."""
        tables = sorted((self.folder / OUT).glob("*-compared.md"))
        lines = (line for table in tables for line in table.read_text("utf-8").splitlines())
        return [line.replace("\\", "") for line in lines if mark in line]


@dataclass(frozen=True, slots=True)
class Plant:
    """One regression.

    Attributes:
        name: what it is.
        file: where it is planted.
        there: text that stands there once; None appends ``instead`` to the file.
        instead: what stands there then.
        named: what a failing line of the comparison must say.
    """

    name: str
    file: str
    there: str | None
    instead: str
    named: str

    def put_into(self, folder: Path) -> str:
        """Plant it; return the file's text as it was. SystemExit where its place is gone."""
        path = folder / self.file
        before = path.read_text(encoding="utf-8")
        if self.there is None:
            after = before + self.instead
        elif before.count(self.there) == 1:
            after = before.replace(self.there, self.instead)
        else:
            raise SystemExit(
                f"{self.name}: {self.there!r} stands {before.count(self.there)} times in {path}"
            )
        path.write_text(after, encoding="utf-8")
        return before


MODELS = "core/modelmgr/testing/models.py"
SYNTHETIC = "core/modelmgr/workers/loaders/synthetic.py"
POLICIES = "core/modelmgr/scheduling/policies.py"
LIST = "scenarios/ci-models.yaml"

PLANTS = (
    Plant(
        name="a policy made worse",
        file=POLICIES,
        there=None,
        instead="""

_values = QueueValue.values


def _inverse(self: QueueValue, candidates: Sequence[IdleCopy], now_ns: int) -> list[float]:
    return [1.0 / (1.0 + value) for value in _values(self, candidates, now_ns)]


QueueValue.values = _inverse
""",
        named=r"worse \| reload_cost_ns",
    ),
    Plant(
        name="a model 10 % larger",
        file=MODELS,
        there="        self.weights_bytes = layers * size * size * _FLOAT32_BYTES\n",
        instead="""\
        self.weights_bytes = layers * size * size * _FLOAT32_BYTES
        self._more = np.ones(self.weights_bytes // 10, dtype=np.uint8)
""",
        # Which of the two: with libraries, what is resident is gated loosely (thresholds.yaml).
        named=r"worse \| matmul (resident|copies\.second_copy)_bytes",
    ),
    Plant(
        name="an activation 10 % larger at one shape only",
        file=SYNTHETIC,
        there="        block = self._allocate(self._activation_bytes * batch.items)\n",
        instead="""\
        tenths = 11 if batch.items == 1 and self._activation_bytes > 2**24 else 10
        block = self._allocate(self._activation_bytes * batch.items * tenths // 10)
""",
        named=r"worse \| stand-in-large shapes\[batch_size=1\]\.activation_bytes",
    ),
    Plant(
        name="a service 15 % slower",
        file=SYNTHETIC,
        there='        self._service_ns = sizes["service_ns"]\n',
        instead="""\
        hundredths = 115 if sizes["service_ns"] == 200_000_000 else 100
        self._service_ns = sizes["service_ns"] * hundredths // 100
""",
        named=r"worse \| stand-in-slow shapes\[batch_size=[14]\]\.latency_ns\.median",
    ),
    Plant(
        name="a scheduler that decides the same in another order",
        file=POLICIES,
        there=None,
        instead="""

_choose = QueueValue.choose


def _reversed(
    self: QueueValue, candidates: Sequence[IdleCopy], values: Sequence[float], need_bytes: int
) -> tuple[int, ...] | None:
    chosen = _choose(self, candidates, values, need_bytes)
    return None if chosen is None else chosen[::-1]


QueueValue.choose = _reversed
""",
        named=r"[Dd]ecision",
    ),
    Plant(
        name="a model missing",
        file=LIST,
        there="""\
  - tag: matmul
    loader: python
    target: modelmgr.testing.models:load_matmul
    options: {size: 2048, layers: 2}
    input: {batch_size: [512, 1024]}
""",
        instead="",
        named=r"matmul vanished",
    ),
    Plant(
        name="a leak of 5 % a load",  # what one load leaves behind, the next one finds and keeps
        file=MODELS,
        there="        self.weights_bytes = layers * size * size * _FLOAT32_BYTES\n",
        instead="""\
        self.weights_bytes = layers * size * size * _FLOAT32_BYTES
        from pathlib import Path
        with Path(__file__).with_suffix(".left").open("ab+") as left:
            left.write(b"1" * (self.weights_bytes // 20))
            left.seek(0)
            self._left = left.read()
""",
        named=r"worse \| matmul (resident|copies\.second_copy)_bytes",
    ),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one regression; ``line`` is where it was named."""

    regression: str
    planted_in: str
    caught: bool
    named: bool
    line: str | None
    failing: list[str]
    took_s: float


def try_plant(job: Job, plant: Plant) -> Verdict:
    """Plant a regression, run the job, and put the copy right again."""
    before = plant.put_into(job.folder)
    try:
        finished = job.benchmark()
    finally:
        (job.folder / plant.file).write_text(before, encoding="utf-8")
    failing = job.lines_marked(FAILED)
    line = next((line for line in failing if re.search(plant.named, line)), None)
    return Verdict(
        regression=plant.name,
        planted_in=plant.file,
        caught=finished.status != 0,
        named=line is not None,
        line=line,
        failing=failing,
        took_s=round(finished.took_s, 1),
    )


def say(line: str) -> None:
    """Tell the terminal at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run everything; return 1 where a regression went unnoticed or unnamed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("--out", type=Path, help="write the result there, as JSON")
    parser.add_argument("--only", default="", help="regressions whose name contains this")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Path(folder))
        job.make_baseline()
        control = job.benchmark()
        say(f"nothing changed: {'passes' if control.status == 0 else 'FAILS'}")
        if control.status != 0:
            say(control.text)
        verdicts: list[Verdict] = []
        for plant in PLANTS:
            if asked.only in plant.name:
                verdicts.append(try_plant(job, plant))
                found = verdicts[-1]
                caught = "caught" if found.caught else "NOT CAUGHT"
                say(f"{plant.name}: {caught}, {'named' if found.named else 'NOT NAMED'}")
                say(f"  {found.line or found.failing}")
    good = sum(verdict.caught and verdict.named for verdict in verdicts)
    say(f"{good} of {len(verdicts)} caught and named")
    result: dict[str, Any] = {
        "benchmark": "gate_regressions",
        "tool": {"name": "modelmgr", "version": __version__},
        "machine": {"python": platform.python_version(), "cores": os.cpu_count()},
        "nothing_changed": {"passes": control.status == 0, "took_s": round(control.took_s, 1)},
        "caught_and_named": good,
        "of": len(verdicts),
        "regressions": [asdict(verdict) for verdict in verdicts],
    }
    if asked.out is not None:
        text = msgspec.json.format(msgspec.json.encode(result), indent=2)
        write_atomically(asked.out, text + b"\n")
    return 0 if control.status == 0 and good == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())

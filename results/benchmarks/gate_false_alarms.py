"""Run the CI benchmark again and again with nothing changed: does noise ever turn it red?

    python results/benchmarks/gate_false_alarms.py --out results/gate_false_alarms.json

The tree is copied, a baseline is made in the copy as ``make ci-baseline`` makes it, and then
``make ci-benchmark`` runs there as it does in CI, ``--runs`` times. In every second run the machine
is busy: for each core a process that counts, one that takes and frees memory, or one that reads and
writes a file, drawn with the run's number as the seed. A run that fails is a false alarm. One that
cannot say (a figure moved and the samples do not tell whether that was noise) passes, and is
counted apart.

Every run is written as it ends; the same command goes on where it was stopped, with the same copy
and baseline, which lie in ``--folder``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import random
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from results.benchmarks.gate_regressions import FAILED, RAW, TREE, UNDECIDED, Job, say

from modelmgr import __version__
from modelmgr.records.atomic_files import write_atomically

LOCAL = TREE / "results" / "local"
HOG_BYTES = 256 * 2**20
FILE_BYTES = 64 * 2**20


def count() -> None:
    """Keep a core busy."""
    number = 0
    while True:
        number += 1


def take_memory() -> None:
    """Take memory, touch it and free it."""
    while True:
        block = bytearray(HOG_BYTES)
        del block


def read_and_write() -> None:
    """Write a file, and read it."""
    with tempfile.TemporaryFile() as file:
        while True:
            file.seek(0)
            file.write(os.urandom(FILE_BYTES))
            file.flush()
            file.seek(0)
            file.read()


HOGS = (count, take_memory, read_and_write)


@contextmanager
def busy(number: int) -> Generator[list[str]]:
    """Keep as many processes busy as there are cores, within a ``with`` block; say with what."""
    draw = random.Random(number)  # noqa: S311 - nothing secret
    chosen = [draw.choice(HOGS) for _ in range(os.cpu_count() or 1)]
    processes = [multiprocessing.Process(target=hog, daemon=True) for hog in chosen]
    for process in processes:
        process.start()
    try:
        yield [hog.__name__ for hog in chosen]
    finally:
        for process in processes:
            process.kill()
            process.join()


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the job; ``could_not_say`` is what passes all the same."""

    run: int
    busy_with: list[str]
    load_average: float
    failed: bool
    could_not_say: bool
    failing: list[str]
    undecided: list[str] = []
    took_s: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The file's content."""

    benchmark: str = "gate_false_alarms"
    modelmgr: str = __version__
    python: str = platform.python_version()
    cores: int | None = os.cpu_count()
    runs: int = 0
    busy: int = 0
    false_alarms: int = 0
    could_not_say: int = 0
    longest_idle_s: float | None = None
    longest_busy_s: float | None = None
    each: list[Run] = []


def run_once(job: Job, number: int) -> Run:
    """Run the job once, every second time beside busy processes."""
    with busy(number) if number % 2 else nullcontext(list[str]()) as hogs:
        finished = job.benchmark()
        load = os.getloadavg()[0]
    return Run(
        run=number,
        busy_with=hogs,
        load_average=round(load, 1),
        failed=finished.status != 0,
        could_not_say="Too noisy to say" in finished.text,
        failing=job.lines_marked(FAILED),
        undecided=job.lines_marked(UNDECIDED),
        took_s=round(finished.took_s, 1),
    )


def report(runs: list[Run]) -> Report:
    """Return the report of all runs."""
    busy_runs = [run for run in runs if run.busy_with]
    return Report(
        runs=len(runs),
        busy=len(busy_runs),
        false_alarms=sum(run.failed for run in runs),
        could_not_say=sum(run.could_not_say for run in runs),
        longest_idle_s=max((run.took_s for run in runs if not run.busy_with), default=None),
        longest_busy_s=max((run.took_s for run in busy_runs), default=None),
        each=runs,
    )


def main() -> int:
    """Run until there are as many runs as asked for; return 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("--runs", type=int, default=50, help="how many there shall be in the file")
    parser.add_argument("--folder", type=Path, default=LOCAL / "gate_false_alarms")
    parser.add_argument("--out", type=Path, default=LOCAL / "gate_false_alarms.json")
    asked = parser.parse_args()
    found = Report()
    if asked.out.exists():
        found = msgspec.json.decode(asked.out.read_bytes(), type=Report)
    job = Job(asked.folder.resolve())
    if not found.each:
        job.make_baseline()
    while found.runs < asked.runs:
        run = run_once(job, found.runs)
        found = report([*found.each, run])
        text = msgspec.json.format(msgspec.json.encode(found), indent=2)
        write_atomically(asked.out, text + b"\n")
        said = "FALSE ALARM" if run.failed else "cannot say" if run.could_not_say else "passes"
        told = "; ".join([*run.failing, *run.undecided])
        say(f"run {run.run} in {run.took_s} s: {said} {told}")
    say(f"{found.runs} runs: {found.false_alarms} failed, {found.could_not_say} could not say")
    return 1 if found.false_alarms else 0


if __name__ == "__main__":
    sys.exit(main())

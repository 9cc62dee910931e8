"""Ten million random events against the scheduler, every promise checked after every one.

    python results/soak/scheduler_soak.py --seeds 10000 --events 1000 --jobs 2

Each seed draws a world (devices, models, settings), leaves some kinds of events out, and throws the
rest at the scheduler: requests, releases, priorities, pins, resets, ends and new starts of the
manager, and every fault (``tests/support/random_events.py``). ``tests/support/virtual_driver.py``
and ``promise_judge.py`` hold every answer against books of their own; at the end of each seed
everything must come to its end. Odd seeds let others' memory move and readings be too low, even
ones do not. Every fiftieth seed is run twice: its decisions must be the same, byte for byte.

Where a promise breaks, the seed and the shortest events that still break it are printed and kept,
and the exit code is 1; ``--replay FILE`` plays them again. What is done is kept by chunks: the same
command goes on where it was stopped, as long as the scheduler's sources are the same.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import shlex
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import modelmgr.scheduling
from modelmgr import __version__

HERE = Path(__file__).resolve()
TESTS = HERE.parents[2] / "tests"
LOCAL = HERE.parents[1] / "local"
RESULT = HERE.with_suffix(".json")
CHUNK = 25
TWICE = 50

if TYPE_CHECKING:
    from support import random_events, seeded_run, shrinking
else:  # the driver and the judge are the tests' own
    sys.path.insert(0, str(TESTS))
    random_events = importlib.import_module("support.random_events")
    seeded_run = importlib.import_module("support.seeded_run")
    shrinking = importlib.import_module("support.shrinking")


@dataclass(slots=True)
class Tally:
    """What some seeds came to."""

    seeds: int = 0
    events: Counter[str] = field(default_factory=Counter[str])
    checks: Counter[str] = field(default_factory=Counter[str])
    decisions: int = 0
    processor_s: float = 0.0
    digests: dict[str, str] = field(default_factory=dict[str, str])
    broken: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def add(self, kept: dict[str, Any]) -> None:
        """Add what ``as_json`` wrote."""
        self.seeds += kept["seeds"]
        self.events.update(kept["events"])
        self.checks.update(kept["checks"])
        self.decisions += kept["decisions"]
        self.processor_s += kept["processor_s"]
        self.digests.update(kept["digests"])
        self.broken += kept["broken"]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "seeds": self.seeds,
            "events": dict(sorted(self.events.items())),
            "checks": dict(sorted(self.checks.items())),
            "decisions": self.decisions,
            "processor_s": round(self.processor_s, 3),
            "digests": self.digests,
            "broken": self.broken,
        }


def say(line: object, *, end: str = "\n") -> None:
    """Tell the terminal the result."""
    sys.stdout.write(f"{line}{end}")


def note(line: str, *, end: str = "\n") -> None:
    """Tell the terminal how far it is."""
    sys.stderr.write(line + end)
    sys.stderr.flush()


def fingerprint() -> str:
    """Return a SHA-256 over the scheduler's sources, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(Path(next(iter(modelmgr.scheduling.__path__))).glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return "sha256:" + digest.hexdigest()


def run_seed(seed: int, events: int, tally: Tally) -> str:
    """Run one seed into a tally; return a hash of its decisions. A broken promise is tallied."""
    run = None
    try:
        run = seeded_run.SeededRun(seed, steady=seed % 2 == 0)
        for _ in range(events):
            run.step()
        run.end()
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is a finding
        tally.broken.append(_shrunk(seed, run, error))
    if run is None:
        return ""
    tally.seeds += 1
    tally.events.update(run.happened)
    tally.checks.update(run.checks())
    tally.decisions += len(run.driver.log)
    return hashlib.sha256(run.log().encode()).hexdigest()


def _shrunk(seed: int, run: seeded_run.SeededRun | None, error: Exception) -> dict[str, Any]:
    told = f"{type(error).__name__}: {error}"
    found: dict[str, Any] = {"seed": seed, "told": told[:2_000]}
    if run is None:
        return found | {"trace": traceback.format_exc()}
    try:
        world, events, broken = shrinking.shrink(run.world, run.events)
    except ValueError:  # only the whole run shows it
        return found | {"world": run.world.as_json(), "events": run.events}
    return found | {"told": broken.told[:2_000], "world": world.as_json(), "events": events}


def run_chunk(first: int, count: int, events: int) -> dict[str, Any]:
    """Run some seeds one after the other."""
    tally = Tally()
    began = time.process_time()
    digest = hashlib.sha256()
    for seed in range(first, first + count):
        one = run_seed(seed, events, tally)
        digest.update(one.encode())
        if seed % TWICE == 0 and run_seed(seed, events, Tally()) != one:
            tally.broken.append({"seed": seed, "told": "the same seed, other decisions"})
        tally.checks["determinism"] += seed % TWICE == 0
    tally.digests[str(first)] = digest.hexdigest()
    tally.processor_s = time.process_time() - began
    return tally.as_json()


def _done(journal: Path, head: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Return the chunks that the same sources have already been through."""
    if not journal.exists():
        return {}
    lines = journal.read_text().splitlines()
    if not lines or json.loads(lines[0]) != head:
        return {}
    done: dict[int, dict[str, Any]] = {}
    for line in lines[1:]:
        try:
            kept = json.loads(line)
        except ValueError:  # the last line of a run that was killed
            break
        done[kept["first"]] = kept
    return done


def _chunks(
    todo: list[tuple[int, int]], events: int, jobs: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    if jobs == 1:
        for first, count in todo:
            yield first, run_chunk(first, count, events)
        return
    with ProcessPoolExecutor(jobs) as pool:
        waiting = {pool.submit(run_chunk, first, count, events): first for first, count in todo}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def soak(arguments: argparse.Namespace) -> int:
    """Run all seeds; return the exit code."""
    head = {
        "fingerprint": fingerprint(),
        "events": arguments.events,
        "first": arguments.first,
        "seeds": arguments.seeds,
        "judge": _judge_fingerprint(),
    }
    journal: Path = arguments.journal
    done = _done(journal, head)
    journal.parent.mkdir(parents=True, exist_ok=True)
    last = arguments.first + arguments.seeds
    todo = [
        (first, min(CHUNK, last - first))
        for first in range(arguments.first, last, CHUNK)
        if first not in done
    ]
    tally = Tally()
    wall_s = 0.0
    for kept in done.values():
        tally.add(kept["tally"])
        wall_s = max(wall_s, kept["wall_s"])
    if done:
        note(f"going on after {tally.seeds:,} seeds")
    began = time.monotonic() - wall_s
    with journal.open("w") as kept_here:
        for line in (head, *done.values()):
            kept_here.write(json.dumps(line) + "\n")
        kept_here.flush()
        for first, chunk in _chunks(todo, arguments.events, arguments.jobs):
            tally.add(chunk)
            wall_s = time.monotonic() - began
            line = {"first": first, "wall_s": wall_s, "tally": chunk}
            kept_here.write(json.dumps(line) + "\n")
            kept_here.flush()
            total = tally.events.total()
            note(
                f"\r{tally.seeds:,} seeds, {total:,} events, {total / wall_s:,.0f}/s, "
                f"{len(tally.broken)} broken ",
                end="",
            )
            if tally.broken and not arguments.keep_going:
                break
    note("")
    _write(arguments, head, tally, wall_s)
    for number, broken in enumerate(tally.broken):
        _tell(broken, journal.with_name(f"{journal.stem}-broken-{number}.json"))
    return 1 if tally.broken else 0


def _judge_fingerprint() -> str:
    digest = hashlib.sha256()
    for path in sorted((TESTS / "support").glob("*.py")):
        if path.stem.startswith(("virtual_", "promise_", "random_", "seeded_")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return "sha256:" + digest.hexdigest()


def _write(
    arguments: argparse.Namespace, head: dict[str, Any], tally: Tally, wall_s: float
) -> None:
    whole = hashlib.sha256()
    for first in sorted(tally.digests, key=int):
        whole.update(tally.digests[first].encode())
    result = {
        "schema_version": 1,
        "kind": "modelmgr.soak",
        "command": shlex.join(["python", "results/soak/scheduler_soak.py", *sys.argv[1:]]),
        "tool": {"name": "modelmgr", "version": __version__},
        "scheduling_sources": head["fingerprint"],
        "judge_sources": head["judge"],
        "first_seed": arguments.first,
        "seeds": tally.seeds,
        "seeds_asked_for": arguments.seeds,
        "events": tally.events.total(),
        "events_by_kind": dict(sorted(tally.events.items())),
        "decisions": tally.decisions,
        "decisions_sha256": whole.hexdigest(),
        "promises_checked": dict(sorted(tally.checks.items())),
        "broken": tally.broken,
        "wall_s": round(wall_s, 1),
        "jobs": arguments.jobs,
        "events_per_processor_s": round(tally.events.total() / max(tally.processor_s, 1e-9)),
    }
    out: Path = arguments.out
    out.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=out.parent, prefix=".soak-")
    with os.fdopen(handle, "w") as file:
        file.write(json.dumps(result, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    Path(name).chmod(0o644)
    Path(name).replace(out)
    say(
        f"{result['seeds']:,} seeds, {result['events']:,} events in {wall_s:,.0f} s: "
        f"{len(tally.broken)} broken; {out}"
    )


def _tell(broken: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(broken) + "\n")
    say(f"\nseed {broken['seed']} breaks a promise: {broken['told']}")
    for event in broken.get("events", ()):
        say(f"    {tuple(event)}")
    say(f"    play it again: python results/soak/scheduler_soak.py --replay {path}")


def play_again(path: Path) -> int:
    """Play a kept run, telling each event and what the scheduler answers."""
    kept = json.loads(path.read_text())
    player = random_events.Player(random_events.World.from_json(kept["world"]))
    log = player.driver.log
    told = 0
    try:
        for event in [tuple(event) for event in kept["events"]]:
            say(event)
            player.play(event)
            for action in log[told:]:
                say(f"    {action}")
            told = len(log)
        say("everything comes to its end")
        player.end()
    except Exception:  # noqa: BLE001 - it is told
        for action in log[told:]:
            say(f"    {action}")
        traceback.print_exc()
        say(player.driver.state())
        return 1
    say("nothing breaks")
    return 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Random events against the scheduler.")
    parser.add_argument("--seeds", type=int, default=10_000, help="how many (10000)")
    parser.add_argument("--first", type=int, default=0, help="the first one (0)")
    parser.add_argument("--events", type=int, default=1_000, help="of each seed (1000)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--out", type=Path, default=RESULT, help="where the result goes")
    parser.add_argument(
        "--journal", type=Path, default=LOCAL / "scheduler_soak.jsonl", help="what is done so far"
    )
    parser.add_argument("--keep-going", action="store_true", help="look for more that breaks")
    parser.add_argument("--replay", type=Path, help="play a kept run again and tell it")
    arguments = parser.parse_args()
    if arguments.replay is not None:
        return play_again(arguments.replay)
    return soak(arguments)


if __name__ == "__main__":
    sys.exit(main())

"""Break each promise on purpose, one line at a time: the tests must notice, every time.

    python results/soak/mutations.py --jobs 2

Every row of ``mutation_table.py`` is applied to a copy of the tree in a temporary folder, and the
fast tests of the scheduler are run there until the first one fails: ``tests/scheduling``, the short
soak, and the properties. A row that no test notices survives and makes the exit code 1; one whose
text is gone, or stands there more than once, stops everything at once (``--check`` looks for that
alone, as the tests do). A run that takes longer than the limit counts as noticed: a scheduler that
never comes to an end is one that fails.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from results.soak.mutation_table import EQUIVALENT, TABLE, Mutation

HERE = Path(__file__).resolve()
TREE = HERE.parents[2]
PURE = Path("core") / "modelmgr" / "scheduling"
# In the order in which they are tried: the fastest to notice first.
SUITES = (
    ("tests/scheduling",),
    ("tests/soak",),
    ("tests/properties/test_scheduler_determinism.py",),
    ("tests/properties/test_scheduler_properties.py",),
)
AT_LEAST = 4


def say(line: str) -> None:
    """Tell the terminal at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def check_table(tree: Path) -> None:
    """Exit where a row means nothing, or a promise has too few."""
    gone = [
        f"{number} {row.module}: {row.there.strip()!r} stands there "
        f"{(tree / PURE / row.module).read_text().count(row.there)} times"
        for number, row in enumerate(TABLE)
        if (tree / PURE / row.module).read_text().count(row.there) != 1
    ]
    few = [p for p, count in Counter(row.promise for row in TABLE).items() if count < AT_LEAST]
    if len({row.promise for row in TABLE}) != 9:
        few.append("a promise has no row")
    if gone or few or len(set(TABLE)) != len(TABLE):
        sys.exit("write these rows anew:\n" + "\n".join([*gone, *few, *_twice()]))


def _twice() -> list[str]:
    return [f"twice: {row}" for row, count in Counter(TABLE).items() if count > 1]


def copy_tree(tree: Path, to: Path) -> None:
    """Copy what the tests need."""
    for name in ("core", "cli", "tests", "results/soak"):
        shutil.copytree(
            tree / name, to / name, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis")
        )
    shutil.copy(tree / "pyproject.toml", to)


def noticed(tree: Path, limit_s: float) -> tuple[str | None, float]:
    """Run the tests in a tree; return what noticed, None where nothing did, and how long."""
    began = time.monotonic()
    for suite in SUITES:
        left_s = limit_s - (time.monotonic() - began)
        if left_s <= 0:
            return "time limit", time.monotonic() - began
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", *suite]
        command += ["-p", "no:cacheprovider", "-p", "no:randomly", "--timeout", "60"]
        environment = os.environ | {
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(tree / "core"),
        }
        try:
            done = subprocess.run(  # noqa: S603 - our own tests, by this very interpreter
                command,
                cwd=tree,
                env=environment,
                capture_output=True,
                text=True,
                timeout=left_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "time limit", time.monotonic() - began
        if done.returncode != 0:
            named = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
            what = named.group(1) if named else f"exit code {done.returncode}"
            return what, time.monotonic() - began
    return None, time.monotonic() - began


def try_one(tree: Path, row: Mutation | None, limit_s: float) -> tuple[str | None, float]:
    """Apply a row to a copy of the tree and run the tests there; no row is the tree as it is."""
    with tempfile.TemporaryDirectory(prefix="modelmgr-mutation-") as folder:
        copy = Path(folder)
        copy_tree(tree, copy)
        if row is not None:
            module = copy / PURE / row.module
            source = module.read_text()
            module.write_text(source.replace(row.there, row.instead))
        return noticed(copy, limit_s)


def fingerprint(tree: Path) -> str:
    """Return a SHA-256 over the scheduler's sources, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted((tree / PURE).glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return "sha256:" + digest.hexdigest()


def main() -> int:
    """Read the command line and try every row."""
    parser = argparse.ArgumentParser(description="Break each promise on purpose.")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once (2)")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds a row may take (600)")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of rows; all")
    parser.add_argument("--out", type=Path, default=HERE.with_suffix(".json"))
    parser.add_argument("--tree", type=Path, default=TREE, help="the tree to copy (this one)")
    parser.add_argument("--trust", action="store_true", help="do not run the unbroken tree first")
    parser.add_argument("--check", action="store_true", help="only see that every row applies")
    arguments = parser.parse_args()
    tree: Path = arguments.tree.resolve()
    check_table(tree)
    if arguments.check:
        return 0
    before = fingerprint(tree)
    if not arguments.trust:
        what, _ = try_one(tree, None, 10 * arguments.limit)
        if what is not None:
            sys.exit(f"the tests fail without any mutation: {what}")
    numbers = arguments.only or range(len(TABLE))
    began = time.monotonic()

    def one(number: int) -> dict[str, Any]:
        row = TABLE[number]
        what, took_s = try_one(tree, row, arguments.limit)
        say(f"{number:3} {row.promise:22} {row.module:13} {what or 'SURVIVED'}")
        return {
            "number": number,
            **row._asdict(),
            "noticed_by": what,
            "equivalent": EQUIVALENT.get(row),
            "wall_s": round(took_s, 1),
        }

    with ThreadPoolExecutor(arguments.jobs) as pool:
        rows = list(pool.map(one, numbers))
    survivors = [row for row in rows if row["noticed_by"] is None and row["equivalent"] is None]
    wrong = [row for row in rows if row["noticed_by"] is not None and row["equivalent"] is not None]
    result = {
        "schema_version": 1,
        "kind": "modelmgr.mutations",
        "command": shlex.join(["python", "results/soak/mutations.py", *sys.argv[1:]]),
        "scheduling_sources": before,
        "mutations": len(rows),
        "noticed": sum(row["noticed_by"] is not None for row in rows),
        "by_promise": dict(sorted(Counter(row["promise"] for row in rows).items())),
        "survivors": [row["number"] for row in survivors],
        "wall_s": round(time.monotonic() - began, 1),
        "table": rows,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    say(f"{result['noticed']} of {result['mutations']} noticed; {arguments.out}")
    for row in survivors:
        say(f"survived: {row['number']} {row['promise']}: {row['there'].strip()}")
    for row in wrong:
        say(f"noticed though argued to be equivalent: {row['number']}")
    return 1 if survivors or wrong or fingerprint(tree) != before else 0


if __name__ == "__main__":
    sys.exit(main())

"""A benchmark's parts, kept beside its result until all are there: a stopped run goes on."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelmgr.records.atomic_files import write_atomically

_LOCAL = Path("results/local")


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    """Add ``--quick``, ``--resume`` and ``--out`` to a benchmark's options."""
    parser.add_argument("--quick", action="store_true", help="a minute: it works, no figures")
    parser.add_argument("--resume", action="store_true", help="go on where such a run was stopped")
    parser.add_argument("--out", type=Path, help=f"by default results/{name}.json, or local/ there")


def place_for(name: str, args: argparse.Namespace) -> Path:
    """Return where a result goes; a quick one replaces none that is to be kept."""
    if args.out is not None:
        return Path(args.out)
    folder = _LOCAL if args.quick else Path("results")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.json"


class Parts:
    """The parts that are measured already.

    Args:
        out: where the whole result goes.
        what: what the parts depend on, the benchmark's own options above all; parts of another
            kind, or of other programs than those that are loaded now, are measured anew.
        resume: take what a run that was stopped has left.
    """

    def __init__(self, out: Path, what: object, *, resume: bool) -> None:
        self._journal = out.with_suffix(".parts.json")
        self._what = json.dumps([what, _programs()], default=str)
        self._done: dict[str, Any] = {}
        if resume and self._journal.exists():
            found = json.loads(self._journal.read_text("utf-8"))
            if found["what"] == self._what:
                self._done = found["parts"]

    def measure(self, name: str, part: Callable[[], Any]) -> Any:  # noqa: ANN401 - what JSON holds
        """Return a part's figures, measured now or by the run that was stopped."""
        if name not in self._done:
            before = time.perf_counter()
            self._done[name] = json.loads(json.dumps(part()))
            kept = {"what": self._what, "parts": self._done}
            write_atomically(self._journal, json.dumps(kept).encode())
            sys.stderr.write(f"{name}: {time.perf_counter() - before:.0f} s\n")
        return self._done[name]

    def end(self) -> None:
        """Forget the parts: the whole is written."""
        self._journal.unlink(missing_ok=True)


def _programs() -> str:
    """Return what stands for the programs that are measured: the library's files."""
    import modelmgr  # noqa: PLC0415 - the one that the benchmark has loaded

    digest = hashlib.sha256(Path(sys.argv[0]).read_bytes())
    for path in sorted(Path(modelmgr.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()

"""The baseline of a test session: a cost database, what is held against it, and its renewal.

Owns the file and what is asked of ``modelmgr.comparing``, which judges as ``modelmgr compare``
does. What is said of a model that grew is ``pytest_verdicts``'s.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import msgspec

from modelmgr.comparing.compare import compare_costs
from modelmgr.comparing.comparison import Comparison
from modelmgr.comparing.limits import parse_limit
from modelmgr.comparing.thresholds import Thresholds, read_thresholds
from modelmgr.errors import UsageError
from modelmgr.integrations.pytest_verdicts import growth
from modelmgr.measuring.database import combine, read_existing
from modelmgr.records.atomic_files import check_writable
from modelmgr.records.codec import load_costs, save_costs
from modelmgr.records.costs import CostDatabase, MachineInfo, ModelCost

_FIGURES = ("peak_bytes", "resident_bytes", "shapes.activation_bytes")
_COUNTED_LATE = "256KiB"
"""The kernel adds a process's pages up late, so much a core: no activation is known better."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a figure may grow.

    Attributes:
        text: as it was written.
        thresholds: what is compared, and how.
    """

    text: str
    thresholds: Thresholds


def read_tolerance(text: str) -> Tolerance:
    """Return the tolerance in a text such as ``5%``, ``64 MiB`` or ``5%+1MiB``.

    Raises:
        UsageError: it is none.
    """
    try:
        limit = parse_limit(text, "bytes")
    except ValueError as error:
        raise UsageError(str(error)) from None
    rule = f"{text}+{_COUNTED_LATE}" if "%" in text and not limit.amount else text
    figures = (f"{figure}:{rule}" for figure in _FIGURES)
    return Tolerance(text, read_thresholds(figures, "costs"))


class Baseline:
    """One session's baseline.

    Attributes:
        path: the file.
        name: what messages call it.
        tolerance: how far a figure may grow.
        is_renewed: it is to be written, and nothing is compared with it.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        tolerance: Tolerance,
        is_renewed: bool,
        allow_mismatch: bool,
    ) -> None:
        """Read the file; one that is to be renewed need not be there yet.

        Args:
            path: the file.
            name: what messages call it.
            tolerance: how far a figure may grow.
            is_renewed: it is to be written.
            allow_mismatch: compare with figures of another machine or version all the same.

        Raises:
            UsageError: there is none, it is no cost database, or it could not be written.
        """
        self.path = path
        self.name = name
        self.tolerance = tolerance
        self.is_renewed = is_renewed
        self._allow_mismatch = allow_mismatch
        self._database: CostDatabase | None = None
        try:
            is_there = path.exists()
        except OSError:
            is_there = True  # in a folder that nobody may look into: reading it says what is wrong
        if is_there:
            self._database = load_costs(path)
        elif not is_renewed:
            raise UsageError(
                f"there is no {path}: correct the path, or write it with --modelmgr-update-baseline"
            )
        if is_renewed:
            check_writable(path)

    def find(self, tag: str) -> ModelCost | None:
        """Return what a model cost, None where the baseline does not have it or could not tell."""
        cost = None if self._database is None else self._database.models.get(tag)
        return None if cost is None or cost.error is not None else cost

    def compare(self, tag: str, measured: CostDatabase) -> Comparison | None:
        """Compare one model; None where there is nothing to compare it with."""
        before = self.find(tag)
        if self._database is None or before is None:
            return None
        return compare_costs(
            msgspec.structs.replace(self._database, models={tag: before}, evictions=()),
            msgspec.structs.replace(measured, models={tag: measured.models[tag]}, evictions=()),
            self.tolerance.thresholds,
            allow_mismatch=self._allow_mismatch,
        )

    def judge(self, tag: str, measured: CostDatabase) -> str | None:
        """Return what to say of a model that grew, None where it did not or nobody can tell."""
        before, found = self.find(tag), self.compare(tag, measured)
        if before is None or found is None or self.is_renewed:
            return None
        return growth(
            tag,
            before,
            measured.models[tag],
            found,
            tolerance=self.tolerance.text,
            baseline=self.name,
        )

    def check_renewal(self, machine: MachineInfo) -> None:
        """Refuse to measure for a file that figures of this machine may not go into.

        Raises:
            UsageError: it was measured on another machine or device, or cannot be read.
        """
        if self.is_renewed:
            read_existing(self.path, machine)

    def renew(self, measured: CostDatabase, *, failed: Container[str] = ()) -> bool:
        """Write what was measured over what the file has of those models; the others stay.

        Args:
            measured: the session's models.
            failed: those of them whose tests failed, which stay as they are too.

        Returns:
            Whether there was anything to write.

        Raises:
            UsageError: it cannot be written; the old file is as it was.
        """
        models = {tag: cost for tag, cost in measured.models.items() if tag not in failed}
        if not models:
            return False
        existing = read_existing(self.path, measured.machine)
        renewed = combine(
            existing,
            models,
            machine=measured.machine,
            run=measured.runs[0],
            evictions=() if existing is None else existing.evictions,
        )
        save_costs(renewed, self.path)
        return True

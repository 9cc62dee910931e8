"""What a caller asks of ``profile`` and what comes back: two frozen records, nothing more."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from modelmgr.errors import UsageError
from modelmgr.records.costs import CostDatabase
from modelmgr.workload.model_entries import MOST_REPEATS

_MAX_SEED = 2**63 - 1  # numpy takes none below 0, torch none beyond 64 bits

IsolationAction = Literal["error", "warn", "wait"]


class ProfileSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to measure. Nothing here says what to measure: that is the model list's.

    Attributes:
        device: ``auto``, ``host``, ``cuda`` or ``cuda:N``.
        budget_bytes: what the models may use of the device; None is the device's own size (host:
            half of what is available). A model beyond it is refused or killed.
        slack: share of the budget that stays free when models are placed, 0 to 1.
        repeats: fresh processes for each model; None leaves it to each model's own ``repeats``.
        timeout_s: the longest that one model may take, seconds; None is no limit.
        seed: of random weights and batches.
        out: the cost database to write (or to add to, where it exists).
        resume: continue from the journal that an unfinished run left beside ``out``.
        isolation_action: what to do when something else moves the device's memory.
        estimate: guess each model's cost before it is loaded.
        command: the command line, for the database's list of runs.
    """

    out: Path
    device: str = "auto"
    budget_bytes: int | None = None
    slack: float = 0.1
    repeats: int | None = None
    timeout_s: float | None = None
    seed: int = 0
    resume: bool = False
    isolation_action: IsolationAction = "warn"
    estimate: bool = True
    command: str = ""

    def check(self) -> None:
        """Raise UsageError where a value makes no sense."""
        if self.repeats is not None and self.repeats < 1:
            raise UsageError(f"repeats is {self.repeats}: measure in at least one process")
        if self.repeats is not None and self.repeats > MOST_REPEATS:
            raise UsageError(f"repeats is {self.repeats}: at most {MOST_REPEATS} processes a model")
        if not 0 <= self.seed <= _MAX_SEED:
            raise UsageError(f"the seed is {self.seed}: give a whole number from 0 to {_MAX_SEED}")
        if self.budget_bytes is not None and self.budget_bytes <= 0:
            raise UsageError(f"the budget is {self.budget_bytes} bytes: give a positive size")
        if not 0 <= self.slack < 1:
            raise UsageError(f"the slack is {self.slack}: give a share from 0 to below 1")
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise UsageError(f"the time-out is {self.timeout_s} s: give a positive time")


class ProfileOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a run of ``profile`` left.

    Attributes:
        database: everything in the written file, models of earlier runs included.
        path: the output.
        written: whether this run wrote it; a run that was interrupted before its first model was
            measured leaves everything as it was.
        interrupted: a signal ended the run early; what was measured before is in the file, and the
            journal is kept for ``resume``.
        failed: models whose measurement failed for another reason than memory.
        did_not_fit: models that were refused before loading, or killed at the budget.
    """

    database: CostDatabase
    path: Path
    written: bool
    interrupted: bool = False
    failed: tuple[str, ...] = ()
    did_not_fit: tuple[str, ...] = ()

"""What a user is told about an error: one message, what to do next, and how the command ended.

The only map from exceptions to outcomes. It prints nothing.
"""

from __future__ import annotations

import typer

from modelmgr.errors import (
    AcquireTimeoutError,
    DeviceError,
    DoesNotFitError,
    InvalidTransitionError,
    MeasurementError,
    ModelmgrError,
    OutOfMemoryError,
    UsageError,
    WorkerError,
)
from modelmgr_cli.missing import told_missing
from modelmgr_cli.outcome import Outcome

# Most derived first: an OutOfMemoryError is a WorkerError too.
_OUTCOMES: tuple[tuple[type[BaseException], Outcome], ...] = (
    (typer.TyperException, Outcome.BAD_INPUT),
    (UsageError, Outcome.BAD_INPUT),
    (DoesNotFitError, Outcome.DOES_NOT_FIT),
    (OutOfMemoryError, Outcome.DOES_NOT_FIT),
    (InvalidTransitionError, Outcome.INTERNAL_ERROR),
    (WorkerError, Outcome.NOTHING_MEASURED),
    (DeviceError, Outcome.NOTHING_MEASURED),
    (MeasurementError, Outcome.NOTHING_MEASURED),
    (AcquireTimeoutError, Outcome.NOTHING_MEASURED),
    (ModelmgrError, Outcome.NOTHING_MEASURED),
    (OSError, Outcome.BAD_INPUT),
)
_BAD_INPUT_KINDS = frozenset(
    {"UsageError", "InputError", "ModelLoadError", "MissingPackageError", "ValueError"}
)


def explain(error: BaseException) -> tuple[Outcome, str]:
    """Return how a command ended that raised this, and what to tell: lines after the first help."""
    outcome = next((how for kind, how in _OUTCOMES if isinstance(error, kind)), None)
    if isinstance(error, typer.TyperException):
        return Outcome.BAD_INPUT, _usage_message(error)
    if isinstance(error, ImportError) and (missing := told_missing(error)) is not None:
        return Outcome.BAD_INPUT, missing
    if outcome is None or outcome is Outcome.INTERNAL_ERROR:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return Outcome.INTERNAL_ERROR, (
            f"unexpected {what}\n"
            "This is a bug of modelmgr: run the command again with --debug and report what it says."
        )
    if isinstance(error, OSError) and not isinstance(error, ModelmgrError):
        reason = error.strerror or str(error)
        return outcome, f"{error.filename}: {reason}" if error.filename else reason
    return outcome, str(error) or type(error).__name__


def outcome_of_failures(kinds: frozenset[str], *, did_not_fit: bool) -> Outcome:
    """Return how a profile ended in which models failed with these error classes."""
    if did_not_fit:
        return Outcome.DOES_NOT_FIT
    if not kinds:
        return Outcome.FINE
    return Outcome.BAD_INPUT if kinds <= _BAD_INPUT_KINDS else Outcome.NOTHING_MEASURED


def _usage_message(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    near: list[str] = sorted(getattr(error, "possibilities", None) or ())
    message = error.message if near else error.format_message()
    if near:
        message = f"{message}. Did you mean {' or '.join(near)}?"
    hint = f"\nTry '{context.command_path} --help'." if context is not None else ""
    return f"{message}{hint}"

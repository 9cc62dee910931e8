"""How an exception crosses from child to parent: by name, onto the tree of ``modelmgr.errors``.

The child describes what it caught; the parent makes an exception of it. No object crosses, only
text, and only names in the table below are ever revived.
"""

from __future__ import annotations

import traceback
from typing import Literal

import msgspec

from modelmgr.errors import (
    InferenceError,
    MeasurementError,
    MissingPackageError,
    ModelLoadError,
    ModelmgrError,
    OutOfMemoryError,
    UsageError,
    WorkerError,
)
from modelmgr.units import format_bytes
from modelmgr.workers.loaders.exhaustion import is_out_of_memory
from modelmgr.workers.loaders.messages import text_of, told

Stage = Literal["loading", "running", "estimating", "closing"]

_MAX_MESSAGE = 4_000
_MAX_DETAILS = 64_000
_STAGE_ERROR: dict[Stage, type[WorkerError]] = {
    "loading": ModelLoadError,
    "running": InferenceError,
    "estimating": ModelLoadError,
    "closing": InferenceError,
}
_SMALLER: dict[Stage, str] = {
    "loading": "a smaller model or dtype",
    "running": "a smaller batch, or a smaller model or dtype",
    "estimating": "a smaller model",
    "closing": "a smaller model",
}
_WORKER_ERRORS: dict[str, type[WorkerError]] = {
    kind.__name__: kind for kind in (ModelLoadError, MissingPackageError, InferenceError)
}
_PLAIN_ERRORS: dict[str, type[ModelmgrError]] = {
    kind.__name__: kind for kind in (UsageError, MeasurementError)
}


class Failure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An exception in plain text.

    Attributes:
        error: its name in our tree.
        message: what a user reads.
        details: the child's traceback.
        budget_bytes: the budget in force, for OutOfMemoryError.
    """

    error: str
    message: str
    details: str | None = None
    budget_bytes: int | None = None


def describe(
    error: BaseException, *, stage: Stage, tag: str, budget_bytes: int | None = None
) -> Failure:
    """Return what the parent is told of an exception that a loader or a model raised."""
    details = _shorten(_traceback_of(error), _MAX_DETAILS)
    if isinstance(error, OutOfMemoryError) or (
        not isinstance(error, ModelmgrError) and is_out_of_memory(error)
    ):
        budget = f" with a budget of {format_bytes(budget_bytes)}" if budget_bytes else ""
        text = text_of(error)
        said = f": {_shorten(text, _MAX_MESSAGE // 2)}" if text else ""  # the advice comes last
        larger = "give it a larger budget, or " if budget_bytes else ""
        advice = f"{larger}use {_SMALLER[stage]}"
        message = f"{tag!r} ran out of memory while {stage}{budget}{said}; {advice}"
        name = OutOfMemoryError.__name__
    elif isinstance(error, ModelmgrError):
        name = _known_name(error, stage)
        message = text_of(error)
        budget_bytes = None
    else:
        name = _STAGE_ERROR[stage].__name__
        message = f"{stage} {tag!r} failed: {_told_of(error)}"
        budget_bytes = None
    return Failure(
        error=name,
        message=_shorten(message, _MAX_MESSAGE),
        details=details,
        budget_bytes=budget_bytes,
    )


def revive(failure: Failure, *, pid: int, output: str | None) -> ModelmgrError:
    """Return the exception that a failure describes; an unknown name becomes a WorkerError.

    Args:
        failure: what the child said.
        pid: the child.
        output: the last lines that it printed, None where it printed nothing.
    """
    printed = f"last output of the worker:\n{output}" if output else None
    details = "\n".join(part for part in (failure.details, printed) if part) or None
    if failure.error == OutOfMemoryError.__name__:
        return OutOfMemoryError(
            failure.message, pid=pid, details=details, budget_bytes=failure.budget_bytes
        )
    plain = _PLAIN_ERRORS.get(failure.error)
    if plain is not None:
        error = plain(failure.message)
        if details is not None:
            error.add_note(details)
        return error
    kind = _WORKER_ERRORS.get(failure.error, WorkerError)
    return kind(failure.message, pid=pid, details=details)


def remote_details(error: BaseException) -> str | None:
    """Return the traceback and last output of the worker that an error came from, None if none.

    Of an error that explains another, that of the other. At most 100,000 characters.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, WorkerError) and current.details:
            return current.details
        notes: list[str] = getattr(current, "__notes__", [])
        if notes:
            return "\n".join(notes)
        current = current.__cause__
    return None


def _known_name(error: ModelmgrError, stage: Stage) -> str:
    for kind in type(error).__mro__:
        if kind.__name__ in _WORKER_ERRORS or kind.__name__ in _PLAIN_ERRORS:
            return kind.__name__
    return _STAGE_ERROR[stage].__name__


def _told_of(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        text = text_of(error)
        return f"it ended the process with SystemExit({text}); a model's code must return or raise"
    if isinstance(error, KeyboardInterrupt):
        return "it raised KeyboardInterrupt by itself"
    return told(error)


def _traceback_of(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException as second:  # noqa: BLE001 - as above; and a deep one may not be printable
        return f"{type(error).__name__} (its traceback cannot be shown: {type(second).__name__})"


def _shorten(text: str, limit: int) -> str:
    # The end of a traceback says what happened, its beginning where it came from.
    text = text.encode("utf-8", "replace").decode()
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n... {len(text) - limit} characters left out ...\n{text[-half:]}"

"""How an error crosses from server to client: by name, onto the tree of ``modelmgr.errors``.

Text and numbers cross, never an object, and only names of the table below are made into errors
again. What the server did not raise on purpose arrives as a plain ``ModelmgrError``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from modelmgr import errors
from modelmgr.errors import ModelmgrError

_MAX_TEXT = 64_000
_KINDS: dict[str, type[ModelmgrError]] = {
    kind.__name__: kind
    for kind in (
        errors.ModelmgrError,
        errors.UsageError,
        errors.DoesNotFitError,
        errors.AcquireTimeoutError,
        errors.ManagerClosedError,
        errors.ShutdownTimeoutError,
        errors.LeaseError,
        errors.ServiceLostError,
        errors.DeviceError,
        errors.ReadingError,
        errors.DeviceLostError,
        errors.WorkerError,
        errors.ModelLoadError,
        errors.MissingPackageError,
        errors.InferenceError,
        errors.OutOfMemoryError,
        errors.WorkerDiedError,
        errors.WorkerTimeoutError,
        errors.WorkerProtocolError,
        errors.MeasurementError,
        errors.ForeignLoadError,
    )
}
_WORKER = ("pid", "details")
_ATTRIBUTES: dict[type[ModelmgrError], tuple[str, ...]] = {
    errors.AcquireTimeoutError: ("tag", "reasons"),
    errors.DoesNotFitError: ("tag", "needed_bytes", "limit_bytes"),
    errors.ShutdownTimeoutError: ("holders", "unloading"),
    errors.OutOfMemoryError: (*_WORKER, "budget_bytes"),
    errors.WorkerDiedError: (*_WORKER, "exit_code", "signal"),
}


class Fault(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """An error in plain text; beside the name and the message, its attributes where it has them."""

    error: str
    message: str
    tag: str | None = None
    needed_bytes: int | None = None
    limit_bytes: int | None = None
    reasons: tuple[str, ...] = ()
    holders: tuple[str, ...] = ()
    unloading: tuple[str, ...] = ()
    pid: int | None = None
    details: str | None = None
    budget_bytes: int | None = None
    exit_code: int | None = None
    signal: int | None = None


def describe(error: BaseException) -> Fault:
    """Return what the client is told of an error."""
    if not isinstance(error, ModelmgrError):
        said = _shorten(str(error))
        return Fault(
            error=ModelmgrError.__name__,
            message=f"the server failed with {type(error).__name__}: {said}; its log says more",
        )
    kind = next(base for base in type(error).__mro__ if _KINDS.get(base.__name__) is base)
    attributes: dict[str, Any] = {name: getattr(error, name) for name in _attributes_of(kind)}
    if attributes.get("details") is not None:
        attributes["details"] = _shorten(attributes["details"])
    return Fault(error=kind.__name__, message=_shorten(str(error)), **attributes)


def revive(fault: Fault) -> ModelmgrError:
    """Return the error that a fault describes; an unknown name becomes a ModelmgrError."""
    kind = _KINDS.get(fault.error, ModelmgrError)
    attributes = {name: getattr(fault, name) for name in _attributes_of(kind)}
    return kind(fault.message, **attributes)


def _attributes_of(kind: type[ModelmgrError]) -> tuple[str, ...]:
    if kind in _ATTRIBUTES:
        return _ATTRIBUTES[kind]
    return _WORKER if issubclass(kind, errors.WorkerError) else ()


def _shorten(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()
    if len(text) <= _MAX_TEXT:
        return text
    half = _MAX_TEXT // 2
    return f"{text[:half]}\n... {len(text) - _MAX_TEXT} characters left out ...\n{text[-half:]}"

"""Every error that modelmgr raises on purpose, in one tree, by who is at fault.

    ModelmgrError (RuntimeError)
    ├── UsageError                    the caller: a wrong argument, a wrong order of calls
    │   └── InputError                the caller's file: says file, line, column and what to do
    ├── DoesNotFitError               the request can never fit the device's limit
    ├── AcquireTimeoutError           the wait ended first (also a TimeoutError)
    ├── ManagerClosedError            the manager was shut down
    ├── ShutdownTimeoutError          a shutdown's time-out ended first (also a TimeoutError)
    ├── LeaseError                    a stale, double, foreign or wrongly tagged release
    ├── ServiceLostError              the shared manager's server is gone, and every lease of it
    ├── DeviceError                   the device or its driver
    │   ├── ReadingError              one reading failed; the device may be fine
    │   └── DeviceLostError           the device or its driver is gone
    ├── WorkerError                   the worker process, or the model inside it
    │   ├── ModelLoadError            the loader raised: bad target, missing file, no network
    │   ├── MissingPackageError       a package that the loader needs is not installed
    │   ├── InferenceError            the model raised on a batch
    │   ├── OutOfMemoryError          the model asked for more memory than its budget
    │   ├── WorkerDiedError           the process ended by itself or by a signal
    │   ├── WorkerTimeoutError        no answer in time (also a TimeoutError)
    │   └── WorkerProtocolError       the process answered with something that is no answer
    ├── MeasurementError              nothing could be measured, or it would not be true
    │   └── ForeignLoadError          something else moved the device's memory meanwhile
    └── InvalidTransitionError        ours: an event that the state table refuses

``ModelmgrError`` is a ``RuntimeError`` so that code written for Apache Beam's manager goes on
working. Context is kept in attributes; the message shows the offending value and the next step.
This module imports nothing of ours.
"""

from __future__ import annotations


class ModelmgrError(RuntimeError):
    """Base of every error that modelmgr raises on purpose."""


class UsageError(ModelmgrError):
    """The caller asked for something that makes no sense."""


class InputError(UsageError):
    """A file that the caller gave is not what it must be.

    Attributes:
        path: the file, as the caller named it.
        line: 1-based line of the offending text, None where unknown.
        column: 1-based column of the offending text, None where unknown.
        problem: what is wrong, without the place.
        hint: what to do about it, None where there is nothing to say.
    """

    def __init__(
        self,
        problem: str,
        *,
        path: str | None = None,
        line: int | None = None,
        column: int | None = None,
        hint: str | None = None,
    ) -> None:
        place = ":".join(str(part) for part in (path, line, column) if part is not None)
        message = f"{place}: {problem}" if place else problem
        super().__init__(f"{message}\n{hint}" if hint else message)
        self.path = path
        self.line = line
        self.column = column
        self.problem = problem
        self.hint = hint


class DoesNotFitError(ModelmgrError):
    """The request can never fit any device's limit; nothing was evicted for it.

    Attributes:
        tag: the model.
        needed_bytes: what it needs, None where unknown.
        limit_bytes: the largest limit among the devices it may use, None where unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        tag: str | None = None,
        needed_bytes: int | None = None,
        limit_bytes: int | None = None,
    ) -> None:
        super().__init__(message)
        self.tag = tag
        self.needed_bytes = needed_bytes
        self.limit_bytes = limit_bytes


class AcquireTimeoutError(ModelmgrError, TimeoutError):
    """The wait for a model ended before the model could be granted.

    Attributes:
        tag: the model, None where the wait was not for one.
        reasons: what stood in its way when the wait ended, one line each; also in the message.
    """

    def __init__(
        self, message: str, *, tag: str | None = None, reasons: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.tag = tag
        self.reasons = reasons


class ManagerClosedError(ModelmgrError):
    """The manager was shut down and takes no more requests."""


class ShutdownTimeoutError(ModelmgrError, TimeoutError):
    """Holders kept their copies beyond the shutdown's time-out, or unloads took longer.

    Attributes:
        holders: one line for each copy that is still held.
        unloading: one line for each copy that is still being unloaded.
    """

    def __init__(
        self, message: str, *, holders: tuple[str, ...] = (), unloading: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.holders = holders
        self.unloading = unloading


class LeaseError(ModelmgrError):
    """A release that names no lease of this caller; it changed nothing."""


class ServiceLostError(ModelmgrError):
    """The shared manager's server is gone or does not answer; what it granted is lost."""


class DeviceError(ModelmgrError):
    """The device or its driver failed."""


class ReadingError(DeviceError):
    """One memory reading failed; it says nothing about free memory."""


class DeviceLostError(DeviceError):
    """The device or its driver is gone."""


class WorkerError(ModelmgrError):
    """A worker process, or the model inside it, failed.

    Attributes:
        pid: the worker's process id, None where none was started.
        details: the worker's own traceback or last output, None where there is none.
    """

    def __init__(self, message: str, *, pid: int | None = None, details: str | None = None) -> None:
        super().__init__(message)
        self.pid = pid
        self.details = details


class ModelLoadError(WorkerError):
    """The loader raised: a bad target, a missing file, a hub that cannot be reached."""


class MissingPackageError(WorkerError):
    """A package that the loader needs is not installed."""


class InferenceError(WorkerError):
    """The model raised on a batch."""


class OutOfMemoryError(WorkerError):
    """The model asked for more memory than its budget or its device has.

    Attributes:
        budget_bytes: the budget that was in force, None where unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        pid: int | None = None,
        details: str | None = None,
        budget_bytes: int | None = None,
    ) -> None:
        super().__init__(message, pid=pid, details=details)
        self.budget_bytes = budget_bytes


class WorkerDiedError(WorkerError):
    """The worker process ended by itself or by a signal.

    Attributes:
        exit_code: its exit status, None where a signal ended it.
        signal: the signal's number, None where it exited.
    """

    def __init__(
        self,
        message: str,
        *,
        pid: int | None = None,
        details: str | None = None,
        exit_code: int | None = None,
        signal: int | None = None,
    ) -> None:
        super().__init__(message, pid=pid, details=details)
        self.exit_code = exit_code
        self.signal = signal


class WorkerTimeoutError(WorkerError, TimeoutError):
    """The worker gave no answer in time and was killed."""


class WorkerProtocolError(WorkerError):
    """The worker answered with something that is no answer, and was killed."""


class MeasurementError(ModelmgrError):
    """Nothing could be measured, or the figure would not be true."""


class ForeignLoadError(MeasurementError):
    """Something else moved the device's memory while a model was measured."""


class InvalidTransitionError(ModelmgrError):
    """An event came in a state that the table refuses: a bug of ours, never of a caller."""

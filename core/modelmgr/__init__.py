"""Measure, place and schedule several models on one accelerator.

The public names are imported when they are first asked for, so that ``import modelmgr``, and with
it the command line's ``--help``, costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from modelmgr._version import __version__

if TYPE_CHECKING:
    from modelmgr.devices.monitor import GPUMonitor
    from modelmgr.errors import (
        AcquireTimeoutError,
        DeviceError,
        DeviceLostError,
        DoesNotFitError,
        ForeignLoadError,
        InferenceError,
        InputError,
        InvalidTransitionError,
        LeaseError,
        ManagerClosedError,
        MeasurementError,
        MissingPackageError,
        ModelLoadError,
        ModelmgrError,
        OutOfMemoryError,
        ReadingError,
        ServiceLostError,
        ShutdownTimeoutError,
        UsageError,
        WorkerDiedError,
        WorkerError,
        WorkerProtocolError,
        WorkerTimeoutError,
    )
    from modelmgr.estimation.estimator import ResourceEstimator
    from modelmgr.records.costs import CostDatabase
    from modelmgr.runtime.callers_lease import Lease
    from modelmgr.runtime.manager import ModelManager
    from modelmgr.runtime.service.client import RemoteManager, connect
    from modelmgr.runtime.service.server import ServiceServer
    from modelmgr.scheduling.queue import QueueTicket

__all__ = [
    "AcquireTimeoutError",
    "CostDatabase",
    "DeviceError",
    "DeviceLostError",
    "DoesNotFitError",
    "ForeignLoadError",
    "GPUMonitor",
    "InferenceError",
    "InputError",
    "InvalidTransitionError",
    "Lease",
    "LeaseError",
    "ManagerClosedError",
    "MeasurementError",
    "MissingPackageError",
    "ModelLoadError",
    "ModelManager",
    "ModelmgrError",
    "OutOfMemoryError",
    "QueueTicket",
    "ReadingError",
    "RemoteManager",
    "ResourceEstimator",
    "ServiceLostError",
    "ServiceServer",
    "ShutdownTimeoutError",
    "UsageError",
    "WorkerDiedError",
    "WorkerError",
    "WorkerProtocolError",
    "WorkerTimeoutError",
    "__version__",
    "connect",
]

_HOMES = {
    "CostDatabase": "modelmgr.records.costs",
    "GPUMonitor": "modelmgr.devices.monitor",
    "Lease": "modelmgr.runtime.callers_lease",
    "ModelManager": "modelmgr.runtime.manager",
    "QueueTicket": "modelmgr.scheduling.queue",
    "RemoteManager": "modelmgr.runtime.service.client",
    "ResourceEstimator": "modelmgr.estimation.estimator",
    "ServiceServer": "modelmgr.runtime.service.server",
    "connect": "modelmgr.runtime.service.client",
}


def __getattr__(name: str) -> object:
    """Import a public name from where it lives."""
    if name not in __all__:
        raise AttributeError(f"module 'modelmgr' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "modelmgr.errors")), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)

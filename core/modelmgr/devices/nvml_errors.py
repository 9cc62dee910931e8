"""What NVML's error codes mean to us: a device or driver that is gone, or one failed query. Pure.

Reference: NVML API Reference Guide, ``nvmlReturn_t`` in nvml.h.
"""

from __future__ import annotations

from modelmgr.errors import DeviceError, DeviceLostError, ReadingError

UNINITIALIZED = 1
NOT_SUPPORTED = 3
NO_PERMISSION = 4
NOT_FOUND = 6
DRIVER_NOT_LOADED = 9
LIBRARY_NOT_FOUND = 12
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
RESET_REQUIRED = 16
LIB_RM_VERSION_MISMATCH = 18
ARGUMENT_VERSION_MISMATCH = 25
GPU_NOT_FOUND = 28

NO_DRIVER = frozenset({DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, LIB_RM_VERSION_MISMATCH})
DRIVER_GONE = NO_DRIVER | {UNINITIALIZED}
DEVICE_GONE = frozenset({GPU_IS_LOST, RESET_REQUIRED, NOT_FOUND, GPU_NOT_FOUND})
# Not failures: this driver or device does not have the query, and never will.
NOT_TOLD = frozenset({NOT_SUPPORTED, FUNCTION_NOT_FOUND, ARGUMENT_VERSION_MISMATCH})

_NEXT_STEP = {
    LIBRARY_NOT_FOUND: "there is no libnvidia-ml.so.1; install the NVIDIA driver to use a GPU",
    DRIVER_NOT_LOADED: "the driver is not loaded; see what `nvidia-smi` says",
    LIB_RM_VERSION_MISMATCH: "the driver was updated; restart the program, or the machine",
    GPU_IS_LOST: "the GPU fell off the bus; see the kernel's log",
    RESET_REQUIRED: "the GPU needs a reset: `nvidia-smi --gpu-reset`",
}


class NvmlFailure(Exception):  # noqa: N818 - never leaves modelmgr.devices.nvml
    """A query's error code, before its caller knows what it means there.

    Attributes:
        code: ``nvmlReturn_t``.
        explanation: the query, NVML's words and the next step.
    """

    def __init__(self, query: str, code: int, text: str) -> None:
        super().__init__(f"{query}: {text} (NVML error {code})")
        self.code = code
        step = _NEXT_STEP.get(code)
        self.explanation = f"{self}; {step}" if step else str(self)

    def as_error(self, device: str) -> DeviceError:
        """Return what to raise for it."""
        message = f"{device}: {self.explanation}"
        gone = self.code in DRIVER_GONE | DEVICE_GONE
        return DeviceLostError(message) if gone else ReadingError(message)

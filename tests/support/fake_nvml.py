"""Moves the figures of the NVML library that the tests compile (tests/devices/libnvidia_ml.c).

Any process may do so: a test, or a model's worker that takes device memory as a model would. They
meet in one mapped file, which ``MODELMGR_FAKE_NVML`` names. What a process took with ``take`` is
gone when the process is, as with a driver.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import mmap
import os
import shutil
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

GIB = 1024**3
ENVIRONMENT = "MODELMGR_FAKE_NVML"
DRIVER_NOT_LOADED = 9
GPU_IS_LOST = 15
NOT_SUPPORTED = 3
TIMEOUT = 10
UNKNOWN = 999
EVERY_TIME = -1

_SOURCE = Path(__file__).resolve().parents[1] / "devices" / "libnvidia_ml.c"
_LIBRARY = "libnvidia-ml.so.1"
_NOT_AVAILABLE = 2**64 - 1
_NONE_U32 = 2**32 - 1
_DEVICES, _PROCESSES, _FAULTS = 32, 64, 16
_COMPUTE, _GRAPHICS, _OWNED = 1, 2, 4


class _Process(ctypes.Structure):
    pid: int
    kinds: int
    bytes: int
    _fields_ = (
        ("pid", ctypes.c_uint32),
        ("kinds", ctypes.c_uint32),
        ("bytes", ctypes.c_uint64),
    )


class _Device(ctypes.Structure):
    total: int
    reserved: int
    used: int
    present: int
    parent: int
    mig_mode: int
    mig_index: int
    lost: int
    memory_error: int
    gpu_instance: int
    compute_instance: int
    name: bytes
    uuid: bytes
    processes: ctypes.Array[_Process]
    _fields_ = (
        ("total", ctypes.c_uint64),
        ("reserved", ctypes.c_uint64),
        ("used", ctypes.c_uint64),
        ("present", ctypes.c_int32),
        ("parent", ctypes.c_int32),
        ("mig_mode", ctypes.c_int32),
        ("mig_index", ctypes.c_int32),
        ("lost", ctypes.c_int32),
        ("memory_error", ctypes.c_int32),
        ("gpu_instance", ctypes.c_uint32),
        ("compute_instance", ctypes.c_uint32),
        ("name", ctypes.c_char * 96),
        ("uuid", ctypes.c_char * 96),
        ("processes", _Process * _PROCESSES),
    )


class _Fault(ctypes.Structure):
    query: bytes
    code: int
    times: int
    _fields_ = (
        ("query", ctypes.c_char * 64),
        ("code", ctypes.c_int32),
        ("times", ctypes.c_int32),
    )


class _State(ctypes.Structure):
    driver_error: int
    generation: int
    driver_version: bytes
    faults: ctypes.Array[_Fault]
    devices: ctypes.Array[_Device]
    _fields_ = (
        ("driver_error", ctypes.c_int32),
        ("generation", ctypes.c_int32),
        ("driver_version", ctypes.c_char * 80),
        ("faults", _Fault * _FAULTS),
        ("devices", _Device * _DEVICES),
    )


@functools.cache
def compile_library(folder: Path, *macros: str) -> Path:
    """Compile the library into a folder, once; macros such as ``WITHOUT_MEMORY_V2`` leave out."""
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / _LIBRARY
    compiler = shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("no C compiler: install one (package gcc) to test the NVML reader")
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    command += [f"-D{macro}" for macro in macros]
    command += [f"-Wl,-soname,{_LIBRARY}", "-o", str(library), str(_SOURCE)]
    subprocess.run(command, check=True)  # noqa: S603 - our own source with the system's compiler
    return library


class FakeNvml:
    """The machine's devices as the compiled library shows them.

    ``FakeNvml(folder)`` makes a machine with no GPU in a folder, or opens the one that is there;
    ``FakeNvml.attach()`` opens the one that this process's environment names. GPUs and MIG
    instances are numbered in one row, as ``add_gpu`` and ``mig`` return.
    """

    def __init__(self, path: Path, *, library: Path | None = None) -> None:
        """Open or make the machine in folder ``path``; without a library, compile one there."""
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path / "nvml.state"
        self._library = library
        if not self._file.exists():
            self._file.write_bytes(bytes(ctypes.sizeof(_State)))
            with self._locked() as state:
                state.driver_version = b"570.00"
        with self._file.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), ctypes.sizeof(_State))
        self._state = _State.from_buffer(self._map)

    @classmethod
    def attach(cls) -> Self:
        """Open the machine that the environment names; KeyError where it names none."""
        return cls(Path(os.environ[ENVIRONMENT]).parent)

    def env(self) -> dict[str, str]:
        """Return what a subprocess's environment needs so that its NVML is this machine."""
        library = self._library or compile_library(self.path / "lib")
        return {ENVIRONMENT: str(self._file), "LD_LIBRARY_PATH": str(library.parent)}

    def add_gpu(
        self,
        *,
        total: int = 24 * GIB,
        reserved: int = 0,
        used: int = 0,
        name: str = "Fake RTX",
        uuid: str | None = None,
    ) -> int:
        """Add a GPU and return its number."""
        return self._add(total, reserved, used, name, uuid, parent=-1)

    def mig(
        self,
        gpu: int,
        *,
        total: int = 5 * GIB,
        reserved: int = 0,
        used: int = 0,
        name: str = "Fake A100 MIG 1g.5gb",
        uuid: str | None = None,
    ) -> int:
        """Turn a GPU's MIG mode on, add an instance and return the instance's number."""
        self._state.devices[gpu].mig_mode = 1
        return self._add(total, reserved, used, name, uuid, parent=gpu)

    def remove(self, gpu: int) -> None:
        """Take a device out of the list."""
        self._state.devices[gpu].present = 0

    def set_memory(
        self,
        gpu: int,
        *,
        used: int | None = None,
        total: int | None = None,
        reserved: int | None = None,
    ) -> None:
        """Set a device's figures, bytes; ``used`` is without ``reserved``, as version 2 has it."""
        device = self._state.devices[gpu]
        if used is not None:
            device.used = used
        if total is not None:
            device.total = total
        if reserved is not None:
            device.reserved = reserved

    def take(self, gpu: int, size_bytes: int, *, pid: int | None = None) -> None:
        """Take (or, negative, give back) device memory for a process, by default this one.

        The device's use and its list of processes show it until the process ends.
        """
        owner = os.getpid() if pid is None else pid
        with self._locked() as state:
            processes = state.devices[gpu].processes
            own = [p for p in processes if p.pid == owner and p.kinds & _OWNED]
            process = own[0] if own else next(p for p in processes if not p.kinds)
            if not own:
                process.pid, process.bytes = owner, 0
            process.bytes += size_bytes
            process.kinds = _COMPUTE | _OWNED

    def set_processes(
        self,
        gpu: int,
        compute: Mapping[int, int | None],
        graphics: Mapping[int, int | None] | None = None,
    ) -> None:
        """List processes (id to bytes, None where not available); the device's use stays as is."""
        rows = [(pid, _COMPUTE, size) for pid, size in compute.items()]
        rows += [(pid, _GRAPHICS, size) for pid, size in (graphics or {}).items()]
        with self._locked() as state:
            for process in state.devices[gpu].processes:
                process.kinds = 0
            for process, (pid, kind, size) in zip(state.devices[gpu].processes, rows, strict=False):
                process.pid = pid
                process.bytes = _NOT_AVAILABLE if size is None else size
                process.kinds = kind

    def fail(self, query: str, error_code: int, times: int = 1) -> None:
        """Let the next queries whose C name starts with ``query`` fail; -1 times is every time."""
        with self._locked() as state:
            fault = next(fault for fault in state.faults if fault.times == 0)
            fault.query, fault.code = query.encode(), error_code
            fault.times = times

    def heal(self) -> None:
        """Forget every failure that ``fail`` ordered."""
        for fault in self._state.faults:
            fault.times = 0

    def set_unified(self, gpu: int, *, error_code: int = NOT_SUPPORTED) -> None:
        """Let a device answer memory queries as integrated ones do (0: by a total of 0)."""
        device = self._state.devices[gpu]
        device.memory_error = error_code
        if error_code == 0:
            device.total = device.reserved = device.used = 0

    def lose(self, gpu: int) -> None:
        """Let a GPU fall off the bus."""
        self._state.devices[gpu].lost = 1

    def find(self, gpu: int) -> None:
        """Bring a lost GPU back."""
        self._state.devices[gpu].lost = 0

    def unload_driver(self, error_code: int = DRIVER_NOT_LOADED) -> None:
        """Let every query fail as without a driver."""
        self._state.driver_error = error_code

    def load_driver(self) -> None:
        """Bring the driver back; who had initialised it must do so again."""
        self._state.generation += 1
        self._state.driver_error = 0

    def used(self, gpu: int) -> int:
        """Return a device's own figure and what was taken by processes, dead or alive, bytes."""
        device = self._state.devices[gpu]
        return device.used + sum(p.bytes for p in device.processes if p.kinds & _OWNED)

    def _add(
        self, total: int, reserved: int, used: int, name: str, uuid: str | None, *, parent: int
    ) -> int:
        with self._locked() as state:
            number = next(i for i, device in enumerate(state.devices) if not device.present)
            device = state.devices[number]
            device.total, device.reserved, device.used = total, reserved, used
            device.parent = parent
            device.mig_mode = -1
            siblings = [d for d in state.devices if d.present and d.parent == parent]
            device.mig_index = len(siblings)
            is_mig = parent >= 0
            device.gpu_instance = len(siblings) + 1 if is_mig else _NONE_U32
            device.compute_instance = 0 if is_mig else _NONE_U32
            kind = "MIG" if is_mig else "GPU"
            default = f"{kind}-{number:08x}-0000-0000-0000-{number:012x}"
            device.name, device.uuid = name.encode(), (uuid or default).encode()
            device.present = 1
        return number

    @contextmanager
    def _locked(self) -> Generator[_State]:
        """Change several figures as one, against other processes that do the same."""
        with self._file.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            view = mmap.mmap(file.fileno(), ctypes.sizeof(_State))
            yield _State.from_buffer(view)

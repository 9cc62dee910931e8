"""A process of its own in which the NVML reader meets the compiled library, driven by commands.

NVML's bindings keep their library for as long as a process lives, so each test gets a process.
``NvmlProbe`` is the test's side; run as a script, this file is the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from modelmgr.devices.discovery import discover, open_reader
from modelmgr.devices.monitor import GPUMonitor
from modelmgr.devices.nvml import list_devices, nvml_status
from modelmgr.devices.reading import MemoryReader
from modelmgr.errors import DeviceError


class ProbeError(Exception):
    """What the process raised; ``kind`` is the error class's name."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class NvmlProbe:
    """The process. Usable as a context manager; ends with it."""

    def __init__(self, env: Mapping[str, str]) -> None:
        inherited = {name: value for name, value in os.environ.items() if "VISIBLE" not in name}
        self._process = subprocess.Popen(  # noqa: S603 - this very file, by this very interpreter
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**inherited, "PYTHONPATH": os.pathsep.join(sys.path), **env},
        )
        self.pid = self._process.pid

    def ask(self, do: str, **arguments: object) -> Any:
        """Run a command and return its answer; raise ProbeError where the process raised."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the probe died of {do!r}"
        answer = json.loads(line)
        if "error" in answer:
            raise ProbeError(answer["error"], answer["message"])
        return answer["result"]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


StartProbe = Callable[..., NvmlProbe]
"""Starts the process; keyword arguments are environment variables."""


class _Probe:
    """The process's side: one method for each command."""

    def __init__(self) -> None:
        self._readers: dict[str, MemoryReader] = {}
        self._monitor: GPUMonitor | None = None

    def devices(self) -> object:
        return [_plain(device) for device in list_devices()]

    def status(self) -> object:
        status = nvml_status()
        return {
            "available": status.available,
            "reason": status.reason,
            "driver": status.driver_version,
            "problems": list(status.problems),
        }

    def discover(self, budget_bytes: int | None = None) -> object:
        return [
            {**_plain(reader.description), "limit_bytes": reader.description.limit_bytes}
            for reader in discover(budget_bytes)
        ]

    def open(self, name: str) -> object:
        self._readers[name] = open_reader(name)
        return _plain(self._readers[name].description)

    def read(self, name: str = "cuda:0") -> object:
        if name not in self._readers:
            self.open(name)
        reading = self._readers[name].read()
        return {
            "used_bytes": reading.used_bytes,
            "total_bytes": reading.total_bytes,
            "processes": None
            if reading.processes is None
            else {str(pid): size for pid, size in reading.processes.items()},
        }

    def read_in_child(self, name: str) -> object:
        """Fork and read there: 0 when the child's reading was good."""
        child = os.fork()
        if child == 0:
            try:
                self._readers[name].read()
            except BaseException:  # noqa: BLE001 - whatever it was, the parent is told
                os._exit(1)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def hammer(self, names: list[str], times: int) -> object:
        """Read devices from a thread each; return how many readings failed, and how."""
        failures: list[str] = []

        def read_all(name: str) -> None:
            for _ in range(times):
                try:
                    self._readers[name].read()
                except DeviceError as error:
                    failures.append(type(error).__name__)

        with ThreadPoolExecutor(len(names)) as threads:
            list(threads.map(read_all, names))
        return failures

    def track(self, name: str, pid: int) -> object:
        self._readers[name].track(pid)
        return None

    def untrack(self, name: str, pid: int) -> object:
        self._readers[name].untrack(pid)
        return None

    def close(self, name: str) -> object:
        self._readers[name].close()
        return None

    def monitor(self, device: int = 0) -> object:
        self._monitor = GPUMonitor(device=device, fallback_memory_mb=64.0)
        return _plain(self._monitor.description)

    def monitors(self) -> object:
        monitors = GPUMonitor.all()
        names = [monitor.description.name for monitor in monitors]
        for monitor in monitors:
            monitor.close()
        return names

    def refresh(self) -> object:
        assert self._monitor is not None
        self._monitor.refresh()
        return None

    def stats(self) -> object:
        assert self._monitor is not None
        return {
            "stats": self._monitor.get_stats(),
            "failing": self._monitor.failing,
            "last_error": self._monitor.last_error,
            "evidence": self._monitor.peak_evidence,
        }


def _plain(description: object) -> dict[str, object]:
    names = ("name", "kind", "total_bytes", "index", "uuid", "product", "driver", "unified")
    return {name: getattr(description, name) for name in names}


def _main() -> None:
    probe = _Probe()
    for line in sys.stdin:
        arguments = json.loads(line)
        do = arguments.pop("do")
        try:
            answer = {"result": getattr(probe, do)(**arguments)}
        except Exception as error:  # noqa: BLE001 - carried to the test
            answer = {"error": type(error).__name__, "message": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()

"""What this machine is, as a cost database records it: found out without importing a framework."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from modelmgr.records.costs import DeviceInfo, MachineInfo
from modelmgr.records.devices import DeviceDescription

_FRAMEWORKS = ("numpy", "onnxruntime", "torch", "transformers")


def installed_frameworks() -> dict[str, str]:
    """Return the versions of the frameworks that are installed, by name."""
    versions: dict[str, str] = {}
    for name in _FRAMEWORKS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def describe_machine(
    device: DeviceDescription, packages: Mapping[str, str] | None = None
) -> MachineInfo:
    """Return this machine with a device and the packages that matter to the figures."""
    return MachineInfo(
        os=f"{platform.system()} {platform.release()}",
        cpu=_cpu_name(),
        python=platform.python_version(),
        packages=dict(sorted((packages or installed_frameworks()).items())),
        device=DeviceInfo(
            kind=device.kind,
            name=device.product or device.name,
            total_bytes=device.total_bytes,
            driver=device.driver,
        ),
    )


def _cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    try:
        lines = cpuinfo.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine() or None)

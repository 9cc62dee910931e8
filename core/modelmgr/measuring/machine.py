"""What this machine is, as a cost database records it: found out without importing a framework."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from modelmgr.devices.host_available import total_host_bytes
from modelmgr.errors import UsageError
from modelmgr.records.costs import DeviceInfo, MachineInfo
from modelmgr.records.devices import DeviceDescription
from modelmgr.units import format_bytes

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
    device: DeviceDescription,
    packages: Mapping[str, str] | None = None,
    *,
    budget_bytes: int | None = None,
) -> MachineInfo:
    """Return this machine with a device and the packages that matter to the figures.

    Args:
        device: as its reader describes it.
        packages: name to version; the installed frameworks where none are given.
        budget_bytes: what the models may use, None where nobody said: on the host, whose
            description has the budget as its size, that is the budget then.

    Raises:
        ReadingError: the kernel does not tell the host's memory.
    """
    on_host = device.kind == "host"
    return MachineInfo(
        os=f"{platform.system()} {platform.release()}",
        cpu=_cpu_name(),
        python=platform.python_version(),
        packages=dict(sorted((packages or installed_frameworks()).items())),
        device=DeviceInfo(
            kind=device.kind,
            name=device.product or device.name,
            total_bytes=total_host_bytes() if on_host else device.total_bytes,
            driver=device.driver,
            budget_bytes=device.total_bytes if on_host else budget_bytes,
        ),
    )


def refuse_budget(device: DeviceDescription, budget_bytes: int | None) -> None:
    """Raise UsageError where a budget is more than the device's memory."""
    total_bytes = total_host_bytes() if device.kind == "host" else device.total_bytes
    if budget_bytes is not None and budget_bytes > total_bytes:
        raise UsageError(
            f"a budget of {format_bytes(budget_bytes)} is more than {device.name} has "
            f"({format_bytes(total_bytes)}): give a smaller --budget"
        )


def _cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    try:
        lines = cpuinfo.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine() or None)

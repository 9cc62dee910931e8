"""What ``doctor`` finds out about a machine: facts, each with how it is and what to do about it.

Measures nothing, imports no framework and prints nothing.
"""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path
from typing import Literal

import msgspec

from modelmgr._version import __version__
from modelmgr.devices.discovery import open_reader
from modelmgr.devices.host import default_host_budget_bytes
from modelmgr.devices.host_available import AvailableMemory, total_host_bytes
from modelmgr.devices.nvml import list_devices, nvml_status
from modelmgr.devices.process_memory import peak_reset_refusal
from modelmgr.errors import DeviceError, UsageError
from modelmgr.measuring.machine import describe_machine, refuse_budget
from modelmgr.records.costs import MachineInfo
from modelmgr.records.devices import DeviceDescription
from modelmgr.units import GIB, format_bytes
from modelmgr_cli.commands import options

State = Literal["fine", "warning", "problem"]

LEAST_DISK_BYTES = GIB
"""Below this much free disk a warning: a database is small, a hub's weights are not."""

# Framework, the extra that brings it, the loaders that need it.
_FRAMEWORKS = (
    ("torch", "torch", "transformers, torch"),
    ("transformers", "torch", "transformers"),
    ("onnxruntime", "onnx", "onnx"),
)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One fact about the machine.

    Attributes:
        name: what it is about.
        state: ``problem`` is what keeps ``profile`` from working.
        fact: what was found, with units.
        advice: what to do about it, None where nothing is to be done.
    """

    name: str
    state: State
    fact: str
    advice: str | None = None


class Checkup(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found.

    Attributes:
        usable: whether ``profile`` can work here.
        plan: what ``profile`` would do, in a sentence; None where it cannot work.
        machine: as a cost database would record it, None without a device.
        device: what would be measured on, None where there is none.
        limit_bytes: what models could use of it, bytes; None where there is none.
        devices: the accelerators that ``--device`` takes by name; ``host`` is always there.
        findings: the facts, in order.
    """

    usable: bool
    plan: str | None
    machine: MachineInfo | None
    device: DeviceDescription | None
    limit_bytes: int | None
    devices: tuple[DeviceDescription, ...]
    findings: tuple[Finding, ...]


def check_up(device: str, *, budget_bytes: int | None, slack: float, folder: Path) -> Checkup:
    """Find out what ``profile --device DEVICE`` would have to work with.

    Args:
        device: as ``--device`` takes it.
        budget_bytes: as ``--budget`` gives it, bytes.
        slack: share of the device that stays free.
        folder: where results would be written.
    """
    devices, accelerators = _accelerators()
    chosen, reading = _chosen(device, budget_bytes=budget_bytes, slack=slack)
    versions = {name: _version(name) for name, _, _ in _FRAMEWORKS}
    findings = (
        Finding(name="modelmgr", state="fine", fact=__version__),
        _host_memory(),
        accelerators,
        reading,
        *(_framework(name, extra, loaders) for name, extra, loaders in _FRAMEWORKS),
        *_cuda_build(versions["torch"], chosen),
        _peaks(chosen),
        _disk(folder),
    )
    usable = chosen is not None and all(finding.state != "problem" for finding in findings)
    return Checkup(
        usable=usable,
        plan=_plan(chosen) if chosen is not None and usable else None,
        machine=describe_machine(chosen) if chosen is not None else None,
        device=chosen,
        limit_bytes=chosen.limit_bytes if chosen is not None else None,
        devices=devices,
        findings=findings,
    )


def _host_memory() -> Finding:
    try:
        total, available = total_host_bytes(), AvailableMemory().read_bytes()
        fact = (
            f"{format_bytes(total)}, {format_bytes(available)} available, "
            f"default budget {format_bytes(default_host_budget_bytes())}"
        )
    except DeviceError as error:
        advice = "state one with --budget"
        return Finding(name="host memory", state="warning", fact=str(error), advice=advice)
    return Finding(name="host memory", state="fine", fact=fact)


def _accelerators() -> tuple[tuple[DeviceDescription, ...], Finding]:
    name = "accelerators"
    status = nvml_status()
    try:
        devices = list_devices()
    except DeviceError as error:
        return (), Finding(name=name, state="warning", fact=str(error))
    described = ", ".join(
        f"{device.name}: {device.product or 'unnamed'}, {format_bytes(device.total_bytes)}"
        for device in devices
    )
    if status.problems:
        fact = "; ".join((described, *status.problems)) if described else "; ".join(status.problems)
        return devices, Finding(name=name, state="warning", fact=fact)
    if devices:
        fact = f"{described}; driver {status.driver_version or 'of unknown version'}"
        return devices, Finding(name=name, state="fine", fact=fact)
    reason = f" ({status.reason})" if status.reason else ""
    return devices, Finding(name=name, state="fine", fact=f"none{reason}")


def _chosen(
    device: str, *, budget_bytes: int | None, slack: float
) -> tuple[DeviceDescription | None, Finding]:
    """Open the device as ``profile`` would, and read its memory once."""
    name = f"device {device}"
    try:
        options.check_device(device)
        reader = open_reader(device, budget_bytes=budget_bytes, slack=slack)
    except (DeviceError, UsageError) as error:
        return None, Finding(name=name, state="problem", fact=str(error))
    try:
        refuse_budget(reader.description, budget_bytes)
        reading = reader.read()
    except (DeviceError, UsageError) as error:
        return reader.description, Finding(name=name, state="problem", fact=str(error))
    finally:
        reader.close()
    fact = (
        f"{reader.description.name}, {format_bytes(reading.used_bytes)} of "
        f"{format_bytes(reading.total_bytes)} in use now"
    )
    return reader.description, Finding(name=name, state="fine", fact=fact)


def _framework(name: str, extra: str, loaders: str) -> Finding:
    version = _version(name)
    if version is not None:
        return Finding(name=name, state="fine", fact=version)
    return Finding(
        name=name,
        state="warning",
        fact=f"not installed; the loaders {loaders} need it",
        advice=f"pip install 'modelmgr[{extra}]'",
    )


def _cuda_build(torch: str | None, chosen: DeviceDescription | None) -> tuple[Finding, ...]:
    if torch is None or "+cpu" not in torch or chosen is None or chosen.kind != "cuda":
        return ()
    return (
        Finding(
            name="torch",
            state="warning",
            fact=f"{torch} is built without CUDA and cannot use {chosen.name}",
            advice="install a CUDA build: https://pytorch.org/get-started/locally",
        ),
    )


def _peaks(chosen: DeviceDescription | None) -> Finding:
    name = "memory peaks"
    if chosen is not None and chosen.kind != "host":
        return Finding(name=name, state="fine", fact="exact, from the framework's allocator")
    refusal = peak_reset_refusal()
    if refusal is None:
        return Finding(name=name, state="fine", fact="exact, from the kernel (VmHWM)")
    return Finding(
        name=name,
        state="warning",
        fact=f"sampled only: {refusal}",
        advice="figures may be some percent low; run where /proc/PID/clear_refs can be written",
    )


def _disk(folder: Path) -> Finding:
    name = "free disk"
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        fact = f"{folder}: {error.strerror or error}"
        return Finding(name=name, state="problem", fact=fact, advice="choose another --out")
    fact = f"{format_bytes(free)} in {folder.resolve()}"
    if free < LEAST_DISK_BYTES:
        advice = "a database needs little, but downloaded weights would not fit"
        return Finding(name=name, state="warning", fact=fact, advice=advice)
    return Finding(name=name, state="fine", fact=fact)


def _plan(chosen: DeviceDescription) -> str:
    spare = f" ({chosen.slack:.0%} of {format_bytes(chosen.total_bytes)} stays free)"
    return (
        f"profile would measure on {chosen.name} with a limit of "
        f"{format_bytes(chosen.limit_bytes)}{spare if chosen.slack else ''}, each model alone, in "
        "worker processes from a forkserver that has its framework loaded"
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

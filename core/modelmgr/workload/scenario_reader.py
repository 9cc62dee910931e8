"""Read a scenario (YAML) for ``simulate`` and ``run``: every rule that it must keep.

Owns the file as a whole, its devices and its settings; models, traffic and faults are read by
``scenario_models``, ``scenario_phases`` and ``scenario_faults``. Nothing here draws or decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from modelmgr.errors import UsageError
from modelmgr.records.validation import convert, nearest
from modelmgr.units import format_bytes
from modelmgr.workload.document import Document, parse_document, read_document
from modelmgr.workload.model_list import check_schema_version
from modelmgr.workload.places import At
from modelmgr.workload.policy_plugins import find_policy, policy_names
from modelmgr.workload.scenario import ManagerOptions, Scenario, ScenarioDevice, ScenarioModel
from modelmgr.workload.scenario_costs import CostFiles
from modelmgr.workload.scenario_entries import (
    SCHEMA_VERSION,
    DeviceEntry,
    ManagerEntry,
    ScenarioFile,
)
from modelmgr.workload.scenario_faults import read_faults
from modelmgr.workload.scenario_models import read_models
from modelmgr.workload.scenario_phases import read_phases

_WHAT = "scenario"

Purpose = Literal["simulate", "run"]
MachineMemory = Callable[[str, str], int]
"""Given a device's kind (``cuda``, ``host``) and name, returns the bytes that it has."""


def read_scenario(
    path: str | Path,
    *,
    purpose: Purpose = "simulate",
    machine_memory: MachineMemory | None = None,
) -> Scenario:
    """Read and check a scenario.

    Args:
        path: the file; what it names (cost databases, traces) is relative to its folder.
        purpose: ``run`` allows a model whose cost is not known, as long as something loads it.
        machine_memory: how much a real device without a ``memory`` has; without this a scenario
            must say it. May raise an error of its own where there is no such device.

    Raises:
        InputError: says what is wrong, in which line and column, and what to do.
    """
    document = read_document(path, what=_WHAT)
    return build_scenario(document, Path(path), purpose=purpose, machine_memory=machine_memory)


def parse_scenario(
    text: str,
    path: str | Path = "<text>",
    *,
    purpose: Purpose = "simulate",
    machine_memory: MachineMemory | None = None,
) -> Scenario:
    """Read a scenario from a text; ``path`` is for messages and for what it names."""
    document = parse_document(text, str(path), what=_WHAT)
    return build_scenario(document, Path(path), purpose=purpose, machine_memory=machine_memory)


def build_scenario(
    document: Document,
    path: Path,
    *,
    purpose: Purpose = "simulate",
    machine_memory: MachineMemory | None = None,
) -> Scenario:
    """Check a document that was read already; arguments and errors as ``read_scenario``."""
    check_schema_version(document, SCHEMA_VERSION)
    written = convert(document.plain(), ScenarioFile, document.error)
    root = At(document, ())
    manager = _manager(root / "manager", written.manager)
    devices = _devices(root / "devices", written.devices, machine_memory)
    models = read_models(
        root / "models",
        written.models,
        CostFiles(path.parent),
        simulated=purpose == "simulate",
    )
    _check_sizes(root / "devices", devices, models)
    return Scenario(
        name=written.name,
        seed=written.seed,
        devices=devices,
        manager=manager,
        models=models,
        workload=read_phases(root / "workload", written.workload, models, path.parent),
        faults=read_faults(root / "faults", written.faults, models, devices),
    )


def _manager(at: At, written: ManagerEntry) -> ManagerOptions:
    if written.policy not in (names := policy_names()):
        raise (at / "policy").wrong(
            f"unknown policy {written.policy!r}", hint=nearest(written.policy, names)
        )
    try:
        find_policy(written.policy)
    except UsageError as error:
        raise (at / "policy").wrong(str(error)) from error
    if written.max_copies is not None and written.max_copies < written.min_copies:
        raise (at / "max_copies").error(
            f"{(at / 'max_copies').name} ({written.max_copies}) is below min_copies "
            f"({written.min_copies})"
        )
    return ManagerOptions(
        policy=written.policy,
        isolation=written.isolation,
        max_bypass=written.max_bypass,
        min_copies=written.min_copies,
        max_copies=written.max_copies,
        cooldown_ns=(at / "eviction_cooldown").duration_ns(written.eviction_cooldown),
        wait_timeout_ns=(at / "wait_timeout").duration_ns(written.wait_timeout),
    )


def _devices(
    at: At, written: Sequence[DeviceEntry], machine_memory: MachineMemory | None
) -> tuple[ScenarioDevice, ...]:
    devices: list[ScenarioDevice] = []
    first: dict[str, int] = {}
    for index, entry in enumerate(written):
        earlier = first.setdefault(entry.name, index)
        if earlier != index:
            raise (at / index / "name").error(
                f"the name {entry.name!r} is taken by the device in line {(at / earlier).line}",
                hint="give each device a name of its own",
            )
        devices.append(_device(at / index, entry, machine_memory))
    return tuple(devices)


def _device(at: At, written: DeviceEntry, machine_memory: MachineMemory | None) -> ScenarioDevice:
    if written.memory is not None:
        total_bytes = (at / "memory").positive_bytes(written.memory)
    elif written.kind != "virtual" and machine_memory is not None:
        total_bytes = machine_memory(written.kind, written.name)
    else:
        raise at.error(
            f"device {written.name!r} has no 'memory'",
            hint="add for example 'memory: 24 GiB'"
            + ("" if written.kind == "virtual" else "; only a real run can ask the machine"),
        )
    slack = (at / "slack").share(written.slack)
    if slack >= 1:
        raise (at / "slack").wrong(f"leaves nothing of the device: {written.slack}")
    return ScenarioDevice(
        name=written.name, kind=written.kind, total_bytes=total_bytes, slack=slack
    )


def _check_sizes(
    at: At, devices: Sequence[ScenarioDevice], models: Sequence[ScenarioModel]
) -> None:
    """Refuse a device that no model fits on.

    A model that fits on no device is no mistake: its requests are refused, and counted.
    """
    needs = {
        model.tag: max(model.cost.peak_bytes, model.cost.load_peak_bytes or 0)
        for model in models
        if model.cost is not None
    }
    if len(needs) < len(models):
        return  # what is not measured yet may fit
    tag = min(needs, key=lambda tag: needs[tag])
    for index, device in enumerate(devices):
        if device.limit_bytes < needs[tag]:
            raise (at / index).error(
                f"device {device.name!r} is too small for every model: its limit is "
                f"{format_bytes(device.limit_bytes)} ({format_bytes(device.total_bytes)} less "
                f"{device.slack:.0%} slack), and the smallest, {tag!r}, takes "
                f"{format_bytes(needs[tag])}",
                hint="give it more memory, or leave it out",
            )

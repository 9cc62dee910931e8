"""A cost database of some host, for tests that care about its models alone."""

from __future__ import annotations

from collections.abc import Mapping

from modelmgr.records.costs import CostDatabase, DeviceInfo, MachineInfo, ModelCost, ToolInfo

HOST = MachineInfo(
    os="Linux",
    cpu=None,
    python="3.11",
    packages={"torch": "2.13"},
    device=DeviceInfo(kind="host", name=None, total_bytes=2**34),
)


def database_of(models: Mapping[str, ModelCost], machine: MachineInfo = HOST) -> CostDatabase:
    """Return a database of these models."""
    return CostDatabase(
        created_at="2026-01-02T03:04:05Z",
        tool=ToolInfo(name="modelmgr", version="0.1.0"),
        machine=machine,
        models=dict(models),
    )

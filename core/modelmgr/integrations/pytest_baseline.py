"""The baseline of a test session: a cost database, what is held against it, and its renewal.

Owns the file and the question whether its figures hold for this machine at all. Which growth is
too much is ``pytest_verdicts``'s.
"""

from __future__ import annotations

from pathlib import Path

from modelmgr.errors import UsageError
from modelmgr.integrations.pytest_verdicts import growth
from modelmgr.measuring.database import combine, read_existing
from modelmgr.records.codec import load_costs, save_costs
from modelmgr.records.costs import CostDatabase, MachineInfo, ModelCost
from modelmgr.records.machines import machine_differences


class Baseline:
    """One session's baseline.

    Attributes:
        path: the file.
        name: what messages call it.
        tolerance: the share that a figure may grow.
        is_renewed: it is to be written, and nothing is compared with it.
    """

    def __init__(self, path: Path, *, name: str, tolerance: float, is_renewed: bool) -> None:
        """Read the file; one that is to be renewed need not be there yet.

        Raises:
            UsageError: there is none, or it is no cost database.
        """
        self.path = path
        self.name = name
        self.tolerance = tolerance
        self.is_renewed = is_renewed
        self._database: CostDatabase | None = None
        if path.exists() or not is_renewed:
            self._database = load_costs(path)
        elif not path.parent.is_dir():
            raise UsageError(f"the folder {path.parent} does not exist: create it, or name another")

    def find(self, tag: str) -> ModelCost | None:
        """Return what a model cost, None where the baseline does not have it or could not tell."""
        cost = None if self._database is None else self._database.models.get(tag)
        return None if cost is None or cost.peak_bytes is None else cost

    def judge(self, tag: str, measured: CostDatabase) -> str | None:
        """Return what to say of a model that grew, None where it did not or nobody can tell."""
        before = self.find(tag)
        if before is None or self.is_renewed or self.differences(measured.machine):
            return None
        return growth(
            tag, before, measured.models[tag], tolerance=self.tolerance, baseline=self.name
        )

    def differences(self, machine: MachineInfo) -> tuple[str, ...]:
        """Return why figures of this machine and the baseline's cannot be compared, if so."""
        if self._database is None:
            return ()
        return tuple(
            f"{name} was {old} and is {new}"
            for name, old, new in machine_differences(self._database.machine, machine)
            if _matters_for_memory(name, old, new)
        )

    def check_renewal(self, machine: MachineInfo) -> None:
        """Refuse to measure for a file that figures of this machine may not go into.

        Raises:
            UsageError: it was measured on another machine or device, or cannot be read.
        """
        if self.is_renewed:
            read_existing(self.path, machine)

    def renew(self, measured: CostDatabase) -> None:
        """Write what was measured over what the file has of those models; the others stay.

        Raises:
            UsageError: it cannot be written; the old file is as it was.
        """
        existing = read_existing(self.path, measured.machine)
        renewed = combine(
            existing,
            measured.models,
            machine=measured.machine,
            run=measured.runs[0],
            evictions=() if existing is None else existing.evictions,
        )
        save_costs(renewed, self.path)


def _matters_for_memory(name: str, old: str | None, new: str | None) -> bool:
    """Return whether a model can take other memory for that difference alone.

    Runners of one pool have other processors and kernels every day, and a package that is new
    changes no model that did without it.
    """
    if old is None or new is None:
        return False
    if name == "python":
        return old.split(".")[:2] != new.split(".")[:2]
    return name.startswith("packages.") or name in {"device.kind", "device.name", "device.driver"}

"""Hold a compiled wheel to the decisions of its own sources: ``compiled_decisions.py WHEEL``.

The wheel is unpacked twice, once without what was compiled, and both simulate the same scenarios in
processes of their own. Every figure of every result must be the same, the decision hash first.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

SCENARIOS = Path(__file__).parents[2] / "scenarios"
NAMES = ("quickstart-scenario", "long-tail", "mixed-burst", "oom-storm", "two-gpus")
POLICIES = ("queue-value", "lru", "gdsf", "demand-tiers")
REQUESTS = 3_000


def simulate_all(scenarios: Path) -> None:
    """Print whether the scheduler is compiled, and every scenario's result under every policy."""
    import dataclasses  # noqa: PLC0415 - in the process that has the wheel on its path

    from modelmgr.records.result_codec import encode_result  # noqa: PLC0415
    from modelmgr.scheduling.native import is_compiled  # noqa: PLC0415
    from modelmgr.simulation.simulate import simulate  # noqa: PLC0415
    from modelmgr.workload.scenario_reader import read_scenario  # noqa: PLC0415

    sys.stdout.write(f"{'compiled' if is_compiled() else 'plain'}\n")
    for name in (*NAMES, "isolation-cold-start", "worker-faults"):
        scenario = read_scenario(scenarios / f"{name}.yaml", purpose="simulate")
        for policy in POLICIES:
            manager = dataclasses.replace(scenario.manager, policy=policy)
            chosen = dataclasses.replace(scenario, manager=manager)
            result = simulate(chosen, max_requests=REQUESTS, check=name in NAMES).result
            sys.stdout.write(f"{name} {policy} {encode_result(result)!r}\n")


def answers(wheel: Path, folder: Path, *, compiled: bool) -> list[str]:
    """Return what ``simulate_all`` prints with a wheel, with what was compiled or without."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if compiled or not name.endswith(".so")]
        archive.extractall(folder, names)
    done = subprocess.run(  # noqa: S603 - this interpreter, this file
        [sys.executable, "-P", __file__, "--simulate", str(SCENARIOS)],
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return done.stdout.splitlines()


def main(wheel: Path) -> int:
    """Compare; return how many results differ, or 1 where the wheel is not compiled."""
    with tempfile.TemporaryDirectory() as kept:
        compiled = answers(wheel, Path(kept) / "compiled", compiled=True)
        plain = answers(wheel, Path(kept) / "plain", compiled=False)
    if (compiled[0], plain[0]) != ("compiled", "plain"):
        sys.stdout.write(f"{wheel} is not compiled\n")
        return 1
    pairs = list(zip(compiled[1:], plain[1:], strict=True))
    different = [one for one, other in pairs if one != other]
    for line in different:
        sys.stdout.write(f"differs: {' '.join(line.split()[:2])}\n")
    sys.stdout.write(f"{len(pairs) - len(different)} of {len(pairs)} results are the same\n")
    return len(different)


if __name__ == "__main__":
    if sys.argv[1] == "--simulate":
        simulate_all(Path(sys.argv[2]))
    else:
        sys.exit(main(Path(sys.argv[1])))

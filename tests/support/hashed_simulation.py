"""Print the decision hashes of simulations, for other interpreters to repeat."""

from __future__ import annotations

import sys
from pathlib import Path

from modelmgr.simulation.simulate import simulate
from modelmgr.workload.scenario_reader import read_scenario

SCENARIOS = Path(__file__).parents[2] / "scenarios"

if __name__ == "__main__":
    for name in sys.argv[1:]:
        scenario = read_scenario(SCENARIOS / f"{name}.yaml", purpose="simulate")
        result = simulate(scenario, max_requests=400).result
        sys.stdout.write(f"{result.decisions_sha256}\n")

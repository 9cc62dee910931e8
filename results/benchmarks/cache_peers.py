"""Loads under lru and gdsf beside libCacheSim's, request for request, on recorded traffic.

    python results/benchmarks/cache_peers.py --traces FOLDER

Needs ``libcachesim`` (dependency group ``peers``). With no service time, loads that take no time
and one copy a model, the whole scheduler is a cache: under lru every request hits or misses exactly
where libCacheSim's LRU does. Its GDSF (0.3.5) inserts first and then evicts whatever is worth
least, at times the newcomer itself; a manager has to load what it serves, so there the two differ
from the first such newcomer on, which is told. A trace gives the order of
the requests alone; sizes are drawn by model, log-uniform from 1 to 20 GB, and the device holds a
third of all of them. GDSF counts every miss as one: a load is believed to take the same for all
models.

Recorded requests never go into this repository; each trace is told by its file's name.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib
import json
import math
import random
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from modelmgr.simulation.simulate import simulate
from modelmgr.workload.scenario import (
    BelievedCost,
    Distribution,
    ManagerOptions,
    Scenario,
    ScenarioCost,
    ScenarioDevice,
    ScenarioModel,
    TracePhase,
)

GB = 10**9
PEERS = {"lru": "LRU", "gdsf": "GDSF"}
SHARE = 3
# libCacheSim's GDSF has a miss cost a million over the size: with that many nanoseconds for a load
# both compare the very same numbers.
LOAD_NS = 1_000_000
NO_TIME = Distribution(kind="constant", mean_ns=0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One policy on one trace: how many loads, and how many requests differ."""

    trace: str
    policy: str
    capacity_gb: float
    requests: int
    loads: int
    peer_loads: int
    first_difference: int | None


def read_tags(path: Path) -> list[str]:
    """Return the models that a trace asks for, in order."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        return [row["model"] for row in csv.DictReader(lines)]


def draw_sizes(tags: list[str], name: str) -> dict[str, int]:
    """Draw each model's size."""
    generator = random.Random(name)  # noqa: S311  # a workload, not a secret
    return {
        tag: round(GB * math.exp(generator.uniform(0, math.log(20)))) for tag in sorted(set(tags))
    }


def our_hits(policy: str, tags: list[str], sizes: dict[str, int], capacity: int) -> list[bool]:
    """Return whether each request hits, through the whole scheduler."""
    models = tuple(
        ScenarioModel(
            tag=tag,
            cost=ScenarioCost(resident_bytes=size, peak_bytes=size, load=NO_TIME, service=NO_TIME),
            believed=BelievedCost(resident_bytes=size, peak_bytes=size, load_ns=LOAD_NS),
        )
        for tag, size in sizes.items()
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "order.csv"
        rows = (f"{second},{tag}\n" for second, tag in enumerate(tags))
        path.write_text("t_s,model\n" + "".join(rows), encoding="utf-8")
        scenario = Scenario(
            name="order",
            seed=1,
            devices=(ScenarioDevice(name="gpu0", kind="virtual", total_bytes=capacity, slack=0.0),),
            manager=ManagerOptions(policy=policy, max_copies=1, wait_timeout_ns=None),
            models=models,
            workload=(TracePhase(path=path),),
        )
        written: list[bytes] = []
        simulate(scenario, log=written.append)
    decisions = map(json.loads, b"".join(written).splitlines())
    grants = [(found["tag"], found["hit"]) for found in decisions if found["action"] == "grant"]
    if [tag for tag, _ in grants] != tags:
        raise RuntimeError(f"{policy}: requests were not served in their order")
    return [hit for _, hit in grants]


def peer_hits(policy: str, tags: list[str], sizes: dict[str, int], capacity: int) -> list[bool]:
    """Return whether each request hits in libCacheSim."""
    peer: Any = importlib.import_module("libcachesim")  # it has no types
    cache = getattr(peer, PEERS[policy])(cache_size=capacity)
    number = {tag: place for place, tag in enumerate(sizes)}
    return [bool(cache.get(peer.Request(obj_id=number[t], obj_size=sizes[t]))) for t in tags]


def compare(path: Path) -> list[Comparison]:
    """Compare both policies on one trace."""
    name = path.name.partition(".")[0]
    tags = read_tags(path)
    sizes = draw_sizes(tags, name)
    capacity = max(*sizes.values(), sum(sizes.values()) // SHARE)
    found: list[Comparison] = []
    for policy in PEERS:
        ours = our_hits(policy, tags, sizes, capacity)
        theirs = peer_hits(policy, tags, sizes, capacity)
        pairs = enumerate(zip(ours, theirs, strict=True))
        found.append(
            Comparison(
                trace=name,
                policy=policy,
                capacity_gb=capacity / GB,
                requests=len(tags),
                loads=ours.count(False),
                peer_loads=theirs.count(False),
                first_difference=next(
                    (place for place, (our, their) in pairs if our != their), None
                ),
            )
        )
    return found


def main() -> None:
    """Compare on every trace of a folder and write what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("results/cache_peers.json"))
    parser.add_argument("--traces", type=Path, required=True, help="the folder of recorded traces")
    arguments = parser.parse_args()
    rows = [row for path in sorted(arguments.traces.glob("*.csv.gz")) for row in compare(path)]
    content = {
        "command": "python results/benchmarks/cache_peers.py --traces FOLDER",
        "peer": f"libcachesim {version('libcachesim')}",
        "comparisons_that_differ": sum(row.first_difference is not None for row in rows),
        "comparisons": [asdict(row) for row in rows],
    }
    arguments.out.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()

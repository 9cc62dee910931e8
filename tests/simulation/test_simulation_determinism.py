"""The same scenario gives the same decisions, byte for byte, wherever and however it is run."""

from __future__ import annotations

import hashlib
from pathlib import Path

from modelmgr.records.result_codec import encode_result
from modelmgr.simulation.simulate import simulate
from modelmgr.units import GIB
from modelmgr.workload.scenario import Scenario
from support.interpreters import outputs_under_hash_seeds
from support.small_scenarios import MS, exponential, make_model, make_scenario

SCRIPT = Path(__file__).parents[1] / "support" / "hashed_simulation.py"
NAMES = ("worker-faults", "oom-storm", "two-gpus")


def scenario(seed: int = 1) -> Scenario:
    models = [
        make_model(f"m{number}", resident=GIB, peak=GIB + GIB // 8, service=exponential(30 * MS))
        for number in range(6)
    ]
    return make_scenario(models, rate_per_s=12, seconds=40, seed=seed)


def test_pythonhashseed_changes_nothing() -> None:
    answers = outputs_under_hash_seeds(SCRIPT, *NAMES)
    assert len(answers) == 1
    assert answers.pop().count("sha256:") == len(NAMES)


def test_the_hash_is_that_of_the_log_whether_it_is_written_or_not() -> None:
    written: list[bytes] = []
    result = simulate(scenario(), log=written.append).result
    content = b"".join(written)
    assert result.decisions_sha256 == "sha256:" + hashlib.sha256(content).hexdigest()
    assert result.decisions == content.count(b"\n") > 0
    silent = simulate(scenario()).result
    assert encode_result(silent) == encode_result(result)


def test_checking_and_watching_change_nothing() -> None:
    plain = simulate(scenario()).result
    seen: list[tuple[int, int]] = []
    watched = simulate(
        scenario(),
        check=True,
        progress=lambda at_ns, requests: seen.append((at_ns, requests)),
        stop=lambda: False,
        keep_schedule=True,
    ).result
    assert watched == plain


def test_another_seed_gives_other_decisions() -> None:
    first, second = simulate(scenario()).result, simulate(scenario(seed=2)).result
    assert first.decisions_sha256 != second.decisions_sha256

"""``modelmgr profile`` and ``estimate`` on synthetic models: the whole way, by the real program."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from modelmgr.records.codec import decode_costs, load_costs
from modelmgr.units import MIB
from support.command_line import Program
from support.profile_lists import ON_HOST, ONE_MODEL

_LARGE = """\
  - tag: large
    loader: synthetic
    options: {resident: 900 MiB}
"""


_BROKEN = """\
  - tag: broken
    loader: python
    target: nothing_of_this_name.models:load
"""


_RAISES = """\
  - tag: broken
    loader: python
    target: hostile:load
"""


_HOSTILE = """\
def fail(**_):
    raise ValueError("the weights are:\\n  of another model")
def load():
    fail()
load.estimate = fail
"""


@pytest.mark.usefixtures("models")
def test_profile_writes_a_database_and_shows_it(modelmgr: Program, tmp_path: Path) -> None:
    finished = modelmgr("profile", "models.yaml", *ON_HOST)

    assert finished.returncode == 0, finished.stderr
    small = load_costs(tmp_path / "costs.json").models["small"]
    assert small.ledger is not None
    assert small.ledger.weights_bytes == 24 * MIB
    assert "small" in finished.stdout
    assert "guessed" in finished.stdout
    assert "measuring 1 model on host, limit 500.0 MiB" in finished.stderr
    assert finished.stderr.endswith("costs written to costs.json\n")
    assert {path.name for path in tmp_path.iterdir()} == {"models.yaml", "costs.json"}


@pytest.mark.usefixtures("models")
def test_a_table_that_cannot_be_shown_does_not_hide_that_the_file_was_written(
    modelmgr: Program, tmp_path: Path
) -> None:
    with Path("/dev/full").open("w") as full:
        status, told = modelmgr.into(full, "profile", "models.yaml", *ON_HOST)

    assert status == 2
    assert told.endswith("costs written to costs.json\nerror: stdout: No space left on device\n")
    assert load_costs(tmp_path / "costs.json").models["small"].error is None


@pytest.mark.usefixtures("models")
def test_profile_as_json_prints_the_file_and_exports_beside_it(
    modelmgr: Program, tmp_path: Path
) -> None:
    exports = ("--export", "csv", "--export", "markdown=report.md")
    finished = modelmgr(
        "profile", "models.yaml", *ON_HOST, "--json", "--quiet", "--out", "c.json", *exports
    )

    assert finished.returncode == 0, finished.stderr
    assert decode_costs(finished.stdout.encode()) == load_costs(tmp_path / "c.json")
    with (tmp_path / "c.csv").open(newline="") as file:
        assert [row["batch_size"] for row in csv.DictReader(file)] == ["1", "2"]
    assert "| small |" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("command", ["profile", "estimate"])
@pytest.mark.parametrize("flags", [(), ("--quiet",), ("--json",)])
def test_why_a_model_failed_is_told_once_on_stderr(
    modelmgr: Program, models: Path, tmp_path: Path, command: str, flags: tuple[str, ...]
) -> None:
    # It was told on both streams by profile, and on stdout alone by estimate.
    reason = "of another model"
    models.write_text(ONE_MODEL + _RAISES)
    (tmp_path / "hostile.py").write_text(_HOSTILE)

    finished = modelmgr(command, "models.yaml", *ON_HOST, *flags)

    assert finished.returncode != 0
    assert finished.stderr.count(reason) == 1, finished.stderr
    assert "broken" in finished.stdout or "error" in finished.stdout
    assert "--json" in flags or reason not in finished.stdout


def test_a_model_that_cannot_fit_ends_with_3_and_the_others_are_measured(
    modelmgr: Program, models: Path, tmp_path: Path
) -> None:
    models.write_text(ONE_MODEL + _LARGE)

    finished = modelmgr("profile", "models.yaml", *ON_HOST)

    assert finished.returncode == 3
    assert "1 model was not measured:" in finished.stdout
    assert "large: DoesNotFitError" in finished.stdout
    costs = load_costs(tmp_path / "costs.json").models
    assert costs["small"].error is None
    assert costs["large"].error is not None


def test_a_target_that_does_not_import_is_refused_in_one_message(
    modelmgr: Program, models: Path, tmp_path: Path
) -> None:
    models.write_text(ONE_MODEL + _BROKEN)

    said = modelmgr.refused("profile", "models.yaml", *ON_HOST)

    assert said.startswith("error: ")
    assert said.count("nothing_of_this_name.models") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["models.yaml"]


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--only", "smal"), ("'smal'", "'small'")),
        (("--budget", "lots"), ("--budget", "'lots'", "24 GiB")),
        (("--budget", "-1 GiB"), ("--budget", "negative")),
        (("--timeout", "soon"), ("--timeout", "'soon'")),
        (("--repeats", "0"), ("repeats is 0",)),
        (("--out", "nowhere/costs.json"), ("nowhere", "mkdir -p nowhere")),
        (("--out", "."), ("--out: .", "is this folder", "FOLDER/FILE")),
        (("--export", "cvs"), ("--export", "'cvs'", "'csv'")),
        (("--export", "csv=nowhere/x.csv"), ("--export", "nowhere")),
        (("--device", "cuda:99"), ("cuda:99", "host")),
        # It was offered by the refusal of another one, and refused itself.
        (("--device", "fixed:1 GiB"), ("--device", "'fixed:1 GiB'", "devices here: auto, host")),
        (("--device-isolation-action", "ignore"), ("--device-isolation-action",)),
        (("--no-such-flag",), ("--no-such-flag",)),
    ],
)
def test_bad_input_is_refused_before_anything_is_measured(
    modelmgr: Program, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    said = modelmgr.refused("profile", "models.yaml", *arguments)

    assert said.startswith("error: ")
    for word in words:
        assert word in said
    assert [path.name for path in tmp_path.iterdir()] == ["models.yaml"]


def test_a_broken_list_is_refused_with_its_line(
    modelmgr: Program, models: Path, tmp_path: Path
) -> None:
    models.write_text(ONE_MODEL.replace("loader: synthetic", "loder: synthetic"))

    said = modelmgr.refused("profile", "models.yaml")

    assert said.startswith("error: models.yaml:")
    assert "loader" in said
    assert [path.name for path in tmp_path.iterdir()] == ["models.yaml"]


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("arguments", "other"),
    [
        (("--export", "csv=models.yaml"), "the model list"),
        (("--export", "csv=x.json", "--out", "x.json"), "--out"),
        (("--export", "csv=./x.json.journal", "--out", "x.json"), "the journal"),
        (("--export", "csv=x", "--export", "markdown=x"), "--export csv"),
        (("--out", "models.yaml"), "the model list"),
        (("--out", "x.csv", "--export", "csv"), "--out"),
    ],
)
def test_an_output_never_replaces_an_input_or_another_output(
    modelmgr: Program, tmp_path: Path, arguments: tuple[str, ...], other: str
) -> None:
    # `--export csv=models.yaml` used to overwrite the user's list.
    said = modelmgr.refused("profile", "models.yaml", *ON_HOST, *arguments)

    assert f"is {other} too" in " ".join(said.split())
    assert (tmp_path / "models.yaml").read_text() == ONE_MODEL
    assert [path.name for path in tmp_path.iterdir()] == ["models.yaml"]


@pytest.mark.usefixtures("models")
def test_a_link_to_the_list_is_the_list_too(modelmgr: Program, tmp_path: Path) -> None:
    (tmp_path / "linked.csv").symlink_to("models.yaml")

    modelmgr.refused("profile", "models.yaml", *ON_HOST, "--export", "csv=linked.csv")

    assert (tmp_path / "models.yaml").read_text() == ONE_MODEL


@pytest.mark.usefixtures("models")
def test_verify_says_that_a_fresh_database_holds_and_a_wrong_one_does_not(
    modelmgr: Program, tmp_path: Path
) -> None:
    # GIVEN a database of this machine
    modelmgr("profile", "models.yaml", *ON_HOST)

    # WHEN it is verified
    fresh = modelmgr("costs", "verify", "costs.json", "models.yaml", *ON_HOST)

    # THEN it holds
    assert fresh.returncode == 0, fresh.stderr
    assert "The database holds on this machine" in fresh.stdout

    # AND one whose figures are of another world does not
    plain = json.loads((tmp_path / "costs.json").read_text())
    small = plain["models"]["small"]
    small["ledger"]["unaccounted_bytes"] += 999 * MIB - small["peak_bytes"]["value"]
    for name in ("resident_bytes", "peak_bytes"):
        small[name] = {"value": 999 * MIB, "evidence": "exact"}
    (tmp_path / "costs.json").write_text(json.dumps(plain))
    wrong = modelmgr("costs", "verify", "costs.json", "models.yaml", *ON_HOST, "--json")
    assert wrong.returncode == 1
    answer = json.loads(wrong.stdout)
    assert answer["holds"] is False
    assert (answer["kind"], answer["schema_version"]) == ("modelmgr.verification", 1)


def test_estimate_predicts_without_writing_anything(
    modelmgr: Program, models: Path, tmp_path: Path
) -> None:
    models.write_text(ONE_MODEL + _LARGE)

    shown = modelmgr("estimate", "models.yaml", *ON_HOST)
    plain = modelmgr("estimate", "models.yaml", *ON_HOST, "--json", "--only", "small")

    assert shown.returncode == 3  # the large one certainly does not fit
    row = next(line for line in shown.stdout.splitlines() if line.startswith("small")).split()
    assert row[1:4] == ["24.0", "8.0", "declared"]
    answer = json.loads(plain.stdout)
    assert (answer["kind"], answer["schema_version"]) == ("modelmgr.estimates", 1)
    small = answer["models"]["small"]
    assert plain.returncode == 0
    assert small["weights_bytes"] == 24 * MIB
    assert small["shapes"][1] == {"batch_size": 2, "activation_bytes": 8 * MIB}
    assert small["evidence"] == "estimated"
    assert [path.name for path in tmp_path.iterdir()] == ["models.yaml"]


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
def test_debug_shows_the_traceback_of_a_failing_models_own_process(
    modelmgr: Program, models: Path, tmp_path: Path, quiet: tuple[str, ...]
) -> None:
    models.write_text(ONE_MODEL + _RAISES)
    (tmp_path / "hostile.py").write_text(
        "def load():\n    print('last words')\n    raise ValueError('upside \\x1b[31mdown')\n"
    )
    plain = modelmgr("profile", "models.yaml", *ON_HOST, "--out", "plain.json", *quiet)
    debug = modelmgr("profile", "models.yaml", *ON_HOST, "--debug", *quiet)

    assert plain.returncode == debug.returncode == 2
    assert "Traceback" not in plain.stderr
    assert "Traceback (most recent call last)" in debug.stderr
    assert 'hostile.py", line 3, in load' in debug.stderr
    assert "last words" in debug.stderr
    assert "\x1b" not in debug.stderr
    assert "Traceback" not in debug.stdout
    assert debug.stderr.count('hostile.py"') == 1


def test_debug_shows_no_more_of_an_endless_traceback_than_a_person_reads(
    modelmgr: Program, models: Path, tmp_path: Path
) -> None:
    models.write_text(ONE_MODEL + _RAISES)
    (tmp_path / "hostile.py").write_text("def load():\n    raise ValueError('x' * 5_000_000)\n")
    debug = modelmgr("profile", "models.yaml", *ON_HOST, "--debug")

    assert "characters left out" in debug.stderr
    assert len(debug.stderr) < 200_000


@pytest.mark.usefixtures("models")
def test_estimate_refuses_a_budget_that_no_machine_has(modelmgr: Program) -> None:
    for command in ("estimate", "profile"):
        said = modelmgr.refused(command, "models.yaml", "--device", "host", "--budget", "9000 TiB")

        assert "is more than host has" in said


def test_an_estimate_says_where_in_the_list_a_mistake_stands(
    modelmgr: Program, models: Path
) -> None:
    models.write_text(ONE_MODEL + "  - {tag: lost, loader: python, target: 'no.such:thing'}\n")
    finished = modelmgr("estimate", "models.yaml", *ON_HOST)
    line = models.read_text("utf-8").splitlines().index(
        "  - {tag: lost, loader: python, target: 'no.such:thing'}"
    ) + 1  # fmt: skip

    assert finished.returncode == 2
    assert f"error: models.yaml:{line}:" in finished.stderr

"""Hold a cost database or a result against an earlier one, and fail where it got worse.

  modelmgr compare baseline.json costs.json
  modelmgr compare baseline.json costs.json --fail-on peak_bytes:5% --fail-on bert:peak_bytes:2%
  modelmgr compare baseline.json result.json --fail-on decisions --fail-on wait_ns.p95:10%
  modelmgr compare baseline.json costs.json --thresholds gate.yaml --export markdown=gate.md
  modelmgr compare baseline.json costs.json --update-baseline

--fail-on takes [MODEL:]FIGURE[:LIMIT]. FIGURE is a name of the file: peak_bytes, load_ns,
shapes.latency_ns (each shape), shapes[batch_size=8].latency_ns, wait_ns.p95, reload_cost_ns,
evictions, requests.timed_out, devices.peak_bytes, models.loads (each model); or decisions. LIMIT is
how far it may get worse: 5%, 64MiB, 10ms, 5%+1MiB, 0; without one not at all. Any --fail-on or
--thresholds takes the place of the defaults:

  costs     peak, resident, second copy and activation 5%+256KiB, load peak 10%+256KiB, residue
            1MiB, latency 10%+20us, load time 25%+10ms
  simulate  reload_cost_ns 1%; wait and latency (mean, p95) and a device's peak 5%; no further
            request timed out, refused or failed, no further failed load or out-of-memory event
  run       median wait and latency 25%+5ms; no further request refused or failed, no further failed
            load or out-of-memory event

A file of thresholds is YAML (its schema: modelmgr schema thresholds) and serves both kinds of file:

  schema_version: 1
  fail_on: {peak_bytes: 5%, shapes.latency_ns: 10%, decisions: true}
  models: {bert: {peak_bytes: 2%}}

What is simulated is compared exactly. A measured figure is worse only where the 99 % interval of
its change, from the samples of both files, lies beyond the limit and a rank test agrees; where the
interval reaches beyond the limit and begins within it, nobody can say, unless every sample of both
lies within the limit of every other. Figures of another device, driver, framework version or
machine are not comparable unless --allow-mismatch. A model that vanished, or can no longer be
measured, fails always.

Where simulations decide differently, the first differing decision is shown with what led to it: the
logs are found beside the results, as NAME.jsonl for NAME.json (simulate --out NAME.json --log
NAME.jsonl).

Exit status: 0 nothing got worse; 1 something did; 2 bad input; 4 too noisy to say; 5 no baseline,
or nothing in common. With --update-baseline 0, once the new file is the baseline.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelmgr.comparing.catalogue import Compared
from modelmgr.comparing.compare import Lines, compare_costs, compare_results
from modelmgr.comparing.comparison import Comparison
from modelmgr.comparing.reading import (
    MAX_FILE_BYTES,
    Side,
    check_named,
    check_one_kind,
    decode_side,
    is_there,
    log_beside,
    opened_log,
    read_content,
    read_side,
)
from modelmgr.comparing.thresholds import Thresholds, parse_threshold
from modelmgr.errors import InputError, UsageError
from modelmgr.records.atomic_files import write_atomically
from modelmgr.records.costs import CostDatabase
from modelmgr.records.input_files import read_input
from modelmgr.records.result import Result
from modelmgr_cli.commands import options
from modelmgr_cli.lazy import DocCommand, nearest
from modelmgr_cli.outcome import Outcome
from modelmgr_cli.terminal import Terminal, terminal_of

if TYPE_CHECKING:
    from modelmgr.reporting.comparison_export import ComparisonFormat

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_SUFFIXES: Mapping[ComparisonFormat, str] = {
    "markdown": ".md",
    "csv": ".csv",
    "junit": ".xml",
    "benchmark-action": ".benchmark-action.json",
    "bencher": ".bencher.json",
}
_OUTCOMES = {
    "fine": Outcome.FINE,
    "regression": Outcome.GATE_FAILED,
    "inconclusive": Outcome.INCONCLUSIVE,
    "nothing-in-common": Outcome.NOTHING_MEASURED,
}


@app.command(help=__doc__, cls=DocCommand)
def compare(
    context: typer.Context,
    *,
    baseline: Annotated[Path, typer.Argument(metavar="BASELINE.json", help="The earlier one.")],
    new: Annotated[Path, typer.Argument(metavar="NEW.json", help="The later one.")],
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-on",
            metavar="[MODEL:]FIGURE[:LIMIT]",
            help="What fails, e.g. 'peak_bytes:5%'; may be given more than once.",
        ),
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(
            "--thresholds",
            metavar="FILE.yaml",
            help="A file of what fails; --fail-on is added to it and holds where both say.",
        ),
    ] = None,
    update_baseline: Annotated[
        bool,
        typer.Option("--update-baseline", help="Make NEW the baseline, whatever differs."),
    ] = False,
    allow_mismatch: Annotated[
        bool,
        typer.Option(
            "--allow-mismatch",
            help="Judge figures of another machine, device, version or scenario all the same.",
        ),
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="List every figure, those that are the same too.")
    ] = False,
    export: Annotated[
        list[str] | None,
        typer.Option(
            "--export",
            metavar="FORMAT[=PATH]",
            help="Also write markdown, csv, junit, benchmark-action or bencher; beside NEW unless "
            "PATH says where.",
        ),
    ] = None,
    json: options.AsJson = False,
) -> Outcome:
    """Read both, compare, show, write."""
    terminal = terminal_of(context)
    gc.disable()  # a million records that live to the end: looking for garbage takes a third
    for path in (baseline, new):
        check_named(path)
    exports = _read_exports(export, new, _files_read(baseline, new, thresholds))
    # Once: a pipe has nothing more to give to the baseline, and a file may be another one by then.
    content = read_content(new)
    new_side = decode_side(content, str(new))
    limits = _thresholds(fail_on or (), thresholds, new_side)
    if not is_there(baseline):
        if not update_baseline:
            hint = "--update-baseline makes NEW the baseline"
            missing = InputError("there is no baseline", path=str(baseline), hint=hint)
            terminal.complain(str(missing))
            return Outcome.NOTHING_MEASURED
        options.check_output(baseline, "--update-baseline")
        _replace(baseline, new, new_side, content, terminal)
        return Outcome.FINE
    if update_baseline:
        options.check_output(baseline, "--update-baseline")
    else:
        content = b""
    found = _compared(
        baseline,
        new,
        new_side,
        limits,
        allow_mismatch=allow_mismatch,
        keep_same=every or json or bool(exports),
    )
    _show(found, terminal, json=json, every=every)
    _export(found, exports, terminal)
    if update_baseline:
        _replace(baseline, new, new_side, content, terminal)
        return Outcome.FINE
    return _OUTCOMES[found.ending]


def _compared(
    baseline: Path,
    new: Path,
    new_side: Side,
    limits: Thresholds | None,
    *,
    allow_mismatch: bool,
    keep_same: bool,
) -> Comparison:
    old_side = read_side(baseline)
    names = str(baseline), str(new)
    check_one_kind(old_side, new_side, names)
    if isinstance(old_side, CostDatabase) and isinstance(new_side, CostDatabase):
        return compare_costs(
            old_side,
            new_side,
            limits,
            names=names,
            allow_mismatch=allow_mismatch,
            keep_same=keep_same,
        )
    if not isinstance(old_side, Result) or not isinstance(new_side, Result):
        raise TypeError(f"{type(old_side)} beside {type(new_side)}")  # read_side knows two kinds
    with ExitStack() as stack:

        def logs() -> tuple[Lines, Lines] | None:
            old_log = stack.enter_context(opened_log(old_side, baseline))
            new_log = stack.enter_context(opened_log(new_side, new))
            return None if old_log is None or new_log is None else (old_log, new_log)

        return compare_results(
            old_side,
            new_side,
            limits,
            names=names,
            allow_mismatch=allow_mismatch,
            keep_same=keep_same,
            logs=logs,
        )


def _thresholds(texts: Sequence[str], file: Path | None, side: Side) -> Thresholds | None:
    """Return what fails a file of this one's kind; None where the defaults hold."""
    if not texts and file is None:
        return None
    compared: Compared = "costs" if isinstance(side, CostDatabase) else "result"
    try:
        asked = tuple(parse_threshold(text, compared) for text in texts)
    except UsageError as error:
        raise UsageError(f"--fail-on: {error}") from None
    if file is None:
        return Thresholds(compared, asked)
    from modelmgr.comparing.threshold_file import read_threshold_file  # noqa: PLC0415 - loads YAML

    return Thresholds(compared, (*read_threshold_file(file, compared), *asked))


def _show(found: Comparison, terminal: Terminal, *, json: bool, every: bool) -> None:
    if json:
        from modelmgr_cli.render.json import as_json  # noqa: PLC0415 - the table needs none

        terminal.out(as_json(found))
        return
    from modelmgr_cli.render.comparison import ROWS, comparison_page  # noqa: PLC0415 - loads rich

    terminal.show(*comparison_page(found, rows=None if every else ROWS))


def _files_read(baseline: Path, new: Path, thresholds: Path | None) -> dict[str, Path]:
    """Return what an export must not replace, by what it is called."""
    read = {"the baseline": baseline, "the new file": new}
    if thresholds is not None:
        read["the file of thresholds"] = thresholds
    for name, path in (("baseline", log_beside(baseline)), ("new file", log_beside(new))):
        # What nobody may look into, nobody can write into.
        if os.path.exists(path):  # noqa: PTH110 - Path.exists raises there
            read[f"the decision log of the {name}"] = path
    return read


def _read_exports(
    texts: Sequence[str] | None, new: Path, others: Mapping[str, Path]
) -> dict[ComparisonFormat, Path]:
    """Return where each export goes; none may be another one or one of ``others``."""
    taken = dict(others)
    exports: dict[ComparisonFormat, Path] = {}
    for text in texts or ():
        name, equals, given = text.partition("=")
        form = _read_format(name)
        if equals and not given:
            raise UsageError(f"--export: {text!r} names no file; write {form} or {form}=PATH")
        path = Path(given) if given else new.with_name(f"{new.stem}-compared{_SUFFIXES[form]}")
        options.check_export(path, form)
        advice = f"name another file: --export {form}=PATH"
        options.keep_apart(path, "--export", taken, advice=advice)
        exports[form] = taken[f"--export {form}"] = path
    return exports


def _read_format(name: str) -> ComparisonFormat:
    for form in _SUFFIXES:
        if name == form:
            return form
    raise UsageError(f"--export: no format {name!r}\n{nearest(name, _SUFFIXES, 'Formats')}")


def _export(
    found: Comparison, exports: Mapping[ComparisonFormat, Path], terminal: Terminal
) -> None:
    if not exports:
        return
    from modelmgr.reporting.comparison_export import export_comparison  # noqa: PLC0415 - as asked

    for form, path in exports.items():
        write_atomically(path, export_comparison(found, form).encode())
        terminal.tell(f"{form} written to {path}")


def _replace(baseline: Path, new: Path, new_side: Side, content: bytes, terminal: Terminal) -> None:
    """Make the new file the baseline, with its decision log, and say so."""
    if isinstance(new_side, Result):
        _replace_log(baseline, new, terminal)
    write_atomically(baseline, content)
    terminal.tell(f"the baseline {baseline} is now what {new} is")


def _replace_log(baseline: Path, new: Path, terminal: Terminal) -> None:
    """Give a baseline that has a decision log beside it, or is the first one, the new result's.

    Before the baseline itself is replaced: a log of another result is never taken for its own.
    """
    old_log, new_log = log_beside(baseline), log_beside(new)
    has_none = is_there(baseline) and not old_log.exists()
    if has_none or not new_log.exists() or (old_log.exists() and old_log.samefile(new_log)):
        return
    content = read_input(new_log, limit_bytes=MAX_FILE_BYTES, what="decision log")
    write_atomically(old_log, content)
    terminal.tell(f"{old_log} is now what {new_log} is")

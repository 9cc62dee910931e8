"""Options that several commands share, and reading their values: one clear refusal for each.

Values are read here rather than by typer so that a wrong one is refused in the project's words
(what, why, what to write) and in its units.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from modelmgr.errors import InputError, UsageError
from modelmgr.records.codec import load_costs
from modelmgr.records.costs import CostDatabase
from modelmgr.units import parse_bytes, parse_duration_ns, parse_fraction
from modelmgr_cli.lazy import nearest

if TYPE_CHECKING:
    from modelmgr.workload.model_list import ModelList as ReadModelList

_Value = TypeVar("_Value")

DEFAULT_SLACK = 0.1

ExportFormat = Literal["csv", "markdown"]
ResultFormat = Literal["csv", "markdown", "perfetto"]
_SUFFIXES: dict[ExportFormat, str] = {"csv": ".csv", "markdown": ".md"}
_RESULT_SUFFIXES: dict[ResultFormat, str] = {
    "csv": ".csv",
    "markdown": ".md",
    "perfetto": ".perfetto.json",
}
_Format = TypeVar("_Format", bound=str)


def _complete_tags(incomplete: str) -> list[str]:
    """Return the tags of the model list or database that stands on the line, for shells.

    Typer's context has no arguments yet while an option's value is missing; the line has.
    """
    from modelmgr.workload.model_list import (  # noqa: PLC0415 - reading YAML takes 0.1 s
        read_model_list,
    )

    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")
    tags: list[str] = []
    for word in line.split():
        try:
            if word.endswith((".yaml", ".yml")):
                tags += (model.tag for model in read_model_list(word).models)
            elif word.endswith(".json"):
                tags += load_costs(word).models
        except UsageError:
            continue  # there is no such file yet, or it is not finished: nothing to offer
    return [tag for tag in dict.fromkeys(tags) if tag.startswith(incomplete)]


ModelList = Annotated[
    Path, typer.Argument(metavar="MODELS.yaml", help="The model list; modelmgr init writes one.")
]
Database = Annotated[Path, typer.Argument(metavar="COSTS.json", help="The cost database.")]
SavedTags = Annotated[
    list[str] | None,
    typer.Argument(metavar="TAG", help="Only this model, in full.", autocompletion=_complete_tags),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="TAG",
        help="Only this model; may be given more than once.",
        autocompletion=_complete_tags,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="NAME", help="auto (a CUDA device, else the host), host, cuda, cuda:N."
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="SIZE",
        help="What the models may use, e.g. '8 GiB'. Default: the device; of the host, half of "
        "what is available.",
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option("--timeout", metavar="TIME", help="Longest for one model, e.g. '10 min'."),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Of random weights and batches.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]


def read_value(option: str, text: str, read: Callable[[str], _Value]) -> _Value:
    """Return an option's value; its refusal names the option."""
    try:
        return read(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def read_size(option: str, text: str | None) -> int | None:
    """Return bytes, None where the option was not given; refuse a size of nothing."""
    if text is None:
        return None
    value = read_value(option, text, parse_bytes)
    if value == 0:
        raise UsageError(f"{option}: {text!r} is no memory at all; write for example '8 GiB'")
    return value


def read_seconds(option: str, text: str | None) -> float | None:
    """Return seconds, None where the option was not given; refuse no time."""
    if text is None:
        return None
    value_ns = read_value(option, text, parse_duration_ns)
    if value_ns == 0:
        raise UsageError(f"{option}: {text!r} is no time at all; write for example '10 min'")
    return value_ns / 1e9


def read_share(option: str, text: str) -> float:
    """Return 0.05 for ``5%``."""
    return read_value(option, text, parse_fraction)


def choose_models(path: Path, only: Sequence[str] | None) -> ReadModelList:
    """Read a model list and return what ``--only`` names, in its order; all without it."""
    from modelmgr.workload.model_list import (  # noqa: PLC0415 - reading YAML takes 0.1 s
        read_model_list,
    )

    models = read_model_list(path)
    return models.only(only) if only else models


def check_output(path: Path, option: str) -> None:
    """Refuse an output that could not be written, before anything is measured for it."""
    if path.is_dir():
        what = "this folder, or no name at all" if path == Path() else "a folder"
        raise UsageError(f"{option}: {path} is {what}\nname a file: {option} FOLDER/FILE")
    folder = path.parent
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise UsageError(f"{option}: the folder {folder} {what}\ncreate it: mkdir -p {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{option}: the folder {folder} cannot be written\nchoose another one")
    if path.exists() and not os.access(path, os.W_OK):
        raise UsageError(f"{option}: {path} cannot be written\nchoose another file")


def check_device(name: str) -> None:
    """Refuse a device that is not here, or that nothing can be measured on.

    Raises:
        UsageError: names the devices there are.
        DeviceError: the driver cannot say which there are.
    """
    from modelmgr.devices.nvml import list_devices  # noqa: PLC0415 - not every command has devices

    cuda = [device.name for device in list_devices()]
    known = ["auto", "host", *(["cuda"] if cuda else []), *cuda]
    if name not in known:
        raise UsageError(
            f"--device: there is no device {name!r} to measure on\ndevices here: {', '.join(known)}"
        )


def load_database(path: Path) -> CostDatabase:
    """Read a cost database; of what is none at all, say what was expected."""
    try:
        return load_costs(path)
    except InputError as error:
        if error.hint is not None or not error.problem.startswith("not JSON"):
            raise
        raise InputError(
            error.problem,
            path=error.path,
            line=error.line,
            column=error.column,
            hint="a cost database was expected: the JSON file that modelmgr profile writes",
        ) from error


def keep_apart(
    output: Path, option: str, others: Mapping[str, Path], *, advice: str | None = None
) -> None:
    """Refuse an output that would replace another file of the same command.

    Args:
        output: where something will be written.
        option: the option that says so.
        others: the command's other files, by what they are called in the refusal.
        advice: what to write instead.
    """
    for name, other in others.items():
        if _is_same_file(output, other):
            how = advice or f"name another file with {option}"
            raise UsageError(f"{option}: {output} is {name} too and would be replaced\n{how}")


def _is_same_file(one: Path, other: Path) -> bool:
    if one.exists() and not one.is_file():
        return False  # /dev/null and /dev/stdout hold nothing that could be lost
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()


def check_outputs(
    outputs: Mapping[str, Path | None], inputs: Mapping[str, Path]
) -> dict[str, Path]:
    """Refuse, before anything is done for them, outputs that could not be written.

    Args:
        outputs: what will be written, by option; None where that is not wanted.
        inputs: the command's other files, by what they are called: none may be replaced.

    Returns:
        All files of the command, for ``read_exports``.
    """
    taken = dict(inputs)
    for option, output in outputs.items():
        if output is not None:
            check_output(output, option)
            keep_apart(output, option, taken)
            taken[option] = output
    return taken


def read_exports(
    texts: Sequence[str] | None, out: Path, others: Mapping[str, Path]
) -> dict[ExportFormat, Path]:
    """Return where each export of ``--export FORMAT[=PATH]`` goes; default: beside the database.

    None may be another export or one of ``others``, the command's other files by name.
    """
    return _read_exports(texts, out, others, _SUFFIXES)


def read_result_exports(
    texts: Sequence[str] | None, out: Path, others: Mapping[str, Path]
) -> dict[ResultFormat, Path]:
    """Return where each export of a result goes; otherwise as ``read_exports``."""
    return _read_exports(texts, out, others, _RESULT_SUFFIXES)


def _read_exports(
    texts: Sequence[str] | None,
    out: Path,
    others: Mapping[str, Path],
    suffixes: Mapping[_Format, str],
) -> dict[_Format, Path]:
    taken = dict(others)
    exports: dict[_Format, Path] = {}
    for text in texts or ():
        name, equals, given = text.partition("=")
        form = _read_format("--export", name, suffixes)
        path = Path(given) if given else out.with_suffix(suffixes[form])
        if equals and not given:
            raise UsageError(f"--export: {text!r} names no file; write {form} or {form}=PATH")
        check_export(path, form)
        keep_apart(path, "--export", taken, advice=f"name another file: --export {form}=PATH")
        exports[form] = taken[f"--export {form}"] = path
    return exports


def check_export(path: Path, form: str) -> None:
    """Refuse where an export could not be written: it replaces a file, or makes one."""
    check_output(path, "--export")
    if path.exists() and not path.is_file():
        raise UsageError(f"--export: {path} is no regular file\nname one: {form}=PATH")


def read_format(option: str, name: str) -> ExportFormat:
    """Return an export's format by its name."""
    return _read_format(option, name, _SUFFIXES)


def _read_format(option: str, name: str, formats: Mapping[_Format, str]) -> _Format:
    for form in formats:
        if name == form:
            return form
    raise UsageError(f"{option}: no format {name!r}\n{nearest(name, formats, 'Formats')}")


def slack_for(budget_bytes: int | None) -> float:
    """Return the share of the device that stays free.

    A budget that somebody stated is meant as it stands; a device's size is never all usable.
    """
    return DEFAULT_SLACK if budget_bytes is None else 0.0

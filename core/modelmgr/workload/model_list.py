"""Read a model list (YAML): which models to measure, and in which shapes.

Owns the rules that a list must keep and the way from what people write to ``ModelSpec``. It loads
nothing and does not know whether a model exists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from modelmgr.errors import UsageError
from modelmgr.records.type_paths import KeyPath
from modelmgr.records.validation import convert, nearest, place_name, show
from modelmgr.units import parse_bytes, parse_duration_ns
from modelmgr.workload.document import Document, parse_document, read_document
from modelmgr.workload.model_entries import (
    SCHEMA_VERSION,
    AnyEntry,
    ArgumentEntry,
    Defaults,
    ModelListFile,
    Sizes,
    SyntheticEntry,
    SyntheticOptions,
    TransformersEntry,
)
from modelmgr.workload.model_spec import ArgumentSpec, LoaderName, ModelSpec

_WHAT = "model list"
_FIGURES = ("activation_bytes", "latency_ns", "throughput_per_s")
"""Keys that stand beside the dimensions of a shape in a cost database."""


class Place(NamedTuple):
    """Where a model stands in a file; line and column are 1-based."""

    path: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class ModelList:
    """The models of one file, in its order, defaults filled in.

    Attributes:
        schema_version: the file's.
        models: at least one, each with a tag of its own.
        path: the file, as the caller named it.
        places: where each model's tag stands, by tag, for messages about it.
    """

    schema_version: int
    models: tuple[ModelSpec, ...]
    path: Path
    places: Mapping[str, Place] = field(default_factory=dict[str, Place], compare=False)

    def only(self, tags: Sequence[str]) -> ModelList:
        """Return the list with only these models, in the list's order.

        Raises:
            UsageError: a tag that the list does not have, or no tag at all.
        """
        known = [model.tag for model in self.models]
        for tag in tags:
            if tag not in known:
                raise UsageError(f"{self.path} has no model {tag!r}; {nearest(tag, known)}")
        if not tags:
            raise UsageError(f"no model of {self.path} was chosen")
        return replace(self, models=tuple(model for model in self.models if model.tag in tags))


def read_model_list(path: str | Path) -> ModelList:
    """Read and check a model list.

    Raises:
        InputError: says what is wrong, in which line, and what to do.
    """
    return _build(read_document(path, what=_WHAT), Path(path))


def parse_model_list(text: str, path: str | Path = "<text>") -> ModelList:
    """Read a model list from a text; ``path`` is for messages. Raise InputError as for a file."""
    return _build(parse_document(text, str(path), what=_WHAT), Path(path))


def check_schema_version(document: Document, newest: int) -> None:
    """Refuse a document without a version, or of one that this modelmgr does not know.

    Before all other checks: what a newer file may hold, an older reader can only misjudge.

    Raises:
        InputError: naming both versions.
    """
    plain = document.plain()
    if not isinstance(plain, dict):
        raise document.error(
            (),
            f"must be a mapping with 'schema_version' and further keys, not {show(plain)}",
            hint="see 'modelmgr init' for a starter",
        )
    version = plain.get("schema_version")
    if "schema_version" not in plain:
        return  # named together with a key that may be its misspelling
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise document.error(
            ("schema_version",), f"schema_version must be {newest}, not {show(version)}"
        )
    if version > newest:
        raise document.error(
            ("schema_version",),
            f"schema_version {version} was written for a newer modelmgr; this one knows {newest}",
            hint="upgrade modelmgr",
        )


def _build(document: Document, path: Path) -> ModelList:
    check_schema_version(document, SCHEMA_VERSION)
    written = convert(document.plain(), ModelListFile, document.error)
    _refuse_figures(document, ("defaults", "input"), written.defaults.input)
    first: dict[str, int] = {}
    models: list[ModelSpec] = []
    places: dict[str, Place] = {}
    for index, entry in enumerate(written.models):
        at: KeyPath = ("models", index)
        earlier = first.setdefault(entry.tag, index)
        if earlier != index:
            line = document.find(("models", earlier, "tag")).line
            raise document.error(
                (*at, "tag"),
                f"the tag {entry.tag!r} is taken by the model in line {line}",
                hint="give each model a tag of its own",
            )
        models.append(model_spec(document, at, entry, written.defaults))
        mark = document.find((*at, "tag"))
        places[entry.tag] = Place(document.path, mark.line, mark.column)
    return ModelList(written.schema_version, tuple(models), path, places)


def model_spec(document: Document, at: KeyPath, entry: AnyEntry, defaults: Defaults) -> ModelSpec:
    """Return what loaders are told of one entry; a scenario's models are read by this too.

    Args:
        document: where the entry stands.
        at: its place there.
        entry: what is written.
        defaults: what holds where it says nothing.

    Raises:
        InputError: its keys contradict each other.
    """
    _check_choice(document, at, entry)
    _refuse_figures(document, (*at, "input"), entry.input)
    given = msgspec.structs.asdict(entry)  # the loader decides which of these keys there are
    written: Sequence[ArgumentEntry] = given.get("arguments", ())
    sizes = _input(entry, defaults, written)
    arguments = tuple(
        _argument(document, (*at, "arguments", index), argument, sizes)
        for index, argument in enumerate(written)
    )
    options: dict[str, Any] = given.get("options", {})
    if isinstance(entry, SyntheticEntry):
        options = _synthetic_options(document, (*at, "options"), entry.options)
    if isinstance(entry, TransformersEntry):
        chosen = msgspec.structs.asdict(entry.options)
        options = {name: value for name, value in chosen.items() if value is not None}
    return ModelSpec(
        tag=entry.tag,
        loader=cast("LoaderName", entry.__struct_config__.tag),
        architecture=given.get("architecture"),
        config=given.get("config", {}),
        model=given.get("model"),
        target=given.get("target"),
        options=options,
        arguments=arguments,
        dtype=entry.dtype or defaults.dtype,
        input=sizes,
        repeats=defaults.repeats if entry.repeats is None else entry.repeats,
    )


def _check_choice(document: Document, at: KeyPath, entry: AnyEntry) -> None:
    choices = entry.ONE_OF or entry.ANY_OF
    given = [key for key in choices if getattr(entry, key) is not None]
    names = " or ".join(repr(key) for key in choices)
    if choices and not given:
        raise document.error(
            at, f"model {entry.tag!r} has neither {names.replace(' or ', ' nor ')}", hint="add one"
        )
    if entry.ONE_OF and len(given) > 1:
        raise document.error(
            (*at, given[1]),
            f"model {entry.tag!r} has both {names.replace(' or ', ' and ')}",
            hint="keep one: an architecture is built with random weights, a model brings its own",
            on_key=True,
        )


def _refuse_figures(document: Document, at: KeyPath, names: dict[str, Sizes]) -> None:
    for name in names:
        if name in _FIGURES:
            raise document.error(
                (*at, name),
                f"{place_name(at)}: {name!r} is the name of a figure",
                hint="name the dimension otherwise",
                on_key=True,
            )


def _sizes(written: Sizes) -> tuple[int, ...]:
    """Return each size once, in the order of writing: measuring a shape twice tells nothing."""
    return tuple(dict.fromkeys([written] if isinstance(written, int) else written))


def _input(
    entry: AnyEntry, defaults: Defaults, arguments: Sequence[ArgumentEntry]
) -> dict[str, tuple[int, ...]]:
    filled: dict[str, Sizes] = {}
    if defaults.batch_size is not None:
        filled["batch_size"] = defaults.batch_size
    filled |= defaults.input
    if arguments:
        # Sizes of a dimension that no argument has would only repeat the same measurement.
        named = {size for argument in arguments for size in argument.shape or ()}
        filled = {name: sizes for name, sizes in filled.items() if name in named}
    return {name: _sizes(sizes) for name, sizes in {**filled, **entry.input}.items()}


def _argument(
    document: Document, at: KeyPath, written: ArgumentEntry, sizes: dict[str, tuple[int, ...]]
) -> ArgumentSpec:
    if (written.shape is None) == (written.value is None):
        word = "neither a shape nor" if written.shape is None else "both a shape and"
        raise document.error(
            at, f"{place_name(at)} has {word} a value", hint="give a shape, or a constant value"
        )
    for index, size in enumerate(written.shape or ()):
        # Without any `input` the loader's own default decides which dimensions there are.
        if isinstance(size, str) and sizes and size not in sizes:
            raise document.error(
                (*at, "shape", index),
                f"{place_name(at)} names the dimension {size!r}, which 'input' does not have",
                hint=nearest(size, sizes),
            )
    return ArgumentSpec(
        name=written.name,
        shape=None if written.shape is None else tuple(written.shape),
        dtype=written.dtype,
        value=written.value,
        high=written.high,
    )


def _synthetic_options(
    document: Document, at: KeyPath, options: SyntheticOptions
) -> dict[str, int]:
    def quantity(key: str, parse: Callable[[str], int]) -> int | None:
        text: str | None = getattr(options, key)
        try:
            return None if text is None else parse(text)
        except ValueError as error:
            raise document.error((*at, key), f"{place_name((*at, key))}: {error}") from error

    resident = quantity("resident", parse_bytes)
    load_peak = quantity("load_peak", parse_bytes)
    if not resident:
        raise document.error(
            (*at, "resident"),
            f"{place_name((*at, 'resident'))} must be more than 0 bytes",
            hint="write for example 'resident: 500 MiB'",
        )
    if load_peak is not None and load_peak < resident:
        raise document.error(
            (*at, "load_peak"),
            f"{place_name((*at, 'load_peak'))} ({options.load_peak}) is below resident "
            f"({options.resident})",
            hint="the peak of a load includes its result; leave it out where they are equal",
        )
    return {
        "resident_bytes": resident,
        "activation_bytes": quantity("activation", parse_bytes) or 0,
        "load_peak_bytes": resident if load_peak is None else load_peak,
        "load_ns": quantity("load", parse_duration_ns) or 0,
        "service_ns": quantity("service", parse_duration_ns) or 0,
    }

"""Pair up the figures of two results: the run's, its devices' and its models'."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from modelmgr.comparing.catalogue import CATALOGUE, DECISIONS, FACTS, RUN_STATISTICS
from modelmgr.comparing.comparison import KnownOnce
from modelmgr.comparing.pairs import Number, Pair
from modelmgr.comparing.thresholds import Rule, Threshold, Thresholds
from modelmgr.records.result import DurationFigures, Result


class _Reading(NamedTuple):
    """One side of a figure."""

    value: Number | None
    samples: tuple[int, ...] = ()


class _Entry(NamedTuple):
    """Where a figure of a result stands."""

    name: str
    statistic: str
    reading: _Reading


_Owner = tuple[str | None, str | None]
"""The model and the device that a figure is of."""


@dataclass(slots=True)
class ResultPairs:
    """What pairing up found.

    Attributes:
        pairs: figures that have to be judged.
        known_once: figures that only one side knows.
        known: both together, each by its model (None of the run and its devices) and name.
    """

    pairs: list[Pair] = field(default_factory=list[Pair])
    known_once: list[KnownOnce] = field(default_factory=list[KnownOnce])
    known: set[tuple[str | None, str]] = field(default_factory=set[tuple[str | None, str]])

    def has_value(self, threshold: Threshold) -> bool:
        """Return whether either side has a value of what a threshold is about."""
        if threshold.model is not None:
            return (threshold.model, threshold.figure) in self.known
        return threshold.figure in {DECISIONS, *(name for _, name in self.known)}


def pair_results(old: Result, new: Result, thresholds: Thresholds) -> ResultPairs:
    """Pair up all figures that a rule is about."""
    found = ResultPairs()
    is_simulated = old.mode == new.mode == "simulate"
    owners: list[tuple[_Owner, Callable[[Result], dict[str, _Entry]]]] = [((None, None), _of_run)]
    devices = dict.fromkeys([*old.devices, *new.devices])
    owners += [((None, device), _of_device(device)) for device in devices]
    owners += [((tag, None), _of_model(tag)) for tag in new.models if tag in old.models]
    for owner, read in owners:
        rules = thresholds.rules(owner[0])
        before, after = read(old), read(new)
        for name in dict.fromkeys([*after, *before]):
            rule = rules.find(name)
            if rule is not None:
                _add(found, owner, rule, before.get(name), after.get(name), simulated=is_simulated)
    return found


def _add(
    found: ResultPairs,
    owner: _Owner,
    rule: Rule,
    old: _Entry | None,
    new: _Entry | None,
    *,
    simulated: bool,
) -> None:
    entry = new or old
    if entry is None:
        return
    known = CATALOGUE["result"][entry.name]
    model, device = owner
    before = _Reading(None) if old is None else old.reading
    after = _Reading(None) if new is None else new.reading
    figure = entry.name.removeprefix("models.").removeprefix("devices.")
    if before.value is None and after.value is None:
        return
    found.known.add((model, entry.name))
    if before.value is None or after.value is None:
        found.known_once.append(
            KnownOnce(
                model=model,
                device=device,
                figure=figure,
                unit=known.unit,
                gated=rule.gates,
                old=before.value,
                new=after.value,
            )
        )
        return
    found.pairs.append(
        Pair(
            known,
            rule,
            figure,
            before.value,
            after.value,
            before.samples,
            after.samples,
            exact=simulated or entry.name in FACTS,
            measured=not simulated,
            model=model,
            device=device,
            statistic=entry.statistic,
        )
    )


def _of_run(result: Result) -> dict[str, _Entry]:
    plain: dict[str, Number | None] = {
        f"requests.{name}": getattr(result.requests, name)
        for name in ("total", "completed", "timed_out", "refused", "failed", "cancelled")
    }
    for name in (
        *("loads", "failed_loads", "evictions", "oom_events", "hits"),
        *("reload_cost_ns", "first_load_cost_ns"),
    ):
        plain[name] = getattr(result, name)
    plain["bound.ratio"] = None if result.bound is None else result.bound.ratio
    entries = {name: _Entry(name, "", _Reading(value)) for name, value in plain.items()}
    for name, figures in (("wait_ns", result.wait_ns), ("latency_ns", result.latency_ns)):
        entries.update((entry.name, entry) for entry in _durations(name, figures))
    return entries


def _of_device(device: str) -> Callable[[Result], dict[str, _Entry]]:
    def read(result: Result) -> dict[str, _Entry]:
        use = result.devices.get(device)
        names = ("peak_bytes", "mean_bytes")
        return {
            (name := f"devices.{each}"): _Entry(
                name, "", _Reading(None if use is None else getattr(use, each))
            )
            for each in names
        }

    return read


def _of_model(tag: str) -> Callable[[Result], dict[str, _Entry]]:
    def read(result: Result) -> dict[str, _Entry]:
        use = result.models[tag]
        entries = {
            (name := f"models.{each}"): _Entry(name, "", _Reading(getattr(use, each)))
            for each in ("requests", "loads", "evictions", "hits")
        }
        entries.update((e.name, e) for e in _durations("models.wait_ns", use.wait_ns))
        return entries

    return read


def _durations(name: str, figures: DurationFigures | None) -> Iterator[_Entry]:
    for suffix in RUN_STATISTICS:
        statistic = suffix.removeprefix(".") or "median"
        if figures is None:
            yield _Entry(f"{name}{suffix}", statistic, _Reading(None))
        else:
            value: int | None = getattr(figures, statistic)
            yield _Entry(f"{name}{suffix}", statistic, _Reading(value, figures.samples))

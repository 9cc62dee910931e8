"""Playing recorded events again, and the shortest part of them that still breaks a promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from support.random_events import Event, Player, World


@dataclass(frozen=True, slots=True)
class Broken:
    """What a run broke, and with which event: past the last one while all came to its end."""

    what: str
    at: int
    told: str

    @property
    def kind(self) -> str:
        """What is told without its figures: two runs that broke the same promise agree on it."""
        return "".join(letter for letter in self.what if not letter.isdigit())


def broken_by(error: BaseException, at: int) -> Broken:
    """Return what an exception says was broken."""
    what = str(error.args[0]) if error.args else ""
    return Broken(f"{type(error).__name__}: {what[:100]}", at, f"{type(error).__name__}: {error}")


def replay(world: World, events: Sequence[Event], *, end: bool = True) -> Broken | None:
    """Play events in a world; return what broke, None where nothing did."""
    at = 0
    try:
        player = Player(world)
        for event in events:
            player.play(event)
            at += 1
        if end:
            player.end()
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is a finding
        return broken_by(error, at)
    return None


def shrink(
    world: World, events: Sequence[Event], *, most_events: int = 100_000
) -> tuple[World, list[Event], Broken]:
    """Return a world and events that break the same promise, of which none can be left out.

    Delta debugging (Zeller & Hildebrandt, *Simplifying and Isolating Failure-Inducing Input*,
    IEEE TSE 28, 2002), then a plainer world, then plainer numbers. ``most_events`` is how many may
    be played for that; what is left then is less than shortest.
    """
    found = replay(world, events)
    if found is None:
        raise ValueError("nothing breaks when these events are played again")
    budget = most_events
    first = found

    def breaks(world: World, events: Sequence[Event]) -> Broken | None:
        nonlocal budget
        budget -= len(events) + 10
        if budget < 0:
            return None
        broken = replay(world, events)
        return broken if broken is not None and broken.kind == first.kind else None

    kept = list(events[: found.at + 1])
    while True:
        before = (world, kept)
        kept = _without_needless(world, kept, breaks)
        world = _plainer_world(world, kept, breaks)
        kept = _plainer_numbers(world, kept, breaks)
        if (world, kept) == before or budget <= 0:
            break
    last = replay(world, kept)
    return world, kept, last or first


Breaks = Callable[[World, Sequence[Event]], Broken | None]


def _without_needless(world: World, events: list[Event], breaks: Breaks) -> list[Event]:
    size = max(1, len(events) // 2)
    while True:
        place = 0
        while place < len(events):
            fewer = events[:place] + events[place + size :]
            broken = breaks(world, fewer)
            if broken is not None:
                events = fewer[: broken.at + 1]
            else:
                place += size
        if size == 1:
            return events
        size //= 2


def _plainer_world(world: World, events: list[Event], breaks: Breaks) -> World:
    plain: tuple[tuple[str, object], ...] = (
        ("limits", world.limits[:1]),
        ("foreign", (0,) * len(world.limits)),
        ("steady", True),
        ("read", True),
        ("policy", "lru"),
        ("isolation", "beside"),
        ("max_copies", None),
        ("min_copies", 1),
        ("max_bypass", 8),
        ("cooldown_ns", 0),
        ("explain", False),
        ("known", len(world.sizes)),
        ("load_ns", None),
        ("load_peak", 0),
        ("sizes", tuple((peak, peak) for _, peak in world.sizes)),
        ("sizes", tuple((10, 10) for _ in world.sizes)),
    )
    for name, value in plain:
        changed: dict[str, object] = {name: value}
        if name == "limits":
            changed["foreign"] = world.foreign[:1]
        try:
            plainer = replace(world, **changed)  # type: ignore[arg-type]  # by name
            plainer.settings()
        except Exception:  # noqa: BLE001, S112 - such a world cannot be
            continue
        if plainer != world and breaks(plainer, events) is not None:
            world = plainer
    return world


def _plainer_numbers(world: World, events: list[Event], breaks: Breaks) -> list[Event]:
    for place, event in enumerate(events):
        for part in range(1, len(event)):
            number = event[part]
            for plainer in (None, 0, 1, 2) if event[0] == "request" and part == 3 else (0, 1, 2):
                if number == plainer:
                    break
                one = (*events[place][:part], plainer, *events[place][part + 1 :])
                changed = [*events[:place], one, *events[place + 1 :]]
                broken = breaks(world, changed)
                if broken is not None and broken.at == len(changed) - 1:
                    events = changed
                    break
    return events

"""Which models fit together, and where: exact placement of copies on devices.

Owns what a device needs for a set of copies, what a plan is, and why one does not fit. The
programme behind it is ``simulation.placement_programme``'s. All figures are upper ones, and memory
is reckoned as the scheduler's ledger does it: every copy takes its resident bytes, each running one
its peak, and to load one takes what the manager reserves for that, while the others are idle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from heapq import nlargest

from modelmgr.errors import UsageError
from modelmgr.records.costs import CostDatabase, ModelCost
from modelmgr.records.measured import MeasuredBytes
from modelmgr.simulation.placement_programme import Programme, solve

_MORE_AT_MOST = 1_000  # copies of one model that anybody would ask for

Copies = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNeed:
    """What one copy of a model needs, upper figures in bytes.

    Attributes:
        resident_bytes: loaded and idle.
        peak_bytes: loaded and running.
        load_bytes: what must be free to load it: its peak, or more where loading takes more.
    """

    resident_bytes: int
    peak_bytes: int
    load_bytes: int

    def __post_init__(self) -> None:
        """Refuse figures that no copy could have."""
        if not 0 <= self.resident_bytes <= self.peak_bytes <= self.load_bytes:
            raise UsageError(
                "a model needs 0 <= resident <= peak <= load, not "
                f"{self.resident_bytes}, {self.peak_bytes} and {self.load_bytes} bytes"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDevice:
    """A device to place copies on; ``limit_bytes`` is what they may use."""

    name: str
    limit_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """How many copies of a model are wanted.

    Attributes:
        at_least: fewer are worth nothing.
        at_most: more are not placed.
        weight: what a copy is worth once all models have what they need at least; the second copy
            is worth half of it, the third a third: copies come out in proportion to the weights.
    """

    at_least: int = 1
    at_most: int = 1
    weight: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        """Refuse counts that contradict each other."""
        if not 0 <= self.at_least <= self.at_most:
            raise UsageError(f"no number of copies is from {self.at_least} to {self.at_most}")
        if self.weight < 0:
            raise UsageError(f"a weight of {self.weight} is negative")


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """What a device is to hold.

    Attributes:
        device: which one.
        copies: how many, by tag.
        needed_bytes: the most that they need of it.
        idle_bytes: what they take while none runs.
    """

    device: PlanDevice
    copies: dict[str, int]
    needed_bytes: int
    idle_bytes: int

    @property
    def left_bytes(self) -> int:
        """What is left of the limit."""
        return self.device.limit_bytes - self.needed_bytes


@dataclass(frozen=True, slots=True)
class Conflict:
    """A smallest set of demands that cannot be met together; without any of them the others can.

    Attributes:
        copies: the least copies that are demanded of each.
        needed_bytes: what they would need of one device.
        to_load: whether they need that much while one of them loads; else while they run.
        offered_bytes: the limits of all devices together.
        largest_bytes: the largest limit.
    """

    copies: dict[str, int]
    needed_bytes: int
    to_load: bool
    offered_bytes: int
    largest_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Where copies go.

    Attributes:
        devices: in the order given.
        copies: how many of each model, 0 for those left out.
        left_out: the models whose demands are not met.
        conflict: why not; None where all are met.
        more: how many more copies of each model would fit, were it alone in having more.
        proven: no plan meets more demands, or places more weight; False where time ran out.
    """

    devices: tuple[DevicePlan, ...]
    copies: dict[str, int]
    left_out: tuple[str, ...]
    conflict: Conflict | None
    more: dict[str, int]
    proven: bool

    @property
    def fits(self) -> bool:
        """Whether every demand is met."""
        return not self.left_out


def need_of(cost: ModelCost) -> ModelNeed | None:
    """Return what a copy needs by its cost record; None for a model without figures.

    A second copy is reckoned like the first: what it shares with it depends on what else runs.
    """
    if cost.initial_estimate_bytes is None:
        return None
    measured = cost.peak_bytes.value if cost.peak_bytes is not None else 0
    peak = max(cost.initial_estimate_bytes, measured)
    return ModelNeed(
        resident_bytes=min(_upper(cost.resident_bytes, peak), peak),
        peak_bytes=peak,
        load_bytes=max(peak, _upper(cost.load_peak_bytes, peak)),
    )


def needs_of(costs: CostDatabase) -> dict[str, ModelNeed]:
    """Return what a copy of each model needs, models without figures left out."""
    needs = {tag: need_of(cost) for tag, cost in costs.models.items()}
    return {tag: need for tag, need in needs.items() if need is not None}


def device_need_bytes(
    needs: Mapping[str, ModelNeed], copies: Copies, *, active: int | None = None
) -> int:
    """Return the most that these copies need of one device.

    Args:
        needs: of one copy of each model.
        copies: how many of each.
        active: how many may run at once; None for all.
    """
    present = [needs[tag] for tag, count in copies.items() if count > 0]
    idle = sum(needs[tag].resident_bytes * count for tag, count in copies.items())
    loading = max((need.load_bytes - need.resident_bytes for need in present), default=0)
    return max(_running_bytes(needs, copies, active), idle + loading)


def _running_bytes(needs: Mapping[str, ModelNeed], copies: Copies, active: int | None) -> int:
    idle = sum(needs[tag].resident_bytes * count for tag, count in copies.items())
    extra = [
        needs[tag].peak_bytes - needs[tag].resident_bytes
        for tag, count in copies.items()
        for _ in range(count if active is None else min(count, active))
    ]
    return idle + sum(extra if active is None else nlargest(active, extra))


def plan(
    needs: Mapping[str, ModelNeed],
    devices: Sequence[PlanDevice],
    demands: Mapping[str, Demand],
    *,
    active: int | None = None,
    time_limit_s: float | None = None,
) -> Plan:
    """Place copies: most demands met, then most weight, then in the order of models and devices.

    Args:
        needs: what a copy of each demanded model needs.
        devices: in the order in which they are to be filled.
        demands: by tag; among equals, earlier ones are met first.
        active: how many copies of a device may run at once; None for all of them.
        time_limit_s: how long the solver may take for each of its few questions, seconds.

    Raises:
        UsageError: no device, one name twice, a demand of a model without figures, ``active`` of
            nothing.
    """
    _check(needs, devices, demands, active)
    wanted = {tag: demand for tag, demand in demands.items() if demand.at_most > 0}
    limits = [device.limit_bytes for device in devices]
    programme = Programme(
        needs=[_programme_need(needs[tag], limits) for tag in wanted],
        limits_bytes=limits,
        at_least=[demand.at_least for demand in wanted.values()],
        at_most=[demand.at_most for demand in wanted.values()],
        weights=[demand.weight for demand in wanted.values()],
        active=active,
    )
    placed = solve(programme, time_limit_s=time_limit_s)
    plans = tuple(
        _device_plan(needs, device, dict(zip(wanted, counts, strict=True)), active)
        for device, counts in zip(devices, placed.copies, strict=True)
    )
    copies = {tag: sum(plan.copies.get(tag, 0) for plan in plans) for tag in demands}
    left_out = tuple(tag for tag, demand in demands.items() if copies[tag] < demand.at_least)
    conflict = None
    if left_out:
        least = {tag: demand.at_least for tag, demand in wanted.items() if demand.at_least}
        conflict = _conflict(needs, devices, least, active, time_limit_s)
    more = {tag: sum(_room_for(needs, plan, tag, active) for plan in plans) for tag in demands}
    return Plan(plans, copies, left_out, conflict, more, placed.proven)


def _check(
    needs: Mapping[str, ModelNeed],
    devices: Sequence[PlanDevice],
    demands: Mapping[str, Demand],
    active: int | None,
) -> None:
    names = [device.name for device in devices]
    if not names:
        raise UsageError("there is no device to place models on")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"the device {twice!r} is there twice; give each a name of its own")
    for tag in demands:
        if tag not in needs:
            raise UsageError(f"nothing is known of what {tag!r} needs; measure it first")
    if active is not None and active < 1:
        raise UsageError(f"{active} copies running at once serve nobody; give 1 or more")


def _device_plan(
    needs: Mapping[str, ModelNeed], device: PlanDevice, copies: dict[str, int], active: int | None
) -> DevicePlan:
    held = {tag: count for tag, count in copies.items() if count}
    idle = sum(needs[tag].resident_bytes * count for tag, count in held.items())
    return DevicePlan(device, held, device_need_bytes(needs, held, active=active), idle)


def _room_for(
    needs: Mapping[str, ModelNeed], plan: DevicePlan, tag: str, active: int | None
) -> int:
    """Return how many more copies of one model fit beside what a device holds."""
    low, high = 0, _MORE_AT_MOST
    while low < high:
        middle = (low + high + 1) // 2
        copies = {**plan.copies, tag: plan.copies.get(tag, 0) + middle}
        if device_need_bytes(needs, copies, active=active) <= plan.device.limit_bytes:
            low = middle
        else:
            high = middle - 1
    return low


def _conflict(
    needs: Mapping[str, ModelNeed],
    devices: Sequence[PlanDevice],
    least: Mapping[str, int],
    active: int | None,
    time_limit_s: float | None,
) -> Conflict:
    """Return a smallest set of demands that does not fit.

    The fewest that can fail to fit are the largest: the shortest run of largest demands that does
    not fit is found first, then each of it that is not needed for that is taken out.
    """
    limits = [device.limit_bytes for device in devices]

    def fits(tags: Sequence[str]) -> bool:
        copies = {tag: least[tag] for tag in tags}
        if any(device_need_bytes(needs, copies, active=active) <= limit for limit in limits):
            return True
        programme = Programme(
            needs=[_programme_need(needs[tag], limits) for tag in tags],
            limits_bytes=limits,
            at_least=[least[tag] for tag in tags],
            at_most=[least[tag] for tag in tags],
            weights=[Fraction(1)] * len(tags),
            active=active,
        )
        placed = solve(programme, time_limit_s=time_limit_s, first_only=True)
        counts = [sum(column) for column in zip(*placed.copies, strict=True)]
        return counts == programme.at_least

    order = sorted(least, key=lambda tag: -needs[tag].load_bytes * least[tag])
    low, high = 1, len(order)  # the first run of so many that does not fit is in this range
    while low < high:
        middle = (low + high) // 2
        if fits(order[:middle]):
            low = middle + 1
        else:
            high = middle
    found = order[:low]
    for tag in list(found):
        rest = [other for other in found if other != tag]
        if rest and not fits(rest):
            found = rest
    copies = {tag: least[tag] for tag in least if tag in found}
    needed = device_need_bytes(needs, copies, active=active)
    return Conflict(
        copies,
        needed,
        needed > _running_bytes(needs, copies, active),
        sum(limits),
        max(limits),
    )


def _programme_need(need: ModelNeed, limits: Sequence[int]) -> tuple[int, int, int]:
    """Return idle, running and loading bytes, no more than what is too much for every device.

    A copy that fits nowhere is as impossible whatever its size, and a solver takes no astronomical
    numbers.
    """
    too_much = max(limits) + 1
    return (
        min(need.resident_bytes, too_much),
        min(need.peak_bytes, too_much),
        min(need.load_bytes, too_much),
    )


def _upper(figure: MeasuredBytes | None, unknown: int) -> int:
    """Return the upper end of a figure; what to take for it where it is not known."""
    if figure is None:
        return unknown
    return figure.value if figure.interval_95 is None else max(figure.value, figure.interval_95[1])

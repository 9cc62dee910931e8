"""What the engine keeps of each model and each copy: the truth beside the scheduler's belief."""

from __future__ import annotations

from modelmgr.errors import UsageError
from modelmgr.simulation.device import VirtualDevice
from modelmgr.simulation.metrics import Durations
from modelmgr.workload.distributions import Sampler, make_sampler
from modelmgr.workload.scenario import Distribution, ScenarioModel
from modelmgr.workload.streams import open_stream


class Drawn:
    """Durations from a stream of their own, one after the other.

    The stream is opened when the first one is drawn: most models of a large scenario are never
    unloaded, and to open a stream takes longer than a hundred draws.
    """

    __slots__ = ("_distribution", "_names", "_sampler", "_seed")

    def __init__(self, distribution: Distribution, seed: int, *names: str) -> None:
        self._distribution = distribution
        self._seed = seed
        self._names = names
        self._sampler: Sampler | None = None

    def take(self) -> int:
        """Return the next duration, nanoseconds."""
        if self._distribution.kind == "constant":
            return self._distribution.mean_ns
        if self._sampler is None:
            stream = open_stream(self._seed, *self._names)
            self._sampler = make_sampler(self._distribution, stream)
        return self._sampler.one()


class VirtualModel:
    """One model: what it truly takes, and what was counted of it.

    Attributes:
        tag: unique.
        priority: of its requests.
        resident_bytes: a loaded copy that does nothing.
        extra_bytes: what running adds to that.
        loading_bytes: what a copy takes while it loads.
        load_times: how long loads take.
        unload_times: how long unloads take.
        trusted: what the scheduler believes of it covers the truth.
        waits: of its requests that were given a copy.
        new_waits: where the next of them are added.
        requests: that came.
        hits: that were given a copy that was loaded already.
        loads: that ended well.
        evictions: of its copies.
    """

    __slots__ = (
        "evictions",
        "extra_bytes",
        "hits",
        "load_times",
        "loading_bytes",
        "loads",
        "new_waits",
        "priority",
        "requests",
        "resident_bytes",
        "tag",
        "trusted",
        "unload_times",
        "waits",
    )

    def __init__(self, model: ScenarioModel, seed: int) -> None:
        cost = model.cost
        if cost is None:
            raise UsageError(
                f"model {model.tag!r} has no cost: a simulation needs one for every model; "
                "give it 'cost:' or 'costs:'"
            )
        tag = model.tag
        self.tag = tag
        self.priority = model.priority
        self.resident_bytes = cost.resident_bytes
        self.extra_bytes = max(0, cost.peak_bytes - cost.resident_bytes)
        self.loading_bytes = max(cost.resident_bytes, cost.load_peak_bytes or 0)
        self.load_times = Drawn(cost.load, seed, "load", tag)
        self.unload_times = Drawn(cost.unload, seed, "unload", tag)
        self.trusted = False
        self.waits = Durations()
        self.new_waits = self.waits.buffer
        self.requests = 0
        self.hits = 0
        self.loads = 0
        self.evictions = 0

    @property
    def peak_bytes(self) -> int:
        """A copy that runs."""
        return self.resident_bytes + self.extra_bytes


class VirtualCopy:
    """One copy: where it is, what it holds of the device, and who has it.

    Attributes:
        number: the scheduler's.
        model: whose copy.
        device: where.
        taken_bytes: what it holds of the device now, but for its job.
        running: its job holds what running adds.
        busy_ns: how long jobs did so, before.
        lease: under which somebody has it, 0 where nobody does.
        job: the request that it serves.
        granted_ns: since when.
        load_ns: how long its load takes, as drawn.
        loaded: its load has ended and its unload has not.
        dead: its process died and the scheduler does not know it yet.
        measured: its first job measures the model.
        ends_ns: when its load ends.
        failure: why that goes wrong, None where it does not.
        end_serial: of the event that does, so that a fault can end it sooner or later.
        late_ns: how long after its unload the memory comes back; 0 for at once.
        leaving: its unload was ordered.
        reserved_bytes: what was set aside for its load.
        second_try: its request ran out of memory with another copy before.
    """

    __slots__ = (
        "busy_ns",
        "dead",
        "device",
        "end_serial",
        "ends_ns",
        "failure",
        "granted_ns",
        "job",
        "late_ns",
        "lease",
        "leaving",
        "load_ns",
        "loaded",
        "measured",
        "model",
        "number",
        "reserved_bytes",
        "running",
        "second_try",
        "taken_bytes",
    )

    def __init__(
        self, number: int, model: VirtualModel, device: VirtualDevice, *, measured: bool
    ) -> None:
        self.number = number
        self.model = model
        self.device = device
        self.taken_bytes = 0
        self.running = False
        self.busy_ns = 0
        self.lease = 0
        self.job: tuple[int, ...] | None = None
        self.granted_ns = 0
        self.load_ns = 0
        self.loaded = False
        self.dead = False
        self.measured = measured
        self.ends_ns = 0
        self.failure: str | None = None
        self.end_serial = 0
        self.late_ns = 0
        self.leaving = False
        self.reserved_bytes = 0
        self.second_try = False

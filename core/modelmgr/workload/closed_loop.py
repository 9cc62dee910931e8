"""A user who asks again, some time after the last answer: closed-loop traffic.

Each user draws from streams of its own, so its k-th request asks for the same model and takes
equally long however fast the ones before were served; only its time follows from the service.
"""

from __future__ import annotations

from collections.abc import Mapping

from modelmgr.workload.distributions import Sampler, make_sampler
from modelmgr.workload.raw_requests import NO_SHAPE, RawRequest
from modelmgr.workload.scenario import MixPhase
from modelmgr.workload.service import ServiceTimes, picker
from modelmgr.workload.streams import open_stream


class ClosedLoopUser:
    """One user of a closed-loop phase."""

    __slots__ = (
        "_end_ns",
        "_pick_model",
        "_pick_shape",
        "_samplers",
        "_service",
        "_service_stream",
        "_tags",
        "_think",
        "_user",
    )

    def __init__(
        self,
        seed: int,
        phase: MixPhase,
        service: ServiceTimes,
        *,
        phase_number: int,
        user: int,
        place: int,
        end_ns: int,
        tags: Mapping[str, int],
    ) -> None:
        """Make a user.

        Args:
            seed: the scenario's.
            phase: the closed-loop phase.
            service: draws the service times.
            phase_number: of the phase in the workload.
            user: the user's index in the whole scenario.
            place: the user's index in the phase.
            end_ns: when the phase ends; nothing is asked from then on.
            tags: each model's index.
        """
        names = ("phase", phase_number, "user", place)
        think = phase.arrivals.think
        self._user = user
        self._end_ns = end_ns
        self._think: Sampler | None = (
            None if think is None else make_sampler(think, open_stream(seed, *names, "think"))
        )
        self._tags = [tags[tag] for tag, _ in phase.mix]
        self._pick_model = picker(
            [weight for _, weight in phase.mix], open_stream(seed, *names, "model")
        )
        shape_stream = open_stream(seed, *names, "shape") if phase.shapes else None
        self._pick_shape = [
            None
            if shape_stream is None
            else service.shape_picker(phase.shapes.get(tag, ()), shape_stream)
            for tag, _ in phase.mix
        ]
        self._service = service
        self._service_stream = open_stream(seed, *names, "service")
        self._samplers: dict[tuple[int, int], Sampler] = {}

    def ask(self, now_ns: int) -> RawRequest | None:
        """Return the next request, after the time to think; None when the phase is over by then."""
        at_ns = now_ns if self._think is None else now_ns + self._think.one()
        if at_ns >= self._end_ns:
            return None
        model = self._pick_model()
        tag = self._tags[model]
        pick_shape = self._pick_shape[model]
        shape = NO_SHAPE if pick_shape is None else pick_shape()
        sample = self._samplers.get((tag, shape))
        if sample is None:
            stream = self._service_stream.child(f"{tag} {shape}")
            sample = self._service.sampler(tag, shape, stream)
            self._samplers[tag, shape] = sample
        return at_ns, tag, sample.one(), shape, self._user

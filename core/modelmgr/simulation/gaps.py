"""What an eviction policy can choose in a served schedule: which idle copies stay over which gaps.

A *gap* is a release and the later start that could use the released copy again; a *state* is what
the device looks like right after a job started. Owns how both follow from the jobs, in integers
alone: the bound's solver and the certificate's checker both begin here.

The order of events at one time: first the ends of jobs that began before, then the starts in the
order in which they were granted; a job of no length ends right after its start. That is the order
that leaves a policy the most freedom, so a bound on it holds for the true order too.

Each start is matched with the *latest* unmatched release of its model. No policy can do better with
other pairs. Take what some policy did as pairs (release, start) of the same copy, and among all
sets of as many pairs of each model that never hold more copies at any time, one of least total
length; where two pairs cross, exchange their starts, which changes neither. Suppose one of its
pairs (a, b) is not in the matching. Then between a and b there is a release that the matching
leaves unmatched before b, or a start that the matching matches at or before a (otherwise a and b
would have been matched). As no pair crosses (a, b), the set has a partner inside for each release
or start that it uses in there; would it use all of those releases (or starts), every suffix (or
prefix) of the inside would have at least as many starts as releases (releases as starts), and the
matching would not leave one over. So one is unused, and pairing it with b (or a) is shorter: a
contradiction. All loads of a model cost the same, so as many pairs are worth as much.

A state is looked at only where an end follows (or nothing): of several starts in a row the last
needs the most, as an idle copy that is taken holds at least as much running as it did idle. After
an end there is nothing to check: a copy that goes idle holds no more than before.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from math import gcd

from modelmgr.errors import UsageError
from modelmgr.simulation.schedule import ServedSchedule
from modelmgr.units import format_bytes


@dataclass(frozen=True, slots=True)
class Gaps:
    """The gaps of a schedule in the order of the starts that end them, and the states they span.

    Attributes:
        jobs: the job whose start ends each gap.
        models: each gap's model, an index into the schedule's tags.
        firsts: the first state in which each gap's copy would be held idle.
        pasts: the state after the last such one; equal to the first where there is none.
        rooms_bytes: of each state, what idle copies can fill of the capacity that the running jobs
            leave: rounded down to a multiple of what all idle sizes are multiples of.
        narrowest_bytes: the least room in each gap's states; a copy that is larger cannot be kept
            over it. The capacity where there is no state.
    """

    jobs: list[int]
    models: list[int]
    firsts: list[int]
    pasts: list[int]
    rooms_bytes: list[int]
    narrowest_bytes: list[int]


def find_gaps(schedule: ServedSchedule) -> Gaps:
    """Return a schedule's gaps and states; the time is that of sorting its jobs.

    Raises:
        UsageError: running jobs alone take more than the capacity, so no policy could serve this.
    """
    peaks = [figures.peak_bytes for figures in schedule.figures]
    room = schedule.capacity_bytes
    rooms: list[int] = []
    found = Gaps([], [], [], [], rooms, [])
    idle: list[list[int]] = [[] for _ in peaks]
    running: list[tuple[int, int, int]] = []
    started = False
    columns = zip(schedule.job_models, schedule.starts_ns, schedule.ends_ns, strict=True)
    for job, (model, start, end) in enumerate(columns):
        while running and running[0][0] <= start:
            if started:
                rooms.append(room)
                started = False
            _, _, ended = heappop(running)
            room += peaks[ended]
            idle[ended].append(len(rooms))
        if idle[model]:
            found.jobs.append(job)
            found.models.append(model)
            found.firsts.append(idle[model].pop())
            found.pasts.append(len(rooms))
        room -= peaks[model]
        if room < 0:
            raise UsageError(
                f"{schedule.device}: the jobs that run at {start} ns take "
                f"{format_bytes(schedule.capacity_bytes - room)}, the capacity is "
                f"{format_bytes(schedule.capacity_bytes)}; no policy could have served that, so "
                "give the capacity that was really used"
            )
        heappush(running, (end, job, model))
        started = True
    if started:
        rooms.append(room)
    unit = gcd(*(figures.resident_bytes for figures in schedule.figures)) or 1
    rooms[:] = [room - room % unit for room in rooms]
    found.narrowest_bytes.extend(_narrowest(found, schedule.capacity_bytes))
    return found


def _narrowest(gaps: Gaps, capacity_bytes: int) -> list[int]:
    """Return each gap's least room: a table of the least of every 1, 2, 4, … states."""
    tables = [gaps.rooms_bytes]
    width = 1
    while 2 * width <= len(gaps.rooms_bytes):
        narrow = tables[-1]
        tables.append([min(pair) for pair in zip(narrow, narrow[width:], strict=False)])
        width *= 2
    least: list[int] = []
    for first, past in zip(gaps.firsts, gaps.pasts, strict=True):
        if past == first:
            least.append(capacity_bytes)
            continue
        level = (past - first).bit_length() - 1
        table = tables[level]
        least.append(min(table[first], table[past - (1 << level)]))
    return least

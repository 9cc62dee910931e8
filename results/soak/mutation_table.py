"""One-line faults for each promise, made on purpose: the tests must notice every one.

Each row names the promise that it breaks, the module, the text that is there once, and what stands
there instead. A row whose text is gone has to be written anew, or it would mean nothing.
``EQUIVALENT`` names rows that change nothing that anybody could see, with the argument.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """One fault."""

    promise: str
    module: str
    there: str
    instead: str


MEMORY, PIN, LEASE, ISOLATION = "1 memory", "2 pin", "3 lease", "4 isolation"
PROGRESS, FAIRNESS, CONSERVATION = "5 progress", "6 fairness", "7 conservation"
UNKNOWN, DETERMINISM = "8 unknown is not zero", "9 determinism"

_M = Mutation
TABLE: tuple[Mutation, ...] = (
    # Memory: what is promised on a device never exceeds its limit.
    _M(
        MEMORY,
        "ledger.py",
        "            return min(room, room + self.freeing_bytes - self.claimed_bytes)\n",
        "            return room\n",
    ),
    _M(
        MEMORY,
        "ledger.py",
        "        return lasting if self.settled or lasting > self.reserved_bytes "
        "else self.reserved_bytes\n",
        "        return lasting\n",
    ),
    _M(
        MEMORY,
        "ledger.py",
        "        lasting = self.peak_bytes if active else self.resident_bytes\n",
        "        lasting = self.resident_bytes\n",
    ),
    _M(
        MEMORY,
        "ledger.py",
        "        lasting = max(entry.resident_bytes, 0 if entry.settled else "
        "entry.reserved_bytes)\n",
        "        lasting = 0\n",
    ),
    _M(
        MEMORY,
        "ledger.py",
        "            self.foreign_bytes += left_bytes\n",
        "            self.foreign_bytes += 0\n",
    ),
    _M(
        MEMORY,
        "ledger.py",
        "begun_ns is not None and begun_ns >= loaded_ns\n",
        "begun_ns is not None\n",
    ),
    _M(
        MEMORY,
        "ledger.py",
        "            if entry.freed_ns is None or at_ns < entry.freed_ns:\n",
        "            if entry.freed_ns is None:\n",
    ),
    _M(
        MEMORY,
        "admission.py",
        "            if more <= 0 or more <= ledger.room_bytes():\n",
        "            if True:\n",
    ),
    _M(
        MEMORY,
        "copies.py",
        "max(self.peak_bytes, self.load_peak_bytes or 0)",
        "self.resident_bytes",
    ),
    _M(
        MEMORY,
        "scheduler.py",
        "        self.devices[device].ledger.set_active(number, True)\n",
        "        self.devices[device].ledger.set_active(number, False)\n",
    ),
    _M(
        MEMORY,
        "scheduler.py",
        "        device.ledger.claim(copy.number, plan.need_bytes)\n",
        "        device.ledger.claim(copy.number, 0)\n",
    ),
    # Pin: a copy in use is never unloaded.
    _M(
        PIN,
        "scheduler.py",
        "                copy.take(CopyEvent.CONDEMNED)\n",
        "                self._order_unload(copy, reason, None)\n",
    ),
    _M(
        PIN,
        "states.py",
        "    (_S.ACTIVE, _E.RELEASED): _S.IDLE,\n",
        "    (_S.ACTIVE, _E.RELEASED): _S.IDLE,\n"
        "    (_S.ACTIVE, _E.UNLOAD_STARTED): _S.UNLOADING,\n",
    ),
    _M(
        PIN,
        "victims.py",
        "copy.state is not _IDLE or copy.ticket is not None",
        "copy.state is CopyState.UNLOADING or copy.ticket is not None",
    ),
    _M(
        PIN,
        "victims.py",
        "            if model.pinned or (more and not cold):\n",
        "            if more and not cold:\n",
    ),
    _M(
        PIN,
        "admission.py",
        "            if copy.state is not CopyState.IDLE or copy.ticket is not None or "
        "copy.model.pinned:\n",
        "            if copy.ticket is not None or copy.model.pinned:\n",
    ),
    _M(
        PIN,
        "scheduler.py",
        "        self.model(tag).pinned = pinned\n",
        "        self.model(tag).pinned = False\n",
    ),
    _M(
        PIN,
        "victims.py",
        " or copy is spare:\n",
        ":\n",
    ),
    # Lease: one copy, one holder; what is stale is refused and changes nothing.
    _M(
        LEASE,
        "scheduler.py",
        "        if copy is None or copy.lease != lease:\n            raise",
        "        if copy is None or copy.lease is None:\n            raise",
    ),
    _M(
        LEASE,
        "scheduler.py",
        "        if copy is None or not copy.held or copy.lease != lease:\n            return []\n",
        "        if copy is None or not copy.held:\n            return []\n",
    ),
    _M(
        LEASE,
        "scheduler.py",
        "        self._last_lease += 1\n",
        "        self._last_lease += 0\n",
    ),
    _M(
        LEASE,
        "scheduler.py",
        "        if copy is None or copy.state is not CopyState.UNLOADING:\n"
        "            return []\n",
        "        if copy is None:\n            return []\n",
    ),
    _M(
        LEASE,
        "scheduler.py",
        "        if copy is None or copy.state is CopyState.RESERVED:\n            return []\n",
        "        if copy is None or copy.state is CopyState.RESERVED:\n"
        "            return self.deadline(now_ns + 10**9)\n",
    ),
    _M(
        LEASE,
        "scheduler.py",
        "        copy.take(CopyEvent.LOAD_FINISHED)\n",
        "        self._last_lease = 0\n        copy.take(CopyEvent.LOAD_FINISHED)\n",
    ),
    _M(
        LEASE,
        "scheduler.py",
        "        copy.lease = None\n        copy.last_used_ns = self._now_ns\n",
        "        copy.last_used_ns = self._now_ns\n",
    ),
    # Isolation: nothing else loads while an unknown model is measured.
    _M(
        ISOLATION,
        "admission.py",
        "            if device.isolating is None\n"
        "            and device.ledger.known\n"
        "            and self._could_hold(device, need)\n",
        "            if device.ledger.known\n            and self._could_hold(device, need)\n",
    ),
    _M(
        ISOLATION,
        "admission.py",
        "            device.isolating is None\n            and device.ledger.known\n",
        "            device.ledger.known\n",
    ),
    _M(
        ISOLATION,
        "admission.py",
        "            if not self._may_isolate(device, ticket) or _loading(device):\n",
        "            if not self._may_isolate(device, ticket):\n",
    ),
    _M(
        ISOLATION,
        "admission.py",
        "            if device.isolation_quiet and device.isolating not in (None, copy.number):\n",
        "            if device.isolating == -1:\n",
    ),
    _M(
        ISOLATION,
        "admission.py",
        "            return self._isolated(ticket, now_ns) if staying == 0 else None\n",
        "            return self._isolated(ticket, now_ns)\n",
    ),
    _M(
        ISOLATION,
        "admission.py",
        '            if self._isolation == "exclusive" and _settling(device):\n',
        '            if self._isolation == "neither" and _settling(device):\n',
    ),
    _M(
        ISOLATION,
        "admission.py",
        '        if self._isolation == "exclusive":\n            return self._drained(',
        '        if self._isolation == "neither":\n            return self._drained(',
    ),
    _M(
        ISOLATION,
        "scheduler.py",
        "                device.isolating = copy.number\n",
        "                device.isolating = None\n",
    ),
    # Progress: who can be served is, who cannot ever be is refused, and no eviction is for nothing.
    _M(
        PROGRESS,
        "scheduler.py",
        "        while waiting:\n",
        "        if waiting:\n",
    ),
    _M(
        PROGRESS,
        "scheduler.py",
        "        if too_large is not None:\n",
        "        if too_large is not None and too_large < 0:\n",
    ),
    _M(
        PROGRESS,
        "scheduler.py",
        "            and plan.victims\n            and ticket.deadline_ns is not None\n",
        "            and plan.victims\n            and ticket.deadline_ns == -1\n",
    ),
    _M(
        PROGRESS,
        "victims.py",
        "            if freed < missing:\n",
        "            if freed < 0:\n",
    ),
    _M(
        PROGRESS,
        "victims.py",
        "        missing = need_bytes - device.ledger.expected_room_bytes()\n"
        "        if missing <= 0",
        "        missing = need_bytes\n        if missing <= 0",
    ),
    _M(
        PROGRESS,
        "victims.py",
        "            if more and not surplus:\n",
        "            if more and len(found) < 0:\n",
    ),
    _M(
        PROGRESS,
        "victims.py",
        "            if model.pinned or (more and not cold):\n",
        "            if model.pinned:\n",
    ),
    _M(
        PROGRESS,
        "scheduler.py",
        "            if not device.leaving and self._has_seen_all(ticket, device):\n",
        "            if False:\n",
    ),
    _M(
        PROGRESS,
        "scheduler.py",
        "        ledger.believe_others()\n",
        "        ledger.doubtful_bytes\n",
    ),
    _M(
        PROGRESS,
        "admission.py",
        "            return self._cleared(ticket, need, now_ns, self._devices)\n",
        "            return None\n",
    ),
    _M(
        PROGRESS,
        "scheduler.py",
        "        if plan is None and 0 < model.free == model.staying and not ticket.exclusive:\n",
        "        if False:\n",
    ),
    _M(
        UNKNOWN,
        "admission.py",
        "        return need <= device.ledger.limit_bytes and not self._in_doubt(device, need)\n",
        "        return need <= device.ledger.limit_bytes\n",
    ),
    _M(
        PROGRESS,
        "scheduler.py",
        "            self._end_isolation(copy)\n            if copy.model.costs is None:\n",
        "            if copy.model.costs is None:\n",
    ),
    _M(
        PROGRESS,
        "admission.py",
        "        return model.max_copies is not None and model.staying >= model.max_copies\n",
        "        return model.max_copies is not None and model.staying > model.max_copies\n",
    ),
    # Fairness: passed over at most max_bypass times, first come first served among equals.
    _M(
        FAIRNESS,
        "admission.py",
        "            began_ns = oldest.submitted_ns\n",
        "            began_ns += 0\n",
    ),
    _M(
        FAIRNESS,
        "queue.py",
        "        while line.calm and line.count(line.calm[0]) >= self._max_bypass:\n",
        "        while line.calm and line.count(line.calm[0]) > self._max_bypass:\n",
    ),
    _M(
        FAIRNESS,
        "queue.py",
        "        _insert(line.passed, served_num)\n",
        "        line.passed[:0] = []\n",
    ),
    _M(
        FAIRNESS,
        "queue.py",
        "        if line.hits >= HITS_PER_BYPASS * self._max_bypass:\n",
        "        if line.hits >= 10**9:\n",
    ),
    _M(
        FAIRNESS,
        "queue.py",
        "        if ticket.passed_over >= self._max_bypass or ticket.exclusive:\n",
        "        if ticket.exclusive:\n",
    ),
    _M(
        FAIRNESS,
        "queue.py",
        "    return (0, 0, ticket.ticket_num) if ticket.urgent else (1, ticket.priority, "
        "ticket.ticket_num)\n",
        "    return (0, 0, ticket.ticket_num) if ticket.urgent else (1, ticket.priority, "
        "-ticket.ticket_num)\n",
    ),
    _M(
        FAIRNESS,
        "queue.py",
        "    return (0, 0, ticket.ticket_num) if ticket.urgent else (1, ticket.priority, "
        "ticket.ticket_num)\n",
        "    return (0, 0, ticket.ticket_num) if ticket.urgent else (1, 0, ticket.ticket_num)\n",
    ),
    _M(
        FAIRNESS,
        "admission.py",
        "        return bool(starving) and any("
        "self.contends(device, older) for older in starving)\n",
        "        return False\n",
    ),
    _M(
        FAIRNESS,
        "admission.py",
        "            if keeper is not None and self.contends(device, keeper):\n",
        "            if keeper is not None and keeper.device == -1:\n",
    ),
    _M(
        FAIRNESS,
        "scheduler.py",
        "        self._count_passed_over(ticket, plan.device, "
        "{victim.tag for victim in plan.victims})\n",
        "",
    ),
    _M(
        FAIRNESS,
        "scheduler.py",
        "        released = copy.idle_serial >= came\n",
        "        released = copy.idle_serial < 0\n",
    ),
    _M(
        FAIRNESS,
        "scheduler.py",
        "        if waiting and self.queue.first(tag) is not None:\n",
        "        if waiting and self.queue.first(tag) is not None and now_ns < 0:\n",
    ),
    # Conservation: every ticket ends exactly once, and nothing is left behind.
    _M(
        CONSERVATION,
        "scheduler.py",
        "            if ticket.deadline_ns <= self._now_ns and not self._is_loading(ticket):\n",
        "            if ticket.deadline_ns < self._now_ns and not self._is_loading(ticket):\n",
    ),
    _M(
        CONSERVATION,
        "scheduler.py",
        "            if ticket.deadline_ns <= self._now_ns and not self._is_loading(ticket):\n",
        "            if ticket.deadline_ns <= self._now_ns:\n",
    ),
    _M(
        CONSERVATION,
        "scheduler.py",
        "        for ticket in [*self.queue, *self.committed_tickets.values()]:\n",
        "        for ticket in [*self.queue]:\n",
    ),
    _M(
        CONSERVATION,
        "scheduler.py",
        "                heapq.heappush(self._wakes, (deadline_ns, ticket.ticket_num))\n",
        "                heapq.heapify(self._wakes)\n",
    ),
    _M(
        CONSERVATION,
        "scheduler.py",
        "            if ticket.deadline_ns is not None:\n"
        "                heapq.heappush(self._wakes, (ticket.deadline_ns, ticket.ticket_num))\n",
        "            if ticket.deadline_ns == -1:\n"
        "                heapq.heappush(self._wakes, (ticket.deadline_ns, ticket.ticket_num))\n",
    ),
    _M(
        CONSERVATION,
        "scheduler.py",
        "        if retry and not ticket.exclusive and not self.closed:\n",
        "        if retry and not self.closed:\n",
    ),
    _M(
        CONSERVATION,
        "scheduler.py",
        "        if draining:\n",
        "        if draining and self.closed:\n",
    ),
    _M(
        CONSERVATION,
        "scheduler.py",
        "                self._return_to_queue(self.committed_tickets[copy.ticket])\n"
        "            self._gone(copy, CopyEvent.WORKER_LOST)\n",
        "                del self.committed_tickets[copy.ticket]\n"
        "            self._gone(copy, CopyEvent.WORKER_LOST)\n",
    ),
    _M(
        CONSERVATION,
        "scheduler.py",
        "            if device.kept_for == ticket.ticket_num:\n",
        "            if device.kept_for == -1:\n",
    ),
    _M(
        CONSERVATION,
        "scheduler.py",
        "            heapq.heappush(self._wakes, (copy.patience_ns, 0))\n",
        "            heapq.heapify(self._wakes)\n",
    ),
    # Unknown is not zero: what was not read, or read badly, is no room.
    _M(
        UNKNOWN,
        "ledger.py",
        "        if self.reading_at_ns is not None and at_ns < self.reading_at_ns:\n"
        "            return []\n",
        "        if at_ns < 0:\n            return []\n",
    ),
    _M(
        UNKNOWN,
        "ledger.py",
        "        self.reading_failed = reason\n",
        "        self.reading_failed, self.foreign_bytes = reason, 0\n",
    ),
    _M(
        UNKNOWN,
        "ledger.py",
        "        self.reading_failed = reason\n",
        "        self.reading_failed = None\n",
    ),
    _M(
        UNKNOWN,
        "ledger.py",
        "        return self.reading_at_ns is not None\n",
        "        return True\n",
    ),
    _M(
        UNKNOWN,
        "ledger.py",
        '        """Return what a newcomer may take now without touching a claim; '
        'may be negative."""\n'
        "        if self.reading_at_ns is None:\n            return -1\n",
        '        """Return what a newcomer may take now without touching a claim; '
        'may be negative."""\n',
    ),
    _M(
        UNKNOWN,
        "ledger.py",
        "        self.foreign_bytes = foreign = min(max(self.foreign_bytes, lowest), highest)\n",
        "        self.foreign_bytes = foreign = lowest\n",
    ),
    _M(
        UNKNOWN,
        "admission.py",
        "            and device.ledger.reading_failed is None\n            and not self.barred",
        "            and not self.barred",
    ),
    _M(
        UNKNOWN,
        "ledger.py",
        "                point = min(own, told.charged)\n",
        "                point = own\n",
    ),
    _M(
        UNKNOWN,
        "scheduler.py",
        "        if copy.model.costs is not None:\n            ledger.settle(copy.number)\n",
        "        ledger.settle(copy.number)\n",
    ),
    # Determinism: the same inputs, the same decisions, whatever the interpreter hashes with.
    _M(
        DETERMINISM,
        "admission.py",
        "            return Plan(max(fitting, key=lambda device: device.ledger.room_bytes()), "
        "need)\n",
        "            return Plan(max(fitting, key=lambda device: hash(device.name)), need)\n",
    ),
    _M(
        DETERMINISM,
        "queue.py",
        "            heads = self._heads = [by_num[key[2]] for key in self._head_keys]\n",
        "            heads = self._heads = [by_num[key[2]] for key in self._head_keys]\n"
        "            heads.sort(key=lambda ticket: hash(ticket.tag))\n",
    ),
    _M(
        DETERMINISM,
        "scheduler.py",
        "        for copy in list(self.copies.values()):\n"
        "            if copy.state is CopyState.ACTIVE:\n",
        "        for copy in {str(c.number): c for c in sorted(self.copies.values(), "
        "key=lambda c: hash(str(c.number)))}.values():\n"
        "            if copy.state is CopyState.ACTIVE:\n",
    ),
    _M(
        DETERMINISM,
        "policies.py",
        "    return copy.last_used_ns, copy.use_serial, copy.copy\n",
        "    return hash(copy.tag), copy.use_serial, copy.copy\n",
    ),
    _M(
        DETERMINISM,
        "admission.py",
        "    return held, device.ledger.committed_bytes, device.index\n",
        "    return held, device.ledger.committed_bytes, hash(device.name)\n",
    ),
    _M(
        DETERMINISM,
        "scheduler.py",
        "        if now_ns > self._now_ns:  # noqa: PLR1730 - twice as fast as max()\n",
        "        if now_ns != self._now_ns:\n",
    ),
)

# (promise, module, instead) of rows that nobody could tell from the original, with the argument.
EQUIVALENT: dict[Mutation, str] = {}

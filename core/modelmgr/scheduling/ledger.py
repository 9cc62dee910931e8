"""One device's memory, as a ledger whose lines always add up.

    committed = foreign + Σ charge(copy)          room = limit - committed

What a copy is charged depends on where it is in its life:

    LOADING, or loaded but not yet covered by a reading   its reservation (never less than below)
    IDLE                                                  resident
    ACTIVE, DRAINING                                      peak  (= resident + what running adds)
    UNLOADING                                             what was not yet seen to come back

*Claims* are room that a plan has spoken for while its victims are still unloading: they are charged
to nobody yet, but nobody else may take them.

**Readings.** A reading is the device's whole use at one moment. What one loaded copy can show in it
is an interval: resident when idle, resident to peak when active, nothing to everything when the
reading is older than its load or its unload. So the foreign use is only known to lie in an interval
too, and the ledger moves its figure no further than the reading forces it: a figure that was taken
in a quiet moment is not washed out by a busy one. Where the platform tells a copy's own bytes
apart (a process of its own), its interval is a point, no higher than its charge: what it takes
beyond that is counted as foreign use rather than not at all.

Freed memory counts when it was seen: an unloaded copy that had no process of its own keeps its
charge until a reading shows less than before, and what is still there after the driver's patience
has ended becomes foreign, so that it is neither lost nor freed twice.

A failed reading changes nothing but ``reading_failed``: the last good figures stand. Before the
first good reading nothing may be admitted.
"""

from __future__ import annotations

from collections.abc import Mapping

from modelmgr.errors import InvalidTransitionError


class Entry:
    """One copy's line in the ledger, all in bytes."""

    __slots__ = (
        "active",
        "active_bytes",
        "charged",
        "evictable_bytes",
        "freed_ns",
        "idle_bytes",
        "leaving",
        "left_bytes",
        "loaded_ns",
        "peak_bytes",
        "reserved_bytes",
        "resident_bytes",
        "settled",
        "shown_bytes",
    )

    def __init__(self, reserved_bytes: int) -> None:
        self.reserved_bytes = reserved_bytes
        self.resident_bytes = 0
        self.peak_bytes = 0
        self.active = False
        self.settled = False
        self.leaving = False
        self.left_bytes = 0
        self.loaded_ns: int | None = None
        self.freed_ns: int | None = None
        # What the fields above come to, kept so that a grant and a release need no sums.
        self.idle_bytes = reserved_bytes
        self.active_bytes = reserved_bytes
        self.charged = reserved_bytes
        self.evictable_bytes = 0
        # The least that a reading shows of it, once one can.
        self.shown_bytes = 0

    def charge(self, active: bool) -> int:
        """Return what the copy is charged, held or not."""
        if self.leaving:
            return self.left_bytes
        lasting = self.peak_bytes if active else self.resident_bytes
        return lasting if self.settled or lasting > self.reserved_bytes else self.reserved_bytes

    def refresh(self) -> None:
        """Take changed fields into the charges."""
        self.idle_bytes = self.charge(active=False)
        self.active_bytes = self.charge(active=True)
        self.charged = self.active_bytes if self.active else self.idle_bytes
        loaded = self.loaded_ns is not None and not self.leaving
        self.evictable_bytes = self.idle_bytes if loaded and not self.active else 0
        self.shown_bytes = self.resident_bytes if loaded else 0

    def visible(self, at_ns: int) -> tuple[int, int]:
        """Return the least and the most that a reading begun at ``at_ns`` can show of the copy."""
        if self.leaving:
            return 0, self.left_bytes
        if self.loaded_ns is None or at_ns < self.loaded_ns:
            return 0, self.charged
        most = self.peak_bytes if self.active else self.resident_bytes
        if self.peak_bytes == 0:
            most = self.charged  # its cost is unknown: it may show all that is reserved for it
        return self.resident_bytes, most


class Ledger:
    """The memory of one device. Mutated by the scheduler alone."""

    __slots__ = (
        "_booked_ns",
        "_claims",
        "_entries",
        "_least_foreign",
        "_leaving",
        "_shown",
        "_sum",
        "_unsettled",
        "claimed_bytes",
        "evictable_bytes",
        "foreign_bytes",
        "freeing_bytes",
        "limit_bytes",
        "name",
        "peak_committed_bytes",
        "reading_at_ns",
        "reading_failed",
        "reading_used_bytes",
        "total_bytes",
    )

    def __init__(self, name: str, total_bytes: int, limit_bytes: int) -> None:
        self.name = name
        self.total_bytes = total_bytes
        self.limit_bytes = limit_bytes
        self.foreign_bytes = 0
        # What evicting everything that nobody holds would give back: never less.
        self.evictable_bytes = 0
        # What is on its way back and was not seen yet.
        self.freeing_bytes = 0
        # What plans under way have spoken for.
        self.claimed_bytes = 0
        self.peak_committed_bytes = 0
        self.reading_at_ns: int | None = None
        self.reading_used_bytes: int | None = None
        self.reading_failed: str | None = None
        self._entries: dict[int, Entry] = {}
        self._claims: dict[int, int] = {}
        # Loaded copies that no reading has covered yet.
        self._unsettled: dict[int, Entry] = {}
        # Copies whose memory is on its way back, in the order in which they went.
        self._leaving: dict[int, Entry] = {}
        self._sum = 0
        self._shown = 0
        self._booked_ns = 0
        # Others' use when no copy was here, or the least that was ever believed since.
        self._least_foreign = 0

    @property
    def committed_bytes(self) -> int:
        """Foreign use and every copy's charge."""
        return self.foreign_bytes + self._sum

    @property
    def reserved_bytes(self) -> int:
        """What is set aside for copies that no reading has covered yet."""
        return sum(
            e.charged - (e.peak_bytes if e.active else e.resident_bytes)
            for e in self._entries.values()
            if not e.leaving and not e.settled
        )

    @property
    def doubtful_bytes(self) -> int:
        """What is counted as others' use and came while copies were here: it may be theirs.

        What a copy takes beyond its figure, or keeps after a job, looks like that.
        """
        return self.foreign_bytes - self._least_foreign

    def believe_others(self) -> None:
        """Take all that is counted as others' use for theirs: copies left and it did not."""
        self._least_foreign = self.foreign_bytes

    @property
    def known(self) -> bool:
        """Whether a good reading ever came: before it nothing is admitted."""
        return self.reading_at_ns is not None

    def room_bytes(self) -> int:
        """Return what a newcomer may take now without touching a claim; may be negative."""
        if self.reading_at_ns is None:
            return -1
        room = self.limit_bytes - self.foreign_bytes - self._sum
        if self._claims:
            return min(room, room + self.freeing_bytes - self.claimed_bytes)
        return room

    def room_for_claim(self, number: int) -> int:
        """Return what the owner of a claim may take now: older claims go first."""
        if self.reading_at_ns is None:
            return -1
        older = 0
        for other, claimed in self._claims.items():
            if other == number:
                break
            older += claimed
        return self.limit_bytes - self.foreign_bytes - self._sum - older

    def expected_room_bytes(self) -> int:
        """Return the room once everything that is leaving has left and every claim is served."""
        if self.reading_at_ns is None:
            return -1
        return (
            self.limit_bytes
            - self.foreign_bytes
            - self._sum
            + self.freeing_bytes
            - self.claimed_bytes
        )

    def charge_of(self, number: int) -> int:
        """Return what a copy is charged now, 0 for one without an entry."""
        entry = self._entries.get(number)
        return 0 if entry is None else entry.charged

    # What happens to copies ------------------------------------------------------------------

    def claim(self, number: int, size_bytes: int) -> None:
        """Speak for room that victims of a plan will give back."""
        self.claimed_bytes += size_bytes - self._claims.get(number, 0)
        self._claims[number] = size_bytes

    def unclaim(self, number: int) -> None:
        """Give a claim up, or turn it into a reservation right after."""
        if number in self._claims:
            self.claimed_bytes -= self._claims.pop(number)

    def reserve(self, number: int, size_bytes: int) -> None:
        """Admit a load: charge its whole reservation."""
        self.unclaim(number)
        if size_bytes > self.limit_bytes - self.foreign_bytes - self._sum or not self.known:
            raise InvalidTransitionError(
                f"{self.name}: reserving {size_bytes} bytes for copy {number} exceeds the limit"
            )
        self._entries[number] = Entry(size_bytes)
        self._add(size_bytes)

    def loaded(self, number: int, now_ns: int, resident_bytes: int, peak_bytes: int) -> None:
        """Note that a load ended; the reservation stays until a reading covers it."""
        entry = self._entries[number]
        entry.loaded_ns = now_ns
        entry.resident_bytes = resident_bytes
        entry.peak_bytes = max(peak_bytes, resident_bytes)
        self._unsettled[number] = entry
        self._refresh(entry)

    def activation_bytes(self, number: int) -> int:
        """Return what granting an idle copy would add to the committed bytes."""
        entry = self._entries[number]
        return entry.active_bytes - entry.idle_bytes

    def set_active(self, number: int, active: bool) -> None:
        """Charge the peak while a copy is held, the resident bytes when it is not."""
        entry = self._entries[number]
        entry.active = active
        before = entry.charged
        if active:
            entry.charged = entry.active_bytes
            self.evictable_bytes -= entry.evictable_bytes
            entry.evictable_bytes = 0
        else:
            entry.charged = entry.evictable_bytes = entry.idle_bytes
            self.evictable_bytes += entry.idle_bytes
        if entry.charged != before:
            self._add(entry.charged - before)

    def set_cost(self, number: int, resident_bytes: int, peak_bytes: int) -> None:
        """Take a better figure for a loaded copy."""
        entry = self._entries[number]
        if entry.leaving or entry.loaded_ns is None:
            return
        entry.resident_bytes = resident_bytes
        entry.peak_bytes = max(peak_bytes, resident_bytes)
        self._refresh(entry)

    def start_leaving(self, number: int) -> None:
        """Keep a copy charged, as memory on its way back, until it is seen to be free."""
        entry = self._entries[number]
        lasting = max(entry.resident_bytes, 0 if entry.settled else entry.reserved_bytes)
        entry.leaving = True
        entry.active = False
        self.freeing_bytes += lasting - entry.left_bytes
        entry.left_bytes = lasting
        self._unsettled.pop(number, None)
        self._leaving[number] = entry
        self._refresh(entry)

    def unload_observable(self, number: int, now_ns: int) -> None:
        """Note that an unload ended: from now on a reading may show the memory back."""
        self._entries[number].freed_ns = now_ns

    def gone(self, number: int) -> None:
        """Drop a copy whose memory is certainly back: its process is gone."""
        self.unclaim(number)
        self._drop(number)

    def give_up_on(self, number: int, now_ns: int) -> None:
        """Book what an unloaded copy still seems to hold as foreign use, for later readings."""
        left_bytes = self._drop(number)
        if left_bytes:
            self.foreign_bytes += left_bytes
            self._least_foreign += left_bytes
            self._booked_ns = now_ns

    # What readings say -----------------------------------------------------------------------

    def read(
        self, at_ns: int, used_bytes: int, own_bytes: Mapping[int, int] | None = None
    ) -> list[int]:
        """Take a good reading; return the copies whose memory was now seen to be back.

        Args:
            at_ns: when the query began.
            used_bytes: the device's whole use.
            own_bytes: what of it single copies were seen to hold, by copy number.
        """
        if self.reading_at_ns is not None and at_ns < self.reading_at_ns:
            return []
        self.reading_at_ns = at_ns
        self.reading_used_bytes = used_bytes
        self.reading_failed = None
        least = self._shown
        for entry in self._unsettled.values():
            least += entry.visible(at_ns)[0] - entry.shown_bytes
        freed = self._see_freed(at_ns, used_bytes - least)
        # A settled copy's charge is the most that it shows, as is one's that loads or leaves.
        most = self._sum
        for entry in self._unsettled.values():
            most += entry.visible(at_ns)[1] - entry.charged
        for number, own in (own_bytes or {}).items():
            told = self._entries.get(number)
            if told is not None:
                low, high = told.visible(at_ns)
                point = min(own, told.charged)
                least += point - low
                most += point - high
        lowest, highest = max(0, used_bytes - most), max(0, used_bytes - least)
        if at_ns < self._booked_ns:
            highest = max(highest, self.foreign_bytes)  # it knows nothing of what was booked since
        self.foreign_bytes = foreign = min(max(self.foreign_bytes, lowest), highest)
        if not self._entries or foreign < self._least_foreign:
            self._least_foreign = foreign
        self.peak_committed_bytes = max(self.peak_committed_bytes, self.committed_bytes)
        return freed

    def reading_fails(self, reason: str) -> None:
        """Note that a reading failed: the last good one stands."""
        self.reading_failed = reason

    def unsettled(self) -> list[int]:
        """Return the loaded copies that no reading has covered yet."""
        return list(self._unsettled)

    def covers(self, number: int, at_ns: int | None = None) -> bool:
        """Say whether a reading (the last good one) was begun after this copy's load had ended."""
        loaded_ns = self._entries[number].loaded_ns
        begun_ns = self.reading_at_ns if at_ns is None else at_ns
        return loaded_ns is not None and begun_ns is not None and begun_ns >= loaded_ns

    def settle(self, number: int) -> None:
        """End a reservation that a reading has covered."""
        entry = self._entries[number]
        entry.settled = True
        self._unsettled.pop(number, None)
        self._refresh(entry)

    def _see_freed(self, at_ns: int, beside_bytes: int) -> list[int]:
        """Take what a reading shows beside the loaded copies for what has not come back yet."""
        still_there = max(0, beside_bytes - self.foreign_bytes)
        freed: list[int] = []
        for number, entry in self._leaving.items():
            if entry.freed_ns is None or at_ns < entry.freed_ns:
                continue
            left = min(entry.left_bytes, still_there)
            still_there -= left
            self.freeing_bytes -= entry.left_bytes - left
            entry.left_bytes = left
            self._refresh(entry)
            if left == 0:
                freed.append(number)
        for number in freed:
            self._drop(number)
        return freed

    def _drop(self, number: int) -> int:
        """Take a copy's line out; return what of it was still on its way back."""
        entry = self._entries.pop(number, None)
        if entry is None:
            return 0
        self._unsettled.pop(number, None)
        self._leaving.pop(number, None)
        self._shown -= entry.shown_bytes
        self.evictable_bytes -= entry.evictable_bytes
        self.freeing_bytes -= entry.left_bytes
        self._add(-entry.charged)
        return entry.left_bytes

    def _refresh(self, entry: Entry) -> None:
        before, evictable, shown = entry.charged, entry.evictable_bytes, entry.shown_bytes
        entry.refresh()
        self.evictable_bytes += entry.evictable_bytes - evictable
        self._shown += entry.shown_bytes - shown
        self._add(entry.charged - before)

    def _add(self, change_bytes: int) -> None:
        self._sum += change_bytes
        committed_bytes = self.foreign_bytes + self._sum
        if committed_bytes > self.peak_committed_bytes:  # noqa: PLR1730 - twice as fast as max()
            self.peak_committed_bytes = committed_bytes

    def check_valid(self) -> None:
        """Raise AssertionError where a line of the ledger is wrong."""
        charges = {n: entry.charge(entry.active) for n, entry in self._entries.items()}
        evictable = sum(
            charges[n]
            for n, e in self._entries.items()
            if e.loaded_ns is not None and not e.active and not e.leaving
        )
        assert evictable == self.evictable_bytes, f"{self.name}: evictable drifted"  # noqa: S101
        freeing = sum(entry.left_bytes for entry in self._entries.values() if entry.leaving)
        assert freeing == self.freeing_bytes, f"{self.name}: what is leaving drifted"  # noqa: S101
        unsettled = {
            n
            for n, e in self._entries.items()
            if e.loaded_ns is not None and not e.settled and not e.leaving
        }
        assert unsettled == set(self._unsettled), f"{self.name}: who settles is not known"  # noqa: S101
        leaving = {n for n, entry in self._entries.items() if entry.leaving}
        assert leaving == set(self._leaving), f"{self.name}: who leaves is not known"  # noqa: S101
        shown = sum(
            e.resident_bytes
            for e in self._entries.values()
            if e.loaded_ns is not None and not e.leaving
        )
        assert shown == self._shown, f"{self.name}: what readings show drifted"  # noqa: S101
        assert self.claimed_bytes == sum(self._claims.values()), f"{self.name}: claims drifted"  # noqa: S101
        kept = {n: entry.charged for n, entry in self._entries.items()}
        assert charges == kept, f"{self.name}: a charge was not kept up"  # noqa: S101
        assert sum(charges.values()) == self._sum, f"{self.name}: the sum drifted"  # noqa: S101
        assert all(c >= 0 for c in charges.values()), f"{self.name}: negative"  # noqa: S101
        assert self.foreign_bytes >= 0, f"{self.name}: foreign is negative"  # noqa: S101
        assert all(c >= 0 for c in self._claims.values()), f"{self.name}: claim"  # noqa: S101

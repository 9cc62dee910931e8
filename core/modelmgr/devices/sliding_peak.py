"""The largest figure of the last so many seconds, in constant time. Pure: time is passed in."""

from __future__ import annotations

from collections import deque


class SlidingPeak:
    """The maximum over a sliding window, by a queue that holds falling values only.

    Each value enters and leaves once, so adding and asking are O(1) amortised (the classical
    monotonic queue). Not thread-safe.
    """

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self._falling: deque[tuple[int, int]] = deque()

    def add(self, at_ns: int, value: int) -> None:
        """Add a value; times must not go back."""
        while self._falling and self._falling[-1][1] <= value:
            self._falling.pop()
        self._falling.append((at_ns, value))

    def peak(self, now_ns: int) -> int | None:
        """Return the largest value of the window that ends now; None where there is none."""
        while self._falling and self._falling[0][0] < now_ns - self._window_ns:
            self._falling.popleft()
        return self._falling[0][1] if self._falling else None

    def clear(self) -> None:
        """Forget every value."""
        self._falling.clear()

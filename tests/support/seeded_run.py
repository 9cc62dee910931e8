"""One long random run of the scheduler from a seed, as a log of its decisions.

Run as a script with a seed and a number of events, it prints the log: a test compares what several
interpreters print. Every event goes through ``VirtualDriver`` and is checked there. A run keeps
what it drew, so that one that breaks a promise can be played again and shrunk.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate
from random import Random

from support.random_events import Event, Player, World, drawn

# What no seed leaves out: without these little happens at all.
_ALWAYS = ("request", "release", "load_ends", "unload_ends", "read", "wait", "restart")


class SeededRun:
    """Draws events from a seed.

    Every seed leaves some kinds of events out and has more of others, as what many kinds together
    hide shows where they are few (Groce et al., *Swarm Testing*, ISSTA 2012).
    """

    def __init__(self, seed: int, *, steady: bool = True) -> None:
        self._draw = draw = Random(seed)
        self.world = World.draw(draw, steady=steady)
        self.player = Player(self.world)
        self.driver = self.player.driver
        self.events: list[Event] = []
        self.happened: Counter[str] = Counter()
        table = drawn(draw)
        self._kinds = list(table)
        self._numbers: list[Callable[[], Sequence[int | None]]] = [
            numbers for _, numbers in table.values()
        ]
        weights = [
            weight * (draw.choice([0.5, 1, 2]) if kind in _ALWAYS else draw.choice([0, 0.3, 1, 3]))
            for kind, (weight, _) in table.items()
        ]
        self._weights = list(accumulate(weights))
        self._after_the_end = 0

    def step(self) -> None:
        """Let one event happen: draw until there is one that can."""
        if self.driver.scheduler.closed:
            self._after_the_end += 1
            if self._after_the_end > 40:  # little happens any more
                self._after_the_end = 0
                self._play(("restart", 1))
                return
        while True:
            (place,) = self._draw.choices(range(len(self._kinds)), cum_weights=self._weights)
            if self._play((self._kinds[place], *self._numbers[place]())):
                return

    def _play(self, event: Event) -> bool:
        self.events.append(event)
        if self.player.play(event):
            self.happened[str(event[0])] += 1
            return True
        self.events.pop()
        return False

    def end(self) -> None:
        """Drain everything."""
        self.player.end()

    def checks(self) -> Counter[str]:
        """Return how often each promise was checked."""
        return self.driver.checks

    def log(self) -> str:
        """Return all decisions, one a line."""
        return "\n".join(map(repr, self.driver.log))


def run(seed: int, events: int, *, steady: bool = True) -> str:
    """Return the decision log of a run that was drained at its end."""
    seeded = SeededRun(seed, steady=steady)
    for _ in range(events):
        seeded.step()
    seeded.end()
    return seeded.log()


if __name__ == "__main__":
    sys.stdout.write(run(int(sys.argv[1]), int(sys.argv[2])))

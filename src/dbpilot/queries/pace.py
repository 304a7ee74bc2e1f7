"""How much slower does the database answer than at its best?

Statements differ, so each pattern is compared with itself: its mean time now with the lowest it ever had over as many
executions. That lowest one is forgotten slowly, so a table that grows does not look like a busy database for ever.
"""

from typing import Final

MIN_CALLS: Final = 20
"""Executions over which a mean is taken; fewer say little."""
AGING: Final = 1.002
"""By so much the best time is raised with each mean: it doubles in about 350 of them."""
MAX_PATTERNS: Final = 1000


class Pace:
    """One thread at a time may use it."""

    def __init__(self) -> None:
        self._now: dict[str, tuple[int, float]] = {}
        """Executions since the last mean, and their time in seconds."""
        self._best: dict[str, float] = {}

    def add(self, pattern_id: str, execute_s: float) -> None:
        """An execution succeeded."""
        calls, total_s = self._now.get(pattern_id, (0, 0.0))
        if calls or len(self._now) < MAX_PATTERNS:
            self._now[pattern_id] = calls + 1, total_s + execute_s

    def slowdown(self) -> float | None:
        """How many times longer statements took than at their best, since the last time that this was asked; None
        where none ran often enough.

        Each pattern counts by the time that it takes.
        """
        means = {id_: (calls, total_s) for id_, (calls, total_s) in self._now.items() if calls >= MIN_CALLS}
        if len(self._now) >= MAX_PATTERNS:  # many rare ones, which would keep out those that come often
            self._now.clear()
        if not means:
            return None
        took_s = at_best_s = 0.0
        for id_, (calls, total_s) in means.items():
            mean_s = total_s / calls
            best_s = min(mean_s, AGING * self._best.get(id_, mean_s))
            self._best[id_] = best_s
            took_s += total_s
            at_best_s += calls * best_s
            self._now.pop(id_, None)
        if len(self._best) > MAX_PATTERNS:
            self._best = {id_: self._best[id_] for id_ in means}
        return took_s / at_best_s if at_best_s > 0 else None

"""How often somebody may ask: a bucket of tokens for each caller, in this process."""

import math
from collections import OrderedDict
from threading import Lock
from typing import Final

from dbpilot.clock import Clock

MAX_CALLERS: Final = 1000
"""Callers remembered at once; those who asked last."""


class Limits:
    """Lets each caller ask ``per_minute`` times at once, and then at that pace."""

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._full = float(per_minute)
        self._per_s = per_minute / 60
        self._clock = clock
        self._lock = Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By caller, how many tokens were left and when."""

    def take(self, who: str) -> int:
        """0, and a token less; or after how many whole seconds there is one again."""
        with self._lock:
            now = self._clock.ticks()
            left, then = self._left.pop(who, (self._full, now))
            left = min(self._full, left + (now - then) * self._per_s)
            wait_s = math.ceil((1 - left) / self._per_s) if left < 1 else 0
            self._left[who] = (left if wait_s else left - 1, now)
            if len(self._left) > MAX_CALLERS:
                self._left.popitem(last=False)
            return wait_s

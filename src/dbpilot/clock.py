"""The time of day and the stopwatch; nobody else asks what time it is."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells instants and durations; tests bring their own."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""

    def ticks(self) -> float:
        """Seconds of a stopwatch that never runs backwards; only differences mean anything."""


class SystemClock:
    """The machine's clock."""

    ticks = staticmethod(time.perf_counter)

    def now(self) -> datetime:
        return datetime.now(UTC)


SYSTEM = SystemClock()

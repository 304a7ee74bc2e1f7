"""Stand-ins for time, so that a test decides how it passes."""

from datetime import UTC, datetime, timedelta


class FakeClock:
    """A clock that moves only when it is told to."""

    def __init__(self, start: datetime = datetime(2025, 1, 31, 9, 0, tzinfo=UTC)) -> None:
        self._now = start
        self._ticks = 0.0

    def now(self) -> datetime:
        return self._now

    def ticks(self) -> float:
        return self._ticks

    def advance(self, seconds: float) -> None:
        """So many seconds have passed."""
        self._now += timedelta(seconds=seconds)
        self._ticks += seconds

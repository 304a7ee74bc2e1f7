"""Has connections open before they are asked for: learns the day's shape from the history, and looks ahead."""

import math
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from typing import Final

from dbpilot.errors import StoreError
from dbpilot.pool.forecast import LEVEL_MINUTES, Demand, Expectation, Profile, Value, demand_of, forecast, learned
from dbpilot.pool.sample import PoolSample

LEARNED_FROM: Final = timedelta(days=28)
LEARN_EVERY: Final = timedelta(hours=1)
RETRY_AFTER: Final = timedelta(minutes=1)
"""When the history could not be read."""
LOOK_EVERY: Final = timedelta(seconds=10)
AHEAD_S: Final = 120.0
"""Long enough to open a pool, however slowly the server lets it; short enough to close it again soon."""
HEADROOM: Final = 1.1
"""A median lies low: half of all days need more."""

Remembered = Callable[[datetime, datetime], list[Value]]
"""What the history has of all pools by minute; raises StoreError where it cannot be read."""


class Foresight:
    """One thread at a time may use it."""

    def __init__(self, remembered: Remembered, timezone: tzinfo | None) -> None:
        """Knows nothing yet; ``timezone`` is that of the clock which the day's demand follows, None the machine's."""
        self._remembered = remembered
        self._timezone = timezone
        self._profile: Profile | None = None
        self._learn_at: datetime | None = None
        self._look_at: datetime | None = None
        self._recent: deque[Demand] = deque(maxlen=LEVEL_MINUTES + 1)
        self.expected: Expectation | None = None
        """The most connections that are expected soon; None while nothing is known."""

    def note(self, minute: PoolSample) -> None:
        """A minute is over."""
        self._recent.append(Demand(minute.at.replace(second=0, microsecond=0), minute.needed))

    def wanted(self, now: datetime) -> int | None:
        """How many connections should be open; None where nothing has changed since it was last asked."""
        if self._learn_at is None or now >= self._learn_at:
            self._learn(now)
        if self._profile is None or (self._look_at is not None and now < self._look_at):
            return None
        self._look_at = now + LOOK_EVERY
        self.expected = forecast(self._profile, list(self._recent), now, AHEAD_S)
        return math.ceil(HEADROOM * self.expected.connections)

    def _learn(self, now: datetime) -> None:
        try:
            # Day by day: others ask the history as well, and it answers no question that takes long.
            days = [now - LEARNED_FROM + timedelta(days=day) for day in range(LEARNED_FROM.days)]
            values = [value for day in days for value in self._remembered(day, day + timedelta(days=1))]
            profile = learned(demand_of(values), self._timezone)
        except StoreError:  # the history says so itself; what was learned before is still true
            self._learn_at = now + RETRY_AFTER
            return
        self._profile = profile or self._profile
        self._learn_at = now + LEARN_EVERY

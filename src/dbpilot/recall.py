"""Adds up what is remembered: the store, windows on their way to it, and the one being counted; each window once."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from dbpilot.errors import StoreError
from dbpilot.history.historian import Historian
from dbpilot.history.store import Batch, Pattern, SlowQuery, Store, added
from dbpilot.history.tally import Tally
from dbpilot.queries.worker import Worker


@dataclass(frozen=True, slots=True)
class Tallies:
    """What was counted, by pattern id. With an ``error`` the store could not be asked, and its part is missing."""

    tallies: dict[str, Tally]
    patterns: dict[str, Pattern]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SlowOnes:
    """Slow executions, latest first; ``error`` as above."""

    slow: list[SlowQuery]
    patterns: dict[str, Pattern]
    error: str | None = None


class Recall:
    """Answers for a time range, within seconds whatever the store does."""

    def __init__(self, worker: Worker, historian: Historian, store: Store) -> None:
        self._worker = worker
        self._historian = historian
        self._store = store

    def tallies(self, since: datetime, until: datetime) -> Tallies:
        """What was counted in windows that start in [since, until)."""
        try:
            return self._historian.ask(lambda: self._all_tallies(since, until))
        except StoreError as error:
            return replace(self._live_tallies(since, until), error=str(error))

    def slow(self, since: datetime, until: datetime, limit: int) -> SlowOnes:
        """The latest slow executions that ended in [since, until)."""
        try:
            known = self._historian.ask(lambda: self._all_slow(since, until, limit))
        except StoreError as error:
            known = replace(self._live_slow(since, until), error=str(error))
        return replace(known, slow=sorted(known.slow, key=lambda query: query.at, reverse=True)[:limit])

    def _all_tallies(self, since: datetime, until: datetime) -> Tallies:
        live = self._live_tallies(since, until)
        tallies = added([live.tallies, self._store.tallies(since, until)])
        return Tallies(tallies, self._named(tallies.keys(), live.patterns))

    def _live_tallies(self, since: datetime, until: datetime) -> Tallies:
        live = self._live()
        windows = [window for batch in live for window in batch.windows if since <= window.start < until]
        return Tallies(added(window.tallies for window in windows), _patterns(live))

    def _all_slow(self, since: datetime, until: datetime, limit: int) -> SlowOnes:
        live = self._live_slow(since, until)
        slow = [*live.slow, *self._store.slow(since, until, limit)]
        return SlowOnes(slow, self._named((query.pattern_id for query in slow), live.patterns))

    def _live_slow(self, since: datetime, until: datetime) -> SlowOnes:
        live = self._live()
        return SlowOnes([query for batch in live for query in batch.slow if since <= query.at < until], _patterns(live))

    def _named(self, ids: Iterable[str], known: dict[str, Pattern]) -> dict[str, Pattern]:
        return {**self._store.patterns(set(ids) - known.keys()), **known}

    def _live(self) -> list[Batch]:
        """What the store does not have yet: a consistent copy, everything recorded until now included."""
        with self._worker.lock:
            current = self._worker.catch_up().batch()
            windows = [replace(window, tallies=added([window.tallies])) for window in current.windows]
            return [*self._historian.unwritten(), replace(current, windows=windows)]


def _patterns(batches: Iterable[Batch]) -> dict[str, Pattern]:
    return {pattern.id: pattern for batch in batches for pattern in batch.patterns}

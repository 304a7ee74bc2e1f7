"""Adds up what is remembered: the store, windows on their way to it, and the one being counted; each window once."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from dbpilot.errors import StoreError
from dbpilot.history.historian import Historian
from dbpilot.history.store import Batch, Event, Pattern, Store, Window, added, counted, joined, latest, matching
from dbpilot.history.tally import Tally
from dbpilot.history.timeline import MINUTE_S, Timeline, step_length_s, with_live
from dbpilot.queries.worker import Worker


@dataclass(frozen=True, slots=True)
class Tallies:
    """What was counted, by pattern id. With an ``error`` the store could not be asked, and its part is missing."""

    tallies: dict[str, Tally]
    patterns: dict[str, Pattern]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Events:
    """What happened, latest first, and the patterns it is about; ``error`` as above."""

    events: list[Event]
    patterns: dict[str, Pattern]
    error: str | None = None


class Recall:
    """Answers for a time range, within seconds whatever the store does."""

    def __init__(self, worker: Worker, historian: Historian, store: Store) -> None:
        self._worker = worker
        self._historian = historian
        self._store = store

    def tallies(self, since: datetime, until: datetime) -> Tallies:
        """What was counted in windows that start in [since, until); no pattern is looked up yet."""
        try:
            return self._historian.ask(lambda: self._all_tallies(since, until))
        except StoreError as error:
            return replace(self._live_tallies(since, until), error=str(error))

    def timeline(
        self, since: datetime, until: datetime, points: int, ids: Collection[str] = ()
    ) -> tuple[Timeline, str | None]:
        """How it went in that range, and why the store's part of it is missing."""
        try:
            return self._historian.ask(
                lambda: self._with_live(self._store.timeline(since, until, points, ids), since, until, ids)
            ), None
        except StoreError as error:
            step_s = step_length_s((until - since).total_seconds(), points, MINUTE_S)
            return self._with_live(Timeline(step_s, {}), since, until, ids), str(error)

    def named(self, ids: Iterable[str], known: Tallies) -> dict[str, Pattern]:
        """The patterns with these ids: what the store knows of them, and what is on its way there."""
        wanted = set(ids)
        live = {id_: pattern for id_, pattern in known.patterns.items() if id_ in wanted}
        if known.error is not None:
            return live
        try:
            return self._historian.ask(lambda: self._with_stored(wanted, live))
        except StoreError:
            return live

    def events(
        self,
        kind: str,
        since: datetime,
        until: datetime,
        limit: int,
        *,
        key: str | None = None,
        min_value: float | None = None,
    ) -> Events:
        """The latest events of a kind in [since, until)."""
        wanted = partial(matching, kind=kind, since=since, until=until, key=key, min_value=min_value)
        stored = partial(self._store.events, kind, since, until, limit, key=key, min_value=min_value)
        try:
            return self._historian.ask(lambda: self._all_events(wanted, stored, limit))
        except StoreError as error:
            return replace(self._live_events(wanted, limit), error=str(error))

    def _all_tallies(self, since: datetime, until: datetime) -> Tallies:
        live = self._live_tallies(since, until)
        return replace(live, tallies=added([live.tallies, self._store.tallies(since, until)]))

    def _live_tallies(self, since: datetime, until: datetime) -> Tallies:
        live = self._live()
        windows = [window for batch in live for window in batch.windows if since <= window.start < until]
        return Tallies(counted(windows), _patterns(live))

    def _with_live(self, stored: Timeline, since: datetime, until: datetime, ids: Collection[str]) -> Timeline:
        """Inside a question no batch is written: what is live now is not in the store as well."""
        windows = [window for batch in self._live() for window in batch.windows if since <= window.start < until]
        return with_live(stored, [(window.start.timestamp(), window.tallies) for window in windows], ids)

    def _all_events(
        self, wanted: Callable[[list[Event]], list[Event]], stored: Callable[[], list[Event]], limit: int
    ) -> Events:
        """Inside a question no batch is written: what is live now is not in the store as well."""
        live = self._live_events(wanted, limit)
        events = latest([*live.events, *stored()], limit)
        return Events(events, self._with_stored({id_ for event in events for id_ in _named_by(event)}, live.patterns))

    def _live_events(self, wanted: Callable[[list[Event]], list[Event]], limit: int) -> Events:
        batches = self._live()
        return Events(latest(wanted([event for batch in batches for event in batch.events]), limit), _patterns(batches))

    def _with_stored(self, ids: set[str], live: dict[str, Pattern]) -> dict[str, Pattern]:
        stored = self._store.patterns(ids)
        both = {id_: joined(stored[id_], live[id_]) for id_ in stored.keys() & live.keys()}
        return {**stored, **live, **both}

    def _live(self) -> list[Batch]:
        """What the store does not have yet: a consistent copy, everything recorded until now included."""
        self._worker.ensure_alive()
        with self._worker.lock:
            current = self._worker.catch_up().batch()
            windows = [
                Window(window.start, {id_: tally.copy() for id_, tally in window.tallies.items()})
                for window in current.windows
            ]
            return [*self._historian.unwritten(), replace(current, windows=windows)]


def _named_by(event: Event) -> list[str]:
    """The ids of the patterns that an event is about."""
    named = [] if event.pattern_id is None else [event.pattern_id]
    return [*named, *(line["pattern_id"] for line in event.body.get("lines", ()))]


def _patterns(batches: Iterable[Batch]) -> dict[str, Pattern]:
    patterns: dict[str, Pattern] = {}
    for batch in batches:
        for pattern in batch.patterns:
            known = patterns.get(pattern.id)
            patterns[pattern.id] = joined(known, pattern) if known else pattern
    return patterns

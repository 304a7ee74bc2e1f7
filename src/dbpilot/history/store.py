"""Where the history is kept: the Store protocol, and one in memory; ``sql_store`` has the one in a SQL database."""

from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol
from uuid import uuid4

from dbpilot.config import HistoryConfig
from dbpilot.history.block import OTHER_ID as OTHER_ID
from dbpilot.history.block import Block, block_of, unpacked
from dbpilot.history.tally import Tally
from dbpilot.history.timeline import MINUTE_S, Timeline, step_length_s, steps_of

MAX_SOURCES: Final = 5
"""Lines of code remembered per pattern, those sampled most."""
POOL: Final = "pool"
"""Events of this kind are samples of the connection pool, one every ten seconds."""
POOL_MINUTE: Final = "pool-minute"
"""The same, one every minute."""
INDEX_SEEN: Final = "index-seen"
CLEANUP: Final = "cleanup"
"""Events of this kind are cleanings that are over."""
"""Events of this kind hold the names of the indexes that there are, once a day."""
KEPT_POOL: Final = timedelta(hours=26)
"""Samples of ten seconds are shown for a day."""


@dataclass(frozen=True, slots=True)
class Source:
    """A line of the application's code that ran a pattern, as often as it was sampled."""

    callsite: str
    """``shop/orders.py:41``"""
    function: str
    route: str | None
    samples: int


@dataclass(frozen=True, slots=True)
class Pattern:
    """Statements that differ only in their values."""

    id: str
    """Sixteen digits of a hexadecimal number, or OTHER_ID."""
    text: str
    operation: str
    tables: tuple[str, ...]
    sources: tuple[Source, ...] = ()
    """Most samples first."""


@dataclass(frozen=True, slots=True)
class Window:
    """What was counted from ``start`` on for the length of one window, by pattern id."""

    start: datetime
    tallies: dict[str, Tally]


class PackedWindow(Window):
    """A window that has to be kept: its tallies are one block of bytes, unpacked each time they are read.

    A thousand patterns with their histograms are two megabytes of objects, and a tenth of one as a block.
    """

    __slots__ = ("data",)
    data: bytes

    def __init__(self, window: Window) -> None:
        """Keeps what the window counted; it must not change any more."""
        object.__setattr__(self, "start", window.start)
        object.__setattr__(self, "data", block_of(window.tallies).to_bytes(compressed=True))

    @property
    def tallies(self) -> dict[str, Tally]:
        """What was counted, made anew for whoever reads it."""
        return unpacked([self.data])


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened: a slow execution, a request's receipt, an alert."""

    kind: str
    at: datetime
    key: str
    """What it is about: a pattern's id, a request's id."""
    value: float
    """What events of this kind are ranked and filtered by, in seconds where it is a duration."""
    body: Mapping[str, Any]
    """The rest, as JSON can hold it."""
    pattern_id: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What one process adds to the history at once."""

    patterns: Sequence[Pattern] = ()
    """Those that the batch names; known ones may be among them. Their samples are added to the known ones."""
    windows: Sequence[Window] = ()
    events: Sequence[Event] = ()
    id: str = field(default_factory=lambda: uuid4().hex)
    """A batch that is written a second time, because nobody knows whether the first time succeeded, counts once."""


def kept_events(config: HistoryConfig) -> Mapping[str, timedelta]:
    """How long events of a kind are kept where that is not ``keep_events_days``."""
    return {
        POOL: KEPT_POOL,
        POOL_MINUTE: timedelta(days=config.keep_hours_days),
        INDEX_SEEN: timedelta(days=config.keep_days_days),
        CLEANUP: timedelta(days=config.keep_days_days),  # who is told that none went well for weeks needs the last one
    }


class Store(Protocol):
    """Remembers batches and adds them up over any time range; safe to call from several threads."""

    def write(self, batch: Batch) -> None:
        """The batch is remembered whole, once, or StoreError is raised and nothing of it is."""

    def begin(self, since: datetime, until: datetime) -> datetime:
        """The instant from which this range is really added up: where it is long, or so old that only longer sums are
        left, it begins at a full minute, hour or day."""

    def tallies(self, since: datetime, until: datetime) -> dict[str, Tally]:
        """What was counted in windows that start in [begin(since, until), until), by pattern id."""

    def timeline(self, since: datetime, until: datetime, points: int, ids: Collection[str] = ()) -> Timeline:
        """What was counted in that range, in at most so many equal steps; of the patterns with these ids apart, too."""

    def patterns(self, ids: Iterable[str]) -> dict[str, Pattern]:
        """The patterns with these ids, as far as they are known."""

    def events(
        self,
        kind: str,
        since: datetime,
        until: datetime,
        limit: int,
        *,
        key: str | None = None,
        min_value: float | None = None,
    ) -> list[Event]:
        """The events of a kind in [since, until), latest first."""

    def values(self, kind: str, since: datetime, until: datetime) -> list[tuple[datetime, str, float]]:
        """Instant, key and value of the events of a kind in [since, until), oldest first; to read weeks of
        them: without their bodies that takes a sixth of the time."""

    def claim(self, key: str, until: datetime, now: datetime) -> bool:
        """Whether this process alone may act on ``key`` until then.

        It may claim again what it holds; what another process holds is free when its time is over.
        """

    def maintain(self, now: datetime) -> None:
        """What was written is added up for longer ranges, and what is too old is gone."""

    def close(self) -> None:
        """Connections and files are released."""


class MemoryStore:
    """Remembers in this process, for as long as it lives; ``max_events`` of each kind and ``keep`` bound it.

    Samples of the pool are kept as long as in any other store, ``max_events`` allowing: a week of minutes.
    """

    def __init__(self, max_events: int = 10_000, keep: timedelta = timedelta(hours=48)) -> None:
        self._windows: deque[PackedWindow] = deque()
        self._patterns: dict[str, Pattern] = {}
        self._named: dict[str, datetime] = {}
        """When each pattern was named last, by a window or an event."""
        self._events: dict[str, deque[Event]] = {}
        """By kind: samples of the pool, which come all the time, displace no others."""
        self._max_events = max_events
        self._keep = keep
        self._keep_events = kept_events(HistoryConfig())
        self._written: deque[str] = deque(maxlen=1000)

    def write(self, batch: Batch) -> None:
        if batch.id in self._written:
            return
        windows = [packed(window) for window in batch.windows]  # first: what cannot be kept must not half be there
        self._written.append(batch.id)
        for pattern in batch.patterns:
            known = self._patterns.get(pattern.id)
            self._patterns[pattern.id] = joined(known, pattern) if known else pattern
        self._windows.extend(windows)
        for event in batch.events:
            self._events.setdefault(event.kind, deque(maxlen=self._max_events)).append(event)
        self._note_names(batch)

    def _note_names(self, batch: Batch) -> None:
        """Windows that are kept need not be unpacked to know whose texts are still wanted."""
        ids = [*(pattern.id for pattern in batch.patterns), *(e.pattern_id for e in batch.events if e.pattern_id)]
        times = [*(window.start for window in batch.windows), *(event.at for event in batch.events)]
        for id_ in ids if times else ():
            self._named[id_] = max(*times, self._named.get(id_, times[0]))

    def begin(self, since: datetime, until: datetime) -> datetime:  # noqa: ARG002 - the protocol's
        return since

    def tallies(self, since: datetime, until: datetime) -> dict[str, Tally]:
        return unpacked(window.data for window in list(self._windows) if since <= window.start < until)

    def timeline(self, since: datetime, until: datetime, points: int, ids: Collection[str] = ()) -> Timeline:
        step_s = step_length_s((until - since).total_seconds(), points, MINUTE_S)
        windows = [window for window in list(self._windows) if since <= window.start < until]
        blocks = ((window.start.timestamp(), Block.from_bytes(window.data)) for window in windows)
        return Timeline(step_s, steps_of(blocks, step_s, ids))

    def patterns(self, ids: Iterable[str]) -> dict[str, Pattern]:
        return {id_: self._patterns[id_] for id_ in ids if id_ in self._patterns}

    def events(
        self,
        kind: str,
        since: datetime,
        until: datetime,
        limit: int,
        *,
        key: str | None = None,
        min_value: float | None = None,
    ) -> list[Event]:
        known = list(self._events.get(kind, ()))
        return latest(matching(known, kind, since, until, key=key, min_value=min_value), limit)

    def values(self, kind: str, since: datetime, until: datetime) -> list[tuple[datetime, str, float]]:
        known = list(self._events.get(kind, ()))
        found = [(event.at, event.key, event.value) for event in known if since <= event.at < until]
        return sorted(found, key=lambda one: one[0])

    def claim(self, key: str, until: datetime, now: datetime) -> bool:  # noqa: ARG002 - the protocol's
        return True  # there is no other process

    def maintain(self, now: datetime) -> None:
        before = now - self._keep
        while self._windows and self._windows[0].start < before:
            self._windows.popleft()
        for kind, events in list(self._events.items()):
            oldest = now - self._keep_events.get(kind, self._keep)
            while events and events[0].at < oldest:
                events.popleft()
        self._named = {id_: at for id_, at in self._named.items() if at >= before}
        self._patterns = {id_: pattern for id_, pattern in self._patterns.items() if id_ in self._named}

    def close(self) -> None:
        """What is remembered stays for as long as the object does."""


def matching(
    events: Iterable[Event],
    kind: str,
    since: datetime,
    until: datetime,
    *,
    key: str | None = None,
    min_value: float | None = None,
) -> list[Event]:
    """Those of the events that a store would be asked for like this."""
    return [
        event
        for event in events
        if event.kind == kind
        and since <= event.at < until
        and (key is None or event.key == key)
        and (min_value is None or event.value >= min_value)
    ]


def latest(events: Iterable[Event], limit: int) -> list[Event]:
    """At most so many of the events, the latest first."""
    return sorted(events, key=lambda event: event.at, reverse=True)[:limit]


def joined(known: Pattern, new: Pattern) -> Pattern:
    """The pattern with the samples of both."""
    counts = Counter[tuple[str, str, str | None]]()
    for source in (*known.sources, *new.sources):
        counts[source.callsite, source.function, source.route] += source.samples
    return replace(new, sources=tuple(Source(*where, samples) for where, samples in counts.most_common(MAX_SOURCES)))


def packed(window: Window) -> PackedWindow:
    """The window as one that can be kept."""
    return window if isinstance(window, PackedWindow) else PackedWindow(window)


def counted(windows: Iterable[Window]) -> dict[str, Tally]:
    """What all windows counted, by pattern; packed ones are added up as blocks, which is many times faster."""
    some = list(windows)
    plain = [window.tallies for window in some if not isinstance(window, PackedWindow)]
    return added([unpacked(window.data for window in some if isinstance(window, PackedWindow)), *plain])


def added(parts: Iterable[Mapping[str, Tally]]) -> dict[str, Tally]:
    """The sums by pattern; the parts stay as they are, and must not change any more."""
    sums: dict[str, Tally] = {}
    for part in parts:
        for id_, tally in part.items():
            sums.setdefault(id_, Tally()).merge(tally)
    return sums


def described(pattern: Pattern | None, id_: str) -> Pattern:
    """The pattern, or words for one whose text is not known."""
    if pattern is not None:
        return pattern
    text = "all patterns over the limit" if id_ == OTHER_ID else "(forgotten)"
    return Pattern(id_, text, "OTHER", ())

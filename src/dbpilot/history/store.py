"""Where the history is kept: the Store protocol, and one in memory; ``sql_store`` has the one in a SQL database."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from dbpilot.history.tally import Tally

OTHER_ID: Final = "other"
"""The pattern that stands for all those over the limit."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Statements that differ only in their values."""

    id: str
    text: str
    operation: str
    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """What was counted from ``start`` on for the length of one window, by pattern id."""

    start: datetime
    tallies: dict[str, Tally]


@dataclass(frozen=True, slots=True)
class SlowQuery:
    """One execution that reached the threshold; ``at`` is its end."""

    at: datetime
    pattern_id: str
    duration_s: float
    rows: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What one process adds to the history at once."""

    patterns: Sequence[Pattern] = ()
    """Those that the batch names; known ones may be among them."""
    windows: Sequence[Window] = ()
    slow: Sequence[SlowQuery] = ()


class Store(Protocol):
    """Remembers batches and adds them up over any time range; safe to call from several threads."""

    def write(self, batch: Batch) -> None:
        """The batch is remembered whole, or StoreError is raised and nothing of it is."""

    def tallies(self, since: datetime, until: datetime) -> dict[str, Tally]:
        """What was counted in windows that start in [since, until), by pattern id."""

    def patterns(self, ids: Iterable[str]) -> dict[str, Pattern]:
        """The patterns with these ids, as far as they are known."""

    def slow(self, since: datetime, until: datetime, limit: int) -> list[SlowQuery]:
        """The slow statements that ended in [since, until), latest first."""

    def forget(self, before: datetime) -> None:
        """Windows and slow statements before that instant are gone."""

    def close(self) -> None:
        """Connections and files are released."""


class MemoryStore:
    """Remembers in this process, for as long as it lives; bounded by ``max_slow`` and by :meth:`forget`."""

    def __init__(self, max_slow: int = 10_000) -> None:
        self._windows: deque[Window] = deque()
        self._patterns: dict[str, Pattern] = {}
        self._slow: deque[SlowQuery] = deque(maxlen=max_slow)

    def write(self, batch: Batch) -> None:
        self._patterns.update((pattern.id, pattern) for pattern in batch.patterns)
        self._windows.extend(batch.windows)
        self._slow.extend(batch.slow)

    def tallies(self, since: datetime, until: datetime) -> dict[str, Tally]:
        return added(window.tallies for window in list(self._windows) if since <= window.start < until)

    def patterns(self, ids: Iterable[str]) -> dict[str, Pattern]:
        return {id_: self._patterns[id_] for id_ in ids if id_ in self._patterns}

    def slow(self, since: datetime, until: datetime, limit: int) -> list[SlowQuery]:
        found = [query for query in list(self._slow) if since <= query.at < until]
        return sorted(found, key=lambda query: query.at, reverse=True)[:limit]

    def forget(self, before: datetime) -> None:
        while self._windows and self._windows[0].start < before:
            self._windows.popleft()
        while self._slow and self._slow[0].at < before:
            self._slow.popleft()
        named = {id_ for window in self._windows for id_ in window.tallies} | {query.pattern_id for query in self._slow}
        self._patterns = {id_: pattern for id_, pattern in self._patterns.items() if id_ in named}

    def close(self) -> None:
        """What is remembered stays for as long as the object does."""


def added(parts: Iterable[dict[str, Tally]]) -> dict[str, Tally]:
    """The sums by pattern; the parts stay as they are."""
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

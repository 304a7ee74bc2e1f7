"""Counts what a server counted itself, for a database whose application nobody watches: the differences between two
reads of its statistics go where an application's statements go.

A server tells how often a pattern ran and how long that took in all, not how long each time. Of executions between two
reads nothing but the mean is known, and they are counted as if each had taken that long: totals and means are right,
percentiles are those of the means.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Event, Thread
from typing import Final

from dbpilot.dialects.base import ServerStatement
from dbpilot.errors import WatchedDatabaseError
from dbpilot.history.store import Pattern
from dbpilot.history.tally import Tally, bucket_of
from dbpilot.sql.fingerprint import fingerprint, pattern_tokens
from dbpilot.sql.syntax import Syntax
from dbpilot.sql.tables import tables_of
from dbpilot.unsupported import Unsupported

log = logging.getLogger(__name__)

MOST: Final = 10_000
"""As many patterns as servers tell apart unless they are told to: pg_stat_statements 5,000, MariaDB 10,000."""
STOP_S: Final = 5.0
WORK: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "TRUNCATE", "CALL"})
SYSTEM_TABLE: Final = re.compile(r"(?:.*\.)?pg_\w+|(?:information_schema|performance_schema|mysql|sys)\..*", re.I)
"""What is asked of these is somebody's monitoring, ours among it."""
PROBE: Final = re.compile(
    r"@ ?@|\b(?:current_schema|current_setting|set_config|pg_\w+|version|schema|database)\b", re.I
)
"""What drivers ask when they connect names no table, and one of these."""
ERROR: Final = "counted by the server"


@dataclass(frozen=True, slots=True)
class Counted:
    """What ran of one pattern between two reads."""

    statement: ServerStatement
    calls: int
    total_s: float
    rows: int
    errors: int

    def tally(self, at: datetime, slow_s: float) -> Tally:
        """The same as an application's executions are counted; each took the mean of all."""
        mean_s = self.total_s / self.calls
        tally = Tally(self.calls, self.calls if mean_s >= slow_s else 0, self.rows, self.total_s)
        tally.min_s = tally.max_s = mean_s
        tally.last_seen = at
        tally.histogram.count(bucket_of(mean_s), self.calls)
        if self.errors:
            tally.errors[ERROR] = self.errors
        return tally


def differences(
    before: Mapping[str, ServerStatement], after: Sequence[ServerStatement], *, is_whole: bool = True
) -> Iterator[Counted]:
    """What ran between two reads, the first one by digest.

    A server that forgot what it had counted, or began anew, has counted from zero since. Where a read is not the whole
    (``is_whole``), a digest that is new to it may be an old one, and counts from the next read on.
    """
    for now in after:
        known = before.get(now.digest)
        if known is None and not is_whole:
            continue
        since = known if known is not None and now.calls >= known.calls else None
        calls = now.calls - (since.calls if since else 0)
        if calls > 0:
            total_s = max(0.0, now.total_s - (since.total_s if since else 0.0))
            rows = max(0, now.rows - (since.rows if since else 0))
            errors = max(0, (now.errors or 0) - ((since.errors or 0) if since else 0))
            yield Counted(now, calls, total_s, rows, min(errors, calls))


def pattern_of(statement: ServerStatement, syntax: Syntax) -> Pattern | None:
    """The statement's pattern; None for what is no work of an application's: transactions, settings, monitoring."""
    operation = fingerprint(statement.query, syntax).operation
    tables = tables_of(pattern_tokens(statement.query, syntax))
    if operation not in WORK or _is_about_the_server(statement.query, tables):
        return None
    return Pattern(statement.pattern_id, statement.query, operation, tables)


def _is_about_the_server(query: str, tables: Sequence[str]) -> bool:
    if not tables:
        return PROBE.search(query) is not None
    return all(SYSTEM_TABLE.fullmatch(name) for name in tables)


class ServerSide:
    """Reads a server's statistics regularly between :meth:`start` and :meth:`stop`."""

    def __init__(
        self,
        read: Callable[[int], list[ServerStatement] | Unsupported],
        count: Callable[[Sequence[Counted]], None],
        every_s: float,
    ) -> None:
        """Nothing is read yet. ``read`` asks for at most so many patterns; ``count`` takes what ran."""
        self._read = read
        self._count = count
        self._every_s = every_s
        self._known: dict[str, ServerStatement] | None = None
        self._was_whole = True
        self._stopping = Event()
        self._thread: Thread | None = None
        self.failures = 0
        self.silence: Unsupported | None = None
        """Why the server tells nothing, where it does not."""

    def start(self) -> None:
        """The thread runs; what ran before is not counted."""
        self._stopping = Event()
        thread = Thread(target=self._run, args=(self._stopping,), name="dbpilot-server-side", daemon=True)
        thread.start()
        self._thread = thread

    def stop(self) -> None:
        """The last differences are counted, and the thread has ended."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_S)
            self._thread = None

    def look(self) -> None:
        """What ran since the last look is counted; the first one only remembers.

        Raises:
            WatchedDatabaseError: the server does not answer.
        """
        found = self._read(MOST)
        self.silence = found if isinstance(found, Unsupported) else None
        if isinstance(found, Unsupported):
            self._known = None
            return
        if self._known is not None:
            self._count(list(differences(self._known, found, is_whole=self._was_whole)))
        self._known = {one.digest: one for one in found}
        self._was_whole = len(found) < MOST

    def _run(self, stopping: Event) -> None:
        while True:
            self._look_silently()
            if stopping.wait(self._every_s):
                break
        self._look_silently()

    def _look_silently(self) -> None:
        try:
            self.look()
        except WatchedDatabaseError as error:
            self._note(str(error))
        except Exception as error:  # noqa: BLE001 - the border to drivers and their surprises
            self._note(type(error).__name__)

    def _note(self, what: str) -> None:
        if not self.failures:  # once: it comes with every look while the server is down
            log.warning("the server's own statistics could not be read: %s", what)
        self.failures += 1

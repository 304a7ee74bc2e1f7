"""What the server counted beside what the application counted."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from dbpilot.dialects.base import ServerStatement
from dbpilot.history.store import Pattern
from dbpilot.history.tally import Tally
from dbpilot.unsupported import Unsupported


@dataclass(frozen=True, slots=True)
class ServerLine:
    """One pattern as the server counted it since it began to count, and as this application did since ``since``."""

    pattern_id: str
    query: str
    digests: tuple[str, ...]
    """The server's own names: it tells apart what to us is one pattern."""
    server_calls: int
    server_total_s: float
    server_rows: int
    server_rows_examined: int | None
    server_errors: int | None
    application_calls: int
    """Zero: all of it comes from elsewhere, or was long ago."""
    application_total_s: float


@dataclass(frozen=True, slots=True)
class ServerReport:
    """The server's patterns, most time first, or why there are none."""

    since: datetime
    until: datetime
    statements: list[ServerLine] | Unsupported


def server_report(
    since: datetime,
    until: datetime,
    found: list[ServerStatement] | Unsupported,
    tallies: Mapping[str, Tally],
    patterns: Mapping[str, Pattern],
) -> ServerReport:
    """Both counts joined by the statement: one pattern of ours may be several of the server's."""
    if isinstance(found, Unsupported):
        return ServerReport(since, until, found)
    ours = {_loosely(pattern.text): pattern for pattern in patterns.values()}
    by_text: dict[str, list[ServerStatement]] = {}
    for statement in found:
        by_text.setdefault(_loosely(statement.query), []).append(statement)
    lines = [_line(some, ours.get(text), tallies) for text, some in by_text.items()]
    return ServerReport(since, until, sorted(lines, key=lambda line: line.server_total_s, reverse=True))


def _loosely(text: str) -> str:
    """The statement without what servers write in their own way: MariaDB quotes every name and spreads the dots."""
    return re.sub(r"[\s`\"]", "", text).replace("...", "?").lower()


def _line(some: list[ServerStatement], pattern: Pattern | None, tallies: Mapping[str, Tally]) -> ServerLine:
    tally = tallies.get(pattern.id, Tally()) if pattern else Tally()
    return ServerLine(
        pattern_id=pattern.id if pattern else some[0].pattern_id,
        query=pattern.text if pattern else some[0].query,
        digests=tuple(statement.digest for statement in some),
        server_calls=sum(statement.calls for statement in some),
        server_total_s=sum(statement.total_s for statement in some),
        server_rows=sum(statement.rows for statement in some),
        server_rows_examined=_sum([statement.rows_examined for statement in some]),
        server_errors=_sum([statement.errors for statement in some]),
        application_calls=tally.calls,
        application_total_s=tally.total_s,
    )


def _sum(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None

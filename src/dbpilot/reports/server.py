"""What the server counted beside what the application counted."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from dbpilot.dialects.base import ServerStatement
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
    since: datetime, until: datetime, found: list[ServerStatement] | Unsupported, tallies: Mapping[str, Tally]
) -> ServerReport:
    """Both counts joined by our pattern: one of ours may be several of the server's."""
    if isinstance(found, Unsupported):
        return ServerReport(since, until, found)
    by_pattern: dict[str, list[ServerStatement]] = {}
    for statement in found:
        by_pattern.setdefault(statement.pattern_id, []).append(statement)
    lines = [_line(id_, some, tallies.get(id_, Tally())) for id_, some in by_pattern.items()]
    return ServerReport(since, until, sorted(lines, key=lambda line: line.server_total_s, reverse=True))


def _line(id_: str, some: list[ServerStatement], tally: Tally) -> ServerLine:
    return ServerLine(
        pattern_id=id_,
        query=some[0].query,
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

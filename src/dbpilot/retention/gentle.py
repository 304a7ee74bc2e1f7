"""When a cleaning waits, so that the application does not."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from dbpilot.retention.policy import MAX_BATCH, MIN_BATCH

MOST_GROWTH: Final = 2.0
"""How many times the last batch the next may be: one lucky batch says little."""

AIM: Final = 0.6
"""The share of its time that a batch is meant to take: others' work makes some of them slower than the last."""


@dataclass(frozen=True, slots=True)
class Signs:
    """How the database and the application are; None for what nobody can tell."""

    lag_s: float | None = None
    """How far the slowest replica is behind."""
    running: int | None = None
    """Statements at work, ours left out."""
    lock_waits: int | None = None
    """Statements that wait for a lock."""
    p95_s: float | None = None
    """The application's."""


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a cleaning waits; None for never."""

    lag_s: float | None = 1.0
    running: int | None = 25
    lock_waits: int | None = 5
    p95_s: float | None = None


def pause_reason(signs: Signs, limits: Limits) -> str | None:
    """Why a cleaning has to wait now; None when it need not."""
    comparisons = (
        (signs.lag_s, limits.lag_s, "a replica is {:.1f} s behind, more than {:g}"),
        (signs.running, limits.running, "{} statements are at work, more than {}"),
        (signs.lock_waits, limits.lock_waits, "{} statements wait for a lock, more than {}"),
        (signs.p95_s, limits.p95_s, "the application's p95 is {:.3f} s, more than {:g}"),
    )
    for sign, limit, words in comparisons:
        if sign is not None and limit is not None and sign > limit:
            return words.format(sign, limit)
    return None


def next_size(size: int, took_s: float, target_s: float, least: int = MIN_BATCH) -> int:
    """Rows of the next batch, so that it hardly takes longer than it should."""
    factor = min(MOST_GROWTH, AIM * target_s / took_s) if took_s > 0 else MOST_GROWTH
    return max(min(least, MIN_BATCH), min(MAX_BATCH, int(size * factor)))


POSTGRESQL_SIGNS: Final = sa.text(
    """SELECT (SELECT max(extract(epoch FROM replay_lag)) FROM pg_stat_replication),
    count(*) FILTER (WHERE state = 'active'), count(*) FILTER (WHERE state = 'active' AND wait_event_type = 'Lock')
    FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"""
)
MYSQL_RUNNING: Final = sa.text(
    """SELECT count(*) FROM information_schema.processlist
    WHERE command IN ('Query', 'Execute') AND id <> connection_id()"""
)
MYSQL_LOCK_WAITS: Final = sa.text("SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'")


def read_signs(
    connection: sa.Connection,
    lag_s: Callable[[], float | None] | None = None,
    p95_s: Callable[[], float | None] | None = None,
) -> Signs:
    """How the database is now, and the application, if ``p95_s`` tells.

    A replica's lag is known to PostgreSQL's primary; a MariaDB primary does not know, so ``lag_s`` is asked instead
    where it is given. What the account may not see is None.
    """
    lag, running, waits = READERS.get(connection.dialect.name, _nothing)(connection)
    return Signs(lag if lag_s is None else lag_s(), running, waits, None if p95_s is None else p95_s())


def _nothing(_: sa.Connection) -> tuple[float | None, int | None, int | None]:
    return None, None, None


def _postgresql(connection: sa.Connection) -> tuple[float | None, int | None, int | None]:
    row = _asked(connection, POSTGRESQL_SIGNS)
    return (None if row[0] is None else float(row[0]), row[1], row[2]) if row else (None, None, None)


def _mysql(connection: sa.Connection) -> tuple[float | None, int | None, int | None]:
    running, waits = _asked(connection, MYSQL_RUNNING), _asked(connection, MYSQL_LOCK_WAITS)
    return None, running[0] if running else None, waits[0] if waits else None


def _asked(connection: sa.Connection, question: sa.TextClause) -> Any:
    """The answer's row; None when the account may not ask."""
    try:
        with connection.begin_nested():
            return connection.execute(question).one()
    except SQLAlchemyError:
        if connection.invalidated:
            raise
        return None


READERS: Final[dict[str, Callable[[sa.Connection], tuple[float | None, int | None, int | None]]]] = {
    "postgresql": _postgresql,
    "mysql": _mysql,
    "mariadb": _mysql,
}

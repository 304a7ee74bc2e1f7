"""PostgreSQL: CONCURRENTLY, which waits for others and never makes them wait, but leaves an INVALID index behind when
it fails (https://www.postgresql.org/docs/current/sql-createindex.html)."""

import re
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, DropIndex

from dbpilot.dialects.ddl import Hindrances, Limits, Look, asked, quoted, too_little_space, written
from dbpilot.unsupported import Unsupported

MS_PER_S: Final = 1000
DEFINITION: Final = re.compile(r"CREATE (UNIQUE )?INDEX (?!CONCURRENTLY )")
SETTINGS: Final = sa.text(
    """SELECT set_config('lock_timeout', :ms, false), set_config('statement_timeout', '0', false),
    set_config('max_parallel_maintenance_workers', '0', false)"""
)
PROGRESS: Final = sa.text(
    """SELECT phase, CASE WHEN blocks_total > 0 THEN blocks_done::float / blocks_total
        WHEN tuples_total > 0 THEN tuples_done::float / tuples_total END
    FROM pg_stat_progress_create_index WHERE pid = :pid"""
)
BROKEN: Final = sa.text(
    """SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = to_regclass(:name) AND NOT (i.indisvalid AND i.indisready)
    AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.relation = i.indrelid AND l.granted
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND l.mode = 'ShareUpdateExclusiveLock' AND l.pid <> pg_backend_pid()
        AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND a.backend_type = 'autovacuum worker'))"""
)
STANDBY: Final = sa.text("SELECT pg_is_in_recovery()")
OLDEST: Final = sa.text(
    """SELECT count(*), max(extract(epoch FROM clock_timestamp() - began)) FROM (
        SELECT xact_start AS began FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
        UNION ALL SELECT prepared FROM pg_prepared_xacts WHERE database = current_database()
    ) t WHERE began < clock_timestamp() - make_interval(secs => :age)"""
)
LAG: Final = sa.text("SELECT max(extract(epoch FROM replay_lag)) FROM pg_stat_replication")
WAITS: Final = sa.text(
    """SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND state = 'active' AND wait_event_type = 'Lock'"""
)
FOLDER: Final = sa.text("SELECT current_setting('data_directory')")


class PostgreSqlDdl:
    """See :class:`dbpilot.dialects.ddl.Ddl`."""

    passing = frozenset({"55P03", "40P01", "40001"})
    interrupted = frozenset({"57014"})
    taken = frozenset({"42P07"})
    poll_s = 0.2
    transactional = False

    def hides(self, _dialect: sa.Dialect) -> Unsupported | None:
        """It has no such switch."""
        return Unsupported(
            "PostgreSQL cannot hide an index from its optimizer", "keep the statement that makes it anew: the undo"
        )

    def create(self, dialect: sa.Dialect, index: sa.Index, *, hidden: bool) -> str:  # noqa: ARG002 - the role's
        """CREATE INDEX CONCURRENTLY."""
        index.dialect_options["postgresql"]["concurrently"] = True
        return written(dialect, CreateIndex(index))

    def again(self, _dialect: sa.Dialect, definition: str) -> str:
        """The server's own definition, made CONCURRENTLY."""
        return DEFINITION.sub(lambda found: f"{found[0]}CONCURRENTLY ", definition, count=1)

    def drop(self, dialect: sa.Dialect, index: sa.Index) -> str:
        """DROP INDEX CONCURRENTLY."""
        index.dialect_options["postgresql"]["concurrently"] = True
        return written(dialect, DropIndex(index))

    def rebuild(self, dialect: sa.Dialect, index: sa.Index) -> str:
        """REINDEX CONCURRENTLY, which serves a constraint's index as well."""
        return f"REINDEX INDEX CONCURRENTLY {quoted(dialect, index)}"

    def hide(self, dialect: sa.Dialect, index: sa.Index, *, hidden: bool) -> str:
        """There is no such statement."""
        raise NotImplementedError("see hides()")

    def analyze(self, connection: sa.Connection, index: sa.Index) -> tuple[str, ...]:
        """A sample of the table is read; an index on an expression has no statistics before that."""
        return () if index.table is None else (f"ANALYZE {quoted(connection.dialect, index.table)}",)

    def limit(self, connection: sa.Connection, wait_s: float, patience_s: float) -> None:  # noqa: ARG002 - see patience
        """Nobody waits behind a build, which only keeps VACUUM away; no limit of the application's ends it; and it
        takes one processor, not all."""
        connection.execute(SETTINGS, {"ms": str(int(patience_s * MS_PER_S))})

    def backend(self, connection: sa.Connection) -> int | None:
        """The process's number."""
        return int(connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one())

    def look(self, connection: sa.Connection, backend: int) -> Look | None:
        """What pg_stat_progress_create_index says; of other statements, nothing but that they run."""
        row = asked(connection, PROGRESS, pid=backend)
        return Look("at work") if row is None else Look(str(row[0]), row[1])

    def stop(self, connection: sa.Connection, backend: int, _look: Look) -> None:
        """The connection does one statement after another, and the caller stops in between."""
        connection.execute(sa.text("SELECT pg_cancel_backend(:pid)"), {"pid": backend})

    def broken(self, connection: sa.Connection, table: sa.Table) -> tuple[str, ...]:
        """Those that are not valid while nobody holds the lock that a build holds."""
        return tuple(connection.scalars(BROKEN, {"name": quoted(connection.dialect, table)}))

    def hindrances(
        self, connection: sa.Connection, _table: sa.Table, size_bytes: float | None, limits: Limits
    ) -> Hindrances:
        """Old transactions, for which a build waits; replicas; statements that wait for locks; the disk."""
        reasons, unknown = [], list[str]()
        if connection.scalar(STANDBY):
            reasons.append("this server is a standby, which only reads")
        age_s = limits.oldest_transaction_s
        old = (0, 0.0) if age_s is None else asked(connection, OLDEST, age=age_s)
        if old is None:
            unknown.append("how old the oldest transaction is")
        elif old[0]:
            reasons.append(f"{old[0]} transactions are open, the oldest for {float(old[1]):,.0f} s")
        lag = asked(connection, LAG)
        if limits.lag_s is not None and lag and lag[0] is not None and lag[0] > limits.lag_s:
            reasons.append(f"a replica is {float(lag[0]):,.0f} s behind")
        waits = asked(connection, WAITS)
        if limits.lock_waits is not None and waits and waits[0] >= limits.lock_waits:
            reasons.append(f"{waits[0]} statements wait for a lock")
        folder = asked(connection, FOLDER)
        space = too_little_space(Path(folder[0]) if folder else None, size_bytes, connection.engine.url.host)
        return Hindrances((*reasons, *space.reasons), (*unknown, *space.unknown))


DDL: Final = PostgreSqlDdl()

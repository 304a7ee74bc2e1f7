"""MariaDB and MySQL: ALGORITHM=INPLACE, LOCK=NONE, which the server refuses rather than downgrades.

Even so each statement wants the table's metadata lock for itself for a moment, at its beginning and at its end, and
while it waits for that everybody waits behind it. So a statement either does not wait at all, or is ended from outside
after some hundredths of a second; the servers' own limits count whole seconds.

A server that is killed in the middle of a build takes the index back when it starts again. Of MariaDB 10.11's own
dictionary one line may be left (in innodb_sys_indexes, its name begins with the byte 255): it is not loaded, so nothing
reads or writes it, and the next ALTER TABLE ... FORCE removes it with its few pages.

MySQL's part is written after its manual; it was never run against a MySQL server.
"""

import math
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateIndex

from dbpilot.dialects.ddl import Hindrances, Limits, Look, asked, quoted, too_little_space, written
from dbpilot.unsupported import Unsupported

ONLINE: Final = "ALGORITHM=INPLACE", "LOCK=NONE"
HIDES_FROM: Final = {"mariadb": (10, 6), "mysql": (8, 0)}
ANALYZES_FROM: Final = (10, 5, 4)
"""Before, and on MySQL before 8.0.24, a table that was analysed had to be opened anew, which waited for each statement
that read it: MDEV-15101. A new index has its statistics anyhow."""
NO_WAIT_FROM: Final = (10, 3)
MOST_WAIT_S: Final = 2
"""As long as anybody waits behind a statement if nobody looks, unless it may be longer."""
WAITING: Final = "Waiting for table metadata lock"
LOOK: Final = {
    "mariadb": sa.text(
        """SELECT state, CASE WHEN max_stage > 0 THEN (stage - 1 + progress / 100) / max_stage END, query_id
        FROM information_schema.processlist WHERE id = :id AND command = 'Query'"""
    ),
    "mysql": sa.text(
        """SELECT state, NULL, NULL FROM performance_schema.processlist WHERE id = :id AND command = 'Query'"""
    ),
}
OLDEST: Final = sa.text(
    """SELECT count(*), max(timestampdiff(SECOND, trx_started, now())) FROM information_schema.innodb_trx
    WHERE trx_mysql_thread_id <> connection_id() AND trx_started < now() - INTERVAL :age SECOND"""
)
WAITS: Final = sa.text(
    """SELECT count(*) FROM information_schema.processlist
    WHERE state LIKE 'Waiting for table%' AND id <> connection_id()"""
)
READ_ONLY: Final = sa.text("SELECT @@GLOBAL.read_only")
FOLDER: Final = sa.text("SELECT @@GLOBAL.datadir")
PRIVILEGE: Final = "how old the oldest transaction is: GRANT PROCESS ON *.* to this user"


def _kind(dialect: Any) -> str:
    return "mariadb" if getattr(dialect, "is_mariadb", False) else "mysql"


def _version(dialect: Any) -> tuple[Any, ...]:
    return tuple(dialect.server_version_info or (0,))


class MySqlDdl:
    """See :class:`dbpilot.dialects.ddl.Ddl`."""

    passing = frozenset({"1205", "1213", "1969", "3024"})
    interrupted = frozenset({"1317"})
    taken = frozenset({"1061"})
    poll_s = 0.01
    transactional = True  # what a killed server had begun it takes back when it starts again

    def hides(self, dialect: sa.Dialect) -> Unsupported | None:
        """MariaDB's IGNORED and MySQL's INVISIBLE."""
        needed = HIDES_FROM[_kind(dialect)]
        if _version(dialect) >= needed:
            return None
        return Unsupported(
            "this version cannot hide an index from its optimizer", f"{_kind(dialect)} {needed[0]}.{needed[1]} can"
        )

    def create(self, dialect: sa.Dialect, index: sa.Index, *, hidden: bool) -> str:
        """CREATE INDEX, the index hidden at first if asked for."""
        words = [written(dialect, CreateIndex(index)), *([self._hidden(dialect)] if hidden else []), *ONLINE]
        return " ".join(words)

    def again(self, _dialect: sa.Dialect, definition: str) -> str:
        """The definition with the clauses that let others write."""
        return (
            definition.rstrip("; ")
            + (", " if definition.startswith("ALTER") else " ")
            + (", " if definition.startswith("ALTER") else " ").join(ONLINE)
        )

    def drop(self, dialect: sa.Dialect, index: sa.Index) -> str:
        """ALTER TABLE: MariaDB's DROP INDEX takes no more than one of the two clauses."""
        return self._altered(dialect, index, f"DROP INDEX {quoted(dialect, index)}, {', '.join(ONLINE)}")

    def rebuild(self, dialect: sa.Dialect, index: sa.Index) -> str:
        """The whole table is built anew with its indexes: there is no statement for one."""
        return self._altered(dialect, index, f"FORCE, {', '.join(ONLINE)}")

    def hide(self, dialect: sa.Dialect, index: sa.Index, *, hidden: bool) -> str:
        """Some milliseconds, whatever the size."""
        word = self._hidden(dialect) if hidden else {"mariadb": "NOT IGNORED", "mysql": "VISIBLE"}[_kind(dialect)]
        return self._altered(dialect, index, f"ALTER INDEX {quoted(dialect, index)} {word}")

    def analyze(self, connection: sa.Connection, index: sa.Index) -> tuple[str, ...]:
        """A few pages of each index are read; replicas do it for themselves."""
        dialect = connection.dialect
        if index.table is None or _kind(dialect) == "mysql" or _version(dialect) < ANALYZES_FROM:
            return ()
        return (f"ANALYZE LOCAL TABLE {quoted(dialect, index.table)}",)

    def limit(self, connection: sa.Connection, wait_s: float, patience_s: float) -> None:  # noqa: ARG002 - others wait
        """No wait at all where that is asked for and known; else whole seconds, in case that nobody looks: later than
        an onlooker would end it, for who is ended from two sides at once may have its next statement ended, too."""
        dialect = connection.dialect
        no_wait = wait_s <= 0 and _kind(dialect) == "mariadb" and _version(dialect) >= NO_WAIT_FROM
        most_s = max(MOST_WAIT_S, math.ceil(wait_s) + 1)
        connection.execute(sa.text("SET SESSION lock_wait_timeout = :s"), {"s": 0 if no_wait else most_s})
        if _kind(dialect) == "mariadb":
            connection.execute(sa.text("SET SESSION max_statement_time = 0"))

    def backend(self, connection: sa.Connection) -> int | None:
        """The connection's number."""
        return int(connection.execute(sa.text("SELECT connection_id()")).scalar_one())

    def look(self, connection: sa.Connection, backend: int) -> Look | None:
        """What the list of processes says."""
        row = asked(connection, LOOK[_kind(connection.dialect)], id=backend)
        if row is None:
            return None
        state = str(row[0] or "")
        return Look(state or "at work", None if row[1] is None else float(row[1]), state == WAITING, row[2])

    def stop(self, connection: sa.Connection, backend: int, look: Look) -> None:
        """The statement's own number is named where there is one: the next may have begun meanwhile."""
        kill = sa.text("KILL QUERY :id" if look.statement is None else "KILL QUERY ID :id")
        try:
            connection.execute(kill, {"id": backend if look.statement is None else look.statement})
        except SQLAlchemyError:  # it has ended by itself
            if connection.invalidated:
                raise

    def broken(self, _connection: sa.Connection, _table: sa.Table) -> tuple[str, ...]:
        """None: the server takes back what it could not finish."""
        return ()

    def hindrances(
        self, connection: sa.Connection, _table: sa.Table, size_bytes: float | None, limits: Limits
    ) -> Hindrances:
        """Old transactions; statements that wait; a server that only reads; the disk."""
        reasons, unknown = [], ["how far replicas are behind: this server does not know"]
        if asked(connection, READ_ONLY) == (1,):
            reasons.append("this server is read only")
        age_s = limits.oldest_transaction_s
        old = (0, 0.0) if age_s is None else asked(connection, OLDEST, age=age_s)
        if old is None:
            unknown.append(PRIVILEGE)
        elif old[0]:
            reasons.append(f"{old[0]} transactions are open, the oldest for {float(old[1]):,.0f} s")
        waits = asked(connection, WAITS)
        if limits.lock_waits is not None and waits and waits[0] >= limits.lock_waits:
            reasons.append(f"{waits[0]} statements wait for a lock on a table")
        folder = asked(connection, FOLDER)
        space = too_little_space(Path(folder[0]) if folder else None, size_bytes, connection.engine.url.host)
        return Hindrances((*reasons, *space.reasons), (*unknown, *space.unknown))

    def _hidden(self, dialect: sa.Dialect) -> str:
        return {"mariadb": "IGNORED", "mysql": "INVISIBLE"}[_kind(dialect)]

    def _altered(self, dialect: sa.Dialect, index: sa.Index, what: str) -> str:
        table = "" if index.table is None else quoted(dialect, index.table)
        return f"ALTER TABLE {table} {what}"


DDL: Final = MySqlDdl()

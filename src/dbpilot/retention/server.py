"""An archive in another SQL database."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError

from dbpilot.clock import SYSTEM, Clock
from dbpilot.dialects import dialect_of
from dbpilot.errors import ConfigError, RefusedError, RetentionError
from dbpilot.history.sql_store import SILENCE, place
from dbpilot.retention.conditions import beyond, comparable, one_of, within
from dbpilot.retention.digest import Digest, digest_of
from dbpilot.retention.live import Live, Moment, plain, plain_names, stamp_name
from dbpilot.retention.policy import NAME_LENGTH
from dbpilot.retention.portable import BINARY, ExactDecimal, digest_from, fingerprint_of, read_digest
from dbpilot.retention.reconcile import changes, reconcile
from dbpilot.retention.scope import chunks
from dbpilot.retention.session import SETTINGS, failure
from dbpilot.retention.targets import BatchKey, Key, KeysTakenError, Written

RULE: Final = "dbpilot_rule"
BATCH: Final = "dbpilot_batch"
"""The archive's columns that tell which batch a row came in."""
ROWS_AT_ONCE: Final = 5_000
MAX_TEXT_KEY: Final = 255
"""Characters of a text key: an index of MariaDB's takes no more of them in four bytes each."""
Name = sa.String(NAME_LENGTH).with_variant(mysql.VARCHAR(NAME_LENGTH, collation="utf8mb4_bin"), "mysql", "mariadb")


class ServerTarget:
    """A table in another database; it belongs to one source database. Nothing is connected before the first use."""

    def __init__(self, url: SecretStr, archive: str, source: str, clock: Clock = SYSTEM) -> None:
        """Names the database, the archive's table in it, and the kind of database that the rows come from.

        Raises:
            ConfigError: the URL cannot be read, or its driver is not installed.
        """
        try:
            parsed = sa.make_url(url.get_secret_value())
            self._engine = sa.create_engine(
                parsed,
                hide_parameters=True,
                pool_size=1,
                max_overflow=0,
                connect_args=SILENCE.get(parsed.get_driver_name(), {}),
            )
        except (ArgumentError, ValueError):
            raise ConfigError("an archive's URL cannot be read; write it as SQLAlchemy does") from None
        except ImportError as error:
            raise ConfigError(f"an archive's URL asks for a driver that is not installed: {error.name}") from None
        self._archive_name = archive
        self._wanted = lru_cache(maxsize=8)(self._made_of)  # one table object, or each statement is compiled again
        self._source = source
        self._clock = clock
        self._dialect = dialect_of(self._engine)
        self.name = f"{place(self._engine.url)}/{archive}"
        if self._engine.dialect.name in ("mysql", "mariadb"):
            sa.event.listen(self._engine, "connect", _strictly)

    def __repr__(self) -> str:
        return f"ServerTarget({self.name!r})"

    def differences(self, table: sa.Table) -> list[str]:
        """The DDL that the archive needs before rows of this table fit.

        Raises:
            RefusedError: a table of that name is there and is no archive of this one; or it has a column that this
                kind of database cannot keep.
            RetentionError: the archive cannot be reached.
        """
        with self._told(), self._engine.connect() as connection:
            return [change.sql for change in changes(connection, _live(table), self._archive_name, self._wanted(table))]

    def prepare(self, table: sa.Table) -> None:
        """The archive is there, and rows fit; raises as :meth:`differences`."""
        with self._told(), self._engine.begin() as connection:
            reconcile(connection, _live(table), self._archive_name, self._wanted(table))

    def write(self, batch: BatchKey, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """The archive has exactly these rows of the batch, committed.

        Raises:
            KeysTakenError: it has rows of some of these keys from other batches.
            RetentionError: it failed.
        """
        archive = self._wanted(table)
        about = {stamp_name(table): self._clock.now(), RULE: batch.rule, BATCH: batch.number}
        with self._told():
            try:
                with self._engine.begin() as connection:
                    connection.execute(sa.delete(archive).where(_of(archive, table, batch)))
                    if rows:
                        _insert(connection, archive, [{**row, **about} for row in rows])
            except IntegrityError:
                names = [column.name for column in table.primary_key]
                taken = self._taken(archive, names, [tuple(row[name] for name in names) for row in rows])
                if not taken:
                    raise
                raise KeysTakenError(self.name, taken) from None

    def _taken(self, archive: sa.Table, names: Sequence[str], keys: Sequence[Key]) -> set[Key]:
        columns = [archive.c[name] for name in names]
        with self._engine.connect() as connection:
            return {
                tuple(row)
                for part in chunks(keys, len(names))
                for row in connection.execute(sa.select(*columns).where(one_of(columns, part)))
            }

    def read_back(self, batch: BatchKey, table: sa.Table) -> Digest | None:
        """What the archive has of the batch; None for no row."""
        archive = self._wanted(table)
        names = plain_names(table.columns)
        wanted = sa.select(*(archive.c[name] for name in names)).where(_of(archive, table, batch))
        with self._told(), self._engine.connect() as connection:
            found = digest_of((dict(zip(names, row, strict=True)) for row in connection.execute(wanted)), names)
        return found if found.rows else None

    def holds(self, batch: BatchKey, table: sa.Table, written: Written) -> bool:
        """This database makes of the batch's rows what theirs made of them; False where it is of another kind."""
        archive = self._wanted(table)
        made = fingerprint_of([archive.c[column.name] for column in table.columns], self._engine.dialect)
        if made is None or written.fingerprints is None or not _same_kind(self._source, self._engine.dialect.name):
            return False
        with self._told(), self._engine.connect() as connection:
            found = connection.execute(read_digest(made, _of(archive, table, batch), connection.dialect)).one()
            return digest_from(found) == written.fingerprints

    def forget(self, batch: BatchKey, table: sa.Table) -> None:
        """The archive has no row of the batch."""
        archive = self._wanted(table)
        with self._told(), self._engine.begin() as connection:
            if sa.inspect(connection).has_table(self._archive_name):
                connection.execute(sa.delete(archive).where(_of(archive, table, batch)))

    def rows(
        self, rule: str, table: sa.Table, since: datetime | None, until: datetime | None, time_column: str | None
    ) -> Iterator[Sequence[Mapping[str, Any]]]:
        """The rule's rows in the order of their key, chunk by chunk."""
        archive = self._wanted(table)
        key = [archive.c[column.name] for column in table.primary_key]
        names = plain_names(table.columns)
        wanted = sa.select(*(archive.c[name] for name in names)).where(archive.c[RULE] == rule).order_by(*key)
        if time_column is not None:
            column = archive.c[time_column]
            wanted = wanted if since is None else wanted.where(column >= comparable(column, since))
            wanted = wanted if until is None else wanted.where(column < comparable(column, until))
        places = [names.index(column.name) for column in key]
        rest = wanted
        while True:
            with self._told(), self._engine.connect() as connection:
                found = connection.execute(rest.limit(ROWS_AT_ONCE)).all()
            if not found:
                return
            yield [dict(zip(names, row, strict=True)) for row in found]
            rest = wanted.where(beyond(key, tuple(found[-1][place] for place in places)))

    def count(self, rule: str, table: sa.Table) -> int:
        """The rows of the rule."""
        archive = self._wanted(table)
        rows = sa.select(sa.func.count()).select_from(archive).where(archive.c[RULE] == rule)
        with self._told(), self._engine.connect() as connection:
            return connection.scalar(rows) or 0

    def absent(self, batches: Sequence[BatchKey], table: sa.Table) -> dict[int, str]:
        """The batches that no row is left of."""
        archive = self._wanted(table)
        found = sa.select(archive.c[BATCH]).where(archive.c[RULE].in_({batch.rule for batch in batches})).distinct()
        with self._told(), self._engine.connect() as connection:
            there = set(connection.scalars(found))
        return {batch.number: f"batch {batch.number}" for batch in batches if batch.number not in there}

    def remove(self, rule: str, table: sa.Table, keys: Collection[Key]) -> int:
        """The archive has none of these rows any more; returns how many it had."""
        archive = self._wanted(table)
        key = [archive.c[column.name] for column in table.primary_key]
        with self._told(), self._engine.begin() as connection:
            return sum(
                connection.execute(sa.delete(archive).where(archive.c[RULE] == rule, one_of(key, part))).rowcount
                for part in chunks(list(keys), len(key))
            )

    def close(self) -> None:
        """No connection is left open."""
        self._engine.dispose()

    def _made_of(self, table: sa.Table) -> sa.Table:
        """The archive of this table, as it would be made today."""
        key = [column.name for column in table.primary_key]
        columns = [
            sa.Column(
                column.name,
                _kept(column, self._source, self._engine.dialect.name, in_key=column.name in key),
                nullable=column.name not in key,
                autoincrement=False,
            )
            for column in table.columns
        ]
        return sa.Table(
            self._archive_name,
            sa.MetaData(),
            *columns,
            sa.Column(stamp_name(table), Moment),
            sa.Column(RULE, Name, nullable=False),
            sa.Column(BATCH, sa.BigInteger, nullable=False),
            sa.PrimaryKeyConstraint(*key),
        )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """A failure is told by kind and code: its words repeat values."""
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            raise RetentionError(
                f"the archive {self.name} failed: {failure(self._dialect, error)}; nothing is deleted from the "
                "live table before its archive is safe. Mend it (reachable? space? rights?) and run again"
            ) from None


def _live(table: sa.Table) -> Live:
    return Live(table, tuple(column.name for column in table.primary_key), ())


def _of(archive: sa.Table, table: sa.Table, batch: BatchKey) -> sa.ColumnElement[bool]:
    """The row came in this batch. Its key says so too, which is how it is found fast."""
    key = [archive.c[column.name] for column in table.primary_key]
    mine = sa.and_(archive.c[RULE] == batch.rule, archive.c[BATCH] == batch.number)
    # Text is in another order in another database; then the whole archive has to be looked at.
    if any(isinstance(column.type, sa.String) for column in key):
        return mine
    return sa.and_(mine, within(key, batch.first_key, batch.last_key))


def _insert(connection: sa.Connection, archive: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows are there. They go to the driver as they are: SQLAlchemy would spend as long on each as the driver."""
    dialect = connection.dialect
    statement = sa.insert(archive).compile(dialect=dialect)
    processors = {column.name: column.type.dialect_impl(dialect).bind_processor(dialect) for column in archive.columns}
    binds = {name: bind for name, bind in processors.items() if bind is not None}
    bound = [{**row, **{name: bind(row[name]) for name, bind in binds.items()}} for row in rows] if binds else rows
    names = getattr(statement, "positiontup", None)
    connection.exec_driver_sql(str(statement), bound if names is None else [_in_order(row, names) for row in bound])


def _in_order(row: Mapping[str, Any], names: Sequence[str]) -> tuple[Any, ...]:
    return tuple([row[name] for name in names])


def _strictly(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    for name, value in SETTINGS.items():
        cursor.execute(f"SET SESSION {name} = {value}")
    cursor.close()


def _kept(column: sa.Column[Any], source: str, target: str, *, in_key: bool) -> sa.types.TypeEngine[Any]:
    """The type in which another database keeps the column's values exactly.

    Raises:
        RefusedError: it has none.
    """
    kind = column.type
    if _same_kind(source, target) and not isinstance(kind, sa.Numeric | sa.Float):
        return plain(kind)
    match kind:
        case sa.Float():
            return sa.Double()
        case sa.Numeric():
            return _decimal(kind, target)
        case sa.Boolean() | sa.Date() | sa.Uuid():
            return kind.as_generic()
        case sa.Integer():
            return sa.Numeric(20, 0) if getattr(kind, "unsigned", False) and target != "sqlite" else sa.BigInteger()
        case sa.DateTime():
            return Moment if kind.timezone else sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
        case _ if isinstance(kind, BINARY) and not in_key:
            return sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
        case sa.String():
            return _text(kind, in_key=in_key)
    raise RefusedError(
        f"column {column.table.name}.{column.name} is {kind!r}, which {target} cannot keep; archive it beside the live "
        f"table, in another {source}, or in Parquet files"
    )


def _same_kind(one: str, other: str) -> bool:
    return one == other or {one, other} == {"mysql", "mariadb"}


def _decimal(kind: sa.Numeric[Any], target: str) -> sa.types.TypeEngine[Any]:
    """Every digit; SQLite has those that a double has, which is seen when they are read back."""
    if target == "sqlite":
        return ExactDecimal()
    if kind.precision is None and target in ("mysql", "mariadb"):
        return sa.Numeric(65, 30)
    return sa.Numeric(kind.precision, kind.scale)


def _text(kind: sa.String, *, in_key: bool) -> sa.types.TypeEngine[Any]:
    """Text that differs in one byte differs in the key."""
    if not in_key:
        return sa.Text().with_variant(mysql.LONGTEXT(collation="utf8mb4_bin"), "mysql", "mariadb")
    length = min(kind.length or MAX_TEXT_KEY, MAX_TEXT_KEY)
    return sa.String(length).with_variant(mysql.VARCHAR(length, collation="utf8mb4_bin"), "mysql", "mariadb")

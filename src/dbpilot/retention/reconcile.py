"""An archive table follows its live table: what differs, the DDL for it, and doing it."""

from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from typing import Any

import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from dbpilot.errors import RefusedError
from dbpilot.retention.live import Live, archive_table, plain, reflected, stamp_name


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to do at the archive."""

    sql: str
    apply: Callable[[Operations], None]


def changes(connection: sa.Connection, live: Live, name: str, wanted: sa.Table | None = None) -> list[Change]:
    """What has to be done so that rows of the live table fit into the archive of this name; none if they do.

    ``wanted`` is the archive as it would be made today, where it is not a table beside the live one.

    Raises:
        RefusedError: a table of that name is there and is no archive of this one; says what to do.
    """
    wanted = archive_table(live, name) if wanted is None else wanted
    if not sa.inspect(connection).has_table(name):
        return [Change(_ddl(connection, wanted.create), lambda operations: wanted.create(operations.get_bind()))]
    archive = reflected(connection, name)
    _check(live, archive, wanted)
    missing = [column for column in wanted.columns if column.name not in archive.c]
    changed = [column for column in wanted.columns if _has_other_type(connection, column, archive)]
    return [
        *(_change(connection, _adding(name, column)) for column in missing),
        *(_change(connection, _changing(name, column, archive.c[column.name])) for column in changed),
    ]


def _check(live: Live, archive: sa.Table, wanted: sa.Table) -> None:
    """Returns when the table is an archive of the live one."""
    key = {column.name for column in wanted.primary_key}
    if {column.name for column in archive.primary_key} != key:
        raise RefusedError(
            f"{archive.name} is no archive of {live.table.name}: its primary key is not ({', '.join(live.key_names)}); "
            "name another archive_table in the rule, or rename this table"
        )
    if stamp_name(live.table) not in archive.c:
        raise RefusedError(
            f"{archive.name} has no column {stamp_name(live.table)}, which tells when a row was archived; "
            "name another archive_table in the rule, or rename this table"
        )
    demanding = [
        column.name
        for column in archive.columns
        if column.name not in wanted.c and not column.nullable and column.server_default is None
    ]
    if demanding:
        raise RefusedError(
            f"{archive.name} demands {', '.join(demanding)}, which {live.table.name} does not have; let it be "
            "NULL there"
        )


def _has_other_type(connection: sa.Connection, column: sa.Column[Any], archive: sa.Table) -> bool:
    """SQLite keeps any value in any column."""
    if connection.dialect.name == "sqlite" or column.name not in archive.c:
        return False
    ours, theirs = (one.type.dialect_impl(connection.dialect) for one in (column, archive.c[column.name]))
    return str(_spelled(connection, ours)) != str(_spelled(connection, theirs))


def _spelled(connection: sa.Connection, type_: sa.types.TypeEngine[Any]) -> str:
    return type_.compile(dialect=connection.dialect).replace(" ", "").upper()


def _adding(name: str, column: sa.Column[Any]) -> Callable[[Operations], None]:
    return lambda operations: operations.add_column(name, sa.Column(column.name, plain(column.type), nullable=True))


def _changing(name: str, wanted: sa.Column[Any], found: sa.Column[Any]) -> Callable[[Operations], None]:
    return lambda operations: operations.alter_column(
        name,
        wanted.name,
        type_=plain(wanted.type),
        existing_type=found.type,
        existing_nullable=found.nullable,
    )


def _change(connection: sa.Connection, apply: Callable[[Operations], None]) -> Change:
    text = StringIO()
    options = {"as_sql": True, "output_buffer": text}
    apply(Operations(MigrationContext.configure(dialect=connection.dialect, opts=options)))
    return Change(_tidy(text.getvalue()), apply)


def _ddl(connection: sa.Connection, create: Callable[[Any], None]) -> str:
    said: list[str] = []
    create(sa.create_mock_engine(connection.engine.url, lambda sql, *_: said.append(_compiled(sql, connection))))
    return _tidy("; ".join(said))


def _compiled(ddl: Any, connection: sa.Connection) -> str:
    return str(ddl.compile(dialect=connection.dialect))


def _tidy(sql: str) -> str:
    return " ".join(sql.split()).rstrip(";")


def reconcile(connection: sa.Connection, live: Live, name: str, wanted: sa.Table | None = None) -> sa.Table:
    """The archive is there, and rows of the live table fit; returns it.

    Raises:
        RefusedError: as :func:`changes`.
    """
    operations = Operations(MigrationContext.configure(connection))
    for change in changes(connection, live, name, wanted):
        change.apply(operations)
    return reflected(connection, name)

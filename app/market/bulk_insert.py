"""Many rows into a table at once, leaving those that are there already."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Connection, Executable, Table, bindparam, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

Row = dict[str, Any]


def insert_new(connection: Connection, table: Table, rows: Sequence[Row]) -> int:
    """All rows are in the table; returns how many were not before.

    A row counts as there when a unique constraint says so; what is there stays as it is, and of two such rows in
    ``rows`` the first wins. All rows have the same keys. Values have to be valid: MariaDB and MySQL cut what does not
    fit a column here rather than complain.
    """
    if not rows:
        return 0
    names = list(rows[0])
    if connection.dialect.name == "postgresql":
        columns = {name: [row[name] for row in rows] for name in names}
        return connection.execute(_from_arrays(table, names), columns).rowcount
    return connection.execute(_ignoring(table, connection.dialect.name), rows).rowcount


def _ignoring(table: Table, dialect: str) -> Executable:
    if dialect == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return insert(table).prefix_with("IGNORE")  # the driver makes one statement with many VALUES of it


def _from_arrays(table: Table, names: Sequence[str]) -> Executable:
    """One statement for any number of rows, its parameters one array per column: several times faster than rows."""
    arrays = [_array(table.c[name]) for name in names]
    source = func.unnest(*arrays).table_valued(*names).render_derived()
    statement = postgresql.insert(table).from_select(names, select(source)).on_conflict_do_nothing()
    return statement.execution_options(preserve_rowcount=True)  # SQLAlchemy asks for it only when told to


def _array(column: Column[Any]) -> Any:
    # The cast tells PostgreSQL the type of an array that holds only nulls.
    return func.cast(bindparam(column.name, type_=postgresql.ARRAY(column.type)), postgresql.ARRAY(column.type))

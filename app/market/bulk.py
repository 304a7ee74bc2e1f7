"""Columns of values into a table, by the fastest road that each database offers.

PostgreSQL reads them with COPY, MariaDB and MySQL with LOAD DATA LOCAL INFILE where both ends allow it, every other
connection takes an INSERT of many rows. Values travel as CSV that Arrow writes: strings are always quoted and nulls
never, so that an empty string, the word NULL, a backslash or a line break arrive as they left.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import pyarrow as pa
import pyarrow.csv
import sqlalchemy
from psycopg import sql
from pymysql.constants import CLIENT
from sqlalchemy import Column, Connection, Engine, Table, create_engine, func, insert, literal_column, select
from sqlalchemy.exc import SQLAlchemyError

from app.errors import DatabaseFailed

MYSQL: Final = ("mysql", "mariadb")
CONNECT_TIMEOUT_S: Final = 60


class BulkLoadFailed(DatabaseFailed):
    """The database did not take all rows as they are; the transaction has to be rolled back."""


@contextmanager
def bulk_engine(engine: Engine) -> Iterator[Engine]:
    """The engine to load through: on MariaDB and MySQL a short-lived one whose connections may send files.

    A server can ask such a connection for any file that this process can read, which is why the application's own
    engine does not allow it. It also waits for a long load, where the application's gives up after its read timeout.
    """
    if engine.dialect.name not in MYSQL:
        yield engine
        return
    arguments = {"charset": "utf8mb4", "connect_timeout": CONNECT_TIMEOUT_S, "local_infile": True}
    made = create_engine(engine.url, connect_args=arguments)
    try:
        yield made
    finally:
        made.dispose()


def bulk_load(connection: Connection, table: Table, batch: pa.RecordBatch) -> int:
    """All rows of ``batch`` are in ``table``, within the connection's transaction; returns how many.

    The batch's columns bear the names of the table's; instants are UTC, with or without a zone. Keys that the database
    gives out later continue after those loaded.

    Raises:
        BulkLoadFailed: a row was refused, or would have been changed on its way.
    """
    if batch.num_rows == 0:
        return 0
    if not connection.in_transaction():
        connection.begin()  # as any statement would; the drivers' own calls below do not
    try:
        _road(connection)(connection, table, batch)
    except (psycopg.Error, SQLAlchemyError) as error:
        raise BulkLoadFailed(f"{table.name} did not take {batch.num_rows} rows: {_cause(error)}") from error
    return int(batch.num_rows)


def sends_files(connection: Connection) -> bool:
    """Whether LOAD DATA LOCAL INFILE works here: both the client and the server have to allow it."""
    if connection.dialect.name not in MYSQL or not _driver(connection).client_flag & CLIENT.LOCAL_FILES:
        return False
    return bool(connection.scalar(select(literal_column("@@local_infile"))))


def _road(connection: Connection) -> Any:
    if connection.dialect.name == "postgresql":
        return _copy
    return _load_file if sends_files(connection) else _insert_many


def _copy(connection: Connection, table: Table, batch: pa.RecordBatch) -> None:
    columns = sql.SQL(", ").join(map(sql.Identifier, batch.schema.names))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv, ENCODING 'UTF8')").format(_identifier(table), columns)
    with _driver(connection).cursor() as cursor, cursor.copy(statement) as copy, pa.BufferOutputStream() as sink:
        _write_csv(_encoded(batch, pa.timestamp("us", "UTC")), sink)
        copy.write(memoryview(sink.getvalue()))
    key = table.autoincrement_column
    if key is not None and key.name in batch.schema.names:
        _continue_after(connection, table, key)


def _identifier(table: Table) -> sql.Identifier:
    # Not SQLAlchemy's quoting: it doubles percent signs, for statements with parameters.
    return sql.Identifier(*([table.schema] if table.schema else []), table.name)


def _continue_after(connection: Connection, table: Table, key: Column[int]) -> None:
    """The next key that PostgreSQL gives out is one that no row has; the other databases see to it themselves."""
    sequence = func.pg_get_serial_sequence(_identifier(table).as_string(), key.name)
    connection.execute(select(func.setval(sequence, select(func.max(key)).scalar_subquery())))


def _load_file(connection: Connection, table: Table, batch: pa.RecordBatch) -> None:
    # No backslash in it: its meaning there depends on the server's sql_mode. Lines end with a line feed by default.
    statement = (
        "LOAD DATA LOCAL INFILE %s INTO TABLE {} CHARACTER SET utf8mb4 "
        "FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' ESCAPED BY '' ({})"
    ).format(*_names(connection, table, batch))
    with tempfile.TemporaryDirectory(prefix="finstage-") as folder:
        path = Path(folder) / "rows.csv"
        _write_csv(_encoded(batch, pa.timestamp("us")), path, null_string="NULL")
        loaded = connection.exec_driver_sql(statement, (str(path),)).rowcount
    _refuse_warnings(connection, table, batch.num_rows, loaded)


def _refuse_warnings(connection: Connection, table: Table, sent: int, loaded: int) -> None:
    """Returns only when the file arrived whole: LOCAL turns what would be errors into warnings, and skips repeats."""
    warnings = connection.exec_driver_sql("SHOW WARNINGS LIMIT 3").all()
    if warnings or loaded != sent:
        reasons = "; ".join(str(warning[-1]) for warning in warnings)
        raise BulkLoadFailed(f"{table.name} took {loaded} of {sent} rows: {reasons or 'the server gives no reason'}")


def _insert_many(connection: Connection, table: Table, batch: pa.RecordBatch) -> None:
    names = batch.schema.names
    # Without the table's types: the values have the stored form already, and converting each again takes its time.
    untyped = sqlalchemy.table(table.name, *map(sqlalchemy.column, names), schema=table.schema)
    columns = [_plain(column, connection.dialect.name).to_pylist() for column in batch.columns]
    rows = zip(*columns, strict=True)
    if connection.dialect.positional:
        compiled = insert(untyped).compile(dialect=connection.dialect, column_keys=names)
        connection.exec_driver_sql(str(compiled), list(rows))  # spares a dictionary per row
    else:
        connection.execute(insert(untyped), [dict(zip(names, row, strict=True)) for row in rows])


def _names(connection: Connection, table: Table, batch: pa.RecordBatch) -> tuple[str, str]:
    """The table and its columns, quoted where this database needs it."""
    preparer = connection.dialect.identifier_preparer
    columns = [preparer.format_column(table.c[name]) for name in batch.schema.names]
    return preparer.format_table(table), ", ".join(columns)


def _encoded(batch: pa.RecordBatch, instant: pa.DataType) -> pa.RecordBatch:
    """The batch with types whose CSV form every server reads."""
    arrays = [_readable(column, instant) for column in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _readable(column: pa.Array, instant: pa.DataType) -> pa.Array:
    if pa.types.is_boolean(column.type):
        return column.cast(pa.int8())
    return column.cast(instant) if pa.types.is_timestamp(column.type) else column


def _plain(column: pa.Array, dialect: str) -> pa.Array:
    """The column in the form in which SQLAlchemy's types store it, as values that a driver takes unchanged."""
    if pa.types.is_decimal(column.type):
        text = column.cast(pa.string())
        # By way of text: Arrow's own conversion misses the nearest double now and then.
        return text.cast(pa.float64()) if dialect == "sqlite" else text
    readable = _readable(column, pa.timestamp("us"))
    return readable.cast(pa.string()) if pa.types.is_temporal(readable.type) else readable


def _write_csv(batch: pa.RecordBatch, sink: Any, **options: Any) -> None:
    pyarrow.csv.write_csv(batch, sink, pyarrow.csv.WriteOptions(include_header=False, **options))


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


def _cause(error: Exception) -> str:
    """The database's own words, without the statement and its values."""
    return str(getattr(error, "orig", None) or error).partition("\n")[0]

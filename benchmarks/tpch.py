"""TPC-H in any of the three databases: its eight tables, and its 22 queries in that database's words.

Rows and queries are those of DuckDB's generator, which comes as a package and downloads nothing.
"""

import csv
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import duckdb
import duckdb_extension_tpch
import sqlalchemy as sa
import sqlglot

BATCH: Final = 20_000
METADATA: Final = sa.MetaData()
MONEY: Final = sa.Numeric(15, 2)
WORDS: Final = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql", "sqlite": "sqlite"}
"""SQLGlot's names of the databases."""


def _table(name: str, key: Sequence[str], *columns: sa.Column[Any]) -> sa.Table:
    made = sa.Table(name, METADATA, *(sa.Column(c.name, c.type, nullable=False) for c in columns))
    made.append_constraint(sa.PrimaryKeyConstraint(*key, name=f"{name}_pkey"))
    return made


def _of(type_: sa.types.TypeEngine[Any], *names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, type_) for name in names]


_table("region", ["r_regionkey"], *_of(sa.Integer(), "r_regionkey"), *_of(sa.CHAR(25), "r_name"),
       *_of(sa.String(152), "r_comment"))  # fmt: skip
_table("nation", ["n_nationkey"], *_of(sa.Integer(), "n_nationkey"), *_of(sa.CHAR(25), "n_name"),
       *_of(sa.Integer(), "n_regionkey"), *_of(sa.String(152), "n_comment"))  # fmt: skip
_table("supplier", ["s_suppkey"], *_of(sa.Integer(), "s_suppkey"), *_of(sa.CHAR(25), "s_name"),
       *_of(sa.String(40), "s_address"), *_of(sa.Integer(), "s_nationkey"), *_of(sa.CHAR(15), "s_phone"),
       *_of(MONEY, "s_acctbal"), *_of(sa.String(101), "s_comment"))  # fmt: skip
_table("part", ["p_partkey"], *_of(sa.Integer(), "p_partkey"), *_of(sa.String(55), "p_name"),
       *_of(sa.CHAR(25), "p_mfgr"), *_of(sa.CHAR(10), "p_brand"), *_of(sa.String(25), "p_type"),
       *_of(sa.Integer(), "p_size"), *_of(sa.CHAR(10), "p_container"), *_of(MONEY, "p_retailprice"),
       *_of(sa.String(23), "p_comment"))  # fmt: skip
_table("partsupp", ["ps_partkey", "ps_suppkey"], *_of(sa.Integer(), "ps_partkey", "ps_suppkey", "ps_availqty"),
       *_of(MONEY, "ps_supplycost"), *_of(sa.String(199), "ps_comment"))  # fmt: skip
_table("customer", ["c_custkey"], *_of(sa.Integer(), "c_custkey"), *_of(sa.String(25), "c_name"),
       *_of(sa.String(40), "c_address"), *_of(sa.Integer(), "c_nationkey"), *_of(sa.CHAR(15), "c_phone"),
       *_of(MONEY, "c_acctbal"), *_of(sa.CHAR(10), "c_mktsegment"), *_of(sa.String(117), "c_comment"))  # fmt: skip
_table("orders", ["o_orderkey"], *_of(sa.Integer(), "o_orderkey", "o_custkey"), *_of(sa.CHAR(1), "o_orderstatus"),
       *_of(MONEY, "o_totalprice"), *_of(sa.Date(), "o_orderdate"), *_of(sa.CHAR(15), "o_orderpriority", "o_clerk"),
       *_of(sa.Integer(), "o_shippriority"), *_of(sa.String(79), "o_comment"))  # fmt: skip
_table("lineitem", ["l_orderkey", "l_linenumber"],
       *_of(sa.Integer(), "l_orderkey", "l_partkey", "l_suppkey", "l_linenumber"),
       *_of(MONEY, "l_quantity", "l_extendedprice", "l_discount", "l_tax"),
       *_of(sa.CHAR(1), "l_returnflag", "l_linestatus"), *_of(sa.Date(), "l_shipdate", "l_commitdate", "l_receiptdate"),
       *_of(sa.CHAR(25), "l_shipinstruct"), *_of(sa.CHAR(10), "l_shipmode"),
       *_of(sa.String(44), "l_comment"))  # fmt: skip

REFERENCES: Final = (
    (("nation", "n_regionkey"), ("region", "r_regionkey")),
    (("supplier", "s_nationkey"), ("nation", "n_nationkey")),
    (("customer", "c_nationkey"), ("nation", "n_nationkey")),
    (("partsupp", "ps_partkey"), ("part", "p_partkey")),
    (("partsupp", "ps_suppkey"), ("supplier", "s_suppkey")),
    (("orders", "o_custkey"), ("customer", "c_custkey")),
    (("lineitem", "l_orderkey"), ("orders", "o_orderkey")),
    (("lineitem", "l_partkey", "l_suppkey"), ("partsupp", "ps_partkey", "ps_suppkey")),
)


def queries(dialect: str) -> dict[int, str]:
    """The 22 queries by their numbers, without a semicolon at the end."""
    with _duckdb() as source:
        found = source.execute("SELECT query_nr, query FROM tpch_queries() ORDER BY query_nr").fetchall()
    return {number: _said(text, dialect) for number, text in found}


def _said(text: str, dialect: str) -> str:
    """MariaDB takes no names of columns beside a derived table's; SQLite's dates are texts."""
    tree = sqlglot.parse_one(text, dialect="duckdb")
    if dialect != "postgresql":
        _name_inside(tree)
    if dialect == "sqlite":
        for cast in list(tree.find_all(sqlglot.exp.Cast)):
            if cast.is_type("date"):
                cast.replace(cast.this)
        for part in list(tree.find_all(sqlglot.exp.Extract)):
            year = sqlglot.exp.func("strftime", sqlglot.exp.Literal.string("%Y"), part.expression)
            part.replace(sqlglot.exp.cast(year, "integer"))
    return tree.sql(dialect=WORDS[dialect])


def _name_inside(tree: sqlglot.exp.Expression) -> None:
    """``(SELECT a) AS t (b)`` is ``(SELECT a AS b) AS t``."""
    for alias in tree.find_all(sqlglot.exp.TableAlias):
        names, derived = alias.args.get("columns") or [], alias.parent
        if names and isinstance(derived, sqlglot.exp.Subquery | sqlglot.exp.CTE):
            select = derived.this
            select.set(
                "expressions",
                [
                    sqlglot.exp.alias_(column.unalias(), name.name)
                    for column, name in zip(select.expressions, names, strict=True)
                ],
            )
            alias.set("columns", None)


def load(engine: sa.Engine, scale: float = 0.1, foreign_keys: bool | None = None) -> None:
    """The tables are there, filled and analysed, with primary keys and, but on MariaDB, which would make indexes for
    them, foreign keys; no other index."""
    METADATA.create_all(engine)
    wanted = engine.dialect.name == "postgresql" if foreign_keys is None else foreign_keys
    with _duckdb() as source:
        source.execute(f"CALL dbgen(sf={float(scale)})")
        for table in METADATA.sorted_tables:
            _fill(engine, table, source)
    with engine.begin() as connection:
        for here, there in REFERENCES if wanted else ():
            columns = [METADATA.tables[here[0]].c[name] for name in here[1:]]
            referred = [METADATA.tables[there[0]].c[name] for name in there[1:]]
            key = sa.ForeignKeyConstraint(columns, referred, name=f"fk_{'_'.join(here)}")
            copy = sa.Table(here[0], sa.MetaData(), autoload_with=connection)
            copy.append_constraint(key)
            connection.execute(sa.schema.AddConstraint(key))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        analyze(connection)


def analyze(connection: sa.Connection) -> None:
    """The database has statistics of all tables."""
    name = connection.dialect.name
    for table in METADATA.sorted_tables:
        words = (
            "ANALYZE TABLE" if name in ("mysql", "mariadb") else "VACUUM ANALYZE" if name == "postgresql" else "ANALYZE"
        )
        connection.exec_driver_sql(f"{words} {connection.dialect.identifier_preparer.format_table(table)}").close()


@contextmanager
def _duckdb() -> Iterator[duckdb.DuckDBPyConnection]:
    folder = Path(duckdb_extension_tpch.__file__).parent
    extension = next(folder.glob("extensions/*/tpch.duckdb_extension"))
    with duckdb.connect(config={"allow_unsigned_extensions": "true"}) as connection:
        connection.execute(f"LOAD '{extension}'")
        yield connection


def _fill(engine: sa.Engine, table: sa.Table, source: duckdb.DuckDBPyConnection) -> None:
    names = ", ".join(table.columns.keys())
    source.execute(f"SELECT {names} FROM {table.name} ORDER BY ALL")
    if engine.dialect.name == "postgresql":
        _copy(engine, table, source)
    elif engine.dialect.name in ("mysql", "mariadb"):
        _load_data(engine, table, source)
    else:
        _insert(engine, table, source)


def _batches(source: duckdb.DuckDBPyConnection) -> Iterator[list[tuple[Any, ...]]]:
    while rows := source.fetchmany(BATCH):
        yield rows


def _copy(engine: sa.Engine, table: sa.Table, source: duckdb.DuckDBPyConnection) -> None:
    with engine.begin() as connection:
        cursor = connection.connection.cursor()
        with cursor.copy(f"COPY {table.name} FROM STDIN") as copy:  # type: ignore[attr-defined]  # psycopg's
            for rows in _batches(source):
                for row in rows:
                    copy.write_row(row)


def _load_data(engine: sa.Engine, table: sa.Table, source: duckdb.DuckDBPyConnection) -> None:
    allowed = sa.create_engine(engine.url, connect_args={"local_infile": True})
    with tempfile.NamedTemporaryFile("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for rows in _batches(source):
            writer.writerows(rows)
        file.flush()
        with allowed.begin() as connection:
            connection.exec_driver_sql("SET SESSION unique_checks = 0")
            connection.exec_driver_sql(
                f"LOAD DATA LOCAL INFILE '{file.name}' INTO TABLE {table.name} CHARACTER SET utf8mb4 "
                "FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' LINES TERMINATED BY '\\n'"
            )
    allowed.dispose()


def _insert(engine: sa.Engine, table: sa.Table, source: duckdb.DuckDBPyConnection) -> None:
    places = ", ".join("?" for _ in table.columns)
    with engine.begin() as connection:
        for rows in _batches(source):
            plain = [tuple(map(_for_sqlite, row)) for row in rows]
            connection.exec_driver_sql(f"INSERT INTO {table.name} VALUES ({places})", plain)


def _for_sqlite(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, date) else value

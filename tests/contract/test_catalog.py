"""What a database is read to hold is what it holds, on each kind of database."""

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from dbpilot.dialects import dialect_of
from dbpilot.dialects.catalog import Catalog, Changes, Column, ForeignKey, Index, Key, Table
from dbpilot.dialects.connections import OwnConnections
from dbpilot.dialects.mysql.histograms import Statistics, of_mysql
from dbpilot.dialects.sampling import distinct_in
from dbpilot.testing.servers import start_mariadb
from dbpilot.unsupported import Unsupported
from tests.contract.probe import ASYNC_DRIVERS

TIMEOUT_S = 60.0
WAIT_S = 30.0
SECRET = "900101-1234567 비밀"

shop = sa.MetaData()
customers = sa.Table(
    "customers",
    shop,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(60), nullable=False),
    sa.Column("city", sa.String(40)),
    sa.Column("balance", sa.Numeric(10, 2)),
    sa.Column("born", sa.Date),
    sa.Column("seen", sa.DateTime),
    sa.UniqueConstraint("name", "city", name="uq_customers_name_city"),
    sa.Index("ix_customers_city", "city"),
    sa.Index("ix_customers_city_born", "city", "born"),
)
orders = sa.Table(
    "Bestellungen im Mai",
    shop,
    sa.Column("Nummer", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("select", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("고객", sa.Integer, sa.ForeignKey("customers.id", name="fk_bestellungen_고객", ondelete="CASCADE")),
    sa.Column("Preis 100%", sa.Numeric(8, 2)),
    sa.Index("색인 Preis", "Preis 100%", "고객"),
    sa.Index("ix_bestellungen_고객", "고객"),
)
notes = sa.Table("notes", shop, sa.Column("body", sa.Text), sa.Column("customer", sa.Integer))  # no primary key
ROWS = 2_000


def _fill(connection: sa.Connection) -> None:
    people = [
        {
            "id": n,
            "name": f"name {n}",
            "city": f"city {n % 40}" if n % 4 else None,
            "balance": Decimal(n % 100),
            "born": date(1960, 1, 1) + timedelta(days=n % 500),
            "seen": datetime(2024, 1, 1) + timedelta(hours=n),  # noqa: DTZ001 - the column has no zone
        }
        for n in range(ROWS)
    ]
    bought = [{"Nummer": n, "select": n % 3, "고객": n % 500, "Preis 100%": Decimal(n % 50)} for n in range(ROWS)]
    connection.execute(customers.insert(), people)
    connection.execute(orders.insert(), bought)
    connection.execute(notes.insert(), [{"body": SECRET, "customer": n} for n in range(100)])


def _run(engine: sa.Engine, *statements: str) -> None:
    """Each by itself, outside of a transaction."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.exec_driver_sql(
                statement.replace("%", "%%") if connection.dialect.paramstyle != "qmark" else statement
            )


def _analyze(engine: sa.Engine) -> None:
    quote = engine.dialect.identifier_preparer.quote_identifier
    if engine.dialect.name in ("postgresql", "sqlite"):
        _run(engine, "ANALYZE")
    else:
        _run(engine, *(f"ANALYZE TABLE {quote(name)}" for name in sa.inspect(engine).get_table_names()))


def _read(engine: sa.Engine, **what: Any) -> Catalog:
    """As the pilot reads it: on a connection of its own that may not write."""
    read = dialect_of(engine).catalog
    found = OwnConnections(engine).run(lambda connection: read(connection, **what), TIMEOUT_S)
    assert isinstance(found, Catalog)
    return found


Opens = Callable[..., sa.Engine]


@pytest.fixture
def opened() -> Iterator[Opens]:
    """Makes engines that are closed at the end of the test, however it ends."""
    with ExitStack() as engines:

        def opens(url: sa.URL, **how: Any) -> sa.Engine:
            engine = sa.create_engine(url, **how)
            engines.callback(engine.dispose)
            return engine

        yield opens


@pytest.fixture
def engine(database_url: sa.URL, opened: Opens) -> sa.Engine:
    """Of an empty database; the test runs once on each kind."""
    return opened(database_url)


@pytest.fixture
def postgresql(postgresql_url: sa.URL, opened: Opens) -> sa.Engine:
    """Of an empty database."""
    return opened(postgresql_url)


@pytest.fixture
def mariadb(mariadb_url: sa.URL, opened: Opens) -> sa.Engine:
    """Of an empty database."""
    return opened(mariadb_url)


@pytest.fixture
def sqlite(sqlite_url: sa.URL, opened: Opens) -> sa.Engine:
    """Of a file that does not exist yet."""
    return opened(sqlite_url)


@pytest.fixture
def filled(engine: sa.Engine) -> sa.Engine:
    """The shop, with rows and statistics."""
    with engine.begin() as connection:
        shop.create_all(connection)
        _fill(connection)
    _analyze(engine)
    return engine


def _index(catalog: Catalog, name: str) -> Index:
    [found] = [index for table in catalog.tables.values() for index in table.indexes if index.name == name]
    return found


def test_every_table_column_index_and_key_is_told(filled: sa.Engine) -> None:
    """SQLAlchemy reads the same by other means."""
    catalog, inspector = _read(filled), sa.inspect(filled)
    assert set(catalog.tables) == set(inspector.get_table_names()) == {table.name for table in shop.sorted_tables}
    for name, table in catalog.tables.items():
        assert [(column.name, column.nullable) for column in table.columns] == [
            (column["name"], column["nullable"]) for column in inspector.get_columns(name)
        ]
        others = [index for index in table.indexes if index.constraint != "PRIMARY KEY"]
        told = {tuple(index.columns) for index in others}
        assert {tuple(index["column_names"]) for index in inspector.get_indexes(name)} <= told
        assert {tuple(each["column_names"]) for each in inspector.get_unique_constraints(name)} == {
            index.columns for index in others if index.constraint == "UNIQUE"
        }
        assert table.primary_key == tuple(inspector.get_pk_constraint(name)["constrained_columns"])
    [key] = catalog.tables[orders.name].foreign_keys
    expected = ForeignKey("fk_bestellungen_고객", orders.name, ("고객",), "customers", ("id",), on_delete="CASCADE")
    nameless = filled.dialect.name == "sqlite"
    assert replace(key, on_update="NO ACTION") == replace(expected, name=None if nameless else expected.name)
    assert catalog.referring == {"customers": (key,)}


def test_families_and_statistics_are_those_of_the_values(filled: sa.Engine) -> None:
    table = _read(filled).tables["customers"]
    families = {name: column.family for name, column in table.by_name.items()}
    assert families == {
        "id": "integer",
        "name": "text",
        "city": "text",
        "balance": "decimal",
        "born": "date",
        "seen": "datetime",
    }
    assert table.analyzed
    assert table.rows == pytest.approx(ROWS, rel=0.05)
    assert table.by_name["id"].distinct == pytest.approx(ROWS, rel=0.05)
    assert table.by_name["city"].distinct == pytest.approx(30, abs=2), "three of four cities, and perhaps none"
    pair = next(index for index in table.indexes if index.name == "ix_customers_city_born")
    assert pair.distinct[0] == pytest.approx(30, abs=2)


def test_sizes_are_told_and_add_up(filled: sa.Engine) -> None:
    for table in _read(filled).tables.values():
        assert table.size_bytes
        others = [index.size_bytes for index in table.indexes if not index.clustered]
        assert all(others)
        assert table.index_bytes == sum(size or 0 for size in others)
    kind = filled.dialect.name
    clustered = {
        index.table: index.columns
        for table in _read(filled).tables.values()
        for index in table.indexes
        if index.clustered
    }
    rowid = {"customers": ("id",)}
    assert clustered == {"postgresql": {}, "sqlite": rowid}.get(kind, {**rowid, orders.name: ("Nummer", "select")})


def test_a_view_is_no_table_and_only_tables_that_are_named_are_told(filled: sa.Engine) -> None:
    _run(filled, "CREATE VIEW named AS SELECT id FROM customers")
    assert "named" not in _read(filled).tables
    some = _read(filled, tables=[orders.name, "named", "gone"])
    assert set(some.tables) == {orders.name}
    assert some.tables[orders.name] == replace(
        _read(filled).tables[orders.name], full_scans=some.tables[orders.name].full_scans
    )
    assert _read(filled, tables=[]).tables == {}


def test_values_of_the_application_are_neither_shown_nor_changed(filled: sa.Engine) -> None:
    with filled.connect() as connection:
        dialect = dialect_of(filled)
        catalog = dialect.catalog(connection)
        known = dialect.sampled(connection, catalog.tables["notes"])
    assert any(value == SECRET for value, _ in known["body"].common)
    shown = repr(catalog) + repr(known)
    assert "900101" not in shown
    assert "city 7" not in shown


def test_any_driver_will_do(filled: sa.Engine) -> None:
    engine = create_async_engine(filled.url.set(drivername=ASYNC_DRIVERS[filled.url.get_backend_name()]))
    expected, found = _read(filled), _read(engine.sync_engine)
    asyncio.run(engine.dispose())
    names = {name: (table.columns, [index.name for index in table.indexes]) for name, table in found.tables.items()}
    assert names == {
        name: (table.columns, [index.name for index in table.indexes]) for name, table in expected.tables.items()
    }


def test_the_number_of_questions_does_not_grow_with_the_tables(
    engine: sa.Engine, request: pytest.FixtureRequest
) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite is asked for the rows of each table, and has no round trips")

    def asked() -> int:
        with engine.connect() as connection:
            statements: list[str] = []
            listen = ("before_cursor_execute", lambda *told: statements.append(told[2]))
            sa.event.listen(connection, *listen)
            dialect_of(engine).catalog(connection)
            return len(statements)

    _run(engine, "CREATE TABLE t0 (id int PRIMARY KEY, a int, b int)")
    before = asked()
    for number in range(1, 20):
        _run(
            engine,
            f"CREATE TABLE t{number} (id int PRIMARY KEY, a int, b int)",
            f"CREATE INDEX i{number} ON t{number} (a)",
        )
    assert asked() == before


Facts = Mapping[str, Any]
PLAIN = "CREATE TABLE t (id int PRIMARY KEY, a int, b varchar(40), c varchar(40), d int)"
CASES: dict[str, list[tuple[str, list[str], Facts]]] = {
    "sqlite": [
        ("directions", ["CREATE INDEX i ON t (a DESC, d)"], {"keys": (Key("a", descending=True), Key("d"))}),
        ("collation", ["CREATE INDEX i ON t (b COLLATE NOCASE)"], {"keys": (Key("b", collation="NOCASE"),)}),
        (
            "expression",
            ["CREATE INDEX i ON t (lower(coalesce(b, ')')) COLLATE NOCASE DESC, a /* , */, (d + 1))"],
            {
                "keys": (
                    Key(None, "lower(coalesce(b, ')'))", descending=True, collation="NOCASE"),
                    Key("a"),
                    Key(None, "(d + 1)"),
                )
            },
        ),
        ("partial", ["CREATE INDEX i ON t (a) WHERE b <> ' WHERE ' AND d > 5"], {"where": "b <> ' WHERE ' AND d > 5"}),
        ("unique", ["CREATE UNIQUE INDEX i ON t (a, d)"], {"unique": True, "constraint": None}),
        (
            "constraint",
            ["CREATE TABLE u (a int CONSTRAINT x UNIQUE)"],
            {"name": "sqlite_autoindex_u_1", "unique": True, "constraint": "UNIQUE", "definition": None},
        ),
        (
            "own collation",
            [
                "CREATE TABLE u (a TEXT NOT NULL DEFAULT 'x, y' COLLATE nocase)",
                "CREATE INDEX i ON u (a, a COLLATE binary)",
            ],
            {"keys": (Key("a"), Key("a", collation="BINARY"))},
        ),
        (
            "without rowid",
            ["CREATE TABLE u (a int, b int, PRIMARY KEY (b, a)) WITHOUT ROWID"],
            {"name": "sqlite_autoindex_u_1", "clustered": True, "keys": (Key("b"), Key("a"))},
        ),
        ("quoted", ['CREATE INDEX "i ""(1)" ON t ([a], `d`)'], {"name": 'i "(1)', "keys": (Key("a"), Key("d"))}),
    ],
    "mariadb": [
        ("directions", ["CREATE INDEX i ON t (a DESC, d)"], {"keys": (Key("a", descending=True), Key("d"))}),
        ("length", ["CREATE INDEX i ON t (b(5), a)"], {"keys": (Key("b", length=5), Key("a"))}),
        ("unique", ["CREATE UNIQUE INDEX i ON t (a, d)"], {"unique": True, "constraint": "UNIQUE"}),
        ("fulltext", ["CREATE FULLTEXT INDEX i ON t (b, c)"], {"method": "fulltext", "keys": (Key("b"), Key("c"))}),
        (
            "spatial",
            ["ALTER TABLE t ADD p point NOT NULL", "CREATE SPATIAL INDEX i ON t (p)"],
            {"method": "spatial", "keys": (Key("p"),)},
        ),
        ("ignored", ["CREATE INDEX i ON t (a) IGNORED"], {"ignored": True}),
        (
            "hash",
            ["CREATE TABLE u (a int, INDEX i (a)) ENGINE=MEMORY"],
            {"method": "hash", "clustered": False, "size_bytes": None},
        ),
        (
            "without primary key",
            ["CREATE TABLE u (a int, b int NOT NULL, UNIQUE z (b), UNIQUE y (a), INDEX x (a))"],
            {"name": "z", "clustered": True, "constraint": "UNIQUE"},
        ),
        ("quoted", ["CREATE INDEX `i ``(1)` ON t (a)"], {"name": "i `(1)"}),
    ],
    "postgresql": [
        (
            "directions",
            ["CREATE INDEX i ON t (a DESC, b DESC NULLS LAST, c NULLS FIRST, d)"],
            {
                "keys": (
                    Key("a", descending=True),
                    Key("b", descending=True, nulls_first=False),
                    Key("c", nulls_first=True),
                    Key("d"),
                )
            },
        ),
        ("collation", ['CREATE INDEX i ON t (b COLLATE "POSIX")'], {"keys": (Key("b", collation="POSIX"),)}),
        (
            "opclass",
            ["CREATE INDEX i ON t (b varchar_pattern_ops)"],
            {"keys": (Key("b", opclass="varchar_pattern_ops"),)},
        ),
        (
            "expression",
            ["CREATE INDEX i ON t (lower(b), (a + 1) DESC)"],
            {"keys": (Key(None, "lower(b::text)"), Key(None, "(a + 1)", descending=True))},
        ),
        ("partial", ["CREATE INDEX i ON t (a) WHERE b <> ')'"], {"where": "b::text <> ')'::text"}),
        ("include", ["CREATE UNIQUE INDEX i ON t (a) INCLUDE (d, b)"], {"include": ("d", "b"), "constraint": None}),
        (
            "same nulls",
            ["CREATE UNIQUE INDEX i ON t (a) NULLS NOT DISTINCT"],
            {"nulls_distinct": False, "unique": True},
        ),
        ("method", ["CREATE INDEX i ON t USING hash (a)"], {"method": "hash"}),
        (
            "gin",
            ["ALTER TABLE t ADD j jsonb", "CREATE INDEX i ON t USING gin (j jsonb_path_ops)"],
            {"method": "gin", "keys": (Key("j", opclass="jsonb_path_ops"),)},
        ),
        (
            "options",
            ["ALTER TABLE t ADD v tsvector", "CREATE INDEX i ON t USING gist (v tsvector_ops (siglen = 64))"],
            {"keys": (Key("v", opclass="tsvector_ops(siglen=64)"),)},
        ),
        ("constraint", ["ALTER TABLE t ADD CONSTRAINT i UNIQUE (a, d)"], {"unique": True, "constraint": "UNIQUE"}),
        (
            "exclusion",
            ["ALTER TABLE t ADD r int4range, ADD CONSTRAINT i EXCLUDE USING gist (r WITH &&)"],
            {"method": "gist", "constraint": "EXCLUDE", "unique": False},
        ),
        (
            "identity",
            [
                "ALTER TABLE t ALTER a SET NOT NULL",
                "CREATE UNIQUE INDEX i ON t (a)",
                "ALTER TABLE t REPLICA IDENTITY USING INDEX i",
            ],
            {"needed_by": ("the table's replica identity",)},
        ),
        (
            "referred to",
            ["CREATE UNIQUE INDEX i ON t (a)", "CREATE TABLE u (x int CONSTRAINT fk REFERENCES t (a))"],
            {"needed_by": ("foreign key fk of u",), "constraint": None},
        ),
        ("quoted", ['CREATE INDEX "i ""(1)" ON t (a)'], {"name": 'i "(1)'}),
    ],
}


@pytest.mark.parametrize(
    ("kind", "statements", "expected"),
    [
        pytest.param(kind, statements, facts, id=f"{kind} {name}")
        for kind, cases in CASES.items()
        for name, statements, facts in cases
    ],
)
def test_an_index_is_told_as_it_is_and_made_anew_by_its_definition(
    request: pytest.FixtureRequest, kind: str, statements: list[str], expected: Facts
) -> None:
    engine: sa.Engine = request.getfixturevalue(kind)
    _run(engine, PLAIN, *statements)
    name = expected.get("name", "i")
    found = _index(_read(engine), name)
    assert {fact: getattr(found, fact) for fact in expected} == expected
    if found.definition is not None and not found.needed_by:
        _drop(engine, found)
        assert not any(index.name == name for table in _read(engine).tables.values() for index in table.indexes)
        _run(engine, found.definition)
        assert _index(_read(engine), name) == replace(found, size_bytes=_index(_read(engine), name).size_bytes)


def _drop(engine: sa.Engine, index: Index) -> None:
    quote = engine.dialect.identifier_preparer.quote_identifier
    if engine.dialect.name == "postgresql" and index.constraint:
        _run(engine, f"ALTER TABLE {quote(index.table)} DROP CONSTRAINT {quote(index.name)}")
    elif engine.dialect.name in ("postgresql", "sqlite"):
        _run(engine, f"DROP INDEX {quote(index.name)}")
    else:
        _run(engine, f"DROP INDEX {quote(index.name)} ON {quote(index.table)}")


def test_primary_keys_are_made_anew_by_their_definitions(engine: sa.Engine) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no statement that makes a constraint's index")
    _run(engine, 'CREATE TABLE t (a int NOT NULL, b int NOT NULL, CONSTRAINT "pk" PRIMARY KEY (b, a))'.replace('"', ""))
    [found] = _read(engine).tables["t"].indexes
    drop = "DROP CONSTRAINT pk" if engine.dialect.name == "postgresql" else "DROP PRIMARY KEY"
    _run(engine, f"ALTER TABLE t {drop}", found.definition or "")
    assert _read(engine).tables["t"].indexes == (found,)


COLUMNS: dict[str, list[tuple[str, Facts]]] = {
    "sqlite": [
        ("a TEXT COLLATE nocase", {"family": "text", "collation": "NOCASE", "case_insensitive": True}),
        ("a VARCHAR(9)", {"family": "text", "collation": "BINARY", "case_insensitive": False}),
        ("b int, a int AS (b + 1) STORED", {"family": "integer", "generated": True}),
        ("a BOOLEAN NOT NULL", {"family": "boolean", "nullable": False}),
        ("a TIMESTAMP", {"family": "datetime"}),
        ("a", {"family": "binary", "type": ""}),
    ],
    "mariadb": [
        ("a varchar(9)", {"family": "text", "case_insensitive": True, "width": None}),
        ("a varchar(9) COLLATE utf8mb4_bin", {"family": "text", "collation": "utf8mb4_bin", "case_insensitive": False}),
        ("a tinyint(1) NOT NULL", {"family": "boolean", "width": 1, "nullable": False}),
        ("a decimal(10, 2)", {"family": "decimal", "width": 5}),
        ("a datetime(6)", {"family": "datetime", "width": 8}),
        ("b int, a int AS (b + 1) VIRTUAL", {"family": "integer", "generated": True}),
        ("a uuid", {"family": "uuid", "width": 16}),
        ("a enum('x', 'y')", {"family": "text", "width": 2}),
        ("a longblob", {"family": "binary"}),
    ],
    "postgresql": [
        ("a citext", {"family": "text", "case_insensitive": True}),
        ('a text COLLATE "C"', {"family": "text", "collation": "C", "case_insensitive": False}),
        ("a text COLLATE ci", {"collation": "ci", "case_insensitive": True}),
        ("a varchar(9)", {"type": "character varying(9)", "family": "text", "collation": "C.UTF-8"}),
        ("b int, a int GENERATED ALWAYS AS (b + 1) STORED", {"family": "integer", "generated": True, "width": 4}),
        ("a positive", {"type": "positive", "family": "integer", "nullable": False}),
        ("a mood", {"family": "text", "width": 4}),
        ("a timestamptz", {"family": "datetime", "width": 8}),
        ("a int[]", {"family": "other"}),
        ("a jsonb", {"family": "json"}),
        ("a uuid", {"family": "uuid", "width": 16}),
    ],
}
TYPES = [
    "CREATE EXTENSION citext",
    "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    "CREATE DOMAIN positive AS int NOT NULL CHECK (value > 0)",
    "CREATE TYPE mood AS ENUM ('sad', 'ok')",
]


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_is_told_as_it_is(request: pytest.FixtureRequest, kind: str) -> None:
    engine: sa.Engine = request.getfixturevalue(kind)
    if kind == "postgresql":
        _run(engine, *TYPES)
    for written, expected in COLUMNS[kind]:
        _run(engine, f"CREATE TABLE t ({written})")
        found = _read(engine).tables["t"].by_name["a"]
        assert {fact: getattr(found, fact) for fact in expected} == expected, written
        _run(engine, "DROP TABLE t")


@pytest.mark.parametrize(
    ("declared", "values"),
    [
        ("int", [7, -3]),
        ("numeric(8, 2)", [Decimal("1.50"), Decimal("-2.25")]),
        ("float8", [0.5, -2.0]),
        ("bool", [True, False]),
        ("text", ["a,b", 'q"{}\\', "NULL", "", "비밀"]),
        ("date", [date(2024, 2, 29), date(1, 1, 1)]),
        ("timestamp", [datetime(2024, 2, 29, 1, 2, 3, 456), datetime(1999, 1, 1)]),  # noqa: DTZ001 - without a zone
        ("timestamptz", [datetime(2024, 2, 29, 1, 2, 3, tzinfo=UTC)]),
        ("uuid", [UUID("6f9619ff-8b86-d011-b42d-00cf4fc964ff")]),
    ],
)
def test_common_values_of_postgresql_are_those_that_were_written(
    postgresql_url: sa.URL, opened: Opens, declared: str, values: list[Any]
) -> None:
    engine = opened(postgresql_url, connect_args={"options": "-c datestyle=SQL,DMY -c timezone=Asia/Seoul"})
    _run(engine, f"CREATE TABLE t (a {declared})")
    table = sa.Table("t", sa.MetaData(), autoload_with=engine)
    with engine.begin() as connection:
        connection.execute(table.insert(), [{"a": value} for value in values for _ in range(10)])
    _analyze(engine)
    found = _read(engine).tables["t"].by_name["a"]
    assert {value for value, _ in found.common} == set(values)
    assert [share for _, share in found.common] == pytest.approx([1 / len(values)] * len(values))


@pytest.mark.parametrize("histogram", ["SINGLE_PREC_HB", "DOUBLE_PREC_HB", "JSON_HB"])
def test_histograms_of_mariadb_cut_the_values_into_equal_parts(mariadb: sa.Engine, histogram: str) -> None:
    _run(
        mariadb,
        "CREATE TABLE t (id int PRIMARY KEY, a int, d datetime, m decimal(10, 2), n int NULL, b varchar(20))",
        "INSERT INTO t SELECT seq, seq * seq, '2024-01-01' + INTERVAL seq HOUR, seq / 8, if(seq % 4, seq, NULL),"
        " concat('v', seq % 10) FROM seq_1_to_4000",
        f"SET STATEMENT histogram_type = '{histogram}', histogram_size = 64 FOR ANALYZE TABLE t PERSISTENT FOR ALL",
    )
    table = _read(mariadb).tables["t"]
    a, d, m, n, b = (table.by_name[name] for name in "admnb")
    assert a.distinct == pytest.approx(4000, rel=0.05)
    assert n.nulls == pytest.approx(0.25)
    assert b.distinct == pytest.approx(10, rel=0.05)
    assert b.width == pytest.approx(2)
    middle = a.bounds[len(a.bounds) // 2]
    assert (a.bounds[0], a.bounds[-1]) == (1, 16_000_000)
    assert middle == pytest.approx(4_000_000, rel=0.2), "half of the squares are below"
    assert (d.bounds[0], d.bounds[-1]) == (datetime(2024, 1, 1, 1), datetime(2024, 6, 15, 16))  # noqa: DTZ001 - as above
    assert (m.bounds[0], m.bounds[-1]) == (Decimal("0.13"), Decimal("500.00"))
    assert list(a.bounds) == sorted(a.bounds)
    if histogram == "JSON_HB":
        assert {value for value, _ in b.common} == {f"v{number}" for number in range(10)}
        assert sum(share for _, share in b.common) == pytest.approx(1)
    else:
        assert b.bounds == ("v0", "v9"), "between two texts nobody knows the way"


def test_histograms_of_mysql_are_read_as_its_manual_writes_them() -> None:
    singleton = {
        "buckets": [["base64:type254:YWJj", 0.5], ["base64:type254:7ZWc", 0.75]],
        "data-type": "string",
        "null-values": 0.25,
        "histogram-type": "singleton",
    }
    found = of_mysql("text", json.dumps(singleton))
    assert found == Statistics(0.25, distinct=2.0, common=(("abc", 0.5), ("한", 0.25)))
    ranges = {
        "buckets": [["2024-01-01", "2024-02-01", 0.5, 31], ["2024-02-02", "2024-03-01", 1.0, 28]],
        "data-type": "date",
        "null-values": 0.0,
        "histogram-type": "equi-height",
    }
    found = of_mysql("date", json.dumps(ranges))
    assert found == Statistics(0.0, distinct=59.0, bounds=(date(2024, 1, 1), date(2024, 2, 1), date(2024, 3, 1)))


def test_without_statistics_rows_are_guessed_and_it_is_said(postgresql: sa.Engine) -> None:
    _run(postgresql, "CREATE TABLE t (a int, b text)", "ALTER TABLE t SET (autovacuum_enabled = off)")
    assert _read(postgresql).tables["t"].analyzed, "of nothing there is nothing to know"
    _run(postgresql, "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 10000) g")
    table = _read(postgresql).tables["t"]
    assert not table.analyzed
    assert 2_000 < table.rows < 30_000
    _run(postgresql, "CREATE INDEX i ON t (a)")
    assert not _read(postgresql).tables["t"].analyzed, "an index tells how many rows there are, and nothing else"
    _run(postgresql, "ANALYZE t", "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 10000) g")
    table = _read(postgresql).tables["t"]
    assert table.analyzed
    assert table.rows == pytest.approx(20_000, rel=0.05), "as many as fit into the pages that came since"


def test_a_partitioned_table_is_one_table(postgresql: sa.Engine) -> None:
    _run(
        postgresql,
        "CREATE TABLE p (id int, x int, CONSTRAINT pk PRIMARY KEY (id)) PARTITION BY RANGE (id)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (500)",
        "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (500) TO (5000) PARTITION BY LIST (id)",
        "CREATE TABLE p3 PARTITION OF p2 DEFAULT",
        "CREATE INDEX px ON p (x)",
        "CREATE TABLE q (a int, p int CONSTRAINT fk REFERENCES p (id))",
        "INSERT INTO p SELECT g, g % 7 FROM generate_series(1, 2000) g",
        "ANALYZE p",
    )
    catalog = _read(postgresql)
    assert set(catalog.tables) == {"p", "q"}
    table = catalog.tables["p"]
    assert table.rows == 2000
    assert table.by_name["x"].distinct == 7
    assert [index.name for index in table.indexes] == ["pk", "px"]
    assert _index(catalog, "px").size_bytes == sum(_size(postgresql, name) for name in ("p1_x_idx", "p3_x_idx"))
    assert [key.name for key in catalog.tables["q"].foreign_keys] == ["fk"]
    assert catalog.notes == ()
    with postgresql.connect() as connection:
        connection.exec_driver_sql("SET enable_seqscan = off")
        connection.exec_driver_sql("SELECT count(*) FROM p WHERE x = 3").all()
    _until(lambda: (_index(_read(postgresql), "px").uses or 0) == 2, "both partitions' indexes were read")
    _run(postgresql, "DROP INDEX px", _index(catalog, "px").definition or "", "CREATE INDEX own ON p1 (x, id)")
    assert _index(_read(postgresql), "px").columns == ("x",)
    [note] = _read(postgresql).notes
    assert "1 indexes belong to single partitions" in note.reason


def _size(engine: sa.Engine, name: str) -> int:
    with engine.connect() as connection:
        return int(
            connection.execute(sa.text("SELECT pg_relation_size(CAST(:n AS regclass))"), {"n": name}).scalar_one()
        )


def test_partitions_of_mariadb_are_added_up(mariadb: sa.Engine) -> None:
    _run(
        mariadb,
        "CREATE TABLE p (id int PRIMARY KEY, x int, KEY px (x)) PARTITION BY HASH (id) PARTITIONS 4",
        "INSERT INTO p SELECT seq, seq % 7 FROM seq_1_to_2000",
        "ANALYZE TABLE p",
    )
    table = _read(mariadb).tables["p"]
    assert [(index.name, index.size_bytes) for index in table.indexes] == [("PRIMARY", 4 * 16384), ("px", 4 * 16384)]
    assert table.rows == pytest.approx(2000, rel=0.05)


def test_an_index_whose_build_failed_is_not_valid(postgresql: sa.Engine) -> None:
    _run(postgresql, "CREATE TABLE t (a int)", "INSERT INTO t VALUES (1), (1)")
    with pytest.raises(sa.exc.IntegrityError):
        _run(postgresql, "CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)")
    assert not _index(_read(postgresql), "i").valid


def test_extended_statistics_tell_how_many_values_columns_have_together(postgresql: sa.Engine) -> None:
    _run(
        postgresql,
        "CREATE TABLE t (a int, gone int, b int, c int)",
        "ALTER TABLE t DROP gone",
        "INSERT INTO t SELECT g % 10, g % 20, g FROM generate_series(1, 2000) g",
        "CREATE INDEX i ON t (a, b, c)",
        "CREATE INDEX e ON t ((c % 50))",
        "CREATE STATISTICS s (ndistinct) ON b, a, (c + 1) FROM t",
        "ANALYZE",
    )
    catalog = _read(postgresql)
    assert _index(catalog, "i").distinct == (10, 20, None)
    assert _index(catalog, "e").distinct == (50,)


def test_what_an_index_lost_room_to_is_estimated(postgresql: sa.Engine) -> None:
    _run(
        postgresql,
        "CREATE TABLE t (a bigint PRIMARY KEY, b text)",
        "INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 20000) g",
        "CREATE INDEX i ON t (b)",
        "ANALYZE t",
    )
    fresh = _read(postgresql)
    for name in ("t_pkey", "i"):
        index = _index(fresh, name)
        assert (index.bloat_bytes or 0) < 0.1 * (index.size_bytes or 0), name
    _run(postgresql, "DELETE FROM t WHERE a % 4 <> 0", "VACUUM ANALYZE t")
    for name in ("t_pkey", "i"):
        index = _index(_read(postgresql), name)
        assert (index.bloat_bytes or 0) > 0.5 * (index.size_bytes or 0), name


def test_other_schemas_are_not_told_unless_asked_for(engine: sa.Engine, tmp_path: Path) -> None:
    kind, other = engine.dialect.name, f"other {uuid4().hex}"
    read = dialect_of(engine).catalog
    with _schema(engine, other, tmp_path) as connection:
        quoted = connection.dialect.identifier_preparer.quote_identifier(other)
        connection.exec_driver_sql("CREATE TABLE here (id int PRIMARY KEY, b int)")
        connection.exec_driver_sql(f"CREATE TABLE {quoted}.there (id int PRIMARY KEY, a int)")
        connection.exec_driver_sql(f"CREATE TABLE {quoted}.here (id int PRIMARY KEY, other int)")
        if kind != "sqlite":
            connection.exec_driver_sql(
                f"ALTER TABLE here ADD CONSTRAINT fk FOREIGN KEY (b) REFERENCES {quoted}.there (id)"
            )
        own, others = read(connection), read(connection, other)
        if kind == "postgresql":
            connection.exec_driver_sql(f"SET LOCAL search_path = {quoted}, public")
            assert set(read(connection).tables) == {"here", "there"}, "the first that is on the path"
        connection.rollback()
    assert set(own.tables) == {"here"}
    assert "other" not in own.tables["here"].by_name
    assert set(others.tables) == {"here", "there"}
    assert "other" in others.tables["here"].by_name
    assert others.schema == other
    if kind != "sqlite":
        [key] = own.tables["here"].foreign_keys
        assert key.referred_table == f"{other}.there"


@contextmanager
def _schema(engine: sa.Engine, name: str, folder: Path) -> Iterator[sa.Connection]:
    quoted = engine.dialect.identifier_preparer.quote_identifier(name)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.execute(sa.text(f"ATTACH :file AS {quoted}"), {"file": str(folder / "other.sqlite3")})
        elif engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"CREATE SCHEMA {quoted}")
        else:
            connection.exec_driver_sql(f"CREATE DATABASE {quoted}")
        try:
            yield connection
        finally:
            if engine.dialect.name not in ("sqlite", "postgresql"):
                connection.exec_driver_sql("DROP TABLE IF EXISTS here")
                connection.exec_driver_sql(f"DROP DATABASE {quoted}")


@pytest.mark.parametrize("kind", ["mariadb", "postgresql"])
def test_what_a_user_may_not_read_is_noted(request: pytest.FixtureRequest, opened: Opens, kind: str) -> None:
    engine: sa.Engine = request.getfixturevalue(kind)
    with engine.begin() as connection:
        shop.create_all(connection)
        _fill(connection)
    _analyze(engine)
    with _poor_user(engine) as url:
        catalog = _read(opened(url))
    whole = _read(engine)
    assert catalog.tables.keys() == whole.tables.keys()
    for name, table in catalog.tables.items():
        assert [(index.name, index.keys) for index in table.indexes] == [
            (index.name, index.keys) for index in whole.tables[name].indexes
        ]
    assert any("GRANT" in note.fix for note in catalog.notes)
    assert whole.notes == ()
    table = catalog.tables["customers"]
    assert table.rows == pytest.approx(ROWS, rel=0.05)
    assert table.analyzed
    assert table.by_name["name"].bounds == ()


@contextmanager
def _poor_user(engine: sa.Engine) -> Iterator[sa.URL]:
    """The address of somebody who may connect, and little else."""
    name = f"poor_{uuid4().hex[:20]}"
    if engine.dialect.name == "postgresql":
        _run(engine, f"CREATE ROLE {name} LOGIN PASSWORD 'pw'")
    else:
        _run(engine, f"CREATE USER {name} IDENTIFIED BY 'pw'", f"GRANT SELECT ON `{engine.url.database}`.* TO {name}")
    try:
        yield engine.url.set(username=name, password="pw")
    finally:
        _run(engine, f"DROP {'ROLE' if engine.dialect.name == 'postgresql' else 'USER'} {name}")


def test_nobody_who_alters_a_table_is_waited_for(postgresql: sa.Engine) -> None:
    _run(
        postgresql,
        "CREATE TABLE t (a int)",
        "CREATE INDEX i ON t (a) WHERE a > 1",
        "CREATE TABLE u (a int)",
        "CREATE TABLE p (a int) PARTITION BY LIST (a)",
        "CREATE TABLE p1 PARTITION OF p DEFAULT",
        "CREATE INDEX px ON p (lower(a::text))",
    )
    with postgresql.connect() as reads, ThreadPoolExecutor(1) as other:
        reads.exec_driver_sql("SELECT * FROM t")
        alters = other.submit(_run, postgresql, "ALTER TABLE t ADD b int")
        _until(lambda: _waiting(postgresql) == 1, "who alters the table waits, and everybody else behind")
        behind = _read(postgresql)
        reads.rollback()
        alters.result(WAIT_S)
    with postgresql.connect() as alters_now:
        alters_now.exec_driver_sql("LOCK TABLE t, p1 IN ACCESS EXCLUSIVE MODE")
        beside = _read(postgresql)
        alters_now.rollback()
    for catalog in (behind, beside):
        assert set(catalog.tables) == {"p", "u"}
        assert [note.reason for note in catalog.notes] == ["1 tables are being altered, and left out"]
    assert set(_read(postgresql).tables) == {"p", "t", "u"}


def _waiting(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar_one())


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def test_postgresql_counts_uses_and_changes(postgresql: sa.Engine) -> None:
    _run(postgresql, "CREATE TABLE t (a int, b int)", "CREATE INDEX ia ON t (a)", "CREATE INDEX ib ON t (b)")
    with postgresql.begin() as connection:
        connection.exec_driver_sql("INSERT INTO t SELECT g, g FROM generate_series(1, 5000) g")
        connection.exec_driver_sql("DELETE FROM t WHERE b + 0 > 4999")
    _run(postgresql, "ANALYZE t")
    with postgresql.connect() as connection:
        connection.exec_driver_sql("SELECT count(b) FROM t WHERE a = 7").all()
    postgresql.dispose()  # which is when the server is told

    def counted() -> bool:
        table = _read(postgresql).tables["t"]
        return table.changes == Changes(5000, 0, 1) and _index(_read(postgresql), "ia").uses == 1

    _until(counted, "a use and 5001 changes")
    catalog = _read(postgresql)
    assert _index(catalog, "ia").is_used
    assert _index(catalog, "ib").is_used is False
    assert catalog.uses_unknown is None
    assert catalog.tables["t"].full_scans is not None
    _run(postgresql, "SELECT pg_stat_reset()")
    _until(lambda: _index(_read(postgresql), "ia").uses == 0, "counted anew")
    since = _read(postgresql).uses_since
    assert since is not None
    assert since.tzinfo is UTC


@pytest.fixture(scope="module", params=["userstat", "performance_schema"])
def counting(request: pytest.FixtureRequest) -> Iterator[sa.URL]:
    """A MariaDB that counts uses from its start."""
    options = {"performance_schema": "ON", "performance_schema_instrument": "wait/io/table/%=ON"}
    with start_mariadb(options={"userstat": "1"} if request.param == "userstat" else options) as server:
        yield server.create_database("shop").update_query_dict({"tested": request.param})


def test_mariadb_counts_what_was_read_of_an_index(counting: sa.URL, opened: Opens) -> None:
    means = counting.query["tested"]
    engine = opened(counting.difference_update_query(["tested"]))
    _run(
        engine,
        "CREATE TABLE t (id int PRIMARY KEY, a int, b int, c int, KEY ia (a), KEY ib (b), KEY ic (c))",
        "INSERT INTO t SELECT seq, seq, seq, seq FROM seq_1_to_2000",
        "DELETE FROM t WHERE id = 2000",
        "UPDATE t SET c = 0 WHERE id = 1",
        "EXPLAIN SELECT * FROM t WHERE b = 3",
        "SELECT * FROM t WHERE a = 7",
        "SELECT * FROM t WHERE c = -1",
    )
    before = datetime.now(UTC)
    catalog = _read(engine)
    table = catalog.tables["t"]
    ia, ib, ic = (_index(catalog, name) for name in ("ia", "ib", "ic"))
    assert ia.is_used
    assert ia.uses is None, "rows are counted, not statements"
    assert (ib.uses, ib.rows_read, ib.is_used) == (0, 0, False)
    assert ic.is_used is False, "who finds nothing leaves no trace"
    assert table.changes == (Changes(2000, 1, 1) if means == "performance_schema" else None)
    assert catalog.uses_since is not None
    assert catalog.uses_since < before
    assert any("found nothing, nor checks of foreign keys" in note.reason for note in catalog.notes)


def test_since_when_a_switch_is_on_is_known_only_of_the_start(opened: Opens) -> None:
    with start_mariadb() as server:
        engine = opened(server.create_database("shop"))
        _run(engine, "CREATE TABLE t (id int PRIMARY KEY)")
        catalog = _read(engine)
        assert catalog.uses_unknown == Unsupported(
            "the server counts no uses of indexes",
            "SET GLOBAL userstat = 1, and put userstat=1 under [mysqld] in my.cnf",
        )
        assert _index(catalog, "PRIMARY").uses is None
        assert _index(catalog, "PRIMARY").is_used is None
        _run(engine, "SET GLOBAL userstat = 1")
        catalog = _read(engine)
        assert catalog.uses_unknown is None
        assert catalog.uses_since is None
        assert any("does not tell when" in note.reason for note in catalog.notes)
        assert _index(catalog, "PRIMARY").is_used is False


def test_a_sqlite_file_is_read_and_not_touched(sqlite: sa.Engine) -> None:
    with sqlite.begin() as connection:
        shop.create_all(connection)
        _fill(connection)
    _run(sqlite, "CREATE VIRTUAL TABLE words USING fts5(body)")
    file = Path(str(sqlite.url.database))
    before = hashlib.sha256(file.read_bytes()).digest()
    catalog = _read(sqlite)
    assert set(catalog.tables) == {table.name for table in shop.sorted_tables}, "a virtual table is none"
    table = catalog.tables["customers"]
    assert (table.rows, table.rows_exact, table.analyzed) == (ROWS, True, False)
    assert [note.fix for note in catalog.notes] == ["run ANALYZE, or PRAGMA optimize before closing"]
    assert isinstance(catalog.uses_unknown, Unsupported)
    assert all(index.is_used is None for index in table.indexes)
    assert hashlib.sha256(file.read_bytes()).digest() == before


def test_a_large_sqlite_file_is_not_read(sqlite: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with sqlite.begin() as connection:
        shop.create_all(connection)
        _fill(connection)
    # By its full name, for the package has a function of the same name.
    monkeypatch.setattr(sys.modules["dbpilot.dialects.sqlite.catalog"], "MAX_READ_BYTES", 1000)
    catalog = _read(sqlite)
    table = catalog.tables["customers"]
    assert (table.rows, table.rows_exact) == (ROWS, False)
    assert table.size_bytes is None
    assert table.index_bytes is None
    assert any("larger than" in note.reason for note in catalog.notes)


def test_rows_tell_what_statistics_do_not(engine: sa.Engine) -> None:
    rows = 40_000
    with engine.begin() as connection:
        table = sa.Table(
            "t",
            sa.MetaData(),
            sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("few", sa.Integer),
            sa.Column("many", sa.Integer),
            sa.Column("skewed", sa.String(20)),
            sa.Column("gaps", sa.Integer),
        )
        table.create(connection)
        connection.execute(
            table.insert(),
            [
                {
                    "id": n,
                    "few": n % 50,
                    "many": n * 7,
                    "skewed": "often" if n % 10 < 8 else f"v{n % 997}",
                    "gaps": n if n % 5 == 0 else None,
                }
                for n in range(rows)
            ],
        )
    sample = dialect_of(engine).sampled
    with engine.connect() as connection:
        key = Index("pk", "t", (Key("id"),), unique=True, constraint="PRIMARY KEY")
        columns = tuple(Column(column.name, "", _family(column), True) for column in table.columns)
        bare = Table("t", columns, (key,), rows=float(rows), size_bytes=2 * 1024**2)
        found = sample(connection, bare, 4_000)
    assert found["few"].distinct == pytest.approx(50, rel=0.1)
    assert found["many"].distinct == pytest.approx(rows, rel=0.1), "each was seen once"
    value, share = found["skewed"].common[0]
    assert (value, share) == ("often", pytest.approx(0.8, abs=0.05))
    assert 997 / 3 < (found["skewed"].distinct or 0) < 997 * 3
    assert found["gaps"].nulls == pytest.approx(0.8, abs=0.05)
    assert found["many"].bounds[len(found["many"].bounds) // 2] == pytest.approx(rows * 7 / 2, rel=0.25)
    assert found["few"].width is not None
    with engine.connect() as connection:
        large = sample(connection, replace(bare, size_bytes=10**9), 4_000)
        whole = sample(connection, bare, rows + 1)
    assert large["few"].distinct == pytest.approx(50, rel=0.1)
    assert large["gaps"].nulls == pytest.approx(0.8, abs=0.1)
    assert (whole["few"].distinct, whole["many"].distinct, whole["gaps"].nulls) == (50, rows, 0.8)


def _family(column: sa.Column[Any]) -> Any:
    return "text" if isinstance(column.type, sa.String) else "integer"


def test_a_sample_of_keys_with_large_gaps_is_still_one(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        table = sa.Table(
            "t", sa.MetaData(), sa.Column("id", sa.BigInteger, primary_key=True), sa.Column("a", sa.Integer)
        )
        table.create(connection)
        connection.execute(table.insert(), [{"id": n * 10**12 - 10**15, "a": n % 20} for n in range(5_000)])
    _analyze(engine)
    with engine.connect() as connection:
        known = dialect_of(engine).catalog(connection).tables["t"]
        bare = replace(known, columns=tuple(replace(c, distinct=None, nulls=None, common=()) for c in known.columns))
        found = dialect_of(engine).sampled(connection, bare, 1_000)
    assert found["a"].distinct == pytest.approx(20, abs=2)


@pytest.mark.parametrize(
    ("counts", "sampled", "total", "expected"),
    [
        ({"a": 2, "b": 2}, 4, 4, 2),  # all rows were read
        ({"a": 1, "b": 1}, 2, 200, 200),  # all different
        ({"a": 50, "b": 49, "c": 1}, 100, 10_000, 12),  # what was seen once stands for ten
        ({"a": 2, "b": 1, "c": 1}, 4, 5, 3 + 2 * (1.25**0.5 - 1)),
    ],
)
def test_how_many_values_there_are_is_estimated_as_published(
    counts: Mapping[str, int], sampled: int, total: float, expected: float
) -> None:
    assert distinct_in(counts, sampled, total, 1.0) == pytest.approx(expected)

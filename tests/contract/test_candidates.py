"""Candidates on real databases: every one can be built as it is told, and what is said of a condition is true there."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from benchmarks import tpch
from dbpilot.dialects import dialect_of
from dbpilot.dialects.catalog import Catalog, Key
from dbpilot.dialects.whatif import NewIndex
from dbpilot.indexes.candidates import candidates, merged, name_of
from dbpilot.indexes.statements import create_of, drop_of
from dbpilot.sql.predicates import Predicates, filled, predicates_of
from tests import shop


@pytest.fixture
def engine(database_url: sa.URL) -> Iterator[sa.Engine]:
    made = sa.create_engine(database_url)
    yield made
    made.dispose()


def kind_of(engine: sa.Engine) -> str:
    """As catalogues call it."""
    return "mariadb" if engine.dialect.name == "mysql" else engine.dialect.name


def catalog_of(engine: sa.Engine) -> Catalog:
    """Of tables that are empty here, as if they were not."""
    with engine.connect() as connection:
        read = dialect_of(engine).catalog(connection)
    return replace(read, tables={name: replace(table, rows=100_000) for name, table in read.tables.items()})


def bare(table: sa.Table) -> sa.Table:
    """Without references, for which MariaDB makes indexes of its own and keeps others."""
    columns = (
        sa.Column(c.name, c.type, primary_key=c.primary_key, unique=c.unique, autoincrement=c.autoincrement)
        for c in table.columns
    )
    return sa.Table(table.name, sa.MetaData(), *columns)


def asked(text: str, known: Catalog) -> Predicates:
    found = predicates_of(text, known.dialect, known.columns, known.schema)
    assert found is not None
    return found


def texts(of: str, kind: str) -> list[str]:
    if of == "tpch":
        return list(tpch.queries(kind).values())
    return list(dict.fromkeys(shop.compiled(statement, kind) for statement in shop.statements()))


@pytest.mark.parametrize(("of", "metadata"), [("shop", shop.METADATA), ("tpch", tpch.METADATA)], ids=["shop", "tpch"])
def test_every_candidate_is_built_as_it_is_told_and_proposed_no_more(
    engine: sa.Engine, of: str, metadata: sa.MetaData
) -> None:
    for table in metadata.sorted_tables:
        bare(table).create(engine)
    known = catalog_of(engine)
    predicates = [asked(text, known) for text in texts(of, kind_of(engine))]
    together = merged(candidates(predicates, known), known)
    each = (one for alone in predicates for one in candidates([alone], known))
    assert len(together) > 20
    for one in dict.fromkeys([*each, *together]):
        build(engine, one, known)
        if one not in together:
            with engine.begin() as connection:
                connection.exec_driver_sql(drop_of(name_of(one, known), one.table, known))
    present = {
        name: {index.name: index for index in table.indexes} for name, table in catalog_of(engine).tables.items()
    }
    for one in together:
        made = present[one.table][name_of(one, known)]
        assert (told(made.keys), set(made.include)) == (told(one.keys), set(one.include))
    assert not {*together} & {*candidates(predicates, catalog_of(engine))}


def build(engine: sa.Engine, index: NewIndex, known: Catalog) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(create_of(index, name_of(index, known), known))


def told(keys: tuple[Key, ...]) -> list[Key]:
    """Databases write expressions in their own words, and leave out what is usual."""
    usual = (replace(key, nulls_first=None) if key.nulls_first == key.descending else key for key in keys)
    return [Key("an expression") if key.column is None else key for key in usual]


def test_expressions_are_built_as_they_are_told(engine: sa.Engine) -> None:
    if kind_of(engine) == "mariadb":  # it has none
        return
    shop.METADATA.create_all(engine)
    known = catalog_of(engine)
    statements = [
        "SELECT 1 FROM customers WHERE lower(email) = 'x' AND upper(name) = 'x'",
        "SELECT 1 FROM customers WHERE coalesce(country_id, referred_by) = 3",
        "SELECT 1 FROM orders WHERE lower(status) = 'x' AND CAST(placed AS DATE) = '2024-01-01'",
        'SELECT 1 FROM orders WHERE extract(year from "Shipped On") = 2024 AND -total = 3',
    ]
    found = [one for text in statements for one in candidates([asked(text, known)], known)]
    hidden = [one for one in found if any(key.expression for key in one.keys)]
    assert len(hidden) >= (7 if known.dialect == "postgresql" else 5)
    for one in hidden:
        build(engine, one, known)
    again = catalog_of(engine)
    assert not {*hidden} & {*(one for text in statements for one in candidates([asked(text, again)], again))}


# What is said of a condition is what the database does with it.

CONDITIONS = sa.Table(
    "conditions",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("n", sa.Integer, index=True),
    sa.Column("big", sa.BigInteger, index=True),
    sa.Column("d", sa.Numeric(10, 2), index=True),
    sa.Column("s", sa.String(30), index=True),
    sa.Column("c", sa.CHAR(5), index=True),
    sa.Column("at", sa.DateTime, index=True),
    sa.Column("flag", sa.Boolean, index=True),
    sa.Column("filler", sa.String(200)),
    mysql_charset="utf8mb4",
)

SERVED = ["postgresql", "mariadb", "sqlite"]
LAWS = [
    (SERVED, "n = 5"),
    (SERVED, "n IN (5, 6)"),
    (SERVED, "n IS NULL"),
    (SERVED, "n > 990"),
    (SERVED, "NOT (n < 990)"),
    (SERVED, "n BETWEEN 5 AND 6"),
    (SERVED, "n = 5 OR n = 6"),
    (SERVED, "n = 5 OR big = 6"),
    (SERVED, "n = (SELECT 5)"),
    (SERVED, "s = 'x5'"),
    (SERVED, "at = '2024-01-05 00:00:00'"),
    (SERVED, "n + 1 = 6"),
    (SERVED, "abs(n) = 6"),
    (SERVED, "lower(s) = 'x5'"),
    (SERVED, "s LIKE '%5'"),
    (SERVED, "n = 5 OR n + 1 = 7"),
    (SERVED, "CAST(n AS CHAR(5)) = '5'"),
    (["mariadb", "sqlite"], "s LIKE 'x99%'"),
    (["mariadb"], "s = 5"),
    (["sqlite"], "s = 5"),
    (["mariadb"], "s IN (5, 6)"),
    (["mariadb"], "n = '5'"),
    (["mariadb"], "n = 5.5"),
    (["mariadb"], "(n, big) > (990, 5)"),
    (["mariadb"], "(n, big) = (990, 5)"),
    (["mariadb"], "n <=> 5"),
    (["mariadb"], "year(at) = 2030"),
    (["mariadb", "postgresql"], "NOT flag"),
    (["mariadb"], "flag IS TRUE"),
    (["postgresql", "sqlite"], "(n, big) > (990, 5)"),
    (["postgresql"], "n = 5.5"),
    (["postgresql"], "n = 5::bigint"),
    (["postgresql"], "big = 5::numeric"),
    (["postgresql"], "d = 5::integer"),
    (["postgresql"], "d = 5::float8"),
    (["postgresql"], "s = 'x5'::varchar"),
    (["postgresql"], "s = 'x5'::text"),
    (["postgresql"], "c = 'x5'"),
    (["postgresql"], "c = 'x5'::varchar"),
    (["postgresql"], "c = 'x5'::text"),
    (["postgresql"], "c = 'x5'::char(5)"),
    (["postgresql"], "at > '2030-01-01'::date"),
    (["postgresql"], "at > '2030-01-01'::timestamptz"),
    (["postgresql"], "at::date = '2030-01-01'"),
    (["postgresql"], "n = ANY(ARRAY[5, 6])"),
    (["postgresql"], "n IS NOT DISTINCT FROM 5"),
    (["postgresql"], "flag"),
    (["postgresql"], "flag IS TRUE"),
    (["mariadb", "sqlite"], "flag"),
    (["sqlite"], "n IS 5"),
    (["sqlite"], "s GLOB 'x99*'"),
]  # fmt: skip


@pytest.fixture
def conditions(engine: sa.Engine) -> sa.Engine:
    """A thousand rows, hardly a value twice, each column with an index of its own."""
    CONDITIONS.create(engine)
    begin = datetime(2024, 1, 1)  # noqa: DTZ001 - the column has no time zone
    rows = [
        {
            "id": n + 1,
            "n": n,
            "big": n,
            "d": n,
            "s": f"x{n}",
            "c": f"x{n}",
            "at": begin + timedelta(n),
            "filler": "f" * 200,
        }
        for n in range(1000)
    ]
    with engine.begin() as connection:
        connection.execute(CONDITIONS.insert(), [{**row, "flag": row["n"] == 7} for row in rows])
        if engine.dialect.name == "sqlite":
            connection.execute(sa.text("CREATE INDEX nocase ON conditions (s COLLATE NOCASE)"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        tpch_analyze = {"mysql": "ANALYZE TABLE conditions"}
        connection.execute(sa.text(tpch_analyze.get(engine.dialect.name, "ANALYZE")))
    return engine


def searched(engine: sa.Engine, query: str) -> bool:
    """Whether the database looks rows up in an index; if it can choose, it has to."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SET enable_seqscan = off")
            lines = connection.exec_driver_sql(f"EXPLAIN {query.replace('%', '%%')}").scalars()
            return any("Index Cond" in line for line in lines)
        if engine.dialect.name == "sqlite":
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}").all()
            return any("SEARCH " in row[3] or row[3].startswith("MULTI-INDEX OR") for row in plan)
        forced = ", ".join(f"ix_conditions_{column.name}" for column in CONDITIONS.columns if column.index)
        query = query.replace("FROM conditions ", f"FROM conditions FORCE INDEX ({forced}) ")
        plan = connection.exec_driver_sql(f"EXPLAIN {query}".replace("%", "%%")).all()
        return any(row[3] not in (None, "ALL", "index") for row in plan)


def said(engine: sa.Engine, query: str) -> bool:
    """Whether we say that an index serves the query."""
    return any(use.equal or use.ranges or use.arms for use in asked(query, catalog_of(engine)).uses)


def test_what_is_said_of_a_condition_is_what_the_database_does_with_it(conditions: sa.Engine) -> None:
    queries = [f"SELECT filler FROM conditions WHERE {law}" for kinds, law in LAWS if kind_of(conditions) in kinds]
    wrong = {query: done for query in queries if said(conditions, query) != (done := searched(conditions, query))}
    assert wrong == {}


DERIVED = [
    "SELECT * FROM (SELECT n, filler FROM conditions) q WHERE n = 5",
    "SELECT * FROM (SELECT n AS m, filler FROM conditions WHERE d > 3) q WHERE m = 5",
    "SELECT * FROM (SELECT n, count(*) AS c FROM conditions GROUP BY n) q WHERE n = 5",
    "SELECT * FROM (SELECT n, filler, count(*) AS c FROM conditions GROUP BY n, filler) q WHERE n = 5",
    "SELECT * FROM (SELECT DISTINCT n, filler FROM conditions) q WHERE n = 5",
    "SELECT * FROM (SELECT n, filler FROM conditions UNION ALL SELECT id, filler FROM conditions) q WHERE n = 5",
    "SELECT * FROM (SELECT n, filler FROM conditions UNION SELECT id, filler FROM conditions) q WHERE n = 5",
    "SELECT * FROM (SELECT n, filler FROM conditions UNION ALL SELECT big, filler FROM conditions) q WHERE n = 5",
    "SELECT * FROM (SELECT filler, max(n) AS n FROM conditions GROUP BY filler) q WHERE n = 5",
    "SELECT * FROM (SELECT n, filler FROM conditions LIMIT 10) q WHERE n = 5",
    "SELECT * FROM (SELECT n, filler, rank() OVER (ORDER BY filler) AS r FROM conditions) q WHERE n = 5",
    "SELECT * FROM (SELECT * FROM (SELECT * FROM conditions) p) q WHERE n = 5",
    "WITH q AS (SELECT n, filler FROM conditions) SELECT * FROM q WHERE n = 5",
    "WITH q AS (SELECT n, filler FROM conditions) SELECT * FROM q x JOIN q y ON x.filler = y.filler WHERE x.n = 5",
    "SELECT filler FROM conditions WHERE filler IN (SELECT filler FROM conditions WHERE n = 5)",
    "SELECT filler FROM conditions WHERE EXISTS (SELECT 1 FROM conditions WHERE n = 5)",
]


def test_a_filter_is_said_to_reach_a_derived_table_only_where_the_database_moves_it(conditions: sa.Engine) -> None:
    wrong = [query for query in DERIVED if said(conditions, query) and not searched(conditions, query)]
    assert wrong == []
    assert [query for query in DERIVED if searched(conditions, query) and not said(conditions, query)] == []


# Literals are read back as the values that they were.

VALUES: list[tuple[sa.types.TypeEngine[Any], list[Any]]] = [
    (sa.Integer(), [0, -5, 2**31 - 1]),
    (sa.Numeric(20, 6, asdecimal=True), [Decimal("1.5"), Decimal("-0.000001"), Decimal("12345678901234.5")]),
    (sa.Double(), [1.5, -1e-7, 1e20]),
    (sa.Boolean(), [True, False]),
    (sa.Date(), [date(2024, 2, 29)]),
    (sa.DateTime(), [datetime(2024, 2, 29, 13, 5, 7)]),  # noqa: DTZ001 - the column has no time zone
    (sa.LargeBinary(), [b"", b"\x00\xff'\\"]),
    (
        sa.String(100),
        [
            "",
            "it's",
            "\\",
            "\\'",
            "a\\nb",
            "\n\t%",
            "%s %(x)s ? :x $1",
            "-- x",
            "/* ",
            '"`',
            "한국",
            "'); DROP TABLE x; --",
        ],
    ),
]


def test_a_literal_is_read_back_as_the_value_that_it_was(engine: sa.Engine) -> None:
    kind = kind_of(engine)
    for number, (type_, values) in enumerate(VALUES):
        table = sa.Table(f"literals_{number}", sa.MetaData(), sa.Column("n", sa.Integer), sa.Column("v", type_))
        table.create(engine)
        with engine.begin() as connection:
            for place, value in enumerate([*values, None]):
                text = filled(f"INSERT INTO {table.name} (n, v) VALUES (?, ?)", kind, [place, value])  # type: ignore[arg-type]  # one of the names
                send(connection, text)
            rows = connection.execute(sa.select(table.c.v).order_by(table.c.n)).scalars().all()
        assert rows == [*values, None]


def test_lists_and_times_are_read_back(engine: sa.Engine) -> None:
    kind: Any = kind_of(engine)
    known = {
        filled("SELECT 3 IN (?)", kind, [[1, 2, 3]]): True,
        filled("SELECT 3 IN %s", kind, [[1, 2]]): False,
        filled("SELECT (1, 2) IN (?)", "postgresql", [[(1, 2), (3, 4)]]): True,
        filled("SELECT 3 = ANY(?)", "postgresql", [[1, 3]]): True,
        filled("SELECT CAST(? AS interval) = interval '90 seconds'", "postgresql", [timedelta(seconds=90)]): True,
        filled("SELECT CAST(? AS timestamptz) = timestamptz ?", "postgresql",
               [datetime(2024, 1, 1, tzinfo=UTC), "2024-01-01 09:00+09"]): True,
        filled("SELECT CAST(? AS uuid) = ?", "postgresql", [UUID(int=5), UUID(int=5)]): True,
    }  # fmt: skip
    with engine.connect() as connection:
        for text, expected in known.items():
            if kind == "postgresql" or ("ANY" not in text and "CAST" not in text and "(1, 2) IN" not in text):
                assert bool(send(connection, text).scalar_one()) is expected


def send(connection: sa.Connection, text: str) -> sa.CursorResult[Any]:
    """As it is: without parameters the drivers read no placeholders into it."""
    return connection.execution_options(no_parameters=True).exec_driver_sql(text)

"""What SQLite's planner says of a clone without rows is what it says of the file with the index really there."""

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

from dbpilot.dialects.catalog import Key
from dbpilot.dialects.connections import own_engine
from dbpilot.dialects.plan import PlanNode
from dbpilot.dialects.sqlite import DIALECT
from dbpilot.dialects.sqlite.explain import lines_of, tree_of
from dbpilot.dialects.sqlite.sample import LEAST_ROWS, estimated_distinct, width_of
from dbpilot.dialects.sqlite.whatif import SqliteWhatIf, open_what_if
from dbpilot.dialects.whatif import Cost, NewIndex, Query
from dbpilot.errors import RefusedError, WatchedDatabaseError
from dbpilot.unsupported import Unsupported

ORDERS = 40_000
CUSTOMERS = 2_000
SCHEMA = """
CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE, city TEXT, born TEXT);
CREATE TABLE "order" (id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customer, state TEXT, total REAL,
    made TEXT, note TEXT);
CREATE TABLE "상품 line" (order_id INTEGER, number INTEGER, "가격" NUMERIC, sku TEXT,
    PRIMARY KEY (order_id, number)) WITHOUT ROWID;
CREATE TABLE tag (name TEXT PRIMARY KEY, weight INT, heavy INT GENERATED ALWAYS AS (weight * 2) VIRTUAL);
CREATE INDEX order_state ON "order" (state);
CREATE INDEX order_open ON "order" (made) WHERE state = 'open';
CREATE INDEX customer_city ON customer (lower(city), born DESC);
CREATE VIEW open_order AS SELECT id, customer_id, total FROM "order" WHERE state = 'open';
CREATE VIRTUAL TABLE note USING fts5(body);
CREATE TRIGGER order_made AFTER INSERT ON "order" BEGIN UPDATE customer SET city = city WHERE id = new.customer_id; END;
"""
QUERIES = (
    'SELECT * FROM "order" WHERE customer_id = 17',
    "SELECT total FROM \"order\" WHERE state = 'open' AND made > '2024-06-01'",
    'SELECT id FROM "order" ORDER BY made DESC LIMIT 10',
    'SELECT state, count(*), sum(total) FROM "order" GROUP BY state',
    "SELECT * FROM customer WHERE name LIKE 'mi%'",
    "SELECT * FROM customer WHERE lower(city) = 'bonn' ORDER BY born DESC",
    "SELECT c.name, o.total FROM customer c JOIN \"order\" o ON o.customer_id = c.id WHERE c.city = 'Bonn'",
    'SELECT c.name FROM customer AS c WHERE EXISTS (SELECT 1 FROM "order" WHERE customer_id = c.id AND total > 900)',
    'SELECT * FROM "상품 line" WHERE sku = \'s17\' OR "가격" = 3',
    "SELECT count(*) FROM open_order v JOIN \"상품 line\" l ON l.order_id = v.id WHERE l.sku = 's3'",
    "SELECT * FROM \"order\" WHERE customer_id IN (SELECT id FROM customer WHERE born < '1970')",
    'WITH big AS (SELECT customer_id, sum(total) t FROM "order" GROUP BY 1) SELECT * FROM big WHERE t > 100',
    "UPDATE \"order\" SET note = NULL WHERE customer_id = 5 AND made < '2023'",
    "DELETE FROM \"상품 line\" WHERE sku = 's1'",
    "SELECT state FROM \"order\" WHERE made = '2024-01-01' UNION SELECT name FROM tag WHERE weight = 3",
    "SELECT * FROM note WHERE note MATCH 'hello'",
)


def _keys(*names: str) -> tuple[Key, ...]:
    return tuple(Key(name) for name in names)


INDEXES = (
    NewIndex("order", _keys("customer_id")),
    NewIndex("order", _keys("customer_id", "made")),
    NewIndex("order", (Key("made", descending=True),)),
    NewIndex("order", _keys("state", "total")),
    NewIndex("order", _keys("customer_id"), include=("total",)),
    NewIndex("customer", _keys("name")),
    NewIndex("customer", (Key("city"), Key(None, "lower(name)"))),
    NewIndex("상품 line", _keys("sku")),
    NewIndex("상품 line", _keys("가격", "sku")),
    NewIndex("tag", _keys("weight"), unique=True),
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop that was analysed."""
    path = tmp_path_factory.mktemp("shop") / "shop.sqlite3"
    rng = random.Random(3)
    days = [f"20{year}-{month:02}-{day:02}" for year in (22, 23, 24) for month in range(1, 13) for day in range(1, 29)]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(SCHEMA)
        cities = ["Bonn", "Köln", "서울", "Lyon", None]
        customers = [
            (f"Name{rng.randrange(500)}", rng.choice(cities), f"19{rng.randint(40, 99)}") for _ in range(CUSTOMERS)
        ]
        connection.executemany("INSERT INTO customer (name, city, born) VALUES (?, ?, ?)", customers)
        states = [*["done"] * 90, *["open"] * 9, "odd"]
        orders = [
            (
                min(int(rng.expovariate(0.01)) + 1, CUSTOMERS),
                rng.choice(states),
                rng.randrange(100_000) / 100,
                rng.choice(days),
                "x" * 60,
            )
            for _ in range(ORDERS)
        ]
        connection.executemany(
            'INSERT INTO "order" (customer_id, state, total, made, note) VALUES (?, ?, ?, ?, ?)', orders
        )
        lines = [
            (order, number, rng.randrange(50), f"s{rng.randrange(3000)}")
            for order in range(ORDERS // 4)
            for number in (1, 2)
        ]
        connection.executemany('INSERT INTO "상품 line" VALUES (?, ?, ?, ?)', lines)
        connection.executemany("INSERT INTO tag (name, weight) VALUES (?, ?)", [(f"t{one}", one) for one in range(100)])
        connection.executemany("INSERT INTO note VALUES (?)", [("hello world",), ("good bye",)])
        connection.execute("ANALYZE")
    return path


@pytest.fixture
def engine(file: Path) -> Iterator[sa.Engine]:
    made = sa.create_engine(f"sqlite:///{file}")
    yield own_engine(made)
    made.dispose()


@pytest.fixture
def what_if(engine: sa.Engine) -> Iterator[SqliteWhatIf]:
    """A what-if about the shop."""
    with _asking(engine) as opened:
        yield opened


def _asking(engine: sa.Engine) -> Any:
    with engine.connect() as connection:
        catalog = DIALECT.catalog(connection)
    return open_what_if(engine, catalog)


def _cost(answer: Cost | Unsupported) -> Cost:
    assert isinstance(answer, Cost), answer
    return answer


def _shape(node: PlanNode, name: str | None) -> Any:
    index = "(the new one)" if node.index is not None and node.index == name else node.index
    return node.operation, node.table, index, node.condition, [_shape(child, name) for child in node.children]


def _really(file: Path, copy: Path, index: NewIndex) -> list[Any]:
    """The plans of all queries with the index in a copy of the file."""
    shutil.copy(file, copy)
    keys = [f'"{key.column}"{" DESC" * key.descending}' if key.column else f"({key.expression})" for key in index.keys]
    keys += [f'"{name}"' for name in index.include]
    with closing(sqlite3.connect(copy)) as connection:
        unique = "UNIQUE " if index.unique else ""
        connection.execute(f'CREATE {unique}INDEX "real one" ON "{index.table}" ({", ".join(keys)})')
        connection.execute("ANALYZE")
        plans = [connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall() for query in QUERIES]
    return [_shape(tree_of(lines_of(rows)), "real one") for rows in plans]


@pytest.mark.parametrize("index", INDEXES, ids=lambda index: "-".join(index.columns))
def test_plans_are_those_with_the_real_index(
    file: Path, tmp_path: Path, what_if: SqliteWhatIf, index: NewIndex
) -> None:
    answers = [_cost(what_if.cost(Query(query), [index])) for query in QUERIES]
    [name] = what_if._new.values()
    expected = _really(file, tmp_path / "copy.sqlite3", index)
    for query, answer, plan in zip(QUERIES, answers, expected, strict=True):
        assert _shape(answer.root, name) == plan, query
        assert (index in answer.used) == ("(the new one)" in repr(plan)), query


def test_the_file_stays_as_it_is_and_free(file: Path, engine: sa.Engine) -> None:
    before = sha256(file.read_bytes()).hexdigest()
    with _asking(engine) as what_if:
        for index in INDEXES:
            what_if.cost(Query(QUERIES[0]), [index])
            what_if.size_bytes(index)
        assert sha256(file.read_bytes()).hexdigest() == before
        with closing(sqlite3.connect(file, timeout=0)) as writer:  # it does not wait for anybody
            writer.execute("BEGIN EXCLUSIVE")
            writer.rollback()
    assert sha256(file.read_bytes()).hexdigest() == before
    assert not [path for path in file.parent.iterdir() if path != file]


def test_a_better_plan_costs_less(what_if: SqliteWhatIf) -> None:
    query, index = Query(QUERIES[0]), NewIndex("order", _keys("customer_id"))
    before, after = _cost(what_if.cost(query)), _cost(what_if.cost(query, [index]))
    assert before.used == frozenset()
    assert before.root.children[0].reads_all
    assert after.used == {index}
    assert after.total < before.total / 50
    assert _cost(what_if.cost(query)).total == before.total, "an answer does not depend on those before it"
    assert what_if.calls == 3


def test_present_indexes_are_named_and_can_be_thought_away(what_if: SqliteWhatIf) -> None:
    query = Query("SELECT * FROM \"order\" WHERE state = 'odd'")
    assert _cost(what_if.cost(query)).used_names == {"order.order_state"}
    away = _cost(what_if.cost(query, without=["order.order_state"]))
    assert away.used_names == frozenset()
    assert away.root.children[0].reads_all
    assert _cost(what_if.cost(query)).used_names == {"order.order_state"}, "it is back, with its figures"
    by_key = _cost(what_if.cost(Query('SELECT * FROM "order" WHERE id = 5')))
    assert by_key.used_names == {"order.INTEGER PRIMARY KEY"}


@pytest.mark.parametrize("name", ["tag.sqlite_autoindex_tag_1", "order.INTEGER PRIMARY KEY", "order.no_such_index"])
def test_what_cannot_be_dropped_cannot_be_thought_away(what_if: SqliteWhatIf, name: str) -> None:
    assert isinstance(what_if.cost(Query("SELECT 1"), without=[name]), Unsupported)


@pytest.mark.parametrize(
    ("statement", "parameters"),
    [
        ('SELECT * FROM "order" WHERE customer_id = ? AND made > ?', None),
        ('SELECT * FROM "order" WHERE customer_id = ? AND made > ?', (5, "2024")),
        ('SELECT * FROM "order" WHERE customer_id = :id AND made > @made', None),
        ('SELECT * FROM "order" WHERE customer_id = :id', {"id": 5}),
        ('SELECT * FROM "order" WHERE customer_id = ?1 OR customer_id = ?1', None),
    ],
)
def test_values_may_stay_open(what_if: SqliteWhatIf, statement: str, parameters: Any) -> None:
    index = NewIndex("order", _keys("customer_id", "made"))
    assert _cost(what_if.cost(Query(statement, parameters), [index])).used == {index}


def test_a_value_counts_where_the_planner_looks_at_it(what_if: SqliteWhatIf) -> None:
    index = NewIndex("customer", _keys("name"))
    statement = "SELECT * FROM customer WHERE name LIKE ?"
    assert _cost(what_if.cost(Query(statement, ("mi%",)), [index])).used == {index}
    assert _cost(what_if.cost(Query(statement, ("%mi",)), [index])).used == frozenset()


def test_an_ordered_read_that_stops_is_cheap(what_if: SqliteWhatIf) -> None:
    index = NewIndex("order", _keys("made"))
    stopped = Query('SELECT * FROM "order" ORDER BY made LIMIT 10')
    assert _cost(what_if.cost(stopped, [index])).total < _cost(what_if.cost(stopped)).total / 100
    open_ended = Query('SELECT * FROM "order" ORDER BY made LIMIT ?')
    assert _cost(what_if.cost(open_ended, [index])).total < _cost(what_if.cost(open_ended)).total / 10


def test_an_index_on_the_inner_side_of_a_join_pays(what_if: SqliteWhatIf) -> None:
    query = Query(QUERIES[7])
    before = _cost(what_if.cost(query)).total
    assert _cost(what_if.cost(query, [NewIndex("order", _keys("customer_id"))])).total < before / 10


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM nowhere WHERE a = 'geheim'",
        "SELECT geheim FROM customer",
        "SELECT 'geheim' FROM customer WHERE WHERE",
        "SELECT * FROM customer; SELECT 'geheim'",
        "ATTACH 'geheim' AS other",
        "PRAGMA user_version = 7",
        "DROP TABLE customer",
        "",
    ],
)
def test_what_cannot_be_planned_says_why_without_values(what_if: SqliteWhatIf, statement: str) -> None:
    answer = what_if.cost(Query(statement))
    assert isinstance(answer, Unsupported)
    assert answer.reason
    assert answer.fix
    assert "geheim" not in repr(answer)
    assert isinstance(what_if.cost(Query(QUERIES[0])), Cost), "and it goes on"


def test_an_index_that_cannot_be_made_is_unsupported(what_if: SqliteWhatIf) -> None:
    query = Query(QUERIES[0])
    assert isinstance(what_if.cost(query, [NewIndex("open_order", _keys("id"))]), Unsupported)
    assert isinstance(what_if.cost(query, [NewIndex("order", (Key(None, "random()"),))]), Unsupported)
    assert isinstance(what_if.cost(query, [INDEXES[0]]), Cost)


def test_the_applications_own_functions_and_collations_are_stood_in_for(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/own.sqlite3")

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.create_function("shape", 2, lambda one, two: f"{one}{two}", deterministic=True)
        connection.create_collation("swedish", lambda one, two: (one > two) - (one < two))

    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT COLLATE swedish, b TEXT)")
        connection.exec_driver_sql("CREATE INDEX t_shape ON t (shape(a, b))")
        connection.exec_driver_sql("INSERT INTO t (a, b) VALUES ('å', 'b'), ('ö', 'c')")
    with _asking(own_engine(engine)) as what_if:
        index = NewIndex("t", _keys("a"))
        assert _cost(what_if.cost(Query("SELECT shape(b, 1) FROM t WHERE a = 'å'"), [index])).used == {index}
        query = Query("SELECT * FROM t WHERE shape(a, b) = 'åb'")
        assert _cost(what_if.cost(query)).used_names == {"t.t_shape"}
        expression = NewIndex("t", (Key(None, "shape(b, a)"),))
        assert _cost(what_if.cost(Query("SELECT * FROM t WHERE shape(b, a) = 'x'"), [expression])).used == {expression}
        assert what_if.size_bytes(expression) == 4096
    engine.dispose()


def test_a_virtual_table_of_a_module_that_is_not_here_is_left_out(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "strange.sqlite3"
    shutil.copy(file, copy)
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        sql = "CREATE VIRTUAL TABLE vectors USING vec0(embedding float[8])"
        connection.execute("INSERT INTO sqlite_master VALUES ('table', 'vectors', 'vectors', 0, ?)", (sql,))
    engine = sa.create_engine(f"sqlite:///{copy}")
    with open_what_if(own_engine(engine), _catalog_of(file)) as what_if:
        assert isinstance(what_if.cost(Query(QUERIES[0])), Cost)
        answer = what_if.cost(Query("SELECT * FROM vectors"))
        assert isinstance(answer, Unsupported)
        assert "vectors" in answer.reason
    engine.dispose()


def _catalog_of(file: Path) -> Any:
    with sa.create_engine(f"sqlite:///{file}").connect() as connection:
        return DIALECT.catalog(connection)


def test_a_database_that_was_never_analysed_is_studied(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "raw.sqlite3"
    shutil.copy(file, copy)
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("DROP TABLE sqlite_stat1")
        connection.execute('DELETE FROM "order" WHERE id % 3 = 0')
    with closing(sqlite3.connect(copy)) as connection:
        [(rows,)] = connection.execute('SELECT count(*) FROM "order"')
    engine = sa.create_engine(f"sqlite:///{copy}")
    with _asking(own_engine(engine)) as what_if:
        index = NewIndex("order", _keys("customer_id"))
        assert _cost(what_if.cost(Query(QUERIES[0]), [index])).used == {index}
        assert what_if._figures.rows("order") == pytest.approx(rows, rel=0.05)
        bad = NewIndex("order", _keys("state"))  # nine of ten rows have the same
        scan = _cost(what_if.cost(Query("SELECT * FROM \"order\" WHERE state = 'done'"), [bad], ["order.order_state"]))
        assert scan.root.children
    engine.dispose()


SIZED = (
    NewIndex("order", _keys("customer_id")),
    NewIndex("order", _keys("state")),
    NewIndex("order", _keys("total", "made")),
    NewIndex("order", _keys("note", "id")),
    NewIndex("order", (Key(None, "total * 1.5"),)),
    NewIndex("customer", _keys("city", "name")),
    NewIndex("상품 line", _keys("sku")),
    NewIndex("상품 line", _keys("가격", "sku")),
)


@pytest.mark.parametrize("index", SIZED, ids=lambda index: "-".join(index.columns))
def test_sizes_are_those_of_a_fresh_index(file: Path, tmp_path: Path, what_if: SqliteWhatIf, index: NewIndex) -> None:
    copy = tmp_path / "copy.sqlite3"
    _really(file, copy, index)
    with closing(sqlite3.connect(copy)) as connection:
        [(size,)] = connection.execute("SELECT sum(pgsize) FROM dbstat WHERE name = 'real one'")
    assert what_if.size_bytes(index) == pytest.approx(size, rel=0.05, abs=4096)


def test_an_async_engine_is_asked_the_same(file: Path) -> None:
    query, index = Query(QUERIES[0]), INDEXES[0]

    async def ask() -> Cost:
        engine = create_async_engine(f"sqlite+aiosqlite:///{file}")

        def work() -> Cost:
            with _asking(own_engine(engine.sync_engine)) as what_if:
                return _cost(what_if.cost(query, [index]))

        answer = await greenlet_spawn(work)
        await engine.dispose()
        return answer

    assert asyncio.run(ask()).used == {index}


def test_a_file_that_is_none_is_the_callers_to_hear_of(file: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.sqlite3").write_bytes(b"not a database, and long enough to be looked at" * 100)
    engine = sa.create_engine(f"sqlite:///{tmp_path}/broken.sqlite3")
    opening = open_what_if(own_engine(engine), _catalog_of(file))
    with pytest.raises(WatchedDatabaseError, match="the watched database: DatabaseError"), opening:
        pytest.fail("it was opened")
    engine.dispose()


def test_a_file_that_somebody_locks_is_not_guessed_about(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "locked.sqlite3"
    shutil.copy(file, copy)
    engine = sa.create_engine(f"sqlite:///{copy}", connect_args={"timeout": 0})
    query, index = Query(QUERIES[0]), INDEXES[0]
    with _asking(own_engine(engine)) as what_if, closing(sqlite3.connect(copy)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(WatchedDatabaseError, match="OperationalError"):
            what_if.cost(query, [index])
        writer.rollback()
        again = _cost(what_if.cost(query, [index]))
    with _asking(own_engine(engine)) as what_if:
        assert _cost(what_if.cost(query, [index])).total == again.total, "as if nothing had been in the way"
    engine.dispose()


def test_an_index_that_cannot_be_made_has_no_size(what_if: SqliteWhatIf) -> None:
    with pytest.raises(RefusedError, match="cannot make that index"):
        what_if.size_bytes(NewIndex("open_order", _keys("id")))


def test_nothing_of_the_data_is_in_the_open(what_if: SqliteWhatIf) -> None:
    what_if.cost(Query(QUERIES[0], None), [INDEXES[0]])
    drawn = what_if._figures._sampler._drawn
    assert drawn
    assert "Bonn" not in repr(vars(what_if)) + repr(drawn)
    assert "geheim" not in repr(Query("SELECT 'geheim'", ("geheim",)))


@given(st.lists(st.integers(0, 40), min_size=1), st.floats(1, 1000))
def test_an_estimate_lies_between_what_was_seen_and_all_rows(values: list[int], times: float) -> None:
    classes: dict[int, int] = {}
    for value in set(values):
        classes[values.count(value)] = classes.get(values.count(value), 0) + 1
    rows = ceil(len(values) * times)
    assert len(set(values)) <= estimated_distinct(classes, rows) <= rows
    assert estimated_distinct(classes, len(values)) == len(set(values)), "of all rows it is exact"


@pytest.mark.parametrize(
    ("make", "off"),
    [
        (lambda rng: rng.randrange(5000), 1.1),
        (lambda rng: rng.randrange(60_000), 1.3),
        (lambda rng: min(int(rng.paretovariate(0.7)), 50_000), 1.6),
        (lambda rng: 0 if rng.random() < 0.9 else rng.random(), 1.2),
        (lambda rng: rng.random(), 1.0),
    ],
    ids=["few", "many", "skewed", "one and many", "all different"],
)
def test_different_values_are_estimated_from_a_tenth(make: Callable[[random.Random], float], off: float) -> None:
    rng = random.Random(11)
    values = [make(rng) for _ in range(10 * LEAST_ROWS)]
    counts: dict[float, int] = {}
    for value in rng.sample(values, LEAST_ROWS):
        counts[value] = counts.get(value, 0) + 1
    classes: dict[int, int] = {}
    for count in counts.values():
        classes[count] = classes.get(count, 0) + 1
    found, true = estimated_distinct(classes, len(values)), len(set(values))
    assert max(found / true, true / found) <= off


@pytest.mark.parametrize(
    ("value", "bytes_"),
    [
        (None, 0),
        (0, 0),
        (1, 0),
        (2, 1),
        (-128, 1),
        (128, 2),
        (2**23, 4),
        (2**40, 6),
        (-(2**62), 8),
        (0.5, 8),
        ("né", 3),
        (b"abc", 3),
    ],
)
def test_widths_are_the_file_formats(value: Any, bytes_: int) -> None:
    assert width_of(value) == bytes_

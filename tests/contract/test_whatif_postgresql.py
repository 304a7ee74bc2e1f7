"""What PostgreSQL says of indexes that are not there, and that asking leaves nothing behind."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

from dbpilot.dialects import dialect_of
from dbpilot.dialects.catalog import Catalog, Key
from dbpilot.dialects.connections import own_engine
from dbpilot.dialects.postgresql.btree import Group
from dbpilot.dialects.postgresql.explain import is_open, may_ask
from dbpilot.dialects.postgresql.keys import Keys, of_sample
from dbpilot.dialects.postgresql.whatif import open_what_if
from dbpilot.dialects.whatif import Cost, NewIndex, Query, WhatIf
from dbpilot.errors import RefusedError, WatchedDatabaseError
from dbpilot.testing.servers import SqlServer
from dbpilot.unsupported import Unsupported

ROWS = 20_000
RARE = "rare 900101-1234567"
"""A value of one row; it must not be told."""

Work = Callable[[WhatIf], Any]
Asks = Callable[[Work], Any]


def on(*columns: str, table: str = "orders", include: tuple[str, ...] = (), unique: bool = False) -> NewIndex:
    return NewIndex(table, tuple(map(Key, columns)), include, unique)


ON_CUSTOMER = on("customer_id")
BY_CUSTOMER = Query("SELECT id FROM orders WHERE customer_id = 77")


@pytest.fixture
def plain_application(postgresql_url: sa.URL) -> Iterator[sa.Engine]:
    """An application's database: a table with skewed values."""
    engine = sa.create_engine(postgresql_url)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "CREATE TABLE orders (id int PRIMARY KEY, customer_id int NOT NULL, state text NOT NULL, "
                "placed date NOT NULL, amount numeric(12, 2), note varchar(40), parent_id int REFERENCES orders)"
            )
        )
        connection.execute(
            sa.text(
                "INSERT INTO orders SELECT i, i % 2000, CASE WHEN i = 7 THEN :rare ELSE 'done' END, "
                "date '2020-01-01' + i % 900, i / 7.0, CASE WHEN i % 3 = 0 THEN 'note ' || i END "
                "FROM generate_series(1, :rows) i"
            ),
            {"rows": ROWS, "rare": RARE},
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE orders"))
    yield engine
    engine.dispose()


@pytest.fixture
def application(plain_application: sa.Engine) -> sa.Engine:
    """The same, with HypoPG."""
    with plain_application.begin() as connection:
        offered = connection.scalar(sa.text("SELECT count(*) FROM pg_available_extensions WHERE name = 'hypopg'"))
        if not offered:
            major = plain_application.dialect.server_version_info[0]
            pytest.fail(f"these tests need HypoPG: apt-get install postgresql-{major}-hypopg, or tools/ensure-servers")
        connection.execute(sa.text("CREATE EXTENSION hypopg"))
    return plain_application


def catalog(engine: sa.Engine) -> Catalog:
    with engine.connect() as connection:
        return dialect_of(engine).catalog(connection)


def asking(engine: sa.Engine, driver: str) -> Asks:
    known = catalog(engine)

    def opened(own: sa.Engine, work: Work) -> Any:
        with open_what_if(own_engine(own), known) as what_if:
            return work(what_if)

    if driver == "psycopg":
        return lambda work: opened(engine, work)
    other = create_async_engine(engine.url.set(drivername="postgresql+asyncpg")).sync_engine
    return lambda work: asyncio.run(greenlet_spawn(opened, other, work))


@pytest.fixture(params=["psycopg", "asyncpg"])
def ask(request: pytest.FixtureRequest, application: sa.Engine) -> Asks:
    """Runs work with a what-if that is opened for it, through a sync and an async driver."""
    return asking(application, request.param)


@pytest.fixture(params=["psycopg", "asyncpg"])
def ask_without_hypopg(request: pytest.FixtureRequest, plain_application: sa.Engine) -> Asks:
    """The same, where there is no HypoPG."""
    return asking(plain_application, request.param)


def cost(answer: Cost | Unsupported) -> Cost:
    assert isinstance(answer, Cost), answer
    return answer


def refusal(answer: Cost | Unsupported) -> str:
    assert isinstance(answer, Unsupported)
    assert answer.fix
    assert RARE not in repr(answer)
    return answer.reason


def test_the_dialect_offers_it(application: sa.Engine) -> None:
    assert dialect_of(application).what_if is open_what_if


def test_an_index_that_would_help_is_used_and_one_that_would_not_is_left_alone(ask: Asks) -> None:
    def work(what_if: WhatIf) -> None:
        alone = cost(what_if.cost(BY_CUSTOMER))
        helped = cost(what_if.cost(BY_CUSTOMER, [on("placed"), ON_CUSTOMER]))
        assert alone.used == frozenset()
        assert helped.used == {ON_CUSTOMER}
        assert helped.total < alone.total / 5
        assert {node.table for _, node in helped.root.walk() if node.table} == {"orders"}
        assert (what_if.grade, what_if.calls) == ("what-if", 2)
        assert "HypoPG" in what_if.method

    ask(work)


def test_present_indexes_are_named_with_their_table(ask: Asks) -> None:
    def work(what_if: WhatIf) -> None:
        by_key = Query("SELECT note FROM orders WHERE id = 5")
        bitmap = Query("SELECT note FROM orders WHERE id < 1200 OR customer_id = 3")
        assert cost(what_if.cost(by_key)).used_names == {"orders.orders_pkey"}
        both = cost(what_if.cost(bitmap, [ON_CUSTOMER]))
        assert (both.used_names, both.used) == ({"orders.orders_pkey"}, {ON_CUSTOMER})

    ask(work)


def test_an_answer_depends_on_what_is_asked_and_not_on_what_was_asked_before(ask: Asks) -> None:
    sets: list[tuple[NewIndex, ...]] = [
        (),
        (ON_CUSTOMER,),
        (on("placed"), ON_CUSTOMER),
        (on("customer_id", "placed"),),
        (ON_CUSTOMER,),
        (),
    ]

    def asked(what_if: WhatIf, order: list[tuple[NewIndex, ...]]) -> list[Cost]:
        return [cost(what_if.cost(BY_CUSTOMER, indexes)) for indexes in order]

    first = ask(lambda what_if: asked(what_if, sets))
    second = ask(lambda what_if: asked(what_if, sets[::-1]))[::-1]
    assert [one.total for one in first] == [one.total for one in second]
    assert [one.used for one in first] == [one.used for one in second]
    assert first[1] == first[4]


def test_each_kind_of_key_is_understood(ask: Asks) -> None:
    described = NewIndex("orders", (Key("customer_id"), Key("placed", descending=True, nulls_first=False)))
    ordered = Query("SELECT id FROM orders WHERE customer_id = 5 ORDER BY placed DESC NULLS LAST LIMIT 1")
    lowered = NewIndex("orders", (Key(None, "lower((note)::text)"),))
    covering = on("customer_id", include=("amount",))
    prefix = NewIndex("orders", (Key("note", opclass="varchar_pattern_ops"),))
    plain = NewIndex("orders", (Key("note", collation="C"),))

    def work(what_if: WhatIf) -> None:
        sorted_ = cost(what_if.cost(ordered, [described]))
        assert sorted_.used == {described}
        assert not any(node.operation == "Sort" for _, node in sorted_.root.walk())
        assert cost(what_if.cost(Query("SELECT 1 FROM orders WHERE lower(note) = 'note 3'"), [lowered])).used
        only = cost(what_if.cost(Query("SELECT amount FROM orders WHERE customer_id = 3"), [covering]))
        assert any(node.operation == "Index Only Scan" for _, node in only.root.walk())
        by_prefix = Query("SELECT id FROM orders WHERE note LIKE 'note 33%'")
        assert cost(what_if.cost(by_prefix, [prefix])).used == {prefix}
        assert cost(what_if.cost(by_prefix, [plain])).used == {plain}
        assert cost(what_if.cost(BY_CUSTOMER, [on("customer_id", "id", unique=True)])).used

    ask(work)


def test_odd_names_and_schemas_are_taken_as_they_are(application: sa.Engine) -> None:
    with application.begin() as connection:
        connection.execute(sa.text('CREATE SCHEMA "My 100% schema"'))
        connection.execute(sa.text('CREATE TABLE "My 100% schema"."Tab;le" ("Sel%ect" int, "or""der" int)'))
        connection.execute(sa.text('INSERT INTO "My 100% schema"."Tab;le" SELECT i, i FROM generate_series(1, 9000) i'))
        connection.execute(sa.text('ANALYZE "My 100% schema"."Tab;le"'))
    with application.connect() as connection:
        known = dialect_of(application).catalog(connection, "My 100% schema")
    index = on("Sel%ect", 'or"der', table="Tab;le")
    query = Query('SELECT * FROM "My 100% schema"."Tab;le" WHERE "Sel%ect" = 3')
    with open_what_if(own_engine(application), known) as what_if:
        assert cost(what_if.cost(query, [index])).used == {index}
        assert what_if.size_bytes(index) > 9000 * 8


def test_the_values_of_an_execution_decide_however_often_it_is_asked(ask: Asks) -> None:
    driver_takes = {"psycopg": ("state = %(s)s", lambda value: {"s": value}), "asyncpg": ("state = $1", lambda v: (v,))}

    def work(what_if: WhatIf) -> None:
        place, parameters = driver_takes[what_if._connection.dialect.driver]  # type: ignore[attr-defined]  # the role has none
        statement = f"SELECT count(amount) FROM orders WHERE {place}"
        for _ in range(8):
            rare = cost(what_if.cost(Query(statement, parameters(RARE)), [on("state")]))
            common = cost(what_if.cost(Query(statement, parameters("done")), [on("state")]))
            assert (rare.used, common.used) == ({on("state")}, frozenset())
            assert RARE not in repr(rare)

    ask(work)


def test_a_statement_with_open_values_is_planned_for_any(ask: Asks) -> None:
    def work(what_if: WhatIf) -> None:
        where = "customer_id = $1 AND note LIKE '5%' AND placed > DATE $2 - INTERVAL $3"
        query = Query(f"SELECT id FROM orders WHERE {where}")
        for indexes in ((), (ON_CUSTOMER,), ()):
            assert cost(what_if.cost(query, indexes)).used == set(indexes)
        assert "types" in refusal(what_if.cost(Query("SELECT $1 IS NULL FROM orders")))
        changed = cost(what_if.cost(Query("UPDATE orders SET note = $1 WHERE customer_id = $2"), [ON_CUSTOMER]))
        assert changed.used == {ON_CUSTOMER}

    ask(work)


def test_what_cannot_be_planned_says_why_and_the_next_question_is_answered(ask: Asks) -> None:
    def work(what_if: WhatIf) -> None:
        assert "42601" in refusal(what_if.cost(Query(f"SELECT FROM WHERE '{RARE}'")))
        assert "42P01" in refusal(what_if.cost(Query("SELECT * FROM nowhere")))
        assert "22P02" in refusal(what_if.cost(Query(f"SELECT * FROM orders WHERE id = '{RARE}'")))
        assert "more than one" in refusal(what_if.cost(Query("SELECT 1; DROP TABLE orders")))
        assert "neither" in refusal(what_if.cost(Query("DROP TABLE orders")))
        assert "make such an index" in refusal(what_if.cost(BY_CUSTOMER, [on("customer_id"), on("nothing")]))
        assert cost(what_if.cost(BY_CUSTOMER, [ON_CUSTOMER])).used == {ON_CUSTOMER}

    ask(work)


def test_nothing_is_executed_and_nothing_left(ask: Asks, application: sa.Engine) -> None:
    before = _state(application)

    def work(what_if: WhatIf) -> None:
        for statement in (
            "DELETE FROM orders",
            "UPDATE orders SET note = 'x'",
            "INSERT INTO orders (id, customer_id, state, placed) VALUES (0, 0, '', '2026-01-01')",
            "WITH gone AS (DELETE FROM orders RETURNING id) SELECT count(*) FROM gone",
            "SELECT id FROM orders WHERE customer_id = 3",
            "DELETE FROM orders WHERE id = $1",
        ):
            cost(what_if.cost(Query(statement), [ON_CUSTOMER]))
        what_if.size_bytes(on("customer_id", "placed"))

    ask(work)
    _until(lambda: _others(application) == 0)
    assert _state(application) == before


def _state(engine: sa.Engine) -> tuple[Any, ...]:
    """All that a what-if could have changed: what there is, the rows, and how often indexes were used."""
    with engine.connect() as connection:
        made = connection.execute(sa.text("SELECT oid, relname, relpages, reltuples FROM pg_class ORDER BY oid")).all()
        rows = connection.execute(sa.text("SELECT count(*), count(note), max(id) FROM orders")).one()
        used = sa.text("SELECT indexrelname, idx_scan FROM pg_stat_user_indexes ORDER BY 1")
        return made, rows, connection.execute(used).all()


def _others(engine: sa.Engine) -> int:
    asked = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    )
    with engine.connect() as connection:
        return int(connection.execute(sa.text(asked)).scalar_one())


def _until(happens: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_a_connection_from_somebody_elses_pool_is_not_given_back_with_our_settings(application: sa.Engine) -> None:
    with open_what_if(application, catalog(application)) as what_if:
        cost(what_if.cost(BY_CUSTOMER, [ON_CUSTOMER]))
    with application.begin() as connection:
        connection.execute(sa.text("UPDATE orders SET note = 'written' WHERE id = 1"))
        assert connection.scalar(sa.text("SELECT count(*) FROM hypopg()")) == 0


def test_the_application_reads_writes_and_alters_its_tables_meanwhile(application: sa.Engine) -> None:
    with open_what_if(own_engine(application), catalog(application)) as what_if:
        cost(what_if.cost(BY_CUSTOMER, [ON_CUSTOMER]))
        cost(what_if.cost(Query("UPDATE orders SET note = $1 WHERE customer_id = $2"), [ON_CUSTOMER]))
        what_if.size_bytes(on("customer_id", "placed"))
        with application.begin() as connection:
            connection.execute(sa.text("SET LOCAL lock_timeout = '100ms'"))
            connection.execute(sa.text("UPDATE orders SET note = 'written' WHERE customer_id = 3"))
            connection.execute(sa.text("ALTER TABLE orders ADD COLUMN added int"))
        assert cost(what_if.cost(BY_CUSTOMER, [ON_CUSTOMER])).used == {ON_CUSTOMER}


def test_a_table_that_somebody_changes_is_not_waited_for_long(application: sa.Engine) -> None:
    with open_what_if(own_engine(application), catalog(application)) as what_if:
        with application.begin() as connection:
            connection.execute(sa.text("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE"))
            assert "55P03" in refusal(what_if.cost(BY_CUSTOMER))
        assert cost(what_if.cost(BY_CUSTOMER))


def test_without_the_extension_parts_of_the_tables_stand_in_and_it_says_so(ask_without_hypopg: Asks) -> None:
    def work(what_if: WhatIf) -> None:
        alone, helped = what_if.cost(BY_CUSTOMER), what_if.cost(BY_CUSTOMER, [on("placed"), ON_CUSTOMER])
        assert what_if.grade == "estimate"
        assert "CREATE EXTENSION hypopg" in what_if.method
        assert cost(helped).used == {ON_CUSTOMER}
        assert cost(helped).total < cost(alone).total / 5
        assert cost(what_if.cost(BY_CUSTOMER, [on("placed")])).used == frozenset()
        assert cost(what_if.cost(BY_CUSTOMER, [ON_CUSTOMER])).used == {ON_CUSTOMER}
        assert cost(what_if.cost(BY_CUSTOMER)) == alone
        assert what_if.calls >= 4
        open_ = Query("SELECT id FROM orders WHERE customer_id = $1 AND note LIKE '5%'")
        assert cost(what_if.cost(open_, [ON_CUSTOMER])).used == {ON_CUSTOMER}
        assert cost(what_if.cost(open_)).used == frozenset()
        assert what_if.size_bytes(ON_CUSTOMER) > 0

    ask_without_hypopg(work)


def test_without_the_extension_present_indexes_bear_their_names_and_can_be_left_out(ask_without_hypopg: Asks) -> None:
    def work(what_if: WhatIf) -> None:
        by_key = Query("SELECT note FROM orders WHERE id = 5")
        assert cost(what_if.cost(by_key)).used_names == {"orders.orders_pkey"}
        assert cost(what_if.cost(by_key, [ON_CUSTOMER])).used_names == {"orders.orders_pkey"}
        gone = cost(what_if.cost(by_key, without=["orders.orders_pkey"]))
        assert gone.used_names == frozenset()
        assert gone.total > cost(what_if.cost(by_key)).total
        assert "no index" in refusal(what_if.cost(by_key, without=["orders.nothing"]))
        instead = cost(what_if.cost(by_key, [on("id", "note")], without=["orders.orders_pkey"]))
        assert instead.used == {on("id", "note")}

    ask_without_hypopg(work)


def test_without_the_extension_what_cannot_be_answered_says_why(ask_without_hypopg: Asks) -> None:
    def work(what_if: WhatIf) -> None:
        qualified = Query("SELECT id FROM public.orders WHERE customer_id = 77")
        assert "schema" in refusal(what_if.cost(qualified, [ON_CUSTOMER]))
        assert "42601" in refusal(what_if.cost(Query(f"SELECT FROM WHERE '{RARE}'"), [ON_CUSTOMER]))
        assert "make such an index" in refusal(what_if.cost(BY_CUSTOMER, [on("nothing")]))
        assert cost(what_if.cost(BY_CUSTOMER, [ON_CUSTOMER])).used == {ON_CUSTOMER}

    ask_without_hypopg(work)


def test_without_the_extension_nothing_is_executed_locked_or_left_either(
    ask_without_hypopg: Asks, plain_application: sa.Engine
) -> None:
    before = _state(plain_application)

    def work(what_if: WhatIf) -> None:
        deleting = Query("DELETE FROM orders WHERE customer_id = 77")
        assert cost(what_if.cost(deleting, [ON_CUSTOMER])).used == {ON_CUSTOMER}
        assert cost(what_if.cost(BY_CUSTOMER, [ON_CUSTOMER], without=["orders.orders_pkey"])).used
        with plain_application.begin() as connection:
            connection.execute(sa.text("SET LOCAL lock_timeout = '100ms'"))
            connection.execute(sa.text("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE"))

    ask_without_hypopg(work)
    _until(lambda: _others(plain_application) == 0)
    assert _state(plain_application) == before


def test_where_nothing_can_be_asked_it_refuses_and_names_the_fix(
    stranger: sa.Engine, plain_application: sa.Engine
) -> None:
    with plain_application.begin() as connection:
        connection.execute(sa.text(f"REVOKE TEMPORARY ON DATABASE {plain_application.url.database} FROM PUBLIC"))
    known = catalog(plain_application)
    with pytest.raises(RefusedError, match=r"hypopg.*GRANT TEMPORARY"), open_what_if(own_engine(stranger), known):
        pytest.fail("it opened")
    with plain_application.begin() as connection:
        connection.execute(sa.text(f"GRANT TEMPORARY ON DATABASE {plain_application.url.database} TO PUBLIC"))
    with open_what_if(own_engine(stranger), known) as what_if:
        assert "may not read" in refusal(what_if.cost(BY_CUSTOMER, [ON_CUSTOMER]))


@pytest.fixture
def stranger(plain_application: sa.Engine, postgresql_server: SqlServer) -> Iterator[sa.Engine]:
    """A user who may connect, and no more."""
    assert plain_application.url.database is not None
    name = f"stranger_{plain_application.url.database}"[:60]
    password = postgresql_server.url.password
    with plain_application.begin() as connection:
        connection.execute(sa.text(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'"))
    engine = sa.create_engine(plain_application.url.set(username=name))
    yield engine
    engine.dispose()
    with plain_application.begin() as connection:
        connection.execute(sa.text(f"DROP OWNED BY {name}"))
        connection.execute(sa.text(f"DROP ROLE {name}"))


def test_a_user_who_may_not_read_a_table_is_told_so(stranger: sa.Engine, application: sa.Engine) -> None:
    known = catalog(application)
    with open_what_if(own_engine(stranger), known) as what_if:
        answer = what_if.cost(BY_CUSTOMER, [ON_CUSTOMER])
        assert "may not read" in refusal(answer)
        assert isinstance(answer, Unsupported)
        assert "GRANT SELECT" in answer.fix
        assert what_if.size_bytes(on("customer_id", "placed")) > 0  # from the statistics alone
    with application.begin() as connection:
        connection.execute(sa.text(f"GRANT SELECT ON orders TO {stranger.url.username}"))
    with open_what_if(own_engine(stranger), known) as what_if:
        assert cost(what_if.cost(BY_CUSTOMER, [ON_CUSTOMER])).used == {ON_CUSTOMER}


def test_an_index_that_is_there_is_hidden_or_it_is_said_why_not(ask: Asks, application: sa.Engine) -> None:
    with application.connect() as connection:
        hides = connection.scalar(sa.text("SELECT count(*) FROM pg_proc WHERE proname = 'hypopg_hide_index'"))
    by_key = Query("SELECT note FROM orders WHERE id = 5")

    def work(what_if: WhatIf) -> None:
        shown = cost(what_if.cost(by_key))
        hidden = what_if.cost(by_key, without=["orders.orders_pkey"])
        if hides:
            assert cost(hidden).total > shown.total
            assert cost(hidden).used_names == frozenset()
            assert "no index" in refusal(what_if.cost(by_key, without=["orders.nothing"]))
        else:
            assert "cannot hide" in refusal(hidden)
        assert cost(what_if.cost(by_key)) == shown

    ask(work)


def test_a_lost_connection_is_told_as_such(ask: Asks, application: sa.Engine) -> None:
    def work(what_if: WhatIf) -> None:
        cost(what_if.cost(BY_CUSTOMER, [ON_CUSTOMER]))
        _end_others(application)
        for _ in range(2):
            with pytest.raises(WatchedDatabaseError):
                what_if.cost(BY_CUSTOMER, [ON_CUSTOMER])

    ask(work)


def _end_others(engine: sa.Engine) -> None:
    ended = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with engine.connect() as connection:
        connection.execute(sa.text(ended)).all()
    _until(lambda: _others(engine) == 0)


def test_no_value_is_logged(application: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with open_what_if(own_engine(application), catalog(application)) as what_if:
        cost(what_if.cost(Query("SELECT id FROM orders WHERE state = %(s)s", {"s": RARE}), [on("state")]))
    assert RARE not in caplog.text


@pytest.mark.parametrize(
    ("statement", "may"),
    [
        ("SELECT 1", True),
        ("select 1 ; ", True),
        ("SELECT ';' FROM t -- ; DROP TABLE t", True),
        ("SELECT $x$;$x$ /* ; */", True),
        ("WITH q AS (SELECT 1) SELECT * FROM q", True),
        ("DELETE FROM t", True),
        ("SELECT 1; SELECT 2", False),
        ("SELECT '" + "x" * 20_000 + "'; DROP TABLE t", False),
        ("EXPLAIN ANALYZE DELETE FROM t", False),
        ("CREATE TABLE t (a int)", False),
        ("", False),
    ],
)
def test_only_one_statement_about_rows_is_asked_about(statement: str, may: bool) -> None:
    assert (may_ask(statement) is None) == may


@pytest.mark.parametrize(
    ("statement", "open_"),
    [
        ("SELECT a FROM t WHERE b = $1", True),
        ("SELECT a FROM t WHERE b IN (1, $1)", True),
        ("INSERT INTO t VALUES ($1, $2), ($3, $4)", True),
        ("SELECT '$1', a$1, \"$1\" FROM t -- $1", False),
        ("SELECT $a$ $1 $a$", False),
    ],
)
def test_placeholders_of_the_server_are_told_from_what_looks_like_them(statement: str, open_: bool) -> None:
    assert is_open(statement) == open_


@pytest.mark.parametrize(
    "index",
    [
        on("customer_id"),
        on("state"),
        on("placed", "customer_id"),
        on("customer_id", "placed"),
        on("note"),
        on("parent_id"),
        on("amount"),
        on("customer_id", include=("amount", "note")),
        on("id", "state", unique=True),
    ],
    ids=lambda index: ",".join((*index.columns, *index.include)),
)
def test_its_size_is_near_that_of_the_real_one(application: sa.Engine, index: NewIndex) -> None:
    with open_what_if(own_engine(application), catalog(application)) as what_if:
        thought = what_if.size_bytes(index)
    keys = ", ".join(index.columns)
    carried = f"INCLUDE ({', '.join(index.include)})" if index.include else ""
    unique = "UNIQUE" if index.unique else ""
    with application.begin() as connection:
        connection.execute(sa.text(f"CREATE {unique} INDEX made ON orders ({keys}) {carried}"))
        real = connection.execute(sa.text("SELECT pg_relation_size('made')")).scalar_one()
    assert real / 1.2 - 8192 < thought < real * 1.2 + 8192


def test_what_the_server_counted_of_columns_together_is_believed(application: sa.Engine) -> None:
    index = on("customer_id", "placed", "state")
    with application.begin() as connection:
        connection.execute(sa.text("CREATE STATISTICS together ON customer_id, placed, state FROM orders"))
        connection.execute(sa.text("ANALYZE orders"))
    known = catalog(application)
    with application.connect() as connection:
        counted = Keys(connection, known.schema).counted(known.tables["orders"], index.columns)
        real = connection.scalar(sa.text("SELECT count(*) FROM (SELECT DISTINCT customer_id, placed FROM orders) x"))
    assert counted == pytest.approx(real, rel=0.05)


@pytest.mark.parametrize(
    "kinds",
    [
        {1: 60_000},
        {3: 20_000},
        {1: 50_000, 40: 1_000},
        {1: 30_000, 8: 2_000, 700: 50},
        {60_000: 1},
    ],
    ids=str,
)
def test_how_many_keys_there_are_is_told_from_a_twentieth_of_the_rows(kinds: dict[int, int]) -> None:
    rows = [(size, number) for size, keys in kinds.items() for number in range(keys) for _ in range(size)]
    sample = Random(5).sample(rows, len(rows) // 20)
    groups = of_sample(Counter(Counter(sample).values()), 1 / 20, len(rows))
    assert sum(group.keys * group.rows for group in groups) == pytest.approx(len(rows), rel=0.05)
    assert sum(group.keys for group in groups) == pytest.approx(sum(kinds.values()), rel=0.3, abs=2)


def test_a_sample_of_all_rows_is_exact() -> None:
    assert of_sample({1: 5, 3: 2}, 1.0, 11) == [Group(5, 1), Group(2, 3)]

"""MariaDB's what-if against indexes that are really built, and what it leaves behind: nothing."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dbpilot.dialects.catalog import Catalog, Key
from dbpilot.dialects.mysql.explain import explain
from dbpilot.dialects.mysql.scratch import NAMES, sweep
from dbpilot.dialects.mysql.shadow import Copying
from dbpilot.dialects.mysql.whatif import open_what_if
from dbpilot.dialects.plan import PlanNode
from dbpilot.dialects.whatif import Cost, NewIndex, Query, WhatIf
from dbpilot.errors import RefusedError, WatchedDatabaseError
from dbpilot.testing.servers import SqlServer, start_mariadb
from dbpilot.unsupported import Unsupported

DEADLINE_S = 60
SAMPLE = Copying(rows=4_000)
BLOCKS = Copying(rows=4_000, scanned_rows=1_000)
SCHEMA = """
CREATE TABLE customers (id INT PRIMARY KEY, email VARCHAR(80) NOT NULL, country CHAR(2) NOT NULL, born DATE,
    UNIQUE KEY by_email (email)) STATS_AUTO_RECALC=0;
CREATE TABLE orders (id INT AUTO_INCREMENT PRIMARY KEY, customer_id INT NOT NULL, status VARCHAR(12) NOT NULL,
    placed DATETIME NOT NULL, total DECIMAL(10,2) NOT NULL, note TEXT, twice DECIMAL(11,2) AS (total * 2) VIRTUAL,
    CHECK (total >= 0), KEY by_status (status), KEY by_customer (customer_id), FULLTEXT KEY words (note),
    CONSTRAINT of_customer FOREIGN KEY (customer_id) REFERENCES customers (id)) STATS_AUTO_RECALC=0;
CREATE TABLE `lines` (order_id INT, line INT, product INT NOT NULL, pieces INT NOT NULL, PRIMARY KEY (order_id, line))
    STATS_AUTO_RECALC=0;
CREATE TABLE `odd ``name% :x` (id INT PRIMARY KEY, `a%s ``b{}` INT NOT NULL, extra JSON) STATS_AUTO_RECALC=0;
CREATE TABLE parts (id INT, year INT NOT NULL, PRIMARY KEY (id, year))
    PARTITION BY RANGE (year) (PARTITION old VALUES LESS THAN (2020), PARTITION new VALUES LESS THAN MAXVALUE);
CREATE TRIGGER counted AFTER INSERT ON orders FOR EACH ROW SET @inserted = NEW.id;
CREATE VIEW paid AS SELECT * FROM orders WHERE status = 'paid';
INSERT INTO customers SELECT seq, CONCAT('c', seq, '@example.com'), ELT(1 + seq % 20, 'de','fr','it','es','pt','nl',
    'be','at','ch','pl','cz','sk','hu','ro','bg','gr','se','no','fi','dk'), '1950-01-01' + INTERVAL seq DAY
    FROM seq_1_to_5000;
INSERT INTO orders (id, customer_id, status, placed, total, note) SELECT seq, 1 + seq * 7919 % 5000,
    IF(seq % 50, 'paid', 'open'), '2024-01-01' + INTERVAL seq MINUTE, seq % 1000, REPEAT('text ', 20)
    FROM seq_1_to_20000;
INSERT INTO `lines` SELECT 1 + seq DIV 3, seq % 3, seq * 31 % 2000, 1 FROM seq_1_to_60000;
INSERT INTO `odd ``name% :x` SELECT seq, seq % 3000, '{}' FROM seq_1_to_9000;
INSERT INTO parts SELECT seq, 2000 + seq % 40 FROM seq_1_to_2000;
"""
TABLES = ("customers", "orders", "lines", "odd `name% :x", "parts")


def new(table: str, *columns: str) -> NewIndex:
    return NewIndex(table, tuple(Key(column) for column in columns))


BY_CUSTOMER_DATE = new("orders", "customer_id", "placed")
BY_DATE = new("orders", "placed")
BY_TOTAL = new("orders", "total")
BY_PRODUCT = new("lines", "product")
COVERING = new("lines", "product", "pieces")
BY_COUNTRY = new("customers", "country")
BY_BIRTH = new("customers", "born")
ODD = new("odd `name% :x", "a%s `b{}")

AGREED = (
    (BY_PRODUCT, "SELECT * FROM `lines` WHERE product = 7", None),
    (BY_PRODUCT, "SELECT o.id FROM `lines` l JOIN orders o ON o.id = l.order_id WHERE l.product = %s", (7,)),
    (COVERING, "SELECT SUM(pieces) FROM `lines` WHERE product IN (7, 8, 9)", None),
    (COVERING, "SELECT product, SUM(pieces) FROM `lines` GROUP BY product ORDER BY product", None),
    (BY_TOTAL, "SELECT * FROM orders WHERE total = %(t)s AND status = 'paid'", {"t": 17}),
    (BY_TOTAL, "SELECT id FROM orders ORDER BY total DESC LIMIT 5", None),
    (BY_DATE, "SELECT * FROM orders WHERE placed >= '2024-01-14 20:00'", None),
    (BY_DATE, "SELECT * FROM orders WHERE placed >= '2024-01-02'", None),
    (BY_CUSTOMER_DATE, "SELECT * FROM orders WHERE customer_id = 17 ORDER BY placed DESC LIMIT 1", None),
    (
        BY_CUSTOMER_DATE,
        "SELECT o.placed FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.email = 'c4711@example.com'",
        None,
    ),
    (BY_COUNTRY, "SELECT COUNT(*) FROM customers WHERE country = 'de'", None),
    (
        BY_COUNTRY,
        "SELECT c.id FROM customers c WHERE country = 'fr' AND NOT EXISTS "
        "(SELECT 1 FROM orders o WHERE o.customer_id = c.id AND o.status = 'open')",
        None,
    ),
    (BY_BIRTH, "WITH young AS (SELECT id FROM customers WHERE born > '1963-06-01') SELECT * FROM young", None),
    (BY_BIRTH, "SELECT 1 FROM customers WHERE born < '1950-01-05' UNION ALL SELECT id FROM parts WHERE id = 3", None),
    (ODD, "SELECT id FROM `odd ``name%% :x` WHERE `a%%s ``b{}` = %s", (5,)),
    (BY_DATE, "SELECT COUNT(*) FROM orders WHERE note LIKE '%text%'", None),
    (
        BY_CUSTOMER_DATE,
        "SELECT * FROM orders WHERE customer_id = 3 AND note <> %s",
        ("it's \"\\\n\x01 é 값 \U0001f600",),
    ),
)


@pytest.fixture(scope="module")
def server() -> Iterator[SqlServer]:
    """One on which nobody else has shadows."""
    with start_mariadb() as server:
        yield server


@pytest.fixture(scope="module")
def shop(server: SqlServer) -> sa.Engine:
    """An application's database, which no test changes; its engine keeps no connection."""
    engine = sa.create_engine(server.create_database("shop"), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in SCHEMA.strip().removesuffix(";").split(";\n"):
            say(connection, statement)
        for table in TABLES:
            say(connection, f"ANALYZE TABLE {NAMES.quote_identifier(table)}")
    return engine


def say(connection: sa.Connection, statement: str) -> None:
    connection.exec_driver_sql(statement, None, execution_options={"no_parameters": True}).close()


def known(engine: sa.Engine) -> Catalog:
    """What the what-if wants of a catalogue: which schema."""
    return Catalog("mariadb", (10, 11), engine.url.database, {})


@contextmanager
def asking(engine: sa.Engine, copying: Copying | None = None) -> Iterator[WhatIf]:
    with open_what_if(engine, known(engine), copying) as what_if:
        yield what_if


def answered(found: Cost | Unsupported) -> Cost:
    assert isinstance(found, Cost), found
    return found


def shape(root: PlanNode, index: NewIndex) -> list[tuple[str, str | None, str | None]]:
    """How each table is read, whatever the new index is called."""
    found = [(node.operation, node.table, node.index) for _, node in root.walk() if node.table]
    return [
        (how, table, "new" if name and name.startswith(("new", "dbpilot_")) else name) for how, table, name in found
    ]


def really(
    engine: sa.Engine, index: NewIndex, statement: str, parameters: Any
) -> list[tuple[str, str | None, str | None]]:
    """How the server reads the tables when the index is there."""
    quote = NAMES.quote_identifier
    columns = ", ".join(quote(column) for column in index.columns)
    with engine.connect() as connection:
        say(connection, f"ALTER TABLE {quote(index.table)} ADD INDEX new ({columns})")
        said = statement if parameters is not None else statement.replace("%", "%%")
        root = explain(connection, said, parameters if parameters is not None else ())
        say(connection, f"ALTER TABLE {quote(index.table)} DROP INDEX new")
    return shape(root, index)


@pytest.mark.parametrize("copying", [Copying(), SAMPLE, BLOCKS], ids=["whole", "sample", "blocks"])
def test_statements_are_planned_as_with_the_index(shop: sa.Engine, copying: Copying) -> None:
    with asking(shop, copying) as what_if:
        asked = [
            shape(answered(what_if.cost(Query(statement, parameters), [index])).root, index)
            for index, statement, parameters in AGREED
        ]
    for (index, statement, parameters), found in zip(AGREED, asked, strict=True):
        assert found == really(shop, index, statement, parameters), statement


def test_what_an_index_saves_is_seen_in_the_cost(shop: sa.Engine) -> None:
    with asking(shop) as what_if:
        query = Query("SELECT * FROM `lines` WHERE product = 7")
        before, after = answered(what_if.cost(query)), answered(what_if.cost(query, [BY_PRODUCT, BY_DATE]))
        assert after.total < before.total / 100
        assert after.used == {BY_PRODUCT}
        assert before.used == frozenset()


def test_the_order_that_an_index_gives_is_worth_something(shop: sa.Engine) -> None:
    with asking(shop) as what_if:
        query = Query("SELECT id FROM orders ORDER BY total")
        first = Query("SELECT * FROM orders ORDER BY total LIMIT 3")
        assert answered(what_if.cost(query, [BY_TOTAL])).total < answered(what_if.cost(query)).total
        assert answered(what_if.cost(first, [BY_TOTAL])).total < answered(what_if.cost(first)).total / 10


def test_an_index_that_gives_the_order_is_read_as_far_as_the_limit(shop: sa.Engine) -> None:
    """The optimizer itself minds the limit for BY_DATE alone, which has to pass over all that is not paid."""
    by_status_and_date = new("orders", "status", "placed")
    newest = "SELECT * FROM orders WHERE status = 'paid' ORDER BY placed DESC LIMIT "

    with asking(shop) as what_if:

        def cost(query: Query, *indexes: NewIndex) -> float:
            return answered(what_if.cost(query, indexes)).total

        few = cost(Query(newest + "%(n)s", {"n": 3}), by_status_and_date)
        assert few < cost(Query(newest + "3")) / 100
        assert few <= cost(Query(newest + "3"), BY_DATE)
        assert few == pytest.approx(cost(Query(newest + "%s, %s", (1, 2)), by_status_and_date))
        assert few < cost(Query(newest + "3 OFFSET 500"), by_status_and_date) / 10
        alike = "SELECT COUNT(*) FROM orders WHERE status = 'paid'"
        assert cost(Query(alike + " LIMIT 3"), by_status_and_date) == cost(Query(alike), by_status_and_date)


def test_an_answer_does_not_depend_on_what_was_asked_before(shop: sa.Engine) -> None:
    """Indexes that were asked about are still there, and count for nothing."""
    query = Query("SELECT o.id FROM `lines` l JOIN orders o ON o.id = l.order_id WHERE l.product = 7 AND o.total = 3")
    with asking(shop) as what_if:
        sets: list[list[NewIndex]] = [[], [BY_PRODUCT], [BY_PRODUCT, BY_TOTAL], [BY_TOTAL], [COVERING], []]
        first = [answered(what_if.cost(query, indexes)) for indexes in sets]
        again = [answered(what_if.cost(query, indexes)) for indexes in reversed(sets)]
    assert first == again[::-1]
    assert first[0] == first[-1]
    assert first[1].used == {BY_PRODUCT}
    assert first[3].used <= {BY_TOTAL}
    with asking(shop) as another:
        assert answered(another.cost(query, [BY_PRODUCT])).total == pytest.approx(first[1].total, rel=0.05)


def test_more_indexes_than_a_table_can_have_are_asked_about_one_after_the_other(shop: sa.Engine) -> None:
    names = ["customer_id", "status", "placed", "total", "id"]
    pairs = [new("orders", one, other) for one in names for other in names if one != other]
    triples = [
        new("orders", *three)
        for three in ([a, b, c] for a in names for b in names for c in names if len({a, b, c}) == 3)
    ]
    query = Query("SELECT total FROM orders WHERE placed = '2024-01-03 00:00'")
    most = sa.text("SELECT COUNT(DISTINCT index_name) FROM information_schema.statistics WHERE table_schema = :shadow")
    with asking(shop, SAMPLE) as what_if, shop.connect() as connection:
        for start in range(0, 80, 20):
            asked = [*pairs, *triples][start : start + 20]
            assert answered(what_if.cost(query, asked)).used < set(asked)
        assert answered(what_if.cost(query, [new("orders", "placed", "total")])).used
        assert 40 < connection.execute(most, {"shadow": shadows(shop)[0]}).scalar_one() <= 64


def test_present_indexes_can_be_left_out(shop: sa.Engine) -> None:
    query = Query("SELECT * FROM orders WHERE status = 'open'")
    with asking(shop) as what_if:
        before = answered(what_if.cost(query))
        after = answered(what_if.cost(query, without=["orders.by_status"]))
        assert before.used_names == {"orders.by_status"}
        assert after.used_names == frozenset()
        assert after.total > before.total
        assert answered(what_if.cost(query)) == before


@pytest.mark.parametrize(
    ("statement", "parameters"),
    [
        ("UPDATE orders SET note = %s WHERE total = %s", ("x", 5)),
        ("UPDATE orders o SET note = 'x' WHERE o.total = 5 LIMIT 2", None),
        ("DELETE FROM orders WHERE total = 5", None),
        ("DELETE o FROM orders o JOIN customers c ON c.id = o.customer_id WHERE o.total = 5", None),
        ("INSERT INTO parts SELECT id, 2024 FROM orders WHERE total = 5", None),
        ("SELECT * FROM orders WHERE total = 5 FOR UPDATE", None),
    ],
)
def test_what_writes_is_planned_and_changes_nothing(shop: sa.Engine, statement: str, parameters: Any) -> None:
    before = contents(shop)
    with asking(shop) as what_if:
        query = Query(statement, parameters)
        assert answered(what_if.cost(query, [BY_TOTAL])).used == {BY_TOTAL}
        assert answered(what_if.cost(query, [BY_TOTAL])).total < answered(what_if.cost(query)).total
    assert contents(shop) == before


def test_a_schema_that_is_named_is_the_shadows(shop: sa.Engine) -> None:
    schema = shop.url.database
    with asking(shop) as what_if:
        query = Query(f"SELECT `{schema}`.orders.id FROM {schema}.orders WHERE `{schema}`.orders.total = 5")
        assert answered(what_if.cost(query, [BY_TOTAL])).used == {BY_TOTAL}


def test_a_row_that_was_not_copied_is_fetched_when_a_plan_begins_with_it(shop: sa.Engine) -> None:
    """The server reads it while it plans: without it there would be nothing to plan."""
    query = Query("SELECT o.placed FROM customers c, orders o WHERE c.email = %s AND o.customer_id = c.id")
    index = new("orders", "customer_id", "placed", "total")
    with asking(shop, Copying(rows=50)) as what_if:
        for number in (17, 1234, 4999):
            found = answered(what_if.cost(Query(query.statement, (f"c{number}@example.com",)), [index]))
            assert found.used == {index}
            assert "customers.by_email" in found.used_names


CANNOT = {
    "SELECT * FROM nowhere": "no table",
    "SELECT * FROM paid": "no table",
    "SELECT * FROM orders WHERE id = ?": "values are not known",
    "SELECT nothing FROM orders": "does not plan it",
    "SELEC * FROM orders": "cannot be read",
    "CALL something()": "cannot be read",
    "INSERT INTO parts VALUES (1, 'secret')": "reads no table",
}


@pytest.mark.parametrize(("statement", "reason"), CANNOT.items())
def test_what_cannot_be_planned_is_unsupported_and_says_why(shop: sa.Engine, statement: str, reason: str) -> None:
    with asking(shop, SAMPLE) as what_if:
        found = what_if.cost(Query(statement), [BY_DATE])
        assert isinstance(found, Unsupported)
        assert reason in found.reason
        assert "secret" not in found.reason + found.fix
        assert isinstance(what_if.cost(Query("SELECT * FROM orders")), Cost)


def test_an_index_that_cannot_be_built_is_unsupported_and_spoils_no_other(shop: sa.Engine) -> None:
    impossible = new("orders", "nowhere")
    query = Query("SELECT * FROM orders WHERE total = 5")
    with asking(shop, SAMPLE) as what_if:
        for _ in range(2):
            found = what_if.cost(query, [impossible, BY_TOTAL])
            assert isinstance(found, Unsupported)
            assert "1072" in found.reason
        assert answered(what_if.cost(query, [BY_TOTAL])).used == {BY_TOTAL}
        prefix = NewIndex("orders", (Key("note", length=10), Key("total", descending=True)))
        assert isinstance(what_if.cost(query, [prefix]), Cost)


# -- what it leaves


def contents(engine: sa.Engine) -> dict[str, Any]:
    """All that the application's schema is: definitions, rows, and what the server knows of them."""
    quote = NAMES.quote_identifier
    schema = {"schema": engine.url.database}
    found: dict[str, Any] = {}
    with engine.connect() as connection:
        for table in TABLES:
            found[table] = connection.exec_driver_sql(f"SHOW CREATE TABLE {quote(table).replace('%', '%%')}").one()[1]
            found[f"rows of {table}"] = connection.exec_driver_sql(
                f"CHECKSUM TABLE {quote(table).replace('%', '%%')}"
            ).one()
        for stats in ("innodb_table_stats", "innodb_index_stats"):
            rows = connection.execute(sa.text(f"SELECT * FROM mysql.{stats} WHERE database_name = :schema"), schema)
            found[stats] = sorted(tuple(row) for row in rows)
        found["triggers"] = connection.exec_driver_sql("SHOW TRIGGERS").all()
        found["schemas"] = sorted(connection.scalars(sa.text("SHOW DATABASES")))
    return found


def shadows(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(sa.text(r"SHOW DATABASES LIKE 'dbpilot\_shadow\_%'")))


def told(engine: sa.Engine) -> int:
    """How many figures the server has of shadows."""
    query = sa.text(r"SELECT COUNT(*) FROM mysql.innodb_index_stats WHERE database_name LIKE 'dbpilot\_shadow\_%'")
    with engine.connect() as connection:
        return int(connection.execute(query).scalar_one())


@pytest.mark.parametrize("copying", [Copying(), SAMPLE], ids=["whole", "sample"])
def test_the_application_s_schema_is_as_before_and_nothing_is_left(shop: sa.Engine, copying: Copying) -> None:
    before = contents(shop)
    with asking(shop, copying) as what_if:
        for index, statement, parameters in AGREED:
            assert isinstance(what_if.cost(Query(statement, parameters), [index]), Cost)
        assert len(shadows(shop)) == 1
        assert told(shop)
    assert contents(shop) == before
    assert shadows(shop) == []
    assert told(shop) == 0


def test_nothing_is_left_when_the_asking_fails(shop: sa.Engine) -> None:
    class Stopped(Exception):
        pass

    def ask() -> None:
        with asking(shop, SAMPLE) as what_if:
            what_if.cost(Query("SELECT * FROM orders"))
            raise Stopped

    with pytest.raises(Stopped):
        ask()
    assert shadows(shop) == []


ASKS_FOR_EVER = """
    import sys, time
    import sqlalchemy as sa
    from dbpilot.dialects.catalog import Catalog
    from dbpilot.dialects.mysql.whatif import open_what_if
    from dbpilot.dialects.whatif import Query
    engine = sa.create_engine(sys.argv[1], poolclass=sa.NullPool)
    with open_what_if(engine, Catalog("mariadb", (10, 11), engine.url.database, {})) as what_if:
        what_if.cost(Query("SELECT * FROM orders"))
        print("asking", flush=True)
        time.sleep(600)
"""


def test_what_a_killed_process_left_is_swept_by_the_next(shop: sa.Engine) -> None:
    address = shop.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", textwrap.dedent(ASKS_FOR_EVER), address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "asking\n"
        left = shadows(shop)
        assert len(left) == 1
        at_once = Copying(rows=100, left_behind_s=0)
        with asking(shop, at_once):
            assert set(left) < set(shadows(shop)), "a shadow whose owner lives is dropped"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with asking(shop, Copying(rows=100)):
        assert set(left) < set(shadows(shop)), "one that is not old is dropped"
    deadline = time.monotonic() + DEADLINE_S
    with shop.connect() as connection:
        while set(left) & set(shadows(shop)):
            assert time.monotonic() < deadline
            sweep(connection, 0)  # the server notices some time after that its client is gone
    assert shadows(shop) == []
    assert told(shop) == 0


def test_a_schema_of_another_s_with_a_similar_name_is_left_alone(shop: sa.Engine) -> None:
    with shop.connect() as connection:
        say(connection, "CREATE DATABASE dbpilot_shadow_of_mine")
        try:
            sweep(connection, 0)
            assert shadows(shop) == ["dbpilot_shadow_of_mine"]
        finally:
            say(connection, "DROP DATABASE dbpilot_shadow_of_mine")


def test_a_server_that_goes_away_is_a_watched_database_error() -> None:
    with start_mariadb() as server:
        engine = sa.create_engine(server.create_database("shop"), poolclass=sa.NullPool)
        with engine.connect() as connection:
            say(connection, "CREATE TABLE t (id INT PRIMARY KEY, a INT)")
        with asking(engine) as what_if:
            assert isinstance(what_if.cost(Query("SELECT * FROM t WHERE a = 1")), Cost)
            server.kill()
            for _ in range(2):
                with pytest.raises(WatchedDatabaseError):
                    what_if.cost(Query("SELECT * FROM t WHERE a = 2"), [new("t", "a")])
        with pytest.raises(WatchedDatabaseError), asking(engine):
            pass


# -- rights


@pytest.fixture
def reader(shop: sa.Engine) -> Iterator[sa.Engine]:
    """Somebody who may read the application's tables, and nothing else."""
    with shop.connect() as connection:
        say(connection, "CREATE OR REPLACE USER reader@'127.0.0.1' IDENTIFIED BY 'of the shop'")
        say(connection, "GRANT SELECT ON shop.* TO reader@'127.0.0.1'")
    url = shop.url.set(username="reader", password="of the shop")
    yield sa.create_engine(url, poolclass=sa.NullPool)
    with shop.connect() as connection:
        say(connection, "DROP USER reader@'127.0.0.1'")


def test_without_a_right_it_is_refused_with_the_grant_that_helps(shop: sa.Engine, reader: sa.Engine) -> None:
    query = Query("SELECT * FROM `lines` WHERE product = 7")
    with pytest.raises(RefusedError) as refused, asking(reader):
        pass
    first, *others = re.findall(r"GRANT [^;]+", str(refused.value))
    assert len(others) == 2
    with shop.connect() as connection:
        say(connection, first)
    with asking(reader) as what_if:
        assert "of the copies alone" in what_if.method
        found = answered(what_if.cost(query, [BY_PRODUCT]))
        assert found.used == {BY_PRODUCT}
        assert found.total < answered(what_if.cost(query)).total / 100
    with shop.connect() as connection:
        for grant in others:
            say(connection, grant)
    with asking(reader, SAMPLE) as what_if:
        assert "of the whole tables" in what_if.method
        assert answered(what_if.cost(query, [BY_PRODUCT])).used == {BY_PRODUCT}
    assert shadows(shop) == []


def test_a_table_that_may_not_be_read_is_unsupported(shop: sa.Engine, reader: sa.Engine) -> None:
    with shop.connect() as connection:
        say(connection, "REVOKE SELECT ON shop.* FROM reader@'127.0.0.1'")
        say(connection, "GRANT SELECT ON shop.orders TO reader@'127.0.0.1'")
        say(
            connection,
            r"GRANT SELECT, INSERT, CREATE, DROP, ALTER, INDEX ON `dbpilot\_shadow\_%`.* TO reader@'127.0.0.1'",
        )
    with asking(reader, SAMPLE) as what_if:
        assert isinstance(what_if.cost(Query("SELECT * FROM orders")), Cost)
        found = what_if.cost(Query("SELECT * FROM customers"))
        assert isinstance(found, Unsupported)
        assert "customers" in found.reason


def test_what_is_copied_waits_for_no_lock_of_the_application(shop: sa.Engine) -> None:
    """And holds none that it could wait for."""
    with shop.connect() as application:
        transaction = application.execution_options(isolation_level="REPEATABLE READ").begin()
        application.exec_driver_sql("UPDATE orders SET total = total + 1")
        application.exec_driver_sql(
            "DELETE FROM customers WHERE id > 4990 AND id NOT IN (SELECT customer_id FROM orders)"
        )
        with asking(shop) as what_if:
            assert answered(what_if.cost(Query("SELECT * FROM orders WHERE total = 1"), [BY_TOTAL])).used == {BY_TOTAL}
            application.exec_driver_sql("UPDATE orders SET total = total - 1")
            transaction.rollback()


def test_the_size_of_an_index_is_that_of_a_built_one(shop: sa.Engine) -> None:
    indexes = [BY_PRODUCT, BY_CUSTOMER_DATE, new("orders", "status", "total"), BY_COUNTRY, BY_BIRTH]
    from dbpilot.dialects.mysql.catalog import catalog

    query = sa.text(
        "SELECT stat_value * @@innodb_page_size FROM mysql.innodb_index_stats "
        "WHERE database_name = :schema AND index_name = 'new' AND stat_name = 'size'"
    )
    with shop.connect() as connection:
        found = catalog(connection)
        with open_what_if(shop, found) as what_if:
            sizes = [what_if.size_bytes(index) for index in indexes]
        for index, size in zip(indexes, sizes, strict=True):
            say(connection, f"ALTER TABLE `{index.table}` ADD INDEX new ({', '.join(index.columns)})")
            real = float(connection.execute(query, {"schema": shop.url.database}).scalar_one())
            say(connection, f"ALTER TABLE `{index.table}` DROP INDEX new")
            assert 1 / 1.5 < size / real < 1.5, (index, size, real)

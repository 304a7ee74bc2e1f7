"""What a statement asks of each table: the right columns of the right ones, or nothing; never an error, nor a log."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import tpch
from dbpilot.sql.fingerprint import fingerprint
from dbpilot.sql.predicates import DialectName, Predicates, TableUse, filled, placeholders_of, predicates_of
from dbpilot.sql.syntax import MYSQL, POSTGRESQL, SQLITE
from tests import shop

PG: DialectName = "postgresql"
MY: DialectName = "mariadb"
LITE: DialectName = "sqlite"
ALL: tuple[DialectName, ...] = (PG, MY, LITE)
SYNTAXES = {PG: POSTGRESQL, MY: MYSQL, LITE: SQLITE}

COLUMNS = {
    "users": {
        "id": "integer",
        "email": "varchar(100)",
        "name": "varchar(50)",
        "age": "integer",
        "active": "boolean",
        "code": "character(3)",
        "joined": "timestamp",
        "seen": "timestamptz",
        "boss": "integer",
    },
    "orders": {
        "id": "bigint",
        "user_id": "integer",
        "status": "varchar(10)",
        "total": "numeric(10,2)",
        "placed": "timestamp",
    },
    "items": {"order_id": "bigint", "line": "integer", "sku": "varchar(20)"},
    "Mixed": {"Id": "integer", "Name": "text"},
}


def asked(statement: str, dialect: DialectName = PG) -> Predicates:
    found = predicates_of(statement, dialect, COLUMNS)
    assert found is not None
    return found


def told(use: TableUse) -> str:
    """All but the columns that are only named, in words."""
    parts = [
        ("equal", use.equal),
        ("range", [f"{name}*" if name in use.prefixes else name for name in use.ranges]),
        ("join", [f"{join.column}={join.other_table}.{join.other_column}" for join in use.joins]),
        ("arms", ["+".join(arm) for arm in use.arms]),
        ("group", use.group),
        ("distinct", use.distinct),
        ("order", [f"{sort.column}{' desc' if sort.descending else ''}" for sort in use.order]),
        ("hidden", [f"{defeat.column} by {defeat.trouble}" for defeat in use.defeats]),
    ]
    words = [f"{word} {', '.join(names)}" for word, names in parts if names]
    return f"{use.alias}: " + "; ".join(words + ["first"] * use.limited)


def all_told(statement: str, dialect: DialectName) -> list[str]:
    return [told(use) for use in asked(statement, dialect).uses]


FILTERS = [
    (ALL, "email = 'x' AND age = 5", "equal email, age"),
    (ALL, "'x' = email AND 5 < age", "equal email; range age"),
    (ALL, "age IN (1, 2, 3)", "equal age"),
    (ALL, "boss IS NULL", "equal boss"),
    (ALL, "boss IS NOT NULL AND age > 3", "range age, boss"),
    (ALL, "NOT boss IS NULL", "range boss"),
    (ALL, "age BETWEEN 1 AND 2 AND joined >= '2024-01-01'", "range age, joined"),
    ((PG, MY), "NOT (age > 5)", "range age"),
    ((LITE,), "NOT (age > 5)", "hidden age by negation"),
    ((PG, MY), "NOT (age > 5 OR joined < '2024-01-01')", "range age, joined"),
    (ALL, "age = (SELECT max(line) FROM items)", "equal age"),
    (ALL, "name LIKE 'x%'", "range name*"),
    (ALL, "name LIKE '%x'", "hidden name by leading wildcard"),
    (ALL, "name LIKE '_x'", "hidden name by leading wildcard"),
    (ALL, "age <> 5", "hidden age by negation"),
    (ALL, "NOT age = 5", "hidden age by negation"),
    (ALL, "age NOT IN (5, 6)", "hidden age by negation"),
    (ALL, "name NOT LIKE 'x%'", "hidden name by negation"),
    (ALL, "age <> boss", ""),
    (ALL, "age = boss", ""),
    (ALL, "age > boss + 1", ""),
    (ALL, "lower(email) = 'x'", "hidden email by function"),
    (ALL, "age + 1 = 2", "hidden age by function"),
    (ALL, "age = 1 + 1", "equal age"),
    (ALL, "age = 1 OR age = 2", "equal age"),
    (ALL, "age < 1 OR age > 2", "range age"),
    (ALL, "email = 'x' OR age > 5", "arms email, age"),
    (ALL, "(email = 'x' AND age > 5) OR name = 'y'", "arms email+age, name"),
    (ALL, "(age = 1 AND email = 'x') OR (age = 1 AND name = 'y')", "equal age; arms email, name"),
    (ALL, "age = 1 OR upper(name) = 'x'", "hidden name by function, age by or"),
    (ALL, "age = 1 OR boss <> 2", "hidden boss by negation, age by or"),
    ((PG,), "age = ANY(ARRAY[1, 2])", "equal age"),
    ((PG,), "age = ANY($1) AND boss <> ALL($2)", "equal age; hidden boss by negation"),
    ((PG,), "active AND NOT age < 3", "equal active; range age"),
    ((PG,), "NOT active", "equal active"),
    ((PG,), "active IS FALSE", "equal active"),
    ((MY,), "active", "range active"),
    ((MY,), "NOT active", "equal active"),
    ((LITE,), "active", ""),
    ((MY, LITE), "active IS TRUE", ""),
    ((PG,), "age IS NOT DISTINCT FROM 5", ""),
    ((MY,), "age <=> 5", "equal age"),
    ((LITE,), "age IS 5", "equal age"),
    ((PG, LITE), "(age, id) > (1, 2)", "range age, id"),
    ((MY,), "(age, id) > (1, 2)", "hidden age by row values"),
    (ALL, "(age, id) = (1, 2)", "equal age, id"),
    ((PG, MY), "(age, id) IN ((1, 2), (3, 4))", "equal age, id"),
    ((PG,), "name ILIKE 'x%'", "hidden name by function"),
    ((PG, LITE), "name LIKE 'a' || 'b%'", "range name*"),
    ((LITE,), "name GLOB 'x*' AND email GLOB '*x'", "range name; hidden email by leading wildcard"),
    ((PG,), "joined::date = '2024-01-01'", "hidden joined by function"),
    ((PG,), "date_trunc('month', joined) = '2024-01-01'", "hidden joined by function"),
    ((PG,), "extract(year from joined) = 2024", "hidden joined by function"),
    ((MY,), "date(joined) = '2024-01-01' AND year(joined) = 2024", "hidden joined by function, joined by function"),
    (ALL, "CAST(age AS CHAR(9)) = 'x'", "hidden age by cast"),
    ((MY,), "name = 5", "hidden name by cast"),
    ((MY,), "name IN (5, 6)", "hidden name by cast"),
    ((PG, LITE), "name = 'x'", "equal name"),
    ((LITE,), "name = 5", "equal name"),
    ((PG,), "age = 1.5", "hidden age by cast"),
    ((PG,), "age = 1 AND id = -5", "equal age, id"),
    ((PG,), "age = %(a)s::NUMERIC", "hidden age by cast"),
    ((PG,), "code = %(a)s::TEXT", "hidden code by cast"),
    ((PG,), "code = %(a)s::VARCHAR", "equal code"),
    ((PG,), "name = %(a)s::VARCHAR AND age = %(b)s::INTEGER", "equal name, age"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("dialect", "condition", "expected"),
    [(dialect, condition, expected) for dialects, condition, expected in FILTERS for dialect in dialects],
)
def test_what_a_condition_asks_of_its_table(dialect: DialectName, condition: str, expected: str) -> None:
    assert all_told(f"SELECT 1 FROM users WHERE {condition}", dialect)[0] == f"users: {expected}"


STATEMENTS = [
    (ALL, "SELECT 1 FROM users u JOIN orders o ON o.user_id = u.id WHERE status = 'x'",
     ["u: join id=orders.user_id", "o: equal status; join user_id=users.id"]),
    (ALL, "SELECT 1 FROM users, orders WHERE user_id = users.id",
     ["users: join id=orders.user_id", "orders: join user_id=users.id"]),
    (ALL, "SELECT a.id FROM users a JOIN users b ON a.boss = b.id WHERE b.name = 'x'",
     ["a: join boss=users.id", "b: equal name; join id=users.boss"]),
    # An outer join chooses rows of the one side only.
    (ALL, "SELECT 1 FROM users u LEFT JOIN orders o ON o.user_id = u.id AND o.status = 'x' AND u.age = 3",
     ["u: ", "o: equal status; join user_id=users.id"]),
    ((PG, MY), "SELECT 1 FROM users u RIGHT JOIN orders o ON o.user_id = u.id AND u.age = 3",
     ["u: equal age; join id=orders.user_id", "o: "]),
    (ALL, "SELECT 1 FROM users u JOIN orders o USING (id)", ["u: join id=orders.id", "o: join id=users.id"]),
    (ALL, "SELECT 1 FROM users u NATURAL JOIN orders o", ["u: join id=orders.id", "o: join id=users.id"]),
    (ALL, "SELECT 1 FROM (users u JOIN orders o ON u.id = o.user_id)",
     ["u: join id=orders.user_id", "o: join user_id=users.id"]),
    (ALL, "SELECT 1 FROM users u JOIN orders o ON o.user_id = u.id WHERE u.age > o.total",
     ["u: range age; join id=orders.user_id", "o: range total; join user_id=users.id"]),
    (ALL, "SELECT 1 FROM users u JOIN orders o ON o.id = u.boss + 1",
     ["u: hidden boss by function", "o: join id=."]),
    ((PG,), "SELECT 1 FROM users u JOIN orders o ON o.total = u.age",
     ["u: hidden age by cast", "o: join total=users.age"]),
    ((MY,), "SELECT 1 FROM users u JOIN orders o ON o.status = u.age",
     ["u: join age=orders.status", "o: hidden status by cast"]),
    ((MY, LITE), "SELECT 1 FROM users u JOIN orders o ON o.user_id = u.id WHERE u.age = 1 OR o.status = 'x'",
     ["u: join id=orders.user_id; hidden age by or", "o: join user_id=users.id; hidden status by or"]),
    ((PG,), "SELECT 1 FROM users u, orders o WHERE (u.age = 1 AND o.status = 'x') OR (u.name = 'y' AND o.total > 3)",
     ["u: arms age, name", "o: arms status, total"]),
    # Inner queries.
    (ALL, "SELECT 1 FROM users WHERE EXISTS (SELECT * FROM orders o WHERE o.user_id = users.id AND status = 'x')",
     ["users: join id=orders.user_id", "o: equal status; join user_id=users.id"]),
    (ALL, "SELECT 1 FROM users WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.user_id = users.id)",
     ["users: ", "o: join user_id=users.id"]),
    (ALL, "SELECT 1 FROM users WHERE EXISTS (SELECT 1 FROM orders o WHERE o.user_id = users.id) OR age = 3",
     ["users: hidden age by or", "o: join user_id=users.id"]),
    (ALL, "SELECT 1 FROM users WHERE id IN (SELECT user_id FROM orders WHERE total > 5)",
     ["users: join id=orders.user_id", "orders: range total; join user_id=users.id"]),
    (ALL, "SELECT 1 FROM users WHERE id IN (SELECT user_id FROM orders GROUP BY user_id HAVING sum(total) > 5)",
     ["users: join id=orders.user_id", "orders: group user_id"]),
    ((PG,), "SELECT 1 FROM users WHERE id NOT IN (SELECT user_id FROM orders)",
     ["users: hidden id by negation", "orders: "]),
    ((MY, LITE), "SELECT 1 FROM users WHERE id NOT IN (SELECT user_id FROM orders)",
     ["users: hidden id by negation", "orders: join user_id=users.id"]),
    (ALL, "SELECT 1 FROM users WHERE joined = (SELECT max(placed) FROM orders WHERE user_id = users.id)",
     ["users: ", "orders: join user_id=users.id; order placed desc; first"]),
    (ALL, "SELECT (SELECT count(*) FROM orders WHERE user_id = u.id) FROM users u WHERE age = 3",
     ["u: equal age", "orders: join user_id=users.id"]),
    # Through derived tables, as far as a database would move the filter.
    (ALL, "SELECT * FROM (SELECT id, user_id AS u FROM orders WHERE status = 'x') q WHERE q.u = 5 ORDER BY id LIMIT 3",
     ["orders: equal user_id, status; order id; first"]),
    (ALL, "SELECT * FROM (SELECT * FROM orders) q JOIN users ON users.id = q.user_id WHERE status = 'x'",
     ["users: join id=orders.user_id", "orders: equal status; join user_id=users.id"]),
    (ALL, "SELECT * FROM (SELECT user_id, count(*) AS n FROM orders GROUP BY user_id) q WHERE user_id = 5 AND n > 3",
     ["orders: equal user_id; group user_id"]),
    (ALL, "SELECT * FROM (SELECT user_id, status FROM orders GROUP BY user_id, status) q WHERE q.status > 'a'",
     ["orders: range status; group user_id, status"]),
    (ALL, "SELECT * FROM (SELECT max(id) AS id FROM orders GROUP BY user_id) q WHERE id = 5",
     ["orders: group user_id"]),
    (ALL, "SELECT * FROM (SELECT user_id, max(id) AS id FROM orders GROUP BY user_id) q JOIN users u ON u.id = user_id",
     ["u: join id=orders.user_id", "orders: group user_id"]),
    (ALL, "SELECT * FROM (SELECT id, user_id FROM orders LIMIT 5) q WHERE user_id = 5", ["orders: "]),
    (ALL, "SELECT * FROM (SELECT user_id, rank() OVER (ORDER BY lower(status)) FROM orders) q WHERE user_id = 5",
     ["orders: "]),
    (ALL, "SELECT * FROM (SELECT user_id + 1 AS user_id FROM orders) q WHERE user_id = 5", ["orders: "]),
    ((PG,), "SELECT * FROM (SELECT id FROM users UNION ALL SELECT order_id FROM items) q WHERE id = 5",
     ["users: ", "items: "]),  # of several types, which hides them from their indexes
    ((LITE,), "SELECT * FROM (SELECT id FROM orders UNION SELECT order_id FROM items) q WHERE id = 5",
     ["orders: ", "items: "]),
    (ALL, "SELECT * FROM (SELECT id FROM orders UNION ALL SELECT order_id FROM items) q WHERE id = 5",
     ["orders: equal id", "items: equal order_id"]),
    (ALL, "WITH q AS (SELECT id, user_id FROM orders) SELECT * FROM q WHERE user_id = 5", ["orders: equal user_id"]),
    (ALL, "WITH q(a, b) AS (SELECT id, user_id FROM orders) SELECT * FROM q WHERE b = 5", ["orders: equal user_id"]),
    ((PG,), "WITH q AS (SELECT id, user_id FROM orders) SELECT * FROM q a JOIN q b ON a.id = b.id WHERE a.user_id = 5",
     ["orders: "]),
    ((MY, LITE), "WITH q AS (SELECT * FROM orders) SELECT * FROM q a JOIN q b ON a.id = b.user_id WHERE a.user_id = 5",
     ["orders: equal user_id; join id=orders.user_id, user_id=orders.id"]),
    ((PG, LITE), "WITH q AS MATERIALIZED (SELECT * FROM orders) SELECT * FROM q WHERE user_id = 5", ["orders: "]),
    (ALL, "WITH users AS (SELECT * FROM orders) SELECT * FROM users WHERE status = 'x'", ["orders: equal status"]),
    (ALL, "WITH RECURSIVE t(id) AS (SELECT id FROM users WHERE boss IS NULL UNION ALL"
          " SELECT u.id FROM users u JOIN t ON u.boss = t.id) SELECT * FROM t WHERE id = 3",
     ["users: equal boss", "u: join boss=."]),
    ((PG, MY), "SELECT 1 FROM users u JOIN LATERAL"
               " (SELECT * FROM orders o WHERE o.user_id = u.id ORDER BY placed DESC LIMIT 1) x ON true",
     ["u: ", "o: join user_id=users.id; order placed desc; first"]),
    (ALL, "SELECT id FROM users WHERE age = 1 UNION SELECT id FROM orders WHERE status = 'x' ORDER BY 1",
     ["users: equal age", "orders: equal status"]),
    # Groups and orders.
    (ALL, "SELECT status, count(*) FROM orders GROUP BY status ORDER BY status",
     ["orders: group status; order status"]),
    (ALL, "SELECT status, count(*) FROM orders GROUP BY 1 ORDER BY 2", ["orders: group status"]),
    (ALL, "SELECT status AS s, count(*) AS n FROM orders GROUP BY s ORDER BY n", ["orders: group status"]),
    (ALL, "SELECT u.age FROM users u JOIN orders o ON o.user_id = u.id GROUP BY u.age, o.status",
     ["u: join id=orders.user_id", "o: join user_id=users.id"]),
    (ALL, "SELECT DISTINCT status, total FROM orders", ["orders: distinct status, total"]),
    ((PG,), "SELECT DISTINCT ON (user_id) id FROM orders ORDER BY user_id, placed DESC",
     ["orders: distinct user_id; order user_id, placed desc"]),
    (ALL, "SELECT id FROM orders WHERE status = 'x' ORDER BY placed DESC, id LIMIT 3",
     ["orders: equal status; order placed desc, id; first"]),
    (ALL, "SELECT placed AS id FROM orders ORDER BY id", ["orders: order placed"]),
    (ALL, "SELECT id FROM orders ORDER BY lower(status), id", ["orders: "]),
    (ALL, "SELECT 1 FROM users u JOIN orders o ON o.user_id = u.id ORDER BY u.name, o.id",
     ["u: join id=orders.user_id", "o: join user_id=users.id"]),
    (ALL, "SELECT max(placed) FROM orders WHERE user_id = 5", ["orders: equal user_id; order placed desc; first"]),
    (ALL, "SELECT min(placed), max(total) FROM orders", ["orders: "]),
    (ALL, "SELECT sum(total) FROM orders WHERE user_id = 5 ORDER BY 1", ["orders: equal user_id"]),
    ((PG, LITE), "SELECT id, rank() OVER (PARTITION BY user_id ORDER BY placed DESC) FROM orders",
     ["orders: order user_id, placed desc"]),
    ((MY,), "SELECT id, rank() OVER (PARTITION BY user_id ORDER BY placed DESC) FROM orders", ["orders: "]),
    ((LITE,), "SELECT id FROM orders ORDER BY placed NULLS LAST", ["orders: "]),
    # Names.
    ((PG,), 'SELECT 1 FROM "Mixed" WHERE "Id" = 1', ["Mixed: equal Id"]),
    ((PG,), "SELECT 1 FROM Mixed WHERE Id = 1", []),
    ((PG,), "SELECT 1 FROM USERS WHERE USERS.AGE = 1", ["users: equal age"]),
    ((MY, LITE), "SELECT 1 FROM Mixed m WHERE M.ID = 1", ["m: equal Id"]),
    ((MY,), "SELECT 1 FROM `users` WHERE `users`.`Age` = 1", ["users: equal age"]),
    ((LITE,), "SELECT 1 FROM [users] WHERE [Age] = 1", ["users: equal age"]),
    ((PG,), "SELECT 1 FROM public.users WHERE public.users.age = 1", ["users: equal age"]),
    ((PG, LITE), "SELECT 1 FROM other.users WHERE age = 1", []),
    (ALL, "SELECT 1 FROM some_view v JOIN users u ON u.id = v.user_id WHERE age = 5 AND mystery = 3",
     ["u: equal age; join id=."]),
    (ALL, "SELECT 1 FROM some_view WHERE id IN (SELECT user_id FROM orders WHERE total = odd)",
     ["orders: join user_id=., total=."]),
    (ALL, "SELECT lower(status) AS total FROM orders WHERE total > 3", ["orders: range total"]),
    # Writes.
    (ALL, "UPDATE users SET name = 'x', age = age + 1 WHERE email = 'y'", ["users: equal email"]),
    ((PG, LITE), "UPDATE users SET name = o.status FROM orders o WHERE o.user_id = users.id AND o.total > 5",
     ["users: join id=orders.user_id", "o: range total; join user_id=users.id"]),
    ((MY,), "UPDATE users u JOIN orders o ON o.user_id = u.id SET u.name = 'x' WHERE o.status = 'y'",
     ["u: join id=orders.user_id", "o: equal status; join user_id=users.id"]),
    (ALL, "DELETE FROM users WHERE age < 5", ["users: range age"]),
    ((MY,), "DELETE FROM users WHERE age < 5 ORDER BY joined LIMIT 100", ["users: range age; order joined; first"]),
    ((PG,), "DELETE FROM users USING orders o WHERE o.user_id = users.id",
     ["users: join id=orders.user_id", "o: join user_id=users.id"]),
    ((MY,), "DELETE o FROM users u JOIN orders o ON o.user_id = u.id WHERE u.age = 5",
     ["u: equal age; join id=orders.user_id", "o: join user_id=users.id"]),
    (ALL, "INSERT INTO users (name) SELECT status FROM orders WHERE total > 3", ["orders: range total"]),
    ((PG, LITE), "WITH q AS (SELECT * FROM orders) INSERT INTO users (name) SELECT status FROM q WHERE total > 3",
     ["orders: range total"]),
    ((PG,), "WITH gone AS (DELETE FROM orders WHERE status = 'x' RETURNING user_id)"
            " SELECT 1 FROM users WHERE id IN (SELECT user_id FROM gone)",
     ["orders: equal status", "users: join id=."]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("dialect", "statement", "expected"),
    [(dialect, statement, expected) for dialects, statement, expected in STATEMENTS for dialect in dialects],
)
def test_what_a_statement_asks_of_each_table(dialect: DialectName, statement: str, expected: list[str]) -> None:
    assert sorted(all_told(statement, dialect)) == sorted(expected)


SPELLINGS = [
    (PG, "SELECT 1 FROM users WHERE email = $1 AND (age,boss) IN (($2,$3),($4,$5))", "equal email, age, boss"),
    (PG, "SELECT 1 FROM users WHERE email IN ($1 /*, ... */) AND age = $2", "equal email, age"),
    (PG, "SELECT 1 FROM users WHERE joined > now() - interval $1 AND seen < date $2", "range joined, seen"),
    (PG, "SELECT 1 FROM users WHERE joined > date ? - interval ? AND name LIKE ?", "range joined, name*"),
    (PG, "SELECT 1 FROM users WHERE data ? 'x' AND age = ?", "equal age"),
    (PG, "SELECT 1 FROM users WHERE email = %(e)s AND age = 5 %% 3", "equal email, age"),
    (PG, "SELECT 1 FROM users WHERE age IN (__[POSTCOMPILE_age_1]) AND email IN %s", "equal age, email"),
    (PG, "SELECT 1 FROM users WHERE email = $tag$it's$tag$", "equal email"),
    (PG, "SELECT 1 FROM users WHERE email LIKE '%%' || %(x)s || '%%'", "hidden email by leading wildcard"),
    (PG, "SELECT 1 FROM users WHERE email LIKE %(x)s || '%%' ESCAPE '/'", "range email*"),
    (MY, "SELECT 1 FROM users WHERE email LIKE concat(%s, '%%') AND age = %(age)s", "equal age; range email*"),
    (MY, "SELECT ? FROM `users` WHERE `age` IN (...) AND `email` = ? LIMIT ?, ...", "equal age, email; first"),
    (MY, "SELECT 1 FROM users /* why */ USE INDEX (x) WHERE email = 'O\\'Brien' # end", "equal email"),
    (MY, "SELECT /*+ MAX_EXECUTION_TIME(9) */ 1 FROM users WHERE age = ?;", "equal age"),
    (LITE, "SELECT 1 FROM users WHERE email = ?1 AND age = :age AND boss = @boss", "equal email, age, boss"),
    (LITE, "SELECT 1 FROM users -- why\nWHERE age IN (?, ?, ?) LIMIT ? OFFSET ?", "equal age; first"),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "statement", "expected"), SPELLINGS)
def test_every_spelling_of_a_value_is_read(dialect: DialectName, statement: str, expected: str) -> None:
    expected = expected.removesuffix("; first")  # without an order there are no first ones
    assert all_told(statement, dialect) == [f"users: {expected}"]


def test_writes_are_told_with_their_columns() -> None:
    update = asked("UPDATE users SET name = 'x', age = 3").written
    assert update is not None
    assert (update.table, update.operation, update.columns) == ("users", "UPDATE", ("name", "age"))
    for statement, operation in [
        ("INSERT INTO items VALUES (1, 2, 'x')", "INSERT"),
        ("REPLACE INTO items (line) VALUES (1)", "INSERT"),
        ("INSERT INTO items (line) VALUES (...) ON DUPLICATE KEY UPDATE line = VALUES(line)", "INSERT"),
        ("DELETE FROM items", "DELETE"),
        ("DELETE i FROM items i JOIN orders o ON o.id = i.order_id", "DELETE"),
    ]:
        written = asked(statement, MY).written
        assert written is not None
        assert (written.table, written.operation) == ("items", operation)
        assert written.columns == ("order_id", "line", "sku")
    assert asked("SELECT 1 FROM users").written is None
    assert asked("INSERT INTO elsewhere VALUES (1)").written is None


def test_every_column_that_is_named_is_told_once() -> None:
    assert asked("SELECT u.* FROM users u JOIN orders o ON o.user_id = u.id").uses[0].all == tuple(COLUMNS["users"])
    assert asked("SELECT u.* FROM users u JOIN orders o ON o.user_id = u.id").uses[1].all == ("user_id",)
    statement = "SELECT sum(total), status FROM orders WHERE placed > '2024-01-01' GROUP BY status HAVING max(id) > 5"
    assert asked(statement).uses[0].all == ("id", "status", "total", "placed")
    statement = "SELECT count(*) FROM users WHERE EXISTS (SELECT * FROM orders WHERE user_id = users.id)"
    assert [use.all for use in asked(statement).uses] == [("id",), ("user_id",)]


def test_a_condition_is_told_without_its_values_and_with_what_would_help() -> None:
    (use,) = asked("SELECT 1 FROM users WHERE lower(email) = 'secret' AND joined::date = '2024-05-06'").uses
    lower, day = use.defeats
    assert (lower.condition, lower.expression) == ("LOWER(email) = ?", "lower(email)")
    assert lower.rewrite is not None
    assert "lower(email)" in lower.rewrite
    assert day.expression == "CAST(joined AS DATE)"
    assert day.rewrite is not None
    assert "range" in day.rewrite
    assert "secret" not in repr(use)
    assert "2024-05-06" not in repr(use)


@pytest.mark.parametrize(
    ("dialect", "condition", "expression"),
    [
        (PG, "seen::date = '2024-01-01'", None),  # which day it is depends on the session's time zone
        (PG, "date_trunc('month', joined) = '2024-01-01'", None),  # it holds a value of the statement
        (PG, "upper(\"name\") = 'X'", "upper(name)"),
        (PG, "coalesce(age, boss) = 3", "coalesce(age, boss)"),
        (PG, "random() * age = 3", None),
        (PG, "age + 1 = 3", None),
        (LITE, "lower(email) = 'x'", "lower(email)"),
        (LITE, "lower(email) LIKE 'x%'", None),  # SQLite looks up beginnings in columns only
        (MY, "lower(email) = 'x'", None),
    ],
)
def test_an_expression_is_told_where_an_index_could_hold_it(
    dialect: DialectName, condition: str, expression: str | None
) -> None:
    (use,) = asked(f"SELECT 1 FROM users WHERE {condition}", dialect).uses
    assert [defeat.expression for defeat in use.defeats] == [expression]


def test_the_place_of_nulls_is_told_where_an_index_can_have_it() -> None:
    (use,) = asked("SELECT 1 FROM orders ORDER BY placed DESC NULLS LAST, id").uses
    assert [sort.nulls_first for sort in use.order] == [False, None]


UNREADABLE = [
    "",
    ";",
    "hello",
    "BEGIN",
    "EXPLAIN SELECT 1 FROM users",
    "CREATE TABLE x (a int)",
    "SELECT 1 FROM users; DROP TABLE users",
    "SELECT 1 FROM users WHERE age = ? AND ...",
    "SELECT 1 FROM users WHERE",
    "SELECT 1 FROM users WHERE age IN (1, 2, ...",
    "SELECT " + "(" * 5000,
    "SELECT 1 FROM users WHERE " + "NOT " * 5000 + "active",
    "SELECT 1 FROM users WHERE age = " + "-" * 1 + " - " * 5000 + "1",
    "SELECT " + "CASE WHEN a THEN " * 2000,
    "SELECT " + ", ".join(f"c{number}" for number in range(20_000)),
    "SELECT 1 FROM users WHERE " + " OR ".join(f"age = {number}" for number in range(20_000)),
    "SELECT '" + "x" * 2_000_000,
    "WITH c0 AS (SELECT * FROM users)"
    + "".join(f", c{n + 1} AS (SELECT * FROM c{n} a CROSS JOIN c{n} b)" for n in range(40))
    + " SELECT * FROM c40 WHERE age = 1",
    "SELECT a" + "[1]" * 1000 + " FROM users",
    "WITH c0 AS (SELECT age + 1 AS x FROM users)"
    + "".join(f", c{n + 1} AS (SELECT x FROM c{n} UNION ALL SELECT x FROM c{n})" for n in range(40))
    + " SELECT * FROM c40 JOIN users ON users.age = c40.x",
]


@pytest.mark.parametrize("dialect", ALL)
@pytest.mark.parametrize("number", range(len(UNREADABLE)))
def test_what_cannot_be_read_is_nothing(dialect: DialectName, number: int) -> None:
    assert predicates_of(UNREADABLE[number], dialect, COLUMNS) is None


def test_long_lists_are_read() -> None:
    values = ", ".join(str(number) for number in range(20_000))
    assert all_told(f"SELECT 1 FROM users WHERE age IN ({values})", PG) == ["users: equal age"]
    rows = ", ".join("(%s, %s)" for _ in range(5_000))
    found = asked(f"INSERT INTO users (name, age) VALUES {rows}", MY)
    assert found.written is not None
    targets = placeholders_of(f"INSERT INTO users (name, age) VALUES {rows}", MY, COLUMNS)
    assert targets == (("users", "name"), ("users", "age")) * 5_000


WORDS = st.sampled_from(
    "SELECT FROM WHERE users orders id age = ( ) , AND OR NOT IN JOIN ON LEFT GROUP BY ORDER LIMIT 1 'x' \" ` $1 %s"
    " ? :a * . AS u WITH UNION ALL EXISTS LIKE BETWEEN CASE WHEN END :: [ ] { } -- /* */ $$ ; LATERAL OVER UPDATE"
    " SET DELETE USING INSERT INTO VALUES IS NULL INTERVAL DISTINCT HAVING RECURSIVE ... \\ @ # ! <> || -> ->>".split(
        " "
    )
)


@settings(deadline=None, max_examples=300)
@given(st.lists(WORDS, max_size=40), st.text(max_size=20), st.sampled_from(ALL))
def test_nothing_raises_whatever_the_statement_is(words: list[str], text: str, dialect: DialectName) -> None:
    for statement in (" ".join(["SELECT", *words]), " ".join(words) + text, text):
        predicates_of(statement, dialect, COLUMNS)
        count = len(placeholders_of(statement, dialect, COLUMNS))
        filled(statement, dialect, [1] * count)


def test_nothing_of_a_statement_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for statement in (
            "SELECT age FROM users TABLESAMPLE SYSTEM (10) WHERE name = 'secret'",
            "SELECT data -> '$.[secret' FROM users",
            "REPLACE LOW_PRIORITY INTO users SET name = 'secret'",
            "SELECT DATE_ADD(joined, INTERVAL '7' SECRET) FROM users",
        ):
            for dialect in ALL:
                predicates_of(statement, dialect, COLUMNS)
    assert not [record for record in caplog.records if record.name.startswith("sqlglot")]


# What the placeholders stand for.

PLACEHOLDERS = [
    (PG, "SELECT 1 FROM users WHERE email = $1 AND age IN ($2,$3) LIMIT $4",
     [("users", "email"), ("users", "age"), ("users", "age"), None]),
    (PG, "SELECT 1 FROM users u, orders o WHERE o.user_id = u.id AND o.total BETWEEN %(a)s AND %(b)s AND u.age > %(a)s",
     [("orders", "total"), ("orders", "total"), ("users", "age")]),
    (PG, "SELECT 1 FROM users WHERE (age, id) > ($1, $2) AND age = ANY($3) AND lower(email) = lower($4)",
     [("users", "age"), ("users", "id"), ("users", "age"), ("users", "email")]),
    (PG, "SELECT 1 FROM users WHERE name LIKE %(n)s::VARCHAR || '%%' AND age + %(m)s::INTEGER = 3",
     [("users", "name"), None]),
    (MY, "INSERT INTO users (name, age) VALUES (%s, %s), (%s, %s)",
     [("users", "name"), ("users", "age"), ("users", "name"), ("users", "age")]),
    (MY, "INSERT INTO items VALUES (%s, 5, %s)", [("items", "order_id"), ("items", "sku")]),
    (MY, "UPDATE users SET name = ?, age = age + ? WHERE email = ?", [("users", "name"), None, ("users", "email")]),
    (LITE, "SELECT ? FROM (SELECT age AS years FROM users) q WHERE years > ?", [None, ("users", "age")]),
    (LITE, "DELETE FROM users WHERE age IN (__[POSTCOMPILE_a])", [("users", "age")]),
    (LITE, "SELECT 1 FROM elsewhere WHERE a = ?", [None]),
    (LITE, "SELEKT ? ?", [None, None]),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "statement", "expected"), PLACEHOLDERS)
def test_each_placeholder_belongs_to_the_column_that_it_is_compared_with(
    dialect: DialectName, statement: str, expected: list[tuple[str, str] | None]
) -> None:
    assert placeholders_of(statement, dialect, COLUMNS) == tuple(expected)


FILLED = [
    (PG, "a = $1 AND b = $2", [1, "it's"], "a = 1 AND b = 'it''s'"),
    (PG, "a IN (?) AND b IN %s", [[1, 2], ["x"]], "a IN (1, 2) AND b IN ('x')"),
    (PG, "a = ANY(%(x)s) AND b %% 2 = %(y)s::INTEGER", [[1, 2], 0], "a = ANY(ARRAY[1, 2]) AND b % 2 = 0::INTEGER"),
    (PG, "a - %s AND j ? 'k' AND b = ?", [-1, 2], "a - (-1) AND j ? 'k' AND b = 2"),
    (PG, "a = %s AND b = '$1' -- %s", ["C:\\x"], "a = E'C:\\\\x' AND b = '$1'"),
    (MY, "a = %s AND b LIKE '%%x' AND c = ?", ["a\\' OR 1=1", None],
     "a = 'a\\\\'' OR 1=1' AND b LIKE '%x' AND c = NULL"),
    (MY, "a IN (...) AND b = ?", [[1, 2], True], "a IN (1, 2) AND b = 1"),
    (LITE, "a = :a AND b = ?2 AND c IN (__[POSTCOMPILE_c])", [b"\x00\xff", False, []],
     "a = X'00ff' AND b = 0 AND c IN (NULL)"),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "condition", "values", "expected"), FILLED)
def test_values_are_written_where_placeholders_are(
    dialect: DialectName, condition: str, values: list[object], expected: str
) -> None:
    assert filled(f"SELECT 1 FROM t WHERE {condition}", dialect, values) == f"SELECT 1 FROM t WHERE {expected}"


def test_a_wrong_number_of_values_is_refused_without_naming_them() -> None:
    with pytest.raises(ValueError, match="1 placeholders; 2 values") as refused:
        filled("SELECT ?", LITE, ["secret", 2])
    assert "secret" not in str(refused.value)


# Many statements.


def of_tpch() -> Iterator[tuple[DialectName, str]]:
    for dialect in ALL:
        for text in tpch.queries(dialect).values():
            yield dialect, text


def of_shop() -> Iterator[tuple[DialectName, str]]:
    for dialect in ALL:
        for statement in shop.statements():
            yield dialect, shop.compiled(statement, dialect)


def right_columns(found: Predicates, columns: dict[str, dict[str, str]]) -> None:
    """Every column that is told is one of the table that it is told of."""
    for use in found.uses:
        names = {*use.equal, *use.ranges, *use.group, *use.distinct, *use.all, *use.prefixes}
        names |= {join.column for join in use.joins} | {sort.column for sort in use.order}
        names |= {column for arm in use.arms for column in arm} | {defeat.column for defeat in use.defeats}
        assert names <= columns[use.table].keys()
        assert names <= {*use.all}
        for join in use.joins:
            assert not join.other_table or join.other_column in columns[join.other_table]


def test_all_of_tpch_is_read_with_the_right_columns() -> None:
    for dialect, text in of_tpch():
        columns = {
            table.name: {column.name: str(column.type) for column in table.columns}
            for table in tpch.METADATA.sorted_tables
        }
        found = predicates_of(text, dialect, columns)
        assert found is not None
        right_columns(found, columns)
        for use in found.uses:  # every column of TPC-H begins with its table's letters
            letters = "ps_" if use.table == "partsupp" else use.table[0] + "_"
            assert all(name.startswith(letters) for name in use.all)


def test_what_an_orm_writes_is_read_with_the_right_columns() -> None:
    texts = set(of_shop())
    assert len(texts) > 3 * 200
    for dialect, text in texts:
        found = predicates_of(text, dialect, shop.columns(dialect))
        assert found is not None, text
        right_columns(found, shop.columns(dialect))


def test_a_pattern_asks_the_same_as_its_statements() -> None:
    """But for what depends on values: how a LIKE begins, and what a number is compared with."""
    for dialect, text in sorted(set(of_shop())):
        pattern = fingerprint(text, SYNTAXES[dialect]).text
        columns = shop.columns(dialect)
        one, other = predicates_of(text, dialect, columns), predicates_of(pattern, dialect, columns)
        assert one is not None
        assert other is not None, pattern
        if "LIKE" not in text:
            assert [told(use) for use in one.uses] == [told(use) for use in other.uses], text

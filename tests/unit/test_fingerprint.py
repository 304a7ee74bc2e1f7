"""Same pattern together, different ones apart, and no value ever left in the text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbpilot.sql.fingerprint import MAX_TEXT, fingerprint
from dbpilot.sql.syntax import MYSQL, POSTGRESQL, SQLITE, Syntax
from dbpilot.sql.tables import tables_of

ALL = [MYSQL, POSTGRESQL, SQLITE]

SAME = [
    (SQLITE, "SELECT a FROM t WHERE id = 1", "select a\n  from t where id=42 -- why not"),
    (SQLITE, "SELECT a FROM t WHERE id IN (1)", "SELECT a FROM t WHERE id IN (1, 2, 3)"),
    (SQLITE, "SELECT a FROM t WHERE id IN (?)", "SELECT a FROM t WHERE id IN (__[POSTCOMPILE_id_1])"),
    (SQLITE, "SELECT a FROM t WHERE (a, b) IN ((1, 2))", "SELECT a FROM t WHERE (a, b) IN ((1, 2), (3, 4))"),
    (SQLITE, "INSERT INTO t (a, b) VALUES (1, 'x')", "INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'it''s')"),
    (SQLITE, "SELECT a FROM t WHERE b = NULL", "SELECT a FROM t WHERE b = 'x'"),
    (SQLITE, "SELECT a FROM t WHERE b = -5", "SELECT a FROM t WHERE b = 5.5e-3"),
    (SQLITE, "SELECT a FROM t WHERE b = ?", "SELECT a FROM t WHERE b = :b"),
    (SQLITE, "SAVEPOINT sa_savepoint_1", "SAVEPOINT sa_savepoint_2"),
    (SQLITE, "RELEASE SAVEPOINT sa_savepoint_1", "RELEASE SAVEPOINT sa_savepoint_2"),
    (SQLITE, "SELECT 1;", "SELECT 2"),
    (SQLITE, "SELECT '한국'", "SELECT 'abc'"),
    (MYSQL, "SELECT a FROM t WHERE b = 'O\\'Brien'", 'SELECT a FROM t WHERE b = "x"'),
    (MYSQL, "SELECT a FROM t WHERE b = %s # note", "SELECT a FROM t WHERE b = 7"),
    (MYSQL, "SELECT a FROM t WHERE b = _utf8mb4'x'", "SELECT a FROM t WHERE b = x'ff'"),
    (POSTGRESQL, "SELECT a FROM t WHERE b = $1", "SELECT a FROM t WHERE b = %(b_1)s"),
    (POSTGRESQL, "SELECT a FROM t WHERE b = $tag$it's$tag$", "SELECT a FROM t WHERE b = E'it\\'s'"),
    (POSTGRESQL, "SELECT a FROM t WHERE b = ANY(ARRAY[1,2])", "SELECT a FROM t WHERE b = ANY (ARRAY[1])"),
]

APART = [
    (SQLITE, "SELECT a FROM t", "SELECT b FROM t"),
    (SQLITE, 'SELECT "users"', 'SELECT "orders"'),
    (SQLITE, "SELECT a FROM users_2009", "SELECT a FROM users_2010"),
    (SQLITE, "SELECT a FROM t WHERE b IS NULL", "SELECT a FROM t WHERE b IS NOT NULL"),
    (SQLITE, "SELECT a FROM t WHERE b IS TRUE", "SELECT a FROM t WHERE b IS FALSE"),
    (SQLITE, "INSERT INTO t (a, b) VALUES (1, 2)", "INSERT INTO t (a, b) VALUES (1, 2 + 3)"),
    (SQLITE, "SELECT a - 1 FROM t", "SELECT a FROM t"),
    (SQLITE, "SELECT f(1, 2)", "SELECT f(1)"),
    (SQLITE, "SELECT T.a FROM T", "SELECT t.a FROM t"),
    (MYSQL, "SELECT `a` FROM t", "SELECT 'a' FROM t"),
    (MYSQL, "SELECT /*+ MAX_EXECUTION_TIME(9) */ a FROM t", "SELECT a FROM t"),
    (POSTGRESQL, "SELECT a FROM t WHERE j ? 'k'", "SELECT a FROM t WHERE j = 'k'"),
    (POSTGRESQL, "SELECT a::int FROM t", "SELECT a::text FROM t"),
]


@pytest.mark.parametrize(("syntax", "one", "other"), SAME)
def test_statements_that_differ_only_in_values_are_one_pattern(syntax: Syntax, one: str, other: str) -> None:
    assert fingerprint(one, syntax) == fingerprint(other, syntax)


@pytest.mark.parametrize(("syntax", "one", "other"), APART)
def test_statements_that_differ_in_more_than_values_are_apart(syntax: Syntax, one: str, other: str) -> None:
    assert fingerprint(one, syntax).id != fingerprint(other, syntax).id


def test_the_text_stays_readable() -> None:
    statement = "select p.close, count(*) from daily_prices as p where p.symbol in ('A', 'B') and date >= '2013-01-01'"
    expected = "SELECT p.close, count(*) FROM daily_prices AS p WHERE p.symbol IN (?) AND date >= ?"
    assert fingerprint(statement, SQLITE).text == expected


@pytest.mark.parametrize(
    ("statement", "operation"),
    [
        ("SELECT 1", "SELECT"),
        ("(SELECT 1) UNION (SELECT 2)", "SELECT"),
        ("WITH q AS (SELECT 1) DELETE FROM t", "DELETE"),
        ("WITH q AS (SELECT 1) SELECT * FROM q", "SELECT"),
        ("insert into t values (1)", "INSERT"),
        ("START TRANSACTION", "BEGIN"),
        ("FLUSH TABLES", "OTHER"),
        ("", "OTHER"),
    ],
)
def test_the_operation_is_the_main_verb(statement: str, operation: str) -> None:
    assert fingerprint(statement, MYSQL).operation == operation


@pytest.mark.parametrize(
    ("syntax", "statement", "tables"),
    [
        (SQLITE, "SELECT * FROM a JOIN b ON a.id = b.id WHERE a.x IN (SELECT x FROM c)", ("a", "b", "c")),
        (MYSQL, "INSERT INTO `t` (a) VALUES (%s) ON DUPLICATE KEY UPDATE a = VALUES(a)", ("t",)),
        (POSTGRESQL, "WITH q AS (SELECT 1 FROM s.x) SELECT * FROM q WHERE j ? 'k' AND a = %(a)s::INTEGER", ("s.x",)),
        (POSTGRESQL, "UPDATE t SET a = $1 WHERE b = $2", ("t",)),
        (SQLITE, "this is no SQL at all (", ()),
        (
            SQLITE,
            'SELECT x FROM "a b"."c""d" AS t, [e f] u, g LEFT JOIN (h JOIN i ON 1) ON 2',
            ('a b.c"d', "e f", "g", "h", "i"),
        ),
        (POSTGRESQL, "SELECT extract(year FROM d), trim(both FROM e) FROM t WHERE a IS DISTINCT FROM b", ("t",)),
        (POSTGRESQL, "SELECT a FROM generate_series(1, 5) AS s, t WHERE b IN (SELECT c FROM u, v)", ("t", "u", "v")),
        (
            POSTGRESQL,
            "WITH q (n) AS (SELECT 1 FROM a), r AS MATERIALIZED (SELECT 2 FROM q) DELETE FROM ONLY b USING c, r",
            ("a", "b", "c"),
        ),
        (POSTGRESQL, "INSERT INTO t (a) SELECT b FROM u ON CONFLICT (a) DO UPDATE SET a = 1 RETURNING a", ("t", "u")),
        (POSTGRESQL, "SELECT a FROM t JOIN u USING (id) FOR NO KEY UPDATE", ("t", "u")),
        (POSTGRESQL, "MERGE INTO t USING u ON t.id = u.id WHEN MATCHED THEN UPDATE SET a = 1", ("t", "u")),
        (MYSQL, "UPDATE t, u SET t.a = u.a WHERE t.id = u.id", ("t", "u")),
        (MYSQL, "REPLACE t (a) VALUES (1)", ("t",)),
        (MYSQL, "INSERT IGNORE INTO `s`.`t` (a) SELECT a FROM u FORCE INDEX (i)", ("s.t", "u")),
        (MYSQL, "DELETE t FROM t JOIN u ON t.id = u.id", ("t", "u")),
        (SQLITE, "CREATE TABLE IF NOT EXISTS t (a INTEGER)", ("t",)),
        (SQLITE, "CREATE INDEX i ON t (a)", ("t",)),
        (SQLITE, "create unique index i on t (a)", ("t",)),
        (SQLITE, "DROP TABLE IF EXISTS t", ("t",)),
        (MYSQL, "TRUNCATE t", ("t",)),
        (SQLITE, "SELECT a FROM (SELECT b, c FROM t) s, u", ("t", "u")),
        (SQLITE, "SELECT 1 UNION SELECT a FROM t ORDER BY a, b", ("t",)),
        (SQLITE, "SELECT a, (SELECT b FROM u WHERE u.id = t.id), c FROM t WHERE d IN (1, 2), e", ("u", "t")),
    ],
)
def test_the_tables_are_those_named_and_not_the_statements_own(syntax: Syntax, statement: str, tables: tuple) -> None:
    assert tables_of(fingerprint(statement, syntax).tokens) == tables


@pytest.mark.parametrize("syntax", ALL, ids=lambda syntax: syntax.name)
@given(text=st.text())
def test_any_text_has_a_fingerprint(syntax: Syntax, text: str) -> None:
    assert fingerprint(text, syntax) == fingerprint(text, syntax)
    assert isinstance(tables_of(fingerprint(text, syntax).tokens), tuple)


@pytest.mark.parametrize("syntax", ALL, ids=lambda syntax: syntax.name)
@given(value=st.text(st.characters(categories=["L", "N"]), min_size=3), number=st.integers(100, 10**30))
def test_no_value_is_left_in_the_text(syntax: Syntax, value: str, number: int) -> None:
    pattern = fingerprint(
        f"SELECT a FROM t WHERE b = '{value}' AND c IN ('{value}', {number}) OR d > -{number}", syntax
    )
    assert pattern.text == "SELECT a FROM t WHERE b = ? AND c IN (?) OR d > ?"


@pytest.mark.parametrize(
    ("syntax", "statement", "text"),
    [
        (SQLITE, 'SELECT a FROM t WHERE name = "hunter2"', "SELECT a FROM t WHERE name = ?"),
        (SQLITE, 'SELECT a FROM t WHERE b IN ("hunter2", "x")', "SELECT a FROM t WHERE b IN (?)"),
        (SQLITE, 'INSERT INTO t ("a", "b") VALUES ("hunter2", 1), ("x", 2)', 'INSERT INTO t ("a", "b") VALUES (?, ?)'),
        (
            SQLITE,
            'SELECT 1 FROM t JOIN "order" ON t.id = "order".id',
            'SELECT ? FROM t JOIN "order" ON t.id = "order".id',
        ),
        (SQLITE, 'SELECT a FROM t WHERE b BETWEEN "x" AND "y"', "SELECT a FROM t WHERE b BETWEEN ? AND ?"),
        (SQLITE, 'SELECT CASE WHEN a THEN "x" ELSE "y" END', "SELECT CASE WHEN a THEN ? ELSE ? END"),
        (SQLITE, 'SELECT coalesce(a, "alice@example.org") FROM "a/b"', 'SELECT coalesce(a, ?) FROM "a/b"'),
        (SQLITE, "attach 'x' AS y", "ATTACH ? AS y"),
        (SQLITE, "PRAGMA hexkey = hunter2", "PRAGMA hexkey = ?"),
        (POSTGRESQL, "SET application_name TO hunter2", "SET application_name TO ?"),
        (POSTGRESQL, "SELECT 1 /* a /* b */ hunter2 */ FROM t", "SELECT ? FROM t"),
        (MYSQL, "SELECT 1 /*!50000 UNION SELECT 'hunter2' */", "SELECT ? /*! UNION SELECT ? */"),
        (MYSQL, "SELECT /*+ SET_VAR(x='hunter2') */ 1", "SELECT /*+ SET_VAR(x = ?) */ ?"),
        (MYSQL, "SELECT a FROM t WHERE token = 5f4dcc3b5aa765d6", "SELECT a FROM t WHERE token = ?"),
    ],
)
def test_values_in_odd_places_are_values(syntax: Syntax, statement: str, text: str) -> None:
    assert fingerprint(statement, syntax).text == text


@given(value=st.text())
def test_a_quoted_value_of_any_characters_is_one_value(value: str) -> None:
    literal = "'" + value.replace("'", "''") + "'"
    assert fingerprint(f"SELECT {literal} FROM t", SQLITE).text == "SELECT ? FROM t"
    assert fingerprint(f"SELECT {literal} FROM t", POSTGRESQL).text == "SELECT ? FROM t"
    escaped = "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    assert fingerprint(f"SELECT {escaped} FROM t", MYSQL).text == "SELECT ? FROM t"


def test_the_text_can_be_stored_anywhere() -> None:
    text = fingerprint("SELECT \0a FROM \ud800b WHERE c = '\0'", SQLITE).text
    assert text.encode().isascii()
    assert "\0" not in text


def test_a_statement_without_end_is_cut_and_says_so() -> None:
    long = "SELECT a FROM t WHERE " + " OR ".join(f"c{number} = 1" for number in range(MAX_TEXT))
    assert len(fingerprint(long, SQLITE).text) < 2 * MAX_TEXT
    assert fingerprint(long, SQLITE).text.endswith(" ...")


PIECES = (
    "SELECT",
    "IN (",
    "VALUES (",
    "ARRAY[",
    "(",
    ")",
    ",",
    "'",
    "''",
    "\\'",
    '"',
    "`",
    "$$",
    "$a$",
    "--",
    "/*",
    "*/",
    "/*+",
    "#",
    "\n",
    " ",
    "1",
    "1.5e",
    "0x",
    "-",
    "+",
    "::int",
    ".",
    "[",
    "]",
    "%s",
    "?",
    ":a",
    "__[POSTCOMPILE_",
    "NULL",
    "a",
    "한글",
    "),(",
    "1,1,",
    "('a'),",
    "\x00",
    "\x1f",
    "\ud800",
    "@>",
    "E'",
    "U&'",
    "_utf8'",
)


@pytest.mark.parametrize("syntax", ALL, ids=lambda syntax: syntax.name)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=40), times=st.integers(1, 300))
def test_broken_statements_of_any_depth_have_a_fingerprint(syntax: Syntax, pieces: list[str], times: int) -> None:
    statement = "".join(pieces) * times
    assert fingerprint(statement, syntax).text == fingerprint(statement, syntax).text


def test_statements_of_any_depth_cost_the_host_nothing_but_time() -> None:
    for opening in ("f(", "(", "NOT ", "(SELECT ", "CASE WHEN ", "-", "[", "FROM ("):
        print_ = fingerprint(f"SELECT {opening * 5000} 1", POSTGRESQL)
        assert len(tables_of(print_.tokens)) <= 1


def test_spacing_comments_and_the_case_of_keywords_make_no_difference() -> None:
    plain = "SELECT t.key FROM t JOIN u ON t.id = u.id WHERE a IN (1, 2) AND b = -5 ORDER BY c LIMIT 3"
    odd = (
        "select t.key /* it's */ from t\njoin u on t.id=u.id where a in ( 1 /* x */ , 2 )and b = - 5 order by c limit 3"
    )
    for syntax in ALL:
        assert fingerprint(plain, syntax).id == fingerprint(odd, syntax).id

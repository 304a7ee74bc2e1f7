"""Workloads from everywhere: the pilot's history, files, slow logs, and what servers counted."""

import io
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dbpilot.dialects import dialect_of
from dbpilot.dialects.catalog import Catalog, Column, Family, Table
from dbpilot.dialects.whatif import Query
from dbpilot.errors import ConfigError
from dbpilot.history.store import OTHER_ID, Pattern, Source
from dbpilot.history.tally import Tally
from dbpilot.indexes.slow_log import entries_of, of_slow_log
from dbpilot.indexes.sql_file import of_sql_file, statements_in
from dbpilot.indexes.workload import SAMPLES, SYNTAXES, Book, Workload, of_history, of_server
from dbpilot.indexes.workload_file import kind_of, of_file
from dbpilot.sql.fingerprint import fingerprint
from dbpilot.sql.predicates import DialectName
from dbpilot.sql.syntax import MYSQL, POSTGRESQL, SQLITE
from dbpilot.testing.servers import start_mariadb, start_postgresql


def _column(name: str, family: Family, type_: str, **facts: Any) -> Column:
    return Column(name, type_, family, nullable=True, **facts)


def _catalog(dialect: DialectName, schema: str | None = None) -> Catalog:
    columns = (
        _column("id", "integer", "INTEGER", bounds=tuple(range(0, 1100, 100))),
        _column("name", "text", "VARCHAR(100)", common=(("kim", 0.6), ("lee", 0.3))),
        _column("made", "date", "DATE"),
    )
    tables = {name: Table(name, columns, rows=100_000) for name in ("items", "orders")}
    return Catalog(dialect, (1,), schema, tables)


LITE = _catalog("sqlite")
MARIA = _catalog("mariadb", "shop")


def _texts(workload: Workload) -> list[tuple[str, float]]:
    return [(statement.text, statement.calls) for statement in workload.statements]


def _written(tmp_path: Path, text: str | bytes, name: str = "asked.sql") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_file_of_sql_is_counted_by_pattern(tmp_path: Path) -> None:
    lines = [f"SELECT * FROM items WHERE id = {number % 7}; -- {number}" for number in range(20)]
    path = _written(tmp_path, "\n".join([*lines, "BEGIN;", "SELECT name FROM items ORDER BY id;", "COMMIT"]))
    workload = of_file(path, LITE, "sqlite")
    assert _texts(workload) == [("SELECT * FROM items WHERE id = ?", 20), ("SELECT name FROM items ORDER BY id", 1)]
    first, second = workload.statements
    assert len({query.statement for query in first.samples}) == SAMPLES
    assert first.predicates is not None
    assert first.predicates.uses[0].equal == ("id",)
    assert (first.real_values, first.total_s, second.real_values) == (True, None, True)
    assert workload.left_out == 0
    assert workload.reasons == ("2 neither read nor changed rows",)
    assert "asked.sql" in workload.source


@pytest.mark.parametrize(
    ("dialect", "text", "expected"),
    [
        ("sqlite", "SELECT ';' ; SELECT 2", ["SELECT ';'", "SELECT 2"]),
        ("sqlite", 'SELECT "a;b", [c;d], `e;f` FROM t;', ['SELECT "a;b", [c;d], `e;f` FROM t']),
        ("sqlite", "-- one; two\nSELECT 1 /* ; */ + 1;\n/* the end; */", ["SELECT 1 /* ; */ + 1"]),
        ("mysql", r"SELECT 'it\'s; so', 'a''b'; # x; y", [r"SELECT 'it\'s; so', 'a''b'"]),
        ("mysql", r"SELECT 'it\'s'", [r"SELECT 'it\'s'"]),
        ("postgresql", "SELECT $a$ x; $$ y $a$; SELECT $1", ["SELECT $a$ x; $$ y $a$", "SELECT $1"]),
        ("postgresql", "SELECT E'\\';' , '\\';", ["SELECT E'\\';' , '\\'"]),
        ("postgresql", "/* a /* b; */ c; */ SELECT 1", ["SELECT 1"]),
        ("sqlite", ";;\n;SELECT 1;;", ["SELECT 1"]),
        (
            "sqlite",
            "INSERT INTO t VALUES (1, ';'), (2, ')');SELECT 3",
            ["INSERT INTO t VALUES (1, ';'), (2, ')')", "SELECT 3"],
        ),
        ("sqlite", "  \n -- nothing\n", []),
    ],
)
def test_semicolons_end_statements_where_they_do(dialect: DialectName, text: str, expected: list[str]) -> None:
    assert [written.text for written in statements_in(text, SYNTAXES[dialect], "x.sql")] == expected


def test_statements_know_their_lines() -> None:
    text = "\n-- a\nSELECT\n 1;\n\nSELECT 'a\nb';SELECT 3;\nSELECT 4"
    assert [written.line for written in statements_in(text, SQLITE, "x.sql")] == [3, 6, 7, 8]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no statement"),
        (b" \n-- only a comment\n", "holds no statement"),
        (b"SELECT 1;\nSELECT * FROM items WHERE name = 'kim", "line 2: .* a quote"),
        (b"SELECT 1;\n\n/* the rest", "line 3: .* a comment"),
        (b"SELECT 1;\nSELECT * FROM items WHERE id IN (1, 2;\nSELECT 3;", "line 2: .* bracket"),
        (b"SELECT 1;\nSELECT id FROM items WHERE", "line 2: the file ends within"),
        (b"SELECT 1;\nSELECT \x00\x01", "line 2: that is no text"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "that is no text"),
        ("SELECT 1;\nSELECT * FROM items WHERE name = '김'".encode("cp949"), "line 2: that is not UTF-8"),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        of_file(_written(tmp_path, content), LITE, "sqlite")


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    for path in (tmp_path / "none.sql", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            of_file(path, LITE, "sqlite")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_editors_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    path = _written(tmp_path, "SELECT * FROM items WHERE name = '김';\r\nSELECT * FROM items".encode(encoding))
    [by_name, _] = of_file(path, LITE, "sqlite").statements
    assert by_name.samples[0].statement.endswith("'김'")


def test_what_cannot_be_looked_at_is_counted(tmp_path: Path) -> None:
    strange = "SELECT FROM FROM items x x x;"
    text = f"SELECT * FROM elsewhere; {strange} {strange} VACUUM; DELETE FROM items;"
    workload = of_sql_file(_written(tmp_path, text), LITE, "sqlite")
    assert [statement.predicates is None for statement in workload.statements] == [True, False]
    assert workload.left_out == 1
    assert workload.reasons == (
        "2 not understood by the parser",
        "1 neither read nor changed rows",
        "1 of tables that are not in this database",
    )


def test_values_that_are_missing_are_made_up(tmp_path: Path) -> None:
    workload = of_sql_file(
        _written(tmp_path, "SELECT * FROM items WHERE name = ? AND id < :id LIMIT ?;"), LITE, "sqlite"
    )
    [statement] = workload.statements
    assert not statement.real_values
    assert [query.statement for query in statement.samples] == [
        "SELECT * FROM items WHERE name = 'kim' AND id < 300 LIMIT 20",
        "SELECT * FROM items WHERE name = 'lee' AND id < 800 LIMIT 20",
    ]


def test_a_range_that_is_made_up_holds_rows() -> None:
    book = Book(LITE, "sqlite")
    text = "SELECT * FROM items WHERE id BETWEEN ? AND ? AND made > ?"
    book.put("one", text, "SELECT", 3, 1.5)
    [statement] = book.workload("a test", None).statements
    assert statement.samples[0].statement == text.replace("BETWEEN ? AND ?", "BETWEEN 300 AND 400").replace(
        "?", "'2020-01-01'"
    )
    assert statement.mean_s == 0.5


def _pattern(text: str, *callsites: str) -> Pattern:
    print_ = fingerprint(text, SQLITE)
    sources = tuple(Source(callsite, "f", None, 3) for callsite in callsites)
    return Pattern(print_.id, print_.text, print_.operation, ("items",), sources)


def _tally(calls: int, total_s: float) -> Tally:
    return Tally(calls=calls, total_s=total_s)


def test_a_history_is_a_workload() -> None:
    often, seldom = (
        _pattern("SELECT * FROM items WHERE id = ?", "shop.py:4"),
        _pattern("DELETE FROM items WHERE name = ?"),
    )
    begin, other = _pattern("BEGIN"), Pattern(OTHER_ID, "all the others", "OTHER", ())
    patterns = {pattern.id: pattern for pattern in (often, seldom, begin, other)}
    tallies = {often.id: _tally(100, 2.0), seldom.id: _tally(1, 3.0), begin.id: _tally(9, 0), OTHER_ID: _tally(8, 1)}
    real = Query("SELECT * FROM items WHERE id = ?", (5,))
    workload = of_history(patterns, {**tallies, "gone": _tally(7, 1)}, {often.id: [real]}, LITE, "sqlite", 3600)
    first, second = workload.statements
    assert (first.id, first.calls, first.total_s, first.real_values) == (seldom.id, 1, 3.0, False)
    assert (second.samples, second.sources, second.real_values) == ((real,), ("shop.py:4",), True)
    assert first.samples[0].statement == "DELETE FROM items WHERE name = 'kim'"
    assert workload.covers_s == 3600
    assert workload.reasons == ("15 of patterns whose text is not kept", "9 neither read nor changed rows")


def test_no_value_is_shown(tmp_path: Path) -> None:
    path = _written(
        tmp_path, "SELECT * FROM items WHERE name = 'geheim'; SELECT * FROM items WHERE name = ? AND id = 4;"
    )
    shown = repr(of_sql_file(path, LITE, "sqlite"))
    assert "geheim" not in shown
    assert "kim" not in shown


MARIADB_LOG = """\
/usr/sbin/mariadbd, Version: 10.11.19-MariaDB-log (Debian). started with:
Tcp port: 3306  Unix socket: /run/mysqld/mysqld.sock
Time\t\t    Id Command\tArgument
# Time: 261126  0:12:33
# User@Host: app[app] @ localhost [127.0.0.1]
# Thread_id: 5  Schema: shop  QC_hit: No
# Query_time: 0.250000  Lock_time: 0.000090  Rows_sent: 1  Rows_examined: 10
# Rows_affected: 0  Bytes_sent: 62
# Full_scan: Yes  Full_join: No  Tmp_table: No
#
# explain: id\tselect_type\ttable\ttype
# explain: 1\tSIMPLE\titems\tALL
#
use shop;
SET timestamp=1700000000;
SELECT *
FROM items # of ours; not yours
WHERE name = 'kim; lee';
# User@Host: app[app] @ localhost [127.0.0.1]
# Thread_id: 5  Schema: other  QC_hit: No
# Query_time: 9.000000  Lock_time: 0.000090  Rows_sent: 1  Rows_examined: 10
SET timestamp=1700000010;
SELECT * FROM items WHERE id = 1;
# Time: 261126  0:13:33
# User@Host: app[app] @ localhost [127.0.0.1]
# Thread_id: 6  Schema: shop  QC_hit: No
# Query_time: 0.750000  Lock_time: 0.000090  Rows_sent: 1  Rows_examined: 10
SET timestamp=1700000060;
SELECT * FROM items WHERE name = 'park';
"""
MYSQL_LOG = """\
ull, 'and the rest of a statement') WHERE x = 1;
# Time: 2026-11-26T00:12:33.123456Z
# User@Host: app[app] @ localhost []  Id:     8
# Query_time: 0.500000  Lock_time: 0.000001 Rows_sent: 0  Rows_examined: 0
use shop;
SET timestamp=1700000000;
UPDATE items SET name = 'x' WHERE id = 7;
# Time: 2026-11-26T00:12:34.123456Z
# User@Host: app[app] @ localhost []  Id:     8
# Query_time: 0.100000  Lock_time: 0.000001 Rows_sent: 0  Rows_examined: 0
SET timestamp=1700000001;
# administrator command: Quit;
/usr/sbin/mysqld, Version: 8.4.0 (MySQL Community Server - GPL). started with:
Tcp port: 3306  Unix socket: (null)
Time                 Id Command    Argument
# Time: 2026-11-26T00:12:35.123456Z
# User@Host: app[app] @ localhost []  Id:     9
# Query_time: 0.500000  Lock_time: 0.000001 Rows_sent: 0  Rows_examined: 0
use `a``b`;
SET timestamp=1700000002;
SELECT * FROM items WHERE id = 7;
# Time: 2026-11-26T00:12:36.123456Z
# User@Host: app[app] @ localhost []  Id:     9
# Query_time: 0.500000  Lock_time: 0.000001 Rows_sent: 0  Rows_examined: 0
SET timestamp=1700000003;
SELECT * FROM items WHERE id = 8;
"""


def test_a_mariadb_slow_log_is_read(tmp_path: Path) -> None:
    path = _written(tmp_path, MARIADB_LOG, "slow.log")
    assert kind_of(path) == "slow log"
    workload = of_file(path, MARIA, "mariadb")
    [statement] = workload.statements
    assert (statement.text, statement.calls, statement.total_s) == ("SELECT * FROM items WHERE name = ?", 2, 1.0)
    assert [query.statement[-10:] for query in statement.samples] == ["'kim; lee'", "e = 'park'"]
    assert workload.covers_s == 60
    assert workload.reasons == ("1 sent to other databases",)
    assert statement.real_values


def test_a_mysql_slow_log_is_read_from_the_middle_on(tmp_path: Path) -> None:
    workload = of_file(_written(tmp_path, MYSQL_LOG, "slow.log"), MARIA, "mysql")
    [statement] = workload.statements
    assert statement.samples == (Query("UPDATE items SET name = 'x' WHERE id = 7"),)
    assert statement.total_s == 0.5
    assert workload.reasons == ("2 sent to other databases", "1 cut off at the beginning of the log")


def test_a_slow_log_that_is_none_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no entry"):
        of_slow_log(_written(tmp_path, "SELECT 1;"), MARIA, "mariadb")
    with pytest.raises(ConfigError, match="slow log of MariaDB or MySQL"):
        of_file(_written(tmp_path, MARIADB_LOG), LITE, "sqlite")


class _Endless(io.RawIOBase):
    """A log of hundreds of megabytes that is nowhere."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._left = self._left or next(self._parts, b"")
        given = self._left[: len(buffer)]
        self._left = self._left[len(given) :]
        buffer[: len(given)] = given
        return len(given)


def test_a_log_of_any_length_takes_little_memory() -> None:
    entry = MARIADB_LOG.split("Argument\n")[1].encode() * 200
    long_one = b"# User@Host: a[a] @ b []\n# Query_time: 1\nINSERT INTO items VALUES (1)" + b", (2)" * 10
    huge = chain([long_one], repeat(b", (3, 'x')" * 10_000, 500), [b";\n"])
    log = io.BufferedReader(_Endless(chain(repeat(entry, 100), huge, [entry])))
    book, count = Book(MARIA, "mariadb"), 0
    tracemalloc.start()
    for found in entries_of(log):
        count += 1
        if count % 100 == 0:
            book.add(found.statement, found.duration_s)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 101 * 600 + 1
    assert peak < 5 * 2**20


def test_the_log_of_a_real_mariadb_is_read(tmp_path: Path) -> None:
    options = {"slow_query_log": "ON", "long_query_time": "0", "log_slow_verbosity": "query_plan,explain"}
    with start_mariadb(options=options) as server:
        engine = sa.create_engine(server.create_database("shop"))
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE items (id INT PRIMARY KEY, name VARCHAR(100), made DATE)")
            for number in range(10):
                connection.exec_driver_sql("SELECT name\nFROM items WHERE id = %s", (number,))
            connection.exec_driver_sql("UPDATE items SET name = %s WHERE made < %s", ("a\n# Time: b; 김", "2020-01-01"))
        with engine.connect() as connection:
            catalog = dialect_of(engine).catalog(connection)
            place = connection.exec_driver_sql("SELECT concat(@@datadir, @@slow_query_log_file)").scalar_one()
            path = _written(tmp_path, Path(place).read_bytes(), "slow.log")
        engine.dispose()
    workload = of_file(path, catalog, "mariadb")
    by_text = {statement.text: statement for statement in workload.statements}
    selected = by_text["SELECT name FROM items WHERE id = ?"]
    assert selected.calls == 10
    assert selected.total_s is not None
    assert selected.total_s > 0
    assert {query.statement for query in selected.samples} <= {
        f"SELECT name\nFROM items WHERE id = {n}" for n in range(10)
    }
    updated = by_text["UPDATE items SET name = ? WHERE made < ?"]
    assert updated.samples[0].statement.endswith("'a\\n# Time: b; 김' WHERE made < '2020-01-01'")
    assert workload.left_out == 0


@pytest.fixture(params=["mariadb", "postgresql"], scope="module")
def counting_url(request: pytest.FixtureRequest) -> Iterator[sa.URL]:
    """A server that counts statements, of its own: the others are not configured for it."""
    if request.param == "mariadb":
        with start_mariadb(options={"performance_schema": "ON"}) as server:
            yield server.create_database("shop")
    else:
        with start_postgresql(options={"shared_preload_libraries": "pg_stat_statements"}) as server:
            yield server.create_database("shop")


def test_what_a_server_counted_can_be_asked_about(counting_url: sa.URL) -> None:
    engine = sa.create_engine(counting_url)
    dialect = dialect_of(engine)
    name: DialectName = "postgresql" if counting_url.get_backend_name() == "postgresql" else "mariadb"
    items = sa.Table(
        "items", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(100)),
        sa.Column("price", sa.Numeric(10, 2)), sa.Column("made", sa.DateTime),
    )  # fmt: skip
    with engine.begin() as connection:
        if name == "postgresql":
            connection.exec_driver_sql("CREATE EXTENSION pg_stat_statements")
        items.create(connection)
    queries = (
        sa.select(items.c.name).where(items.c.price > 3, items.c.made < sa.func.now()).limit(5),
        sa.select(sa.func.count()).where(items.c.id.in_([1, 2, 3])),
        sa.select(items).where(
            items.c.name.like("a%"), items.c.made.between(sa.text("'2024-01-01'"), sa.text("'2024-02-01'"))
        ),
        sa.update(items).where(items.c.name == "x").values(price=4),
    )
    with engine.begin() as connection:
        for query in queries:
            for _ in range(3):
                connection.execute(query)
    with engine.connect() as connection:
        catalog = dialect.catalog(connection)
        counted = dialect.server_statements(connection, 100)
        assert isinstance(counted, list)
        workload = of_server(counted, catalog, name)
        about_items = [one for one in workload.statements if one.predicates and one.predicates.uses]
        assert sum(one.calls for one in about_items) == 12
        for statement in about_items:
            assert statement.total_s is not None
            assert not statement.real_values
            for sample in statement.samples:
                dialect.explain(connection, sample.statement, sample.parameters)
    engine.dispose()


def test_executions_beyond_the_samples_have_the_same_chance() -> None:
    book = Book(MARIA, "mariadb")
    for number in range(1000):
        book.add(f"SELECT * FROM items WHERE id = {number}", 0.001)
    [statement] = book.workload("a test", None).statements
    numbers = [int(query.statement.rpartition(" ")[2]) for query in statement.samples]
    assert len(set(numbers)) == SAMPLES
    assert max(numbers) > 100, "not only the first ones"
    assert statement.calls == 1000


@pytest.mark.parametrize("syntax", [MYSQL, POSTGRESQL, SQLITE], ids=lambda syntax: syntax.name)
def test_real_sql_files_are_told_apart(syntax: Any) -> None:
    with closing(io.StringIO()) as file:
        for number in range(2000):
            file.write(f"INSERT INTO items VALUES ({number}, 'it''s {number};', NULL);\n\n")
        text = file.getvalue()
    found = list(statements_in(text, syntax, "x.sql"))
    assert len(found) == 2000
    assert [written.line for written in found[:3]] == [1, 3, 5]

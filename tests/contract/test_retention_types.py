"""What only one kind of database knows is archived in each way and comes back as it was."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dbpilot.errors import RefusedError
from dbpilot.retention import Rule
from tests.contract.test_retention import archived, retention, rule, run

POSTGRESQL = """
CREATE TYPE mood AS ENUM ('sad', 'ok; "quoted"');
CREATE DOMAIN cents AS numeric(12, 2) CHECK (VALUE >= 0);
CREATE TABLE news (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    mood mood, price cents, exact numeric, tags text[], matrix integer[], doc jsonb, text_doc json, token uuid,
    address inet, took interval, span int4range, mask bit(5), small real, code char(5), clock timetz, "Upper" text,
    twice bigint GENERATED ALWAYS AS (length("Upper") * 2) STORED
);
INSERT INTO news (at, mood, price, exact, tags, matrix, doc, text_doc, token, address, took, span, mask, small, code,
                  clock, "Upper")
SELECT timestamptz '2020-01-01 00:00:00.000001+09' + n * interval '1 hour', 'ok; "quoted"', 12.30,
    1.23456789012345678901,
    ARRAY['a', NULL, '한'], ARRAY[1, 2], '{"b": null, "a": [1, 2.50]}', '{"b" : 1,  "b" : 2}',
    '11111111-2222-3333-4444-555555555555', '10.0.0.1/8', interval '1 month 3 days 04:05:06.7', '[1,5)', B'10101',
    0.1, 'ab', '12:30+05:30', 'x'
FROM generate_series(1, 120) AS n;
INSERT INTO news (at, doc, small) VALUES ('2020-02-01', 'null', 'NaN');
"""

MARIADB = """
CREATE TABLE news (
    id bigint unsigned PRIMARY KEY,
    at timestamp(6) NOT NULL DEFAULT '2020-01-01 00:00:00.123456',
    mood enum('sad', 'ok'), tags set('a', 'b', 'c'), mask bit(12), took time(3), born year, small float, wide double,
    doc json, code char(5), raw varbinary(20), blobby mediumblob, old_text varchar(50) CHARACTER SET latin1,
    day date, price decimal(30, 10), tiny tinyint(1), `order` varchar(30) COLLATE utf8mb4_bin,
    twice bigint AS (born * 2) STORED
) ENGINE=InnoDB;
INSERT INTO news (id, mood, tags, mask, took, born, small, wide, doc, code, raw, blobby, old_text, day, price, tiny,
                  `order`)
SELECT 18446744073709551000 + seq, 'ok', 'c,a', b'101010101', '-130:05:06.789', 1999, 0.1234567891, 1e-300,
    '{"b" : 1,  "a": null}', 'ab', x'00ff27', REPEAT(x'00ff', 35000), 'é', '2020-02-29',
    12345678901234567890.0123456789, 5, '한국어 😀'
FROM seq_1_to_120;
INSERT INTO news (id) VALUES (1);
"""


@pytest.fixture
def postgresql(postgresql_url: sa.URL) -> Iterator[sa.Engine]:
    yield from _made(postgresql_url, POSTGRESQL)


@pytest.fixture
def mariadb(mariadb_url: sa.URL) -> Iterator[sa.Engine]:
    yield from _made(mariadb_url, MARIADB)


def _made(url: sa.URL, statements: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in filter(str.strip, statements.split(";\n")):
            connection.exec_driver_sql(statement.replace("%", "%%"))
    yield engine
    engine.dispose()


@pytest.fixture(params=["beside", "server", "files"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _there_and_back(engine: sa.Engine, hashed: str, made: Rule) -> None:
    """Every row goes and comes back, and the database itself sees no difference."""
    with engine.connect() as connection:
        before = connection.exec_driver_sql(hashed).all()
    assert len(before) == 121
    kept = retention(engine, made)
    assert run(kept).deleted == 121
    assert len(archived(kept, engine)) == 121
    assert kept.verify("old news").ok
    result = kept.restore("old news")
    assert (result.restored, result.conflicts) == (121, ())
    with engine.connect() as connection:
        assert connection.exec_driver_sql(hashed).all() == before


def test_postgresql_there_and_back(
    postgresql: sa.Engine, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    target = _target(request, kind, "postgresql", postgresql, tmp_path)
    _there_and_back(postgresql, "SELECT CAST(news AS text) FROM news ORDER BY id", rule(target))


def test_mariadb_there_and_back(mariadb: sa.Engine, kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = _target(request, kind, "mariadb", mariadb, tmp_path)
    columns = "id, at, mood, tags, mask + 0, took, born, cast(small AS double), wide, doc, code, hex(raw), md5(blobby),"
    hashed = f"SELECT {columns} hex(old_text), day, price, tiny, hex(`order`), twice FROM news ORDER BY id"
    _there_and_back(mariadb, hashed, rule(target))


def _target(request: pytest.FixtureRequest, kind: str, name: str, engine: sa.Engine, folder: Path) -> str:
    if kind != "server":
        return "beside" if kind == "beside" else str(folder / "archive")
    server, database = request.getfixturevalue(f"{name}_server"), f"{engine.url.database}_archive"
    request.addfinalizer(lambda: server.drop_database(database))
    return str(server.create_database(database).render_as_string(hide_password=False))


@pytest.mark.parametrize("other", ["postgresql_url", "sqlite_url"])
def test_a_database_of_another_kind_keeps_what_it_can(
    mariadb_url: sa.URL, other: str, request: pytest.FixtureRequest
) -> None:
    engine = sa.create_engine(mariadb_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE news (id bigint unsigned PRIMARY KEY, at datetime(6), name varchar(20), flag bool,"
            " price decimal(12, 4), body mediumtext, raw blob, doc json, ratio float)"
        )
        connection.exec_driver_sql(
            "INSERT INTO news SELECT seq, '2020-01-01 00:00:00.000001', 'b', 1, 1.25, '한', x'00ff', '{}', 0.1"
            " FROM seq_1_to_150"
        )
    target = request.getfixturevalue(other).render_as_string(hide_password=False)
    kept = retention(engine, rule(target, keep=timedelta(days=30)))
    assert run(kept).deleted == 150
    assert kept.verify("old news").ok
    assert kept.restore("old news").restored == 150
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT DISTINCT name, flag, price, body, hex(raw), doc, ratio FROM news")
        assert [tuple(map(str, row)) for row in found] == [("b", "1", "1.2500", "한", "00FF", "{}", "0.1")]
    engine.dispose()


def test_what_another_kind_of_database_cannot_keep_is_refused(postgresql: sa.Engine, sqlite_url: sa.URL) -> None:
    with pytest.raises(RefusedError, match=r"news\.tags .* which sqlite cannot keep"):
        retention(postgresql, rule(str(sqlite_url))).plan()

"""An archive of Parquet files: what any database gave comes out of it again; a batch is there whole or not at all."""

import datetime as dt
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql

from dbpilot.errors import ConfigError, RefusedError, RetentionError
from dbpilot.retention.digest import Digest, digest_of
from dbpilot.retention.parquet import ParquetTarget
from dbpilot.retention.targets import BatchKey
from tests.contract.interrupted import NEWS, batch_of, news, story

Rows = list[dict[str, Any]]
AT = dt.datetime.fromisoformat("2024-03-10T02:30:00.123456")
TEXTS = ["", "plain", "a, b; \"c\" 'd' \\ \n", "삼성전자 😀", "trailing  ", "\x1fs1:b"]

ordinary = sa.Table(
    "ordinary",
    sa.MetaData(),
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("small", sa.SmallInteger),
    sa.Column("title", sa.String(200)),
    sa.Column("body", sa.Text),
    sa.Column("price", sa.Numeric(12, 4)),
    sa.Column("ratio", sa.Double),
    sa.Column("is_read", sa.Boolean),
    sa.Column("day", sa.Date),
    sa.Column("at", sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")),
    sa.Column("noon", sa.Time().with_variant(mysql.TIME(fsp=6), "mysql", "mariadb")),
    sa.Column("raw", sa.LargeBinary),
    sa.Column("kind", sa.Enum("news", "price", name="kind")),
    sa.Column("ref", sa.Uuid),
)
"""Column types that every database has."""


def ordinary_rows() -> Rows:
    full = [
        {
            "id": 2**62 + number,
            "small": -number,
            "title": text,
            "body": text * 100,
            "price": Decimal("-71000.5") + number / Decimal(10_000),
            "ratio": 0.1 + 0.2 * number - 1e-9,
            "is_read": number % 2 == 0,
            "day": dt.date(1, 1, 1) + dt.timedelta(days=400_000 * number),
            "at": AT + dt.timedelta(days=number, microseconds=number),
            "noon": dt.time(23, 59, 59, number),
            "raw": bytes(range(256)) + b"\x00" * number,
            "kind": "news",
            "ref": UUID(int=number),
        }
        for number, text in enumerate(TEXTS)
    ]
    return [*full, {**dict.fromkeys(ordinary.columns.keys()), "id": -1}]


def names(table: sa.Table) -> list[str]:
    return [column.name for column in table.columns]


def stored(url: sa.URL, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> Rows:
    """The rows as this database gives them; JSON as text."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(table.insert(), rows)
    found = read(engine, table)
    engine.dispose()
    return found


def read(engine: sa.Engine, table: sa.Table) -> Rows:
    wanted = [sa.cast(c, sa.Text).label(c.name) if isinstance(c.type, sa.JSON) else c for c in table.columns]
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(sa.select(*wanted).order_by(table.c.id)).mappings()]


def reflected(url: sa.URL, name: str) -> sa.Table:
    """The table as the database describes it, which is all that a rule knows of it."""
    engine = sa.create_engine(url)
    table = sa.Table(name, sa.MetaData(), autoload_with=engine)
    engine.dispose()
    for column in table.columns:
        if isinstance(column.type, sa.Float):
            column.type.asdecimal = False  # MariaDB's DOUBLE would be given with ten decimals only
    return table


def all_rows(target: ParquetTarget, table: sa.Table, rule: str = "news") -> Rows:
    return [dict(row) for chunk in target.rows(rule, table, None, None, None) for row in chunk]


def by_id(rows: Rows) -> Rows:
    return sorted(rows, key=lambda row: row["id"])


def batch_for(rows: Rows, number: int = 1) -> BatchKey:
    return BatchKey("news", number, (rows[0]["id"],), (rows[-1]["id"],), "2024-03")


def round_trip(tmp_path: Path, table: sa.Table, rows: Rows) -> Rows:
    """The rows after they were archived; the digests agree."""
    target = ParquetTarget(tmp_path / "archive")
    target.prepare(table)
    target.write(batch_for(rows), table, rows)
    assert target.read_back(batch_for(rows), table) == digest_of(rows, names(table))
    found = by_id(all_rows(target, table))
    assert digest_of(found, names(table)) == digest_of(rows, names(table))
    return found


@pytest.fixture
def target(tmp_path: Path) -> ParquetTarget:
    return ParquetTarget(tmp_path / "archive")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the target's files are."""
    return tmp_path / "archive"


# What comes out is what went in.


def test_what_a_database_gave_comes_out_of_a_file_again(database_url: sa.URL, tmp_path: Path) -> None:
    rows = by_id(stored(database_url, ordinary, ordinary_rows()))
    assert round_trip(tmp_path, ordinary, rows) == rows


def test_so_it_does_for_a_table_that_is_known_from_the_database_alone(database_url: sa.URL, tmp_path: Path) -> None:
    stored(database_url, ordinary, ordinary_rows())
    table, engine = reflected(database_url, "ordinary"), sa.create_engine(database_url)
    rows = read(engine, table)
    engine.dispose()
    assert round_trip(tmp_path, table, rows) == rows


def test_all_databases_and_files_give_one_digest(
    sqlite_url: sa.URL, mariadb_url: sa.URL, postgresql_url: sa.URL, target: ParquetTarget
) -> None:
    made = ordinary_rows()
    found = [stored(url, ordinary, made) for url in (sqlite_url, mariadb_url, postgresql_url)]
    target.write(batch_for(made), ordinary, made)
    digests = {digest_of(rows, names(ordinary)) for rows in [made, *found, all_rows(target, ordinary)]}
    assert len(digests) == 1


def test_instants_with_a_zone_are_the_same_everywhere(
    sqlite_url: sa.URL, mariadb_url: sa.URL, postgresql_url: sa.URL, target: ParquetTarget
) -> None:
    """SQLite and MariaDB give them without one."""
    kind = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("at", kind))
    made: Rows = [
        {"id": number, "at": (AT + dt.timedelta(hours=number)).replace(tzinfo=dt.UTC)} for number in range(1, 9)
    ]
    target.write(batch_for(made), table, made)
    found = [stored(url, table, made) for url in (sqlite_url, mariadb_url, postgresql_url)]
    digests = {digest_of(rows, ["id", "at"]) for rows in [made, *found, all_rows(target, table)]}
    assert len(digests) == 1
    assert all_rows(target, table) == made


MARIADB = {
    "big": (mysql.BIGINT(unsigned=True), [2**64 - 1, 0, None]),
    "tiny": (mysql.TINYINT(1), [1, 0, None]),
    "exact": (mysql.DECIMAL(65, 30), [Decimal("9" * 35 + "." + "9" * 30), Decimal("0"), None]),
    "year": (mysql.YEAR(), [2155, 1901, None]),
    "bits": (mysql.BIT(64), [2**64 - 1, 0, None]),
    "some": (mysql.SET("a", "b", "c"), [{"a", "c"}, {"b"}, None]),
    "one": (mysql.ENUM("x", "y"), ["x", "y", None]),
    "doc": (mysql.JSON(), [{"b": [1, None, True], "a": "삼성 😀"}, [], None]),
    "stamp": (mysql.TIMESTAMP(fsp=6), [AT, AT + dt.timedelta(days=1), None]),
    "packed": (mysql.VARBINARY(20), [b"\x00\xff", b"", None]),
    "blob": (mysql.LONGBLOB(), [b"\x00" * 100, b"", None]),
    "words": (mysql.LONGTEXT(), ["nul \x00 in it", "😀", None]),
    "float": (mysql.DOUBLE(asdecimal=False), [1e308, 5e-324, None]),
}
POSTGRESQL = {
    "free": (sa.Numeric(), [Decimal("1." + "1" * 60), Decimal("NaN"), None]),
    "exact": (sa.Numeric(38, 10), [Decimal("9" * 28 + ".0123456789"), Decimal("0E-10"), None]),
    "at": (sa.DateTime(timezone=True), [AT.replace(tzinfo=dt.timezone(dt.timedelta(hours=9))), AT.astimezone(), None]),
    "clock": (sa.Time(timezone=True), [dt.time(2, 30, tzinfo=dt.timezone(dt.timedelta(hours=9))), None, None]),
    "tags": (postgresql.ARRAY(sa.Text), [["a", None, "ü"], [], None]),
    "sums": (postgresql.ARRAY(sa.Numeric(10, 2)), [[Decimal("1.50"), None], [], None]),
    "doc": (postgresql.JSONB(), [{"b": [1, None, True], "a": "삼성 😀"}, [], None]),
    "old": (postgresql.JSON(), [{"b": 1.50}, "text", None]),
    "ref": (postgresql.UUID(), [UUID(int=1), UUID(int=2**128 - 1), None]),
    "span": (postgresql.INTERVAL(), [dt.timedelta(days=-3, microseconds=1), dt.timedelta(0), None]),
    "host": (postgresql.INET(), ["10.0.0.1", "2001:db8::/32", None]),
    "bytes": (postgresql.BYTEA(), [b"\x00\xff", b"", None]),
    "mood": (postgresql.DOMAIN("mood", sa.Integer), [1, 2, None]),
    "real": (sa.Double(), [float("inf"), float("nan"), None]),
    "money": (postgresql.MONEY(), ["$1.50", "$0.00", None]),
    "bits": (postgresql.BIT(3), ["101", "000", None]),
}


def table_of(columns: Mapping[str, tuple[Any, list[Any]]]) -> tuple[sa.Table, Rows]:
    listed = [sa.Column(name, kind, nullable=True) for name, (kind, _) in columns.items()]
    identity = sa.Column("id", sa.Integer, primary_key=True, autoincrement=False)
    table = sa.Table("special", sa.MetaData(), identity, *listed)
    rows = [{"id": n, **{name: values[n] for name, (_, values) in columns.items()}} for n in range(3)]
    # SQLAlchemy would take None for JSON's null.
    null = [
        {name: sa.null() if isinstance(table.c[name].type, sa.JSON) and v is None else v for name, v in r.items()}
        for r in rows
    ]
    return table, null


def test_mariadbs_own_types_come_out_again(mariadb_url: sa.URL, tmp_path: Path) -> None:
    table, made = table_of(MARIADB)
    rows = stored(mariadb_url, table, made)
    assert rows[0]["big"] == rows[0]["bits"] == 2**64 - 1
    assert round_trip(tmp_path, table, rows) == rows


def test_postgresqls_own_types_come_out_again(postgresql_url: sa.URL, tmp_path: Path) -> None:
    table, made = table_of(POSTGRESQL)
    rows = stored(postgresql_url, table, made)
    found = round_trip(tmp_path, table, rows)
    # NaN is like nothing, and an address is kept as text.
    left_out = {"free", "real", "host"}
    assert [{k: v for k, v in row.items() if k not in left_out} for row in found] == [
        {k: v for k, v in row.items() if k not in left_out} for row in rows
    ]
    assert [row["host"] for row in found] == [None if row["host"] is None else str(row["host"]) for row in rows]


def test_mariadb_shows_six_digits_of_a_float(mariadb_url: sa.URL) -> None:
    """Why a FLOAT cannot be compared: a client does not read what is stored."""
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("f", mysql.FLOAT()))
    [row] = stored(mariadb_url, table, [{"id": 1, "f": 1.2345678}])
    engine = sa.create_engine(mariadb_url)
    with engine.connect() as connection:
        exact = connection.scalar(sa.select(sa.cast(table.c.f, sa.Double)))
    engine.dispose()
    assert row["f"] == 1.23457
    assert exact == pytest.approx(1.2345678, rel=1e-7)


def test_a_value_that_does_not_fit_its_column_is_refused_and_not_repeated(target: ParquetTarget) -> None:
    """SQLite keeps any value in any column; a decimal128 has no NaN; pyarrow alone would cut 1.5 down to 1."""
    bad = {
        "small": 1.5,
        "price": Decimal("NaN"),
        "at": "0000-00-00 secret",
        "title": b"secret",
        "day": 5,
        "raw": "secret",
    }
    for name, value in bad.items():
        row = {**ordinary_rows()[0], name: value}
        with pytest.raises(RefusedError, match=rf"column ordinary\.{name} holds a value") as refused:
            target.write(batch_for([row]), ordinary, [row])
        assert "secret" not in str(refused.value)
        assert target.read_back(batch_for([row]), ordinary) is None


def test_a_column_that_parquet_has_no_form_for_is_refused_before_anything_is_written(target: ParquetTarget) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("spans", postgresql.INT4RANGE()))
    for call in (target.differences, target.prepare):
        with pytest.raises(RefusedError, match=r"column t\.spans is INT4RANGE"):
            call(table)


# What others read.


def test_pandas_and_pyarrow_read_the_folder(target: ParquetTarget, folder: Path) -> None:
    for number in (1, 2):
        target.write(batch_of(number), NEWS, news(number))
    target.prepare(NEWS)
    frame = pd.read_parquet(folder / "rule=news")
    assert len(frame) == 200
    assert frame.dtypes["at"] == "datetime64[us]"
    assert sorted(frame["id"]) == [story["id"] for number in (1, 2) for story in news(number)]
    dataset = ds.dataset(folder, format="parquet", partitioning="hive", exclude_invalid_files=False)
    assert dataset.to_table(filter=ds.field("month") == "2024-02").num_rows == 100
    assert dataset.schema.field("price").type == pa.decimal128(12, 4)


def test_the_names_are_made_of_rule_and_batch(target: ParquetTarget, folder: Path) -> None:
    odd = [
        BatchKey("old news", 7, (1, "a/b"), (2, "c"), "2024-03"),
        BatchKey("..", 7, ("x" * 500,), (b"\x00",), "2024-03"),
        BatchKey("..", 7, ("x" * 499,), (b"\x01",), "2024-03"),
        BatchKey("삼성", 10**11, (dt.date(2024, 1, 1),), (dt.date(2024, 1, 2),), "2024-03"),
    ]
    for batch in odd:
        target.write(batch, NEWS, news(1))
        assert target.read_back(batch, NEWS) == digest_of(news(1), names(NEWS))
    files = [path for path in folder.rglob("*.parquet") if path.is_file()]
    assert len(files) == len(odd)
    assert all(len(path.relative_to(folder).parts) == 3 for path in files)
    assert folder / "rule=old%20news" / "month=2024-03" in [path.parent for path in files]


# Whole or not at all.


def test_a_batch_written_twice_is_there_once_with_the_later_rows(target: ParquetTarget, folder: Path) -> None:
    target.write(batch_of(1), NEWS, news(1))
    [path] = folder.rglob("*.parquet")
    first = path.read_bytes()
    target.write(batch_of(1), NEWS, news(1))
    assert path.read_bytes() == first
    target.write(batch_of(1), NEWS, news(1)[:50])
    assert list(folder.rglob("*.parquet")) == [path]
    assert target.read_back(batch_of(1), NEWS) == digest_of(news(1)[:50], names(NEWS))


def test_what_is_not_there_is_not_read_back(target: ParquetTarget) -> None:
    assert target.read_back(batch_of(1), NEWS) is None
    assert all_rows(target, NEWS) == []
    assert target.remove("news", NEWS, [(1,)]) == 0
    target.forget(batch_of(1), NEWS)


def test_no_part_of_a_file_is_taken_for_a_batch(target: ParquetTarget, folder: Path) -> None:
    target.write(batch_of(1), NEWS, news(1))
    [path] = folder.rglob("*.parquet")
    whole = path.read_bytes()
    for length in {0, 1, 4, 8, *range(12, len(whole), 97), len(whole) - 1}:
        path.write_bytes(whole[:length])
        assert target.read_back(batch_of(1), NEWS) is None, length
        with pytest.raises(RetentionError, match="damaged"):
            all_rows(target, NEWS)


def test_no_flipped_bit_goes_unnoticed(target: ParquetTarget, folder: Path) -> None:
    expected = digest_of(news(1), names(NEWS))
    target.write(batch_of(1), NEWS, news(1))
    [path] = folder.rglob("*.parquet")
    whole = path.read_bytes()
    data_end = max(
        pq.ParquetFile(path).metadata.row_group(0).column(number).data_page_offset for number in range(len(names(NEWS)))
    )
    for position in range(0, data_end, 37):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        found = target.read_back(batch_of(1), NEWS)
        if found is not None:  # a bit of the header that nobody reads
            assert found == expected


def test_a_forgotten_batch_leaves_nothing_behind(target: ParquetTarget, folder: Path) -> None:
    target.write(batch_of(1), NEWS, news(1))
    [path] = folder.rglob("*.parquet")
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(b"half of it")
    target.forget(batch_of(1), NEWS)
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_a_killed_writer_leaves_each_batch_whole_or_not_at_all(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.contract.interrupted", str(tmp_path), "40"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folders = sorted(tmp_path.iterdir())
    assert len(folders) == 40
    whole = {number: digest_of(news(number), names(NEWS)) for number in (1, 2, 3)}
    kept = digest_of(news(1)[10:], names(NEWS))
    seen = set()
    for folder in folders:
        target = ParquetTarget(folder)
        found = {number: target.read_back(batch_of(number), NEWS) for number in (1, 2, 3)}
        assert found[1] in (whole[1], kept)
        assert found[2] in (None, whole[2])
        assert found[3] in (whole[3], None)
        total = sum((each for each in found.values() if each), Digest(0, 0))
        assert digest_of(all_rows(target, NEWS), names(NEWS)) == total
        seen.add((found[1] == kept, found[2] is None, found[3] is None))
        story(target)
        assert [target.read_back(batch_of(number), NEWS) for number in (1, 2, 3)] == [kept, whole[2], None]
        assert not list(folder.rglob("*.part"))
    # The kills hit while the second batch was written, and before the rows left.
    assert {(False, True, False), (False, False, True)} <= seen


# The disk is full.


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_cannot_grow_is_told_and_leaves_the_batch_as_it_was(target: ParquetTarget, folder: Path) -> None:
    target.write(batch_of(1), NEWS, news(1))
    for number, expected in ((1, digest_of(news(1), names(NEWS))), (2, None)):
        with largest_file(500), pytest.raises(RetentionError, match=r"File too large; nothing is deleted"):
            target.write(batch_of(number), NEWS, news(number))
        assert target.read_back(batch_of(number), NEWS) == expected
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    path = tmp_path / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip("only root can mount a small disk")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk_is_told_and_loses_no_batch(small_disk: Path) -> None:
    target, written = ParquetTarget(small_disk), 0

    def fill() -> None:
        nonlocal written
        while True:
            target.write(batch_of(written + 1), NEWS, news(written + 1))
            written += 1

    with pytest.raises(RetentionError, match=r"No space left on device; nothing is deleted"):
        fill()
    assert written > 0
    found = [target.read_back(batch_of(number), NEWS) for number in range(1, written + 2)]
    assert found == [*(digest_of(news(number), names(NEWS)) for number in range(1, written + 1)), None]
    assert not list(small_disk.rglob("*.part"))


def test_an_unwritable_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RetentionError, match=r"file/archive failed: (File exists|Not a directory)"):
        ParquetTarget(tmp_path / "file" / "archive").write(batch_of(1), NEWS, news(1))


# Rows of a time, and rows that leave.


def test_rows_are_picked_by_time_and_their_end_is_excluded(target: ParquetTarget) -> None:
    for number in (1, 2, 3):
        target.write(batch_of(number), NEWS, news(number))
    every = [story for number in (1, 2, 3) for story in news(number)]
    since, until = every[50]["at"].replace(tzinfo=dt.UTC), every[150]["at"].replace(tzinfo=dt.UTC)
    for first, last, expected in [
        (since, until, every[50:150]),
        (since, None, every[50:]),
        (None, until, every[:150]),
        (None, None, every),
        (until, since, []),
    ]:
        found = [row for chunk in target.rows("news", NEWS, first, last, "at") for row in chunk]
        assert found == expected


def test_files_of_another_time_are_not_read(target: ParquetTarget, folder: Path) -> None:
    for number in (1, 2, 3):
        target.write(batch_of(number), NEWS, news(number))
    other = folder / "rule=news" / "month=2024-01" / "0000000001-101-200.parquet"
    data = bytearray(other.read_bytes())
    data[8:60] = b"\xff" * 52  # its footer stays
    other.write_bytes(data)
    since = news(2)[0]["at"].replace(tzinfo=dt.UTC)
    assert sum(len(chunk) for chunk in target.rows("news", NEWS, since, None, "at")) == 200
    with pytest.raises(RetentionError, match="damaged"):
        all_rows(target, NEWS)


def test_rows_come_in_chunks(target: ParquetTarget) -> None:
    rows = [{**news(1)[0], "id": number} for number in range(12_000)]
    target.write(batch_for(rows), NEWS, rows)
    sizes = [len(chunk) for chunk in target.rows("news", NEWS, None, None, None)]
    assert sizes == [5_000, 5_000, 2_000]


def test_a_time_without_a_column_is_refused(target: ParquetTarget) -> None:
    with pytest.raises(RefusedError, match="only where the rule has a time column"):
        next(target.rows("news", NEWS, AT.replace(tzinfo=dt.UTC), None, None))


def test_removed_rows_are_gone_and_the_others_stay_as_they_were(target: ParquetTarget, folder: Path) -> None:
    for number in (1, 2, 3):
        target.write(batch_of(number), NEWS, news(number))
    untouched = folder / "rule=news" / "month=2024-03" / "0000000003-301-400.parquet"
    before = untouched.stat().st_mtime_ns
    gone = [(row["id"],) for row in [*news(1)[::2], *news(2)]]
    assert target.remove("news", NEWS, [*gone, (10**9,)]) == 150
    assert target.remove("news", NEWS, gone) == 0
    assert all_rows(target, NEWS) == [*news(1)[1::2], *news(3)]
    assert target.read_back(batch_of(2), NEWS) is None
    assert untouched.stat().st_mtime_ns == before


def test_a_key_of_several_columns_is_compared_by_worth(target: ParquetTarget) -> None:
    table = sa.Table(
        "t",
        sa.MetaData(),
        sa.Column("id", sa.Numeric(10, 2), primary_key=True),
        sa.Column("at", sa.DateTime(), primary_key=True),
    )
    rows: Rows = [{"id": Decimal(number) / 2, "at": AT} for number in range(4)]
    target.write(batch_for(rows), table, rows)
    assert (
        target.remove("news", table, [(0.5, AT.replace(tzinfo=dt.UTC)), (Decimal("1.0"), AT.replace(year=1999))]) == 1
    )
    assert all_rows(target, table) == [rows[0], *rows[2:]]


def test_a_key_that_was_used_again_for_another_row_stays(target: ParquetTarget) -> None:
    row = news(1)[0]
    again, changed = {**row}, {**row, "title": "another story"}
    for number, rows in ((1, [row]), (2, [again]), (3, news(2))):
        target.write(batch_for(rows, number), NEWS, rows)
    assert target.remove("news", NEWS, [(row["id"],)]) == 2  # the same row twice
    for number, rows in ((1, [row]), (2, [changed])):
        target.write(batch_for(rows, number), NEWS, rows)
    assert target.remove("news", NEWS, [(row["id"],), (news(2)[0]["id"],)]) == 1
    assert all_rows(target, NEWS) == [row, changed, *news(2)[1:]]


# Tables change.


def changed(*drop: str, **kinds: Any) -> sa.Table:
    columns = [sa.Column(c.name, kinds.get(c.name, c.type), primary_key=c.primary_key) for c in NEWS.columns]
    more = [sa.Column(name, kind) for name, kind in kinds.items() if name not in NEWS.c]
    return sa.Table("news", sa.MetaData(), *(c for c in columns if c.name not in drop), *more)


def test_what_changed_since_the_last_time_is_told(target: ParquetTarget) -> None:
    assert target.differences(NEWS) == [f"{target.name}: files of news are new here"]
    target.prepare(NEWS)
    target.prepare(NEWS)
    assert target.differences(NEWS) == []
    later = changed("title", price=sa.String(20), source=sa.Text())
    assert target.differences(later) == [
        "source: is new, and missing in older files",
        "title: is gone from the table; older files keep it",
        "price: is string from now on, and decimal128(12, 4) in older files; readers of both must cast",
    ]
    target.prepare(later)
    assert target.differences(later) == []


def test_older_files_give_what_they_have_of_a_changed_table(target: ParquetTarget) -> None:
    target.write(batch_of(1), NEWS, news(1))
    later = changed("title", source=sa.Text(), price=sa.String(20))
    expected = [{name: row[name] for name in ("id", "price", "at")} for row in news(1)]
    assert all_rows(target, later) == expected
    assert target.read_back(batch_of(1), later) is None


def test_columns_that_the_table_lost_are_not_lost_with_a_row_that_leaves(target: ParquetTarget) -> None:
    target.write(batch_of(1), NEWS, news(1))
    with pytest.raises(RefusedError, match=r"columns that the table has no more \(title\)"):
        target.remove("news", changed("title"), [(101,)])
    assert all_rows(target, NEWS) == news(1)


def test_a_new_column_stays_out_of_a_file_that_is_rewritten(target: ParquetTarget) -> None:
    target.write(batch_of(1), NEWS, news(1))
    assert target.remove("news", changed(source=sa.Text()), [(101,)]) == 1
    assert all_rows(target, NEWS) == news(1)[1:]


# Places.


def test_an_fsspec_url_is_a_place_like_any_other(request: pytest.FixtureRequest) -> None:
    target = ParquetTarget(f"memory://{request.node.name}/archive")
    target.prepare(NEWS)
    for number in (1, 2):
        target.write(batch_of(number), NEWS, news(number))
    assert target.differences(NEWS) == []
    assert target.read_back(batch_of(1), NEWS) == digest_of(news(1), names(NEWS))
    assert target.remove("news", NEWS, [(101,), *((row["id"],) for row in news(2))]) == 101
    assert target.read_back(batch_of(2), NEWS) is None
    assert all_rows(target, NEWS) == news(1)[1:]
    target.forget(batch_of(1), NEWS)
    target.forget(batch_of(1), NEWS)
    assert all_rows(target, NEWS) == []
    left = fsspec.filesystem("memory").find(f"/{request.node.name}")
    assert [path.rpartition("/")[2] for path in left] == ["news.json"]


def test_a_part_of_a_file_in_a_store_is_not_taken_for_a_batch(request: pytest.FixtureRequest) -> None:
    target = ParquetTarget(f"memory://{request.node.name}")
    target.write(batch_of(1), NEWS, news(1))
    memory = fsspec.filesystem("memory")
    [path] = memory.find(f"/{request.node.name}")
    memory.pipe_file(path, memory.cat_file(path)[:-10])
    assert target.read_back(batch_of(1), NEWS) is None


def test_a_file_url_is_a_local_folder(tmp_path: Path) -> None:
    place = tmp_path / "with space"
    ParquetTarget(place.as_uri()).write(batch_of(1), NEWS, news(1))
    assert all_rows(ParquetTarget(str(place)), NEWS) == news(1)


def test_a_password_is_not_shown() -> None:
    target = ParquetTarget("s3://key:hunter2@bucket/archive?secret_key=hunter2")
    assert target.name == "s3://bucket/archive"
    assert "hunter2" not in repr(target)


@pytest.mark.parametrize("url", ["", "s3://"])
def test_no_place_is_an_error(url: str) -> None:
    with pytest.raises(ConfigError, match="needs a folder"):
        ParquetTarget(url)


def test_an_unknown_scheme_is_told() -> None:
    with pytest.raises(ConfigError, match="neither pyarrow nor fsspec knows this kind"):
        ParquetTarget("nowhere://bucket/archive").read_back(batch_of(1), NEWS)


@pytest.mark.parametrize("missing", ["pyarrow", "fsspec"])
def test_what_is_not_installed_is_named(missing: str) -> None:
    code = f"""
import sys
sys.modules[{missing!r}] = None
import sqlalchemy as sa
from dbpilot import ConfigError
from dbpilot.retention.parquet import ParquetTarget
try:
    ParquetTarget("memory://archive").differences(sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer)))
except ConfigError as error:
    print(type(error).__name__, error)
"""
    env = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("ConfigError")
    assert "pip install 'dbpilot[parquet]'" in done.stdout


def test_the_columns_of_a_table_are_written_down(target: ParquetTarget, folder: Path) -> None:
    target.prepare(NEWS)
    expected = {"id": "int64", "title": "string", "price": "decimal128(12, 4)", "at": "timestamp[us]"}
    assert json.loads((folder / "_tables" / "news.json").read_text()) == expected

"""What a retention decides, without any database."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from dbpilot.errors import ConfigError, RefusedError
from dbpilot.retention import Limits, Rule, Signs
from dbpilot.retention.conditions import beyond, differs, matches, within
from dbpilot.retention.gentle import next_size, pause_reason
from dbpilot.retention.keys import from_json, to_json

DAY = timedelta(days=1)
GOOD: Mapping[str, Any] = {"name": "old", "table": "news", "time_column": "at", "keep": DAY}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": ""}, "its name must have"),
        ({"name": "a/b"}, "must not contain"),
        ({"table": ""}, "names no table"),
        ({"keep": -DAY}, "keep is negative"),
        ({"keep": timedelta(0)}, "would take every row up to now"),
        ({"time_column": None}, "name the time_column"),
        ({"time_column": None, "duplicates": ("hash",)}, "keep means nothing without a time_column"),
        ({"duplicates": ("hash", "hash")}, "names a column twice"),
        ({"keep_which": "newest"}, "keep_which"),
        ({"batch": 0}, "batch must be between 1 and 10,000"),
        ({"batch": 10_001}, "batch must be between 1 and 10,000"),
        ({"batch_s": 0}, "batch_s"),
        ({"target": None}, "deleted for ever; say purge=True"),
        ({"purge": True}, "a target and purge=True"),
        ({"target": ""}, "target is empty"),
        ({"archive_table": "news"}, "the live table itself"),
        ({"after": ("old",)}, "cannot run after itself"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_the_reason(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=rf"retention rule .*{said}"):
        Rule(**{**GOOD, **options})


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("beside", "beside"),
        ("mysql+pymysql://u:secret@h/d", "server"),
        ("postgresql://u:secret@h/d", "server"),
        ("sqlite:///archive.sqlite3", "server"),
        (SecretStr("postgresql://u:secret@h/d"), "server"),
        ("/var/archive", "files"),
        ("archive", "files"),
        ("s3://key:secret@bucket/archive", "files"),
    ],
)
def test_a_target_is_told_by_how_it_is_written_and_hides_its_password(target: str, kind: str) -> None:
    rule = Rule(**GOOD, target=target)
    assert rule.kind == kind
    assert "secret" not in repr(rule)


def test_a_rule_to_purge_says_so() -> None:
    assert Rule(**GOOD, target=None, purge=True).kind == "purge"


def test_archives_of_duplicates_are_apart_from_archives_of_old_rows() -> None:
    assert Rule(**GOOD).archive == "news_archive"
    assert Rule("twice", "news", duplicates=("hash",)).archive == "news_duplicates"
    assert Rule(**GOOD, archive_table="attic").archive == "attic"


@pytest.mark.parametrize(
    ("signs", "said"),
    [
        (Signs(), None),
        (Signs(lag_s=1.0, running=25, lock_waits=5, p95_s=0.1), None),
        (Signs(lag_s=1.1), "a replica is 1.1 s behind, more than 1"),
        (Signs(running=26), "26 statements are at work, more than 25"),
        (Signs(lock_waits=6), "6 statements wait for a lock, more than 5"),
        (Signs(p95_s=0.2), "the application's p95 is 0.200 s, more than 0.1"),
    ],
)
def test_a_cleaning_waits_for_what_is_over_its_limit(signs: Signs, said: str | None) -> None:
    assert pause_reason(signs, Limits(p95_s=0.1)) == said


def test_what_has_no_limit_or_no_sign_is_not_waited_for() -> None:
    nothing = Limits(None, None, None, None)
    assert pause_reason(Signs(99, 99, 99, 99), nothing) is None


@given(st.integers(1, 10_000), st.floats(0, 100), st.floats(0.001, 10), st.integers(1, 10_000))
def test_a_batch_is_never_too_small_nor_too_large_nor_twice_the_last(
    size: int, took_s: float, target_s: float, first: int
) -> None:
    least = min(100, first)
    after = next_size(size, took_s, target_s, first)
    assert least <= after <= max(10_000, least)
    assert after <= max(2 * size, least)


def test_a_batch_that_took_too_long_is_followed_by_a_smaller_one() -> None:
    assert next_size(1000, 1.0, 0.5) == 300
    assert next_size(1000, 0.3, 0.5) == 1000
    assert next_size(1000, 0.01, 0.5) == 2000


PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(),
    st.binary(),
    st.decimals(allow_nan=False),
    st.datetimes(),
    st.datetimes(timezones=st.just(UTC)),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
)


@given(st.lists(st.lists(PLAIN)))
def test_a_key_that_was_written_down_is_read_as_it_was(keys: list[list[Any]]) -> None:
    assert from_json(to_json(keys)) == keys


def test_what_cannot_be_written_down_is_refused() -> None:
    with pytest.raises(RefusedError, match="object cannot be written down"):
        to_json(object())


WHEN = datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=UTC)


def test_keys_keep_their_types() -> None:
    key = [Decimal("1.50"), WHEN, date(2024, 1, 1), time(1, 2), UUID(int=7), b"\x00\xff"]
    read = from_json(to_json(key))
    assert [type(value) for value in read] == [type(value) for value in key]


TABLE = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer), sa.Column("b", sa.Integer))
PAIR = st.tuples(st.integers(0, 3), st.integers(0, 3))


def _true(condition: sa.ColumnElement[bool], rows: list[tuple[int | None, int | None]]) -> list[Any]:
    """The rows of which SQLite says that the condition is true."""
    engine = sa.create_engine("sqlite://")
    TABLE.create(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(TABLE), [{"a": a, "b": b} for a, b in rows])
        found = [tuple(row) for row in connection.execute(sa.select(TABLE).where(condition))]
    engine.dispose()
    return found


ALL = [(a, b) for a in range(4) for b in range(4)]


@given(PAIR, PAIR)
def test_keys_are_compared_column_by_column(first: tuple[int, int], last: tuple[int, int]) -> None:
    columns = [TABLE.c.a, TABLE.c.b]
    assert _true(beyond(columns, first), ALL) == [row for row in ALL if row > first]
    assert _true(within(columns, first, last), ALL) == [row for row in ALL if first <= row <= last]


VALUE = st.one_of(st.none(), st.integers(0, 2), st.lists(st.one_of(st.none(), st.integers(0, 2)), max_size=3))


@given(st.dictionaries(st.sampled_from(["a", "b"]), VALUE))
def test_every_row_is_as_wanted_or_is_not_also_where_it_is_null(where: dict[str, Any]) -> None:
    rows = [(a, b) for a in (None, 0, 1) for b in (None, 0, 1)]
    yes, no = _true(matches(TABLE, where), rows), _true(differs(TABLE, where), rows)
    assert sorted([*yes, *no], key=repr) == sorted(rows, key=repr)
    wanted = [
        row
        for row in rows
        if all(
            value in (given if isinstance(given, list) else [given])
            for name, given in where.items()
            for value in [row["ab".index(name)]]
        )
    ]
    assert yes == wanted

"""Real executions are kept: few, small, those that say something, and nothing of them is shown."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from dbpilot import Autopilot, PilotConfig
from dbpilot.dialects.whatif import Query
from dbpilot.history.store import MemoryStore, Pattern
from dbpilot.queries.samples import MAX_PARAMETERS, MAX_PATTERNS, MAX_STATEMENT, PER_PATTERN, Samples
from dbpilot.sql.fingerprint import fingerprint
from dbpilot.sql.syntax import SQLITE

SELECT = "SELECT a FROM t WHERE b = ?"


def _pattern(statement: str) -> Pattern:
    print_ = fingerprint(statement, SQLITE)
    return Pattern(print_.id, print_.text, print_.operation, ("t",))


def _kept(statement: str, *executions: Any) -> tuple[Query, ...]:
    samples, pattern = Samples(), _pattern(statement)
    for parameters in executions:
        samples.offer(pattern, statement, parameters)
    return samples.of([pattern.id]).get(pattern.id, ())


@pytest.mark.parametrize(
    "parameters",
    [None, (), (1, "x", None), {"a": date(2024, 1, 1), "b": Decimal(1)}, ([1, 2, 3],), (b"x" * 4000,)],
)
def test_an_ordinary_execution_is_kept(parameters: Any) -> None:
    assert _kept(SELECT, parameters) == (Query(SELECT, parameters),)


@pytest.mark.parametrize(
    "parameters",
    [
        ("x" * (MAX_PARAMETERS + 1),),
        tuple(range(MAX_PARAMETERS)),
        [(1,), (2,)],
        ({"a": 1}, {"a": 2}),
        (object(),),
        (bytearray(3),),
        object(),
        "text",
    ],
)
def test_what_is_large_or_strange_or_many_is_not(parameters: Any) -> None:
    assert _kept(SELECT, parameters) == ()


@pytest.mark.parametrize(
    ("statement", "is_kept"),
    [
        ("WITH x AS (SELECT 1) SELECT * FROM x", True),
        ("UPDATE t SET a = 1 WHERE b = 2", True),
        ("DELETE FROM t WHERE b = 2", True),
        ("DELETE FROM t", False),
        ("INSERT INTO t VALUES (1)", False),
        ("PRAGMA user_version", False),
        ("BEGIN", False),
        (f"SELECT '{'x' * MAX_STATEMENT}'", False),
    ],
)
def test_only_what_an_index_may_help_is_kept(statement: str, is_kept: bool) -> None:
    assert bool(_kept(statement, ())) == is_kept


@given(st.lists(st.integers(0, 20)))
def test_few_are_kept_and_no_two_are_the_same(values: list[int]) -> None:
    found = _kept(SELECT, *((value,) for value in values))
    assert len(found) == min(PER_PATTERN, len(set(values)))
    assert len(set(found)) == len(found)


def test_later_ones_have_the_same_chance() -> None:
    samples, patterns = Samples(), [_pattern(f"SELECT c{number} FROM t") for number in range(100)]
    for pattern in patterns:
        for number in range(300):
            samples.offer(pattern, pattern.text, (number,))
    found = samples.of([pattern.id for pattern in patterns]).values()
    late = sum(query.parameters[0] >= 150 for queries in found for query in queries)
    assert 100 < late < 200, "half of all"


def test_the_patterns_that_were_seen_last_are_known() -> None:
    samples, patterns = Samples(), [_pattern(f"SELECT c{number} FROM t") for number in range(MAX_PATTERNS + 10)]
    for pattern in patterns:
        samples.offer(pattern, pattern.text, ())
        samples.offer(patterns[0], patterns[0].text, ())
    known = samples.of([pattern.id for pattern in patterns])
    assert len(known) == MAX_PATTERNS
    assert patterns[0].id in known
    assert patterns[1].id not in known


def test_what_the_application_changes_later_is_not_changed_here() -> None:
    listed = [1, 2]
    parameters = {"a": listed}
    samples, pattern = Samples(), _pattern(SELECT)
    samples.offer(pattern, SELECT, parameters)
    listed.append(3)
    parameters["b"] = listed
    assert samples.of([pattern.id])[pattern.id] == (Query(SELECT, {"a": [1, 2]}),)


def test_no_value_is_shown() -> None:
    samples, pattern = Samples(), _pattern(SELECT)
    samples.offer(pattern, "SELECT a FROM t WHERE b = 'geheim'", ("geheim",))
    shown = repr(samples) + repr(samples.of([pattern.id])) + repr(samples._kept)
    assert "geheim" not in shown


def test_a_pilot_remembers_executions_that_are_not_slow() -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    t = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer), sa.Column("b", sa.Text))
    config = PilotConfig.model_validate({"queries": {"sample_every": 1}})
    with engine.begin() as connection:
        t.create(connection)
    with Autopilot(engine, config, store=MemoryStore()) as pilot:
        with engine.begin() as connection:
            connection.execute(sa.insert(t), [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])
            connection.execute(sa.insert(t).values([{"a": 3, "b": "x"}, {"a": 4, "b": "y"}]))
            for b in ("x", "y"):
                connection.execute(sa.select(t).where(t.c.b == b)).all()
            connection.execute(sa.update(t).where(t.c.a.in_([1, 2])).values(b="z"))
            connection.execute(
                sa.update(t).where(t.c.a == sa.bindparam("one")), [{"one": 1, "b": "q"}, {"one": 2, "b": "q"}]
            )
        with pilot._worker.lock:
            intake = pilot._worker.catch_up()
            found = intake.samples.of(list(intake.windows.current.tallies))
    engine.dispose()
    kept = sorted((query.statement, query.parameters) for queries in found.values() for query in queries)
    assert kept == [
        ("SELECT t.a, t.b \nFROM t \nWHERE t.b = ?", ("x",)),
        ("SELECT t.a, t.b \nFROM t \nWHERE t.b = ?", ("y",)),
        ("UPDATE t SET b=? WHERE t.a IN (?, ?)", ("z", 1, 2)),
    ]

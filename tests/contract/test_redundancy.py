"""Of each labelled pair of indexes exactly those are said to go that may; the real database confirms the label."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from dbpilot.dialects import dialect_of
from dbpilot.dialects.catalog import Catalog
from dbpilot.dialects.plan import PlanNode
from dbpilot.indexes.audit import Finding, Observed, audit
from dbpilot.indexes.workload import Statement, Workload
from dbpilot.sql.predicates import Predicates
from tests.contract.redundancy_pairs import PAIRS, Database, Pair, filled

NOW = datetime(2026, 11, 26, tzinfo=UTC)
MUCH_WORSE = 1.5
"""From this ratio of costs, or of rows where a database tells no costs, a plan is worse that looks the same."""
COLUMNS = ("a", "b", "c", "s")
DRAWS = int(os.environ.get("DRAWS", "15"))
SETTLED = {
    "mariadb": ("ANALYZE TABLE p, t",),
    "postgresql": ("VACUUM (ANALYZE) p", "VACUUM (ANALYZE) t"),
    "sqlite": ("ANALYZE",),
}


@dataclass(frozen=True)
class Effort:
    """What a database has to do for an answer."""

    scans: int
    """Of whole tables, or of whole indexes."""
    sorts: int
    cost: float | None
    rows: float
    """Those that it expects to read."""

    def is_worse_than(self, other: "Effort") -> bool:
        if (self.scans, self.sorts) != (other.scans, other.sorts):
            return self.scans > other.scans or self.sorts > other.sorts
        if self.cost is not None and other.cost is not None:
            return self.cost > MUCH_WORSE * other.cost
        return self.rows > MUCH_WORSE * other.rows


@pytest.fixture
def database(request: pytest.FixtureRequest, pair: Pair) -> Iterator[sa.Connection]:
    """The pair's database, with its indexes and statistics."""
    with _connected(request.getfixturevalue(f"{pair.database}_url")) as connection:
        for statement in filled(pair.database):
            connection.exec_driver_sql(statement)
        for statement in pair.statements:
            with _allowed_to_fail("CONCURRENTLY" in statement):
                connection.exec_driver_sql(statement)
        for statement in SETTLED[pair.database]:
            connection.exec_driver_sql(statement)
        yield connection


@contextmanager
def _allowed_to_fail(may: bool) -> Iterator[None]:
    try:
        yield
    except DBAPIError:
        if not may:
            raise


def read(connection: sa.Connection) -> Catalog:
    return dialect_of(connection.engine).catalog(connection)


def proposals(catalog: Catalog, pair: Pair) -> dict[str, Finding]:
    """What the audit would drop in favour of another index."""
    predicates = Predicates(pair.uses)
    known = Workload((Statement("1", pair.text, (), predicates, 1, 1.0),), "a test") if pair.text else None
    found = audit(catalog, NOW, timedelta(days=30), Observed(workload=known))
    stays = [one.kept_because for one in found if one.indexes[:1] == (pair.tempting,) and one.kept_because]
    assert stays or not _begins_another(catalog, pair), "it is not said why it stays"
    return {one.drop: one for one in found if one.kind in ("duplicate", "prefix") and one.drop}


def _begins_another(catalog: Catalog, pair: Pair) -> bool:
    """Whether what is tempting is so because another index, which is valid, begins with its columns."""
    indexes = {index.name: index for index in catalog.tables[pair.table].indexes if index.valid}
    own = indexes.pop(pair.tempting or "", None)
    return own is not None and any(other.columns[: len(own.columns)] == own.columns for other in indexes.values())


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair.go], ids=str)
def test_what_may_go_is_found_and_not_missed(pair: Pair, database: sa.Connection) -> None:
    found = proposals(read(database), pair)
    assert set(found) <= frozenset().union(*pair.go), f"unsafe: {pair.why}"
    for group in pair.go:
        assert len(group & set(found)) == 1, f"not found, or too much: {pair.why}"
    assert all(one.table == pair.table and one.covered_by not in found for one in found.values())
    assert pair.asks
    before = [_effort(database, question) for question in pair.asks]
    for name in found:
        _drop(database, pair, name)
    for question, effort in zip(pair.asks, before, strict=True):
        assert not _effort(database, question).is_worse_than(effort), question


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair.tempting], ids=str)
def test_what_must_stay_is_left_and_would_be_missed(pair: Pair, database: sa.Connection) -> None:
    catalog = read(database)
    assert proposals(catalog, pair) == {}, f"unsafe: {pair.why}"
    assert pair.worse or pair.fails or pair.forbids or pair.refused
    before = [_effort(database, question) for question in pair.worse]
    assert all(_works(database, statement) for statement in pair.fails)
    assert not any(_works(database, statement) for statement in pair.forbids)
    if pair.refused:
        with pytest.raises(DBAPIError):
            _drop(database, pair, pair.tempting)
        return
    _drop(database, pair, pair.tempting)
    for question, effort in zip(pair.worse, before, strict=True):
        assert _effort(database, question).is_worse_than(effort), question
    assert not any(_works(database, statement) for statement in pair.fails)
    assert all(_works(database, statement) for statement in pair.forbids)


def test_there_are_pairs_enough() -> None:
    assert len(PAIRS) >= 40
    assert len({str(pair) for pair in PAIRS}) == len(PAIRS)
    assert all(bool(pair.go) != bool(pair.tempting) for pair in PAIRS)


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair.also], ids=str)
def test_what_others_would_drop_is_missed(pair: Pair, database: sa.Connection) -> None:
    for name, question in pair.also:
        before = _effort(database, question)
        _drop(database, pair, name)
        assert _effort(database, question).is_worse_than(before), question
        [made] = [statement for statement in pair.statements if f" {name} " in statement]
        database.exec_driver_sql(made)


def _drop(connection: sa.Connection, pair: Pair, name: str | None) -> None:
    connection.exec_driver_sql(f"DROP INDEX {name}" + (f" ON {pair.table}" if pair.database == "mariadb" else ""))


def _works(connection: sa.Connection, statement: str) -> bool:
    try:
        connection.exec_driver_sql(statement)
    except DBAPIError:
        return False
    return True


def _effort(connection: sa.Connection, question: str) -> Effort:
    root = dialect_of(connection.engine).explain(connection, question, None)
    nodes = [node for _, node in root.walk()]
    scans = sum(node.reads_all or node.operation in ("SCAN", "access index") or _skips(node) for node in nodes)
    sorts = sum(any(word in node.operation.lower() for word in ("sort", "temp b-tree")) for node in nodes)
    cost = next((node.cost for node in nodes if node.cost), None)
    return Effort(scans, sorts, cost, sum(node.rows or 0 for node in nodes))


def _skips(node: PlanNode) -> bool:
    """Whether SQLite looks into an index once for each value of its first column."""
    return "ANY(" in (node.condition or "")


@pytest.mark.parametrize("kind", ["mariadb", "postgresql", "sqlite"])
def test_whatever_is_drawn_no_plan_gets_worse_without_what_may_go(
    kind: Database, request: pytest.FixtureRequest
) -> None:
    """``DRAWS=200`` draws so many sets of indexes."""
    rng, dropped = random.Random(int(os.environ.get("SEED", "11"))), 0
    with _connected(request.getfixturevalue(f"{kind}_url")) as connection:
        for statement in filled(kind):
            connection.exec_driver_sql(statement)
        for _ in range(DRAWS):
            drawn = [_drawn(kind, f"i{number}", rng) for number in range(rng.randint(3, 6))]
            for one in drawn:
                connection.exec_driver_sql(one.ddl)
            for statement in SETTLED[kind]:
                connection.exec_driver_sql(statement)
            questions = [question for one in drawn for question in one.questions]
            before = [_effort(connection, question) for question in questions]
            found = audit(read(connection), NOW, timedelta(days=30), Observed(workload=Workload((), "a test")))
            going = [one for one in found if one.drop and one.kind in ("duplicate", "prefix")]
            for one in going:
                connection.exec_driver_sql(f"DROP INDEX {one.drop}" + (" ON t" if kind == "mariadb" else ""))
            for question, effort in zip(questions, before, strict=True):
                after = _effort(connection, question)
                assert (after.scans, after.sorts) <= (effort.scans, effort.sorts), (question, drawn, going)
            dropped += len(going)
            left = {one.name for one in drawn} - {one.drop for one in going}
            for name in left:
                connection.exec_driver_sql(f"DROP INDEX {name}" + (" ON t" if kind == "mariadb" else ""))
    assert dropped > DRAWS / 3


@dataclass(frozen=True)
class Drawn:
    """An index drawn at random, and what it is good for."""

    name: str
    ddl: str
    questions: tuple[str, ...]


def _drawn(kind: Database, name: str, rng: random.Random) -> Drawn:
    columns = rng.sample(COLUMNS, rng.choice((1, 1, 2, 2, 3)))
    down = [rng.random() < 0.3 for _ in columns]
    length = rng.choice((5, 20)) if kind == "mariadb" and rng.random() < 0.3 else None
    words = [
        column + (f"({length})" if length and column == "s" else "") + (" DESC" if is_down else "")
        for column, is_down in zip(columns, down, strict=True)
    ]
    where = " WHERE b > 30" if kind != "mariadb" and rng.random() < 0.2 else ""
    carried = [column for column in COLUMNS if column not in columns]
    include = f" INCLUDE ({rng.choice(carried)})" if kind == "postgresql" and carried and rng.random() < 0.2 else ""
    ddl = f"CREATE INDEX {name} ON t ({', '.join(words)}){include}{where}"
    partial = f"{where} AND" if where else " WHERE"
    found = [f"SELECT * FROM t{partial} {_equal(columns[:end])}" for end in range(1, len(columns) + 1)]
    if not (length and "s" in columns):
        for flip in (False, True):
            order = [f"{c}{' DESC' if d != flip else ''}" for c, d in zip(columns, down, strict=True)]
            found.append(f"SELECT {', '.join(columns)} FROM t{where} ORDER BY {', '.join(order)} LIMIT 5")
        found.append(f"SELECT MIN({columns[0]}), MAX({columns[0]}) FROM t{where}")
        found.append(f"SELECT {', '.join(columns)} FROM t{partial} {_equal(columns[:1])}")
    return Drawn(name, ddl, tuple(found))


def _equal(columns: list[str]) -> str:
    return " AND ".join(
        f"{column} = {chr(39)}name 7{chr(39)}" if column == "s" else f"{column} = 7" for column in columns
    )


@contextmanager
def _connected(url: sa.URL) -> Iterator[sa.Connection]:
    # A prepared EXPLAIN that SQLite's driver keeps is not prepared anew when the schema changes.
    how = {"connect_args": {"cached_statements": 0}} if url.get_backend_name() == "sqlite" else {}
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", **how)
    with engine.connect() as connection:
        yield connection
    engine.dispose()

"""A restore says what it could not bring back, and why."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dbpilot.clock import SystemClock
from dbpilot.errors import RetentionError
from dbpilot.retention import Retention, Rule

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
OLD = datetime(2020, 1, 1)  # noqa: DTZ001 - as the columns have it
YEAR = timedelta(days=365)


class SameDay(SystemClock):
    """Always the same day; how long things take is measured."""

    def now(self) -> datetime:
        return NOW


@pytest.fixture
def engine(database_url: sa.URL) -> Iterator[sa.Engine]:
    engine = sa.create_engine(database_url)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = ON"))
    yield engine
    engine.dispose()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def news(engine: sa.Engine, rows: int, key: sa.types.TypeEngine[Any] | None = None) -> sa.Table:
    """A row for each day from the first of 2020; its key is a number, or a text of it."""
    table = sa.Table(
        "news",
        sa.MetaData(),
        sa.Column("id", key or sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime, nullable=False),
    )
    table.create(engine)
    found = [{"id": f"{n:05}" if key else n, "at": OLD + timedelta(days=n - 1)} for n in range(1, rows + 1)]
    with engine.begin() as connection:
        connection.execute(sa.insert(table), found)
    return table


def archived(engine: sa.Engine, target: str, batch: int = 100, table: str = "news") -> Retention:
    # No batch is quick enough for a larger one after it: so there are as many as one expects.
    rule = Rule("old news", table, "at", YEAR, target=target, batch=batch, batch_s=1e-9)
    kept = Retention(engine, [rule], SameDay())
    [result] = kept.run(dry_run=False).results
    assert result.error is None
    return kept


def live(engine: sa.Engine, table: sa.Table) -> set[Any]:
    with engine.connect() as connection:
        return set(connection.scalars(sa.select(table.c[next(iter(table.c.keys()))])))


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("0*.parquet"))


def test_a_file_that_is_gone_is_named_and_its_rows_are_counted(engine: sa.Engine, folder: Path) -> None:
    table = news(engine, 300)
    kept = archived(engine, str(folder))
    gone = files(folder)[1]
    gone.unlink()
    name = gone.relative_to(folder).as_posix()

    plan = kept.found("old news")
    assert (plan.found, plan.missing_rows, plan.missing) == (200, 100, (name,))
    assert any(name in problem for problem in kept.verify("old news").problems)
    result = kept.restore("old news")
    assert (result.restored, result.in_conflict, result.missing_rows, result.missing) == (200, 0, 100, (name,))
    assert not result.ok
    assert live(engine, table) == {*range(1, 101), *range(201, 301)}
    with pytest.raises(RetentionError, match="is empty, and should hold 100 rows"):
        kept.restore("old news")


@pytest.mark.parametrize("key", [None, sa.String(10)], ids=["numbers", "text"])
def test_a_file_that_left_because_all_of_it_was_restored_is_not_missing(
    engine: sa.Engine, folder: Path, key: sa.types.TypeEngine[Any] | None
) -> None:
    table = news(engine, 300, key)
    kept = archived(engine, str(folder))
    back = kept.restore("old news", until=datetime(2020, 4, 10, tzinfo=UTC))
    assert (back.restored, back.ok, len(files(folder))) == (100, True, 2)
    files(folder)[0].unlink()

    result = kept.restore("old news")

    assert (result.restored, result.missing_rows, len(result.missing)) == (100, 100, 1)
    assert len(live(engine, table)) == 200


def test_what_is_missing_but_was_not_meant_is_not_told(engine: sa.Engine, folder: Path) -> None:
    news(engine, 300)
    kept = archived(engine, str(folder))
    files(folder)[2].unlink()

    assert kept.restore("old news", until=datetime(2020, 3, 1, tzinfo=UTC)).ok
    assert kept.restore("old news", keys=[150]).ok
    assert kept.restore("old news", keys=[151, 250]).missing_rows == 100


def test_rows_that_left_an_archive_in_another_database_are_told(engine: sa.Engine, tmp_path: Path) -> None:
    news(engine, 300)
    kept = archived(engine, f"sqlite:///{tmp_path}/other.sqlite3")
    other = sa.create_engine(f"sqlite:///{tmp_path}/other.sqlite3")
    with other.begin() as connection:
        connection.execute(sa.text("DELETE FROM news_archive WHERE id BETWEEN 101 AND 200 OR id = 7"))
    other.dispose()

    result = kept.restore("old news")

    assert (result.restored, result.missing_rows, result.missing) == (199, 101, ("batch 2",))


@pytest.mark.parametrize("target", ["beside", "files"])
@pytest.mark.parametrize("kind", [sa.Integer(), sa.String(10)], ids=["numbers", "text"])
def test_children_that_come_before_their_parents_wait_for_them(
    engine: sa.Engine, folder: Path, target: str, kind: sa.types.TypeEngine[Any]
) -> None:
    metadata = sa.MetaData()
    parent = sa.Table(
        "topics", metadata, sa.Column("id", kind, primary_key=True, autoincrement=False), sa.Column("at", sa.DateTime)
    )
    child = sa.Table(
        "notes",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("topic", sa.ForeignKey(parent.c.id)),
        sa.Column("at", sa.DateTime),
    )
    metadata.create_all(engine)
    text = isinstance(kind, sa.String)
    with engine.begin() as connection:
        connection.execute(sa.insert(parent), [{"id": str(n) if text else n, "at": OLD} for n in (1, 2)])
        notes = [{"id": n, "topic": n % 3 or None, "at": OLD} for n in range(1, 31)]
        connection.execute(
            sa.insert(child), [{**one, "topic": str(one["topic"])} if text and one["topic"] else one for one in notes]
        )
    where = str(folder) if target == "files" else target
    rules = [Rule(f"old {name}", name, "at", YEAR, target=where) for name in ("notes", "topics")]
    kept = Retention(engine, rules, SameDay())
    assert kept.run(dry_run=False).ok

    early = kept.restore("old notes")

    assert (early.restored, early.in_conflict, early.conflicts) == (10, 20, ())
    assert early.parents_first == (
        "20 rows of notes point at rows of topics that are not live: restore rule 'old topics' first",
    )
    assert kept.restore("old topics").ok
    late = kept.restore("old notes")
    assert (late.restored, late.ok, late.parents_first) == (20, True, ())

"""Rows leave their table on every database and for every archive, and none of them is ever lost or doubled."""

import gc
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from app.market.models import Base, Content, DailyPrice, SignalOutcome, Symbol, TechnicalSignal
from dbpilot.errors import RefusedError, RetentionError
from dbpilot.retention import CleanupResult, Limits, Manners, Retention, Rule, Signs
from dbpilot.retention.gentle import read_signs
from dbpilot.retention.live import Catalogue
from dbpilot.retention.portable import portable
from dbpilot.testing import FakeClock

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
YEAR = timedelta(days=365)
OLD = datetime(2020, 1, 1)  # noqa: DTZ001 - as the columns have it
Key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Moment = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


@pytest.fixture
def engine(database_url: sa.URL) -> Iterator[sa.Engine]:
    engine = sa.create_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture(params=["beside", "server", "files"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An archive of each kind; the other database is one of the same kind."""
    if request.param == "server":
        return str(request.getfixturevalue("other_database"))
    return "beside" if request.param == "beside" else str(tmp_path / "archive")


@pytest.fixture
def other_database(request: pytest.FixtureRequest, database_url: sa.URL, tmp_path: Path) -> Iterator[str]:
    """The address of another database of the same kind."""
    kind = database_url.get_backend_name()
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path}/archive.sqlite3"
        return
    server = request.getfixturevalue("mariadb_server" if kind == "mysql" else "postgresql_server")
    name = f"{database_url.database}_archive"
    yield server.create_database(name).render_as_string(hide_password=False)
    server.drop_database(name)


def news_table(engine: sa.Engine, *more: sa.Column[Any], name: str = "news") -> sa.Table:
    table = sa.Table(
        name,
        sa.MetaData(),
        sa.Column("id", Key, primary_key=True),
        sa.Column("at", Moment),
        sa.Column("body", sa.Text),
        *more,
    )
    table.create(engine)
    return table


def fill(engine: sa.Engine, table: sa.Table, count: int, since: datetime = OLD, first: int = 1) -> None:
    rows = [
        {"id": first + i, "at": since + timedelta(hours=i, microseconds=i), "body": f"row {i} 한국어 😀 'quoted'"}
        for i in range(count)
    ]
    with engine.begin() as connection:
        connection.execute(sa.insert(table), rows)


def retention(engine: sa.Engine, *rules: Rule) -> Retention:
    return Retention(engine, rules, FakeClock(NOW))


def rule(target: str | None = "beside", **options: Any) -> Rule:
    given = {"name": "old news", "table": "news", "time_column": "at", "keep": YEAR, "target": target, "batch": 100}
    return Rule(**{**given, **options})


def run(kept: Retention, manners: Manners | None = None) -> CleanupResult:
    [result] = kept.run(dry_run=False, manners=manners).results
    assert result.error is None, result.error
    return result


def rows_of(engine: sa.Engine, table: sa.Table) -> dict[Any, Any]:
    with engine.connect() as connection:
        return {row[0]: tuple(row) for row in connection.execute(sa.select(table))}


def archived(kept: Retention, engine: sa.Engine, name: str = "old news") -> dict[Any, Any]:
    """The archive's rows by their first column, as its target gives them."""
    [found] = [one for one in kept.rules if one.name == name]
    if found.kind == "beside":
        with engine.connect() as connection:
            if not sa.inspect(connection).has_table(found.archive):
                return {}
            table = sa.Table(found.archive, sa.MetaData(), autoload_with=connection)
            rows = [dict(row._mapping) for row in connection.execute(sa.select(table))]
    else:
        with engine.connect() as connection:
            travelling = portable(Catalogue(connection).live(found.table), connection.dialect)
        target = kept.target_of(found)
        chunks = target.rows(name, travelling.table, None, None, None)
        rows = [row for chunk in chunks for row in chunk]
        target.close()
    by_key = {next(iter(row.values())): row for row in rows}
    assert len(by_key) == len(rows), "a row is in the archive twice"
    return by_key


def test_the_rows_that_are_deleted_are_those_that_are_archived(engine: sa.Engine, target: str) -> None:
    table = news_table(engine)
    fill(engine, table, 1234)
    fill(engine, table, 50, OLD + 5.3 * YEAR, first=5000)
    before = rows_of(engine, table)
    kept = retention(engine, rule(target))

    result = run(kept)

    after, found = rows_of(engine, table), archived(kept, engine)
    assert (result.planned, result.copied, result.verified, result.deleted) == (1234,) * 4
    assert set(after) | set(found) == set(before)
    assert not set(after) & set(found)
    assert {key: (row["id"], row["at"], row["body"]) for key, row in found.items()} == {
        key: row for key, row in before.items() if key < 5000
    }
    assert kept.verify("old news").ok
    assert run(kept).deleted == 0


def test_pythons_collector_does_not_follow_rows_on_their_way(
    engine: sa.Engine, other_database: str, tmp_path: Path
) -> None:
    """It would go through all of the application's objects for every few thousand of them."""
    table, met = news_table(engine), []
    for name, place in (("there", other_database), ("in files", str(tmp_path / "files"))):
        fill(engine, table, 100)
        with engine.connect() as connection:
            travelling = portable(Catalogue(connection).live("news"), connection.dialect)
        met += travelling.as_mappings(list(rows_of(engine, table).values()))
        kept = retention(engine, rule(place, name=name))
        run(kept)
        met += archived(kept, engine, name).values()
    assert len(met) == 400
    assert not any(map(gc.is_tracked, met))


def test_a_dry_run_changes_nothing_and_says_what_the_run_does(engine: sa.Engine, target: str) -> None:
    table = news_table(engine)
    fill(engine, table, 300)
    with engine.connect() as connection:
        before = sa.inspect(connection).get_table_names()
    kept = retention(engine, rule(target))

    [dry] = kept.run(dry_run=True).results

    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == before
    assert len(rows_of(engine, table)) == 300
    wet = run(kept)
    assert (dry.planned, dry.differences) == (wet.deleted, wet.differences)
    assert dry.differences, "the archive has to be made first"


def test_restored_rows_are_as_they_were_and_leave_the_archive(engine: sa.Engine, target: str) -> None:
    table = news_table(engine)
    fill(engine, table, 1200)
    before = rows_of(engine, table)
    kept = retention(engine, rule(target))
    run(kept)

    some = kept.restore("old news", keys=[3, 4, 5])
    assert (some.restored, some.in_conflict) == (3, 0)
    assert rows_of(engine, table) == {key: before[key] for key in (3, 4, 5)}
    assert kept.verify("old news").ok

    until = OLD.replace(tzinfo=UTC) + timedelta(hours=10)
    assert kept.restore("old news", until=until).restored == 7
    assert kept.verify("old news").ok

    assert kept.restore("old news").restored == 1190
    assert rows_of(engine, table) == before
    assert archived(kept, engine) == {}
    assert kept.verify("old news").found == 0


def test_a_restore_never_overwrites_what_is_live(engine: sa.Engine, target: str) -> None:
    unique = sa.Column("hash", sa.String(20), unique=True)
    table = news_table(engine, unique)
    fill(engine, table, 10)
    with engine.begin() as connection:
        connection.execute(sa.update(table).where(table.c.id == 7).values(hash="seven"))
    kept = retention(engine, rule(target))
    run(kept)
    with engine.begin() as connection:
        connection.execute(sa.insert(table), [{"id": 3, "at": NOW.replace(tzinfo=None), "body": "another"}])
        connection.execute(
            sa.insert(table), [{"id": 99, "at": NOW.replace(tzinfo=None), "body": "its hash", "hash": "seven"}]
        )

    result = kept.restore("old news")

    assert (result.restored, result.in_conflict) == (8, 2)
    assert {conflict.key for conflict in result.conflicts} == {(3,), (7,)}
    assert rows_of(engine, table)[3][2] == "another"
    assert set(archived(kept, engine)) == {3, 7}


def test_a_held_row_stays_until_it_is_released(engine: sa.Engine, target: str) -> None:
    table = news_table(engine, sa.Column("source", sa.String(20)))
    fill(engine, table, 20)
    with engine.begin() as connection:
        connection.execute(sa.update(table).where(table.c.id.in_([4, 5])).values(source="court"))
    kept = retention(engine, rule(target))
    held = kept.hold("news", {"source": ["court", "police"]}, reason="case 12")

    [step] = kept.plan().steps
    assert (step.rows, step.held) == (18, 2)
    assert run(kept).deleted == 18
    assert set(rows_of(engine, table)) == {4, 5}

    assert [one.reason for one in kept.holds()] == ["case 12"]
    assert kept.release(held.id)
    everything = kept.hold("news", reason="all of it")
    assert run(kept).deleted == 0
    assert kept.release(everything.id)
    assert not kept.release(everything.id)
    assert run(kept).deleted == 2


def test_a_cancelled_run_ends_after_the_batch_in_hand_and_goes_on_later(engine: sa.Engine, target: str) -> None:
    table = news_table(engine)
    fill(engine, table, 1000)
    kept, cancel = retention(engine, rule(target)), threading.Event()

    first = run(kept, Manners(cancel=cancel, at_progress=lambda _: cancel.set()))

    assert first.deleted == 100
    assert "cancelled" in str(first.stopped)
    assert len(rows_of(engine, table)) == 900
    assert run(kept).deleted == 900
    assert kept.verify("old news").ok


def test_columns_that_come_later_are_archived_too(engine: sa.Engine, target: str) -> None:
    table = news_table(engine)
    fill(engine, table, 10)
    kept = retention(engine, rule(target))
    run(kept)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE news ADD COLUMN score INTEGER"))
        connection.execute(sa.text("INSERT INTO news (id, at, body, score) VALUES (50, '2020-01-01', 'new', 7)"))

    [step] = kept.plan().steps
    assert any("score" in difference for difference in step.differences)
    run(kept)

    assert archived(kept, engine)[50]["score"] == 7
    assert archived(kept, engine)[1].get("score") is None
    assert kept.restore("old news").restored == 11
    assert len(rows_of(engine, table)) == 11


@pytest.mark.parametrize("gaps", [False, True], ids=["dense", "with gaps"])
def test_every_due_row_is_in_one_portion_wherever_its_key_lies(engine: sa.Engine, target: str, gaps: bool) -> None:
    table = news_table(engine)
    fill(engine, table, 350, first=-400)
    with engine.begin() as connection:
        young = {"at": NOW.replace(tzinfo=None)}
        connection.execute(sa.update(table).where(table.c.id.in_([-350, -300, -100])).values(young))
        if gaps:
            connection.execute(sa.update(table).where(table.c.id > -200).values(id=table.c.id + 10**6))
    before = rows_of(engine, table)
    kept = retention(engine, rule(target))

    assert run(kept).deleted == 347

    assert set(rows_of(engine, table)) == {-350, -300, -100 + (10**6 if gaps else 0)}
    assert set(archived(kept, engine)) == set(before) - set(rows_of(engine, table))


def test_keys_of_several_columns_text_and_reserved_words(engine: sa.Engine, target: str) -> None:
    table = sa.Table(
        "order",
        sa.MetaData(),
        sa.Column("select", sa.String(20), primary_key=True),
        sa.Column("날짜", sa.Date, primary_key=True),
        sa.Column("group", sa.String(20)),
    )
    table.create(engine)
    rows = [
        {"select": name, "날짜": date(2020, 1, 1) + timedelta(days=day), "group": None if day % 2 else "a"}
        for name in ("가나", "b", "B_%", "c'c")
        for day in range(60)
    ]
    if engine.dialect.name == "mysql":  # where b and B are one, as in most of its collations
        rows = [row for row in rows if row["select"] != "b"]
    with engine.begin() as connection:
        connection.execute(sa.insert(table), rows)
    made = rule(target, table="order", time_column="날짜", where={"group": None}, archive_table="order archive")
    kept = retention(engine, made)

    assert run(kept).deleted == len(rows) // 2
    with engine.connect() as connection:
        assert set(connection.scalars(sa.select(table.c.group))) == {"a"}
    assert kept.restore("old news", keys=[("c'c", date(2020, 1, 2))]).restored == 1
    assert kept.restore("old news").restored == len(rows) // 2 - 1
    with engine.connect() as connection:
        assert len(connection.execute(sa.select(table)).all()) == len(rows)


def test_duplicates_go_and_the_first_or_the_last_stays(engine: sa.Engine, target: str) -> None:
    table = news_table(engine, sa.Column("hash", sa.String(20)))
    fill(engine, table, 30)
    with engine.begin() as connection:
        for row in range(1, 31):
            shared = None if row > 27 else f"hash {row % 9}"
            connection.execute(sa.update(table).where(table.c.id == row).values(hash=shared))
    first = rule(target, time_column=None, keep=timedelta(0), duplicates=("hash",))
    kept = retention(engine, first)
    [step] = kept.plan().steps
    assert step.rows == 18

    assert run(kept).deleted == 18
    assert set(rows_of(engine, table)) == {*range(1, 10), 28, 29, 30}, "NULL is like nothing"

    kept.restore("old news")
    last = retention(engine, rule(target, time_column=None, keep=timedelta(0), duplicates=("hash",), keep_which="last"))
    assert run(last).deleted == 18
    assert set(rows_of(engine, table)) == {*range(19, 28), 28, 29, 30}


def test_a_purge_deletes_and_archives_nothing(engine: sa.Engine) -> None:
    table = news_table(engine)
    fill(engine, table, 500)
    kept = retention(engine, rule(None, purge=True))
    assert run(kept).deleted == 500
    with engine.connect() as connection:
        assert not sa.inspect(connection).has_table("news_archive")
    with pytest.raises(RefusedError, match="for ever"):
        kept.restore("old news")


def test_values_of_every_kind_come_back_as_they_were(engine: sa.Engine, target: str) -> None:
    table = news_table(
        engine,
        sa.Column("price", sa.Numeric(18, 6).with_variant(sa.Float(), "sqlite")),
        sa.Column("ratio", sa.Double),
        sa.Column("flag", sa.Boolean),
        sa.Column("day", sa.Date),
        sa.Column("data", sa.LargeBinary),
        sa.Column("extra", sa.JSON(none_as_null=True)),
        sa.Column("weight", sa.Integer),
        sa.Column("twice", sa.Integer, sa.Computed("weight * 2", persisted=True)),
        sa.Column("archived_at", sa.String(20)),
    )
    rows = [
        {
            "id": i,
            "at": OLD + timedelta(microseconds=i),
            "body": [None, "", "NUL-free \\ % ' \" 한국어 😀", "x" * 70_000][i % 4] if i % 4 != 3 else "x" * 60_000,
            "price": [None, Decimal("0.1"), Decimal("123456.654321"), Decimal("-5")][i % 4],
            "ratio": [None, 0.1, 1e300, -1 / 3][i % 4],
            "flag": [None, True, False][i % 3],
            "day": [None, date(2020, 2, 29)][i % 2],
            "data": [None, b"", b"\x00\xff\x1a'\\"][i % 3],
            "extra": [None, {"a": [1, 2.5, None, "한"]}, []][i % 3],
            "weight": i,
            "archived_at": "mine",
        }
        for i in range(1, 49)
    ]
    with engine.begin() as connection:
        connection.execute(sa.insert(table), rows)
    before = rows_of(engine, table)
    kept = retention(engine, rule(target))

    assert run(kept).deleted == 48
    assert archived(kept, engine)[7]["archived_at"] == "mine"
    assert kept.verify("old news").ok
    assert kept.restore("old news").restored == 48
    assert rows_of(engine, table) == before


def test_children_go_before_their_parents_and_nothing_is_left_hanging(engine: sa.Engine, target: str) -> None:
    Base.metadata.create_all(engine, tables=[Base.metadata.tables[name] for name in FOUR])
    _fill_finstage(engine)
    half, year = timedelta(days=180), timedelta(days=365)
    rules = [
        Rule("signals", "technical_signals", "triggered_at", half, target=target),
        Rule("outcomes", "signal_outcomes", "evaluated_at", half, target=target),
        Rule("news", "contents", "published_at", year, target=target),
        Rule("prices", "daily_prices", "date", 5 * year, target=target),
    ]
    kept = retention(engine, *rules)

    plan = kept.plan()
    done = kept.run(dry_run=False)

    assert [step.rule for step in plan.steps].index("outcomes") < [step.rule for step in plan.steps].index("signals")
    assert done.ok, done
    assert {step.rule: step.rows for step in plan.steps} == {one.rule: one.deleted for one in done.results}
    # Of 40 old signals two have an outcome that is young, and stay with it.
    assert {step.rule: (step.rows, step.needed) for step in plan.steps} == {
        "outcomes": (38, 0),
        "signals": (38, 2),
        "news": (30, 0),
        "prices": (20, 0),
    }
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(TechnicalSignal)) == 7
    # Children cannot come back before their parents, where the database looks after that.
    if engine.dialect.name != "sqlite":
        early = kept.restore("outcomes")
        assert (early.restored, early.in_conflict, early.conflicts, early.ok) == (0, 38, (), False)
        assert early.parents_first == (
            "38 rows of signal_outcomes point at rows of technical_signals that are not live: restore rule 'signals' "
            "first",
        )
    assert kept.restore("signals").restored == 38
    assert kept.restore("outcomes").restored == 38


FOUR = ("symbols", "contents", "daily_prices", "technical_signals", "signal_outcomes")


def _fill_finstage(engine: sa.Engine) -> None:
    old, young = datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 5, 20, tzinfo=UTC)
    signals = [
        {
            "id": i,
            "symbol": "AAPL",
            "signal_type": "rsi",
            "timeframe": "1d",
            "triggered_at": (old if i <= 40 else young) + timedelta(hours=i),
            "price": Decimal("1.5"),
        }
        for i in range(1, 46)
    ]
    outcomes = [
        {"id": i, "signal_id": i, "return_1d": Decimal("0.25"), "evaluated_at": old if i <= 38 else young}
        for i in range(1, 41)
    ]
    news = [
        {
            "symbol": "AAPL",
            "title": f"title {i}",
            "source": "wire",
            "published_at": old if i < 30 else young,
            "crawled_at": young,
            "content_hash": f"{i:064}",
        }
        for i in range(35)
    ]
    prices = [
        {
            "symbol": "AAPL",
            "date": date(2019 if i < 20 else 2023, 1, 1) + timedelta(days=i),
            **dict.fromkeys(("open", "high", "low", "close"), Decimal("10.125")),
            "volume": 5,
        }
        for i in range(25)
    ]
    with engine.begin() as connection:
        connection.execute(sa.insert(Symbol), [{"symbol": "AAPL"}])
        for model, rows in (
            (TechnicalSignal, signals),
            (SignalOutcome, outcomes),
            (Content, news),
            (DailyPrice, prices),
        ):
            connection.execute(sa.insert(model), rows)


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL"])
def test_a_foreign_key_that_would_take_children_along_is_refused(engine: sa.Engine, action: str) -> None:
    table = news_table(engine)
    child = _comments(engine, action)
    fill(engine, table, 3)
    with engine.begin() as connection:
        connection.execute(sa.insert(child), [{"id": 1, "news_id": 2, "at": OLD}])

    with pytest.raises(RefusedError, match=rf"{action} to rows of comments.*add a rule for comments"):
        retention(engine, rule()).run(dry_run=False)
    assert len(rows_of(engine, table)) == 3

    both = retention(engine, rule(), Rule("comments", "comments", "at", 100 * YEAR))
    results = {one.rule: one for one in both.run(dry_run=False).results}
    assert (results["old news"].deleted, results["comments"].deleted) == (2, 0), "its comment is not due"
    assert set(rows_of(engine, table)) == {2}
    assert rows_of(engine, child)[1][1] == 2


def test_an_archive_that_is_gone_is_not_begun_anew(engine: sa.Engine, tmp_path: Path) -> None:
    table = news_table(engine)
    fill(engine, table, 5)
    kept = retention(engine, rule(str(tmp_path / "archive")))
    assert run(kept).deleted == 5
    (tmp_path / "archive").rename(tmp_path / "elsewhere")
    fill(engine, table, 1, first=6)
    [result] = kept.run(dry_run=False).results
    assert result.error is not None
    assert "is empty, and should hold 5 rows of rule 'old news'" in result.error
    assert set(rows_of(engine, table)) == {6}
    with pytest.raises(RetentionError, match="should hold 5 rows"):
        kept.restore("old news")
    shutil.rmtree(tmp_path / "archive")
    (tmp_path / "elsewhere").rename(tmp_path / "archive")
    assert run(kept).deleted == 1
    assert kept.restore("old news").restored == 6
    assert run(kept).deleted == 6, "an archive that was emptied on purpose is another matter"


def test_the_last_of_its_kind_is_not_purged_when_the_one_that_was_kept_goes(engine: sa.Engine) -> None:
    table = news_table(engine)
    fill(engine, table, 400)
    with engine.begin() as connection:
        connection.execute(sa.update(table).values(body="the same"))
    kept_went: list[int] = []

    def went_on(_: object) -> None:
        if not kept_went:
            kept_went.append(1)
            with engine.begin() as connection:
                connection.execute(sa.delete(table).where(table.c.id == 1))

    twice = Rule("twice", "news", duplicates=("body",), target=None, purge=True, batch=100)
    run(retention(engine, twice), Manners(at_progress=went_on))
    assert len(rows_of(engine, table)) == 1


@pytest.mark.parametrize("which", ["first", "last"])
def test_purged_duplicates_leave_the_one_that_was_asked_for(engine: sa.Engine, which: Any) -> None:
    table = news_table(engine)
    fill(engine, table, 300)
    with engine.begin() as connection:
        connection.execute(sa.update(table).where(table.c.id > 10).values(body="the same"))
    twice = Rule("twice", "news", duplicates=("body",), keep_which=which, target=None, purge=True, batch=100)
    assert run(retention(engine, twice)).deleted == 289
    assert set(rows_of(engine, table)) == {*range(1, 11), 11 if which == "first" else 300}


@pytest.mark.parametrize("target", ["server", "files"], indirect=True)
def test_two_databases_do_not_share_an_archive_by_one_rules_name(
    engine: sa.Engine, target: str, tmp_path: Path
) -> None:
    fill(engine, news_table(engine), 5)
    assert run(retention(engine, rule(target))).deleted == 5
    other = sa.create_engine(f"sqlite:///{tmp_path}/other.sqlite3")
    fill(other, table := news_table(other), 5)
    [result] = retention(other, rule(target)).run(dry_run=False).results
    assert "that this database never archived there" in str(result.error)
    assert len(rows_of(other, table)) == 5
    assert len(archived(retention(engine, rule(target)), engine)) == 5
    other.dispose()


def test_a_cascade_in_a_columns_own_line_is_seen_on_sqlite_too(sqlite_url: sa.URL) -> None:
    engine = sa.create_engine(sqlite_url)
    fill(engine, news_table(engine), 3)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            'CREATE TABLE "my comments"'
            " (id integer PRIMARY KEY, news_id integer REFERENCES news (id) ON DELETE CASCADE)"
        )
    with pytest.raises(RefusedError, match="CASCADE to rows of my comments"):
        retention(engine, rule()).plan()
    engine.dispose()


def test_rows_that_two_rules_mean_are_counted_for_each_and_counted_again_in_its_turn(engine: sa.Engine) -> None:
    table = news_table(engine)
    fill(engine, table, 10)
    with engine.begin() as connection:
        connection.execute(sa.update(table).where(table.c.id > 4).values(body="the same"))
    both = retention(engine, Rule("twice", "news", duplicates=("body",)), rule())
    plan = {step.rule: (step.rows, step.at_most) for step in both.plan().steps}
    assert plan == {"twice": (5, False), "old news": (10, True)}
    results = {one.rule: (one.planned, one.deleted) for one in both.run(dry_run=False).results}
    assert results == {"twice": (5, 5), "old news": (5, 5)}


def _comments(engine: sa.Engine, action: str | None) -> sa.Table:
    metadata = sa.MetaData()
    sa.Table("news", metadata, autoload_with=engine)
    child = sa.Table(
        "comments",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("news_id", Key, sa.ForeignKey("news.id", ondelete=action)),
        sa.Column("at", Moment),
    )
    child.create(engine)
    return child


def test_a_table_that_refers_to_itself_is_emptied_from_its_leaves(engine: sa.Engine, target: str) -> None:
    if engine.dialect.name == "sqlite":
        with engine.begin() as connection:
            connection.execute(sa.text("PRAGMA foreign_keys = ON"))
    table = news_table(engine, sa.Column("parent", Key, sa.ForeignKey("news.id", ondelete="CASCADE")))
    fill(engine, table, 30)
    with engine.begin() as connection:
        connection.execute(sa.update(table).where(table.c.id > 1).values(parent=table.c.id - 1))
    kept = retention(engine, rule(target))
    result = run(kept)
    assert (result.copied, result.deleted) == (30, 30)
    assert len(archived(kept, engine)) == 30


def test_the_database_tells_how_busy_it_is(engine: sa.Engine) -> None:
    table = news_table(engine)
    fill(engine, table, 1)
    with engine.connect() as connection:
        idle = read_signs(connection, lag_s=lambda: 0.5, p95_s=lambda: 0.1)
    assert (idle.lag_s, idle.p95_s) == (0.5, 0.1)
    if engine.dialect.name == "sqlite":
        assert (idle.running, idle.lock_waits) == (None, None)
        return
    change = sa.update(table).where(table.c.id == 1).values(body="locked")

    def wait() -> None:
        with engine.begin() as connection:
            connection.execute(change)

    with engine.begin() as holder:
        holder.execute(change)
        waiter = threading.Thread(target=wait)
        waiter.start()
        deadline = time.monotonic() + 30
        with engine.connect() as connection:
            while not ((signs := read_signs(connection)).lock_waits and signs.running):
                assert time.monotonic() < deadline
                connection.rollback()
                time.sleep(0.3)  # MariaDB's answer stays as it is for whoever asks more often than ten times a second
        assert signs.running >= 1, "other tests share the server"
    waiter.join()


def test_a_run_waits_while_the_database_is_busy(engine: sa.Engine) -> None:
    table = news_table(engine)
    fill(engine, table, 10)
    busy = [Signs(lag_s=9.0), Signs(running=500), Signs()]
    told: list[str | None] = []
    manners = Manners(
        limits=Limits(),
        signs=lambda _: busy.pop(0) if len(busy) > 1 else busy[0],
        at_progress=lambda progress: told.append(progress.waiting_for),
    )
    assert run(retention(engine, rule()), manners).deleted == 10
    assert [reason for reason in told if reason] == [
        "a replica is 9.0 s behind, more than 1",
        "500 statements are at work, more than 25",
    ]

"""What a cleaning does when copies fail, rows change under it, archives are full, dead, or hold something already."""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dbpilot.errors import ConfigError, RefusedError, RetentionError
from dbpilot.retention import CleanupProgress, CleanupResult, Manners, Retention, Rule
from dbpilot.retention.live import Catalogue
from dbpilot.retention.portable import digest_from, digest_of_fingerprints, portable, read_digest
from dbpilot.retention.session import working
from dbpilot.retention.targets import ArchiveTarget, BatchKey
from dbpilot.testing import FakeClock
from tests.contract.test_retention import (
    NOW,
    OLD,
    YEAR,
    archived,
    engine,
    fill,
    news_table,
    other_database,
    retention,
    rows_of,
    rule,
    run,
    target,
)

__all__ = ["engine", "other_database", "target"]  # fixtures


class Meddled(Retention):
    """A retention in which something happens after each writing to an archive elsewhere, before rows are deleted."""

    def __init__(self, engine: sa.Engine, rule: Rule, meddle: Callable[[int], None]) -> None:
        super().__init__(engine, [rule], FakeClock(NOW))
        self._meddle = meddle

    def target_of(self, rule: Rule) -> ArchiveTarget:
        target = super().target_of(rule)
        write, meddle = target.write, self._meddle

        def meddled(batch: BatchKey, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
            write(batch, table, rows)
            meddle(batch.number)

        target.write = meddled
        return target


@pytest.fixture(params=["server", "files"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An archive of each kind that is another system."""
    return str(request.getfixturevalue("other_database") if request.param == "server" else tmp_path / "archive")


def failed(kept: Retention) -> CleanupResult:
    [result] = kept.run(dry_run=False).results
    assert result.error is not None
    return result


def test_a_copy_that_fails_deletes_nothing(engine: sa.Engine) -> None:
    table = news_table(engine)
    fill(engine, table, 250)
    kept = retention(engine, rule())
    assert run(kept).deleted == 250
    fill(engine, table, 250, first=1001)
    with engine.begin() as connection:  # the archive refuses one of the rows
        condition = "CHECK (id <> 1150)"
        if engine.dialect.name == "sqlite":
            connection.execute(sa.text("ALTER TABLE news_archive RENAME TO was"))
            connection.execute(
                sa.text(
                    "CREATE TABLE news_archive (id INTEGER PRIMARY KEY, at DATETIME, body TEXT, archived_at DATETIME,"
                    f" {condition})"
                )
            )
        else:
            connection.execute(sa.text(f"ALTER TABLE news_archive ADD CONSTRAINT strict {condition}"))

    result = failed(kept)

    assert (result.copied, result.deleted) == (100, 100)
    assert set(rows_of(engine, table)) == set(range(1101, 1251))
    assert len(archived(kept, engine)) == (100 if engine.dialect.name == "sqlite" else 350)


def test_an_archive_that_cannot_be_reached_is_told_and_nothing_is_deleted(
    engine: sa.Engine, mariadb_url: sa.URL
) -> None:
    table = news_table(engine)
    fill(engine, table, 10)
    dead = mariadb_url.set(port=1, password="hidden").render_as_string(hide_password=False)
    with pytest.raises(RetentionError, match=r"127\.0\.0\.1:1.*OperationalError 2003") as told:
        retention(engine, rule(dead)).run(dry_run=False)
    assert "hidden" not in str(told.value)
    assert "hidden" not in repr(rule(dead))
    assert len(rows_of(engine, table)) == 10


def test_an_archive_that_dies_in_the_middle_is_finished_later(engine: sa.Engine, elsewhere: str) -> None:
    table = news_table(engine)
    fill(engine, table, 250)

    def die(number: int) -> None:
        if number == 2:
            raise RetentionError("no space left on device")

    result = failed(Meddled(engine, rule(elsewhere), die))
    assert (result.deleted, result.error) == (100, "no space left on device")
    assert len(rows_of(engine, table)) == 150

    kept = retention(engine, rule(elsewhere))
    again = run(kept)
    assert (again.recovered, again.deleted) == (1, 150)
    assert len(archived(kept, engine)) == 250
    assert kept.verify("old news").ok


def test_an_archive_that_gives_back_something_else_is_not_believed(engine: sa.Engine, other_database: str) -> None:
    table = news_table(engine)
    fill(engine, table, 10)

    def damage(_: int) -> None:
        archive = sa.create_engine(other_database, poolclass=sa.NullPool)
        with archive.begin() as connection:
            connection.execute(sa.text("UPDATE news_archive SET body = 'damaged' WHERE id = 3"))

    result = failed(Meddled(engine, rule(other_database), damage))
    assert "all rows, with other values" in str(result.error)
    assert len(rows_of(engine, table)) == 10


def test_a_row_that_changes_between_copy_and_deletion_stays_and_is_told(engine: sa.Engine, elsewhere: str) -> None:
    table = news_table(engine)
    fill(engine, table, 100)
    once = iter([True])

    def change(_: int) -> None:
        if next(once, False):
            with engine.begin() as connection:
                connection.execute(sa.update(table).where(table.c.id == 5).values(body="changed"))
                connection.execute(sa.delete(table).where(table.c.id == 6))
                connection.execute(sa.insert(table).values(id=1000, at=OLD, body="came late"))

    kept = Meddled(engine, rule(elsewhere), change)
    result = run(kept)

    assert (result.deleted, result.left) == (98, 2)
    assert "changed" in result.why_left[0]
    assert {key: row[2] for key, row in rows_of(engine, table).items()} == {5: "changed", 1000: "came late"}
    assert set(archived(kept, engine)) == set(range(1, 101)) - {5, 6}
    assert kept.verify("old news").ok
    assert run(kept).deleted == 2


def test_an_archive_that_fails_gets_no_further_batch(engine: sa.Engine, elsewhere: str) -> None:
    table = news_table(engine)
    fill(engine, table, 1000)
    written: list[int] = []

    def die(number: int) -> None:
        written.append(number)
        if number == 3:
            raise RetentionError("no space left on device")

    result = failed(Meddled(engine, rule(elsewhere), die))

    assert written == [1, 2, 3]
    assert len(rows_of(engine, table)) == 1000 - result.deleted
    again = run(retention(engine, rule(elsewhere)))
    assert (again.recovered, again.deleted) == (1, 1000 - result.deleted)


def test_a_row_that_is_held_while_its_batch_is_on_its_way_stays(engine: sa.Engine, elsewhere: str) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer, and this one would wait for itself")
    table = news_table(engine)
    fill(engine, table, 300)
    kept = Meddled(
        engine, rule(elsewhere), lambda number: kept.hold("news", {"id": 7}, reason="case 1") if number == 1 else None
    )

    result = run(kept)

    assert (result.deleted, result.left, set(rows_of(engine, table))) == (299, 1, {7})
    assert 7 not in archived(kept, engine)
    assert kept.verify("old news").ok


def test_nothing_is_written_to_an_archive_any_more_when_others_may_clean(engine: sa.Engine, elsewhere: str) -> None:
    """A run that fails while a batch is being written waits for that, or its rows would be archived twice."""
    table = news_table(engine)
    fill(engine, table, 1000)
    begun, over = threading.Event(), threading.Event()

    def slowly(number: int) -> None:
        if number == 2:
            begun.set()
            time.sleep(0.5)  # as long as the failure needs to come, were it not waited for
            over.set()

    def fail(_: CleanupProgress) -> None:
        if begun.wait(0.2):
            raise RetentionError("a failure in between")

    kept = Meddled(engine, rule(elsewhere), slowly)
    [result] = kept.run(dry_run=False, manners=Manners(at_progress=fail)).results

    assert result.error == "a failure in between"
    assert over.is_set()
    assert run(retention(engine, rule(elsewhere))).recovered == 1


def test_a_key_that_the_archive_has_already_is_never_overwritten_there(
    engine: sa.Engine, request: pytest.FixtureRequest, target: str
) -> None:
    if request.node.callspec.params["target"] == "files":
        pytest.skip("an archive of files keeps both rows of a key that was used twice")
    table = news_table(engine)
    fill(engine, table, 10)
    kept = retention(engine, rule(target))
    assert run(kept).deleted == 10
    fill(engine, table, 20)
    with engine.begin() as connection:
        connection.execute(sa.update(table).where(table.c.id.in_([3, 4])).values(body="another"))

    result = run(kept)

    live, found = rows_of(engine, table), archived(kept, engine)
    assert set(found) == set(range(1, 21))
    assert "another" not in {row["body"] for row in found.values()}
    # Beside, a row that is in both places with the same content is one row too many.
    assert set(live) == ({3, 4} if target == "beside" else set(range(1, 11)))
    assert result.left == len(live)
    assert "other rows of the same key" in result.why_left[0] or "same key" in result.why_left[0]


def test_a_key_that_was_used_again_is_in_the_files_twice_and_neither_is_lost(engine: sa.Engine, tmp_path: Path) -> None:
    table = news_table(engine)
    kept = retention(engine, rule(str(tmp_path / "archive")))
    fill(engine, table, 10)
    assert run(kept).deleted == 10
    with engine.begin() as connection:
        connection.execute(sa.insert(table), [{"id": key, "at": OLD, "body": "used again"} for key in (3, 4, 50)])
    assert run(kept).deleted == 3

    result = kept.restore("old news")

    assert (result.restored, result.in_conflict) == (9, 4)
    assert {conflict.key for conflict in result.conflicts} == {(3,), (4,)}
    assert set(rows_of(engine, table)) == {1, 2, 5, 6, 7, 8, 9, 10, 50}
    assert kept.verify("old news").found == 4
    assert kept.verify("old news").ok


@pytest.mark.parametrize("seed", [1, 2])
def test_writers_beside_a_cleaning_lose_nothing(engine: sa.Engine, target: str, seed: int) -> None:
    table = news_table(engine)
    fill(engine, table, 2000)
    kept, stop, rng = retention(engine, rule(target)), threading.Event(), random.Random(seed)
    written: dict[int, str] = {}
    fresh = iter(range(10_000, 20_000))

    def write() -> None:
        while not stop.is_set():
            key, body = rng.randint(1, 2000), f"changed {rng.random()}"
            try:
                with engine.begin() as connection:
                    change = sa.update(table).where(table.c.id == key).values(body=body)
                    changed = connection.execute(change).rowcount
                    new = next(fresh)
                    connection.execute(sa.insert(table).values(id=new, at=OLD, body=f"new {new}"))
            except sa.exc.OperationalError:  # a deadlock, or a locked file
                continue
            written.update({key: body} if changed else {})
            written[new] = f"new {new}"
            time.sleep(0.001)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        first = run(kept)
    finally:
        stop.set()
        writer.join()
    last = run(kept)

    found = archived(kept, engine)
    assert first.deleted > 1500
    assert rows_of(engine, table) == {}
    assert last.left == 0
    assert set(found) == set(range(1, 2001)) | set(written)
    # A row that was changed before it went has the change.
    assert {key: found[key]["body"] for key in written} == written
    assert kept.verify("old news").ok


def test_two_cleanings_at_once_are_refused(engine: sa.Engine) -> None:
    table = news_table(engine)
    fill(engine, table, 10)
    kept = retention(engine, rule())
    with working(engine), pytest.raises(RefusedError, match="another cleaning"), working(engine, 0.1):
        pytest.fail("two at work")
    assert run(kept).deleted == 10


def test_the_pool_gets_its_connection_back_as_it_was(engine: sa.Engine) -> None:
    if engine.dialect.name != "mysql":
        pytest.skip("elsewhere no setting of the session is changed")
    table = news_table(engine)
    fill(engine, table, 10)
    settings = sa.text(
        "SELECT @@SESSION.time_zone, @@SESSION.sql_mode, @@SESSION.optimizer_switch, @@SESSION.tx_isolation,"
        " connection_id()"
    )
    with engine.connect() as connection:
        before = connection.execute(settings).one()
    run(retention(engine, rule()))
    with engine.connect() as connection:
        assert connection.execute(settings).one() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"table": "nowhere"}, "no table 'nowhere'; there are: .*news"),
        ({"time_column": "when"}, "no column 'when'; it has id, at, body"),
        ({"time_column": "body"}, "tells no age; take a date or an instant: at"),
        ({"where": {"kind": 1}}, "no column 'kind'"),
        ({"where": {"id": "first"}}, "'first' is no value of news.id"),
        ({"where": {"body": [1]}}, "1 is no value of news.body"),
        ({"table": "keyless"}, "keyless has no key.*add a primary key"),
        ({"archive_table": "other"}, "other is no archive of news: its primary key"),
    ],
)
def test_a_rule_that_does_not_fit_its_table_is_refused_with_the_fix(
    engine: sa.Engine, options: dict[str, Any], said: str
) -> None:
    table = news_table(engine)
    fill(engine, table, 3)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE keyless (at TIMESTAMP NULL)"))
        connection.execute(sa.text("CREATE TABLE other (other_id INTEGER PRIMARY KEY)"))
    for dry_run in (True, False):
        with pytest.raises(RefusedError, match=said):
            retention(engine, rule(**options)).run(dry_run=dry_run)
    assert len(rows_of(engine, table)) == 3


def test_a_table_without_primary_key_is_archived_by_its_unique_key(engine: sa.Engine, target: str) -> None:
    table = sa.Table(
        "news",
        sa.MetaData(),
        sa.Column("at", sa.DateTime),
        sa.Column("code", sa.String(20), nullable=False, unique=True),
    )
    table.create(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(table), [{"code": f"c{i}", "at": OLD} for i in range(150)])
    kept = retention(engine, rule(target))
    assert run(kept).deleted == 150
    assert kept.restore("old news", keys=["c7"]).restored == 1
    with engine.connect() as connection:
        assert connection.execute(sa.select(table)).all() == [(OLD, "c7")]


def test_a_column_that_the_table_lost_is_not_lost_in_a_restore(engine: sa.Engine) -> None:
    table = news_table(engine, sa.Column("score", sa.Integer))
    fill(engine, table, 3)
    with engine.begin() as connection:
        connection.execute(sa.update(table).where(table.c.id == 2).values(score=7))
    kept = retention(engine, rule())
    run(kept)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE news DROP COLUMN score"))
    result = kept.restore("old news")
    assert (result.restored, result.in_conflict) == (2, 1)
    assert "score" in result.conflicts[0].reason
    assert archived(kept, engine)[2]["score"] == 7


def test_a_maintenance_window_that_ends_stops_the_run(engine: sa.Engine) -> None:
    table, clock = news_table(engine), FakeClock(NOW)
    fill(engine, table, 1000)
    kept = Retention(engine, [rule()], clock)
    manners = Manners(until=NOW + timedelta(minutes=1), at_progress=lambda _: clock.advance(40))
    [result] = kept.run(dry_run=False, manners=manners).results
    assert "the maintenance window ended" in str(result.stopped)
    assert 0 < result.deleted < 1000
    assert len(rows_of(engine, table)) == 1000 - result.deleted


def test_an_archive_column_that_is_too_narrow_is_widened(engine: sa.Engine) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite keeps any text in any column")
    table = sa.Table(
        "news",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.DateTime),
        sa.Column("body", sa.String(10)),
    )
    table.create(engine)
    fill_short(engine, table, "short", 1)
    kept = retention(engine, rule())
    run(kept)
    wider = "MODIFY body VARCHAR(40)" if engine.dialect.name == "mysql" else "ALTER COLUMN body TYPE VARCHAR(40)"
    with engine.begin() as connection:
        connection.execute(sa.text(f"ALTER TABLE news {wider}"))
    fill_short(engine, table, "x" * 40, 2)
    [step] = kept.plan().steps
    assert "VARCHAR(40)" in "".join(step.differences)
    run(kept)
    assert archived(kept, engine)[2]["body"] == "x" * 40


def fill_short(engine: sa.Engine, table: sa.Table, body: str, key: int) -> None:
    with engine.begin() as connection:
        connection.execute(sa.insert(table).values(id=key, at=OLD, body=body))


def test_an_unfinished_batch_of_another_archive_is_not_forgotten(
    engine: sa.Engine, elsewhere: str, tmp_path: Path
) -> None:
    table = news_table(engine)
    fill(engine, table, 10)

    def die(_: int) -> None:
        raise RetentionError("gone")

    failed(Meddled(engine, rule(elsewhere), die))
    moved = failed(retention(engine, rule(str(tmp_path / "elsewhere"))))
    assert "run the rule once more with the archive that it had" in str(moved.error)
    assert run(retention(engine, rule(elsewhere))).deleted == 10


def test_two_databases_of_a_kind_compare_rows_among_themselves(engine: sa.Engine, other_database: str) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no hashes")
    columns = [
        sa.Column("price", sa.Numeric(18, 6)),
        sa.Column("ratio", sa.Float),
        sa.Column("data", sa.LargeBinary),
        sa.Column("extra", sa.JSON(none_as_null=True)),
    ]
    table = news_table(engine, *columns)
    values = {"price": Decimal("1.5"), "ratio": 0.1, "data": b"\x00\xff", "extra": {"a": [1, "한"]}}
    with engine.begin() as connection:
        connection.execute(sa.insert(table).values(id=1, at=OLD, body="", **values))
        connection.execute(sa.insert(table), [{"id": 2, "at": OLD, "body": None}, {"id": 3, "at": OLD, "body": "-"}])

    kept = Meddled(engine, rule(other_database), lambda _: None)
    target_of = kept.target_of

    def silent(rule: Rule) -> ArchiveTarget:
        target = target_of(rule)
        target.read_back = lambda *_: pytest.fail("was read back")
        return target

    kept.target_of = silent
    assert run(kept).deleted == 3
    assert retention(engine, rule(other_database)).verify("old news").ok


def test_rows_whose_fingerprints_were_added_up_are_locked_and_add_up_to_the_same_here(engine: sa.Engine) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no hashes")
    table = news_table(engine)
    fill(engine, table, 50)
    with engine.connect() as connection, engine.connect() as other:
        live = Catalogue(connection).live("news")
        made = portable(live, connection.dialect).fingerprint
        assert made is not None
        condition = live.table.c.id.between(11, 30)
        [*prints] = connection.scalars(sa.select(made).where(condition))
        found = connection.execute(read_digest(made, condition, connection.dialect, lock=True)).one()
        assert digest_from(found) == digest_of_fingerprints(prints)
        assert digest_from(found) != digest_of_fingerprints([*prints[1:], prints[1]])
        with pytest.raises(sa.exc.DBAPIError):
            other.execute(sa.select(table.c.id).where(table.c.id == 30).with_for_update(nowait=True))
        other.rollback()
        assert other.execute(sa.select(table.c.id).where(table.c.id == 40).with_for_update(nowait=True)).scalar() == 40


def test_an_archive_that_cannot_be_written_is_told_and_deletes_nothing(engine: sa.Engine, tmp_path: Path) -> None:
    table = news_table(engine)
    fill(engine, table, 300)
    folder = tmp_path / "archive"
    folder.mkdir()
    in_the_way = folder / "rule=old%20news"
    in_the_way.write_text("where the rule's files should be")

    result = failed(retention(engine, rule(str(folder))))

    assert "nothing is deleted from the live table" in str(result.error)
    assert len(rows_of(engine, table)) == 300
    in_the_way.unlink()
    assert run(retention(engine, rule(str(folder)))).deleted == 300


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL"])
def test_a_child_that_comes_while_its_parent_is_purged_is_not_taken_along(engine: sa.Engine, action: str) -> None:
    """The database would take it along without a word; so it has to be seen before its parent goes."""
    table = news_table(engine)
    child = sa.Table(
        "comments",
        table.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("news_id", table.c.id.type, sa.ForeignKey("news.id", ondelete=action)),
        sa.Column("at", sa.DateTime),
    )
    child.create(engine)
    fill(engine, table, 2000)
    rules = rule(None, purge=True), Rule("old comments", "comments", "at", YEAR, target=None, purge=True)
    kept, commented, stop = retention(engine, *rules), set[int](), threading.Event()

    def comment() -> None:
        for key in range(2000, 0, -1):
            if stop.is_set():
                return
            try:
                with engine.begin() as connection:
                    connection.execute(sa.insert(child).values(id=key, news_id=key, at=NOW.replace(tzinfo=None)))
                commented.add(key)
            except (sa.exc.OperationalError, sa.exc.IntegrityError):
                continue  # its parent has gone, or the database was busy

    writer = threading.Thread(target=comment)
    writer.start()
    try:
        kept.run(dry_run=False)
    finally:
        stop.set()
        writer.join()
    if engine.dialect.name != "sqlite":  # which looks after foreign keys only where it is told to
        with engine.connect() as connection:
            found = {row.news_id for row in connection.execute(sa.select(child.c.news_id))}
        assert found == commented, "every comment is there, and so is what it is about"


def test_a_child_that_comes_while_its_parent_goes_is_not_taken_along(engine: sa.Engine, target: str) -> None:
    table = news_table(engine)
    child = sa.Table(
        "comments",
        table.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("news_id", table.c.id.type, sa.ForeignKey("news.id")),
    )
    child.create(engine)
    fill(engine, table, 1000)
    kept, stop = retention(engine, rule(target)), threading.Event()
    commented: set[int] = set()

    def comment() -> None:
        for number in range(1, 1001):
            if stop.is_set():
                return
            key = 1001 - number
            try:
                with engine.begin() as connection:
                    parent = sa.select(table.c.id).where(table.c.id == key)
                    made = sa.insert(child).from_select(
                        ["id", "news_id"], parent.add_columns(parent.selected_columns[0])
                    )
                    if connection.execute(made, execution_options={"preserve_rowcount": True}).rowcount:
                        commented.add(key)
            except (sa.exc.OperationalError, sa.exc.IntegrityError):
                commented.discard(key)

    writer = threading.Thread(target=comment)
    writer.start()
    try:
        [result] = kept.run(dry_run=False).results
    finally:
        stop.set()
        writer.join()

    live = rows_of(engine, table)
    assert result.error is None
    with engine.connect() as connection:
        orphans = sa.select(child.c.news_id).where(child.c.news_id.not_in(sa.select(table.c.id)))
        if engine.dialect.name != "sqlite":
            assert connection.execute(orphans).all() == []
            assert commented <= set(live)
    found = archived(kept, engine)
    assert set(live) | set(found) == set(range(1, 1001))
    assert not set(live) & set(found)


@pytest.mark.parametrize("how", ["autocommit", "begins by itself", "held by a pool of one"])
def test_engines_of_every_habit_are_cleaned(database_url: sa.URL, how: str, target: str) -> None:
    options: dict[str, Any] = {
        "autocommit": {"isolation_level": "AUTOCOMMIT"},
        "begins by itself": {},
        "held by a pool of one": {"pool_size": 1, "max_overflow": 0, "pool_timeout": 5},
    }[how]
    engine = sa.create_engine(database_url, **options)
    if how == "begins by itself" and engine.dialect.name == "sqlite":  # as SQLAlchemy's manual advises
        sa.event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    table = news_table(engine)
    fill(engine, table, 250)
    kept = retention(engine, rule(target))
    assert kept.plan().rows == 250
    assert run(kept).deleted == 250
    assert kept.restore("old news").restored == 250
    assert kept.verify("old news").ok
    engine.dispose()


def test_rules_run_in_the_order_that_they_ask_for(engine: sa.Engine) -> None:
    news_table(engine)
    news_table(engine, name="quotes")
    first, second = rule(after=("quotes", "not of this run")), rule(name="quotes", table="quotes")
    assert [step.rule for step in retention(engine, first, second).plan().steps] == ["quotes", "old news"]
    assert [step.rule for step in retention(engine, first, second).plan("news").steps] == ["old news"]
    circle = rule(name="quotes", table="quotes", after=("old news",))
    with pytest.raises(ConfigError, match=r"wait for each other: .* -> "):
        retention(engine, first, circle).plan()
    with pytest.raises(ConfigError, match="same name"):
        retention(engine, first, rule(table="quotes"))
    with pytest.raises(ConfigError, match="no retention rule is about 'nothing'; there are rules about: news, quotes"):
        retention(engine, first, second).run(table="nothing", dry_run=True)
    with pytest.raises(ConfigError, match="no retention rule 'nothing'; there are: old news"):
        retention(engine, first).restore("nothing")


def test_a_rule_that_fails_leaves_the_others_alone(engine: sa.Engine, tmp_path: Path) -> None:
    table, quotes = news_table(engine), news_table(engine, name="quotes")
    fill(engine, table, 10)
    fill(engine, quotes, 10)
    kept = retention(engine, rule(), rule(str(tmp_path / "archive"), name="quotes", table="quotes"))
    month = tmp_path / "archive" / "rule=quotes" / "month=2020-01"
    month.parent.mkdir(parents=True)
    month.write_text("in the way")

    done = kept.run(dry_run=False)

    assert not done.ok
    assert {result.rule: result.deleted for result in done.results} == {"old news": 10, "quotes": 0}
    assert len(rows_of(engine, quotes)) == 10


def test_an_index_that_is_hidden_is_nothing_to_be_warned_of(engine: sa.Engine) -> None:
    table = news_table(engine, sa.Column("topic", sa.String(20), index=True))
    fill(engine, table, 10)
    if not getattr(engine.dialect, "is_mariadb", False):
        pytest.skip("only MariaDB has such indexes")
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE news ALTER INDEX ix_news_topic IGNORED")
    plan = (
        "import sys; from datetime import timedelta; import sqlalchemy as sa; from dbpilot.retention import *;"
        "rule = Rule('old news', 'news', 'at', timedelta(days=1));"
        "print(Retention(sa.create_engine(sys.argv[1]), [rule]).run(dry_run=True).results[0].planned)"
    )
    url = engine.url.render_as_string(hide_password=False)
    ran = subprocess.run([sys.executable, "-W", "error", "-c", plan, url], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("10\n", "")

"""Whatever happens while an index is made or taken away: nothing half-built stays, and nobody else sees an error."""

import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from dbpilot.clock import SYSTEM
from dbpilot.dialects import dialect_of
from dbpilot.dialects.catalog import Catalog, Index, Key
from dbpilot.dialects.connections import own_engine
from dbpilot.dialects.ddl import Limits, named
from dbpilot.dialects.whatif import NewIndex, Query
from dbpilot.errors import RefusedError
from dbpilot.indexes.apply import Activity, Applier, Outcome
from dbpilot.indexes.changes import Change, Promise, create, drop, fingerprint, shape
from dbpilot.indexes.ledger import OPEN, Ledger
from dbpilot.indexes.runner import Manners
from dbpilot.indexes.verify import Rule, Timing, timing
from dbpilot.testing import FakeClock
from dbpilot.testing.servers import SqlServer, start_mariadb, start_postgresql

ROWS = 2_000
MANY = 120_000
"""So many that a build lasts long enough to be seen."""
DEADLINE_S = 60
HURRIED = Manners(builds=3, attempts=6, polite_attempts=3, patience_s=0.5, alone_wait_s=20, back_s=20)
NEW = NewIndex("orders", (Key("customer"), Key("note")))
AT_WORK = "FROM pg_stat_progress_create_index WHERE datname = current_database() AND relid = 'orders'::regclass"
BUILDING = {
    "postgresql": f"SELECT count(*) {AT_WORK}",
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE db = database() AND info LIKE 'CREATE INDEX%'",
}
BACKENDS = {
    "postgresql": f"SELECT pid {AT_WORK}",
    "mysql": "SELECT id FROM information_schema.processlist WHERE db = database() AND info LIKE 'CREATE INDEX%'",
}
KILL = {"postgresql": "SELECT pg_terminate_backend(:id)", "mysql": "KILL CONNECTION :id"}
END = {"postgresql": "SELECT pg_cancel_backend(:id)", "mysql": "KILL QUERY :id"}

metadata = sa.MetaData()
customers = sa.Table("customers", metadata, sa.Column("id", sa.Integer, primary_key=True))
orders = sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("customer", sa.Integer),
    sa.Column("note", sa.String(60)),
    sa.Column("code", sa.Integer, unique=True),
    sa.Column("paid", sa.Integer, index=True),
    sa.Column("customer_id", sa.ForeignKey("customers.id"), index=True),
)


def filled(url: sa.URL, rows: int = ROWS) -> sa.Engine:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    metadata.create_all(engine)
    if engine.dialect.name == "sqlite":
        with engine.begin() as connection:
            connection.execute(sa.text("PRAGMA journal_mode = WAL"))
    counting = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)"
    values = "a.i + 1000 * b.i - 1000, a.i, 'a note of some length that is sorted', a.i + 1000 * b.i - 1000, b.i % 7"
    select = f"SELECT {values} FROM n a, n b WHERE b.i <= {rows // 1000}"
    into = "INSERT INTO orders (id, customer, note, code, paid)"
    with engine.begin() as connection:
        words = [into, counting, select] if engine.dialect.name == "mysql" else [counting, into, select]
        connection.execute(sa.text(" ".join(words)))
    return engine


@pytest.fixture
def engine(database_url: sa.URL) -> sa.Engine:
    return filled(database_url)


@pytest.fixture(params=["mariadb", "postgresql"])
def served(request: pytest.FixtureRequest) -> sa.Engine:
    """A database of a server, with a table that takes a while to be indexed."""
    return filled(request.getfixturevalue(f"{request.param}_url"), MANY)


def applier(engine: sa.Engine, **changes: Any) -> Applier:
    return Applier(engine, changes.pop("clock", SYSTEM), manners=changes.pop("manners", HURRIED), **changes)


def wanted(name: str = "ix_new", index: NewIndex = NEW, ratio: float = 0.1) -> Change:
    return create(index, name, "it was advised", promises=(Promise("p", ratio),), grade="what-if")


def catalog(engine: sa.Engine) -> Catalog:
    with engine.connect() as connection:
        return dialect_of(engine).catalog(connection)


def index(engine: sa.Engine, name: str, table: str = "orders") -> Index | None:
    return next((found for found in catalog(engine).tables[table].indexes if found.name == name), None)


def present(engine: sa.Engine, name: str) -> Index:
    found = index(engine, name)
    assert found is not None
    return found


def half_built(engine: sa.Engine) -> list[str]:
    """Everything that must not be there: broken or hidden indexes, trees that belong to none, unfinished entries."""
    indexes = catalog(engine).tables["orders"].indexes
    found = [one.name for one in indexes if not one.valid or one.ignored]
    if engine.dialect.name == "mysql":
        with engine.connect() as connection:
            trees = sa.text(
                "SELECT i.name FROM information_schema.innodb_sys_indexes i JOIN information_schema.innodb_sys_tables t"
                " USING (table_id) WHERE t.name = concat(database(), '/orders')"
            )
            found += set(connection.scalars(trees)) - {one.name for one in indexes}
    return found + [f"{entry.change.name} {entry.state}" for entry in applier(engine).entries(*OPEN)]


def one(outcomes: Sequence[Outcome]) -> Outcome:
    [outcome] = outcomes
    return outcome


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.005)


def asked(engine: sa.Engine, question: str, **values: Any) -> Any:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        result = connection.execute(sa.text(question), values)
        return result.scalars().all() if result.returns_rows else []


@contextmanager
def background(work: Callable[[], Any]) -> Iterator[list[Any]]:
    """The work goes on beside the block, which ends with it; what it answered or raised is in the list."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(work())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield found
    finally:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


@contextmanager
def open_transaction(engine: sa.Engine, statement: str = "SELECT count(*) FROM orders") -> Iterator[sa.Connection]:
    """Somebody's transaction, which has read the table, or done something else."""
    with engine.connect() as connection:
        level = {"mysql": "REPEATABLE READ", "postgresql": "REPEATABLE READ"}.get(engine.dialect.name)
        if level is not None:
            connection = connection.execution_options(isolation_level=level)
        connection.execute(sa.text(statement))
        yield connection
        connection.rollback()


# What is done when nothing goes wrong.


def test_a_new_index_is_made_watched_and_kept(engine: sa.Engine) -> None:
    told: list[Activity] = []
    outcome = one(applier(engine, tell=told.append).apply([wanted()], who="somebody"))
    assert (outcome.step, outcome.entry) == ("watching", 1)
    assert shape(present(engine, "ix_new")) == shape(NEW)
    assert half_built(engine) == []

    before, after = {"p": Timing(100, 1.0, 0.1)}, {"p": Timing(100, 0.2, 0.02)}
    settled = applier(engine, tell=told.append).settle(1, before, after)

    assert settled.step == "kept", settled.text
    assert [(line.who, line.why) for line in told] == [("somebody", "it was advised"), ("dbpilot", settled.text)]
    assert "DROP INDEX" in told[0].undo
    with pytest.raises(RefusedError, match="no change of number 1 is watching"):
        applier(engine).settle(1, before, after)


def test_what_is_there_already_is_not_made_again_whatever_its_name(engine: sa.Engine) -> None:
    changes = [wanted()]
    assert one(applier(engine).apply(changes, who="me")).step == "watching"
    assert one(applier(engine).apply(changes, who="me")).step == "already there"
    assert one(applier(engine).apply([wanted("another_name")], who="me")).step == "already there"
    assert len(applier(engine).entries()) == 1


def test_a_dry_run_changes_nothing_and_says_all(engine: sa.Engine) -> None:
    before, told = catalog(engine), list[Activity]()
    changes = [wanted(), drop(present(engine, "ix_orders_paid"), "nobody uses it")]
    made, gone = applier(engine, tell=told.append).apply(changes, who="me", dry_run=True)
    assert (made.step, gone.step, told) == ("planned", "planned", [])
    assert "CREATE INDEX" in made.ddl[0]
    assert "DROP INDEX" in made.undo
    online = {"mysql": "LOCK=NONE", "postgresql": "CONCURRENTLY", "sqlite": "ix_new"}[engine.dialect.name]
    assert online in made.ddl[0]
    assert ("no trial" in gone.text) == (engine.dialect.name != "mysql")
    assert set(catalog(engine).tables) == set(before.tables)
    assert catalog(engine).tables["orders"].indexes == before.tables["orders"].indexes


def test_a_dry_run_knows_what_is_made_before(engine: sa.Engine) -> None:
    """The only index of a foreign key may go once a wider one is there."""
    wide = wanted("ix_wide", NewIndex("orders", (Key("customer_id"), Key("note"))))
    needless = drop(present(engine, "ix_orders_customer_id"), "ix_wide serves as well", served_by="ix_wide")
    assert one(applier(engine).apply([needless], who="me", dry_run=True)).step == "refused"
    made, gone = applier(engine).apply([wide, needless], who="me", dry_run=True)
    assert (made.step, gone.step) == ("planned", "planned"), gone.text
    assert "it waits for ix_wide, which is to be made before" in gone.text
    assert [done.step for done in applier(engine).apply([wide, needless], who="me")] == ["watching", "watching"]


def test_a_table_that_changed_since_the_plan_is_left_alone(engine: sa.Engine) -> None:
    changes = [wanted()]
    seen = {"orders": fingerprint(catalog(engine).tables["orders"], changes)}
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE orders ADD COLUMN more INTEGER"))
    with pytest.raises(RefusedError, match="ask for advice again"):
        applier(engine).apply(changes, who="me", seen=seen)
    assert index(engine, "ix_new") is None


def test_a_plan_that_was_half_done_goes_on(engine: sa.Engine) -> None:
    """The fingerprint is of the table as it will be: our own steps do not change it."""
    second = wanted("ix_second", NewIndex("orders", (Key("paid"), Key("note"))))
    changes = [wanted(), second, drop(present(engine, "ix_orders_paid"), "nobody uses it")]
    seen = {"orders": fingerprint(catalog(engine).tables["orders"], changes)}
    applier(engine).apply(changes[:1], who="me")
    outcomes = applier(engine).apply(changes, who="me", seen=seen)
    assert [outcome.step for outcome in outcomes] == ["already there", "watching", "watching"]


def test_a_name_that_is_taken_is_refused(engine: sa.Engine) -> None:
    outcome = one(applier(engine).apply([wanted("ix_orders_paid")], who="me"))
    assert outcome.step == "refused"
    assert "is named ix_orders_paid" in outcome.text
    assert present(engine, "ix_orders_paid").columns == ("paid",)


def test_an_index_that_goes_is_on_trial_and_comes_back_the_same(engine: sa.Engine) -> None:
    before = present(engine, "ix_orders_paid")
    outcome = one(applier(engine).apply([drop(before, "nobody uses it")], who="me"))
    hidden = index(engine, "ix_orders_paid")
    assert outcome.step == "watching"
    assert (hidden is not None and hidden.ignored) if engine.dialect.name == "mysql" else hidden is None

    assert one(applier(engine).apply([drop(before, "nobody uses it")], who="me")).step == "already there"

    reverted = applier(engine).revert(1, who="me", why="it is missed")

    assert reverted.step == "reverted"
    assert shape(present(engine, "ix_orders_paid")) == shape(before)
    assert not present(engine, "ix_orders_paid").ignored


def test_a_trial_that_ends_well_drops_the_index_and_one_that_does_not_brings_it_back(engine: sa.Engine) -> None:
    clock = FakeClock(SYSTEM.now())
    before = present(engine, "ix_orders_paid")
    change = drop(before, "nobody uses it", promises=(Promise("p", 1.0),))
    same, slower = Timing(100, 1.0, 0.1), Timing(100, 1.5, 0.1)
    for after, step in ((slower, "reverted"), (same, "kept")):
        number = one(applier(engine, clock=clock).apply([change], who="me")).entry
        assert number is not None
        assert applier(engine, clock=clock).settle(number, {"p": same}, {"p": same}).step == "watching"
        clock.advance(timedelta(days=8).total_seconds())
        assert applier(engine, clock=clock).settle(number, {"p": same}, {"p": after}).step == step
        assert (index(engine, "ix_orders_paid") is not None) == (step == "reverted")
    assert half_built(engine) == []

    [kept] = applier(engine).entries("kept")
    assert "CREATE INDEX" in kept.undo
    assert applier(engine).revert(kept.id, who="me", why="it is missed").step == "reverted"
    assert shape(present(engine, "ix_orders_paid")) == shape(before)


@pytest.mark.parametrize("is_gone", [False, True])
def test_an_index_whose_substitute_is_taken_back_comes_back_first(engine: sa.Engine, is_gone: bool) -> None:
    clock = FakeClock(SYSTEM.now())
    before = present(engine, "ix_orders_paid")
    wide = wanted("ix_wide", NewIndex("orders", (Key("paid"), Key("customer"))))
    changes = [wide, drop(before, "ix_wide does it", served_by="ix_wide")]
    made, gone = applier(engine, clock=clock).apply(changes, who="me")
    assert made.entry is not None
    assert gone.entry is not None
    if is_gone:
        clock.advance(timedelta(days=8).total_seconds())
        assert applier(engine, clock=clock).settle(gone.entry, {}, {}).step == "kept"
        assert index(engine, "ix_orders_paid") is None

    assert applier(engine, clock=clock).revert(made.entry, who="me", why="it was a mistake").step == "reverted"

    assert index(engine, "ix_wide") is None
    assert shape(present(engine, "ix_orders_paid")) == shape(before)
    assert [entry.state for entry in applier(engine).entries()] == ["reverted", "reverted"]
    assert half_built(engine) == []


@pytest.mark.parametrize(
    ("columns", "said"), [(("id",), "PRIMARY KEY"), (("code",), "UNIQUE|apart"), (("customer_id",), "foreign key")]
)
def test_what_something_rests_on_is_never_dropped(engine: sa.Engine, columns: tuple[str, ...], said: str) -> None:
    found = [each for each in catalog(engine).tables["orders"].indexes if each.columns == columns]
    for each in found:
        outcome = one(applier(engine).apply([drop(each, "advised by mistake")], who="me"))
        assert outcome.step == "refused", outcome
        assert any(word in outcome.text for word in said.split("|")), outcome.text
        assert shape(present(engine, each.name)) == shape(each)
    assert found


def test_a_foreign_key_that_comes_during_the_trial_keeps_the_index(mariadb_url: sa.URL) -> None:
    engine, clock = filled(mariadb_url), FakeClock(SYSTEM.now())
    number = one(
        applier(engine, clock=clock).apply([drop(present(engine, "ix_orders_paid"), "unused")], who="me")
    ).entry
    assert number is not None
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO customers SELECT DISTINCT paid + 1 FROM orders"))
        connection.execute(sa.text("UPDATE orders SET paid = paid + 1"))
        connection.execute(sa.text("ALTER TABLE orders ADD FOREIGN KEY (paid) REFERENCES customers (id)"))
    clock.advance(timedelta(days=8).total_seconds())
    outcome = applier(engine, clock=clock).settle(number, {}, {})
    kept = [each for each in catalog(engine).tables["orders"].indexes if each.columns == ("paid",)]
    assert outcome.step in ("reverted", "kept")
    assert any(not each.ignored for each in kept)


def test_two_at_once_are_one(engine: sa.Engine) -> None:
    seen: list[str] = []
    patient = replace(HURRIED, alone_wait_s=DEADLINE_S)
    hasty = replace(HURRIED, alone_wait_s=0)

    def again(_: Any) -> None:
        if seen:
            return
        seen.append("asked")
        with pytest.raises(RefusedError, match="another process changes indexes"):
            applier(engine, manners=hasty).apply([wanted("ix_other")], who="other")

    both = [applier(engine, manners=patient, tell=again) for _ in range(2)]
    with (
        background(lambda: both[0].apply([wanted()], who="a")) as a,
        background(lambda: both[1].apply([wanted()], who="b")) as b,
    ):
        pass
    assert sorted(one(found[0]).step for found in (a, b)) == ["already there", "watching"], (a, b)
    assert seen == ["asked"]
    assert len(applier(engine).entries()) == 1


def test_who_waits_for_another_hears_an_end(engine: sa.Engine) -> None:
    ends = threading.Event()
    waits = applier(engine, manners=replace(HURRIED, alone_wait_s=10 * DEADLINE_S), cancel=ends)

    def wait(_: Any) -> None:
        if not refused:
            refused.append("waits")
            threading.Timer(0.2, ends.set).start()
            with pytest.raises(RefusedError, match="an end was asked for"):
                waits.apply([wanted("ix_other")], who="other")

    refused: list[str] = []
    one(applier(engine, tell=wait).apply([wanted()], who="me"))
    assert refused == ["waits"]
    assert index(engine, "ix_other") is None


def test_an_index_stays_when_the_one_that_is_to_serve_for_it_is_gone(engine: sa.Engine) -> None:
    needless = drop(present(engine, "ix_orders_paid"), "ix_new serves as well", served_by="ix_new")
    assert one(applier(engine).apply([needless], who="me", dry_run=True)).step == "planned", "it waits for that"
    outcome = one(applier(engine).apply([needless], who="me"))
    assert (outcome.step, outcome.text) == ("refused", "ix_new, which is to serve instead, is not there")
    assert not present(engine, "ix_orders_paid").ignored


def test_the_last_attempts_wait_as_long_as_the_tables_readers_are_used_to() -> None:
    manners = Manners()
    assert [manners.wait_s(left, 1.0) for left in (9, 5, 3, 2)] == [0.05, 0.05, 0.2, 0.4]
    assert [manners.wait_s(1, mean_s) for mean_s in (0.0, 1.0, 2.0, 20.0)] == [0.8, 6.0, 12.0, 60.0]
    assert replace(manners, most_lock_wait_s=3).wait_s(0, 20.0) == 3.0


def test_an_index_that_no_plan_uses_goes_at_once(engine: sa.Engine) -> None:
    outcome = one(applier(engine).apply([wanted()], who="me", explains=lambda *_: False))
    assert outcome.step == "reverted"
    assert index(engine, "ix_new") is None
    assert one(applier(engine).apply([wanted()], who="me", explains=lambda *_: True)).step == "watching"


# What is done when something goes wrong. Each of these leaves nothing, and the next attempt succeeds.


def check_that_nothing_is_left_and_the_next_succeeds(engine: sa.Engine) -> None:
    applier(engine).recover()
    assert half_built(engine) == []
    assert one(applier(engine).apply([wanted()], who="me")).step in ("watching", "already there")
    assert shape(present(engine, "ix_new")) == shape(NEW)
    assert half_built(engine) == []


def test_a_lock_that_does_not_come_is_given_up(engine: sa.Engine) -> None:
    """PostgreSQL waits for the transaction's snapshot, MariaDB for its use of the table, SQLite for its writing."""
    block = "UPDATE orders SET paid = 8 WHERE id = 1"
    with open_transaction(engine, block):
        outcome = one(applier(engine).apply([wanted()], who="me"))
        assert outcome.step in ("failed", "building", "not now"), outcome
        assert index(engine, "ix_new") is None or outcome.step == "building"
    check_that_nothing_is_left_and_the_next_succeeds(engine)


def test_an_old_snapshot_that_stays_is_given_up_and_leaves_nothing_invalid(postgresql_url: sa.URL) -> None:
    engine = filled(postgresql_url)
    with open_transaction(engine, "SELECT count(*) FROM customers"):
        outcome = one(applier(engine).apply([wanted()], who="me"))
        assert outcome.step == "failed", outcome
        assert "55P03" in outcome.text
        assert half_built(engine) == []
    check_that_nothing_is_left_and_the_next_succeeds(engine)


@pytest.mark.parametrize("ending", ["connection", "statement"])
@pytest.mark.parametrize("waiting", [True, False], ids=["while it waits", "while it builds"])
def test_a_build_that_is_killed_leaves_nothing(served: sa.Engine, ending: str, waiting: bool) -> None:
    kind = served.dialect.name
    patient = replace(HURRIED, polite_builds=0, patience_s=DEADLINE_S, lock_wait_s=DEADLINE_S)
    kill = (KILL if ending == "connection" else END)[kind]

    def strike() -> None:
        until(lambda: bool(asked(served, BUILDING[kind])[0]))
        for backend in asked(served, BACKENDS[kind]):
            try:
                asked(served, kill, id=backend)
            except DBAPIError:
                continue  # it had ended by itself

    if waiting:
        # What MariaDB waits for is the table; PostgreSQL also waits for who looks at another one.
        look = "SELECT count(*) FROM orders" if kind == "mysql" else "SELECT count(*) FROM customers"
        with (
            open_transaction(served, look),
            background(lambda: applier(served, manners=patient).apply([wanted()], who="me")) as found,
        ):
            strike()
            until(lambda: bool(found) or not asked(served, BUILDING[kind])[0])
    else:
        with background(lambda: applier(served, manners=patient).apply([wanted()], who="me")) as found:
            strike()
    outcome = one(found[0])
    assert outcome.step == "failed" if waiting else outcome.step in ("failed", "watching"), outcome
    check_that_nothing_is_left_and_the_next_succeeds(served)


def test_an_end_that_is_asked_for_is_heard_while_it_builds(served: sa.Engine) -> None:
    cancel = threading.Event()
    outcome = one(applier(served, cancel=cancel, at_progress=lambda _: cancel.set()).apply([wanted()], who="me"))
    assert outcome.step in ("failed", "watching"), outcome
    assert outcome.step == "watching" or "an end was asked for" in outcome.text
    assert one(applier(served, cancel=cancel).apply([wanted("ix_other")], who="me")).step in (
        "not now",
        "already there",
    )
    check_that_nothing_is_left_and_the_next_succeeds(served)


def test_a_deadlock_in_postgresql_leaves_nothing(postgresql_url: sa.URL) -> None:
    engine = filled(postgresql_url)
    manners = replace(HURRIED, builds=1, patience_s=10)
    with open_transaction(engine, "UPDATE orders SET paid = 8 WHERE id = 1") as connection:
        connection.execute(sa.text("SET deadlock_timeout = '60s'"))  # so that the other one is the victim
        with background(lambda: applier(engine, manners=manners).apply([wanted()], who="me")) as found:
            until(lambda: bool(asked(engine, BUILDING["postgresql"])[0]))
            connection.execute(sa.text("LOCK TABLE orders IN SHARE UPDATE EXCLUSIVE MODE"))
            connection.rollback()
    outcome = one(found[0])
    assert outcome.step in ("failed", "watching"), outcome
    check_that_nothing_is_left_and_the_next_succeeds(engine)


def test_a_transaction_that_reads_and_then_writes_meets_no_deadlock(mariadb_url: sa.URL) -> None:
    """Behind a statement that waits for the table, MariaDB would end it; but ours does not wait at first."""
    engine = filled(mariadb_url)
    manners = replace(HURRIED, builds=3, polite_builds=3)
    with open_transaction(engine) as connection:
        with background(lambda: applier(engine, manners=manners).apply([wanted()], who="me")) as found:
            for number in range(1, 50):
                connection.execute(sa.text("SELECT note FROM orders WHERE id = :id"), {"id": number})
                connection.execute(sa.text("UPDATE customers SET id = id WHERE id = :id"), {"id": number})
        connection.execute(sa.text("UPDATE orders SET paid = 9 WHERE id = 1"))
        connection.commit()
    assert one(found[0]).step == "failed"
    check_that_nothing_is_left_and_the_next_succeeds(engine)


@pytest.mark.parametrize("nap_s", [0.4, 3.0])
def test_a_table_that_slow_statements_read_all_the_time_gets_its_index(mariadb_url: sa.URL, nap_s: float) -> None:
    engine, stop = filled(mariadb_url), threading.Event()

    def read() -> None:
        while not stop.is_set():
            asked(engine, "SELECT id, SLEEP(:s) FROM orders LIMIT 1", s=nap_s)

    with ExitStack() as stack:
        readers = [stack.enter_context(background(read)) for _ in range(4)]
        change = replace(wanted(), promises=(Promise("p", 0.1, nap_s),))
        outcome = one(applier(engine, manners=replace(HURRIED, builds=6)).apply([change], who="me"))
        stop.set()
    assert outcome.step == "watching", (outcome, readers)


def test_a_statement_may_take_longer_than_the_application_waits_for_an_answer(mariadb_url: sa.URL) -> None:
    other = filled(mariadb_url)
    engine = sa.create_engine(mariadb_url, connect_args={"read_timeout": 1, "write_timeout": 1})
    patient = replace(HURRIED, polite_builds=0, lock_wait_s=DEADLINE_S)
    sleeping = "SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'SELECT id, SLEEP%'"
    with background(lambda: asked(other, "SELECT id, SLEEP(3) FROM orders LIMIT 1")):
        until(lambda: asked(other, sleeping) == [1])
        outcome = one(applier(own_engine(engine, patient=True), manners=patient).apply([wanted()], who="me"))
    assert outcome.step == "watching", outcome
    with own_engine(engine).connect() as connection, pytest.raises(sa.exc.OperationalError):
        connection.exec_driver_sql("SELECT SLEEP(3)")
    engine.dispose()


class DiesThen(Applier):
    """One whose process ends as soon as a change has failed."""

    def _put_right(self, *_: Any, **__: Any) -> Outcome:
        raise KeyboardInterrupt


def test_whoever_puts_right_what_failed_says_why_it_did(mariadb_url: sa.URL) -> None:
    engine = filled(mariadb_url)
    with open_transaction(engine, "SELECT count(*) FROM orders"), pytest.raises(KeyboardInterrupt):
        DiesThen(engine, SYSTEM, manners=replace(HURRIED, builds=1)).apply([wanted()], who="me")
    outcome = one(applier(engine).recover())
    assert (outcome.step, outcome.text) == ("failed", "OperationalError 1205, somebody else has a lock")


def test_a_quota_of_temporary_space_leaves_nothing(postgresql_url: sa.URL) -> None:
    engine = filled(postgresql_url, MANY)
    name = postgresql_url.database
    asked_for = [("temp_file_limit", "'100kB'"), ("maintenance_work_mem", "'1MB'")]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for setting, value in asked_for:
            connection.execute(sa.text(f'ALTER DATABASE "{name}" SET {setting} = {value}'))
    outcome = one(applier(engine).apply([wanted()], who="me"))
    assert outcome.step == "failed", outcome
    assert "53400" in outcome.text
    assert half_built(engine) == []
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f'ALTER DATABASE "{name}" RESET temp_file_limit'))
    check_that_nothing_is_left_and_the_next_succeeds(engine)


def test_a_file_that_may_not_grow_leaves_nothing(sqlite_url: sa.URL) -> None:
    engine = filled(sqlite_url, 20_000)
    full = sa.create_engine(sqlite_url, poolclass=sa.NullPool)
    bound = iter([True])

    @sa.event.listens_for(full, "connect")
    def limit(connection: Any, _: Any) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        if next(bound, None) is not None or pages:
            connection.execute(f"PRAGMA max_page_count = {pages + 20}")

    outcome = one(applier(full).apply([wanted()], who="me"))
    assert outcome.step == "failed", outcome
    assert "SQLITE_FULL" in outcome.text
    check_that_nothing_is_left_and_the_next_succeeds(engine)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with a few megabytes of room."""
    folder = tmp_path / "small"
    folder.mkdir()
    size = "size=4m,mode=1777"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("only root may make a small disk; the quotas are tried by everybody")
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_uid == os.geteuid() and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o011)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_is_full_leaves_nothing_in_postgresql(postgresql_url: sa.URL, small_disk: Path) -> None:
    engine = filled(postgresql_url, MANY)
    place = small_disk / "space"
    place.mkdir()
    shutil.chown(place, "postgres", "postgres")
    (small_disk / "filler").write_bytes(b"x" * 3_700_000)
    name = f"small_{random.randrange(10**9)}"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f"CREATE TABLESPACE {name} LOCATION '{place}'"))
        connection.execute(sa.text(f'ALTER DATABASE "{postgresql_url.database}" SET default_tablespace = {name}'))
    outcome = one(applier(engine).apply([wanted()], who="me"))
    assert outcome.step == "failed", outcome
    assert "53100" in outcome.text
    assert half_built(engine) == []
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f'ALTER DATABASE "{postgresql_url.database}" RESET default_tablespace'))
    check_that_nothing_is_left_and_the_next_succeeds(engine)
    asked(engine, "DROP TABLE dbpilot_index_ledger")  # it came there too
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        until(lambda: _gone(connection, name))


def _gone(connection: sa.Connection, tablespace: str) -> bool:
    try:
        connection.execute(sa.text(f"DROP TABLESPACE IF EXISTS {tablespace}"))
    except DBAPIError:
        return False
    return True


def test_a_disk_that_is_full_leaves_nothing_in_mariadb(small_disk: Path) -> None:
    with start_mariadb(options={"innodb_tmpdir": str(small_disk), "innodb_sort_buffer_size": "65536"}) as server:
        engine = filled(server.create_database("shop"), MANY)
        (small_disk / "filler").write_bytes(b"x" * 2_000_000)
        outcome = one(applier(engine).apply([wanted()], who="me"))
        assert outcome.step == "failed", outcome
        (small_disk / "filler").unlink()
        assert half_built(engine) == []
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("SET GLOBAL innodb_tmpdir = NULL"))
        check_that_nothing_is_left_and_the_next_succeeds(engine)


@pytest.fixture(params=[start_mariadb, start_postgresql], ids=["mariadb", "postgresql"])
def own_server(request: pytest.FixtureRequest) -> Iterator[SqlServer]:
    with request.param() as server:
        yield server


def test_a_server_that_is_killed_in_the_middle_leaves_nothing(own_server: SqlServer) -> None:
    engine = filled(own_server.create_database("shop"), MANY)
    kind = engine.dialect.name
    with background(lambda: applier(engine).apply([wanted()], who="me")) as found:
        until(lambda: bool(found) or bool(asked(engine, BUILDING[kind])[0]))
        own_server.kill()
        own_server.restart()
    outcome = one(found[0])
    assert outcome.step in ("failed", "building", "watching"), outcome
    applier(engine).recover()
    # MariaDB may forget a line of its own dictionary, which it never reads again; it says "?" for the byte 255.
    assert [name for name in half_built(engine) if not name.startswith("?")] == []
    assert one(applier(engine).apply([wanted()], who="me")).step in ("watching", "already there")
    assert shape(present(engine, "ix_new")) == shape(NEW)


def test_a_drop_that_is_killed_is_finished(postgresql_url: sa.URL) -> None:
    """PostgreSQL's DROP INDEX CONCURRENTLY leaves an index that is not valid either."""
    engine = filled(postgresql_url)
    patient = replace(HURRIED, patience_s=DEADLINE_S)
    change = drop(present(engine, "ix_orders_paid"), "nobody uses it")
    at_work = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'DROP INDEX%'"
    at_work += " AND state = 'active' AND wait_event_type = 'Lock'"
    with (
        open_transaction(engine, "UPDATE orders SET paid = 8 WHERE id = 1") as connection,
        background(lambda: applier(engine, manners=patient).apply([change], who="me")) as found,
    ):
        until(lambda: bool(asked(engine, at_work)) and not present(engine, "ix_orders_paid").valid)
        for backend in asked(engine, at_work):
            asked(engine, KILL["postgresql"], id=backend)
        connection.rollback()
    assert one(found[0]).step == "watching"
    assert index(engine, "ix_orders_paid") is None
    assert half_built(engine) == []


def test_what_a_dead_process_left_is_put_right_before_anything_else(served: sa.Engine) -> None:
    """As it is when a process dies between the build and the switch, or in the midst of the build."""
    with served.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        left = Ledger(connection)
        left.prepare()
        left.enter(wanted(), ["CREATE INDEX ..."], "DROP INDEX ...", "one that died", SYSTEM.now())
        if served.dialect.name == "mysql":
            connection.execute(sa.text("CREATE INDEX ix_new ON orders (customer, note) IGNORED"))
        else:
            connection.execute(sa.text("SET lock_timeout = '200ms'"))
            with open_transaction(served, "SELECT count(*) FROM customers"), pytest.raises(DBAPIError):
                connection.execute(sa.text("CREATE INDEX CONCURRENTLY ix_new ON orders (customer, note)"))
    assert len(half_built(served)) == 2
    outcome = one(applier(served).apply([wanted()], who="me"))
    assert outcome.step == ("already there" if served.dialect.name == "mysql" else "watching")
    assert half_built(served) == []


def test_a_broken_index_of_somebody_else_is_left_alone(postgresql_url: sa.URL) -> None:
    engine = filled(postgresql_url)
    with (
        open_transaction(engine, "SELECT count(*) FROM customers"),
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
    ):
        connection.execute(sa.text("SET lock_timeout = '200ms'"))
        with pytest.raises(DBAPIError):
            connection.execute(sa.text("CREATE INDEX CONCURRENTLY theirs ON orders (note)"))
    outcomes = applier(engine).apply([wanted(), wanted("theirs", NewIndex("orders", (Key("note"),)))], who="me")
    assert [outcome.step for outcome in outcomes] == ["watching", "refused"]
    applier(engine).recover()
    assert not present(engine, "theirs").valid


# What is seen by others, and what is done about bad advice.


def test_who_writes_meanwhile_sees_no_error(served: sa.Engine) -> None:
    stop, errors, written = threading.Event(), list[str](), 0

    def write(first: int) -> int:
        count = 0
        for number in iter(lambda: random.randint(1, MANY), None):
            if stop.is_set():
                return count
            try:
                with served.begin() as connection:
                    values = {"id": MANY + first + count, "customer": number, "note": "new", "code": None, "paid": 1}
                    connection.execute(sa.insert(orders).values(values))
                    change = sa.update(orders).where(orders.c.id == number).values(note=f"changed {count}")
                    connection.execute(change)
            except DBAPIError as error:
                errors.append(type(error.orig).__name__ + str(error.orig))
            count += 1
        return count

    manners = Manners()
    with background(lambda: write(1)) as one_of_them, background(lambda: write(1_000_000)) as other:
        outcome = one(applier(served, manners=manners).apply([wanted()], who="me"))
        gone = one(applier(served, manners=manners).apply([drop(present(served, "ix_orders_paid"), "x")], who="me"))
        stop.set()
    written = one_of_them[0] + other[0]
    assert (outcome.step, gone.step) == ("watching", "watching"), (outcome.text, gone.text)
    assert errors == []
    assert written > 10
    assert half_built(served) == [] or served.dialect.name == "mysql"
    with served.connect() as connection:
        count = sa.select(sa.func.count()).select_from(orders)
        assert connection.scalar(count) == MANY + written


def test_a_transaction_that_is_open_for_long_puts_it_off(served: sa.Engine) -> None:
    strict = replace(HURRIED, limits=Limits(oldest_transaction_s=0.0))
    with open_transaction(served):
        time.sleep(1.1)  # MariaDB counts whole seconds
        outcome = one(applier(served, manners=strict).apply([wanted()], who="me"))
    assert outcome.step == "not now"
    assert "transactions are open" in outcome.text
    assert applier(served).entries() == []
    check_that_nothing_is_left_and_the_next_succeeds(served)


USELESS = "SELECT count(*) FROM orders WHERE note LIKE '%sorted' AND paid < 100"
TRAPS = {
    # The first row in the order of the new index is found at once, it seems; but what is looked for comes last.
    "postgresql": "SELECT note FROM orders WHERE paid = 777 ORDER BY customer, note LIMIT 1",
    "mysql": "SELECT max(code) FROM orders FORCE INDEX (ix_new) WHERE customer > 0",
    # Without statistics of what is in it, an index on a column that is the same everywhere looks selective.
    "sqlite": "SELECT max(code) FROM orders INDEXED BY ix_new WHERE customer > 0",
}


@pytest.mark.parametrize("repeat", range(2))
def test_useless_advice_is_taken_back_every_time(engine: sa.Engine, repeat: int) -> None:
    change = wanted(index=NewIndex("orders", (Key("customer"),)))
    proof = applier(engine).prove(change, {"p": Query(USELESS)}, who="me")
    assert proof.step == "reverted", proof.text
    assert index(engine, "ix_new") is None
    assert half_built(engine) == []


@pytest.mark.parametrize("repeat", range(2))
def test_advice_that_makes_one_statement_slower_is_taken_back_every_time(engine: sa.Engine, repeat: int) -> None:
    """The slower one is timed here, as the application's statements are: once before, once after, on real rows."""
    big, change = filled_more(engine), wanted(ratio=1.0)
    plain = TRAPS[engine.dialect.name].replace("FORCE INDEX (ix_new) ", "").replace("INDEXED BY ix_new ", "")
    before = {"p": timing(seconds(big, plain))}
    number = one(applier(big).apply([change], who="me")).entry
    assert number is not None
    after = {"p": timing(seconds(big, TRAPS[engine.dialect.name]))}
    outcome = applier(big, manners=replace(HURRIED, rule=Rule(min_calls=15))).settle(number, before, after)
    assert outcome.step == "reverted", outcome.text
    assert "times as long" in outcome.text
    assert index(big, "ix_new") is None


def seconds(engine: sa.Engine, statement: str) -> list[float]:
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            for setting in ("enable_seqscan", "enable_bitmapscan", "enable_sort"):
                connection.execute(sa.text(f"SET {setting} = {'off' if index(engine, 'ix_new') else 'on'}"))
        found = []
        for _ in range(45):
            began = time.perf_counter()
            connection.execute(sa.text(statement)).all()
            found.append(time.perf_counter() - began)
        return found[5:]


def test_good_advice_is_kept(engine: sa.Engine) -> None:
    asked_for = {"p": Query("SELECT note FROM orders WHERE customer = 77")}
    big = filled_more(engine)
    proof = applier(big).prove(wanted(), asked_for, who="me")
    assert proof.step == "kept", proof.text
    assert present(engine, "ix_new").valid


def test_an_end_in_the_middle_of_a_proof_takes_the_index_back(engine: sa.Engine) -> None:
    cancel = threading.Event()
    told: list[Activity] = []

    def tell(activity: Activity) -> None:
        told.append(activity)
        cancel.set()  # it is made, and would be timed next

    proof = applier(engine, tell=tell, cancel=cancel).prove(
        wanted(), {"p": Query("SELECT note FROM orders WHERE customer = 77")}, who="me"
    )
    assert proof.step == "reverted", proof.text
    assert "an end was asked for" in proof.text
    assert index(engine, "ix_new") is None
    assert len(told) == 2


def test_on_sqlite_tables_that_were_never_analysed_are(sqlite_url: sa.URL) -> None:
    """Else the new index would have figures and everything beside it would not."""
    engine = filled(sqlite_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE other (id INTEGER PRIMARY KEY, name TEXT)")
        connection.exec_driver_sql("INSERT INTO other VALUES (1, 'a')")
        connection.exec_driver_sql("ANALYZE orders")
        connection.exec_driver_sql("UPDATE sqlite_stat1 SET stat = '7 1' WHERE idx IS NOT NULL")
    outcome = one(applier(engine).apply([wanted()], who="me"))
    assert outcome.step == "watching", outcome.text
    with engine.connect() as connection:
        stat1 = {(table, name): stat for table, name, stat in connection.exec_driver_sql("SELECT * FROM sqlite_stat1")}
    assert ("other", None) in stat1
    assert ("orders", "ix_new") in stat1
    assert {stat for (table, name), stat in stat1.items() if table == "orders" and name not in {"ix_new", None}} == {
        "7 1"
    }, "what the application had found out is as it was"


def filled_more(engine: sa.Engine) -> sa.Engine:
    """With so many rows that an index is worth it."""
    copy = "SELECT id + m, customer + 1000, note, paid, code + m FROM orders, (SELECT max(id) AS m FROM orders) most"
    with engine.begin() as connection:
        for _ in range(4):
            connection.execute(sa.text(f"INSERT INTO orders (id, customer, note, paid, code) {copy}"))
    return engine


def test_an_index_is_built_anew_where_it_is(engine: sa.Engine) -> None:
    dialect = dialect_of(engine)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("CREATE TABLE built_anew (id INTEGER PRIMARY KEY, name VARCHAR(20))").close()
        connection.exec_driver_sql("CREATE INDEX ix_built_anew ON built_anew (name)").close()
        before = dialect.catalog(connection).tables["built_anew"]
        statement = dialect.ddl.rebuild(engine.dialect, named("built_anew", "ix_built_anew"))
        connection.exec_driver_sql(statement).close()
        after = dialect.catalog(connection).tables["built_anew"]
    assert [index.keys for index in after.indexes] == [index.keys for index in before.indexes]
    assert all(index.valid for index in after.indexes)

"""The history of the tables, walked forward and back on every database."""

import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from subprocess import PIPE, Popen, run

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from app import migrate
from app.common.infra.database.config.database_config import Base, make_engine
from app.market.models import Content, DailyPrice, SignalOutcome, Symbol, TechnicalSignal
from app.migrations.steps import RefusedStep
from tests.support import REPOSITORY, environment

AS_FOUND = {
    "contents": {"idx_contents_symbol"},
    "daily_prices": {"idx_daily_prices_symbol"},
    "signal_outcomes": {"idx_signal_outcomes_signal_id"},
    "symbols": set(),
    "technical_signals": {"idx_symbol_triggered_at"},
}
NOON = datetime(2012, 5, 18, 12, tzinfo=UTC)
PRICE = {"symbol": "FB", "date": date(2012, 5, 18), "open": 42, "high": 45, "low": 38, "close": 38, "volume": 1}
NEWS = {
    "symbol": "FB",
    "title": "t",
    "source": "s",
    "published_at": NOON,
    "crawled_at": NOON,
    "content_hash": "0" * 64,
}
SIGNAL = {"symbol": "FB", "signal_type": "golden_cross", "timeframe": "1d", "triggered_at": NOON, "price": 38}


@pytest.fixture
def engine(database_url: sa.URL) -> Iterator[sa.Engine]:
    made = make_engine(database_url)
    yield made
    made.dispose()


def names(engine: sa.Engine) -> dict[str, set[str | None]]:
    """Every table's indexes and unique constraints."""
    inspector = sa.inspect(engine)
    return {
        table: {each["name"] for each in [*inspector.get_indexes(table), *inspector.get_unique_constraints(table)]}
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }


def drift(engine: sa.Engine) -> list[object]:
    """How the tables differ from the models."""
    with engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))


def add(engine: sa.Engine, model: type[Base], *rows: dict[str, object]) -> None:
    with engine.begin() as connection:
        connection.execute(sa.insert(model), list(rows))


def test_the_first_step_makes_the_tables_as_they_were_found(engine: sa.Engine) -> None:
    migrate.upgrade(engine, "0001")
    assert names(engine) == AS_FOUND
    assert migrate.current(engine) == "0001"
    assert migrate.current(engine) != migrate.head()


def test_after_the_last_step_the_tables_are_what_the_models_say(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    assert drift(engine) == []
    assert migrate.current(engine) == migrate.head()


def test_a_step_back_restores_the_tables_as_found(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    migrate.downgrade(engine, "0001")
    assert names(engine) == AS_FOUND
    migrate.downgrade(engine, "base")
    assert names(engine) == {}


def test_every_row_survives_the_way_back_and_forth(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    add(engine, TechnicalSignal, {"id": 7, **SIGNAL})
    add(engine, SignalOutcome, {"signal_id": 7, "evaluated_at": NOON, "success": True})
    migrate.move(engine, "0001")
    migrate.move(engine, "head")
    with engine.connect() as connection:
        found = connection.execute(
            sa.select(TechnicalSignal.symbol, TechnicalSignal.triggered_at, SignalOutcome.success).join(SignalOutcome)
        ).all()
    assert found == [("FB", NOON, True)]


def test_rows_that_repeat_are_named_and_nothing_is_changed(engine: sa.Engine) -> None:
    migrate.upgrade(engine, "0001")
    add(engine, DailyPrice, PRICE, PRICE, PRICE, {**PRICE, "symbol": "IBM"})
    add(engine, Content, NEWS, NEWS)
    with pytest.raises(RefusedStep) as refusal:
        migrate.upgrade(engine)
    assert str(refusal.value).startswith(
        "2 rows of daily_prices repeat the (symbol, date) of another row; "
        "1 rows of contents repeat the (content_hash) of another row. Nothing was changed."
    )
    assert names(engine) == AS_FOUND
    assert migrate.current(engine) == "0001"


def test_a_step_that_died_in_its_middle_is_completed(engine: sa.Engine) -> None:
    migrate.upgrade(engine, "0001")
    with engine.begin() as connection:
        half = sa.Table("technical_signals", sa.MetaData(), autoload_with=connection)
        sa.Index("idx_timeframe", half.c.timeframe).create(connection)
        prices = sa.Table("daily_prices", sa.MetaData(), autoload_with=connection)
        next(iter(prices.indexes)).drop(connection)
    migrate.upgrade(engine)
    assert drift(engine) == []


def test_a_first_step_that_died_in_its_middle_is_completed(engine: sa.Engine) -> None:
    migrate.upgrade(engine, "0001")
    with engine.begin() as connection:
        sa.Table("contents", sa.MetaData(), autoload_with=connection).drop(connection)
        connection.execute(sa.delete(sa.table("alembic_version")))
        prices = sa.Table("daily_prices", sa.MetaData(), autoload_with=connection)
        next(iter(prices.indexes)).drop(connection)
    migrate.upgrade(engine, "0001")
    assert names(engine) == AS_FOUND


def test_tables_of_somebody_else_are_left_alone(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        sa.Table("symbols", sa.MetaData(), sa.Column("ticker", sa.Integer)).create(connection)
    with pytest.raises(RefusedStep, match="a table named symbols with other columns"):
        migrate.upgrade(engine)
    assert set(names(engine)) == {"symbols"}


def test_tables_of_a_newer_program_are_left_alone(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(sa.update(sa.table("alembic_version", sa.column("version_num"))).values(version_num="9999"))
    with pytest.raises(migrate.NewerTables, match="revision 9999"):
        migrate.upgrade(engine)


def test_a_revision_that_does_not_exist_is_refused(engine: sa.Engine) -> None:
    with pytest.raises(migrate.NoSuchRevision, match="there are 0001, 0002"):
        migrate.move(engine, "base")
    assert names(engine) == {}


def test_two_processes_may_migrate_at_once(engine: sa.Engine, tmp_path: Path) -> None:
    url = engine.url.render_as_string(hide_password=False)
    surroundings = environment(tmp_path, DATABASE_URL=url)
    command = [sys.executable, "-m", "app.cli", "migrate"]
    both = [Popen(command, env=surroundings, cwd=REPOSITORY, stderr=PIPE, stdout=PIPE) for _ in range(2)]
    ends = [(process.communicate(timeout=60)[1], process.returncode) for process in both]
    assert ends == [(b"", 0), (b"", 0)]
    assert drift(engine) == []


def test_alembic_itself_finds_the_same_history(sqlite_url: sa.URL, tmp_path: Path) -> None:
    surroundings = environment(tmp_path, DATABASE_URL=str(sqlite_url))
    for command in ("upgrade head", "check"):
        alembic = [sys.executable, "-m", "alembic.config", *command.split()]
        done = run(alembic, env=surroundings, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert "No new upgrade operations detected." in done.stdout


def test_text_is_told_apart_to_the_letter_in_every_language(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    rows = [{"symbol": "aa", "name": "삼성전자 📈"}, {"symbol": "AA", "name": None}, {"symbol": "ÄÄ", "name": None}]
    add(engine, Symbol, *rows)
    with engine.connect() as connection:
        found = connection.execute(sa.select(Symbol.name).where(Symbol.symbol == "aa")).scalars().all()
    assert found == ["삼성전자 📈"]

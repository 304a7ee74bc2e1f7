"""The generator and the databases it fills."""

from collections.abc import Iterator
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, make_url, select

from app import migrate
from app.common.infra.database.config.database_config import Base, make_engine
from app.market.generate import Plan, TablesNotEmpty, generate
from app.market.models import Content, DailyPrice, SignalOutcome, Symbol, TechnicalSignal
from tests.support import environment, run_cli

PLAN = Plan(news=300, signals=45_000, symbols=20, years=1, seed=7)  # signals in two blocks
COUNTS = {
    "symbols": 20,
    "daily_prices": 20 * 252,
    "contents": 300,
    "technical_signals": 45_000,
}
FINGERPRINT = "f327185bda2311355556254ec3f7e0fec614fa4d257bd6765c160ee458a9f9e4"
TABLES = [Base.metadata.tables[each.__tablename__] for each in (Symbol, DailyPrice, Content, TechnicalSignal)]
OUTCOMES = Base.metadata.tables[SignalOutcome.__tablename__]


@pytest.fixture(params=["0001", "head"])
def revision(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def engine(database_url: Any, revision: str) -> Iterator[Engine]:
    made = make_engine(make_url(database_url))
    migrate.upgrade(made, revision)
    yield made
    made.dispose()


@pytest.fixture
def sqlite_engine(sqlite_url: Any) -> Iterator[Engine]:
    made = make_engine(make_url(sqlite_url))
    migrate.upgrade(made)
    yield made
    made.dispose()


def fingerprint(engine: Engine) -> str:
    """The same for two databases with the same rows, whatever they are."""
    digest = sha256()
    with engine.connect() as connection:
        for table in [*TABLES, OUTCOMES]:
            for row in connection.execute(select(table).order_by(*table.primary_key)):
                plain = [value.isoformat() if hasattr(value, "isoformat") else str(value) for value in row]
                digest.update("\x1f".join(plain).encode())
    return digest.hexdigest()


def stop_after(step: str) -> Any:
    def progress(name: str, done: int, total: int | None) -> None:
        if name == step:
            raise KeyboardInterrupt

    return progress


def count(engine: Engine, table: Any) -> int | None:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(table))


def test_every_database_and_revision_gets_the_same_rows(engine):
    counts = generate(engine, PLAN)
    assert counts.items() >= COUNTS.items()
    assert {table.name: count(engine, table) for table in [*TABLES, OUTCOMES]} == counts
    assert fingerprint(engine) == FINGERPRINT


@pytest.mark.parametrize("revision", ["head"])
def test_an_interrupted_run_goes_on_where_it_was(engine):
    for step in ("daily_prices", "technical_signals"):
        with pytest.raises(KeyboardInterrupt):
            generate(engine, PLAN, stop_after(step))
    assert 0 < (count(engine, OUTCOMES) or 0) < PLAN.signals / 2 + PLAN.signals
    assert count(engine, TABLES[3]) != PLAN.signals
    generate(engine, PLAN)
    assert fingerprint(engine) == FINGERPRINT


def test_a_second_run_changes_nothing(sqlite_engine):
    plan = Plan(news=50, signals=100, symbols=3, years=1)
    told: list[str] = []
    assert generate(sqlite_engine, plan) == generate(sqlite_engine, plan, lambda step, done, total: told.append(step))
    assert not told


@pytest.mark.parametrize("other", [{"seed": 8}, {"symbols": 21}, {"years": 2}, {"end": date(2024, 12, 31)}])
def test_another_plan_is_refused_and_changes_nothing(sqlite_engine, other):
    plan = {"news": 50, "signals": 100, "symbols": 20, "years": 1}
    with pytest.raises(KeyboardInterrupt):
        generate(sqlite_engine, Plan(**plan), stop_after("contents"))
    before = fingerprint(sqlite_engine)
    with pytest.raises(TablesNotEmpty, match="use an empty database, or repeat the options"):
        generate(sqlite_engine, Plan(**{**plan, **other}))
    assert fingerprint(sqlite_engine) == before


@pytest.mark.parametrize("name", ["AAPL", "S0001"])
def test_rows_of_somebody_else_are_refused(sqlite_engine, name):
    with sqlite_engine.begin() as connection:
        connection.execute(insert(Symbol).values(symbol=name))
    with pytest.raises(TablesNotEmpty, match="symbols holds 1 rows that this plan did not put there"):
        generate(sqlite_engine, Plan(symbols=3, years=1))
    assert count(sqlite_engine, TABLES[1]) == 0


def test_progress_is_told_up_to_the_end(sqlite_engine):
    told: dict[str, tuple[int, int | None]] = {}
    generate(sqlite_engine, PLAN, lambda step, done, total: told.update({step: (done, total)}))
    assert told == {name: (rows, rows) for name, rows in COUNTS.items()}


def test_a_plan_of_prices_alone_fills_no_other_table(sqlite_engine):
    counts = generate(sqlite_engine, Plan(symbols=3, years=1))
    assert (counts["contents"], counts["technical_signals"], counts["signal_outcomes"]) == (0, 0, 0)
    assert count(sqlite_engine, TABLES[1]) == counts["daily_prices"] > 700


def test_the_command_fills_tables_of_either_revision(tmp_path: Path) -> None:
    plan = ("generate", "--news", "1_000", "--signals", "1_000", "--symbols", "4", "--years", "2")
    printed = []
    for revision in ("0001", "0002"):
        env = environment(tmp_path / revision)
        assert "run `finstage migrate` first" in run_cli(*plan, env=env).stderr
        assert run_cli("migrate", "--revision", revision, env=env).returncode == 0
        printed.append(run_cli(*plan, env=env).stdout)
    assert printed[0] == printed[1]
    assert "contents 1000, technical_signals 1000" in printed[0]

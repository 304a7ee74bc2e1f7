"""Contract: index optimisation."""

import re

import pytest
import sqlalchemy as sa

from app import migrate
from app.common.infra.database.optimization.index_optimizer import (
    analyze_database_indexes,
    generate_index_optimization_sql,
)
from app.market.models import Base
from dbpilot import PilotError
from tests.support import Finstage

TABLES = ["contents", "daily_prices", "signal_outcomes", "symbols", "technical_signals"]

CREATE = re.compile(r"CREATE (?P<unique>UNIQUE )?INDEX \S+ ON (?P<table>\w+) \((?P<columns>[^)]*)\)")


def _shape(table: str) -> set[tuple[tuple[str, ...], bool]]:
    """The columns of every index of the model, and whether it is unique."""
    described = Base.metadata.tables[table]
    indexes = {(tuple(index.columns.keys()), bool(index.unique)) for index in described.indexes}
    constraints = {
        (tuple(constraint.columns.keys()), True)
        for constraint in described.constraints
        if isinstance(constraint, sa.UniqueConstraint)
    }
    return indexes | constraints


def test_technical_signals_carry_the_reports_indexes() -> None:
    assert _shape("technical_signals") == {
        (("symbol", "signal_type", "timeframe", "triggered_at"), True),
        (("symbol", "triggered_at"), False),
        (("signal_type",), False),
        (("timeframe",), False),
        (("triggered_at",), False),
        (("symbol", "signal_type", "timeframe"), False),
    }
    named = {index.name for index in Base.metadata.tables["technical_signals"].indexes}
    assert named == {
        "idx_symbol_triggered_at",
        "idx_signal_type",
        "idx_timeframe",
        "idx_triggered_at",
        "idx_symbol_signal_timeframe",
    }


@pytest.mark.parametrize(
    ("table", "columns", "unique"),
    [
        ("contents", ("symbol", "published_at"), False),
        ("contents", ("content_hash",), True),
        ("contents", ("source", "crawled_at"), False),
        ("technical_signals", ("symbol", "triggered_at"), False),
        ("technical_signals", ("signal_type",), False),
        ("technical_signals", ("symbol", "signal_type", "timeframe"), False),
        ("daily_prices", ("symbol", "date"), True),
    ],
)
def test_the_recommended_patterns_are_in_the_models(table: str, columns: tuple[str, ...], unique: bool) -> None:
    assert (columns, unique) in _shape(table)


def _analysis(finstage: Finstage) -> dict:
    answer = finstage.get("/api/database/indexes/analysis")
    assert answer.status == 200
    return answer.json()


def test_all_tables_are_analysed_and_scored(finstage: Finstage) -> None:
    analysed = {table["name"]: table for table in _analysis(finstage)["tables"]}
    assert set(TABLES) <= set(analysed)
    assert all(table["score"] is None or 0 <= table["score"] <= 100 for table in analysed.values())


def test_missing_duplicate_and_unneeded_indexes_are_told_with_usage_and_size(finstage: Finstage) -> None:
    for table in _analysis(finstage)["tables"]:
        assert {"missing", "duplicate", "unused", "indexes"} <= table.keys()
        assert all({"size_bytes", "uses"} <= index.keys() for index in table["indexes"])


def test_the_single_symbol_index_of_daily_prices_is_said_to_be_a_prefix(finstage: Finstage) -> None:
    sql = finstage.get("/api/database/indexes/optimization-sql?table_name=daily_prices")
    assert sql.status == 200
    assert "prefix" in sql.text
    assert "CREATE INDEX" not in sql.text


def test_the_sql_creates_what_is_missing_and_drops_duplicates_for_review(sqlite_url: sa.URL) -> None:
    """On the tables as they were first found, with one index made twice."""
    engine = sa.create_engine(sqlite_url)
    migrate.upgrade(engine, "0001")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE INDEX idx_twice ON technical_signals (triggered_at)"))
        connection.execute(sa.text("CREATE INDEX idx_once_more ON technical_signals (triggered_at)"))
    sql = generate_index_optimization_sql(engine)
    created = {
        (match["table"], match["columns"], bool(match["unique"])) for match in map(CREATE.match, sql.create) if match
    }
    assert created >= {
        ("contents", "symbol, published_at", False),
        ("contents", "content_hash", True),
        ("contents", "source, crawled_at", False),
        ("daily_prices", "symbol, date", True),
        ("technical_signals", "symbol, signal_type, timeframe", False),
    }
    assert any("idx_twice" in statement or "idx_once_more" in statement for statement in sql.drop)
    with engine.begin() as connection:
        for statement in (*sql.create, *sql.drop):
            connection.execute(sa.text(statement))
    assert generate_index_optimization_sql(engine).create == []
    engine.dispose()


def test_the_functions_answer_for_one_table(sqlite_url: sa.URL) -> None:
    engine = sa.create_engine(sqlite_url)
    migrate.upgrade(engine, "0001")
    assert {table.name for table in analyze_database_indexes(engine).tables} >= set(TABLES)
    only = generate_index_optimization_sql(engine, "contents")
    assert only.create
    assert all(" ON contents " in statement for statement in only.create)
    with pytest.raises(PilotError, match=r"there is no table content; did you mean contents\?"):
        generate_index_optimization_sql(engine, "content")
    engine.dispose()

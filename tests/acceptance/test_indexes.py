"""Contract: index optimisation."""

import pytest
import sqlalchemy as sa

from app.market.models import Base
from tests.support import Finstage

TABLES = ["contents", "daily_prices", "signal_outcomes", "symbols", "technical_signals"]


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


def test_the_sql_creates_what_is_missing_and_drops_duplicates_for_review(finstage: Finstage) -> None:
    answer = finstage.get("/api/database/indexes/optimization-sql").json()
    assert {"create", "drop"} <= answer.keys()

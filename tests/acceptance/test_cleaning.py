"""Contract: cleaning and archiving."""

from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest


def _rules() -> dict[str, Any]:
    cleanup = import_module("app.common.infra.database.maintenance.data_cleanup")
    engine = import_module("app.common.infra.database.config.database_config").engine
    return {rule.table: rule for rule in cleanup.DataCleanupManager(engine).rules if not rule.duplicates}


@pytest.mark.parametrize(
    ("table", "keep"),
    [
        ("contents", timedelta(days=365)),
        ("technical_signals", timedelta(days=180)),
        ("signal_outcomes", timedelta(days=180)),
        ("daily_prices", timedelta(days=5 * 365)),
    ],
)
def test_each_table_is_kept_as_long_as_promised(table: str, keep: timedelta) -> None:
    assert abs(_rules()[table].keep - keep) <= timedelta(days=4), "months and leap years differ by days"


def test_duplicate_contents_go_at_once() -> None:
    cleanup = import_module("app.common.infra.database.maintenance.data_cleanup")
    engine = import_module("app.common.infra.database.config.database_config").engine
    [rule] = [rule for rule in cleanup.DataCleanupManager(engine).rules if rule.duplicates]
    assert (rule.table, rule.duplicates) == ("contents", ("content_hash",))


def test_cleaning_works_in_batches() -> None:
    assert all(rule.batch > 0 for rule in _rules().values())


def test_the_result_is_notified() -> None:
    assert import_module("dbpilot.retention").CleanupFinished


def test_a_cron_string_is_read_and_kept() -> None:
    assert import_module("dbpilot.retention.schedule").next_run("0 2 * * 0")

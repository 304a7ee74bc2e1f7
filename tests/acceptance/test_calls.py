"""Contract: calls that must work verbatim."""

from collections.abc import Mapping

import pytest

from tests.support import run_cli, run_python

IMPORTS = """
import asyncio, json, time
from datetime import UTC, datetime, timedelta
import sqlalchemy as sa
from app.common.infra.database.maintenance.data_cleanup import run_database_cleanup, DataCleanupManager
from app.common.infra.database.config.database_config import engine

def rows(table="contents"):
    with engine.connect() as connection:
        return connection.scalar(sa.text("SELECT count(*) FROM " + table))
"""
GENERATED = ("generate", "--news", "500", "--signals", "500", "--symbols", "5", "--years", "8", "--seed", "7")


@pytest.fixture
def old_data(env: Mapping[str, str]) -> Mapping[str, str]:
    """Years of data, most of it older than any rule keeps."""
    done = run_cli(*GENERATED, env=env)
    assert done.returncode == 0, done.stderr
    return env


def _program(body: str) -> str:
    lines = "\n".join("    " + line for line in body.strip().splitlines())
    return f"{IMPORTS}\nasync def main():\n{lines}\n\nasyncio.run(main())\n"


def test_a_dry_run_says_what_would_go_and_changes_nothing(old_data: Mapping[str, str]) -> None:
    body = """
before = rows()
results = await run_database_cleanup(engine, dry_run=True)
assert results
assert rows() == before
"""
    run_python(_program(body), old_data)


def test_a_run_archives_then_deletes(old_data: Mapping[str, str]) -> None:
    body = """
before = rows()
results = await run_database_cleanup(engine, dry_run=False)
assert results
assert rows() < before
"""
    run_python(_program(body), old_data)


def test_one_table_alone_can_be_cleaned(old_data: Mapping[str, str]) -> None:
    body = """
signals, news = rows("technical_signals"), rows()
results = await run_database_cleanup(engine, table_name="contents", dry_run=False)
assert results
assert rows() < news
assert rows("technical_signals") == signals
"""
    run_python(_program(body), old_data)


def test_the_event_loop_stays_free_while_a_cleanup_runs(old_data: Mapping[str, str]) -> None:
    body = """
pauses = []
async def tick():
    while True:
        started = time.perf_counter()
        await asyncio.sleep(0.001)
        pauses.append(time.perf_counter() - started)
ticking = asyncio.create_task(tick())
began = time.perf_counter()
await run_database_cleanup(engine, dry_run=False)
took = time.perf_counter() - began
ticking.cancel()
assert len(pauses) > 20, len(pauses)
assert max(pauses) < took / 2, "no pause is a large part of the run"
"""
    run_python(_program(body), old_data)


def test_schedule_cleanup_returns_a_handle_at_once(env: Mapping[str, str]) -> None:
    body = """
manager = DataCleanupManager(engine)
handle = await manager.schedule_cleanup("0 2 * * 0")
assert handle.next_run.weekday() == 6 and handle.next_run.hour == 2
assert handle.next_run - datetime.now(UTC) <= timedelta(days=8)
handle.cancel()
"""
    run_python(_program(body), env)


def test_the_pool_is_configured_as_in_the_report() -> None:
    from app.common.infra.database.optimization.connection_pool_manager import (
        ConnectionPoolConfig,
    )

    given = {
        "min_pool_size": 5,
        "max_pool_size": 20,
        "max_overflow": 30,
        "utilization_threshold_high": 0.8,
        "utilization_threshold_low": 0.3,
        "adjustment_interval": 300,
    }
    config = ConnectionPoolConfig(**given)
    assert {name: getattr(config, name) for name in given} == given
    assert config == ConnectionPoolConfig(), "these are the defaults"

"""Contract: cleaning and archiving."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from threading import Thread
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dbpilot.retention.schedule import next_run
from tests.acceptance.test_calls import GENERATED, IMPORTS
from tests.support import run_cli, run_python


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


def test_the_result_is_notified(env: dict[str, str]) -> None:
    """By a real web hook, as ``DBPILOT_ALERTS__URLS`` names it."""
    assert run_cli(*GENERATED, env=env).returncode == 0
    with web_hook() as (url, told):
        run_python(
            IMPORTS + "\nasyncio.run(run_database_cleanup(engine, dry_run=False))",
            {**env, "DBPILOT_ALERTS__URLS": json.dumps([url])},
        )
    [message] = [message for message in told if "cleanup done" in message["title"]]
    for table in ("contents", "technical_signals", "signal_outcomes", "daily_prices"):
        assert f"rows of {table}" in message["message"]


def test_a_cron_string_is_read_and_kept() -> None:
    now = datetime(2025, 1, 1, tzinfo=UTC)
    assert next_run("0 2 * * 0", now=now) == datetime(2025, 1, 5, 2, tzinfo=ZoneInfo("Asia/Seoul"))


@contextmanager
def web_hook() -> Iterator[tuple[str, list[Any]]]:
    """Somewhere to send messages to, and those that came."""
    told: list[Any] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"json://127.0.0.1:{server.server_port}/", told
        finally:
            server.shutdown()
            thread.join()

"""Four workers of one application, one truth: each answers for all of them."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.support import Finstage, environment, run_cli, serving

WORKERS = 4
REQUESTS = 120
DEADLINE_S = 30


def test_every_worker_answers_for_all_of_them(database_url: sa.URL, tmp_path: Path) -> None:
    url = database_url.render_as_string(hide_password=False)
    surroundings = environment(
        tmp_path / "var", DATABASE_URL=url, DBPILOT_HISTORY__URL=url, DBPILOT_QUERIES__WINDOW_S="1"
    )
    assert run_cli("migrate", env=surroundings).returncode == 0
    with serving(surroundings, tmp_path / "log", WORKERS) as server:
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: server.get("/api/market/symbols"), range(REQUESTS)))
        assert {answer.status for answer in answers} == {200}
        _until(lambda: _calls_of_symbols(server) == REQUESTS)
        summaries = [server.get("/api/database/performance-summary").json() for _ in range(40)]
        assert len({summary["watching"]["since"] for summary in summaries}) > 1, "several workers answered"
        assert all(_calls_of_symbols(server) == REQUESTS for _ in range(20))
        assert all(summary["watching"]["dropped"] == 0 for summary in summaries)


def _calls_of_symbols(server: Finstage) -> int:
    lines: list[dict[str, Any]] = server.get("/api/database/query-stats?limit=1000").json()["patterns"]
    return sum(line["calls"] for line in lines if line["tables"] == ["symbols"])


def _until(law: Callable[[], bool]) -> None:
    """It becomes true in time, and stays so for long enough that every worker has written its windows."""
    deadline, held = time.monotonic() + DEADLINE_S, 0
    while held < 20:
        held = held + 1 if law() else 0
        assert time.monotonic() < deadline, "did not become true in time"
        time.sleep(0.1)

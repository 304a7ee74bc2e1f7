"""Contract: endpoints; the report's curl lines work with no header on a developer's machine."""

import pytest

from tests.support import Finstage

NOW = [
    "/api/database/query-stats",
    "/api/database/query-stats?limit=10",
    "/api/database/slow-queries",
    "/api/database/slow-queries?hours=24",
    "/api/database/performance-summary",
]
LATER = [
    "/api/database/connection-pool",
    "/api/database/connection-pool/metrics?hours=24",
    "/api/database/indexes/analysis",
    "/api/database/indexes/optimization-sql",
    "/api/database/indexes/optimization-sql?table_name=contents",
]


@pytest.mark.parametrize("path", [*NOW, *LATER])
def test_the_reports_curl_lines_answer(finstage: Finstage, path: str) -> None:
    answer = finstage.get(path)
    assert (answer.status, answer.content_type) == (200, "application/json")


def test_the_pool_is_optimised_on_demand(finstage: Finstage) -> None:
    assert finstage.post("/api/database/connection-pool/optimize").status == 200


def test_query_stats_show_the_slowest_of_the_statements_that_the_application_ran(finstage: Finstage) -> None:
    assert finstage.get("/api/market/prices/AAPL?limit=5").status == 200
    patterns = finstage.get("/api/database/query-stats?limit=10").json()["patterns"]
    assert 1 <= len(patterns) <= 10
    means = [line["mean_s"] for line in patterns]
    assert means == sorted(means, reverse=True)
    everything = finstage.get("/api/database/query-stats?limit=1000").json()["patterns"]
    assert any(line["tables"] == ["daily_prices"] and line["rows"] >= 0 for line in everything)


def test_the_summary_adds_up_to_what_ran(finstage: Finstage) -> None:
    finstage.get("/api/market/symbols")
    summary = finstage.get("/api/database/performance-summary").json()
    assert summary["database"]["product"] == "SQLite"
    assert summary["queries"]["calls"] >= 1
    assert summary["queries"]["p50_s"] <= summary["queries"]["p95_s"] <= summary["queries"]["p99_s"]
    assert summary["connections"]["created"] >= 1
    assert summary["watching"] == {
        "since": summary["watching"]["since"],
        "dropped": 0,
        "failures": 0,
        "restarts": 0,
        "unwritten_windows": summary["watching"]["unwritten_windows"],
        "lost_windows": 0,
        "history_error": None,
    }


@pytest.mark.parametrize(
    "path",
    ["/api/database/query-stats?limit=none", "/api/database/slow-queries?hours=-1", "/api/market/prices/AAPL?limit=0"],
)
def test_a_wrong_question_is_a_problem_detail(finstage: Finstage, path: str) -> None:
    answer = finstage.get(path)
    assert (answer.status, answer.content_type) == (422, "application/problem+json")
    assert answer.json()["status"] == 422

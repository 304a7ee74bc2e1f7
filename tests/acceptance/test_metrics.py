"""Contract: metrics, dashboards, alerts."""

import re
from pathlib import Path

import pytest

from tests.support import REPOSITORY, Finstage

NAMES = [
    "finstage_db_operation_duration_seconds_sum",
    "finstage_db_operation_duration_seconds_count",
    "finstage_db_operation_duration_seconds_bucket",
    "finstage_db_operations_total",
    "finstage_slow_queries_total",
    "finstage_db_connections_active",
    "finstage_db_connections_max",
]


def _samples(finstage: Finstage, name: str) -> dict[str, float]:
    """Every value of this metric by its labels, as Prometheus reads them."""
    finstage.get("/api/market/symbols")
    answer = finstage.get("/metrics")
    assert answer.status == 200
    return {
        labels: float(value) for labels, value in re.findall(rf"^{name}(\{{.*\}})? (\S+)$", answer.text, re.MULTILINE)
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_reports_metrics_are_exported(finstage: Finstage, name: str) -> None:
    assert _samples(finstage, name)


def test_operations_are_counted_by_operation_table_and_status(finstage: Finstage) -> None:
    samples = _samples(finstage, "finstage_db_operations_total")
    assert samples['{operation="SELECT",status="success",table="symbols"}'] >= 1


def test_slow_queries_can_be_divided_by_operations_as_the_report_does(finstage: Finstage) -> None:
    """PromQL divides only series with equal labels."""
    slow = _samples(finstage, "finstage_slow_queries_total")
    assert slow.keys() <= _samples(finstage, "finstage_db_operations_total").keys()
    assert slow


@pytest.mark.parametrize(
    "query",
    [
        "rate(finstage_db_operation_duration_seconds_sum[5m]) / rate(finstage_db_operation_duration_seconds_count[5m])",
        "rate(finstage_slow_queries_total[5m]) / rate(finstage_db_operations_total[5m]) * 100",
        "finstage_db_connections_active / finstage_db_connections_max * 100",
        "sum by (table) (rate(finstage_db_operations_total[5m]))",
    ],
)
def test_the_reports_queries_are_in_the_grafana_dashboard(query: str) -> None:
    dashboards = [path.read_text() for path in (REPOSITORY / "deploy" / "grafana").glob("*.json")]
    assert any(query in text for text in dashboards)


@pytest.mark.parametrize("alert", ["HighSlowQueryRate", "ConnectionPoolExhaustion"])
def test_the_reports_alert_rules_are_there(alert: str) -> None:
    rules: list[Path] = list((REPOSITORY / "deploy" / "prometheus").glob("*.yml"))
    assert any(f"alert: {alert}" in path.read_text() for path in rules)


@pytest.mark.parametrize("subject", ["health", "query trend", "index score", "pool use"])
def test_a_dashboard_shows_the_four_subjects(finstage: Finstage, subject: str) -> None:
    page = finstage.get("/dashboard")
    assert page.status == 200
    assert subject in page.text.lower()

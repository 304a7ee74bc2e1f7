"""A real Prometheus scrapes a real Finstage: what ``deploy/`` has for it works, and so does what the report showed.

Finstage and Prometheus run once per run of the suite, whichever of its workers comes first: what Prometheus answered
is written down, and each test reads it.
"""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
import sqlalchemy as sa
import yaml
from filelock import FileLock

from dbpilot.testing.server_kinds import program
from dbpilot.testing.servers import SqlServer, run_folder, start_prometheus
from tests.support import REPOSITORY, Finstage, environment, serving

DEPLOY: Final = REPOSITORY / "deploy" / "prometheus"
DASHBOARD: Final = json.loads((REPOSITORY / "deploy" / "grafana" / "finstage-database.json").read_text())
DEADLINE_S: Final = 120
AT_ONCE: Final = "AtOnce"
BUSY: Final = 36
"""One request more than the pool may have connections, and fewer than the server has threads."""
TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"

REPORT: Final = {
    "mean duration": """
        rate(finstage_db_operation_duration_seconds_sum[5m]) /
        rate(finstage_db_operation_duration_seconds_count[5m])""",
    "share of slow queries": """
        rate(finstage_slow_queries_total[5m]) /
        rate(finstage_db_operations_total[5m]) * 100""",
    "use of the pool": "finstage_db_connections_active / finstage_db_connections_max * 100",
    "queries by table": "sum by (table) (rate(finstage_db_operations_total[5m]))",
}
REPORT_RULES: Final = """\
groups:
  - name: database_performance
    rules:
      - alert: HighSlowQueryRate
        expr: rate(finstage_slow_queries_total[5m]) / rate(finstage_db_operations_total[5m]) > 0.1
        for: 5m
        labels:
          severity: warning
        annotations:
          summary: "High slow query rate detected"

      - alert: ConnectionPoolExhaustion
        expr: finstage_db_connections_active / finstage_db_connections_max > 0.9
        for: 2m
        labels:
          severity: critical
        annotations:
          summary: "Database connection pool nearly exhausted"
"""
EXPRESSIONS: Final = sorted({target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())})
MAY_BE_EMPTY: Final = {
    "finstage_db_pool_exhaustion_seconds": "there is none while the use of the pool does not grow",
    "finstage_db_pool_expected_connections": "nothing is expected before a day is known",
    "finstage_db_pool_resizes_total": "no review of the pool comes within the test",
}


class Asked:
    """What was asked of Prometheus."""

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples that an instant query returns."""
        found: list[dict[str, Any]] = self._get("query", query=expression)["result"]
        return found

    def states(self) -> set[tuple[str, str]]:
        """Alerts that are pending or firing, with their states."""
        return {(one["metric"]["alertname"], one["metric"]["alertstate"]) for one in self.query("ALERTS")}

    def targets(self) -> list[tuple[str, str]]:
        """How the last scrape of each target went."""
        return [(one["health"], one["lastError"]) for one in self._get("targets")["activeTargets"]]

    def exemplars(self, expression: str) -> list[dict[str, Any]]:
        now = time.time()
        found: list[dict[str, Any]] = self._get("query_exemplars", query=expression, start=now - 600, end=now + 1)
        return found

    def _get(self, what: str, **parameters: Any) -> Any:
        with urlopen(f"{self._url}/api/v1/{what}?{urlencode(parameters)}", timeout=30) as answer:
            return json.load(answer)["data"]


def until(what: str, law: Callable[[], Any], said: Callable[[], object]) -> Any:
    """What it answers once that is something; else the test fails with what is said instead."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := law()):
        assert time.monotonic() < deadline, f"{what}: not in {DEADLINE_S} s, but {said()}"
        time.sleep(0.2)
    return found


def filled(expression: str) -> str:
    """The dashboard's query as Grafana would send it."""
    return expression.replace("$__rate_interval", "1m").replace("$instance", ".*")


@pytest.fixture(scope="session")
def seen(servers_owner: int, mariadb_server: SqlServer) -> dict[str, Any]:
    """What Prometheus answered, once per run."""
    folder = run_folder(servers_owner)
    note = folder / "prometheus-seen.json"
    with FileLock(folder / "prometheus-seen.lock"):
        if not note.exists():
            home = folder / "prometheus-world"
            home.mkdir(mode=0o755, exist_ok=True)
            note.write_text(json.dumps(_watch(mariadb_server, servers_owner, home)))
        answers: dict[str, Any] = json.loads(note.read_text())
        return answers


def _watch(mariadb: SqlServer, owner: int, home: Path) -> dict[str, Any]:
    """What Prometheus says of a Finstage that has some trouble."""
    name = f"test_{uuid4().hex}"
    url = mariadb.create_database(name)
    shown = url.render_as_string(hide_password=False)
    surroundings = environment(
        home / "var", DATABASE_URL=shown, DBPILOT_QUERIES__WINDOW_S="1", DBPILOT_QUERIES__EXPLAIN="false"
    )
    with serving(surroundings, home / "log") as finstage:
        config = _configured(home, finstage.url)
        with start_prometheus(config, owner=owner) as prometheus:
            answers = _answers(finstage, Asked(str(prometheus.url)), url)
    mariadb.drop_database(name)
    return answers


def _configured(home: Path, finstage: str) -> Path:
    """The configuration of ``deploy/`` for this Finstage, every two seconds, and the report's rules once more, without
    the minutes for which they wait."""
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"] = [{"targets": [finstage.removeprefix("http://")]}]
    del config["alerting"]
    at_once = yaml.safe_load(REPORT_RULES)
    for rule in at_once["groups"][0]["rules"]:
        rule["alert"] += AT_ONCE
        del rule["for"]
    files = {
        "at_once.yml": yaml.safe_dump(at_once),
        "prometheus.yml": yaml.safe_dump({**config, "rule_files": [*config["rule_files"], "at_once.yml"]}),
        **{name: (DEPLOY / name).read_text() for name in config["rule_files"]},
    }
    for file, text in files.items():
        (home / file).write_text(text)
        (home / file).chmod(0o644)  # Prometheus has an account of its own
    return home / "prometheus.yml"


def _answers(finstage: Finstage, asked: Asked, database: sa.URL) -> dict[str, Any]:
    paths = ("symbols", "prices/AAPL", "news/AAPL", "signals", "signals/performance", "analysis/AAPL")
    for path in paths:
        finstage.get(f"/api/market/{path}")
    finstage.post("/api/database/cleanup/run?dry_run=false")
    analysis = "/api/database/indexes/analysis"
    until(
        "the indexes are analysed",
        lambda: finstage.get(analysis).json()["status"] == "ready",
        lambda: finstage.get(analysis).text[:500],
    )
    for metric in ('finstage_db_operations_total{table="symbols"}', "finstage_cleanup_last_success_timestamp_seconds"):
        until(metric, partial(asked.query, metric), asked.targets)
    with ThreadPoolExecutor(BUSY) as threads:
        with _nobody_reads_symbols(database):
            busy = [threads.submit(_get_traced, f"{finstage.url}/api/market/symbols") for _ in range(BUSY)]
            states = _seen_as_true(asked, "ConnectionPoolExhaustion")
        assert {one.result() for one in busy} == {200}
    states |= _seen_as_true(asked, "HighSlowQueryRate")
    buckets = "finstage_db_operation_duration_seconds_bucket"
    exemplars = until("exemplars", partial(asked.exemplars, buckets), asked.targets)
    for path in paths:
        finstage.get(f"/api/market/{path}")
    time.sleep(5)  # two scrapes
    return {
        "states": sorted(states),
        "report": {name: asked.query(expression) for name, expression in REPORT.items()},
        "dashboard": {expression: asked.query(filled(expression)) for expression in EXPRESSIONS},
        "exemplars": exemplars,
    }


def _seen_as_true(asked: Asked, alert: str) -> set[tuple[str, str]]:
    """The states of all alerts once this one waits for its minutes and its copy, which does not wait, fires."""
    wanted = {(alert, "pending"), (f"{alert}{AT_ONCE}", "firing")}

    def found() -> set[tuple[str, str]]:
        states = asked.states()
        return states if wanted <= states else set()

    states: set[tuple[str, str]] = until(alert, found, lambda: (asked.states(), asked.targets()))
    return states


def _get_traced(url: str) -> int:
    request = Request(url, headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
    with urlopen(request, timeout=DEADLINE_S) as answer:
        status: int = answer.status
        return status


@contextmanager
def _nobody_reads_symbols(database: sa.URL) -> Iterator[None]:
    """Whoever asks for symbols waits, and holds a connection meanwhile."""
    engine = sa.create_engine(database, poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text("LOCK TABLES symbols WRITE"))
        yield
        connection.execute(sa.text("UNLOCK TABLES"))


@pytest.mark.parametrize("name", REPORT)
def test_the_reports_queries_return_data(seen: dict[str, Any], name: str) -> None:
    assert seen["report"][name]


def test_the_reports_queries_measure_what_was_done(seen: dict[str, Any]) -> None:
    assert any(one["metric"]["table"] == "symbols" for one in seen["report"]["queries by table"])
    [share] = [
        float(one["value"][1])
        for one in seen["report"]["share of slow queries"]
        if one["metric"]["table"] == "symbols" and one["metric"]["status"] == "success"
    ]
    assert 10 < share <= 100


def test_the_reports_rules_are_shipped_as_they_were_written() -> None:
    assert (DEPLOY / "database_performance.yml").read_text() == REPORT_RULES


@pytest.mark.parametrize("alert", ["HighSlowQueryRate", "ConnectionPoolExhaustion"])
def test_the_reports_alerts_fire(seen: dict[str, Any], alert: str) -> None:
    """As they stand they wait for minutes: Prometheus says "pending"; without the wait it says "firing". That they fire
    after it is among promtool's tests of the rules."""
    assert [alert, "pending"] in seen["states"]
    assert [f"{alert}{AT_ONCE}", "firing"] in seen["states"]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_query_of_the_dashboard_returns_data(seen: dict[str, Any], expression: str) -> None:
    if any(name in expression for name in MAY_BE_EMPTY):
        return
    assert seen["dashboard"][expression]


def test_slow_statements_are_exemplars_with_their_traces(seen: dict[str, Any]) -> None:
    traces = {one["labels"]["trace_id"] for series in seen["exemplars"] for one in series["exemplars"]}
    assert traces == {TRACE}


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=DEPLOY)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_is_shipped_for_prometheus_is_valid() -> None:
    promtool = program("promtool", "prometheus")
    _run(promtool, "check", "config", "prometheus.yml")
    _run(promtool, "check", "config", "--syntax-only", "prometheus-compose.yml")  # its key is made later
    _run(program("amtool", "prometheus-alertmanager"), "check-config", "alertmanager.yml")
    _run(promtool, "test", "rules", *sorted(str(path) for path in (DEPLOY / "tests").glob("*.yml")))


def test_the_containers_prometheus_asks_the_same_elsewhere() -> None:
    here, there = (
        yaml.safe_load((DEPLOY / f"{name}.yml").read_text()) for name in ("prometheus", "prometheus-compose")
    )
    for shipped in (here, there):
        [job], [manager] = shipped["scrape_configs"], shipped["alerting"]["alertmanagers"]
        job.pop("authorization", None)
        del job["static_configs"], manager["static_configs"]
    assert here == there


@pytest.mark.parametrize("rules", ["database_performance", "dbpilot"])
def test_every_alert_is_tested_to_fire_and_to_be_silent(rules: str) -> None:
    shipped = yaml.safe_load((DEPLOY / f"{rules}.yml").read_text())
    files = [yaml.safe_load(path.read_text()) for path in (DEPLOY / "tests").glob("*.yml")]
    tests = [test for file in files if file["rule_files"] == [f"../{rules}.yml"] for test in file["tests"]]
    alerts = {rule["alert"] for group in shipped["groups"] for rule in group["rules"]}
    cases = [case for test in tests for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == alerts
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == alerts


def test_the_dashboards_panels_have_a_place_of_their_own() -> None:
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        mine = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not mine & places, panel["title"]
        places |= mine
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_alerts_and_dashboard_name_metrics_that_there_are() -> None:
    from dbpilot.export.catalogue import METRICS

    suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    known = {f"finstage_{one.name}{suffix}" for one in METRICS.values() for suffix in suffixes[one.type]}
    rules = "".join(path.read_text() for path in DEPLOY.glob("*.yml"))
    named = set(re.findall(r"\bfinstage_[a-z0-9_]+", " ".join([*EXPRESSIONS, rules])))
    assert named - known == set()

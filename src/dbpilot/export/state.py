"""How things are, as metrics: alerts, indexes, cleaning, the history, and the watcher itself."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric

from dbpilot.alerts import RANK
from dbpilot.export.catalogue import Families
from dbpilot.export.statements import OTHERS
from dbpilot.history.store import CLEANUP
from dbpilot.indexing import INDEXES
from dbpilot.pilot import Autopilot
from dbpilot.reports.cleanup import CleanupRun, runs_of
from dbpilot.reports.indexes import IndexReport, TableReport

KINDS: Final = (
    "error_rate",
    "n_plus_one",
    "new_pattern",
    "pool_exhaustion",
    "pool_hold",
    "pool_leak",
    "pool_slow_connect",
    "regression",
    "slow",
)
"""Kinds of alerts, shown as zero while none is open."""
ALERTS_H: Final = 24
MAX_ALERTS: Final = 1000
MAX_TABLES: Final = 100
"""Tables whose indexes are shown one by one, the largest."""
MAX_RUNS: Final = 50
MAX_FAILED: Final = 10_000
"""So many runs are looked through for one that went well."""
DAY_H: Final = 24.0


def alert_families(pilot: Autopilot, families: Families) -> Iterator[Metric]:
    """What is open in any process, and how telling of it goes in this one."""
    report = pilot.alerts(ALERTS_H, MAX_ALERTS)
    open_ = [alert for alert in report.alerts if alert.resolved_at is None]
    severities = Counter(alert.severity for alert in open_)
    kinds = Counter(alert.kind for alert in open_)
    by_severity, by_kind = families.gauge("alerts_open"), families.gauge("alerts_open_of_kind")
    for severity in RANK:
        by_severity.add_metric([severity], severities[severity])
    for kind in sorted({*KINDS, *kinds}):
        by_kind.add_metric([kind], kinds[kind])
    messages, told = families.counter("alert_messages"), report.delivery
    for result, count in (("sent", told.sent), ("failed", told.failed), ("dropped", told.dropped)):
        messages.add_metric(families.labels("alert_messages", result), count)
    yield from (by_severity, by_kind, messages)


def index_families(pilot: Autopilot, families: Families) -> Iterator[Metric]:
    """The last analysis that the history knows of, and by table what this process analysed itself; none is begun."""
    report = pilot.indexing.latest()
    known = pilot.events(INDEXES, DAY_H * pilot.config.history.keep_events_days, 1).events
    score, steps, at = report.score, len(report.steps) if report.as_of is not None else None, report.as_of
    if known and (at is None or known[0].at > at):
        score, steps, at = known[0].body["score"], len(known[0].body["steps"]), known[0].at
    yield families.one_gauge("index_score", score)
    yield families.one_gauge("index_steps_advised", steps)
    yield families.one_gauge("index_analysis_timestamp_seconds", None if at is None else at.timestamp())
    yield from _by_table(report, families)


def _by_table(report: IndexReport, families: Families) -> Iterator[Metric]:
    scores, steps = families.gauge("index_score_of_table"), families.gauge("index_steps")
    for name, score in scores_of(report.tables).items():
        scores.add_metric(families.labels("index_score_of_table", name), score)
    shown = {table.name for table in largest(report.tables)}
    advised = Counter((step.table if step.table in shown else OTHERS, step.act) for step in report.steps)
    for (table, act), count in sorted(advised.items()):
        steps.add_metric(families.labels("index_steps", table, act), count)
    yield from (scores, steps)


def largest(tables: list[TableReport]) -> list[TableReport]:
    """Those that are told apart."""
    return sorted(tables, key=lambda table: table.rows, reverse=True)[:MAX_TABLES]


def scores_of(tables: list[TableReport]) -> dict[str, float]:
    """The scores of tables that have one; of those beyond the largest, the lowest."""
    first = largest(tables)
    found = {table.name: table.score for table in first if table.score is not None}
    names = {table.name for table in first}
    rest = [table.score for table in tables if table.name not in names and table.score is not None]
    return {**found, **({OTHERS: min(rest)} if rest else {})}


def cleanup_families(pilot: Autopilot, families: Families) -> Iterator[Metric]:
    """The last runs of all processes; what is due is not counted for it, because that reads the tables."""
    last, good = _last_runs(pilot)
    yield families.one_gauge("cleanup_running", pilot.cleaning.running() is not None)
    yield families.one_gauge("cleanup_last_run_timestamp_seconds", _ended_s(last))
    yield families.one_gauge("cleanup_last_success_timestamp_seconds", _ended_s(good))
    took_s = None if last is None else (last.ended - last.started).total_seconds()
    yield families.one_gauge("cleanup_last_run_duration_seconds", took_s)
    yield families.one_gauge("cleanup_last_run_failed", None if last is None else not last.ok)
    rows = families.gauge("cleanup_last_run_rows")
    for result in [] if last is None else last.results:
        rows.add_metric([result["rule"]], result["deleted"])
    yield rows


def _last_runs(pilot: Autopilot) -> tuple[CleanupRun | None, CleanupRun | None]:
    """The last one, and the last one that went well; however many failed since, or however long ago it was."""
    kept_h = DAY_H * pilot.config.history.keep_days_days
    for limit in (MAX_RUNS, MAX_FAILED):
        runs = runs_of(pilot.events(CLEANUP, kept_h, limit).events)
        good = next((run for run in runs if run.ok), None)
        if good is not None or len(runs) < limit:
            break
    return next(iter(runs), None), good


def _ended_s(run: CleanupRun | None) -> float | None:
    return None if run is None else run.ended.timestamp()


def watcher_families(pilot: Autopilot, families: Families) -> Iterator[Metric]:
    """How the watcher itself is doing, and its way to the history."""
    watching, identity = pilot.watching(), pilot.identity()
    yield families.one_gauge("history_up", watching.history_error is None)
    yield families.one_gauge("history_unwritten_windows", watching.unwritten_windows)
    yield families.one_counter("history_lost_windows", watching.lost_windows)
    yield families.one_gauge("watcher_up", pilot.is_running)
    yield families.one_counter("watcher_dropped", watching.dropped)
    yield families.one_counter("watcher_failures", watching.failures)
    yield families.one_counter("watcher_restarts", watching.restarts)
    yield families.one_gauge("watcher_start_time_seconds", watching.since.timestamp())
    yield families.one_gauge("watcher_info", 1, identity.product, identity.version or "unknown")

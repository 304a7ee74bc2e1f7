"""What needs a person, in sentences, most urgent first; and what is well."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from dbpilot.alerts import Alert, Severity
from dbpilot.history.store import Pattern
from dbpilot.reports.cleanup import CleanupRun
from dbpilot.reports.indexes import IndexReport
from dbpilot.reports.pool import PoolReport
from dbpilot.reports.summary import Watching
from dbpilot.unsupported import Unsupported
from dbpilot.web.pages import figures
from dbpilot.web.pages.words import Words

Level = Literal["red", "amber", "blue", "green"]
RANK: Final[dict[Level, int]] = {"red": 0, "amber": 1, "blue": 2, "green": 3}
LEVELS: Final[dict[Severity, Level]] = {"CRITICAL": "red", "WARNING": "amber", "INFO": "blue"}
SHOWN_OF_A_STATEMENT: Final = 70
IN_SECONDS: Final = frozenset({"slow", "regression", "pool_hold", "pool_slow_connect"})
IN_SHARES: Final = frozenset({"error_rate", "new_pattern", "pool_exhaustion"})
GOOD_SCORE: Final = 80
LITTLE: Final = 0.001
"""Of a smaller share no figure is told."""
COLUMNS: Final = re.compile(r"SELECT (.+?) (FROM .+)", re.IGNORECASE)
SHOWN_OF_COLUMNS: Final = 24


@dataclass(frozen=True, slots=True)
class Sentence:
    """One thing that somebody should know."""

    level: Level
    text: str
    page: str
    """Where more is told: a page, or a query's id after ``queries/``."""
    since: datetime | None = None
    detail: str | None = None
    """The same in the library's own words."""
    alert: str | None = None
    """The alert's name, where it is one."""
    muted_until: datetime | None = None


def of_alerts(t: Words, alerts: Iterable[Alert], patterns: Mapping[str, Pattern]) -> list[Sentence]:
    """Open alerts."""
    return [of_alert(t, alert, patterns) for alert in alerts if alert.resolved_at is None]


def of_alert(t: Words, alert: Alert, patterns: Mapping[str, Pattern]) -> Sentence:
    """One alert, in the reader's language."""
    key = f"alert.{alert.kind}"
    said = t.said(alert.message)
    if key in t.sentences:
        value, threshold = _figure(alert.kind, alert.value), _figure(alert.kind, alert.threshold)
        said = t(key, query=_short(alert, patterns), value=value, threshold=threshold)
    page = f"queries/{alert.pattern_id}" if alert.pattern_id else "pool"
    level: Level = "blue" if alert.muted_until else LEVELS[alert.severity]
    return Sentence(level, said, page, alert.since, alert.message, alert.name, alert.muted_until)


def of_watching(t: Words, watching: Watching, silence: Unsupported | None, *, running: bool) -> list[Sentence]:
    """How the pilot itself is doing."""
    found = []
    if not running:
        found.append(Sentence("red", t("watching.stopped"), "setup"))
    if silence is not None:
        why = f"{silence.reason}; {silence.fix}"
        found.append(Sentence("red", t("watching.silence"), "setup", None, why))
    if watching.history_error:
        found.append(Sentence("red", t("watching.history_error"), "setup", None, watching.history_error))
    if watching.dropped:
        found.append(Sentence("amber", t("watching.dropped", count=figures.whole(watching.dropped)), "setup"))
    if watching.lost_windows:
        found.append(Sentence("amber", t("watching.lost", count=figures.whole(watching.lost_windows)), "setup"))
    if watching.failures:
        found.append(Sentence("amber", t("watching.failures", count=figures.whole(watching.failures)), "setup"))
    return found


def of_indexes(t: Words, report: IndexReport) -> list[Sentence]:
    """What the index advisor found."""
    create = sum(step.act == "create" for step in report.steps)
    drop = len(report.steps) - create
    found = []
    if report.error:
        found.append(Sentence("amber", t("indexes.failed"), "indexes", report.as_of, report.error))
    if create:
        saves = max((step.saves or 0.0 for step in report.steps if step.act == "create"), default=0.0)
        some = "attention.create_saves" if saves >= LITTLE else "attention.create_little"
        said = some if saves > 0 else "attention.create"
        found.append(Sentence("amber", t(said, count=create, saves=figures.share(saves)), "indexes", report.as_of))
    if drop:
        found.append(Sentence("blue", t("attention.drop", count=drop), "indexes", report.as_of))
    return found


def of_cleanup(t: Words, runs: Sequence[CleanupRun], notices: Sequence[str]) -> list[Sentence]:
    """What became of the last cleaning."""
    found = [Sentence("amber", t("cleanup.notice"), "maintenance", None, notice) for notice in notices]
    if runs and not runs[0].ok:
        problems = [runs[0].error, *(one.get("error") or one.get("stopped") for one in runs[0].results)]
        why = "; ".join(dict.fromkeys(problem for problem in problems if problem))
        found.append(Sentence("amber", t("cleanup.last_not_ok"), "maintenance", runs[0].ended, why))
    return found


def of_pool(t: Words, report: PoolReport, alerts: Iterable[Alert]) -> list[Sentence]:
    """What could be done about the pool; what an alert says already is not said again."""
    told = any(alert.kind.startswith("pool") and alert.resolved_at is None for alert in alerts)
    return [] if told else [Sentence("amber", t("pool.advice"), "pool", None, one) for one in report.recommendations]


def in_order(sentences: Iterable[Sentence]) -> list[Sentence]:
    """The most urgent first."""
    return sorted(sentences, key=lambda one: RANK[one.level])


def what_is_well(
    t: Words, watching: Watching, pool: PoolReport, indexes: IndexReport, runs: Sequence[CleanupRun], *, watched: bool
) -> list[str]:
    """What was looked at and is as it should be."""
    found = []
    if watched and not watching.dropped:
        found.append(t("well.watching"))
    if not watching.history_error and not watching.lost_windows:
        found.append(t("well.history"))
    if pool.exhaustion.state == "far" and not pool.recommendations:
        found.append(t("well.pool", share=figures.share(pool.exhaustion.share)))
    if indexes.score is not None and indexes.score >= GOOD_SCORE:
        found.append(t("well.indexes", score=f"{indexes.score:.0f}"))
    if runs and runs[0].ok:
        found.append(t("well.cleanup", count=figures.whole(runs[0].deleted)))
    return found


def short(text: str, most: int = SHOWN_OF_A_STATEMENT) -> str:
    """The statement on one line, its list of columns and its end cut where it is long: tables and conditions tell more
    than columns do."""
    line = " ".join(text.split())
    parts = COLUMNS.match(line)
    if len(line) > most and parts and len(parts[1]) > SHOWN_OF_COLUMNS:
        line = f"SELECT {parts[1][:SHOWN_OF_COLUMNS].rstrip(', ')}… {parts[2]}"
    return line if len(line) <= most else line[: most - 1] + "…"


def _short(alert: Alert, patterns: Mapping[str, Pattern]) -> str:
    pattern = patterns.get(alert.pattern_id or "")
    return short(pattern.text) if pattern else alert.key


def _figure(kind: str, value: float) -> str:
    if kind in IN_SECONDS:
        return figures.duration(value)
    return figures.share(value) if kind in IN_SHARES else figures.count(value)

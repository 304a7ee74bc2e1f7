"""What deserves somebody's attention: pure rules, and a book that turns what they see into few messages.

A rule says what it sees now (a finding). The book remembers: what is new is raised once, what goes on is counted, what
is over is said to be over, and what comes and goes is not said again for a while.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from dbpilot.config import AlertsConfig, QueriesConfig
from dbpilot.history.store import Event, Pattern, described
from dbpilot.history.tally import Tally
from dbpilot.pool.outlook import Exhaustion, Holder
from dbpilot.pool.resizable import Hold

ALERT: Final = "alert"
"""The kind of the events that the history keeps of alerts."""
SIGHTINGS: Final = "sightings"
"""The kind of the events by which processes tell each other when they last saw what their open alerts are about."""
MUTE: Final = "mute"
"""The kind of the events by which somebody asks not to be told of an alert for a while, or to be told again."""
LONGEST_MUTE: Final = timedelta(days=30)
SAID_EVERY: Final = timedelta(seconds=60)
CALM: Final = 0.5
"""A rate that raised an alert has to fall below this part of its threshold before the alert may end (hysteresis)."""
MAX_OPEN: Final = 200
SHOWN_OF_A_STATEMENT: Final = 160

Severity = Literal["INFO", "WARNING", "CRITICAL"]
RANK: Final[dict[Severity, int]] = {"INFO": 0, "WARNING": 1, "CRITICAL": 2}


@dataclass(frozen=True, slots=True)
class Usual:
    """How a pattern behaved over the last days."""

    calls: int
    p95_s: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule sees at this moment."""

    kind: str
    key: str
    """What it is about; findings of one kind with the same key are one alert."""
    severity: Severity
    message: str
    value: float
    threshold: float
    pattern_id: str | None = None
    holds_only: bool = False
    """It is no reason to raise an alert, but one not to end it."""

    @property
    def name(self) -> str:
        """The alert's identity."""
        return f"{self.kind}:{self.key}"


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that deserves attention, from the first time it was seen until it was over."""

    kind: str
    key: str
    severity: Severity
    message: str
    value: float
    """The worst value that was seen, beside its threshold."""
    threshold: float
    pattern_id: str | None
    since: datetime
    last_seen: datetime
    count: int = 1
    resolved_at: datetime | None = None
    muted_until: datetime | None = None
    """Nobody is told of it before."""

    @property
    def name(self) -> str:
        """The alert's identity."""
        return f"{self.kind}:{self.key}"

    def event(self) -> Event:
        """The alert as the history keeps it; the latest event of a beginning tells its state."""
        body = {
            "kind": self.kind,
            "about": self.key,
            "severity": self.severity,
            "message": self.message,
            "threshold": self.threshold,
            "since_s": self.since.timestamp(),
            "last_seen_s": self.last_seen.timestamp(),
            "count": self.count,
            "resolved_s": self.resolved_at.timestamp() if self.resolved_at else None,
        }
        return Event(ALERT, self.resolved_at or self.last_seen, self.name, self.value, body, self.pattern_id)

    @classmethod
    def from_event(cls, event: Event) -> "Alert":
        """The alert that ``event`` tells of."""
        body: Mapping[str, Any] = event.body

        def instant(name: str) -> datetime:
            return datetime.fromtimestamp(body[name], event.at.tzinfo)

        return cls(
            kind=body["kind"],
            key=body["about"],
            severity=body["severity"],
            message=body["message"],
            value=event.value,
            threshold=body["threshold"],
            pattern_id=event.pattern_id,
            since=instant("since_s"),
            last_seen=instant("last_seen_s"),
            count=body["count"],
            resolved_at=instant("resolved_s") if body["resolved_s"] is not None else None,
        )


@dataclass(frozen=True, slots=True)
class Mute:
    """Nobody is told of an alert until then."""

    alert: str
    """Its name: ``kind:key``."""
    until: datetime
    by: str

    def event(self, at: datetime) -> Event:
        """The mute as the history keeps it; the latest event of an alert counts."""
        return Event(MUTE, at, self.alert, self.until.timestamp(), {"by": self.by})

    @classmethod
    def from_event(cls, event: Event) -> "Mute":
        """The mute that ``event`` tells of."""
        return cls(event.key, datetime.fromtimestamp(event.value, event.at.tzinfo), event.body["by"])


def mutes_in(events: Iterable[Event], now: datetime) -> dict[str, Mute]:
    """The mutes that hold now, by the alert's name."""
    latest: dict[str, Event] = {}
    for event in events:
        known = latest.get(event.key)
        if known is None or event.at > known.at:
            latest[event.key] = event
    mutes = (Mute.from_event(event) for event in latest.values())
    return {mute.alert: mute for mute in mutes if mute.until > now}


@dataclass(frozen=True, slots=True)
class Change:
    """An alert that is new, has become worse, goes on after its cool-down, or is over: what somebody is told."""

    what: Literal["raised", "escalated", "persists", "resolved"]
    alert: Alert
    silent: bool = False
    """It was told of a moment ago, and is only written down."""


@dataclass(frozen=True, slots=True)
class Told:
    """When somebody was last told of an alert, and how severe it was then."""

    at: datetime
    severity: Severity


@dataclass(slots=True)
class AlertBook:
    """Which alerts are open in this process. Its owner calls it from one thread at a time."""

    config: AlertsConfig
    open: dict[str, Alert] = field(default_factory=dict)
    told: dict[str, Told] = field(default_factory=dict)
    loud: set[str] = field(default_factory=set)
    """Open alerts of which somebody was told since they were raised: only those are said to be over."""
    over_limit: int = 0
    """Findings that found no place because too many alerts were open."""

    def see(self, findings: Iterable[Finding], now: datetime) -> list[Change]:
        """What the findings change."""
        changes = []
        for finding in findings:
            if self._is_muted(finding):
                continue
            change = self._seen(finding, now)
            if change is not None:
                changes.append(change)
        return changes

    def settle(self, now: datetime) -> list[Change]:
        """The alerts that have had no cause for long enough are over."""
        calm = timedelta(seconds=self.config.recover_s)
        over = [alert for alert in self.open.values() if now - alert.last_seen >= calm]
        changes = []
        for alert in over:
            del self.open[alert.name]
            changes.append(Change("resolved", replace(alert, resolved_at=now), silent=alert.name not in self.loud))
            self.loud.discard(alert.name)
        self.told = {name: told for name, told in self.told.items() if name in self.open or not self._cooled(told, now)}
        return changes

    def _seen(self, finding: Finding, now: datetime) -> Change | None:
        alert = self.open.get(finding.name)
        if alert is None:
            return None if finding.holds_only else self._raise(finding, now)
        worse = not finding.holds_only and RANK[finding.severity] > RANK[alert.severity]
        worst = max(alert.value, finding.value)
        alert = replace(alert, last_seen=now, count=alert.count + (not finding.holds_only), value=worst)
        if worse:
            alert = replace(alert, severity=finding.severity, message=finding.message, threshold=finding.threshold)
        self.open[alert.name] = alert
        if worse:
            return self._change("escalated", alert, now)
        # What was raised within the cool-down of an earlier time, and did not end with it, is told of after all.
        overdue = alert.name not in self.loud and not finding.holds_only and not self._was_told(alert, now)
        return self._change("persists", alert, now) if overdue else None

    def _raise(self, finding: Finding, now: datetime) -> Change | None:
        if len(self.open) >= MAX_OPEN:
            self.over_limit += 1
            return None
        alert = Alert(
            finding.kind,
            finding.key,
            finding.severity,
            finding.message,
            finding.value,
            finding.threshold,
            finding.pattern_id,
            now,
            now,
        )
        self.open[alert.name] = alert
        return self._change("raised", alert, now)

    def _change(self, what: Literal["raised", "escalated", "persists"], alert: Alert, now: datetime) -> Change:
        silent = self._was_told(alert, now)
        if not silent:
            self.told[alert.name] = Told(now, alert.severity)
            self.loud.add(alert.name)
        return Change(what, alert, silent)

    def _was_told(self, alert: Alert, now: datetime) -> bool:
        """Whether somebody was told of it within the cool-down, and nothing less severe than it is now."""
        told = self.told.get(alert.name)
        return told is not None and not self._cooled(told, now) and RANK[alert.severity] <= RANK[told.severity]

    def _cooled(self, told: Told, now: datetime) -> bool:
        return now - told.at >= timedelta(seconds=self.config.cooldown_s)

    def _is_muted(self, finding: Finding) -> bool:
        return finding.kind in self.config.muted or finding.key in self.config.muted


@dataclass(slots=True)
class Sightings:
    """What one process has told the others of when it saw its open alerts."""

    every: timedelta
    """What goes on is told of so often; what is new, at once."""
    _said: dict[str, tuple[datetime, datetime]] = field(default_factory=dict)
    """When it was said, and which instant, by the alert's name."""

    def news(self, open_: Mapping[str, Alert], now: datetime) -> Event | None:
        """What the others have to be told now, all of it in one event."""
        self._said = {name: said for name, said in self._said.items() if name in open_}
        seen = {name: alert.last_seen for name, alert in open_.items() if not self._knows(alert)}
        if not any(name not in self._said or now - self._said[name][0] >= self.every for name in seen):
            return None
        self._said.update({name: (now, at) for name, at in seen.items()})
        body = {"last_seen_s": {name: at.timestamp() for name, at in seen.items()}}
        return Event(SIGHTINGS, now, "open", float(len(seen)), body)

    def _knows(self, alert: Alert) -> bool:
        said = self._said.get(alert.name)
        return said is not None and said[1] == alert.last_seen


def last_sighting(alert: Alert, sightings: Iterable[Event]) -> datetime:
    """When any process saw, for the last time, what the alert is about."""
    seen_s = [event.body["last_seen_s"].get(alert.name, float("-inf")) for event in sightings]
    latest_s = max(seen_s, default=float("-inf"))
    known = alert.last_seen
    return known if latest_s <= known.timestamp() else datetime.fromtimestamp(latest_s, known.tzinfo)


def slow_finding(event: Event, pattern: Pattern, config: QueriesConfig) -> Finding | None:
    """A slow execution that took as long as the threshold for warnings, or longer."""
    if event.value < config.warning_s:
        return None
    critical = event.value >= config.critical_s
    severity: Severity = "CRITICAL" if critical else "WARNING"
    threshold_s = config.critical_s if critical else config.warning_s
    message = f"A statement took {event.value:.1f} s{_where(event.body)}: {_short(pattern)}"
    return Finding("slow", pattern.id, severity, message, event.value, threshold_s, pattern.id)


def minute_findings(
    tallies: Mapping[str, Tally],
    patterns: Mapping[str, Pattern],
    usual: Mapping[str, Usual] | None,
    config: AlertsConfig,
) -> list[Finding]:
    """What the figures of the last minute show, beside what is ``usual``; None: not known yet."""
    found: list[Finding] = []
    total_s = sum(tally.total_s for tally in tallies.values())
    for id_, tally in tallies.items():
        pattern = described(patterns.get(id_), id_)
        found += _error_rate(pattern, tally, config)
        if usual is not None:
            known = usual.get(id_)
            found += _regression(pattern, tally, known, config) if known else _new(pattern, tally, total_s, config)
    return found


def _error_rate(pattern: Pattern, tally: Tally, config: AlertsConfig) -> list[Finding]:
    rate = tally.failed / tally.calls if tally.calls else 0.0
    if tally.calls < config.min_calls or rate < config.error_rate * CALM:
        return []
    kinds = ", ".join(kind for kind, _ in tally.errors.most_common(3))
    message = f"{tally.failed} of {tally.calls} executions failed within a minute ({kinds}): {_short(pattern)}"
    below = rate < config.error_rate
    return [Finding("error_rate", pattern.id, "WARNING", message, rate, config.error_rate, pattern.id, below)]


def _regression(pattern: Pattern, tally: Tally, usual: Usual, config: AlertsConfig) -> list[Finding]:
    now_s, before_s = tally.histogram.quantile(0.95) or 0.0, usual.p95_s
    if min(tally.calls, usual.calls) < config.min_calls or now_s - before_s < config.regression_min_s * CALM:
        return []
    limit_s = before_s * config.regression_factor
    calm_s = before_s + (limit_s - before_s) * CALM
    if now_s < calm_s:
        return []
    message = f"The p95 is {_time(now_s)}, and was {_time(before_s)} before: {_short(pattern)}"
    below = now_s < limit_s or now_s - before_s < config.regression_min_s
    return [Finding("regression", pattern.id, "WARNING", message, now_s, limit_s, pattern.id, below)]


def _new(pattern: Pattern, tally: Tally, total_s: float, config: AlertsConfig) -> list[Finding]:
    share = tally.total_s / total_s if total_s else 0.0
    if tally.calls < config.min_calls or share < config.new_pattern_share:
        return []
    message = f"A statement that never ran before takes {share:.0%} of the database time: {_short(pattern)}"
    return [Finding("new_pattern", pattern.id, "INFO", message, share, config.new_pattern_share, pattern.id)]


def pool_findings(
    left: Exhaustion, holders: Iterable[Holder], collected: Sequence[Hold] = (), connect_s: float | None = None
) -> list[Finding]:
    """What a look at the pool shows: it is full or will be soon; somebody keeps connections, or lost them; connecting
    takes too long."""
    found = []
    if left.state in ("near", "reached"):
        severity: Severity = "CRITICAL" if left.state == "reached" else "WARNING"
        found.append(Finding("pool_exhaustion", "pool", severity, left.message, left.share or 0.0, 1.0))
    long = [holder for holder in holders if holder.too_long]
    if long:
        where = f" at {long[0].callsite}" if long[0].callsite else ""
        message = f"{len(long)} connections are held for {long[0].held_s:.0f} s and longer{where}"
        found.append(Finding("pool_hold", "pool", "WARNING", message, long[0].held_s, 0.0))
    if collected:
        lines = ", ".join(sorted({hold.where for hold in collected if hold.where}))
        message = f"A connection was never returned; the garbage collector found it. It was asked for at {lines}"
        found.append(Finding("pool_leak", "pool", "WARNING", message, len(collected), 0.0))
    if connect_s is not None:
        message = f"Opening a connection takes {_time(connect_s)}"
        found.append(Finding("pool_slow_connect", "pool", "WARNING", message, connect_s, 0.0))
    return found


def repetition_finding(event: Event, pattern: Pattern, least: int) -> Finding:
    """A SELECT that one request ran over and over."""
    message = f"One request ran the same SELECT {event.value:.0f} times{_where(event.body)}: {_short(pattern)}"
    return Finding("n_plus_one", pattern.id, "INFO", message, event.value, least, pattern.id)


def alerts_of(
    events: Iterable[Event], live: Collection[Alert], sightings: Sequence[Event] = (), gone: datetime | None = None
) -> list[Alert]:
    """The alerts that events of all processes, and this one's open alerts, tell of; the latest first.

    One that no process has seen since ``gone`` ended with the process that saw it.
    """
    latest: dict[tuple[str, datetime], Alert] = {}
    for alert in [*(Alert.from_event(event) for event in events), *live]:
        known = latest.get((alert.name, alert.since))
        if known is None or (alert.resolved_at or alert.last_seen) >= (known.resolved_at or known.last_seen):
            latest[alert.name, alert.since] = alert
    ours = {alert.name for alert in live}
    found = [_ended(alert, sightings, gone) if alert.name not in ours else alert for alert in latest.values()]
    return sorted(found, key=lambda alert: alert.since, reverse=True)


def _ended(alert: Alert, sightings: Sequence[Event], gone: datetime | None) -> Alert:
    if alert.resolved_at is not None or gone is None:
        return alert
    alert = replace(alert, last_seen=last_sighting(alert, sightings))
    return replace(alert, resolved_at=alert.last_seen) if alert.last_seen < gone else alert


def _where(body: Mapping[str, Any]) -> str:
    callsite, route = body.get("callsite"), body.get("route")
    return (f" at {callsite}" if callsite else "") + (f" ({route})" if route else "")


def _short(pattern: Pattern) -> str:
    text = pattern.text
    return text if len(text) <= SHOWN_OF_A_STATEMENT else f"{text[:SHOWN_OF_A_STATEMENT]} ..."


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"

"""How the pools are that a history tells of: a plain value for each database, and the same as JSON."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from dbpilot.alerts import ALERT, SIGHTINGS, Alert, alerts_of
from dbpilot.cli.history import History
from dbpilot.cli.render import written
from dbpilot.config import AlertsConfig
from dbpilot.history.store import POOL, Event
from dbpilot.pool.regulator import ACTIVITY, sample_of
from dbpilot.pool.sample import PoolSample

RECENTLY: Final = timedelta(minutes=10)
"""A process that was silent for longer is not spoken of any more."""
GONE_AFTER_S: Final = 60.0
"""A process that runs says something every ten seconds."""
MAX_SAMPLES: Final = 100_000
MAX_RESIZES: Final = 100
MAX_ALERTS: Final = 2_000
MAX_ALERT_AGE: Final = timedelta(days=14)
"""Who looks for open alerts looks back so far: for as long as events are usually kept."""


@dataclass(frozen=True, slots=True)
class ProcessPool:
    """The pool of one process, as it was seen last."""

    process: str
    seen_at: datetime
    silent_s: float
    timeouts: int
    """Callers who waited in vain in the last minutes."""
    sample: PoolSample | None
    """Over its last ten seconds; None when the process is gone."""

    @property
    def state(self) -> Literal["running", "gone"]:
        """Whether it still says something."""
        return "gone" if self.sample is None else "running"


@dataclass(frozen=True, slots=True)
class Resize:
    """A size that was changed: who did what, why, and how to undo it."""

    at: datetime
    process: str
    who: str
    what: str
    why: str
    undo: str


@dataclass(frozen=True, slots=True)
class DatabasePools:
    """The pools of all processes that use one database."""

    database: str
    processes: list[ProcessPool]
    """Those that are gone come last."""
    last_seen: datetime | None
    """When anybody's pool was seen last, however long ago."""
    resizes: list[Resize]
    """The latest first."""
    alerts: list[Alert]
    """Those that are open."""


def pools_of(
    history: History, wanted: str | None, hours: float, now: datetime, alerts: AlertsConfig
) -> list[DatabasePools]:
    """The pools of every database in the history, or of the ``wanted`` one; resizes of the last hours.

    Raises:
        ConfigError: no database, or more than one, is called so.
        StoreError: the history cannot be read.
    """
    return [_pools(history, database, hours, now, alerts) for database in history.chosen(wanted)]


def _pools(history: History, database: str, hours: float, now: datetime, config: AlertsConfig) -> DatabasePools:
    seen = history.events(database, POOL, now - RECENTLY, MAX_SAMPLES)
    resized = history.events(database, ACTIVITY, now - timedelta(hours=hours), MAX_RESIZES, key="pool")
    return DatabasePools(
        database=database,
        processes=processes_of(seen, now),
        last_seen=seen[0].at if seen else history.last_seen(database, POOL),
        resizes=[_resize(event) for event in resized],
        alerts=_open_alerts(history, database, now, config),
    )


def processes_of(seen: Iterable[Event], now: datetime) -> list[ProcessPool]:
    """The pools of the processes that the events, latest first, tell of; those that are gone come last."""
    by_process: dict[str, list[Event]] = {}
    for event in seen:
        by_process.setdefault(event.key, []).append(event)
    found = [_process(process, events, now) for process, events in by_process.items()]
    return sorted(found, key=lambda one: (one.sample is None, one.process))


def _process(process: str, events: Sequence[Event], now: datetime) -> ProcessPool:
    samples = [sample_of(event) for event in events]
    silent_s = max(0.0, (now - samples[0].at).total_seconds())
    timeouts = sum(sample.timeouts for sample in samples)
    return ProcessPool(process, samples[0].at, silent_s, timeouts, None if silent_s > GONE_AFTER_S else samples[0])


def _resize(event: Event) -> Resize:
    said = {name: str(event.body.get(name, "")) for name in ("process", "who", "what", "why", "undo")}
    return Resize(event.at, **said)


def _open_alerts(history: History, database: str, now: datetime, config: AlertsConfig) -> list[Alert]:
    gone = now - timedelta(seconds=2 * max(60.0, config.recover_s))
    raised = history.events(database, ALERT, now - MAX_ALERT_AGE, MAX_ALERTS, about="pool_")
    sightings = history.events(database, SIGHTINGS, gone, MAX_ALERTS)
    return [alert for alert in alerts_of(raised, (), sightings, gone) if alert.resolved_at is None]


def as_document(where: str, now: datetime, found: Iterable[DatabasePools]) -> dict[str, Any]:
    """The same as one JSON document; durations in seconds, and null where something is not known."""
    return {"version": 1, "history": where, "at": written(now), "databases": [_database(one) for one in found]}


def _database(pools: DatabasePools) -> dict[str, Any]:
    return {
        "database": pools.database,
        "last_seen": written(pools.last_seen) if pools.last_seen else None,
        "processes": [_process_document(process) for process in pools.processes],
        "resizes": [_resize_document(resize) for resize in pools.resizes],
        "alerts": [_alert_document(alert) for alert in pools.alerts],
    }


def _process_document(process: ProcessPool) -> dict[str, Any]:
    sample = process.sample
    return {
        "process": process.process,
        "state": process.state,
        "seen_at": written(process.seen_at),
        "silent_s": process.silent_s,
        "size": sample and sample.size,
        "limit": sample and sample.limit,
        "in_use": sample and sample.in_use,
        "most_in_use": sample and sample.most_in_use,
        "idle": sample and sample.idle,
        "waiting": sample and sample.waiting,
        "wait_p95_s": wait_p95_s(sample) if sample else None,
        "hold_s": sample and sample.hold_s,
        "utilization": utilization(sample) if sample else None,
        "timeouts": process.timeouts,
    }


def _resize_document(resize: Resize) -> dict[str, Any]:
    return {
        "at": written(resize.at),
        "process": resize.process,
        "who": resize.who,
        "what": resize.what,
        "why": resize.why,
        "undo": resize.undo,
    }


def _alert_document(alert: Alert) -> dict[str, Any]:
    return {
        "kind": alert.kind,
        "severity": alert.severity,
        "message": alert.message,
        "since": written(alert.since),
        "last_seen": written(alert.last_seen),
        "count": alert.count,
    }


def wait_p95_s(sample: PoolSample) -> float | None:
    """How long all but one in twenty waited for their connection; None where none was asked for."""
    return sample.longest_p95_s if sample.checkouts else None


def utilization(sample: PoolSample) -> float | None:
    """The share of the size that was in use; None for a pool without a size."""
    return sample.in_use / sample.size if sample.size else None

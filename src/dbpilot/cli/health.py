"""``dbpilot health``: one line for each database, and an exit code, for cron and for who comes by."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

import typer

from dbpilot.alerts import ALERT, SIGHTINGS, Alert, alerts_of
from dbpilot.cli.cleanup_parts import document
from dbpilot.cli.desk import Host
from dbpilot.cli.exit_code import ExitCode
from dbpilot.cli.history import History
from dbpilot.cli.hosted import without
from dbpilot.cli.options import AsJson, Database, HistoryUrl
from dbpilot.cli.render import ago, count, duration, print_json, say, share
from dbpilot.clock import SYSTEM
from dbpilot.config import AlertsConfig, PilotConfig
from dbpilot.history.sql_store import place
from dbpilot.history.store import POOL, POOL_MINUTE
from dbpilot.reports.queries import QueryTotals, query_totals

NAMED: Final = ("history", "database")
"""Options of which a host knows the answer."""
SILENT: Final = timedelta(minutes=5)
"""A pilot that runs writes at least once a minute."""
ALERTS_READ: Final = 2000
ALERTS_SINCE: Final = timedelta(days=14)

State = Literal["ok", "amber", "red"]


@dataclass(frozen=True, slots=True)
class Pulse:
    """How one database is doing."""

    database: str
    state: State
    reasons: tuple[str, ...]
    """Why it is not well."""
    totals: QueryTotals
    last_seen: datetime | None
    """When a pilot wrote of it last."""
    alerts: tuple[Alert, ...]
    """Those that are open."""


def make_health(host: Callable[[], Host] | None = None) -> Callable[..., None]:
    """The command; that of a host, which is asked for when it is run, is about its database."""

    def health(
        history: HistoryUrl = None,
        database: Database = None,
        hours: Annotated[float, typer.Option(min=0.01, max=24 * 366, help="How far back to look.")] = 1,
        as_json: AsJson = False,
    ) -> None:
        """Say in one line for each database whether it is well. Ends with 0 when all are, with 3 when one is not, with
        4 when the history cannot be read.

        Example: dbpilot health || mail -s "database" you@example.com
        """
        at = None if host is None else host()
        config = PilotConfig.from_env() if at is None else at.config
        known = History(history or config.history.url.get_secret_value())
        now = SYSTEM.now()
        chosen = known.chosen(database) if at is None else known.named(place(at.engine.url))
        found = [_pulse(known, one, hours, now, config.alerts) for one in chosen]
        if as_json:
            print_json(document(at=now, hours=hours, databases=found))
        else:
            for one in found:
                typer.echo(_line(one, hours, now))
        if not found:
            say("the history knows no database yet")
        is_well = bool(found) and all(one.state == "ok" for one in found)
        raise typer.Exit(ExitCode.OK if is_well else ExitCode.FINDINGS)

    return health if host is None else without(health, NAMED)


def _pulse(history: History, database: str, hours: float, now: datetime, config: AlertsConfig) -> Pulse:
    seen = [at for kind in (POOL, POOL_MINUTE) if (at := history.last_seen(database, kind)) is not None]
    events, sightings = (history.events(database, kind, now - ALERTS_SINCE, ALERTS_READ) for kind in (ALERT, SIGHTINGS))
    gone = now - timedelta(seconds=2 * max(60.0, config.recover_s))
    alerts = tuple(one for one in alerts_of(events, (), sightings, gone) if one.resolved_at is None)
    return judged(
        database,
        query_totals(history.tallies(database, hours, now).values()),
        max(seen, default=None),
        alerts,
        now,
        config,
    )


def judged(
    database: str,
    totals: QueryTotals,
    last_seen: datetime | None,
    alerts: tuple[Alert, ...],
    now: datetime,
    config: AlertsConfig,
) -> Pulse:
    """Whether that is well: no alert is open, few statements fail, and a pilot still writes."""
    red, amber = list(_red(totals, alerts, config)), list(_amber(last_seen, alerts, now))
    state: State = "red" if red else "amber" if amber else "ok"
    return Pulse(database, state, (*red, *amber), totals, last_seen, alerts)


def _red(totals: QueryTotals, alerts: Sequence[Alert], config: AlertsConfig) -> Iterator[str]:
    yield from (alert.message for alert in alerts if alert.severity == "CRITICAL")
    if totals.calls >= config.min_calls and totals.errors >= config.error_rate * totals.calls:
        yield f"{share(totals.errors / totals.calls)} of all statements fail"


def _amber(last_seen: datetime | None, alerts: Sequence[Alert], now: datetime) -> Iterator[str]:
    yield from (alert.message for alert in alerts if alert.severity == "WARNING")
    if last_seen is None:
        yield "no pilot has told how its pool is"
    elif now - last_seen > SILENT:
        yield f"no pilot has written since {ago((now - last_seen).total_seconds())}"


def _line(one: Pulse, hours: float, now: datetime) -> str:
    totals = one.totals
    seen = "" if one.last_seen is None else f"; seen {ago((now - one.last_seen).total_seconds())}"
    figures = (
        f"{count(totals.calls)} statements in {hours:g} h, p95 {duration(totals.p95_s)}, "
        f"{count(totals.errors)} failed, {count(totals.slow)} slow{seen}"
    )
    return f"{one.state:5}  {one.database}: {figures}" + "".join(f"; {reason}" for reason in one.reasons)

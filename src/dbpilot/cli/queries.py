"""``dbpilot queries``: what ran, how often and how long, as pilots remember it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from dbpilot.cli.cleanup_parts import document
from dbpilot.cli.desk import Host
from dbpilot.cli.history import History
from dbpilot.cli.hosted import without
from dbpilot.cli.options import AsJson, Database, HistoryUrl
from dbpilot.cli.render import Column, Part, Row, Table, count, duration, moment, print_json, say, share, show
from dbpilot.clock import SYSTEM
from dbpilot.config import PilotConfig
from dbpilot.errors import NotThereError
from dbpilot.history.sql_store import place
from dbpilot.history.store import Event, described
from dbpilot.history.tally import Tally
from dbpilot.queries.advice import advice_on
from dbpilot.queries.plans import PLAN
from dbpilot.queries.receipts import N_PLUS_ONE
from dbpilot.queries.slow import SLOW
from dbpilot.reports.queries import QueryStats, query_stats, query_totals
from dbpilot.reports.slow import SlowQueryRecord, slow_record

Hours = Annotated[float, typer.Option(min=0.01, max=24 * 366, help="How far back to look.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")]
PLANS_LOOKED_AT: Final = 500
NAMED: Final = ("history", "database")
"""Options of which a host knows the answer."""
SHOWN_TEXT: Final = 100
"""Characters of a statement in a table."""


class Order(StrEnum):
    """What ranks patterns."""

    TOTAL = "total"
    MEAN = "mean"
    P95 = "p95"
    MAX = "max"
    CALLS = "calls"
    ERRORS = "errors"
    ROWS = "rows"


FIGURES: Final[Mapping[Order, Callable[[Tally], float]]] = {
    Order.TOTAL: lambda tally: tally.total_s,
    Order.MEAN: lambda tally: tally.mean_s,
    Order.P95: lambda tally: tally.histogram.quantile(0.95) or 0.0,
    Order.MAX: lambda tally: tally.max_s,
    Order.CALLS: lambda tally: tally.calls,
    Order.ERRORS: lambda tally: tally.failed,
    Order.ROWS: lambda tally: tally.rows,
}


@dataclass(frozen=True, slots=True)
class Look:
    """One look at what is remembered of one database."""

    history: History
    database: str
    now: datetime
    hours: float

    @property
    def since(self) -> datetime:
        return self.now - timedelta(hours=self.hours)

    def tallies(self) -> dict[str, Tally]:
        """What was counted, by pattern."""
        return self.history.tallies(self.database, self.hours, self.now)

    def events(self, kind: str, limit: int, key: str | None = None) -> list[Event]:
        """What happened, the latest first."""
        return self.history.events(self.database, kind, self.since, limit, key=key)

    def stats(self, tallies: Mapping[str, Tally], ids: Sequence[str]) -> list[QueryStats]:
        """The figures of these patterns, with what to do about them."""
        patterns = self.history.patterns(ids)
        repeated, plans = (self._bodies(kind) for kind in (N_PLUS_ONE, PLAN))
        known = [described(patterns.get(id_), id_) for id_ in ids]
        return [
            query_stats(one, tally, advice_on(one, tally, repeated, plans, on_sqlite=self._on_sqlite))
            for one, tally in ((one, tallies[one.id]) for one in known)
        ]

    @property
    def _on_sqlite(self) -> bool:
        """The place of a file whose path is very long has lost its beginning; that of a server has not."""
        return "://" not in self.database or self.database.startswith("sqlite:")

    def _bodies(self, kind: str) -> dict[str, Mapping[str, Any]]:
        return {event.key: event.body for event in reversed(self.events(kind, PLANS_LOOKED_AT))}


def make_queries(host: Callable[[], Host] | None = None) -> typer.Typer:
    """The commands; those of a host, which is asked for when one is run, are about its database."""
    commands = _Commands(host)
    app = typer.Typer(no_args_is_help=True, help="Statements: what runs, how often, how long, from which line of code.")
    for command in (commands.top, commands.slow, commands.show):
        app.command()(command if host is None else without(command, NAMED))
    return app


class _Commands:
    """One method for each command."""

    def __init__(self, host: Callable[[], Host] | None) -> None:
        self._make_host = host

    @cached_property
    def _host(self) -> Host | None:
        return None if self._make_host is None else self._make_host()

    @cached_property
    def _config(self) -> PilotConfig:
        return PilotConfig.from_env() if self._host is None else self._host.config

    def _look(self, history: str | None, database: str | None, hours: float) -> Look:
        """The database that is meant; where nobody says which, the only one that there is.

        Raises:
            ConfigError: no database, or more than one, is called so.
            StoreError: the history cannot be read.
        """
        known = History(history or self._config.history.url.get_secret_value())
        wanted = (database or "") if self._host is None else place(self._host.engine.url)
        return Look(known, known.chosen_counted(wanted), SYSTEM.now(), hours)

    def top(
        self,
        history: HistoryUrl = None,
        database: Database = None,
        hours: Hours = 1,
        limit: Limit = 20,
        order: Annotated[Order, typer.Option(help="What ranks them, highest first.")] = Order.TOTAL,
        as_json: AsJson = False,
    ) -> None:
        """Show the patterns of the last hours, those first that took most time.

        Example: dbpilot queries top --hours 24 --order p95
        """
        at = self._look(history, database, hours)
        tallies = at.tallies()
        ranked = sorted(tallies, key=lambda id_: (FIGURES[order](tallies[id_]), tallies[id_].calls), reverse=True)
        found = at.stats(tallies, ranked[:limit])
        if as_json:
            totals = query_totals(tallies.values())
            print_json(document(database=at.database, since=at.since, totals=totals, queries=found))
            return
        all_s = sum(tally.total_s for tally in tallies.values())
        show([_top_table(found, all_s)] if found else [], Console())
        say(f"{len(tallies)} patterns in {hours:g} h of {at.database}" if found else "nothing ran in that time")

    def slow(
        self,
        history: HistoryUrl = None,
        database: Database = None,
        hours: Hours = 24,
        limit: Limit = 20,
        as_json: AsJson = False,
    ) -> None:
        """Show the slow executions of the last hours, the latest first.

        Example: dbpilot queries slow --hours 2
        """
        at = self._look(history, database, hours)
        events = at.events(SLOW, limit)
        patterns = at.history.patterns({event.key for event in events})
        found = [slow_record(event, patterns.get(event.key), self._config.queries, None) for event in events]
        if as_json:
            print_json(document(database=at.database, since=at.since, queries=found))
            return
        show([_slow_table(found)] if found else [], Console())
        say(f"slow in the last {hours:g} h: {len(found)}{' or more' if len(found) == limit else ''}")

    def show(
        self,
        pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="The pattern's id, or how it begins.")],
        history: HistoryUrl = None,
        database: Database = None,
        hours: Hours = 24,
        as_json: AsJson = False,
    ) -> None:
        """Show all that is known of one pattern: figures, lines of code, plan, and what to do.

        Example: dbpilot queries show f71d36ea
        """
        at = self._look(history, database, hours)
        tallies = at.tallies()
        id_ = _meant(pattern, tallies, "dbpilot" if self._host is None else self._host.program)
        [found] = at.stats(tallies, [id_])
        plan = next(iter(at.events(PLAN, 1, key=id_)), None)
        if as_json:
            print_json(document(database=at.database, since=at.since, query=found, plan=plan.body if plan else None))
        else:
            show(_one_parts(found, plan), Console())


def _meant(pattern: str, tallies: Mapping[str, Tally], program: str) -> str:
    found = [id_ for id_ in tallies if id_.startswith(pattern)]
    if len(found) != 1:
        how_many = "several patterns begin" if found else "no pattern of that time begins"
        raise NotThereError(f"{how_many} with '{pattern}'; `{program} queries top --json` has them")
    return found[0]


def _top_table(found: Sequence[QueryStats], all_s: float) -> Table:
    figures = ("share", "calls", "errors", "mean", "p95", "max", "rows")
    columns = [Column("pattern"), *(Column(name, figures=True) for name in figures), Column("from"), Column("query")]
    return Table(columns, [Row(_top_cells(one, all_s), "red" if one.errors else "") for one in found])


def _top_cells(one: QueryStats, all_s: float) -> tuple[str, ...]:
    durations = map(duration, (one.mean_s, one.p95_s, one.max_s))
    where = one.sources[0].callsite if one.sources else "-"
    part = share(one.total_s / all_s if all_s else None)
    return (one.pattern_id[:8], part, count(one.calls), count(one.errors), *durations, count(one.rows), where,
            _short(one.query))  # fmt: skip


def _slow_table(found: Sequence[SlowQueryRecord]) -> Table:
    columns = [Column("at (UTC)"), Column("took", figures=True), Column("severity"), Column("rows", figures=True)]
    columns += [Column(name) for name in ("error", "from", "route", "query")]
    return Table(columns, [Row(_slow_cells(one), "red" if one.severity == "critical" else "") for one in found])


def _slow_cells(one: SlowQueryRecord) -> tuple[str, ...]:
    words = (one.error or "-", one.callsite or "-", one.route or "-", _short(one.query))
    return (moment(one.at), duration(one.duration_s), one.severity, count(one.rows), *words)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_TEXT else f"{text[: SHOWN_TEXT - 3]}..."


def _one_parts(one: QueryStats, plan: Event | None) -> Iterator[Part]:
    yield one.query
    figures = {"calls": count(one.calls), "errors": count(one.errors), "rows": count(one.rows)}
    spans = {"mean": one.mean_s, "p50": one.p50_s, "p95": one.p95_s, "p99": one.p99_s, "max": one.max_s}
    cells = {**figures, **{name: duration(value) for name, value in spans.items()}, "last (UTC)": moment(one.last_seen)}
    yield Table([Column(name, figures=True) for name in cells], [Row(tuple(cells.values()))])
    for source in one.sources:
        route = f", {source.route}" if source.route else ""
        yield f"from {source.callsite} in {source.function}{route}"
    yield from ([] if plan is None else plan.body["text"].splitlines())
    yield from one.advice

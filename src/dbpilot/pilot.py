"""What is wired to what: the only place where the parts meet."""

import atexit
import logging
import os
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final, Literal, Self, TypeVar

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from dbpilot.alerting import Alerting, AlertReport, Notifier, NotifierError
from dbpilot.alerts import ALERT, LONGEST_MUTE, MUTE, SIGHTINGS, Finding, Mute, alerts_of, mutes_in
from dbpilot.cleaning import Cleaning
from dbpilot.clock import SYSTEM, Clock
from dbpilot.config import PilotConfig
from dbpilot.dialects import dialect_of
from dbpilot.dialects.base import Identity, ServerStatement
from dbpilot.dialects.checkup import Ailment
from dbpilot.dialects.connections import OwnConnections
from dbpilot.dialects.plan import Plan
from dbpilot.errors import NotThereError, PilotError
from dbpilot.health import Checkup, checkup, history_ailments
from dbpilot.history.historian import Historian
from dbpilot.history.leases import Leases, MemoryLeases, SqlLeases, server_of
from dbpilot.history.sql_store import SqlStore, place
from dbpilot.history.store import INDEX_SEEN, POOL_MINUTE, Batch, Event, Pattern, Store, described
from dbpilot.history.tally import Tally
from dbpilot.indexes.patterns import Recommended
from dbpilot.indexing import Asks, Indexing
from dbpilot.notifiers import AppriseNotifier
from dbpilot.pool.sampler import PoolReading, PoolTimes
from dbpilot.pooling import Pooling
from dbpilot.queries.advice import advice_on
from dbpilot.queries.intake import Intake
from dbpilot.queries.listener import Listener
from dbpilot.queries.pace import Pace
from dbpilot.queries.plans import PLAN, PlanDesk
from dbpilot.queries.receipts import N_PLUS_ONE, RECEIPT
from dbpilot.queries.recorder import Recorder
from dbpilot.queries.server_side import Counted, ServerSide
from dbpilot.queries.slow import SLOW
from dbpilot.queries.windows import SeriesByKey
from dbpilot.queries.worker import Worker
from dbpilot.recall import Events, Recall, Tallies
from dbpilot.reports.activity import ACTIVITY, ActivityReport, activity_of
from dbpilot.reports.cleanup import CleanupReport
from dbpilot.reports.indexes import IndexReport, index_summary
from dbpilot.reports.pool import PoolHistory, PoolReport, PoolReview
from dbpilot.reports.queries import QueryStats, QueryStatsReport, query_stats, query_totals
from dbpilot.reports.ranking import p95_of, ranked_by, ranked_by_p95
from dbpilot.reports.requests import Receipt, RepetitionReport, RequestReport, receipt_of, repetition_of
from dbpilot.reports.search import (
    EVERY_QUERY,
    QueryFilter,
    QueryList,
    QueryReport,
    reads_a_whole_table,
    seen_plans,
    wanted_ids,
)
from dbpilot.reports.server import ServerReport, server_report
from dbpilot.reports.slow import (
    ANY_SLOW,
    SlowFilter,
    SlowPatternReport,
    SlowQueryRecord,
    SlowQueryReport,
    SlowQueryStatistics,
    slow_patterns,
    slow_record,
    slow_statistics,
)
from dbpilot.reports.summary import PerformanceSummary, Watching
from dbpilot.reports.timeline import TimelineReport, courses_of, timeline_report
from dbpilot.retention import Rule
from dbpilot.unsupported import Unsupported

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
STOP_TIMEOUT_S = 5.0
SERVER_ANSWER_S: Final = 5.0
SUMMARY_PATTERNS = 5
ASKED: Final = "pool review"
"""What activity is about when somebody asks for a review; what comes of it is about the pool."""

MAX_SLOW_READ: Final = 10_000
MAX_RECEIPTS_READ: Final = 2_000
MAX_REPETITIONS_READ: Final = 200
MAX_PLANS_READ: Final = 500
MAX_PLANS_OF_ONE: Final = 100
MAX_ALERTS_READ: Final = 2_000
MAX_INDEXES_READ: Final = 1_000
MAX_POOL_READ: Final = 100_000
"""Events that one answer looks at, the latest ones."""

KNOWN_ALERT_H: Final = 24.0 * 7
"""An alert that was last seen longer ago is none that anybody would mute."""
MOMENT: Final = timedelta(seconds=1)
"""Events are read up to, and not at, an instant."""

NOTHING: Final = Tally(min_s=0.0)

StatsOrder = Literal["mean_s", "total_s", "max_s", "p95_s", "calls", "errors", "slow", "rows"]

ORDERS: Final[dict[StatsOrder, Callable[[Tally], float]]] = {
    "mean_s": attrgetter("mean_s"),
    "total_s": attrgetter("total_s"),
    "max_s": attrgetter("max_s"),
    "p95_s": p95_of,
    "calls": attrgetter("calls"),
    "errors": attrgetter("failed"),
    "slow": attrgetter("slow"),
    "rows": attrgetter("rows"),
}


class Autopilot:
    """Watches one engine, sync or async, from :meth:`start` to :meth:`stop`, or inside a ``with`` block.

    The application's thread pays a few clock readings and an append per statement. Whatever goes wrong inside the pilot
    is counted and shown by :meth:`performance_summary`, never raised into a statement. One pilot watches an engine.
    """

    def __init__(
        self,
        engine: Engine | AsyncEngine,
        config: PilotConfig | None = None,
        *,
        store: Store | None = None,
        notifier: Notifier | None = None,
        retention: Sequence[Rule] = (),
        indexes: Sequence[Recommended] = (),
        clock: Clock = SYSTEM,
        server_side_s: float | None = None,
    ) -> None:
        """Wires the parts; nothing is watched, connected or written yet.

        Without ``config`` the environment decides (:meth:`PilotConfig.from_env`); without ``store`` the history is
        kept, and without ``notifier`` alerts are sent, where the configuration says. ``retention`` are the rules by
        which tables are cleaned, when that is asked for or scheduled; ``indexes`` are recommended ones, which are
        looked for beside those that the workload wants. With ``server_side_s`` it is the server's own statistics that
        are counted, read so often: for a database whose application is no Python program.

        Raises:
            ConfigError: dbpilot does not know this kind of database, or a setting makes no sense.
            StoreError: the history's URL cannot be used.
        """
        self.config = config or PilotConfig.from_env()
        self._engine = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
        self._clock = clock
        self._dialect = dialect_of(self._engine)
        self._given_store = store
        urls = self.config.alerts.urls
        self._notifier = notifier or (AppriseNotifier(urls) if urls else None)
        self._rules = tuple(retention)
        self._recommended = tuple(indexes)
        self._server_side_s = server_side_s
        self._running = False
        self._asleep = False
        self._at_exit = _weakly(self.stop)
        self._wire()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_weakly(self._forked))

    def _wire(self) -> None:
        queries = self.config.queries
        self._since = self._clock.now()
        self._store = self._given_store or self._own_store()
        self._recorder = Recorder(queries.max_pending, at_loss=_weakly(self._ensure_alive))
        self._historian = Historian(self._store, self._clock)
        self._own = OwnConnections(self._engine)
        self._pooling = Pooling(
            self._engine,
            self._dialect,
            self.config.pool,
            self._clock,
            self._historian.submit,
            self._tell,
            self._slowdown,
            lambda since, until: self._historian.ask(lambda: self._store.values(POOL_MINUTE, since, until)),
            self._leases(),
            self._own,
        )
        waited = self._pooling.watch.waited
        self._listener = Listener(self._engine, self._dialect, self._recorder, self._clock, queries, waited)
        self._pace = Pace() if self.config.pool.mode == "adaptive" else None
        intake = Intake(queries, self._dialect.syntax, self._since, self._slow_seen, self._pace)
        self._worker = Worker(self._recorder, intake, self._window_finished, self._clock, queries.drain_s)
        every_s = self._server_side_s
        self._server_side = None if every_s is None else ServerSide(self._counted_by_server, self._count, every_s)
        self._recall = Recall(self._worker, self._historian, self._store)
        self._alerting = Alerting(
            self.config,
            self._clock,
            self._notifier,
            self._historian.submit,
            claim=lambda key, until, now: self._historian.ask(lambda: self._store.claim(key, until, now)),
            counted=lambda since, until: self._historian.ask(lambda: self._store.tallies(since, until)),
            seen=lambda since, until: self._historian.ask(
                lambda: self._store.events(SIGHTINGS, since, until, MAX_ALERTS_READ)
            ),
            mutes=lambda since, until: self._recall.events(MUTE, since, until, MAX_ALERTS_READ).events,
        )
        self.cleaning = Cleaning(
            self._engine,
            self._rules,
            self.config.retention,
            self._clock,
            self._historian.submit,
            self._notify,
            self._p95_s,
        )
        self.indexing = Indexing(
            self._engine, self._dialect, self.config.indexes, self._recommended, self._own, self._clock, self._asks()
        )
        self._plans = PlanDesk(self._own, self._dialect, queries, self._clock, self._plan_found)

    def _asks(self) -> Asks:
        """What index advice is made of, and whom it tells."""
        return Asks(
            counted=lambda since, until: self._recall.tallies(since, until).tallies,
            named=self.named,
            samples=lambda ids: self._intake_read(lambda intake: intake.samples.of(ids)),
            seen=lambda since, until: self._historian.ask(
                lambda: self._store.events(INDEX_SEEN, since, until, MAX_INDEXES_READ)
            ),
            submit=self._historian.submit,
            notify=self._notify,
            claim=lambda key, until, now: self._historian.ask(lambda: self._store.claim(key, until, now)),
        )

    def _counted_by_server(self, most: int) -> list[ServerStatement] | Unsupported:
        """What the server itself counted."""
        return self._own.run(lambda connection: self._dialect.server_statements(connection, most), SERVER_ANSWER_S)

    def _count(self, found: Sequence[Counted]) -> None:
        """What the server counted belongs to the present window."""
        self._intake_read(lambda intake: intake.add_counted(found, self._clock.now()))

    def _slow_seen(self, event: Event, pattern: Pattern, sent: tuple[str, Any] | None) -> None:
        """The worker saw a slow execution."""
        self._alerting.slow(event, pattern)
        if sent is not None and event.body["error"] is None:
            self._plans.ask(pattern.id, *sent)

    def _tell(self, findings: list[Finding]) -> None:
        """Somebody looked at something that deserves attention."""
        with self._worker.lock:
            self._alerting.findings(findings)

    def _ensure_alive(self) -> None:
        """Threads that died, from whatever cause, are replaced."""
        if self._running and not self._asleep:
            self._worker.ensure_alive()
            self._historian.ensure_alive()
            self._pooling.ensure_alive()

    def _window_finished(self, batch: Batch) -> None:
        self._ensure_alive()
        self._historian.submit(batch)
        self._alerting.window(batch)

    def _slowdown(self) -> float | None:
        """How many times longer statements take now than when the database was least busy; None where nobody asks."""
        pace = self._pace
        return None if pace is None else self._intake_read(lambda _: pace.slowdown())

    def _p95_s(self) -> float | None:
        """The p95 of the statements of the present window; None where few ran."""
        tallies = self._intake_read(lambda intake: [tally.copy() for tally in intake.windows.current.tallies.values()])
        total = query_totals(tallies)
        return total.p95_s if total.calls >= self.config.alerts.min_calls else None

    def _notify(self, title: str, message: str) -> None:
        """Somebody is told, where the configuration says whom, by the thread that cleaned."""
        if self._notifier is None:
            return
        try:
            self._notifier.send(f"{self.config.alerts.title}: {title}", message)
        except Exception as error:  # noqa: BLE001 - the border to channels, which anybody may write
            log.warning("%s", error if isinstance(error, NotifierError) else type(error).__name__)

    def _plan_found(self, pattern_id: str, plan: Plan) -> None:
        """The database told how it answers a pattern."""
        event = Event(PLAN, self._clock.now(), pattern_id, 0.0, plan.as_json(), pattern_id)
        self._historian.submit(Batch(events=[event]))

    def _own_store(self) -> SqlStore:
        return SqlStore(self.config.history.url.get_secret_value(), place(self._engine.url), self.config.history)

    def _leases(self) -> Leases:
        """Where processes agree on how many connections each may have: in the history that they share."""
        if isinstance(self._store, SqlStore):
            return SqlLeases(self._store, server_of(self._engine.url), self._clock)
        return MemoryLeases()

    def start(self) -> None:
        """Statements are watched; starting twice is starting once.

        Raises:
            PilotError: another pilot watches this engine, or a part refuses what it was told; then nothing is watched.
        """
        if self._running and not self._asleep:
            return
        if not self._running:
            self._attach()
        try:
            self._run()
        except PilotError:
            self.stop()
            raise

    def _attach(self) -> None:
        if self._server_side is None:  # else the server counts these statements, too
            self._listener.attach()
        self._pooling.attach()
        self._running = True
        atexit.register(self._at_exit)

    def _run(self) -> None:
        self._asleep = False
        self._since = self._clock.now()
        self._historian.start()
        self._plans.start()
        self._alerting.start()
        self._worker.start()
        self._pooling.start()
        if self._server_side is not None:
            self._server_side.start()
        self.cleaning.start()
        self.indexing.start()

    @property
    def is_running(self) -> bool:
        """Whether statements are watched."""
        return self._running and not self._asleep

    def stop(self) -> None:
        """Nothing is watched any more, and what was seen is in the history if it could be reached.

        The pilot still answers, and can be started again.
        """
        if not self._running:
            return
        self._running = False
        atexit.unregister(self._at_exit)
        self.cleaning.stop()
        self.indexing.stop()
        self._pooling.stop()
        self._detach()
        if self._server_side is not None:
            self._server_side.stop()
        self._worker.stop()
        self._plans.stop()
        self._alerting.stop(STOP_TIMEOUT_S)
        self._historian.stop(STOP_TIMEOUT_S)
        self._store.close()

    def _detach(self) -> None:
        self._listener.detach()
        self._pooling.detach()

    def _forked(self) -> None:
        """In a child process the pilot sleeps until a connection is asked for: threads do not come along, connections
        are the parent's, and many children never ask the database anything."""
        if not self._running:
            return
        self._detach()
        if isinstance(self._store, SqlStore):
            self._store.abandon()
        self._pooling.abandon()
        self._wire()
        if self._server_side is None:
            self._listener.attach()
        self._pooling.attach()
        self._asleep = True
        self._pooling.watch.at_next = _weakly(self.start)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def query_stats(
        self, hours: float, limit: int, order: StatsOrder = "mean_s", *, until: datetime | None = None
    ) -> QueryStatsReport:
        """The patterns of the last hours, or of those before ``until``, highest ``order`` first, live ones included."""
        since, until = self._last(hours, until)
        known = self._recall.tallies(since, until)
        return QueryStatsReport(since, until, self._ranked(known, order, limit, since, until), known.error)

    def search(
        self,
        hours: float,
        limit: int,
        wanted: QueryFilter = EVERY_QUERY,
        order: StatsOrder = "total_s",
        offset: int = 0,
        between: tuple[datetime, datetime] | None = None,
    ) -> QueryList:
        """The patterns of the last hours, or of another range of time, that are wanted: highest ``order`` first, from
        number ``offset`` on."""
        since, until = between or self._last(hours)
        known = self._recall.tallies(since, until)
        ids = wanted_ids(
            known.tallies,
            wanted,
            lambda: self._recall.named(known.tallies, known),
            lambda what: self._having(what, since),
        )
        some = replace(known, tallies={id_: known.tallies[id_] for id_ in ids})
        ranked = self._ranked(some, order, offset + limit, since, until)
        total_s = sum(tally.total_s for tally in known.tallies.values())
        return QueryList(since, until, ranked[offset:], len(ids), total_s, known.error)

    def sparks(self, hours: float, ids: Collection[str], points: int = 24) -> dict[str, list[float | None]]:
        """The time spent on each of these patterns, step by step; None where it did not run."""
        until = self._clock.now()
        since = until - timedelta(hours=hours)
        found, _ = self._recall.timeline(since, until, points, ids)
        return courses_of(found, since, until, ids)

    def _having(self, what: str, since: datetime) -> set[str]:
        """The patterns whose plans read a whole table, or that requests ran over and over."""
        until = self._clock.now()
        if what == "n_plus_one":
            return {event.key for event in self._recall.events(N_PLUS_ONE, since, until, MAX_REPETITIONS_READ).events}
        return {id_ for id_, plan in self._latest_plans(until).items() if reads_a_whole_table(plan)}

    def query(self, pattern_id: str, hours: float, samples: int = 20) -> QueryReport | None:
        """Everything about one pattern in the last hours; None for one that nobody knows."""
        since, until = self._last(hours)
        known = self._recall.tallies(since, until)
        tally = known.tallies.get(pattern_id)
        if tally is None and not self._recall.named([pattern_id], known):
            return None
        only = replace(known, tallies={pattern_id: tally or NOTHING})
        [stats] = self._ranked(only, "calls", 1, since, until)
        plans = self._recall.events(PLAN, self._events_since(until), until, MAX_PLANS_OF_ONE, key=pattern_id).events
        slow = self._recall.events(SLOW, since, until, samples, key=pattern_id)
        total_s = sum(tally.total_s for tally in known.tallies.values())
        return QueryReport(
            since=since,
            until=until,
            stats=stats,
            ran=tally is not None,
            share=tally.total_s / total_s if tally is not None and total_s else None,
            plans=seen_plans([(event.at, event.body) for event in plans]),
            samples=[
                slow_record(event, slow.patterns.get(pattern_id), self.config.queries, None) for event in slow.events
            ],
            history_error=known.error,
        )

    def timeline(self, hours: float, points: int = 180, ids: Collection[str] = ()) -> TimelineReport:
        """How the statements of the last hours went in at most so many equal steps; with these patterns apart, too."""
        until = self._clock.now()
        since = until - timedelta(hours=hours)
        found, error = self._recall.timeline(since, until, points, ids)
        return timeline_report(since, until, found, ids, error)

    def slow_queries(
        self, hours: float, limit: int, wanted: SlowFilter = ANY_SLOW, *, until: datetime | None = None
    ) -> SlowQueryReport:
        """The slow executions of the last hours, or of those before ``until``, latest first, live ones included."""
        since, until = self._last(hours, until)
        records, error = self._slow_records(since, until, wanted)
        return SlowQueryReport(since, until, self.config.queries.slow_s, records[:limit], error)

    def slow_statistics(self, hours: float, wanted: SlowFilter = ANY_SLOW) -> SlowQueryStatistics:
        """The slow executions of the last hours, added up."""
        since, until = self._last(hours)
        records, error = self._slow_records(since, until, wanted)
        return slow_statistics(since, until, self.config.queries.slow_s, records, MAX_SLOW_READ, error)

    def slow_patterns(
        self, hours: float, limit: int, wanted: SlowFilter = ANY_SLOW, *, until: datetime | None = None
    ) -> SlowPatternReport:
        """The patterns with slow executions in the last hours, or in those before ``until``, most time first."""
        since, until = self._last(hours, until)
        records, error = self._slow_records(since, until, wanted)
        return SlowPatternReport(since, until, self.config.queries.slow_s, slow_patterns(records)[:limit], error)

    def receipt(self, request_id: str) -> Receipt | None:
        """What the request with this id ran, while this process remembers it, and later if the history kept it."""
        since, until = self._last(24 * self.config.history.keep_events_days)
        event = self._intake_read(lambda intake: intake.receipts.find(request_id))
        known = self._recall.events(RECEIPT, since, until, 1, key=request_id)
        found = event or next(iter(known.events), None)
        return receipt_of(found, self._patterns_of([found], known)) if found else None

    def receipts(self, hours: float, limit: int, *, until: datetime | None = None) -> RequestReport:
        """The requests of the last hours, or of those before ``until``, whose receipts are kept, most time in the
        database first."""
        since, until = self._last(hours, until)
        own = self._intake_read(lambda intake: intake.receipts.latest())
        known = self._recall.events(RECEIPT, since, until, MAX_RECEIPTS_READ)
        # Of a request that went on there are several; the latest has all.
        recent = [*known.events, *(event for event in own if since <= event.at < until)]
        latest = {event.key: event for event in sorted(recent, key=lambda event: event.body["calls"])}
        most = sorted(latest.values(), key=lambda event: event.value, reverse=True)[:limit]
        patterns = self._patterns_of(most, known)
        return RequestReport(since, until, [receipt_of(event, patterns) for event in most], known.error)

    def repetitions(self, hours: float, limit: int, *, until: datetime | None = None) -> RepetitionReport:
        """SELECTs that a request ran over and over (N+1) in the last hours, or in those before ``until``, latest
        first."""
        since, until = self._last(hours, until)
        known = self._recall.events(N_PLUS_ONE, since, until, limit)
        found = [repetition_of(event, known.patterns) for event in known.events]
        return RepetitionReport(since, until, found, known.error)

    def alerts(self, hours: float, limit: int, *, until: datetime | None = None) -> AlertReport:
        """The alerts of the last hours, or those that were raised in the ones before ``until``, the latest first, as
        they are now; and how telling of them goes."""
        (since, end), now = self._last(hours, until), self._clock.now()
        known = self._recall.events(ALERT, since, now, MAX_ALERTS_READ)
        sightings = self._recall.events(SIGHTINGS, since, now, MAX_ALERTS_READ).events
        gone = now - timedelta(seconds=2 * max(60.0, self.config.alerts.recover_s))
        mutes = self._mutes_now()
        found = [
            replace(alert, muted_until=mutes[alert.name].until)
            if alert.resolved_at is None and alert.name in mutes
            else alert
            for alert in alerts_of(known.events, self._alerting.open(), sightings, gone)
            if until is None or alert.since < until
        ]
        return AlertReport(since, end, found[:limit], self._alerting.delivery(), known.error)

    def mute_alert(self, name: str, hours: float, by: str = "a caller") -> Mute:
        """Nobody is told of the alert for so long; activity says who asked for that.

        Raises:
            NotThereError: no alert of the last days is called so.
        """
        now = self._clock.now()
        alert = next((one for one in self.alerts(KNOWN_ALERT_H, MAX_ALERTS_READ).alerts if one.name == name), None)
        if alert is None:
            raise NotThereError(f"no alert of the last days is called {name}")
        mute = Mute(name, now + min(timedelta(hours=hours), LONGEST_MUTE), by)
        self._asked(mute, now, f"muted the alert {name} for {hours:g} h", alert.message, "unmute it")
        return mute

    def unmute_alert(self, name: str, by: str = "a caller") -> Mute:
        """Whoever is told of alerts is told of this one again.

        Raises:
            NotThereError: it is not muted.
        """
        now = self._clock.now()
        if name not in self._mutes_now():
            raise NotThereError(f"the alert {name} is not muted")
        mute = Mute(name, now, by)
        self._asked(mute, now, f"unmuted the alert {name}", "asked for", "mute it")
        return mute

    def _mutes_now(self) -> dict[str, Mute]:
        now = self._clock.now()
        return mutes_in(self._recall.events(MUTE, now - LONGEST_MUTE, now + MOMENT, MAX_ALERTS_READ).events, now)

    def _asked(self, mute: Mute, now: datetime, what: str, why: str, undo: str) -> None:
        body = {"who": mute.by, "what": what, "why": why, "undo": undo}
        self._historian.submit(Batch(events=[mute.event(now), Event(ACTIVITY, now, "alerts", 0.0, body)]))

    def activity(self, hours: float, limit: int, *, until: datetime | None = None) -> ActivityReport:
        """What was done in the last hours, or in those before ``until``, and by whom, the latest first."""
        since, until = self._last(hours, until)
        known = self._recall.events(ACTIVITY, since, until, limit)
        return ActivityReport(since, until, [activity_of(event) for event in known.events], known.error)

    def server_statements(self, limit: int) -> ServerReport:
        """What the server itself counted, beside what this application counted in the last day: load from elsewhere
        is what only the server knows.

        Raises:
            WatchedDatabaseError: the database cannot be asked.
        """
        found = self._counted_by_server(limit)
        since, until = self._last(24)
        known = self._recall.tallies(since, until)
        return server_report(since, until, found, known.tallies, self._recall.named(known.tallies, known))

    def performance_summary(self, hours: float) -> PerformanceSummary:
        """The last hours on one page, and how the pilot itself is doing."""
        since, until = self._last(hours)
        known = self._recall.tallies(since, until)
        return PerformanceSummary(
            since=since,
            until=until,
            database=self._dialect.identity(self._engine),
            queries=query_totals(known.tallies.values()),
            slowest=self._ranked(known, "mean_s", SUMMARY_PATTERNS, since, until),
            busiest=self._ranked(known, "total_s", SUMMARY_PATTERNS, since, until),
            connections=self.connections(),
            indexes=index_summary(self.indexing.latest()),
            watching=self._watching(known.error),
        )

    def pool(self) -> PoolReport:
        """The connection pool of this process: its state, why it has this size, and who holds its connections."""
        return self._pooling.report()

    def pool_history(self, hours: float) -> PoolHistory:
        """The pools of all processes that share the history, in the last hours."""
        since, until = self._last(hours)
        return self._pooling.history(since, until, self._remembered(since, until, MAX_POOL_READ))

    def review_pool(self, by: str = "a caller") -> PoolReview:
        """The pool is reviewed now, whenever the last review was, and resized if that comes to another size; activity
        says who asked for it.

        Raises:
            RefusedError: this pool is not resized; says why.
        """
        review = self._pooling.review()
        body = {"who": by, "what": "asked for a review of the pool", "why": review.reason, "undo": "none is needed"}
        self._historian.submit(Batch(events=[Event(ACTIVITY, self._clock.now(), ASKED, float(review.size), body)]))
        return review

    def resizes(self) -> Mapping[str, int]:
        """How often the pool was resized since the start, by reason."""
        return self._pooling.resizes()

    def pool_times(self) -> PoolTimes:
        """How long connections were waited for, held, and took to open since the start."""
        return self._pooling.times()

    def connections(self) -> PoolReading:
        """The connection pool as it is now."""
        return self._pooling.reading()

    def cleanup(self, hours: float = 24 * 366, limit: int = 20) -> CleanupReport:
        """What is due by the rules of retention, what goes on, and the last runs of all processes."""
        return self.cleaning.report(self._remembered(*self._last(hours), limit))

    def indexes(self, wait_s: float = 0.0) -> IndexReport:
        """The indexes, how good they are, and what could be done about them; the first analysis is waited for so long.

        An analysis that is some minutes old is answered, and another one begun.
        """
        return self.indexing.report(wait_s)

    def counted(self, hours: float) -> Tallies:
        """What all processes counted in the last hours, what is on its way to the history included."""
        return self._recall.tallies(*self._last(hours))

    def written_today(self) -> dict[str, Tally]:
        """What the history has of all processes since midnight UTC, and nothing that is on its way there: whichever
        process is asked, it does not become less until the next midnight.

        Raises:
            StoreError: the history does not answer.
        """
        now = self._clock.now()
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return self._historian.ask(lambda: self._store.tallies(midnight, now))

    def named(self, ids: Iterable[str]) -> dict[str, Pattern]:
        """The patterns with these ids, also those that only this process has."""
        now = self._clock.now()
        return self._recall.named(ids, self._recall.tallies(now, now))

    def events(self, kind: str, hours: float, limit: int) -> Events:
        """The latest events of a kind in the last hours, of all processes."""
        return self._recall.events(kind, *self._last(hours), limit)

    def watching(self) -> Watching:
        """How the pilot itself is doing in this process."""
        return self._watching(None)

    def silence(self) -> Unsupported | None:
        """Why no statement is seen, where the server is who counts them and tells nothing; None where they are."""
        return None if self._server_side is None else self._server_side.silence

    def identity(self) -> Identity:
        """Which database answers."""
        return self._dialect.identity(self._engine)

    def doctor(self) -> Checkup:
        """What is off with the database, with what it lets dbpilot know, and with the history; each with the fix."""
        return checkup(self._engine, self._dialect, self._own, self._clock, self._history_ailments)

    def _history_ailments(self) -> list[Ailment]:
        """What is off with the history, which is tried; one that cannot be written raises."""
        now = self._clock.now()
        self._historian.ask(lambda: self._store.claim("doctor", now + timedelta(seconds=1), now))
        watching = self._watching(None)
        return history_ailments(watching.lost_windows, watching.dropped, watching.history_error)

    def _remembered(
        self, since: datetime, until: datetime, limit: int
    ) -> Callable[[str], tuple[list[Event], str | None]]:
        """Tells what is remembered of a kind, the latest first, and why nothing is."""

        def remembered(kind: str) -> tuple[list[Event], str | None]:
            known = self._recall.events(kind, since, until, limit)
            return known.events, known.error

        return remembered

    def series(self) -> SeriesByKey:
        """Totals since the start by operation and table, for metrics."""
        return self._intake_read(lambda intake: intake.windows.series())

    def _intake_read(self, question: Callable[[Intake], Answer]) -> Answer:
        self._ensure_alive()
        with self._worker.lock:
            return question(self._worker.catch_up())

    def _ranked(
        self, known: Tallies, order: StatsOrder, limit: int, since: datetime, until: datetime
    ) -> list[QueryStats]:
        tallies = known.tallies
        top = ranked_by_p95(tallies, limit) if order == "p95_s" else ranked_by(tallies, ORDERS[order])[:limit]
        patterns = self._recall.named(top, known)
        repeated = _by_key(self._recall.events(N_PLUS_ONE, since, until, MAX_REPETITIONS_READ))
        plans, on_sqlite = self._latest_plans(until), self._engine.dialect.name == "sqlite"

        def stats(pattern: Pattern) -> QueryStats:
            tally = tallies[pattern.id]
            return query_stats(pattern, tally, advice_on(pattern, tally, repeated, plans, on_sqlite=on_sqlite))

        return [stats(described(patterns.get(id_), id_)) for id_ in top]

    def _latest_plans(self, until: datetime) -> dict[str, Mapping[str, Any]]:
        return _by_key(self._recall.events(PLAN, self._events_since(until), until, MAX_PLANS_READ))

    def _events_since(self, until: datetime) -> datetime:
        """The instant of the oldest events that are kept."""
        return until - timedelta(days=self.config.history.keep_events_days)

    def _slow_records(
        self, since: datetime, until: datetime, wanted: SlowFilter
    ) -> tuple[list[SlowQueryRecord], str | None]:
        known = self._recall.events(SLOW, since, until, MAX_SLOW_READ, min_value=wanted.min_duration_s)
        plans = self._latest_plans(until)
        records = [
            slow_record(event, known.patterns.get(event.key), self.config.queries, plans.get(event.key))
            for event in known.events
            if wanted.admits(described(known.patterns.get(event.key), event.key))
        ]
        return records, known.error

    def _patterns_of(self, events: Iterable[Event], known: Events) -> dict[str, Pattern]:
        """The patterns that receipts name, also of those that only this process has."""
        ids = {line["pattern_id"] for event in events for line in event.body["lines"]} - known.patterns.keys()
        return {**known.patterns, **self._recall.named(ids, Tallies({}, {}, known.error))} if ids else known.patterns

    def _watching(self, read_error: str | None) -> Watching:
        return Watching(
            since=self._since,
            dropped=self._recorder.dropped,
            failures=self._own_failures(),
            restarts=self._worker.restarts + self._historian.restarts + self._pooling.restarts,
            unwritten_windows=sum(len(batch.windows) for batch in self._historian.unwritten()),
            lost_windows=self._historian.lost,
            history_error=read_error or self._historian.error,
        )

    def _own_failures(self) -> int:
        """Errors of the pilot's own in any of its parts."""
        return self._listener.failures + self._worker.failures + self._pooling.failures

    def _last(self, hours: float, until: datetime | None = None) -> tuple[datetime, datetime]:
        """From the start of the window that was being counted then, or of a longer one before it, until now or then."""
        end = until or self._clock.now()
        return self._store.begin(end - timedelta(hours=hours, seconds=self.config.queries.window_s), end), end


def _by_key(known: Events) -> dict[str, Mapping[str, Any]]:
    """The bodies of the latest events by what they are about."""
    return {event.key: event.body for event in reversed(known.events)}


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """Calls the method for as long as its object lives, without keeping it alive."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive()

    return call

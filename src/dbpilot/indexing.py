"""Index advice of one engine: made in the background, kept until the next one, and followed when that is asked for."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Event as Flag
from threading import Lock, Thread
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError

from dbpilot.clock import Clock
from dbpilot.config import IndexesConfig
from dbpilot.dialects import Dialect
from dbpilot.dialects.catalog import Catalog
from dbpilot.dialects.connections import OwnConnections, own_engine, why_alone
from dbpilot.dialects.plan import PlanNode
from dbpilot.dialects.whatif import Query
from dbpilot.errors import NotThereError, PilotError, RefusedError, StoreError
from dbpilot.history.store import INDEX_SEEN, Batch, Event, Pattern
from dbpilot.history.tally import Tally, middle_of
from dbpilot.indexes.advisor import Limits
from dbpilot.indexes.analysis import Analysis, Analyst, Progress, Wanted
from dbpilot.indexes.apply import Activity, Applier, Outcome
from dbpilot.indexes.audit import Observed
from dbpilot.indexes.changes import Change, fingerprint
from dbpilot.indexes.ledger import Entry, Ledger
from dbpilot.indexes.patterns import Recommended
from dbpilot.indexes.runner import Manners
from dbpilot.indexes.steps import change_of, chosen, in_turn
from dbpilot.indexes.suggestions import Suggestion, not_there, suggestions
from dbpilot.indexes.verify import Rule, Timing, drift_of
from dbpilot.indexes.workload import Workload
from dbpilot.reports.indexes import (
    ChangeReport,
    IndexReport,
    IndexSql,
    Status,
    entry_report,
    index_report,
    index_sql,
    outcome_report,
)
from dbpilot.unsupported import Unsupported

log = logging.getLogger(__name__)

ACTIVITY: Final = "activity"
INDEXES: Final = "indexes"
"""Events of this kind hold a score, and what was advised."""
FRESH_S: Final = 300.0
"""Whoever asks sooner after an analysis gets that one; later another one is begun for those who ask next."""
FIRST_S: Final = 60.0
"""From the start on statements are watched for so long before the first analysis."""
TURN_S: Final = 5.0
STOP_S: Final = 5.0
EXPLAIN_S: Final = 2.0
MIB: Final = 2**20
DAY_S: Final = 86_400
SEEN_BEFORE: Final = timedelta(days=400)
"""When an index was first seen is looked up so far back."""
NOTED_EVERY: Final = timedelta(hours=20)
BEFORE: Final = timedelta(hours=24)
"""What statements took before a change is looked up so far back."""
STEPS_TOLD: Final = 20
CHANGES_TOLD: Final = 100
ENDS: Final = "the pilot stops"
PATIENCE_S: Final = 1800.0
"""Changes that nobody waits for wait so long for those of another, as a large table's index takes minutes to build, and
for a moment at which nothing stands against them."""
AGAIN_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Asks:
    """What the pilot knows, and takes."""

    counted: Callable[[datetime, datetime], Mapping[str, Tally]]
    """What was counted in a range of time, by pattern id."""
    named: Callable[[Sequence[str]], Mapping[str, Pattern]]
    samples: Callable[[Sequence[str]], Mapping[str, Sequence[Query]]]
    """Real executions, as far as this process has seen any."""
    seen: Callable[[datetime, datetime], Sequence[Event]]
    """What the history has of :data:`INDEX_SEEN` in a range of time, the latest first."""
    submit: Callable[[Batch], None]
    notify: Callable[[str, str], None]
    claim: Callable[[str, datetime, datetime], bool]
    """Whether this process alone may do something until then."""


class Indexing:
    """The indexes of one database; nothing is asked before somebody wants to know, or the pilot has run for a while."""

    def __init__(
        self,
        engine: Engine,
        dialect: Dialect,
        config: IndexesConfig,
        recommended: Sequence[Recommended],
        own: OwnConnections,
        clock: Clock,
        asks: Asks,
    ) -> None:
        """Wires the parts.

        Args:
            engine: the application's; analyses have connections of their own, which are not watched.
            dialect: what is known about its database.
            config: by which bounds, and whether anything may be changed.
            recommended: indexes that somebody recommends: each is looked for.
            own: connections that only read.
            clock: tells the time.
            asks: what the rest of the pilot knows.
        """
        self._engine = engine
        self._dialect = dialect
        self._config = config
        self._recommended = tuple(recommended)
        self._own = own
        self._clock = clock
        self._asks = asks
        self._analyst = Analyst(own, dialect, clock)
        self._lock = Lock()
        self._first = Flag()
        """Whether an analysis has ended, well or not."""
        self._doing: str | None = None
        self._analysis: Analysis | None = None
        self._steps: tuple[Suggestion, ...] = ()
        self._error: str | None = None
        self._changes = 0
        """How often indexes were changed."""
        self._as_of_change = 0
        """How often before the analysis was begun: after another change it is old."""
        self._told_at: datetime | None = None
        """Of when the analysis is that the history knows of."""
        self._seen_since: dict[str, datetime] | None = None
        """When each index was first seen, by whichever process; None before the history was asked."""
        self._noted_at: datetime | None = None
        """When the history was told last which indexes there are."""
        self._stopping = Flag()
        self._due_s = 0.0
        """When the next analysis is made by itself."""
        self._threads: list[Thread] = []
        self._worker: Thread | None = None
        self._analysing: Thread | None = None
        self._outcomes: tuple[Outcome, ...] = ()

    def start(self) -> None:
        """Advice is made by itself from now on, by one of all processes, and what was changed is looked after."""
        self._stopping = Flag()
        if not self._config.enabled:
            return
        self._due_s = self._clock.ticks() + FIRST_S
        self._take_turns("dbpilot-indexes", self._advises)
        if self._config.apply and not self._engine.dialect.is_async and why_alone(self._engine) is None:
            # Beside the analyses: however long one takes, a change on trial that does harm is taken back in time.
            self._take_turns("dbpilot-index-trials", self._judges)

    def stop(self) -> None:
        """Nothing is begun any more; a change that is being made ends, and is put right."""
        self._stopping.set()
        for thread in (*self._threads, self._worker, self._analysing):
            if thread is not None and thread.is_alive():
                thread.join(STOP_S)
        self._threads, self._worker, self._analysing = [], None, None

    def report(self, wait_s: float = 0.0) -> IndexReport:
        """What is known by now; an analysis is begun where there is none, or only an old one.

        ``wait_s``: how long the first analysis is waited for.
        """
        self._freshen()
        if self._analysis is None and wait_s:
            self._first.wait(wait_s)
        with self._lock:
            return index_report(self._status(), self._doing, self._error, self._analysis, self._steps)

    def latest(self) -> IndexReport:
        """What is known by now; nothing is begun, and nobody waits."""
        with self._lock:
            return index_report(self._status(), self._doing, self._error, self._analysis, self._steps)

    def sql(self, table: str | None, wait_s: float = 0.0) -> IndexSql:
        """The statements that would follow the advice for one table, or for all.

        Raises:
            NotThereError: there is no such table; names near ones.
            RefusedError: there is no advice yet, or none could be made; says why.
        """
        analysis, steps = self._known(wait_s)
        if table is not None and table not in analysis.catalog.tables:
            raise NotThereError(not_there("table", table, analysis.catalog.tables))
        return index_sql(analysis, steps, table)

    def analyse(self) -> Analysis:
        """The analysis of this moment, made in the caller's thread.

        Raises:
            PilotError: the database cannot be reached, or refuses.
        """
        changes = self._changes
        analysis = self._analyst.analyse(self._workload, self._wanted(), self._progress())
        steps = suggestions(analysis, self._dialect.ddl, self._engine.dialect)
        with self._lock:
            self._analysis, self._steps, self._error, self._as_of_change = analysis, steps, None, changes
        return analysis

    def apply(
        self, ids: Sequence[str], *, dry_run: bool, by: str = "a caller", patience_s: float | None = None
    ) -> list[Outcome]:
        """These steps are taken, in the caller's thread, and watched from then on; in a dry run nothing is changed.

        Another process that changes indexes is waited for, and a moment at which nothing stands against a step, for as
        long as the caller is patient; None for some seconds, and for no moment.

        Raises:
            NotThereError: a step is not among those of the last analysis.
            RefusedError: nothing may be changed; says what would change that.
            PilotError: the database cannot be reached, or refuses.
        """
        if not dry_run:
            self._may_change()
        analysis, known = self._known()
        steps = chosen(known, ids)
        changes = [change_of(step) for step in steps]
        applier = self._applier(patience_s)
        planned = applier.apply(changes, who=by, seen=_as_seen(analysis.catalog, changes), dry_run=True)
        if dry_run:
            as_planned = dict(zip(changes, planned, strict=True))
            return [outcome for _, outcome in in_turn(steps, as_planned.__getitem__)]
        until = self._clock.ticks() + (patience_s or 0)
        return self._take(steps, lambda change: applier.apply([change], who=by, explains=self._explains)[0], until)

    def _take(self, steps: Sequence[Suggestion], take: Callable[[Change], Outcome], until: float) -> list[Outcome]:
        done: list[Outcome] = []
        self._outcomes = ()

        def take_in_time(change: Change) -> Outcome:
            while (outcome := take(change)).step == "not now" and self._clock.ticks() < until:
                self._outcomes = (*done, outcome)
                if self._stopping.wait(AGAIN_S):
                    break
            return outcome

        try:
            for _, outcome in in_turn(steps, take_in_time):
                done.append(outcome)
                self._outcomes = tuple(done)
        finally:
            self._note_change()
        return list(self._outcomes)

    def _note_change(self) -> None:
        """The analysis that there is, or goes on, is of what was before."""
        with self._lock:
            self._changes += 1

    def undo(self, number: int, *, by: str = "a caller", why: str = "asked for") -> Outcome:
        """The change of this number in the ledger was taken back.

        Raises:
            RefusedError: nothing may be changed, or no change of this number was made; says why.
            PilotError: the database cannot be reached, or refuses.
        """
        self._may_change()
        outcome = self._applier().revert(number, who=by, why=why)
        self._note_change()
        return outcome

    def begin_apply(self, ids: Sequence[str], by: str = "a caller") -> None:
        """These steps are taken in the background from now on.

        Raises:
            NotThereError: a step is not among those of the last analysis.
            RefusedError: nothing may be changed, or something is being changed already.
        """
        self._may_change()
        self._applier()
        _, known = self._known()
        for step in chosen(known, ids):
            change_of(step)
        with self._lock:
            if self._worker is not None and self._worker.is_alive():
                raise RefusedError("indexes are being changed already; wait until that is done")
            self._worker = Thread(target=self._apply_silently, args=(ids, by), name="dbpilot-index-change", daemon=True)
            self._worker.start()

    def changes(self) -> list[ChangeReport]:
        """What became of all changes, whoever made them, the latest first; and what of those asked for last was not
        begun.

        Raises:
            PilotError: the database cannot be reached, or refuses.
        """
        found = self._own.run(lambda connection: Ledger(connection).entries(), EXPLAIN_S)
        entries: list[Entry] = [] if isinstance(found, Unsupported) else found
        not_begun = [outcome_report(outcome) for outcome in self._outcomes if outcome.entry is None]
        return [*not_begun, *(entry_report(entry) for entry in reversed(entries[-CHANGES_TOLD:]))]

    def follow(self) -> list[Outcome]:
        """What processes that died had begun is put right, and every change on trial is judged by what statements
        took before and since.

        Raises:
            PilotError: the database cannot be reached, or refuses.
        """
        applier = self._applier()
        outcomes = applier.recover()
        entries = applier.entries()
        for entry in (one for one in entries if one.state == "watching"):
            before = self._timings(entry.began - BEFORE, entry.began)
            after = self._timings(entry.changed, self._clock.now())
            drift = drift_of(before, after, _touched(entries, entry.began - BEFORE), manners_of(self._config).rule)
            outcomes.append(applier.settle(entry.id, before, after, drift=drift))
        if any(outcome.step != "watching" for outcome in outcomes):
            self._note_change()
        return outcomes

    def _known(self, wait_s: float = 0.0) -> tuple[Analysis, tuple[Suggestion, ...]]:
        self.report(wait_s)
        with self._lock:
            if self._analysis is None:
                why = self._error or "the first analysis goes on; ask again in a moment"
                raise RefusedError(why)
            return self._analysis, self._steps

    def _may_change(self) -> None:
        if not self._config.apply:
            raise RefusedError("indexes are not changed here; allow it with DBPILOT_INDEXES__APPLY=true")

    def _apply_silently(self, ids: Sequence[str], by: str) -> None:
        try:
            self.apply(ids, dry_run=False, by=by, patience_s=PATIENCE_S)
        except PilotError as error:
            self._tell(Activity(by, "changing indexes failed", str(error), "nothing to undo"))

    def _applier(self, patience_s: float | None = None) -> Applier:
        """Changes what the engine is about.

        Raises:
            RefusedError: it is one for asyncio, or its database is seen by nobody else.
        """
        alone = why_alone(self._engine)
        if alone is not None:
            raise RefusedError(f"{alone.reason}; {alone.fix}")
        schema = self._analysis.catalog.schema if self._analysis is not None else None
        manners = manners_of(self._config)
        return Applier(
            own_engine(self._engine, patient=True),
            self._clock,
            manners=manners if patience_s is None else replace(manners, alone_wait_s=patience_s),
            schema=schema if self._engine.dialect.name == "postgresql" else None,
            tell=self._tell,
            cancel=self._stopping,
        )

    def _explains(self, pattern_id: str, index: str) -> bool | None:
        """Whether the plan of an execution of the pattern that was seen uses the index."""
        samples = self._asks.samples([pattern_id]).get(pattern_id, ())
        if not samples:
            return None
        explain = self._dialect.explain

        def plans(connection: Connection) -> list[PlanNode]:
            return [explain(connection, sample.statement, sample.parameters) for sample in samples]

        try:
            roots = self._own.run(plans, EXPLAIN_S)
        except PilotError:
            return None
        if isinstance(roots, Unsupported):
            return None
        return any(node.uses(index) for root in roots for _, node in root.walk())

    def _timings(self, since: datetime, until: datetime) -> dict[str, Timing]:
        return {id_: timing_of(tally) for id_, tally in self._asks.counted(since, until).items() if tally.calls}

    def _tell(self, activity: Activity) -> None:
        self._asks.submit(Batch(events=[activity_event(activity, self._clock.now())]))
        self._asks.notify(activity.what, f"{activity.why}. Undo: {activity.undo}")

    def _status(self) -> Status:
        if self._doing is not None:
            return "running"
        if self._error is not None:
            return "failed"
        return "none" if self._analysis is None else "ready"

    def _freshen(self) -> None:
        """An analysis goes on if there is none that is recent."""
        if not self._begins():
            return
        thread = Thread(target=self._analyse_silently, name="dbpilot-index-analysis", daemon=True)
        try:
            thread.start()
            self._analysing = thread
        except RuntimeError:  # the interpreter ends
            self._doing = None

    def _begins(self) -> bool:
        """Whether the caller is who analyses now."""
        with self._lock:
            if self._doing is not None or not self._is_due():
                return False
            self._doing = "beginning"
            return True

    def _is_due(self) -> bool:
        if self._analysis is None or self._as_of_change != self._changes:
            return True
        return self._clock.now() - self._analysis.at > timedelta(seconds=FRESH_S)

    def _analyse_silently(self) -> None:
        try:
            self.analyse()
        except PilotError as error:
            self._error = str(error)
        except Exception as error:  # noqa: BLE001 - the border to drivers, parsers and their surprises
            log.warning("dbpilot could not analyse the indexes: %s", type(error).__name__)
            self._error = f"the analysis failed: {type(error).__name__}"
        finally:
            self._doing = None
            self._first.set()

    def _progress(self) -> Progress:
        """Notes what is done; what goes on ends when the pilot stops, and one that was stopped still answers."""
        stopping = Flag() if self._stopping.is_set() else self._stopping

        def does(what: str) -> None:
            if stopping.is_set():
                raise RefusedError(ENDS)
            if self._doing is not None:
                self._doing = what

        return does

    def _wanted(self) -> Wanted:
        config = self._config
        budget = math.inf if config.budget_mb is None else config.budget_mb * MIB
        observed, notes = self._observed()
        return Wanted(
            recommended=self._recommended,
            limits=Limits(budget_bytes=budget, most_calls=config.explains),
            unused_after=timedelta(days=config.unused_days),
            observed=observed,
            notes=notes,
        )

    def _observed(self) -> tuple[Observed, tuple[Unsupported, ...]]:
        """What is known beyond the catalogue; where a replica cannot be asked nothing is known to be unused."""
        try:
            elsewhere = self._uses_elsewhere()
        except RefusedError as error:
            fix = "see that it answers and counts, or take it out of DBPILOT_INDEXES__REPLICAS"
            return Observed(seen_since={}), (Unsupported(str(error), fix),)
        return Observed(uses_elsewhere=elsewhere, seen_since=dict(self._seen())), ()

    def _seen(self) -> dict[str, datetime]:
        """When each index was first seen; asked of the history once."""
        if self._seen_since is None:
            now = self._clock.now()
            try:
                self._seen_since = first_seen(self._asks.seen(now - SEEN_BEFORE, now))
            except StoreError as error:
                log.info("dbpilot: %s", error)
                return {}
        return self._seen_since

    def _uses_elsewhere(self) -> Mapping[str, int] | None:
        """How often indexes were read on the replicas; None where there are none.

        Raises:
            RefusedError: a replica does not count, or cannot be asked.
        """
        if not self._config.replicas:
            return None
        found: dict[str, int] = {}
        for number, url in enumerate(self._config.replicas, 1):
            for name, uses in self._uses_at(url.get_secret_value(), number).items():
                found[name] = found.get(name, 0) + uses
        return found

    def _uses_at(self, url: str, number: int) -> dict[str, int]:
        try:
            engine = create_engine(url, hide_parameters=True)
            catalog = Analyst(OwnConnections(engine), self._dialect, self._clock).catalog()
        except (SQLAlchemyError, ValueError, ImportError, PilotError):
            raise RefusedError(f"replica {number} of indexes.replicas cannot be asked how indexes are used") from None
        if catalog.uses_unknown is not None:
            raise RefusedError(f"replica {number} of indexes.replicas: {catalog.uses_unknown.reason}")
        return _uses(catalog)

    def _workload(self, catalog: Catalog) -> Workload:
        """What this application asked in the last hours, most time first."""
        from dbpilot.indexes.workload import of_history

        self._remember(catalog)
        until = self._clock.now()
        tallies = self._asks.counted(until - timedelta(hours=self._config.workload_hours), until)
        most = sorted(tallies, key=lambda id_: tallies[id_].total_s, reverse=True)[: self._config.statements]
        return of_history(
            self._asks.named(most),
            {id_: tallies[id_] for id_ in most},
            self._asks.samples(most),
            catalog,
            catalog.dialect,
            covers_s=self._config.workload_hours * 3600,
        )

    def _remember(self, catalog: Catalog) -> None:
        """An index that is new was seen now, and one that is gone never; the history is told of it, and once a day."""
        now, before = self._clock.now(), self._seen()
        if self._seen_since is None:  # the history may know better as soon as it answers
            return
        names = [f"{table.name}.{index.name}" for table in catalog.tables.values() for index in table.indexes]
        self._seen_since = {name: before.get(name, now) for name in names}
        if self._noted_at is None or now - self._noted_at >= NOTED_EVERY or before.keys() != self._seen_since.keys():
            self._noted_at = now
            self._asks.submit(Batch(events=[Event(INDEX_SEEN, now, "indexes", len(names), {"names": sorted(names)})]))

    def _take_turns(self, name: str, turn: Callable[[], None]) -> None:
        """A thread takes turns until the pilot stops."""
        thread = Thread(target=self._turns, args=(self._stopping, turn), name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _turns(self, stopping: Flag, turn: Callable[[], None]) -> None:
        while not stopping.wait(TURN_S):
            try:
                turn()
            except PilotError as error:
                log.info("dbpilot: %s", error)
            except Exception as error:  # noqa: BLE001 - the border to drivers and their surprises
                log.warning("dbpilot could not look after the indexes: %s", type(error).__name__)

    def _is_mine(self, what: str, for_s: float) -> bool:
        now = self._clock.now()
        return self._asks.claim(what, now + timedelta(seconds=for_s), now)

    def _judges(self) -> None:
        """One of all processes looks after what is on trial."""
        if self._is_mine("index-changes", TURN_S * 3):
            self.follow()

    def _advises(self) -> None:
        """From time to time there is new advice."""
        if self._clock.ticks() >= self._due_s:
            self._due_s = self._clock.ticks() + self._config.every_s
            self._by_itself()

    def _by_itself(self) -> None:
        """One of all processes analyses, and the history remembers what came of it."""
        if not self._is_mine("index-analysis", self._config.every_s * 0.9):
            return
        if self._begins():
            self._analyse_silently()
        with self._lock:
            analysis, steps = self._analysis, self._steps
        if analysis is None or analysis.at == self._told_at:
            return
        self._told_at = analysis.at
        told = [{"id": one.id, "ddl": one.ddl, "reason": one.reason} for one in steps[:STEPS_TOLD]]
        body: dict[str, Any] = {"score": analysis.overall.value, "steps": told}
        value = analysis.overall.value if analysis.overall.value is not None else -1.0
        self._asks.submit(Batch(events=[Event(INDEXES, analysis.at, "score", value, body)]))


def activity_event(activity: Activity, at: datetime) -> Event:
    """The line as the history keeps it."""
    body = {"who": activity.who, "what": activity.what, "why": activity.why, "undo": activity.undo}
    return Event(ACTIVITY, at, "indexes", 0.0, body)


def manners_of(config: IndexesConfig) -> Manners:
    """How changes are made and judged."""
    rule = Rule(min_calls=config.verify_calls, slower=1 + config.slower)
    return Manners(
        most_lock_wait_s=config.max_lock_wait_s,
        watch_s=config.verify_s,
        trial_s=config.trial_days * DAY_S,
        rule=rule,
    )


def timing_of(tally: Tally) -> Timing:
    """What a tally says of one execution; the spread is that of its histogram."""
    mean_s = tally.total_s / tally.calls
    squares = sum(count * (middle_of(bucket) - mean_s) ** 2 for bucket, count in tally.histogram.items())
    return Timing(tally.calls, mean_s, math.sqrt(squares / tally.calls))


def first_seen(events: Sequence[Event]) -> dict[str, datetime]:
    """Since when each index that was there at the last look has been there at every one; the latest look first."""
    found: dict[str, datetime] = {}
    there: set[str] | None = None
    for event in events:
        names = set(event.body["names"])
        there = names if there is None else there & names
        found |= dict.fromkeys(there, event.at)
    return found


def _touched(entries: Sequence[Entry], since: datetime) -> set[str]:
    """The patterns about which a change was made since then: how long they take says nothing of everybody else."""
    return {promise.pattern_id for entry in entries if entry.began >= since for promise in entry.change.promises}


def _uses(catalog: Catalog) -> dict[str, int]:
    """Some databases count rows, and not how often."""
    return {
        f"{table.name}.{index.name}": (index.uses or 0) + (index.rows_read or 0)
        for table in catalog.tables.values()
        for index in table.indexes
    }


def _as_seen(catalog: Catalog, changes: Sequence[Change]) -> dict[str, str]:
    """What the tables were when the changes were planned."""
    tables = {change.table: catalog.tables.get(change.table) for change in changes}
    return {name: fingerprint(table, changes) for name, table in tables.items() if table is not None}

"""Cleaning by rules: planned, run in the background or at its time, told of and remembered."""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Event as Flag
from threading import Lock, Thread
from typing import Any, Final

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from dbpilot.clock import Clock
from dbpilot.config import RetentionConfig
from dbpilot.dialects import dialect_of
from dbpilot.dialects.connections import own_engine, why_alone
from dbpilot.errors import PilotError, RefusedError, WatchedDatabaseError
from dbpilot.history.store import CLEANUP, Batch, Event
from dbpilot.reports.cleanup import (
    CleanupReport,
    CleanupRunning,
    is_unique,
    recovery,
    rule_report,
    run_event,
    runs_of,
    space_advice,
    uniqueness_advice,
    words_of,
)
from dbpilot.retention import (
    CleanupFinished,
    CleanupProgress,
    CleanupResult,
    Hold,
    Limits,
    Manners,
    Plan,
    RestorePlan,
    RestoreResult,
    Retention,
    Rule,
    Signs,
    VerifyResult,
)
from dbpilot.retention.cron import Cron
from dbpilot.retention.gentle import read_signs
from dbpilot.retention.schedule import CleanupSchedule, Notice, Policy
from dbpilot.retention.session import failure
from dbpilot.retention.turns import Turns

log = logging.getLogger(__name__)

ACTIVITY: Final = "activity"
DUE_KEPT: Final = timedelta(minutes=5)
"""Counting what is due reads the tables; who asks again sooner gets the same answer."""
DUE_WAIT_S: Final = 5.0
"""Who asks what is due waits so long for the count."""
COUNTING: Final = "it is being counted; ask again in a moment"
STOP_S: Final = 10.0
"""As long as a batch in hand may take to end."""
Remembered = Callable[[str], tuple[Sequence[Event], str | None]]
"""What the history has of a kind, the latest first, and why it has nothing."""


class Cleaning:
    """The rules of one database, one run at a time in this process; nothing is touched before it is asked for."""

    def __init__(
        self,
        engine: Engine,
        rules: Sequence[Rule],
        config: RetentionConfig,
        clock: Clock,
        submit: Callable[[Batch], None],
        notify: Callable[[str, str], None],
        p95_s: Callable[[], float | None],
    ) -> None:
        """Wires the parts.

        Args:
            engine: the application's; cleaning has connections of its own, which are not watched.
            rules: what is cleaned.
            config: how gently, and when.
            clock: tells the time.
            submit: takes what the history has to remember.
            notify: tells somebody, by a title and a message.
            p95_s: the application's present p95 in seconds; None where too little runs.
        """
        self._engine = engine
        self._dialect = dialect_of(engine)
        self._config = config
        self._clock = clock
        self._submit = submit
        self._notify = notify
        self._p95_s = p95_s
        self._rules = tuple(rules)
        self._own_engine = engine
        self._own: Retention | None = None
        self._lock = Lock()
        self._counting = Lock()
        self._due: tuple[datetime, Plan | None, str | None] | None = None
        self._count: Thread | None = None
        self._ended = 0
        """Runs that are over: what was counted while one ended is not kept."""
        self._running: tuple[datetime, str | None] | None = None
        self._progress: dict[str, CleanupProgress] = {}
        self._cancel = Flag()
        self._thread: Thread | None = None
        self._schedule: CleanupSchedule | None = None
        self._process = f"{socket.gethostname()}:{os.getpid()}"

    @property
    def rules(self) -> tuple[Rule, ...]:
        """What is cleaned."""
        return self._rules

    def start(self) -> None:
        """Where the configuration names times, the rules run at these.

        Raises:
            ConfigError: the cron line has no meaning.
        """
        if self._config.schedule is None or self._schedule is not None:
            return
        Cron(self._config.schedule, self._config.timezone)  # what makes no sense is said with and without rules
        if self._rules:
            self._schedule = self.schedule(self._config.schedule)
        else:
            log.warning("retention has a schedule and no rules: nothing will be cleaned")

    def stop(self) -> None:
        """No run begins any more; one that goes on ends after the batch in hand, and goes on where it was next time."""
        self._cancel.set()
        if self._schedule is not None:
            self._schedule.cancel()
            self._schedule.join(STOP_S)
            self._schedule = None
        if self._thread is not None:
            self._thread.join(STOP_S)
            self._thread = None

    def schedule(self, cron: str, timezone: str | None = None) -> CleanupSchedule:
        """The rules run at the times of a cron line, by one of all processes that share the database.

        Raises:
            ConfigError: the cron line or the zone has no meaning.
        """
        self._retention()
        policy = Policy(grace_s=self._config.grace_s, jitter_s=self._config.jitter_s)
        return CleanupSchedule(
            cron,
            self._scheduled,
            Turns(self._own_engine),
            timezone=timezone or self._config.timezone,
            policy=policy,
            clock=self._clock,
            at_notice=self._told,
        ).start()

    def plan(self, table: str | None = None) -> Plan:
        """What a run would do now; nothing is changed.

        Raises:
            PilotError: the rules cannot be run on this database; says why.
        """
        with self._asked():
            return self._retention().plan(table)

    def run(self, table: str | None = None, *, dry_run: bool, by: str = "a caller") -> CleanupFinished:
        """The rules are run now, in the caller's thread; in a dry run nothing is changed, remembered or told.

        Raises:
            RefusedError: one runs already, or the rules must not be run on this database.
            PilotError: the run could not begin; says why.
        """
        if dry_run:
            with self._asked():
                return self._retention().run(table=table, dry_run=True)
        self._begin(table)
        return self._work(table, by, None)

    def begin(self, table: str | None = None, by: str = "a caller") -> None:
        """The rules are run in the background from now on.

        Raises:
            RefusedError: one runs already, or the rules must not be run on this database.
            PilotError: the run could not begin; says why.
        """
        self._begin(table)
        begun: Future[None] = Future()
        self._thread = Thread(target=self._work_silently, args=(table, by, begun), name="dbpilot-cleanup", daemon=True)
        self._thread.start()
        begun.result()  # what cannot be begun is told to the caller, and not to the log alone

    def cancel(self, by: str = "a caller") -> bool:
        """The run in this process ends after the batch in hand; False if there is none."""
        with self._lock:
            if self._running is None:
                return False
            if self._cancel.is_set():
                return True  # and it is told once
            self._cancel.set()
        self._activity(by, "cancelled the run", "asked for", "run the rules again")
        return True

    def restore(
        self,
        rule: str,
        since: datetime | None = None,
        until: datetime | None = None,
        keys: Sequence[Any] | None = None,
        by: str = "a caller",
    ) -> RestoreResult:
        """Archived rows are live again; see :meth:`dbpilot.retention.Retention.restore`."""
        with self._asked():
            result = self._retention().restore(rule, since=since, until=until, keys=keys)
        left = f", {result.missing_rows} are missing from {result.archive}" if result.missing_rows else ""
        what = f"restored {result.restored} rows of {result.table}{left}"
        self._activity(by, what, f"rule {rule}", "run the rule again")
        return result

    def found(
        self,
        rule: str,
        since: datetime | None = None,
        until: datetime | None = None,
        keys: Sequence[Any] | None = None,
    ) -> RestorePlan:
        """What a restore would look at; see :meth:`dbpilot.retention.Retention.found`."""
        with self._asked():
            return self._retention().found(rule, since=since, until=until, keys=keys)

    def verify(self, rule: str) -> VerifyResult:
        """The archive was compared with what was put there; see :meth:`dbpilot.retention.Retention.verify`."""
        with self._asked():
            return self._retention().verify(rule)

    def hold(self, table: str, where: dict[str, Any] | None, reason: str, by: str = "a caller") -> Hold:
        """These rows, or the whole table, stay until the hold is released."""
        with self._asked():
            held = self._retention().hold(table, where, reason=reason)
        self._activity(by, f"hold {held.id} on {table}", reason, f"release hold {held.id}")
        return held

    def release(self, hold_id: int, by: str = "a caller") -> bool:
        """The hold is over; False if there was none of this number."""
        with self._asked():
            released = self._retention().release(hold_id)
        if released:
            self._activity(by, f"released hold {hold_id}", "asked for", "hold the rows again")
        return released

    def report(self, remembered: Remembered) -> CleanupReport:
        """Everything that is known of the cleaning."""
        due, due_error = self._counted()
        events, history_error = remembered(CLEANUP)
        schedule = self._schedule
        notices = [] if schedule is None else [notice.text for notice in schedule.notices]
        if schedule is not None and schedule.error is not None:
            notices.append(schedule.error)
        return CleanupReport(
            rules=[rule_report(rule) for rule in self._rules],
            due=due,
            due_error=due_error,
            running=self.running(),
            schedule=None if schedule is None else self._config.schedule,
            next_run=None if schedule is None else schedule.next_run,
            notices=notices,
            holds=self._holds(),
            last_runs=runs_of(events),
            history_error=history_error,
        )

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """What the driver raises inside is told as an error of ours, without its words: they repeat values.

        Raises:
            WatchedDatabaseError: the database cannot be reached, or refuses.
        """
        try:
            yield
        except SQLAlchemyError as error:
            raise WatchedDatabaseError(f"the watched database: {failure(self._dialect, error)}") from None

    def _retention(self) -> Retention:
        """The rules on connections of our own.

        Raises:
            RefusedError: there is no second connection to this database, or no rule.
        """
        if not self._rules:
            raise RefusedError("there are no retention rules; give them as Autopilot(engine, retention=[Rule(...)])")
        alone = why_alone(self._engine)
        if alone is not None:
            raise RefusedError(f"{alone.reason}; {alone.fix}")
        if self._engine.dialect.is_async:
            raise RefusedError("cleaning needs an engine without asyncio; make one with create_engine for it")
        if self._own is None:
            self._own_engine = own_engine(self._engine, patient=True)
            self._own = Retention(self._own_engine, self._rules, self._clock)
        return self._own

    def _holds(self) -> list[Hold]:
        try:
            with self._asked():
                return self._retention().holds() if self._rules else []
        except PilotError:  # the same error is told of what is due
            return []

    def _counted(self) -> tuple[Plan | None, str | None]:
        """What is due, counted a moment ago or now; of large tables what was known before, until that is done."""
        counting = None
        with self._counting:
            kept = self._due
            is_old = kept is not None and self._clock.now() - kept[0] >= DUE_KEPT
            if kept is None or (is_old and self._running is None):
                if self._count is None or not self._count.is_alive():
                    self._count = Thread(target=self._count_due, name="dbpilot-due", daemon=True)
                    self._count.start()
                counting = self._count
        if counting is not None:
            counting.join(DUE_WAIT_S)
        with self._lock:
            return (None, COUNTING) if self._due is None else self._due[1:]

    def _count_due(self) -> None:
        now, ended = self._clock.now(), self._ended
        try:
            plan, error = self.plan() if self._rules else None, None
        except PilotError as refused:
            plan, error = None, str(refused)
        except Exception as failed:  # noqa: BLE001 - the border to drivers and their surprises
            plan, error = None, f"it could not be counted: {type(failed).__name__}"
        with self._lock:
            # What was counted while a run ended is answered once.
            self._due = (now if ended == self._ended else now - DUE_KEPT), plan, error

    def running(self) -> CleanupRunning | None:
        """The run that goes on in this process, and how far it is; None while there is none."""
        with self._lock:
            if self._running is None:
                return None
            since, table = self._running
            return CleanupRunning(since, table, list(self._progress.values()), self._cancel.is_set())

    def _begin(self, table: str | None, cancel: Flag | None = None) -> None:
        with self._lock:
            if self._running is not None:
                raise RefusedError("a cleaning runs already; wait for its end, or cancel it")
            self._running = self._clock.now(), table
            self._progress = {}
            self._cancel = cancel or Flag()

    def _scheduled(self, stop: Flag) -> None:
        try:
            self._begin(None, stop)
        except RefusedError as error:
            self._notify("cleanup left out", str(error))
            raise
        self._work(None, f"schedule {self._config.schedule}", None)

    def _work_silently(self, table: str | None, by: str, begun: Future[None]) -> None:
        try:
            self._work(table, by, begun)
        except PilotError as error:  # else it is in the history, and somebody was told
            if not begun.done():
                begun.set_exception(error)
        finally:
            begun.cancel()  # a defect of ours leaves nobody waiting

    def _work(self, table: str | None, by: str, begun: Future[None] | None) -> CleanupFinished:
        """The run, from its beginning to the message that it is over; who waits for ``begun`` hears of it by that."""
        started = self._clock.now()
        try:
            with self._asked():
                manners = self._manners(started)
                if begun is not None:
                    manners = replace(manners, at_begin=partial(begun.set_result, None))
                finished = self._retention().run(table=table, dry_run=False, manners=manners)
        except PilotError as error:
            if begun is None or begun.done():
                self._over(CleanupFinished(False, started, self._clock.now(), ()), by, str(error))
            raise
        finally:
            with self._lock:
                self._running = self._due = None
                self._ended += 1
        self._over(finished, by, None)
        return finished

    def _manners(self, started: datetime) -> Manners:
        config = self._config
        limits = Limits(config.max_lag_s, config.max_running, config.max_lock_waits, config.max_p95_s)
        until = None if config.window_s is None else started + timedelta(seconds=config.window_s)
        return Manners(limits, self._signs, until, self._cancel, at_progress=self._went_on)

    def _signs(self, connection: Connection) -> Signs:
        return read_signs(connection, p95_s=None if self._config.max_p95_s is None else self._p95_s)

    def _went_on(self, progress: CleanupProgress) -> None:
        with self._lock:
            self._progress[progress.rule] = progress

    def _over(self, finished: CleanupFinished, by: str, error: str | None) -> None:
        events = [run_event(finished, by, self._process, self.advice(finished), error)]
        self._submit(Batch(events=events))
        for result in finished.results:
            self._remember_recovery(result, by)
            self._remember_deletion(result, by)
        ok = finished.ok and error is None
        self._notify("cleanup done" if ok else "cleanup not finished", words_of(finished, error))

    def advice(self, finished: CleanupFinished) -> list[str]:
        """What gives freed space back, and what keeps duplicates out from now on."""
        return [*space_advice(finished, self._engine.dialect.name), *self._uniqueness_advice(finished)]

    def _uniqueness_advice(self, finished: CleanupFinished) -> list[str]:
        """How it is kept true that no row is there twice, where it is true now and nothing keeps it so."""
        clean = {one.rule for one in finished.results if not (one.error or one.stopped or one.left or one.held)}
        rules = [rule for rule in self._rules if rule.duplicates and rule.name in clean]
        try:
            with self._asked():
                return [
                    uniqueness_advice(rule, self._own_engine) for rule in rules if not is_unique(rule, self._own_engine)
                ]
        except WatchedDatabaseError:  # the run is over, and was good
            return []

    def _remember_recovery(self, result: CleanupResult, by: str) -> None:
        if result.recovered:
            undo = "none: each of its rows is live or archived, as if it had not been interrupted"
            self._activity(by, recovery(result), f"rule {result.rule}", undo)

    def _remember_deletion(self, result: CleanupResult, by: str) -> None:
        if result.deleted:
            undo = "none: they were purged" if result.kind == "purge" else f"restore rule {result.rule}"
            what = f"{result.deleted} rows of {result.table} -> {result.target or 'nowhere'}"
            self._activity(by, what, f"rule {result.rule}", undo)

    def _activity(self, who: str, what: str, why: str, undo: str) -> None:
        body = {"who": who, "what": what, "why": why, "undo": undo, "process": self._process}
        now = self._clock.now().astimezone(UTC)
        self._submit(Batch(events=[Event(ACTIVITY, now, "cleanup", 0.0, body)]))

    def _told(self, notice: Notice) -> None:
        if notice.kind != "failed":  # of that one the run itself has told
            self._notify(f"cleanup {notice.kind}", notice.text)

"""Cleans: what is due is archived, seen to be there, and deleted; all of it as planned, batch by batch."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Protocol

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from dbpilot.clock import SYSTEM, Clock
from dbpilot.errors import PilotError
from dbpilot.retention.beside import Beside, Moved, Purge, added
from dbpilot.retention.elsewhere import Elsewhere, check_is_ours, check_is_there
from dbpilot.retention.gentle import Limits, Signs, next_size, pause_reason
from dbpilot.retention.holds import held
from dbpilot.retention.journal import Entry, Journal
from dbpilot.retention.planner import Work, counted_again, planned
from dbpilot.retention.policy import Rule
from dbpilot.retention.portable import portable
from dbpilot.retention.reconcile import reconcile
from dbpilot.retention.results import CleanupFinished, CleanupProgress, CleanupResult
from dbpilot.retention.scope import Portion, Portions, Scope
from dbpilot.retention.session import Session, looking, working
from dbpilot.retention.targets import ArchiveTarget

PAUSE_S: Final = 0.5
"""Between two looks at what a cleaning waits for."""
HOW_TO_GO_ON: Final = "run the rule again, and it goes on from here"
UNREADABLE: Final = "a value that its column's type cannot have; mend it, or archive the table beside the live one"
"""SQLite lets a text lie in a column of dates."""
MAX_PASSES: Final = 100
"""Over a table that refers to itself: its leaves go first, then what they hung on."""


class Cancel(Protocol):
    """Something like :class:`threading.Event`."""

    def is_set(self) -> bool:
        """It is wished that the run ends."""

    def wait(self, timeout: float | None = None) -> bool:
        """Returns when it is, or when the time is over."""


class Mover(Protocol):
    """Moves batches of one rule."""

    scope: Scope

    def move(self, portion: Portion) -> Moved:
        """The portion's rows are where they belong, or on their way there; returns what came to its end."""

    def finish(self) -> Moved:
        """Nothing is on its way; returns what came to its end."""


@dataclass(frozen=True, slots=True)
class Manners:
    """How a cleaning behaves towards others."""

    limits: Limits = field(default_factory=Limits)
    signs: Callable[[sa.Connection], Signs] | None = None
    """How the database and the application are, asked after each batch; None to ask nobody."""
    until: datetime | None = None
    """The end of the maintenance window."""
    cancel: Cancel | None = None
    at_begin: Callable[[], None] = lambda: None
    """Told when everything is planned, and nothing stands against it."""
    at_progress: Callable[[CleanupProgress], None] = lambda _: None
    """Told after each batch, on the cleaning's thread."""


@dataclass(slots=True)
class _Tally:
    """What one rule has done so far."""

    moved: Moved = field(default_factory=Moved)
    batches: int = 0
    longest_s: float = 0.0
    paused_s: float = 0.0


def clean(
    engine: sa.Engine,
    rules: Sequence[Rule],
    target_of: Callable[[Rule], ArchiveTarget],
    *,
    dry_run: bool,
    manners: Manners | None = None,
    clock: Clock = SYSTEM,
) -> CleanupFinished:
    """What these rules say is done, or in a dry run found out.

    A rule that fails says so in its result, and the others go on.

    Raises:
        RefusedError: a rule must not be run here, or another cleaning is at work; nothing was done.
        RetentionError: an archive cannot be asked what it needs; nothing was done.
        ConfigError: rules contradict each other.
    """
    started = clock.now()
    if dry_run:
        with looking(engine) as connection:
            found = planned(connection, rules, started, target_of)
        results = [_planned_result(work) for work in found]
    else:
        with working(engine) as session:
            run = _Run(session, target_of, manners or Manners(), clock)
            with session.reading() as connection:
                found = planned(connection, rules, started, target_of)
            run.manners.at_begin()
            results = [run.rule(work) for work in found]
    return CleanupFinished(dry_run, started, clock.now(), tuple(results))


def _planned_result(work: Work, *, dry_run: bool = True) -> CleanupResult:
    step = work.step
    return CleanupResult(
        rule=step.rule,
        table=step.table,
        kind=step.kind,
        target=step.target,
        dry_run=dry_run,
        planned=step.rows,
        held=step.held,
        bytes=step.bytes,
        differences=step.differences,
    )


@dataclass(slots=True)
class _Run:
    """One cleaning."""

    session: Session
    target_of: Callable[[Rule], ArchiveTarget]
    manners: Manners
    clock: Clock

    def rule(self, work: Work) -> CleanupResult:
        """What one rule did."""
        began, tally = self.clock.ticks(), _Tally()
        result = _planned_result(work, dry_run=False)
        try:
            if work.step.at_most:
                with self.session.reading() as connection:
                    work = counted_again(connection, work)
                result = _planned_result(work, dry_run=False)
            result = self._run(work, tally, result)
        except SQLAlchemyError as error:
            result = replace(result, error=self._said(error))
        except PilotError as error:
            result = replace(result, error=str(error))
        except (ValueError, TypeError, ArithmeticError) as error:
            result = replace(result, error=f"{work.step.table} has {UNREADABLE}: {type(error).__name__}")
        return replace(
            result,
            copied=tally.moved.copied,
            verified=tally.moved.verified,
            deleted=tally.moved.deleted,
            left=tally.moved.left,
            why_left=tally.moved.why,
            batches=tally.batches,
            longest_s=tally.longest_s,
            paused_s=tally.paused_s,
            seconds=self.clock.ticks() - began,
        )

    def _said(self, error: SQLAlchemyError) -> str:
        return f"the database: {self.session.said(error)}; the batch in hand was undone, {HOW_TO_GO_ON}"

    def _run(self, work: Work, tally: _Tally, result: CleanupResult) -> CleanupResult:
        stopped = self._stopped()
        if stopped:
            return replace(result, stopped=stopped)
        scope = work.scope
        with ExitStack() as stack:
            target = self.target_of(scope.rule) if scope.rule.kind in ("server", "files") else None
            if target is not None:
                stack.callback(target.close)
            mover, open_ = self._mover(scope, target, stack)
            result = replace(result, recovered=len(open_), recovered_from=open_[0].began if open_ else None)
            if work.step.first_key is None or work.step.last_key is None:
                return result
            for _ in range(MAX_PASSES if scope.live.refers_to_itself else 1):
                before = tally.moved.deleted
                portions = Portions(work.scope, work.step.first_key, work.step.last_key, work.step.rows)
                stopped = self._batches(work, portions, mover, tally)
                if stopped or tally.moved.deleted == before:
                    break
            return replace(result, stopped=stopped)

    def _mover(self, scope: Scope, target: ArchiveTarget | None, stack: ExitStack) -> tuple[Mover, Sequence[Entry]]:
        """What moves the rule's batches, and which unfinished ones it put right first."""
        if scope.rule.kind == "purge":
            return Purge(self.session, scope), ()
        with self.session.transaction() as connection:
            Journal(connection).prepare()
        if target is None:
            with self.session.transaction() as connection:
                archive = reconcile(connection, scope.live, scope.rule.archive)
            return Beside(self.session, scope, archive, self.clock.now), ()
        mover = Elsewhere(
            self.session, scope, target, portable(scope.live, self.session.connection.dialect), self.clock.now
        )
        stack.callback(mover.close)
        recovered = mover.recover()
        target.prepare(mover.portable.table)
        with self.session.reading() as connection:
            check_is_there(connection, scope.rule.name, target, mover.portable)
            check_is_ours(connection, scope.rule.name, target, mover.portable)
        return mover, recovered

    def _batches(self, work: Work, portions: Portions, mover: Mover, tally: _Tally) -> str | None:
        """Every batch is moved; returns why not, if not."""
        step, rule = work.step, work.scope.rule
        size, began = rule.batch, self.clock.ticks()
        while True:
            stopped = self._stopped() or self._waited(step.rule, step.rows, tally)
            start = self.clock.ticks()
            portion = None if stopped else self._next(portions, mover, size)
            moved = mover.finish() if portion is None else mover.move(portion)
            took_s = self.clock.ticks() - start
            tally.moved = added(tally.moved, moved)
            tally.longest_s = max(tally.longest_s, took_s)
            if portion is None:
                self._tell(step.rule, step.rows, tally, size, self.clock.ticks() - began)
                return stopped
            tally.batches += 1
            size = next_size(size, took_s, rule.batch_s, rule.batch)
            self._tell(step.rule, step.rows, tally, size, self.clock.ticks() - began)

    def _next(self, portions: Portions, mover: Mover, size: int) -> Portion | None:
        """The next portion, of rows that nobody holds at this moment."""
        with self.session.reading() as connection:
            mover.scope = replace(mover.scope, holds=tuple(held(connection, mover.scope.rule.table)))
            return portions.next(connection, mover.scope, size)

    def _tell(self, rule: str, rows: int, tally: _Tally, size: int, took_s: float) -> None:
        done = tally.moved.deleted
        rate = done / (took_s - tally.paused_s) if took_s > tally.paused_s else 0.0
        left_s = max(0, rows - done - tally.moved.left) / rate if rate else None
        self.manners.at_progress(CleanupProgress(rule, rows, done, rate, left_s, size))

    def _stopped(self) -> str | None:
        """Why nothing more is begun."""
        if self.manners.cancel is not None and self.manners.cancel.is_set():
            return f"cancelled; {HOW_TO_GO_ON}"
        if self.manners.until is not None and self.clock.now() >= self.manners.until:
            return f"the maintenance window ended; {HOW_TO_GO_ON}"
        return None

    def _waited(self, rule: str, rows: int, tally: _Tally) -> str | None:
        """Returns when nothing stands against the next batch, or why there will be none."""
        while (reason := self._reason()) is not None:
            began = self.clock.ticks()
            progress = CleanupProgress(rule, rows, tally.moved.deleted, 0.0, None, 0, reason)
            self.manners.at_progress(progress)
            self._pause()
            tally.paused_s += self.clock.ticks() - began
            stopped = self._stopped()
            if stopped:
                return stopped
        return None

    def _reason(self) -> str | None:
        if self.manners.signs is None:
            return None
        with self.session.reading() as connection:
            return pause_reason(self.manners.signs(connection), self.manners.limits)

    def _pause(self) -> None:
        if self.manners.cancel is not None:
            self.manners.cancel.wait(PAUSE_S)
        else:
            time.sleep(PAUSE_S)

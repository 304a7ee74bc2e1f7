"""Indexes are made, tried, kept, or taken back; whatever dies meanwhile, nothing half-built stays, and nobody waits.

Every change walks the same way: it is planned and can be tried dry; the table is looked at again, and the moment; the
ledger is written; then the statement runs, with limits; the result is looked at; and for a while what the application
feels decides whether it stays.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from threading import Event
from typing import Final, Literal

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from dbpilot.clock import Clock
from dbpilot.dialects import dialect_of
from dbpilot.dialects.catalog import Catalog, Index, Table
from dbpilot.dialects.connections import OwnConnections
from dbpilot.dialects.ddl import Hindrances, Look, index_of, named
from dbpilot.dialects.whatif import Query
from dbpilot.errors import RefusedError, WatchedDatabaseError
from dbpilot.indexes.changes import Change, equal_one, fingerprint, same, why_kept
from dbpilot.indexes.ledger import OPEN, Entry, State
from dbpilot.indexes.runner import CancelledError, Manners, Runner, Session
from dbpilot.indexes.verify import Timing, Verdict, judge, measured, timing
from dbpilot.unsupported import Unsupported

BACK_PAUSE_S: Final = 2.0
EXPLAIN_S: Final = 5.0
"""As long as the plan of one statement may take."""

Step = State | Literal["planned", "already there", "not now", "refused"]
Explains = Callable[[str, str], bool | None]
"""Whether the plan of a pattern uses an index of this name; None where nobody can tell."""


@dataclass(frozen=True, slots=True)
class Activity:
    """A line for the activity log."""

    who: str
    what: str
    why: str
    undo: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a change."""

    change: Change
    step: Step
    text: str
    """In a sentence."""
    ddl: tuple[str, ...] = ()
    undo: str = ""
    entry: int | None = None
    """Its number in the ledger; None where nothing was begun."""
    verdict: Verdict | None = None

    @property
    def is_open(self) -> bool:
        """Whether something is half done, which :meth:`Applier.recover` will put right."""
        return self.step in OPEN


def _silent(_: Activity) -> None:
    """Nobody is told."""


def _unseen(_: Look) -> None:
    """Nobody looks."""


class Applier:
    """Changes the indexes of one database; one change at a time, by one process of all."""

    def __init__(
        self,
        engine: sa.Engine,
        clock: Clock,
        *,
        manners: Manners | None = None,
        schema: str | None = None,
        tell: Callable[[Activity], None] = _silent,
        at_progress: Callable[[Look], None] = _unseen,
        cancel: Event | None = None,
    ) -> None:
        """Nothing is connected or changed yet.

        Args:
            engine: one whose connections are the caller's own and are closed after use, as those of
                :func:`dbpilot.dialects.connections.own_engine`.
            clock: tells the time.
            manners: how gently.
            schema: where the tables are, if that is not the connection's own.
            tell: takes lines for the activity log.
            at_progress: is told how far a statement is, in a thread of its own; must not raise.
            cancel: when it is set, what runs ends and is put right, and nothing more is begun.

        Raises:
            RefusedError: the engine is one for asyncio.
        """
        if engine.dialect.is_async:
            raise RefusedError("changing indexes needs an engine without asyncio; make one with create_engine for it")
        self._engine = engine
        self._dialect = dialect_of(engine)
        self._ddl = self._dialect.ddl
        self._clock = clock
        self._manners = manners or Manners()
        self._schema = schema
        self._tell = tell
        self._cancel = cancel or Event()
        self._runner = Runner(engine, self._dialect, self._manners, at_progress, self._cancel)

    def apply(
        self,
        changes: Sequence[Change],
        *,
        who: str,
        seen: Mapping[str, str] | None = None,
        dry_run: bool = False,
        explains: Explains | None = None,
    ) -> list[Outcome]:
        """The changes are made one after another, and watched from then on; one that cannot be made stops no other.

        Args:
            changes: what to do.
            who: asks for it.
            seen: by table, :func:`dbpilot.indexes.changes.fingerprint` of it when the changes were planned.
            dry_run: nothing is changed; the outcomes say what would be done, and what stands against it now.
            explains: whether the plan of a pattern uses an index; a new one that no plan uses is taken back at once.

        Raises:
            RefusedError: a table is not any more what it was; or another process changes indexes here.
            WatchedDatabaseError: the database cannot be reached, or refuses.
        """
        with self._asked():
            self._check(changes, seen or {})
            if dry_run:
                with self._runner.looking() as session:
                    return self._all_planned(session, changes)
            return [self._one(change, who, explains) for change in changes]

    def recover(self) -> list[Outcome]:
        """What processes that died have left is finished, or is gone.

        Raises:
            RefusedError: another process changes indexes here.
            WatchedDatabaseError: the database cannot be reached, or refuses.
        """
        with self._asked():
            with self._runner.looking() as session:
                if not session.ledger.entries(*OPEN):
                    return []
            with self._runner.alone() as session:
                return [self._resumed(session, entry) for entry in session.ledger.entries(*OPEN)]

    def entries(self, *states: State) -> list[Entry]:
        """The ledger's entries in these states, or all; the oldest first.

        Raises:
            WatchedDatabaseError: the database cannot be reached, or refuses.
        """
        with self._asked(), self._runner.looking() as session:
            return session.ledger.entries(*states)

    def settle(
        self, number: int, before: Mapping[str, Timing], after: Mapping[str, Timing], *, drift: float = 1.0
    ) -> Outcome:
        """A change on trial is kept, or taken back, or goes on being watched, as the timings by pattern id say.

        Raises:
            RefusedError: no change of this number is on trial; or another process changes indexes here.
            WatchedDatabaseError: the database cannot be reached, or refuses.
        """
        with self._asked(), self._runner.alone() as session:
            entry = self._entry(session, number, "watching")
            expired = entry.until is not None and self._clock.now() >= entry.until
            change, rule = entry.change, self._manners.rule
            verdict = judge(change.promises, before, after, grade=change.grade, expired=expired, drift=drift, rule=rule)
            return self._settled(session, entry, verdict)

    def revert(self, number: int, *, who: str, why: str) -> Outcome:
        """A change that was made is taken back, whether it is on trial or was kept.

        Raises:
            RefusedError: no change of this number was made; or another process changes indexes here.
            WatchedDatabaseError: the database cannot be reached, or refuses.
        """
        with self._asked(), self._runner.alone() as session:
            return self._reverted(session, self._entry(session, number, "watching", "kept"), why, who)

    def prove(
        self,
        change: Change,
        queries: Mapping[str, Query],
        *,
        who: str,
        repeats: int = 10,
        timeout_s: float = 30.0,
    ) -> Outcome:
        """The change was made, and kept or taken back, as these queries that only read were faster or not.

        For a database that no application watches. They are run before and after, all in turn, and in alternation where
        an index can be hidden. An index that the plan of none of them has is taken back before that.

        Args:
            change: what to do; a drop is on trial from then on, unless a query became slower.
            queries: by pattern id.
            who: asks for it.
            repeats: how often each is run, each time; two at least.
            timeout_s: as long as one may take.

        Raises:
            RefusedError: as :meth:`apply` does.
            WatchedDatabaseError: the database cannot be reached, or refuses.
        """
        if self._hides() is not None:
            with self._asked(), self._runner.looking() as session:
                self._analyzed(session, named(change.table, change.name, self._schema))
        with self._asked():
            unchanged = self._durations(queries, repeats, timeout_s)
        [outcome] = self.apply([change], who=who, explains=self._explained(queries))
        if outcome.step != "watching" or outcome.entry is None:
            return outcome
        with self._asked():
            try:
                before, after = self._before_and_after(outcome, unchanged, queries, repeats, timeout_s)
            except CancelledError:
                return self.revert(outcome.entry, who=who, why="an end was asked for before it was proven")
        rule = replace(self._manners.rule, min_calls=2)
        timings = ({name: timing(taken) for name, taken in each.items()} for each in (before, after))
        verdict = judge(change.promises, *timings, grade=change.grade, expired=change.act == "create", rule=rule)
        with self._asked(), self._runner.alone() as session:
            return self._settled(session, self._entry(session, outcome.entry, "watching"), verdict)

    def _before_and_after(
        self,
        outcome: Outcome,
        before: Mapping[str, list[float]],
        queries: Mapping[str, Query],
        repeats: int,
        timeout_s: float,
    ) -> tuple[Mapping[str, list[float]], Mapping[str, list[float]]]:
        """Durations without the change that was made, those that are known included, and with it."""
        after = self._durations(queries, repeats, timeout_s)
        if self._hides() is not None:
            return before, after
        with self._swapped(outcome):
            before = _together(before, self._durations(queries, repeats, timeout_s))
        return before, _together(after, self._durations(queries, repeats, timeout_s))

    def _one(self, change: Change, who: str, explains: Explains | None) -> Outcome:
        """The change, and where it failed, what was put right afterwards."""
        entry: Entry | None = None
        try:
            with self._runner.alone() as session:
                for left in session.ledger.entries(*OPEN):
                    self._resumed(session, left)
                refused = self._why_not(session, change, begins=True)
                if refused is not None:
                    return refused
                session.ledger.prepare()
                entry = self._entered(session, change, who)
                with self._noted(session, entry):
                    return self._made(session, entry, explains)
        except (DBAPIError, CancelledError) as error:
            said, code = self._runner.said(error), self._runner.code(error)
            if entry is None and code not in self._ddl.passing:
                raise
            if entry is None:
                return Outcome(change, "not now", f"nothing was begun: {said}")
            return self._put_right(entry, said, name_is_taken=code in self._ddl.taken)

    @contextmanager
    def _noted(self, session: Session, entry: Entry) -> Iterator[None]:
        """Why the change fails is in the ledger before anybody else can put it right."""
        try:
            yield
        except (DBAPIError, CancelledError) as error:
            now = session.ledger.now(entry) if not session.connection.invalidated else None
            if now is not None and now.state == "building":
                session.ledger.advance(now, "building", self._runner.said(error), self._clock.now())
            raise

    def _why_not(
        self, session: Session, change: Change, made: Sequence[Index] = (), *, begins: bool = False
    ) -> Outcome | None:
        """Why the change is not begun; None where it is. ``begins``: now, and not when others are made that it waits
        for; ``made``: indexes that will be there by then."""
        catalog = _with(self._catalog(session), made)
        table = catalog.tables.get(change.table)
        if table is None:
            return Outcome(change, "refused", f"there is no table {change.table} any more")
        present = next((index for index in table.indexes if index.name == change.name), None)
        if change.act == "drop":
            if present is None:
                return Outcome(change, "already there", f"there is no index {change.name} any more")
            if self._is_on_trial(session, change):
                return Outcome(change, "already there", f"{change.name} is hidden, and on trial")
            reason = why_kept(present, catalog) or (_unserved(change, table) if begins else None)
            if reason is not None:
                return Outcome(change, "refused", reason)
        elif change.index is not None:
            equal = equal_one(table, change.index)
            if equal is not None:
                return Outcome(change, "already there", f"{equal.name} is such an index already")
            if present is not None:
                return Outcome(change, "refused", f"another index of {change.table} is named {change.name}")
        if self._cancel.is_set():
            return Outcome(change, "not now", "an end was asked for")
        reasons = self._hindrances(session, change).reasons
        return Outcome(change, "not now", "; ".join(reasons)) if reasons else None

    def _is_on_trial(self, session: Session, change: Change) -> bool:
        wanted = change.act, change.table, change.name
        on_trial = (entry.change for entry in session.ledger.entries("watching"))
        return any((other.act, other.table, other.name) == wanted for other in on_trial)

    def _entered(self, session: Session, change: Change, who: str) -> Entry:
        ddl, undo, again = self._statements(session, change)
        return session.ledger.enter(change, ddl, undo, who, self._clock.now(), again)

    def _made(self, session: Session, entry: Entry, explains: Explains | None) -> Outcome:
        change = entry.change
        if change.act == "create":
            self._persistently(session, entry, entry.ddl[0], lambda: self._sweep(session, entry), builds=True)
            return self._switched_on(session, entry, explains)
        self._persistently(session, entry, entry.ddl[0])
        return self._gone(session, entry)

    def _persistently(
        self,
        session: Session,
        entry: Entry,
        statement: str,
        after_failure: Callable[[], object] | None = None,
        *,
        may_end: bool = True,
        builds: bool = False,
    ) -> None:
        """As the runner does, and at last as patient as those are used to be who read the table."""
        used_to_s = max((promise.mean_s or 0.0 for promise in entry.change.promises), default=0.0)
        self._runner.persistently(
            session, statement, after_failure, may_end=may_end, builds=builds, statement_s=used_to_s
        )

    def _switched_on(self, session: Session, entry: Entry, explains: Explains | None = None) -> Outcome:
        """The index that is there is known to the optimizer, in use, and watched from now on."""
        change, dialect = entry.change, session.dialect
        index = named(change.table, change.name, self._schema)
        self._analyzed(session, index)
        present = self._present(session, change)
        if present is not None and present.ignored:
            self._persistently(session, entry, self._ddl.hide(dialect, index, hidden=False))
        unused = self._unused(change, explains)
        if unused is not None:
            return self._reverted(session, entry, unused, entry.who)
        return self._watched(session, entry, f"{change.name} on {change.table} is made", self._manners.watch_s)

    def _gone(self, session: Session, entry: Entry) -> Outcome:
        """The index is hidden, or has gone, and is missed or not."""
        hidden = self._present(session, entry.change) is not None
        words = f"{entry.change.name} of {entry.change.table} is {'hidden from the optimizer' if hidden else 'dropped'}"
        return self._watched(session, entry, words, self._manners.trial_s)

    def _watched(self, session: Session, entry: Entry, what: str, for_s: float) -> Outcome:
        now = self._clock.now()
        entry = session.ledger.advance(entry, "watching", what, now, now + timedelta(seconds=for_s))
        self._tell(Activity(entry.who, what, entry.change.why, entry.undo))
        return _outcome(entry)

    def _unused(self, change: Change, explains: Explains | None) -> str | None:
        """Why the index is of no use already now: the plan of nothing that it is made for has it."""
        helped = [promise.pattern_id for promise in change.promises if promise.ratio < 1]
        if explains is None or not helped:
            return None
        used = [explains(pattern_id, change.name) for pattern_id in helped]
        return None if True in used or None in used else "no plan of what it was made for uses it"

    def _put_right(self, entry: Entry, why: str, *, name_is_taken: bool) -> Outcome:
        """Nothing half done is left, on a new connection, as the old one may be gone; or the ledger still says so."""
        deadline = time.monotonic() + self._manners.back_s
        attempt = 0
        while True:
            attempt += 1
            try:
                with self._runner.alone(may_end=False) as session:
                    entry = session.ledger.now(entry)
                    if not _is_open(entry):
                        return _outcome(entry)
                    if name_is_taken:  # by somebody who was faster; nothing of that name is ours
                        return self._failed(session, entry, f"{why}; nothing was made")
                    return self._resumed(session, entry, why)
            except (DBAPIError, RefusedError):
                if time.monotonic() > deadline:
                    break
            self._runner.pause(attempt, BACK_PAUSE_S, may_end=False)
        return Outcome(
            entry.change,
            entry.state,
            f"{why}; what is half done could not be put right either, and waits for recover()",
            entry.ddl,
            entry.undo,
            entry.id,
        )

    def _resumed(self, session: Session, entry: Entry, why: str | None = None) -> Outcome:
        """The entry is at its end, or on trial; where that could not be done now, it is as it was."""
        why = why or (entry.note if entry.state == "building" else None) or "its process was interrupted"
        step = {"building": self._rebuilt, "finishing": self._finished, "reverting": self._reversed}[entry.state]
        try:
            return step(session, entry, why)
        except (DBAPIError, CancelledError) as error:
            if session.connection.invalidated:
                raise
            left = session.ledger.now(entry)
            return _outcome(left, f"{why}; what is half done is still there: {self._runner.said(error)}")

    def _rebuilt(self, session: Session, entry: Entry, why: str) -> Outcome:
        present = self._present(session, entry.change)
        if entry.change.act == "drop":
            return self._dropped_again(session, entry, present, why)
        if present is None:
            return self._failed(session, entry, why)
        if not self._is_ours(present, entry.change):
            return self._failed(session, entry, f"{why}; the index of that name is not ours, and was left alone")
        if present.valid and not self._cancel.is_set():
            return self._switched_on(session, entry)
        self._sweep(session, entry, wanted=False)
        if self._present(session, entry.change) is None:
            return self._failed(session, entry, why)
        return _outcome(entry, f"{why}; somebody is at work at {entry.change.name}")

    def _dropped_again(self, session: Session, entry: Entry, present: Index | None, why: str) -> Outcome:
        if present is not None and not present.valid:  # PostgreSQL had begun to take it away
            self._persistently(session, entry, entry.ddl[0])
            present = None
        if present is None or present.ignored:
            return self._gone(session, entry)
        return self._failed(session, entry, why)

    def _failed(self, session: Session, entry: Entry, why: str) -> Outcome:
        return _outcome(session.ledger.advance(entry, "failed", why, self._clock.now()))

    def _sweep(self, session: Session, entry: Entry, *, wanted: bool = True) -> None:
        """No broken index of this entry is left, nor, if it is not wanted any more, a whole one."""
        change = entry.change
        present = self._present(session, change)
        index = named(change.table, change.name, self._schema)
        if present is None or index.table is None or not self._is_ours(present, change):
            return
        if change.name in self._ddl.broken(session.connection, index.table) or (present.valid and not wanted):
            self._persistently(session, entry, self._ddl.drop(session.dialect, index), may_end=False)

    def _is_ours(self, present: Index, change: Change) -> bool:
        """Nobody else made an index of that name in the meantime: it is the one that the ledger speaks of."""
        return change.index is not None and same(present, change.index)

    def _settled(self, session: Session, entry: Entry, verdict: Verdict) -> Outcome:
        if verdict.decision == "wait":
            return _outcome(entry, f"not decided yet: {verdict.reason}", verdict)
        if verdict.decision == "revert":
            return self._reverted(session, entry, verdict.reason, "dbpilot", verdict)
        if entry.change.act == "drop" and self._present(session, entry.change) is not None:
            entry = session.ledger.advance(entry, "finishing", verdict.reason, self._clock.now())
            return replace(self._resumed(session, entry, verdict.reason), verdict=verdict)
        return replace(self._kept(session, entry, verdict.reason), verdict=verdict)

    def _kept(self, session: Session, entry: Entry, why: str) -> Outcome:
        present = self._present(session, entry.change)
        if entry.change.act == "create" and present is not None and present.ignored:  # as a trial that died left it
            index = named(entry.change.table, entry.change.name, self._schema)
            self._persistently(session, entry, self._ddl.hide(session.dialect, index, hidden=False))
        undo = entry.again if entry.change.act == "drop" else None
        entry = session.ledger.advance(entry, "kept", why, self._clock.now(), undo=undo)
        self._tell(Activity("dbpilot", f"kept: {_words(entry.change)}", why, entry.undo))
        return _outcome(entry)

    def _finished(self, session: Session, entry: Entry, why: str) -> Outcome:
        """The index that was hidden is gone, unless something rests on it by now."""
        present = self._present(session, entry.change)
        if present is not None:
            catalog = self._catalog(session)
            reason = why_kept(present, catalog)
            if reason is not None:
                return self._reverted(session, entry, reason, "dbpilot")
            index = named(entry.change.table, entry.change.name, self._schema)
            self._persistently(session, entry, self._ddl.drop(session.dialect, index))
        return self._kept(session, entry, why)

    def _reverted(self, session: Session, entry: Entry, why: str, who: str, verdict: Verdict | None = None) -> Outcome:
        entry = session.ledger.advance(entry, "reverting", why, self._clock.now())
        outcome = self._resumed(session, entry, why)
        if not outcome.is_open:
            self._tell(Activity(who, f"taken back: {_words(entry.change)}", why, "; ".join(entry.ddl)))
        return replace(outcome, verdict=verdict)

    def _reversed(self, session: Session, entry: Entry, why: str) -> Outcome:
        change, dialect = entry.change, session.dialect
        index = named(change.table, change.name, self._schema)
        present = self._present(session, change)
        if change.act == "create":
            if not all(self._is_back(session, other, entry) for other in self._served_by(session, entry)):
                return _outcome(entry, f"{why}; an index in whose place {change.name} serves could not be put back yet")
            if present is not None and self._is_ours(present, change):
                if self._hides() is None and not present.ignored:  # at once, whatever the drop has to wait for
                    self._persistently(session, entry, self._ddl.hide(dialect, index, hidden=True), may_end=False)
                self._persistently(session, entry, self._ddl.drop(dialect, index), may_end=False)
        elif present is not None and present.ignored:
            self._persistently(session, entry, self._ddl.hide(dialect, index, hidden=False), may_end=False)
        elif present is None or not present.valid:
            if present is not None:
                self._persistently(session, entry, self._ddl.drop(dialect, index), may_end=False)
            self._persistently(session, entry, entry.again or entry.undo, may_end=False, builds=True)
        return _outcome(session.ledger.advance(entry, "reverted", why, self._clock.now()))

    def _served_by(self, session: Session, entry: Entry) -> list[Entry]:
        """The changes that took an index away because the one that this entry made is there."""
        made = entry.change.table, entry.change.name
        gone = session.ledger.entries("watching", "finishing", "kept", "reverting")
        return [other for other in gone if other.id > entry.id and (other.change.table, other.change.served_by) == made]

    def _is_back(self, session: Session, other: Entry, entry: Entry) -> bool:
        why = f"{entry.change.name}, which serves in its place, is taken back"
        return not self._reverted(session, other, why, "dbpilot").is_open

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """What the driver raises inside is told as an error of ours, without its words: they repeat values."""
        try:
            yield
        except SQLAlchemyError as error:
            raise WatchedDatabaseError(f"the watched database: {self._runner.said(error)}") from None
        except CancelledError:
            raise RefusedError("an end was asked for; nothing more is begun") from None

    def _check(self, changes: Sequence[Change], seen: Mapping[str, str]) -> None:
        with self._runner.looking() as session:
            catalog = self._catalog(session)
        for name in dict.fromkeys(change.table for change in changes):
            table = catalog.tables.get(name)
            if table is None:
                raise RefusedError(f"there is no table {name}")
            if name in seen and fingerprint(table, changes) != seen[name]:
                raise RefusedError(f"{name} is not what it was when this was planned; ask for advice again")

    def _all_planned(self, session: Session, changes: Sequence[Change]) -> list[Outcome]:
        """What would become of each, once those before it are made."""
        outcomes: list[Outcome] = []
        made: list[Index] = []
        for change in changes:
            outcomes.append(self._planned(session, change, made))
            if change.index is not None and outcomes[-1].step == "planned":
                new = change.index
                made.append(Index(change.name, new.table, new.keys, new.include, unique=new.unique))
        return outcomes

    def _planned(self, session: Session, change: Change, made: Sequence[Index]) -> Outcome:
        refused = self._why_not(session, change, made)
        if refused is not None and refused.step != "not now":
            return refused
        ddl, undo, _ = self._statements(session, change)
        words = [f"not now: {refused.text}" if refused is not None else "nothing stands against it now"]
        if change.served_by in [index.name for index in made if index.table == change.table]:
            words.append(f"it waits for {change.served_by}, which is to be made before")
        words += [f"not known: {one}" for one in self._hindrances(session, change).unknown]
        hides = self._hides()
        if change.act == "drop" and hides is not None:
            words.append(f"there is no trial: {hides.reason}")
        return Outcome(change, "planned", "; ".join(words), ddl, undo)

    def _statements(self, session: Session, change: Change) -> tuple[tuple[str, ...], str, str | None]:
        """What is executed, what takes it back, and what makes an index anew that is gone for good."""
        dialect, ddl, hidden = session.dialect, self._ddl, self._hides() is None
        index = named(change.table, change.name, self._schema)
        if change.index is not None:
            made = ddl.create(dialect, index_of(change.index, change.name, self._schema), hidden=hidden)
            shown = ddl.hide(dialect, index, hidden=False) if hidden else None
            steps = made, *ddl.analyze(session.connection, index), shown
            return tuple(step for step in steps if step is not None), ddl.drop(dialect, index), None
        dropped, again = ddl.drop(dialect, index), self._again(session, change)
        if hidden:
            return (ddl.hide(dialect, index, hidden=True), dropped), ddl.hide(dialect, index, hidden=False), again
        return (dropped,), again, again

    def _again(self, session: Session, change: Change) -> str:
        """The statement that makes an index anew that is to go."""
        present = self._present(session, change)
        definition = None if present is None else present.definition
        if definition is None:
            raise RefusedError(f"nobody knows the statement that would make {change.name} anew")
        return self._ddl.again(session.dialect, definition)

    def _hindrances(self, session: Session, change: Change) -> Hindrances:
        table = named(change.table, change.name, self._schema).table
        if table is None:
            return Hindrances()
        size = change.size_bytes if change.act == "create" else 0.0
        return self._ddl.hindrances(session.connection, table, size, self._manners.limits)

    def _catalog(self, session: Session) -> Catalog:
        return self._dialect.catalog(session.connection, self._schema)

    def _present(self, session: Session, change: Change) -> Index | None:
        """The index of that name as it is now."""
        table = self._dialect.catalog(session.connection, self._schema, [change.table]).tables.get(change.table)
        return next((index for index in table.indexes if index.name == change.name), None) if table else None

    def _entry(self, session: Session, number: int, *states: State) -> Entry:
        found = [entry for entry in session.ledger.entries(*states) if entry.id == number]
        if not found:
            raise RefusedError(f"no change of number {number} is {' or '.join(states)}")
        return found[0]

    def _hides(self) -> Unsupported | None:
        return self._ddl.hides(self._engine.dialect)

    @contextmanager
    def _swapped(self, outcome: Outcome) -> Iterator[None]:
        """A new index is hidden inside of the block, and one that is hidden is shown."""
        index = named(outcome.change.table, outcome.change.name, self._schema)
        hide = outcome.change.act == "create"
        self._switch(index, hidden=hide, may_end=True)
        try:
            yield
        finally:
            self._switch(index, hidden=not hide, may_end=False)

    def _switch(self, index: sa.Index, *, hidden: bool, may_end: bool) -> None:
        with self._runner.alone(may_end=may_end) as session:
            self._runner.persistently(session, self._ddl.hide(session.dialect, index, hidden=hidden), may_end=may_end)

    def _analyzed(self, session: Session, index: sa.Index) -> None:
        """The optimizer knows what is in the index and in its table."""
        for statement in self._ddl.analyze(session.connection, index):
            self._runner.if_possible(session, statement)

    def _explained(self, queries: Mapping[str, Query]) -> Explains:
        """Asks the database for the plans of these queries."""

        def explains(pattern_id: str, name: str) -> bool | None:
            query = queries.get(pattern_id)
            if query is None:
                return None
            try:
                plan = OwnConnections(self._engine).run(
                    lambda connection: self._dialect.explain(connection, query.statement, query.parameters), EXPLAIN_S
                )
            except WatchedDatabaseError:
                return None
            return None if isinstance(plan, Unsupported) else any(node.uses(name) for _, node in plan.walk())

        return explains

    def _durations(self, queries: Mapping[str, Query], repeats: int, timeout_s: float) -> dict[str, list[float]]:
        found = OwnConnections(self._engine).run(
            lambda connection: measured(connection, queries, repeats, timeout_s, self._clock, self._cancel.is_set),
            timeout_s,
        )
        if isinstance(found, Unsupported):
            raise RefusedError(f"{found.reason}; {found.fix}")
        if self._cancel.is_set():
            raise CancelledError
        return found


def _outcome(entry: Entry, text: str | None = None, verdict: Verdict | None = None) -> Outcome:
    return Outcome(entry.change, entry.state, text or entry.note or "", entry.ddl, entry.undo, entry.id, verdict)


def _with(catalog: Catalog, made: Iterable[Index]) -> Catalog:
    """The catalogue as it is when these indexes are there as well."""
    tables = dict(catalog.tables)
    for index in made:
        if index.table in tables:
            tables[index.table] = replace(tables[index.table], indexes=(*tables[index.table].indexes, index))
    return replace(catalog, tables=tables)


def _unserved(change: Change, table: Table) -> str | None:
    """Why an index must not go yet that another one is to serve for; None where it may."""
    serves = [index.name for index in table.indexes if index.valid and not index.ignored]
    if change.served_by is None or change.served_by in serves:
        return None
    return f"{change.served_by}, which is to serve instead, is not there"


def _is_open(entry: Entry) -> bool:
    return entry.state in OPEN


def _words(change: Change) -> str:
    return f"{change.act} {change.name} on {change.table}"


def _together(one: Mapping[str, list[float]], other: Mapping[str, list[float]]) -> dict[str, list[float]]:
    return {name: [*taken, *other[name]] for name, taken in one.items()}

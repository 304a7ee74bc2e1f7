"""Steps that somebody has taken, and watches, and may end."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Event
from typing import Final

from sqlalchemy import Engine

from dbpilot.cli.cleanup_run import LOOK_EVERY_S, Interruption
from dbpilot.cli.progress import Building
from dbpilot.cli.render import say
from dbpilot.clock import SYSTEM
from dbpilot.config import HistoryConfig, IndexesConfig
from dbpilot.dialects.connections import own_engine
from dbpilot.dialects.ddl import Look
from dbpilot.dialects.whatif import Query
from dbpilot.errors import StoreError
from dbpilot.history.sql_store import SqlStore, place
from dbpilot.history.store import Batch
from dbpilot.indexes.analysis import Analysis, Progress
from dbpilot.indexes.apply import Activity, Applier, Outcome
from dbpilot.indexes.changes import Change
from dbpilot.indexes.runner import CancelledError
from dbpilot.indexes.steps import in_turn
from dbpilot.indexes.suggestions import Suggestion
from dbpilot.indexes.workload import Statement
from dbpilot.indexing import activity_event, manners_of

BY: Final = "command line"
MOST_RUN: Final = 25
"""As many statements are run before and after a step, those first that take most time."""
INTERRUPTED: Final = "interrupted before it was proven"
ENDING: Final = "ends as soon as nothing is half done; another Ctrl-C changes nothing"


class Taking:
    """Takes steps in a database that nobody else watches: where statements are known with their values, those that
    only read are run before and after each step."""

    def __init__(
        self,
        engine: Engine,
        config: IndexesConfig,
        analysis: Analysis,
        schema: str | None,
        tell: Callable[[Activity], None],
        show: Building,
    ) -> None:
        self._engine = engine
        self._config = config
        self._schema = schema
        self._statements = {one.id: one for one in analysis.workload.statements if _can_be_run(one)}
        self._tell = tell
        self._show = show
        self._cancel = Event()

    def all(self, steps: Sequence[Suggestion], interruption: Interruption) -> list[Outcome]:
        """What became of each step, in a thread of its own, so that it can be interrupted here.

        Raises:
            PilotError: the database cannot be reached, or another process changes its indexes.
        """
        with ThreadPoolExecutor(1, "dbpilot-indexes") as thread:
            run = thread.submit(self._all, steps)
            self._watch(run, interruption)
            return run.result()

    def _all(self, steps: Sequence[Suggestion]) -> list[Outcome]:
        left = self._applier().recover()
        return [*left, *(outcome for _, outcome in in_turn(steps, self._one))]

    def _watch(self, run: Future[list[Outcome]], interruption: Interruption) -> None:
        while not wait([run], LOOK_EVERY_S).done:
            if interruption.asked and not self._cancel.is_set():
                self._cancel.set()
                self._show.say(ENDING)

    def _one(self, change: Change) -> Outcome:
        words = f"{change.act} {change.name} on {change.table}"
        self._show.begin(words)
        outcome = self._taken(change)
        self._show.end(f"{words}: {outcome.step}")
        return outcome

    def _taken(self, change: Change) -> Outcome:
        queries = self._queries(change)
        applier = self._applier(self._cancel)
        if not queries:
            return applier.apply([change], who=BY)[0]
        try:
            outcome = applier.prove(change, queries, who=BY)
        except CancelledError:
            return self._taken_back(change)
        ended = self._cancel.is_set() and outcome.step == "watching" and change.act == "create"
        return self._taken_back(change) if ended else outcome

    def _taken_back(self, change: Change) -> Outcome:
        """What was begun, and cannot be judged any more, is as it was before."""
        applier = self._applier()
        applier.recover()
        open_ones = [one for one in applier.entries("watching") if (one.change.table, one.change.name) == _name(change)]
        if not open_ones:
            return Outcome(change, "not now", INTERRUPTED)
        return applier.revert(open_ones[-1].id, who=BY, why=INTERRUPTED)

    def _applier(self, cancel: Event | None = None) -> Applier:
        """One that hears that Event, or none."""
        return applier_of(
            self._engine,
            self._config,
            self._tell,
            schema=self._schema,
            at_progress=lambda look: self._show.look(look.phase, look.done),
            cancel=cancel,
        )

    def _queries(self, change: Change) -> Mapping[str, Query]:
        """Statements that only read, with real values, whose plans the change is thought to change: what it does not
        touch tells nothing but how uneven a machine is."""
        touched = [one.pattern_id for one in change.promises if change.act == "drop" or one.ratio < 1]
        found = [id_ for id_ in touched if id_ in self._statements][:MOST_RUN]
        return {id_: self._statements[id_].samples[0] for id_ in found}


@contextmanager
def ended_between() -> Iterator[Callable[[Progress], Progress]]:
    """Inside, Ctrl-C ends an analysis between two of its questions, so that it leaves nothing behind; a second one ends
    it at once."""
    asked = False

    def note(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    def ends(tell: Progress) -> Progress:
        def told(what: str) -> None:
            if asked:
                raise KeyboardInterrupt
            tell(what)

        return told

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ends
        if asked:
            raise KeyboardInterrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _can_be_run(statement: Statement) -> bool:
    only_reads = statement.predicates is not None and statement.predicates.written is None
    return only_reads and statement.real_values and bool(statement.samples)


def _name(change: Change) -> tuple[str, str]:
    return change.table, change.name


def _silent(_: Activity) -> None:
    """Nobody is told."""


def _unseen(_: Look) -> None:
    """Nobody looks."""


def applier_of(
    engine: Engine,
    config: IndexesConfig,
    tell: Callable[[Activity], None] = _silent,
    *,
    schema: str | None = None,
    at_progress: Callable[[Look], None] = _unseen,
    cancel: Event | None = None,
) -> Applier:
    """Who changes the indexes of this database."""
    return Applier(
        own_engine(engine, patient=True),
        SYSTEM,
        manners=manners_of(config),
        schema=schema,
        tell=tell,
        at_progress=at_progress,
        cancel=cancel,
    )


@contextmanager
def telling(engine: Engine, config: HistoryConfig) -> Iterator[Callable[[Activity], None]]:
    """What is done inside is in the activity log; where that cannot be reached it is said, and stops nothing."""
    store = SqlStore(config.url.get_secret_value(), place(engine.url), config)
    failures: list[str] = []

    def tell(activity: Activity) -> None:
        try:
            store.write(Batch(events=[activity_event(activity, SYSTEM.now())]))
        except StoreError as error:
            failures.append(str(error))

    try:
        yield tell
    finally:
        store.close()
        if failures:
            say(f"it was done, but it is not remembered: {failures[-1]}")

"""Sees every statement of an engine, successful or not, and hands it to the recorder.

It uses SQLAlchemy's ``do_execute`` events, which replace the call to the driver, because they cost a tenth of a pair
of ``before_cursor_execute`` / ``after_cursor_execute`` listeners and see failures without a second hook. Of several
``do_execute`` listeners on one engine SQLAlchemy stops at the first that executes the statement: one of the
application's that was attached earlier and does so hides its statements from us, one attached later is not called.
Attach such listeners first.

What is timed is the driver: its execute call and its fetch calls, not what the application does between them. An
execution that answers rows is recorded when its cursor is closed, or collected.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExecutionContext
from sqlalchemy.engine.interfaces import DBAPICursor

from dbpilot.clock import Clock
from dbpilot.dialects import Dialect
from dbpilot.queries.cursor import WatchedCursor
from dbpilot.queries.recorder import MAX_COMPILED, MAX_SENT_AS_TEXT, Execution, Recorder


class Listener:
    """Attached to one engine between :meth:`attach` and :meth:`detach`."""

    def __init__(self, engine: Engine, dialect: Dialect, recorder: Recorder, clock: Clock) -> None:
        self._engine = engine
        self._dialect = dialect
        self._recorder = recorder
        self._ticks = clock.ticks
        self.failures = 0
        """Executions that could not be recorded because of an error of ours."""
        driver = engine.dialect
        self._hooks: dict[str, Callable[..., bool]] = {
            "do_execute": self._with_parameters(driver.do_execute),
            "do_executemany": self._with_parameters(driver.do_executemany, many=True),
            "do_execute_no_params": self._without_parameters(driver.do_execute_no_params),
        }

    def attach(self) -> None:
        """Statements executed from now on are recorded."""
        for name, hook in self._hooks.items():
            event.listen(self._engine, name, hook)

    def detach(self) -> None:
        """Statements executed from now on are not recorded."""
        for name, hook in self._hooks.items():
            if event.contains(self._engine, name, hook):
                event.remove(self._engine, name, hook)

    def _with_parameters(self, execute: Callable[..., None], *, many: bool = False) -> Callable[..., bool]:
        """A hook that runs ``execute``, the dialect's own way to the driver, between two clock readings."""
        ticks, succeeded, failed = self._ticks, self._succeeded, self._failed

        def timed(cursor: DBAPICursor, statement: str, parameters: Any, context: ExecutionContext) -> bool:
            started = ticks()
            try:
                execute(cursor, statement, parameters, context)
            except BaseException as error:
                failed(context, statement, ticks() - started, error)
                raise
            succeeded(context, statement, ticks() - started, cursor, len(parameters) if many else -1)
            return True

        return timed

    def _without_parameters(self, execute: Callable[..., None]) -> Callable[..., bool]:
        """The same for a statement sent without parameters, which the driver is called for in another way."""

        def execute_only(cursor: DBAPICursor, statement: str, _parameters: Any, context: ExecutionContext) -> None:
            execute(cursor, statement, context)

        timed = self._with_parameters(execute_only)
        return lambda cursor, statement, context: timed(cursor, statement, None, context)

    def _succeeded(
        self, context: ExecutionContext, statement: str, execute_s: float, cursor: DBAPICursor, sent: int
    ) -> None:
        try:
            text = _text(context, statement)
            if cursor.__class__ is WatchedCursor:  # a context that executes a second time
                cursor = cursor.unwatched()
            if cursor.description is not None and not context.executemany:
                # SQLite does most of the work when rows are fetched: results take their cursor from here.
                context.cursor = WatchedCursor(cursor, self._ticks, self._fetched, text, execute_s)
                return
            rows = cursor.rowcount
            if rows < 0 <= sent and context.isinsert:  # asyncpg does not say; every row sent was inserted
                rows = sent
            self._recorder.buffer().append(Execution(text, self._ticks(), execute_s, 0.0, rows, None))
        except Exception:  # noqa: BLE001 - the border to the application: no fault of ours may reach its statement
            self.failures += 1

    def _failed(self, context: ExecutionContext, statement: str, execute_s: float, error: BaseException) -> None:
        try:
            self._fetched(_text(context, statement), execute_s, 0.0, -1, error)
        except Exception:  # noqa: BLE001 - as above
            self.failures += 1

    def _fetched(self, text: str, execute_s: float, fetch_s: float, rows: int, error: BaseException | None) -> None:
        try:
            code = None if error is None else self._dialect.error_class(error)
            done = Execution(text, self._ticks(), execute_s + fetch_s, fetch_s, rows, code)
            self._recorder.buffer().append(done)
        except Exception:  # noqa: BLE001 - as above
            self.failures += 1


def _text(context: ExecutionContext, statement: str) -> str:
    """The text that SQLAlchemy caches with the compiled statement: short, whatever the length of its lists.

    The statement itself where it was not compiled, or is another one than the context's: a default that is asked for
    before an INSERT is executed in the INSERT's context.
    """
    compiled = context.compiled
    if compiled is not None and (statement is context.statement or context.executemany):
        text: str = compiled.string
        return text if len(text) <= MAX_COMPILED else f"{text[:MAX_COMPILED]} ..."
    return statement if len(statement) <= MAX_SENT_AS_TEXT else f"{statement[:MAX_SENT_AS_TEXT]} ..."

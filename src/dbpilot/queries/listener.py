"""Sees every statement of an engine, successful or not, and hands it to the recorder.

It uses SQLAlchemy's ``do_execute`` events, which replace the call to the driver, because they cost a tenth of a pair
of ``before_cursor_execute`` / ``after_cursor_execute`` listeners and see failures without a second hook. A
``do_execute`` listener of the application that was attached earlier and returns True hides its statements from us.

What is timed is the driver's execute call. Rows that the driver fetches later (SQLite, server-side cursors) are not
in it.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExecutionContext
from sqlalchemy.engine.interfaces import DBAPICursor

from dbpilot.clock import Clock
from dbpilot.dialects import Dialect
from dbpilot.queries.recorder import MAX_STATEMENT, Execution, Recorder


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
        ticks, record = self._ticks, self._record

        def timed(cursor: DBAPICursor, statement: str, parameters: Any, context: ExecutionContext) -> bool:
            started = ticks()
            try:
                execute(cursor, statement, parameters, context)
            except BaseException as error:
                record(context, statement, ticks(), started, None, -1, error)
                raise
            record(context, statement, ticks(), started, cursor, len(parameters) if many else -1, None)
            return True

        return timed

    def _without_parameters(self, execute: Callable[..., None]) -> Callable[..., bool]:
        """The same for a statement sent without parameters, which the driver is called for in another way."""

        def execute_only(cursor: DBAPICursor, statement: str, _parameters: Any, context: ExecutionContext) -> None:
            execute(cursor, statement, context)

        timed = self._with_parameters(execute_only)
        return lambda cursor, statement, context: timed(cursor, statement, None, context)

    def _record(
        self,
        context: ExecutionContext,
        statement: str,
        ended: float,
        started: float,
        cursor: DBAPICursor | None,
        sent: int,
        error: BaseException | None,
    ) -> None:
        try:
            compiled = context.compiled
            text = statement[:MAX_STATEMENT] if compiled is None else compiled.string
            rows = -1 if cursor is None else cursor.rowcount
            if rows < 0 <= sent and context.isinsert:  # asyncpg does not say; every row sent was inserted
                rows = sent
            code = None if error is None else self._dialect.error_class(error)
            self._recorder.buffer().append(Execution(text, ended, ended - started, rows, code))
        except Exception:  # noqa: BLE001 - the border to the application: no fault of ours may reach its statement
            self.failures += 1

"""Sees every statement of an engine, successful or not, and hands it to the recorder.

It stands in for the three methods by which SQLAlchemy's dialect calls the driver (``do_execute`` and its siblings), as
attributes of that one dialect object. Events would cost more: a pair of ``before_cursor_execute`` /
``after_cursor_execute`` listeners that do nothing takes longer than all that is done here, and of several
``do_execute`` listeners SQLAlchemy calls the ones after the first that executes no more. Listeners of the application
work as before; a statement that one of them executes itself is not seen.

What is timed is the driver: its execute call and its fetch calls, not what the application does between them. An
execution that answers rows is recorded when its cursor is closed, or collected.
"""

from asyncio import CancelledError
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.engine import ExecutionContext

from dbpilot.clock import Clock
from dbpilot.config import QueriesConfig
from dbpilot.dialects import Dialect
from dbpilot.errors import ConfigError
from dbpilot.queries.callsite import calling_frame
from dbpilot.queries.comment import commented
from dbpilot.queries.cursor import Known, WatchedCursor, watched_class
from dbpilot.queries.recorder import Detail, Recorder, sent_as_text
from dbpilot.queries.relationship import lazy_relationship
from dbpilot.queries.request import CURRENT, OURS, Request

MARK: Final = "dbpilot_listener"
"""The attribute of a dialect object that says who watches it."""


class Listener:
    """Attached to one engine between :meth:`attach` and :meth:`detach`."""

    def __init__(
        self,
        engine: Engine,
        dialect: Dialect,
        recorder: Recorder,
        clock: Clock,
        config: QueriesConfig,
        waits: dict[int, float] | None = None,
    ) -> None:
        """``waits`` says which connections were waited for, by the ``id`` of the driver's connection, in seconds; the
        next statement takes them out."""
        self._engine = engine
        self._dialect = dialect
        self._recorder = recorder
        self._ticks = clock.ticks
        self._config = config
        self._waits = {} if waits is None else waits
        self.failures = 0
        """Executions that could not be recorded because of an error of ours."""
        self._cursor_classes: dict[type, type[WatchedCursor]] = {}
        self._hooks: dict[str, Callable[..., None]] = {}

    def attach(self) -> None:
        """Statements executed from now on are recorded.

        Raises:
            ConfigError: another pilot watches this engine.
        """
        driver = self._engine.dialect
        if MARK in vars(driver):
            raise ConfigError("this engine is watched by another pilot already; stop that one, or use it")
        comment = commented(self._config.comment, driver.paramstyle)
        # PyMySQL makes one statement of many rows only where nothing follows the VALUES.
        comment_many = comment if driver.name not in ("mysql", "mariadb") else commented("off", driver.paramstyle)
        self._hooks = {
            "do_execute": self._with_parameters(comment(driver.do_execute)),
            "do_executemany": self._with_parameters(comment_many(driver.do_executemany), many=True),
            "do_execute_no_params": self._without_parameters(comment(driver.do_execute_no_params)),
        }
        vars(driver).update({**self._hooks, MARK: self})

    def detach(self) -> None:
        """Statements executed from now on are not recorded."""
        own = vars(self._engine.dialect)
        for name, hook in {**self._hooks, MARK: self}.items():
            if own.get(name) is hook:  # otherwise somebody stands in for it, and for us
                del own[name]

    def _with_parameters(  # noqa: C901 - what is called costs every statement of the application
        self, execute: Callable[..., None], *, many: bool = False
    ) -> Callable[..., None]:
        """A hook that runs ``execute``, the dialect's own way to the driver, between two clock readings.

        Every line of it is paid for by every statement of the application: what it needs is at hand in a closure, and
        what few statements need is elsewhere.
        """
        ticks, mine, limit, waits = self._ticks, self._recorder.mine, self._recorder.limit, self._waits
        watch_s, sample_every, fetches = self._config.watch_s, self._config.sample_every, self._config.fetch_timing
        current_request, failed, cursor_class = CURRENT.get, self._failed, self._cursor_classes.get

        def timed(cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:  # noqa: C901 - as above
            started = ticks()
            try:
                execute(cursor, statement, parameters, context)
            except BaseException as error:  # counted, and the statement's all the same
                failed(context, statement, ticks() - started, error)
                raise
            ended = ticks()
            try:
                if context is None or not hasattr(context, "statement"):
                    self._without_context(statement, cursor, ended, ended - started)
                    return
                compiled = context.compiled
                if compiled is None or (statement is not context.statement and not context.executemany):
                    text = sent_as_text(statement)
                else:
                    text = compiled.string  # cached by SQLAlchemy, and short whatever the length of its lists
                execute_s = ended - started
                request = current_request()
                if request is not None:
                    if request is OURS:
                        return
                    request.statements += 1
                pending = mine.pending
                waiting = len(pending)
                if (
                    waiting % sample_every == 0
                    or execute_s >= watch_s
                    or (request is not None and request.statements >= request.next_sample)
                ):
                    detail = self._detail(context, statement, parameters, execute_s, request)
                elif waits and (wait_s := waits.pop(_connection_id(context), 0.0)):
                    detail = Detail(wait_s=wait_s)
                else:
                    detail = None
                if fetches and cursor.description is not None and not context.executemany:
                    # SQLite does most of the work when rows are fetched: results take their cursor from here.
                    watched = cursor_class(type(cursor)) or self._first_of_its_class
                    context.cursor = watched(cursor, (text, execute_s, request, detail, statement, parameters))
                elif waiting < limit:
                    rows = cursor.rowcount
                    if many and rows < 0 and context.isinsert:  # asyncpg does not say; every row sent was inserted
                        rows = len(parameters)
                    pending.append((text, ended, execute_s, 0.0, 0.0, rows, request, detail))
                else:
                    self._recorder.lose(pending)
            except Exception:  # noqa: BLE001 - the border to the application: no fault of ours may reach its statement
                self.failures += 1

        return timed

    def _without_parameters(self, execute: Callable[..., None]) -> Callable[..., None]:
        """The same for a statement sent without parameters, which the driver is called for in another way."""

        def execute_only(cursor: Any, statement: str, _parameters: Any, context: Any) -> None:
            execute(cursor, statement, context)

        timed = self._with_parameters(execute_only)
        return lambda cursor, statement, context=None: timed(cursor, statement, None, context)

    def _without_context(self, statement: str, cursor: Any, ended: float, execute_s: float) -> None:
        """A statement that somebody sends by the dialect alone, or that SQLAlchemy sends to find a column's default
        before the context knows its own statement. Its cursor goes on to the statement proper: it is not stood in for.
        """
        request = CURRENT.get()
        if request is not OURS:
            self._recorder.append((sent_as_text(statement), ended, execute_s, 0.0, 0.0, cursor.rowcount, request, None))

    def _detail(
        self, context: ExecutionContext, statement: str, parameters: Any, execute_s: float, request: Request | None
    ) -> Detail:
        """What is worth knowing of a slow or sampled statement."""
        if request is not None and request.statements >= request.next_sample:
            request.sampled()
        wait_s = self._waits.pop(_connection_id(context), 0.0) if self._waits else 0.0
        detail = Detail(calling_frame(), lazy_relationship(context), wait_s=wait_s)
        if execute_s >= self._config.watch_s or not (context.isinsert or context.executemany):
            detail.sent = (statement, parameters)
        return detail

    def _failed(self, context: Any, statement: str, execute_s: float, error: BaseException) -> None:
        request = CURRENT.get()
        if request is OURS:
            return
        try:
            compiled: Any = getattr(context, "compiled", None)
            is_own = compiled and (statement is getattr(context, "statement", None) or context.executemany)
            text = compiled.string if is_own else sent_as_text(statement)
            # Somebody who did not want to wait is no failure of the statement.
            kind = None if isinstance(error, CancelledError) else self._dialect.error_class(error)
            detail = Detail(calling_frame(), error=kind)
            self._recorder.append((text, self._ticks(), execute_s, 0.0, 0.0, -1, request, detail))
        except Exception:  # noqa: BLE001 - as above
            self.failures += 1

    def _first_of_its_class(self, cursor: Any, known: Known) -> WatchedCursor:
        """A watched cursor of a class that was not seen before, or of a context that executes a second time."""
        if issubclass(type(cursor), WatchedCursor):
            cursor = cursor.unwatched()
        classes = self._cursor_classes
        if type(cursor) not in classes:
            classes[type(cursor)] = watched_class(cursor, self._ticks, self._fetched())
        return classes[type(cursor)](cursor, known)

    def _fetched(self) -> Callable[[WatchedCursor], None]:
        """Told of the end of an execution whose rows were fetched."""
        mine, limit, ticks, watch_s = self._recorder.mine, self._recorder.limit, self._ticks, self._config.watch_s

        def fetched(cursor: WatchedCursor) -> None:
            try:
                text, execute_s, request, detail, statement, parameters = cursor.known  # type: ignore[misc]  # once
                cursor.known = None
                fetch_s, rows = cursor.fetch_s, cursor.rows
                if execute_s + fetch_s >= watch_s or cursor.error is not None:
                    detail = self._late_detail(detail, cursor, (statement, parameters))
                first_row_s = execute_s + cursor.first_fetch_s if rows else 0.0
                pending = mine.pending
                if len(pending) < limit:
                    pending.append((text, ticks(), execute_s, fetch_s, first_row_s, rows, request, detail))
                else:
                    self._recorder.lose(pending)
            except Exception:  # noqa: BLE001 - as above
                self.failures += 1

        return fetched

    def _late_detail(self, detail: Detail | None, cursor: WatchedCursor, sent: tuple[str, Any]) -> Detail:
        detail = detail or Detail(calling_frame())
        detail.sent = sent
        if cursor.error is not None and not isinstance(cursor.error, CancelledError):
            detail.error = self._dialect.error_class(cursor.error)
        cursor.error = None  # it holds the frames it went through
        return detail


def _connection_id(context: ExecutionContext) -> int:
    return id(context.root_connection.connection.dbapi_connection)

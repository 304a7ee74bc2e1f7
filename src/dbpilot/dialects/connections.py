"""Connections of the pilot's own to the database that it watches.

They are not from the application's pool, are not watched or counted, only read, and are closed after use. They are
made and prepared the way the application's are: what hands out its credentials and options is asked again.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy import (
    AssertionPool,
    Connection,
    Engine,
    NullPool,
    SingletonThreadPool,
    StaticPool,
    create_engine,
    event,
    text,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

from dbpilot.errors import WatchedDatabaseError
from dbpilot.unsupported import Unsupported

Answer = TypeVar("Answer")

LIMITS: Final[dict[str, tuple[str, ...]]] = {
    "postgresql": (
        "SET TRANSACTION READ ONLY",
        "SELECT set_config('statement_timeout', :ms, true), set_config('lock_timeout', :ms, true)",
    ),
    "mariadb": ("SET SESSION max_statement_time = :s, lock_wait_timeout = :whole_s", "START TRANSACTION READ ONLY"),
    "mysql": (
        "SET SESSION max_execution_time = :whole_ms, lock_wait_timeout = :whole_s",
        "START TRANSACTION READ ONLY",
    ),
    "sqlite": ("PRAGMA query_only = ON",),
}
"""What is said on each connection before anything else, so that nothing is changed and nobody waits for long."""
TRANSACTIONS: Final = {"postgresql": "READ COMMITTED"}
"""Where the limits are a transaction's, there has to be one, though the application's connections be AUTOCOMMIT.

Elsewhere the limits are the session's, and START TRANSACTION begins one on whichever connection.
"""
CLIENT_LIMITS: Final = frozenset({"read_timeout", "write_timeout"})
"""Arguments by which MySQL's drivers give up a statement that the server works at for long."""
PATIENT: Final[ContextVar[bool]] = ContextVar("dbpilot_patient", default=False)


class OwnConnections:
    """Opens connections to the database behind an engine, one at a time, for a moment each."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, work: Callable[[Connection], Answer], timeout_s: float) -> Answer | Unsupported:
        """What ``work`` answers, in a transaction that reads only and is rolled back; each statement may take so long.

        Raises:
            WatchedDatabaseError: the database cannot be reached, or refuses.
        """
        alone = why_alone(self._engine)
        if alone is not None:
            return alone
        try:
            if self._engine.dialect.is_async:
                return _outside_of_loops(lambda: asyncio.run(self._in_a_loop(work, timeout_s)))
            return self._run(work, timeout_s)
        except (SQLAlchemyError, OSError) as error:
            original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
            raise WatchedDatabaseError(f"the watched database: {type(original).__name__}") from None

    def lend(self, work: Callable[[Engine], Answer]) -> Answer | Unsupported:
        """What ``work`` answers, to whom an engine is lent of which every connection is new; unlike in :meth:`run`
        it is not prevented from changing anything.

        ``work`` runs in this thread, or for an async engine in one with a loop of its own.
        """
        alone = why_alone(self._engine)
        if alone is not None:
            return alone
        engine = own_engine(self._engine)
        if engine.dialect.is_async:
            return _outside_of_loops(lambda: asyncio.run(_spawned(work, engine)))
        return work(engine)

    async def _in_a_loop(self, work: Callable[[Connection], Answer], timeout_s: float) -> Answer:
        return await greenlet_spawn(self._run, work, timeout_s)

    def _run(self, work: Callable[[Connection], Answer], timeout_s: float) -> Answer:
        with own_engine(self._engine).connect() as connection:
            try:
                if connection.dialect.name in TRANSACTIONS:
                    connection.execution_options(isolation_level=TRANSACTIONS[connection.dialect.name])
                _limit(connection, timeout_s)
                return work(connection)
            finally:
                connection.rollback()


async def _spawned(work: Callable[[Engine], Answer], engine: Engine) -> Answer:
    return await greenlet_spawn(work, engine)


def why_alone(application: Engine) -> Unsupported | None:
    """Why there is no second connection to this engine's database; None where there is."""
    if not isinstance(application.pool, StaticPool | SingletonThreadPool | AssertionPool):
        return None
    return Unsupported(
        f"the application's {type(application.pool).__name__} shares its only connection with nobody",
        "use a database that a second connection can see: a file or a server",
    )


def own_engine(application: Engine, *, patient: bool = False) -> Engine:
    """An engine with a dialect object and a pool of its own, for the application's are watched; it keeps no connection.

    Of an async engine's it is the sync side, which needs a loop and a greenlet. A patient one has no limits in the
    driver to how long a statement may take: an index of a large table takes longer than any request may.
    """
    how: dict[str, Any] = {
        "poolclass": NullPool,
        # It has no public name, and knows the arguments, and the token, that the application connects with.
        "creator": _patient(application) if patient else application.pool._creator,
        # SQLAlchemy logs what is executed, and the application's values are among that.
        "hide_parameters": True,
    }
    url = application.url
    engine = create_async_engine(url, **how).sync_engine if application.dialect.is_async else create_engine(url, **how)
    event.listen(engine, "connect", partial(_prepare, application))
    return engine


def _patient(application: Engine) -> Callable[..., Any]:
    """Connects as the application does, without its driver's limits; whoever has a creator of its own keeps them."""
    if not event.contains(application, "do_connect", _without_limits):
        event.listen(application, "do_connect", _without_limits)

    def creator(connection_record: Any = None) -> Any:
        create: Any = application.pool._creator
        token = PATIENT.set(True)
        try:
            return create(connection_record) if connection_record is not None else create()
        finally:
            PATIENT.reset(token)

    return creator


def _without_limits(dialect: Any, _record: Any, arguments: Any, options: dict[str, Any]) -> Any:
    """The connection, if it is one of ours; None where SQLAlchemy shall make it as always."""
    if not PATIENT.get():
        return None
    return dialect.connect(*arguments, **{name: said for name, said in options.items() if name not in CLIENT_LIMITS})


def _prepare(application: Engine, connection: Any, record: Any) -> None:
    """The application's own preparations (functions, search paths) are made; the pilot's counting is left out."""
    for listener in application.pool.dispatch.connect:
        if not type(getattr(listener, "__self__", None)).__module__.startswith("dbpilot."):
            listener(connection, record)


def _limit(connection: Connection, timeout_s: float) -> None:
    dialect = connection.dialect
    name = "mariadb" if getattr(dialect, "is_mariadb", False) else dialect.name
    whole_ms = int(timeout_s * 1000)
    values = {"ms": str(whole_ms), "whole_ms": whole_ms, "s": timeout_s, "whole_s": max(1, round(timeout_s))}
    for statement in LIMITS[name]:
        said = text(statement)
        connection.execute(said, {key: values[key] for key in said.compile().params})


def _outside_of_loops(work: Callable[[], Answer]) -> Answer:
    """The work's answer, from a thread in which no event loop runs: this one if that is so."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    with ThreadPoolExecutor(1, "dbpilot-own") as thread:
        return thread.submit(work).result()

"""One database, its rules and its pilot, for as long as a command needs them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError

from dbpilot.cli.history import History
from dbpilot.cli.options import changed
from dbpilot.cli.rules import rules_of
from dbpilot.cli.urls import engine_at, reason
from dbpilot.clock import SYSTEM
from dbpilot.config import PilotConfig
from dbpilot.dialects import dialect_of
from dbpilot.errors import ConfigError, StoreError, WatchedDatabaseError
from dbpilot.history.sql_store import place
from dbpilot.indexes import Recommended
from dbpilot.pilot import Autopilot
from dbpilot.retention import Rule
from dbpilot.retention.live import Catalogue, Live
from dbpilot.retention.session import failure


@dataclass(frozen=True, slots=True)
class Host:
    """An application whose commands these are: its database, its rules and its wishes need not be named."""

    program: str
    engine: Engine
    rules: Sequence[Rule]
    config: PilotConfig
    recommended: Sequence[Recommended] = ()
    """Indexes that should be there."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What a command works with."""

    engine: Engine
    rules: Sequence[Rule]
    pilot: Autopilot
    """It cleans when it is told to, never at times of its own, and leaves pools and indexes alone."""

    @property
    def database(self) -> str:
        """Where the database is, without a password."""
        return place(self.engine.url)

    def live(self, table: str) -> Live:
        """The table as the database describes it.

        Raises:
            RefusedError: there is none, or nothing tells its rows apart.
        """
        with self.engine.connect() as connection:
            return Catalogue(connection).live(table)

    def why_forgotten(self, kind: str, since: datetime) -> str | None:
        """Why what was done since then is not in the history; None when it is."""
        try:
            history = History(self.pilot.config.history.url.get_secret_value())
            found = history.events(self.database, kind, since, 1)
        except StoreError as error:
            return str(error)
        return None if found else f"the history at {history.place} did not take it"


@contextmanager
def desk(
    host: Host | None, rules: str | None, url: str | None, given: Mapping[str, Any] | None = None
) -> Iterator[Desk]:
    """The host's database and rules, or those that are named; ``given`` are settings of retention.

    Raises:
        ConfigError: nothing, or something that makes no sense, is named.
        WatchedDatabaseError: the database cannot be reached, or failed.
    """
    config = _quiet(PilotConfig.from_env() if host is None else host.config, given or {})
    chosen = rules_of(rules, SYSTEM.now()) if host is None else host.rules
    with database(host, url) as engine:
        yield Desk(engine, chosen, Autopilot(engine, config, retention=chosen))


@contextmanager
def database(host: Host | None, url: str | None) -> Iterator[Engine]:
    """The host's database, or the one that is named, and that is there.

    Raises:
        ConfigError: none is named, or its address makes no sense.
        WatchedDatabaseError: it cannot be reached, or failed.
    """
    engine = _named(url or os.environ.get("DATABASE_URL")) if host is None else host.engine
    try:
        _reach(engine)
        yield engine
    except SQLAlchemyError as error:
        what = failure(dialect_of(engine), error)
        raise WatchedDatabaseError(f"the database at {place(engine.url)} failed: {what}") from None
    finally:
        engine.dispose()


def _named(url: str | None) -> Engine:
    if not url:
        raise ConfigError("name the database as --url URL or DATABASE_URL")
    engine = engine_at(url, "the database's", lambda parsed: create_engine(parsed, hide_parameters=True))
    if engine.dialect.is_async:
        name = engine.url.drivername
        raise ConfigError(f"{name} is a driver for asyncio; name another, such as postgresql+psycopg or mysql+pymysql")
    return engine


def _reach(engine: Engine) -> None:
    """Returns when the database is there; looking for it makes none."""
    url = engine.url
    if _is_missing(url):
        raise WatchedDatabaseError(f"there is no database at {place(url)}; is the path right?")
    try:
        engine.connect().close()
    except (SQLAlchemyError, OSError, TypeError) as error:  # drivers refuse an option of the address by a TypeError
        raise WatchedDatabaseError(f"the database at {place(url)} cannot be reached: {reason(url, error)}") from None


def _is_missing(url: URL) -> bool:
    name = url.database or ""
    return url.get_backend_name() == "sqlite" and not name.startswith("file:") and not Path(name).is_file()


def _quiet(config: PilotConfig, given: Mapping[str, Any]) -> PilotConfig:
    retention = changed(config.retention, {**given, "schedule": None})
    pool, indexes = changed(config.pool, {"mode": "off"}), changed(config.indexes, {"enabled": False})
    return config.model_copy(update={"retention": retention, "pool": pool, "indexes": indexes})

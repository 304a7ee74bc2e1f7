"""The application's engine, its sessions and the base of its models.

``DATABASE_URL`` chooses MariaDB/MySQL (PyMySQL), PostgreSQL (psycopg 3) or SQLite; without it everything lives in
one SQLite file under ``var/``. Each database gets only the arguments that its driver understands.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import Dialect, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from app.common.infra.database.optimization.connection_pool_manager import ConnectionPoolConfig
from app.errors import UnusableDatabaseURL
from app.settings import Settings
from dbpilot.cli.urls import DRIVERS, with_driver
from dbpilot.pool import ResizableQueuePool

POOL: Final[dict[str, Any]] = {
    "poolclass": ResizableQueuePool,
    "pool_use_lifo": True,  # few connections stay warm, and the others may be closed
    "pool_size": ConnectionPoolConfig.min_pool_size,  # to begin with; it grows and shrinks with the use
    "max_overflow": ConnectionPoolConfig.max_overflow,
    "pool_timeout": 300,
    "pool_recycle": 600,
    "pool_pre_ping": True,
}
TIMEOUT_S: Final = 60

SHIPPED: Final = frozenset({"mysql+pymysql", "mariadb+pymysql", "postgresql+psycopg", "sqlite+pysqlite"})
"""Databases with the driver that this application ships for each."""


class DatabaseSettings(BaseSettings):
    """Where the data lives; kept secret because the address may carry a password."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    database_url: SecretStr | None = Field(default=None, description="for example mysql://user:secret@host/finstage")


class Base(DeclarativeBase):
    """What every model of the application derives from."""


def database_url(configured: str | None, var: Path) -> URL:
    """The address to use: the configured one with the shipped driver, else a SQLite file in ``var``.

    Raises:
        UnusableDatabaseURL: it cannot be read, or no driver for it is shipped. The message never repeats the address,
            which may carry a password.
    """
    if not configured:
        return URL.create("sqlite+pysqlite", database=str(var / "finstage.sqlite3"))
    try:
        url = with_driver(make_url(configured))
    except (ArgumentError, ValueError):
        raise UnusableDatabaseURL(
            "DATABASE_URL cannot be read; write it as mysql://user:password@host:3306/name, "
            "postgresql://user:password@host:5432/name or sqlite:///path/to/file"
        ) from None
    if url.drivername not in SHIPPED:
        raise UnusableDatabaseURL(
            f"DATABASE_URL names {url.drivername!r}; Finstage ships drivers for {', '.join(sorted(DRIVERS))}"
        )
    if not url.database or url.database == ":memory:":
        raise UnusableDatabaseURL(
            "DATABASE_URL names no database; put its name, or for SQLite a file, after the last slash"
        )
    return url


def engine_options(url: URL) -> dict[str, Any]:
    """The keyword arguments for :func:`sqlalchemy.create_engine` that this database understands."""
    backend = url.get_backend_name()
    if backend in ("mysql", "mariadb"):
        timeouts = {"connect_timeout": TIMEOUT_S, "read_timeout": TIMEOUT_S, "write_timeout": TIMEOUT_S}
        return {**POOL, "connect_args": {"charset": "utf8mb4", **timeouts}}
    if backend == "postgresql":
        return {**POOL, "connect_args": {"connect_timeout": TIMEOUT_S, "application_name": "finstage"}}
    # SQLite waits for a lock instead of for a server, and a local file needs neither ping nor recycling.
    needless = ("pool_recycle", "pool_pre_ping")
    return {**{k: v for k, v in POOL.items() if k not in needless}, "connect_args": {"timeout": TIMEOUT_S}}


def make_engine(url: URL) -> Engine:
    """An engine with the application's settings; nothing is connected yet."""
    try:
        made = create_engine(url, **engine_options(url))
    except NoSuchModuleError as error:
        raise UnusableDatabaseURL(f"DATABASE_URL names an unknown database: {error}") from None
    if made.dialect.name == "sqlite":
        event.listen(made, "do_connect", _sqlite_folder)
        event.listen(made, "connect", _sqlite_connection)
    return made


def _sqlite_folder(_dialect: Dialect, _entry: ConnectionPoolEntry, args: Any, _options: dict[str, Any]) -> None:
    """The database's folder exists before SQLite looks for it; merely importing this module writes nothing."""
    if args and args[0] not in ("", ":memory:"):
        Path(args[0]).parent.mkdir(parents=True, exist_ok=True)


def _sqlite_connection(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")  # readers go on while one writes
    cursor.execute("PRAGMA synchronous=NORMAL")  # WAL stays consistent after a crash; only the last commits may be lost
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _configured_url() -> URL:
    secret = DatabaseSettings().database_url
    return database_url(secret.get_secret_value() if secret else None, Settings().var)


engine: Engine = make_engine(_configured_url())
SessionLocal = sessionmaker(engine, expire_on_commit=False)


def get_db() -> Iterator[Session]:
    """One session for one request, closed when the request is done."""
    with SessionLocal() as session:
        yield session

"""Finstage's database at production size, on private servers: built once, and copied for each who changes it.

A built one is kept in a folder: what the stopped server had, who may enter, and what is in it.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from app import migrate
from app.market.generate import Plan, generate
from app.market.models import Content
from dbpilot.testing.servers import SqlServer, start_mariadb, start_postgresql

SEED: Final = 7
END: Final = date(2026, 10, 31)
"""The last day of history: fixed, for the same seed has to give the same rows, and recent, for retention keeps a year
of news and half a year of signals."""
NEWS, SIGNALS, SYMBOLS, YEARS = 2_000_000, 5_000_000, 1_000, 20
LEAST_SYMBOLS: Final = 10
POOL_MIB: Final = 1024
"""What the server may keep in memory at scale 1: its data is six to seven times larger."""
LEAST_POOL_MIB: Final = 24
SHUTDOWN_S: Final = 900
SHUT_DOWN: Final = {"mariadb": signal.SIGTERM, "postgresql": signal.SIGINT}
"""What each takes for a wish to end well, without waiting for its clients."""
POLL_S: Final = 0.1
DATABASE: Final = "finstage"
AS_FOUND, HAND_MADE = "0001", "0002"
"""Revisions: the tables as they were found, and with the indexes that a person gave them."""


@dataclass(frozen=True, slots=True)
class Built:
    """A database that is kept, without its server."""

    kind: str
    scale: float
    folder: Path
    symbols: Mapping[str, int]
    """How many news there are about each."""
    rows: Mapping[str, int]
    version: str
    took_s: float

    @property
    def data(self) -> Path:
        """What the stopped server had."""
        return self.folder / "data"

    @property
    def size_mib(self) -> int:
        """Of its files."""
        return sum(file.stat().st_size for file in self.data.rglob("*") if file.is_file()) // 2**20


def plan_of(scale: float) -> Plan:
    """Fewer symbols where it is less than production: each has as many rows as there."""
    symbols = max(LEAST_SYMBOLS, round(SYMBOLS * scale))
    return Plan(round(NEWS * scale), round(SIGNALS * scale), symbols, YEARS, SEED, END)


def pool_mib(scale: float) -> int:
    """The server's cache: in proportion to the data."""
    return max(LEAST_POOL_MIB, round(POOL_MIB * scale))


def built(kind: str, scale: float, folder: Path) -> Built:
    """The database, made now unless the folder has it already."""
    note = folder / "about.json"
    if not note.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        note.write_text(json.dumps(_build(kind, scale, folder)))
    about = json.loads(note.read_text())
    if about["kind"] != kind or about["plan"] != _as_json(plan_of(scale)):
        raise ValueError(f"{folder} has another database: name another folder, or remove it")
    return Built(kind, scale, folder, about["symbols"], about["rows"], about["version"], about["took_s"])


@contextmanager
def served(database: Built) -> Iterator[tuple[SqlServer, sa.URL]]:
    """A server on a copy of its own of these data, careful as the server's maker meant it, and the database's address.

    It is started empty first: a server's folder belongs to its account, and has its supervisor.
    """
    with _started(database.kind, database.scale, durable=True) as fresh:
        fresh.kill()
        shutil.rmtree(fresh.data_folder)
        _copy(database.data, fresh.data_folder)
        server = replace(fresh, url=fresh.url.set(password=(database.folder / "password").read_text()))
        server.restart()
        yield server, server.url.set(database=DATABASE)


def hand_made(url: sa.URL) -> float:
    """The tables have the indexes of the second revision; returns how long that took, in seconds."""
    began = time.monotonic()
    with disposed(url) as engine:
        migrate.upgrade(engine, HAND_MADE)
        _analyse(engine)
    return time.monotonic() - began


@contextmanager
def disposed(url: sa.URL) -> Iterator[sa.Engine]:
    """An engine with no connections left at the end."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    try:
        yield engine
    finally:
        engine.dispose()


def _build(kind: str, scale: float, folder: Path) -> dict[str, Any]:
    began = time.monotonic()
    with _started(kind, scale, durable=False) as server:
        url = server.create_database(DATABASE)
        with disposed(url) as engine:
            migrate.upgrade(engine, AS_FOUND)
            rows = generate(engine, plan_of(scale), _told(kind))
            _prepare(engine)
            symbols = _news_by_symbol(engine)
        version = _version(url)
        _shut_down(server)
        _copy(server.data_folder, folder / "data")
        _keep_password(folder, str(server.url.password))
    took_s = time.monotonic() - began
    return {
        "kind": kind,
        "plan": _as_json(plan_of(scale)),
        "rows": rows,
        "symbols": symbols,
        "version": version,
        "took_s": took_s,
    }


def _started(kind: str, scale: float, *, durable: bool) -> SqlServer:
    starts: Mapping[str, Callable[..., SqlServer]] = {"mariadb": start_mariadb, "postgresql": start_postgresql}
    return starts[kind](durable=durable, options=_options(kind, scale))


def _options(kind: str, scale: float) -> dict[str, str]:
    mib = pool_mib(scale)
    if kind == "mariadb":
        # The log as large as production has it: with the smallest one a server writes pages all the time.
        return {"innodb_buffer_pool_size": f"{mib}M", "innodb_log_file_size": f"{max(96, mib)}M", "userstat": "ON"}
    return {"shared_buffers": f"{mib}MB", "max_wal_size": f"{max(1024, 4 * mib)}MB"}


def _prepare(engine: sa.Engine) -> None:
    """Statistics are there, and on PostgreSQL what dbpilot's manual asks for."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS hypopg"))
    _analyse(engine)


def _analyse(engine: sa.Engine) -> None:
    statement = "VACUUM ANALYZE" if engine.dialect.name == "postgresql" else "ANALYZE TABLE"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for name in sa.inspect(connection).get_table_names():
            connection.execute(sa.text(f"{statement} {engine.dialect.identifier_preparer.quote_identifier(name)}"))


def _news_by_symbol(engine: sa.Engine) -> dict[str, int]:
    with engine.connect() as connection:
        counted = sa.select(Content.symbol, sa.func.count()).group_by(Content.symbol).order_by(Content.symbol)
        return {row[0]: row[1] for row in connection.execute(counted)}


def _version(url: sa.URL) -> str:
    with disposed(url) as engine, engine.connect() as connection:
        return str(connection.scalar(sa.select(sa.func.version())))


def _shut_down(server: SqlServer) -> None:
    """The server has ended by itself, with everything written."""
    if server.pid is not None:
        os.kill(server.pid, SHUT_DOWN[server.name])
    deadline = time.monotonic() + SHUTDOWN_S
    while server.pid is not None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{server.name} did not shut down in {SHUTDOWN_S} s")
        time.sleep(POLL_S)


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--archive", "--reflink=auto", str(source), str(target)], check=True)


def _keep_password(folder: Path, password: str) -> None:
    note = folder / "password"
    note.touch(mode=0o600)
    note.write_text(password)


def _told(kind: str) -> Callable[[str, int, int], None]:
    last = [0.0]

    def tell(what: str, done: int, total: int) -> None:
        if done == total or time.monotonic() - last[0] > 10:
            last[0] = time.monotonic()
            print(f"{kind}: {what} {done:,} of {total:,}", flush=True)

    return tell


def _as_json(plan: Plan) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, date) else value for name, value in asdict(plan).items()}

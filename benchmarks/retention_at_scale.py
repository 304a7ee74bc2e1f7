"""bench-retention_at_scale: memory, an event loop that keeps ticking, and replicas that keep up, at millions of rows.

python -m benchmarks.retention_at_scale [--many 10000000] [--databases mariadb,postgresql,sqlite]

Rows are short here, and made by the database itself, so that there can be millions of them.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from benchmarks.processes import Run, run
from benchmarks.report import Figure, publish
from dbpilot.clock import SystemClock
from dbpilot.retention import CleanupFinished, Limits, Manners, Retention, Rule
from dbpilot.retention.gentle import read_signs
from dbpilot.retention.policy import BESIDE
from dbpilot.testing.servers import start_mariadb, start_postgresql

PLACES: Final = "BENCH_RETENTION_PLACES"
"""The variable that tells a process of its own where the database and the archive are; addresses hold passwords."""
CLEAN: Final = "from benchmarks.retention_at_scale import clean_there; clean_there()"
IMPORTS: Final = "from benchmarks.retention_at_scale import clean_there; import pyarrow.parquet"
MANY: Final = 10_000_000
"""Rows of the table that shows whether memory grows."""
FROM_A_LOOP: Final = 1_000_000
AT_ONCE: Final = 500_000
OLD: Final = datetime(2020, 1, 1)  # noqa: DTZ001 - as the column has it
NOW: Final = datetime(2025, 6, 1, tzinfo=UTC)
FEWER: Final = 10
"""A table that memory is compared with has this part of the rows."""
TICK_S: Final = 0.005
BEAT_S: Final = 0.02
MAX_LAG_S: Final = 1.0
BATCH_S: Final = 0.5
"""The longest that a batch is meant to take, unless a rule says otherwise."""
GROWTH: Final = 1.1
"""How much more memory for ten times the rows still counts as none."""

TICKS: Final = sa.Table(
    "ticks",
    sa.MetaData(),
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("at", sa.DateTime, nullable=False),
    sa.Column("note", sa.String(100), nullable=False),
)
BEATS: Final = sa.Table("beats", sa.MetaData(), sa.Column("at_s", sa.Double, nullable=False))


class SameDay(SystemClock):
    """The same day for every run; how long things take is measured."""

    def now(self) -> datetime:
        return NOW


def kept(engine: sa.Engine, target: str) -> Retention:
    """The rule that all of this is about."""
    return Retention(engine, [Rule("old ticks", "ticks", "at", timedelta(days=365), target=target)], SameDay())


def clean_there() -> None:
    """The rule was run where the environment says."""
    url, target = json.loads(os.environ[PLACES])
    _done(kept(sa.create_engine(url, poolclass=sa.NullPool), target).run(dry_run=False))


def _done(finished: CleanupFinished) -> int:
    [result] = finished.results
    if result.error or result.left:
        raise AssertionError(result)
    return result.deleted


def fill(engine: sa.Engine, rows: int) -> None:
    """The table has so many rows, all of them due, and nothing was ever archived."""
    with engine.begin() as connection:
        for name in sa.inspect(connection).get_table_names():
            if name not in ("stock", "beats"):
                sa.Table(name, sa.MetaData()).drop(connection)
        TICKS.create(connection)
    for first in range(1, rows + 1, AT_ONCE):
        with engine.begin() as connection:
            number = _numbers(connection.dialect.name, first, min(first + AT_ONCE - 1, rows))
            note = sa.literal("what was noted at tick ") + sa.cast(number, sa.String(20)) + ", and nothing else"
            made = sa.select(number, sa.bindparam("at", OLD, sa.DateTime), note)
            connection.execute(sa.insert(TICKS).from_select(["id", "at", "note"], made))


def _numbers(dialect: str, first: int, last: int) -> sa.ColumnElement[Any]:
    """All of them, as the database counts."""
    if dialect in ("mysql", "mariadb"):
        return sa.table(f"seq_{first}_to_{last}", sa.column("seq", sa.BigInteger)).c.seq
    if dialect == "postgresql":
        return sa.func.generate_series(first, last).column_valued("n")
    numbers = sa.select(sa.literal(first).label("n")).cte(recursive=True)
    return numbers.union_all(sa.select(numbers.c.n + 1).where(numbers.c.n < last)).c.n


def memory(name: str, engine: sa.Engine, folder: Path, rows: int) -> Iterator[Figure]:
    """The process's peak while so many rows go to Parquet files, beside that of a tenth of them."""
    idle = run([sys.executable, "-c", IMPORTS], {**os.environ})
    few, many = (_cleaned(engine, str(folder / f"ticks-{name}-{count}"), count) for count in (rows // FEWER, rows))
    peers = {f"{rows // FEWER:,} rows": few.peak_mib, "its modules alone": idle.peak_mib}
    ok = many.peak_mib <= GROWTH * few.peak_mib
    goal = f"at most {GROWTH:g} x that of a tenth"
    yield Figure(f"{name}, peak memory for {rows:,} rows to Parquet", many.peak_mib, "MiB", peers, goal, ok)
    yield Figure(f"{name}, {rows:,} rows to Parquet in all", rows / many.wall_s, "rows/s")


def _cleaned(engine: sa.Engine, target: str, rows: int) -> Run:
    fill(engine, rows)
    places = json.dumps([engine.url.render_as_string(hide_password=False), target])
    return run([sys.executable, "-c", CLEAN], {**os.environ, PLACES: places})


def loop(name: str, engine: sa.Engine, folder: Path, rows: int) -> Iterator[Figure]:
    """How regularly an event loop ticks while so many rows are archived from it."""
    alone = asyncio.run(_gaps(lambda: time.sleep(2)))
    for what, target in (("beside", BESIDE), ("to Parquet", str(folder / f"loop-{name}"))):
        fill(engine, rows)
        retention = kept(engine, target)
        gaps = asyncio.run(_gaps(lambda retention=retention: _done(retention.run(dry_run=False))))
        said = f"{name}, {rows:,} rows {what} from an event loop"
        yield Figure(f"{said}: longest gap between ticks", _ms(gaps, 1), "ms", {"nothing beside it": _ms(alone, 1)})
        yield Figure(f"{said}: p99 of gaps", _ms(gaps, 0.99), "ms", {"nothing beside it": _ms(alone, 0.99)})


async def _gaps(work: Callable[[], object]) -> list[float]:
    """The seconds between ticks that should be TICK_S apart, while the work is done in a thread."""
    gaps, working = list[float](), asyncio.create_task(asyncio.to_thread(work))
    last = time.perf_counter()
    while not working.done():
        await asyncio.sleep(TICK_S)
        last, gap = (now := time.perf_counter()), now - last
        gaps.append(gap)
    await working
    return gaps


def _ms(seconds: Sequence[float], share: float) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))] * 1000


@dataclass
class Replicated:
    """A database and its replica, and how far that is behind: by beats, which are written all the time."""

    primary: sa.Engine
    replica: sa.Engine

    def lag_s(self) -> float:
        """How old the newest beat is that the replica has."""
        with self.replica.connect() as connection:
            newest = connection.scalar(sa.select(sa.func.max(BEATS.c.at_s)))
        return max(0.0, time.time() - (newest or 0.0) - BEAT_S)

    def caught_up(self) -> None:
        """Returns when the replica has all."""
        while self.lag_s() > 2 * BEAT_S:
            time.sleep(BEAT_S)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Beats are written inside."""
        stop = threading.Event()
        thread = threading.Thread(target=lambda: _beat(self.primary, stop))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def lags(self, work: Callable[[], object]) -> list[float]:
        """How far behind it was, asked all the time, while the work was done and until it has all of that."""
        found, stop = list[float](), threading.Event()

        def watch() -> None:
            while not stop.wait(BEAT_S):
                found.append(self.lag_s())

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            work()
            self.caught_up()
        finally:
            stop.set()
            thread.join()
        return found


def _beat(engine: sa.Engine, stop: threading.Event) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.insert(BEATS).values(at_s=time.time()))
        while not stop.wait(BEAT_S):
            connection.execute(sa.update(BEATS).values(at_s=time.time()))


def lag(rows: int) -> Iterator[Figure]:
    """How far a MariaDB replica is behind while so many rows are archived, with a limit and without."""
    with ExitStack() as stack:
        pair = stack.enter_context(replicated())
        stack.enter_context(pair.beating())
        longest = {}
        for what, limit in (("no limit", None), ("limit", MAX_LAG_S)):
            fill(pair.primary, rows)
            pair.caught_up()
            signs = Manners(Limits(lag_s=limit), lambda connection: read_signs(connection, pair.lag_s))
            retention = kept(pair.primary, BESIDE)
            longest[what] = max(pair.lags(lambda r=retention, s=signs: _done(r.run(dry_run=False, manners=s))))
        # A batch is not begun beyond the limit, and the one before it may take the replica as long as it took here.
        ok = longest["limit"] <= MAX_LAG_S + 2 * BATCH_S
        name = f"mariadb, longest lag of a replica, with a limit of {MAX_LAG_S:g} s"
        goal = f"at most {MAX_LAG_S + 2 * BATCH_S:g}"
        yield Figure(name, longest["limit"], "s", {"without a limit": longest["no limit"]}, goal, ok)


@contextmanager
def replicated() -> Iterator[Replicated]:
    """A MariaDB and a replica of it, both private."""
    logging = {"log_bin": "binlog", "binlog_format": "ROW"}
    with (
        start_mariadb(options={"server_id": "1", **logging}) as one,
        start_mariadb(options={"server_id": "2", "replicate_wild_do_table": "bench.%"}) as other,
        ExitStack() as stack,
    ):
        primary, replica = (sa.create_engine(server.create_database("bench")) for server in (one, other))
        stack.callback(primary.dispose)
        stack.callback(replica.dispose)
        with primary.connect() as connection:
            file, position, *_ = connection.exec_driver_sql("SHOW MASTER STATUS").one()
        with replica.connect() as connection:
            change = sa.text(
                "CHANGE MASTER TO MASTER_HOST = :host, MASTER_PORT = :port, MASTER_USER = :name, "
                "MASTER_PASSWORD = :password, MASTER_LOG_FILE = :file, MASTER_LOG_POS = :position, "
                "MASTER_CONNECT_RETRY = 1"
            )
            url = primary.url
            where = {"host": url.host, "port": url.port, "name": url.username, "password": url.password}
            connection.execute(change, {**where, "file": file, "position": position})
            connection.exec_driver_sql("START SLAVE")
        BEATS.create(primary)
        yield Replicated(primary, replica)


def figures_of(name: str, many: int, folder: Path) -> Iterator[Figure]:
    """All figures of one kind of database, on a server of its own."""
    with ExitStack() as stack:
        url = sa.make_url(f"sqlite:///{folder}/ticks.sqlite3")
        if name != "sqlite":
            start = {"mariadb": start_mariadb, "postgresql": start_postgresql}[name]
            url = stack.enter_context(start()).create_database("bench")
        engine = sa.create_engine(url)
        stack.callback(engine.dispose)
        yield from loop(name, engine, folder, min(many, FROM_A_LOOP))
        # Ten million rows take MariaDB some minutes, and show of the others nothing that a million do not.
        yield from memory(name, engine, folder, many if name == "mariadb" else many // FEWER)
    if name == "mariadb":
        yield from lag(min(many, FROM_A_LOOP))


def main(arguments: Sequence[str] | None = None) -> None:
    """The figures are measured, printed and kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retention_at_scale", description=__doc__)
    parser.add_argument("--many", type=int, default=MANY, help="rows of the table that shows whether memory grows")
    parser.add_argument("--databases", default="mariadb,postgresql,sqlite")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-retention-") as folder:
        names = options.databases.split(",")
        found = [figure for name in names for figure in figures_of(name, options.many, Path(folder))]
        publish("retention_at_scale", None, found)


if __name__ == "__main__":
    main()

"""bench-retention: news of about 0.7 KB leave their table, by dbpilot and by others, one after the other.

python -m benchmarks.retention [--rows 200000] [--databases mariadb,postgresql]

Every way finds the same table, filled anew, and everything in it is due. After each way every row is counted: it must
be gone from the table and, but for a purge, be in the archive. The time is that of the whole command, with planning and
verifying; pt-archiver's is that of its process. pt-archiver is asked for only where it is installed (Debian:
percona-toolkit). Servers do not wait for the disk, for none of the ways.
"""

import argparse
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from benchmarks.report import Figure, publish
from dbpilot.clock import SystemClock
from dbpilot.retention import CleanupResult, Retention, Rule
from dbpilot.retention.parquet import ParquetTarget
from dbpilot.retention.policy import BESIDE
from dbpilot.testing.servers import SqlServer, start_mariadb, start_postgresql

SEED: Final = 4
ROWS: Final = 200_000
FILLED_AT_ONCE: Final = 5_000
BULKS: Final = (1_000, 5_000, 10_000)
SLOW_SHARE: Final = 10
"""A way that commits row by row gets this part of the rows."""
OLD: Final = datetime(2020, 1, 1, tzinfo=UTC)
NOW: Final = datetime(2025, 6, 1, tzinfo=UTC)
CUTOFF: Final = "2025-01-01"
PAUSE_S: Final = 0.002
"""Between two writes of the application that goes on beside."""
AT: Final = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


class FixedDay(SystemClock):
    """The same day for every run; how long things take is measured."""

    def now(self) -> datetime:
        return NOW


def news(name: str) -> sa.Table:
    """A table of news: eleven columns, an index on the time, a unique hash."""
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("source", sa.String(50)),
        sa.Column("title", sa.String(300)),
        sa.Column("url", sa.String(500)),
        sa.Column("summary", sa.Text),
        sa.Column("symbol", sa.String(20), index=True),
        sa.Column("sentiment", sa.Numeric(6, 4)),
        sa.Column("views", sa.Integer),
        sa.Column("is_read", sa.Boolean),
        sa.Column("hash", sa.String(64), unique=True),
        sa.Column("published_at", AT, nullable=False, index=True),
    )


def story(number: int) -> dict[str, Any]:
    """One of them; the same number is the same news."""
    return {
        "id": number,
        "source": f"agency {number % 40}",
        "title": f"What happened to company {number % 900} on the day {number // 500}" + " and after" * 5,
        "url": f"https://example.com/news/{number:012d}/" + "path/" * 8,
        "summary": f"Story {number}. " + "It is said that shares rose, and that others fell. " * 7,
        "symbol": f"{number % 900:06d}",
        "sentiment": (number % 2001 - 1000) / 1000,
        "views": number % 1000,
        "is_read": number % 3 == 0,
        "hash": f"{number * 2654435761 % 2**64:064x}",
        "published_at": (OLD + timedelta(seconds=60 * number)).replace(tzinfo=None),
    }


@dataclass
class Place:
    """A database with the same news again and again."""

    url: sa.URL
    rows: int

    def __post_init__(self) -> None:
        self.engine = sa.create_engine(self.url)
        stock = news("stock")
        with self.engine.begin() as connection:
            stock.create(connection)
            for start in range(0, self.rows, FILLED_AT_ONCE):
                numbers = range(start + 1, min(start + FILLED_AT_ONCE, self.rows) + 1)
                connection.execute(stock.insert(), [story(number) for number in numbers])

    def fill(self, rows: int | None = None) -> None:
        """The table ``news`` has so many rows, and there is no archive."""
        stock, live = news("stock"), news("news")
        columns = [column.name for column in stock.columns]
        with self.engine.begin() as connection:
            for table in sa.inspect(connection).get_table_names():
                if table != "stock":
                    sa.Table(table, sa.MetaData()).drop(connection)
            live.create(connection)
            connection.execute(
                live.insert().from_select(columns, stock.select().where(stock.c.id <= (rows or self.rows)))
            )
        self._settle()

    def _settle(self) -> None:
        """What filling it left to do is not measured with the next way."""
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            command = "VACUUM ANALYZE news" if self.engine.dialect.name == "postgresql" else "ANALYZE TABLE news"
            connection.execute(sa.text(command))

    def count(self, name: str) -> int:
        """Rows of a table; 0 where it is missing."""
        with self.engine.connect() as connection:
            if not sa.inspect(connection).has_table(name):
                return 0
            return int(connection.scalar(sa.select(sa.func.count()).select_from(sa.table(name))) or 0)

    def close(self) -> None:
        """No connection is open."""
        self.engine.dispose()


@dataclass(frozen=True)
class Went:
    """How one way went."""

    rate: float
    """Rows a second."""
    longest_s: float = 0.0
    """The longest batch, where that is known."""


class Wrong(AssertionError):
    """A way left rows where they were, or lost some."""


def check(place: Place, what: str, rows: int, archived: int) -> None:
    """Every row left its table, and is archived.

    Raises:
        Wrong: that is not so.
    """
    live = place.count("news")
    if live or archived != rows:
        raise Wrong(f"{what}: {live} rows are still live, {archived} of {rows} are archived")


def ours(place: Place, target: str | None, archived: Callable[[], int], rows: int) -> Went:
    """dbpilot moves everything to this target."""
    place.fill(rows)
    rule = Rule("old news", "news", "published_at", timedelta(days=30), target=target, purge=target is None)
    started = time.perf_counter()
    [result] = Retention(place.engine, [rule], FixedDay()).run(dry_run=False).results
    took_s = time.perf_counter() - started
    _complete(result, rows)
    check(place, f"dbpilot to {rule.kind}", rows, archived() if target else rows)
    return Went(rows / took_s, result.longest_s)


def _complete(result: CleanupResult, rows: int) -> None:
    if result.error or result.stopped or result.deleted != rows:
        raise Wrong(f"dbpilot to {result.kind}: {result}")


def in_files(folder: str) -> int:
    """Archived rows in a folder of Parquet files."""
    with closing(ParquetTarget(folder)) as target:
        return sum(len(chunk) for chunk in target.rows("old news", news("news"), None, None, None))


class PtArchiver:
    """Percona's archiver, which reads where the server is from a file that nobody else can read."""

    def __init__(self, url: sa.URL, folder: Path) -> None:
        self._database = url.database
        self._access = folder / f"{url.port}.cnf"
        self._access.touch(mode=0o600)
        self._access.write_text(
            f"[client]\nhost={url.host}\nport={url.port}\nuser={url.username}\npassword={url.password}\n"
        )

    def dsn(self, table: str) -> str:
        """A table, as pt-archiver names it."""
        return f"F={self._access},D={self._database},t={table}"

    def run(self, source: str, *options: str) -> float:
        """The seconds that it took."""
        where = ("--where", f"published_at < '{CUTOFF}'", "--no-check-charset", "--no-version-check")
        command = ["pt-archiver", "--source", source, *where, *options]
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Wrong(f"pt-archiver {' '.join(options)}: {done.stderr[-500:]}")
        return time.perf_counter() - started


def bulk(size: int) -> tuple[str, ...]:
    """pt-archiver in transactions of so many rows."""
    return ("--limit", str(size), "--commit-each", "--bulk-delete")


def theirs(place: Place, archiver: PtArchiver, to: tuple[Place, str] | None, rows: int, *options: str) -> Went:
    """pt-archiver moves everything, or purges it."""
    place.fill(rows)
    options = (*options, *(("--dest", to[1]) if to else ("--purge",)))
    if to:
        _empty_archive(to[0])
    took_s = archiver.run(archiver.dsn("news"), *options)
    # It leaves the last row, so that AUTO_INCREMENT goes on; so it is left in neither count.
    left = place.count("news")
    if left > 1 or (to and to[0].count("news_archive") != rows - left):
        raise Wrong(f"pt-archiver {' '.join(options)}: {left} rows are still live")
    return Went((rows - left) / took_s)


def _empty_archive(place: Place) -> None:
    archive = news("news_archive")
    with place.engine.begin() as connection:
        archive.drop(connection, checkfirst=True)
        archive.create(connection)


def mariadb(place: Place, other: Place, folder: Path) -> Iterator[Figure]:
    """The ways that there are with MariaDB."""
    rows, url = place.rows, other.url.render_as_string(hide_password=False)
    beside = ours(place, BESIDE, lambda: place.count("news_archive"), rows)
    purge = ours(place, None, lambda: 0, rows)
    server = ours(place, url, lambda: other.count("news_archive"), rows)
    files = ours(place, str(folder / "archive"), lambda: in_files(str(folder / "archive")), rows)
    peers = _peers(place, other, folder) if shutil.which("pt-archiver") else {}
    best = max((went for name, went in peers.items() if name.startswith("bulk")), default=0.0)
    best_purge = max((went for name, went in peers.items() if name.startswith("purge")), default=0.0)
    of = {name: {n: r for n, r in peers.items() if n.startswith(name)} for name in ("bulk", "purge", "server", "row")}
    yield Figure("mariadb, beside", beside.rate, "rows/s", {**of["bulk"], **of["row"]})
    yield _ratio("mariadb, beside / pt-archiver's best bulk", beside.rate, best, 1.5)
    yield Figure("mariadb, beside: longest batch", beside.longest_s, "s", {}, "at most 0.5", beside.longest_s <= 0.5)
    yield Figure("mariadb, purge", purge.rate, "rows/s", of["purge"])
    yield _ratio("mariadb, purge / pt-archiver's best", purge.rate, best_purge, 1.2)
    yield Figure("mariadb, to another server", server.rate, "rows/s", of["server"])
    yield _ratio("mariadb, to another server / pt-archiver's best bulk", server.rate, best, 0.7)
    yield Figure("mariadb, to Parquet", files.rate, "rows/s")
    yield _ratio("mariadb, to Parquet / pt-archiver's best bulk", files.rate, best, 1.0)


def _ratio(name: str, value: float, peer: float, least: float) -> Figure:
    """A goal beside a peer; without one where it is not installed."""
    if not peer:
        return Figure(name, float("nan"), "x")
    return Figure(name, value / peer, "x", {}, f"at least {least:g} x", value / peer >= least)


def _peers(place: Place, other: Place, folder: Path) -> dict[str, float]:
    archiver, remote = PtArchiver(place.url, folder), PtArchiver(other.url, folder)
    here, there = (place, archiver.dsn("news_archive")), (other, remote.dsn("news_archive"))
    rows, few = place.rows, max(1, place.rows // SLOW_SHARE)
    rates = {}
    for size in BULKS:
        rates[f"bulk {size:,}"] = theirs(place, archiver, here, rows, *bulk(size), "--bulk-insert").rate
        rates[f"purge, bulk {size:,}"] = theirs(place, archiver, None, rows, *bulk(size)).rate
        rates[f"server, bulk {size:,}"] = theirs(place, archiver, there, rows, *bulk(size), "--bulk-insert").rate
    rates["row by row"] = theirs(place, archiver, here, few, "--limit", "1000").rate
    return rates


def postgresql(place: Place, folder: Path) -> Iterator[Figure]:
    """The ways that there are with PostgreSQL."""
    beside = ours(place, BESIDE, lambda: place.count("news_archive"), place.rows)
    files = ours(place, str(folder / "archive-pg"), lambda: in_files(str(folder / "archive-pg")), place.rows)
    bare = {f"bare statements of {size:,}": bare_postgresql(place, size) for size in BULKS}
    ratio = beside.rate / max(bare.values())
    yield Figure("postgresql, beside", beside.rate, "rows/s", bare)
    yield Figure("postgresql, beside / the best bare one", ratio, "x", {}, "at least 0.8 x", ratio >= 0.8)
    yield Figure("postgresql, beside: longest batch", beside.longest_s, "s", {}, "at most 0.5", beside.longest_s <= 0.5)
    yield Figure("postgresql, to Parquet", files.rate, "rows/s")


def bare_postgresql(place: Place, size: int) -> float:
    """What ``DELETE .. RETURNING`` into an INSERT does by itself, without looking whether it is right."""
    place.fill()
    _empty_archive(place)
    move = sa.text(
        "WITH gone AS (DELETE FROM news WHERE id BETWEEN :first AND :last RETURNING *) "
        "INSERT INTO news_archive SELECT * FROM gone"
    )
    started = time.perf_counter()
    for first in range(1, place.rows + 1, size):
        with place.engine.begin() as connection:
            connection.execute(move, {"first": first, "last": first + size - 1})
    took_s = time.perf_counter() - started
    check(place, "bare", place.rows, place.count("news_archive"))
    return place.rows / took_s


def foreground(place: Place) -> Iterator[Figure]:
    """How long the application's single-row writes take while its table is cleaned."""
    name = place.url.get_backend_name().replace("mysql", "mariadb")
    place.fill()
    alone = _writes(place, lambda: time.sleep(5))
    place.fill()
    rule = Rule("old news", "news", "published_at", timedelta(days=30), target=BESIDE)
    retention = Retention(place.engine, [rule], FixedDay())
    beside = _writes(place, lambda: _complete(retention.run(dry_run=False).results[0], place.rows))
    p99 = _ms(beside, 0.99)
    yield Figure(f"{name}, writes beside it: median", _ms(beside, 0.5), "ms", {"alone": _ms(alone, 0.5)})
    yield Figure(f"{name}, writes beside it: p99", p99, "ms", {"alone": _ms(alone, 0.99)}, "at most 50", p99 <= 50)
    yield Figure(f"{name}, writes beside it: longest", max(beside) * 1000, "ms", {"alone": max(alone) * 1000})


def _writes(place: Place, work: Callable[[], object]) -> list[float]:
    """How long each write took while the work was done."""
    stop, took_s = threading.Event(), list[float]()
    table = news("news")

    def write() -> None:
        number = 10 * place.rows
        while not stop.wait(PAUSE_S):
            number += 1
            row = {**story(number), "published_at": NOW.replace(tzinfo=None)}
            started = time.perf_counter()
            with place.engine.begin() as connection:
                connection.execute(table.insert(), row)
            took_s.append(time.perf_counter() - started)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        work()
    finally:
        stop.set()
        thread.join()
    return took_s


def _ms(took_s: Sequence[float], share: float) -> float:
    return sorted(took_s)[int(share * len(took_s))] * 1000


def figures_of(name: str, rows: int, folder: Path) -> Iterator[Figure]:
    """All figures of one kind of database, on servers of its own."""
    with ExitStack() as stack:
        start: Callable[[], SqlServer] = {"mariadb": start_mariadb, "postgresql": start_postgresql}[name]
        place = Place(stack.enter_context(start()).create_database("bench"), rows)
        stack.callback(place.close)
        if name == "mariadb":
            other = Place(stack.enter_context(start()).create_database("archive"), 0)
            stack.callback(other.close)
            yield from mariadb(place, other, folder)
        else:
            yield from postgresql(place, folder)
        yield from foreground(place)


def main(arguments: Sequence[str] | None = None) -> None:
    """The figures are measured, printed and kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retention", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--databases", default="mariadb,postgresql")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-retention-") as folder:
        names = options.databases.split(",")
        found = [f for name in names for f in figures_of(name, options.rows, Path(folder))]
        publish("retention", SEED, found)


if __name__ == "__main__":
    main()

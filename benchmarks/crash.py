"""bench-crash: a cleaning is killed again and again, at any step and at any moment, and then run once more.

python -m benchmarks.crash [--kills 200] [--seed 7] [--go-on]

After each kill every row must be in its table or in its archive; after the next run it must be in exactly one of them,
with the content that it had. Half of the runs are killed at a chosen step (before or after a statement of either
database, a commit, or whatever is done to a file of the archive), half at a random moment, if they last until then.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from benchmarks.report import Figure, publish, published
from dbpilot.errors import PilotError, RetentionError
from dbpilot.retention import Retention, Rule
from dbpilot.retention.journal import journal
from dbpilot.retention.parquet import ParquetTarget
from dbpilot.testing import FakeClock
from dbpilot.testing.servers import start_mariadb, start_postgresql

SEED: Final = 7
KILLS: Final = 200
ROWS: Final = 600
BATCH: Final = 100
PAIRS: Final = 9
COUNT: Final = "pairs of database and archive"
MOST_RUNS: Final = 5
"""For each kill that is wanted: a run may end before it is killed."""
NOW: Final = datetime(2025, 6, 1, tzinfo=UTC)
OLD: Final = datetime(2020, 1, 1, tzinfo=UTC)
SOONER: Final = 0.9
RULE: Final = "old news"
PLACES: Final = "DBPILOT_CRASH_PLACES"
"""The variable that tells a process of its own where the database and the archive are; addresses hold passwords."""
FILE_EVENTS: Final = ("open", "os.rename", "os.remove", "os.mkdir")

METADATA: Final = sa.MetaData()
NEWS: Final = sa.Table(
    "news",
    METADATA,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
    sa.Column("at", sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")),
    sa.Column("body", sa.Text),
)

Row = tuple[Any, ...]
Act = Callable[[Retention], int]


@dataclass(frozen=True)
class Outcome:
    """What many kills did."""

    kills: int
    """Runs that were killed before they had ended."""
    runs: int
    lost: int
    """Rows in neither place, after a kill or after the run that followed."""
    doubled: int
    """Rows in both places, or twice in one, after the run that followed."""
    altered: int
    """Rows with another content than they had."""
    in_both_meanwhile: int
    """Rows in both places between a kill and the next run: no fault where there are two systems."""
    unfinished: int
    """Runs after a kill that did not end well, or left due rows live."""
    recovered: int
    """Batches that a run after a kill put right."""


class Steps:
    """Counts what a process does to databases and archives, and ends it at one of these steps."""

    def __init__(self, folder: str, last: int | None) -> None:
        self._folder, self._last = folder, last
        self._numbers = itertools.count(1)  # two threads take steps, and must not count one twice
        self.count = 0
        for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
            sa.event.listen(sa.Engine, name, self._step)
        sys.addaudithook(self._audit)

    def _audit(self, name: str, arguments: Sequence[Any]) -> None:
        if name in FILE_EVENTS and str(arguments[0]).startswith(self._folder):
            self._step()

    def _step(self, *_: Any) -> None:
        number = self.count = next(self._numbers)
        if number == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


def kept(url: str, target: str) -> Retention:
    """The rule that is killed."""
    # No batch is quick enough for a larger one after it: so there are several.
    rule = Rule(RULE, "news", "at", timedelta(days=365), target=target, batch=BATCH, batch_s=1e-9)
    return Retention(engine_of(url), [rule], FakeClock(NOW))


@cache
def engine_of(url: str) -> sa.Engine:
    """An engine that keeps no connection, so that it may be forked, but what it has compiled."""
    return sa.create_engine(url, poolclass=sa.NullPool)


def clean(retention: Retention) -> int:
    """What is killed: a cleaning. Returns how many batches it put right that an earlier one left open."""
    [result] = retention.run(dry_run=False).results
    if result.error:
        raise RetentionError(result.error)
    return result.recovered


def bring_back(retention: Retention) -> int:
    """What is killed: the restoring of everything."""
    if retention.restore(RULE).in_conflict:
        raise RetentionError("a row that left its table was live")
    return 0


def crash(url: str, target: str, kills: int, seed: int, act: Act = clean) -> Outcome:
    """So many runs are killed, each followed by one that is not; one that ends before it is killed counts as a run."""
    rng = random.Random(seed)
    done = Outcome(0, 0, 0, 0, 0, 0, 0, 0)
    steps, took_s = _measured(url, target, act)
    while done.kills < kills and done.runs < MOST_RUNS * kills:
        before = _filled(url, target, seed + done.runs, act)
        last = rng.randint(1, steps) if done.runs % 2 else None
        after_s = None if last else rng.uniform(0, took_s)
        killed = _killed(lambda last=last: _steps(url, target, act, last), after_s)
        if after_s is not None and not killed:
            took_s = max(after_s, SOONER * took_s)  # it had ended by then
        done = _added(done, _after(url, target, before, act, killed=killed))
    return done


def _after(url: str, target: str, before: Sequence[Row], act: Act, *, killed: bool) -> Outcome:
    """What a kill left, and what the next run makes of it."""
    keys, meanwhile = {row[0] for row in before}, [*_live(url), *_archived(url, target)]
    retention = kept(url, target)
    try:
        recovered, well = act(retention), retention.verify(RULE).ok
    except PilotError:
        traceback.print_exc()
        recovered, well = 0, False
    live, archived = _live(url), _archived(url, target)
    after, wanted = [*live, *archived], {row[0]: row for row in before}
    old = {row[0] for row in before if row[1].replace(tzinfo=UTC) < NOW - timedelta(days=365)}
    due = old if act is clean else set()
    return Outcome(
        kills=int(killed),
        runs=1,
        lost=len(keys - {row[0] for row in meanwhile}) + len(keys - {row[0] for row in after}),
        doubled=len(after) - len({row[0] for row in after}),
        altered=sum(wanted.get(row[0]) != row for row in after),
        in_both_meanwhile=len(meanwhile) - len({row[0] for row in meanwhile}),
        unfinished=int(not well or {row[0] for row in archived} != due),
        recovered=recovered,
    )


def _added(one: Outcome, other: Outcome) -> Outcome:
    return Outcome(*(a + b for a, b in zip(asdict(one).values(), asdict(other).values(), strict=True)))


def _filled(url: str, target: str, seed: int, act: Act) -> list[Row]:
    """The rows that there are, all live, or archived where it is the way back that is killed."""
    _fill(url, target, seed)
    rows = _live(url)
    if act is bring_back:
        clean(kept(url, target))
    return rows


def _measured(url: str, target: str, act: Act) -> tuple[int, float]:
    """How many steps a run has that nobody kills, and how long it takes."""
    _filled(url, target, 0, act)
    reading, writing = os.pipe()
    began = time.monotonic()
    _wait(_forked(lambda: os.write(writing, str(_steps(url, target, act)).encode())))
    took_s = time.monotonic() - began
    os.close(writing)
    with os.fdopen(reading) as pipe:
        return int(pipe.read()), took_s


def _steps(url: str, target: str, act: Act, last: int | None = None) -> int:
    steps = Steps(target, last)
    act(kept(url, target))
    return steps.count


def _killed(run: Callable[[], object], after_s: float | None) -> bool:
    """Whether a run was killed before it had ended."""
    pid = _forked(run)
    if after_s is not None:
        time.sleep(after_s)
        with suppress(ProcessLookupError):  # it was done before it could be killed
            os.kill(pid, signal.SIGKILL)
    return _wait(pid)


def _forked(work: Callable[[], object]) -> int:
    """The process that does the work, and nothing after it."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)


def _wait(pid: int) -> bool:
    """The process has ended; whether by a kill.

    Raises:
        RuntimeError: it failed, which is neither.
    """
    status = os.waitpid(pid, 0)[1]
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        raise RuntimeError("a run failed that was not killed; its error is above")
    return os.WIFSIGNALED(status)


def _fill(url: str, target: str, seed: int) -> None:
    """The table has its rows, mostly old ones, and nothing was ever archived."""
    rng = random.Random(seed)
    rows = [
        {
            "id": key,
            "at": (OLD if rng.random() < 0.9 else NOW).replace(tzinfo=None) + timedelta(microseconds=key),
            "body": rng.choice(["", None, "한국어 😀", "x" * rng.randint(1, 900)]),
        }
        for key in rng.sample(range(1, 10 * ROWS), ROWS)
    ]
    for place in {url, _database(url, target)}:
        with _connected(place) as connection:
            for table in _made(connection, ("news_archive", journal.name)):
                connection.execute(sa.delete(table))
    if Path(target).is_absolute():
        shutil.rmtree(target, ignore_errors=True)
    with _connected(url) as connection:
        METADATA.create_all(connection)
        connection.execute(sa.delete(NEWS))
        connection.execute(sa.insert(NEWS), rows)


def _database(url: str, target: str) -> str:
    """Where the archive is, if it is a table."""
    return target if "://" in target else url


@contextmanager
def _connected(url: str) -> Iterator[sa.Connection]:
    with engine_of(url).begin() as connection:
        yield connection


def _made(connection: sa.Connection, names: Sequence[str]) -> list[sa.Table]:
    there = sa.inspect(connection).get_table_names()
    return [sa.Table(name, sa.MetaData(), autoload_with=connection) for name in names if name in there]


def _live(url: str) -> list[Row]:
    with _connected(url) as connection:
        return [tuple(row) for row in connection.execute(sa.select(NEWS))]


def _archived(url: str, target: str) -> list[Row]:
    """What lies in the archive, finished or not."""
    if Path(target).is_absolute():
        with closing(ParquetTarget(target)) as files:
            found = files.rows(RULE, NEWS, None, None, None)
            return [tuple(row[column.name] for column in NEWS.columns) for rows in found for row in rows]
    with _connected(_database(url, target)) as connection:
        columns = sa.select(*(sa.column(column.name, column.type) for column in NEWS.columns))
        return [
            tuple(row)
            for table in _made(connection, ["news_archive"])
            for row in connection.execute(columns.select_from(table))
        ]


def places(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Each database with each archive: what it is called, and where both are."""
    with start_mariadb() as mariadb, start_postgresql() as postgresql:
        for server in (mariadb, postgresql):
            address, other = (_address(server.create_database(name)) for name in ("live", "archive"))
            yield from _three(server.name, address, other, folder / server.name)
        yield from _three(
            "sqlite", f"sqlite:///{folder}/live.sqlite3", f"sqlite:///{folder}/archive.sqlite3", folder / "sqlite"
        )


def _address(url: sa.URL) -> str:
    """With it MariaDB's driver does not read all certificates of the system for each of its connections."""
    plain = url.update_query_dict({"ssl_disabled": "true"}) if url.get_backend_name() == "mysql" else url
    return plain.render_as_string(hide_password=False)


def _three(name: str, address: str, other: str, folder: Path) -> list[tuple[str, str, str]]:
    return [
        (f"{name}, a table beside", address, "beside"),
        (f"{name}, another database", address, other),
        (f"{name}, Parquet files", address, str(folder)),
    ]


def figures(name: str, done: Outcome) -> list[Figure]:
    """What a reader wants to know of many kills."""
    none = {"goal": "0"}
    return [
        Figure(f"{name}: runs killed before they had ended", done.kills, f"of {done.runs}"),
        Figure(f"{name}: rows lost", done.lost, "", **none, ok=done.lost == 0),
        Figure(f"{name}: rows doubled after the next run", done.doubled, "", **none, ok=done.doubled == 0),
        Figure(f"{name}: rows altered", done.altered, "", **none, ok=done.altered == 0),
        Figure(f"{name}: next runs that did not finish", done.unfinished, "", **none, ok=done.unfinished == 0),
        Figure(f"{name}: rows in both places until then", done.in_both_meanwhile, ""),
        Figure(f"{name}: batches put right by it", done.recovered, ""),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """The figures are measured, printed and kept; or, of one database and archive, printed as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS, help="runs to kill, for each database and archive")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--go-on", action="store_true", help="keep the pairs that an earlier run has published")
    parser.add_argument("--back", action="store_true", help="kill the restoring instead of the cleaning")
    options = parser.parse_args(arguments)
    if PLACES in os.environ:
        url, target = json.loads(os.environ[PLACES])
        print(
            json.dumps(asdict(crash(url, target, options.kills, options.seed, bring_back if options.back else clean)))
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        found = published("crash") if options.go_on else []
        done = {figure.name.partition(":")[0] for figure in found}
        for number, (name, url, target) in enumerate(places(Path(folder)), 1):
            if name in done:
                continue
            for what, act, kills in (("", clean, options.kills), (", restoring", bring_back, options.kills // 4)):
                found += figures(name + what, crash(url, target, kills, options.seed, act))
            # Whatever ends this run early, the pairs that were done are kept, and counted.
            pairs = Figure(COUNT, number, f"of {PAIRS}")
            publish("crash", options.seed, [pairs, *(figure for figure in found if figure.name != COUNT)])


if __name__ == "__main__":
    main()

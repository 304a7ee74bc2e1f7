"""bench-index_apply: an index is made on a table that is written to and read from: how long does one write wait?

python -m benchmarks.index_apply [--rows 1500000] [--databases postgresql,mariadb]

A writer inserts and updates rows one transaction after the other, a reader looks rows up; meanwhile the index is made:
by dbpilot, with all that belongs to it (ledger, build, ANALYZE, looks), and by plain CREATE INDEX. Then dbpilot takes
it away again. The worst write is the longest time from the begin to the commit of one transaction of the writer.
"""

import argparse
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from benchmarks.report import Figure, publish
from dbpilot.clock import SYSTEM
from dbpilot.dialects.catalog import Key
from dbpilot.dialects.whatif import NewIndex
from dbpilot.indexes.apply import Applier
from dbpilot.indexes.changes import create
from dbpilot.testing.servers import start_mariadb, start_postgresql

SEED: Final = 3
ROWS: Final = 1_500_000
GOAL_MS: Final = 100
QUIET_S: Final = 3.0
"""The writer alone, to compare with."""
PAUSE_S: Final = 0.002
PRICES: Final = sa.Table(
    "prices",
    sa.MetaData(),
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("symbol", sa.Integer, nullable=False),
    sa.Column("day", sa.Integer, nullable=False),
    sa.Column("close", sa.Integer),
    sa.Column("note", sa.String(60)),
)
INDEX: Final = NewIndex("prices", (Key("symbol"), Key("day")))
FILL: Final = {
    "postgresql": """INSERT INTO prices SELECT i, i % 3000, i / 3000, i % 977, 'a price of some day ' || i
        FROM generate_series(1, :rows) i""",
    "mysql": """INSERT INTO prices SELECT seq, seq % 3000, seq DIV 3000, seq % 977, concat('a price of some day ', seq)
        FROM seq_1_to_100000000 WHERE seq <= :rows""",
}


@dataclass
class Traffic:
    """What the application felt."""

    writes_s: list[float] = field(default_factory=list)
    reads_s: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def worst_ms(self) -> float:
        """The longest write."""
        return 1000 * max(self.writes_s)


def filled(url: sa.URL, rows: int) -> sa.Engine:
    """The table, as the application has it."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    PRICES.create(engine)
    with engine.begin() as connection:
        connection.execute(sa.text(FILL[engine.dialect.name]), {"rows": rows})
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("VACUUM ANALYZE prices"))
    return engine


def under_load(engine: sa.Engine, rows: int, work: Callable[[], object]) -> tuple[float, Traffic]:
    """How long the work took, in seconds, and what a writer and a reader felt meanwhile."""
    traffic, stop = Traffic(), threading.Event()
    first = _highest(engine) + 1
    loops = (
        (traffic.writes_s, lambda number: _write(first + number, rows)),
        (traffic.reads_s, lambda number: _read(number, rows)),
    )
    threads = [threading.Thread(target=_loop, args=(engine, stop, traffic, *loop)) for loop in loops]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    traffic.writes_s.clear()
    began = time.perf_counter()
    work()
    took_s = time.perf_counter() - began
    time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    return took_s, traffic


def _highest(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(sa.select(sa.func.max(PRICES.c.id))).scalar_one())


def _loop(
    engine: sa.Engine,
    stop: threading.Event,
    traffic: Traffic,
    durations: list[float],
    statements: Callable[[int], list[Any]],
) -> None:
    number = 0
    with engine.connect() as connection:
        while not stop.wait(PAUSE_S):
            number += 1
            began = time.perf_counter()
            try:
                with connection.begin():
                    for statement in statements(number):
                        connection.execute(statement)
            except DBAPIError as error:
                traffic.errors.append(type(error.orig).__name__)
            durations.append(time.perf_counter() - began)


def _write(new: int, rows: int) -> list[Any]:
    rng = random.Random(SEED + new)
    row = {"id": new, "symbol": rng.randrange(3000), "day": rng.randrange(500), "close": 1, "note": "new"}
    some = rng.randrange(1, rows)
    change = sa.update(PRICES).where(PRICES.c.id == some).values(close=PRICES.c.close + 1, day=rng.randrange(500))
    return [sa.insert(PRICES).values(row), change]


def _read(number: int, rows: int) -> list[Any]:
    wanted = random.Random(SEED - number).randrange(1, rows)
    return [sa.select(PRICES.c.note).where(PRICES.c.id == wanted)]


def _plain(engine: sa.Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("CREATE INDEX ix_plain ON prices (symbol, day)"))


def _drop_plain(engine: sa.Engine) -> None:
    on = " ON prices" if engine.dialect.name == "mysql" else ""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f"DROP INDEX ix_plain{on}"))


def _copying(engine: sa.Engine) -> None:
    """What MariaDB does where nobody asks it not to, and a column's type changes, for one."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ALTER TABLE prices ADD INDEX ix_plain (symbol, day), ALGORITHM=COPY, LOCK=SHARED"))


def figures(name: str, engine: sa.Engine, rows: int) -> Iterator[Figure]:
    """One database."""
    applier = Applier(engine, SYSTEM)
    change = create(INDEX, "ix_prices_symbol_day", "the benchmark")
    _, alone = under_load(engine, rows, lambda: time.sleep(QUIET_S))
    done: list[Any] = []
    ours_s, ours = under_load(engine, rows, lambda: done.extend(applier.apply([change], who="the benchmark")))
    [outcome] = done
    if outcome.step != "watching":
        raise RuntimeError(outcome.text)
    gone_s, gone = under_load(
        engine, rows, lambda: applier.revert(outcome.entry or 0, who="the benchmark", why="it was made")
    )
    plain_s, plain = under_load(engine, rows, lambda: _plain(engine))
    _drop_plain(engine)
    peers = {"CREATE INDEX": plain.worst_ms, "nothing done": alone.worst_ms}
    if name == "mariadb":
        _, copied = under_load(engine, rows, lambda: _copying(engine))
        peers["ALGORITHM=COPY"] = copied.worst_ms
        _drop_plain(engine)
    errors = [*ours.errors, *gone.errors]
    below = f"at most {GOAL_MS} ms"
    yield Figure(f"{name}: worst write while it is made", ours.worst_ms, "ms", peers, below, ours.worst_ms <= GOAL_MS)
    yield Figure(f"{name}: worst write while it goes", gone.worst_ms, "ms", {}, below, gone.worst_ms <= GOAL_MS)
    yield Figure(f"{name}: median write while it is made", _median_ms(ours), "ms", {"nothing done": _median_ms(alone)})
    yield Figure(f"{name}: errors of the application", len(errors), "", {}, "0", not errors)
    yield Figure(f"{name}: to make it, all told", ours_s, "s", {"CREATE INDEX": plain_s})
    yield Figure(f"{name}: to take it back", gone_s, "s")


def _median_ms(traffic: Traffic) -> float:
    return 1000 * statistics.median(traffic.writes_s)


def main() -> None:
    """Measures, prints and publishes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index_apply")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--databases", default="postgresql,mariadb")
    options = parser.parse_args()
    starts = {"postgresql": start_postgresql, "mariadb": start_mariadb}
    found: list[Figure] = []
    for name in options.databases.split(","):
        with starts[name]() as server:
            found += figures(name, filled(server.create_database("shop"), options.rows), options.rows)
    publish("index_apply", SEED, found)


if __name__ == "__main__":
    main()

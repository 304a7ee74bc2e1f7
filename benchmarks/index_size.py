"""bench-index_size: how large an index would be, asked before it is there, and how large it is.

python -m benchmarks.index_size [--scale 0.1] [--databases postgresql,mariadb,sqlite]

Two sets of indexes: on TPC-H, which the models of PostgreSQL and SQLite were never fitted on (MariaDB's was corrected
after errors on both sets had been seen); and on a table of ticks that is generated here, with other types, skewed and
missing values, on which PostgreSQL's model was tried while it was written.
The error of a set is geometric: twice too large and half too small are both 2. HypoPG's estimate stands beside.
"""

import argparse
import math
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from benchmarks import tpch
from benchmarks.report import Figure, publish
from dbpilot.dialects import dialect_of
from dbpilot.dialects.catalog import Catalog, Key
from dbpilot.dialects.connections import own_engine
from dbpilot.dialects.ddl import index_of, written
from dbpilot.dialects.whatif import NewIndex
from dbpilot.testing.servers import start_mariadb, start_postgresql

SEED: Final = 11
GOAL: Final = 1.15
MIB: Final = 2**20
TICKS: Final = 200_000
BATCH: Final = 10_000


def _on(table: str, *columns: str, include: Sequence[str] = ()) -> NewIndex:
    return NewIndex(table, tuple(map(Key, columns)), tuple(include))


ON_TPCH: Final = (
    _on("lineitem", "l_shipdate"),
    _on("lineitem", "l_partkey"),
    _on("lineitem", "l_partkey", "l_suppkey"),
    _on("lineitem", "l_orderkey", "l_suppkey"),
    _on("lineitem", "l_returnflag"),
    _on("lineitem", "l_shipmode", "l_receiptdate"),
    _on("lineitem", "l_shipdate", "l_discount", "l_quantity"),
    _on("lineitem", "l_shipdate", include=("l_extendedprice", "l_discount")),
    _on("lineitem", "l_receiptdate", "l_commitdate"),
    _on("orders", "o_custkey"),
    _on("orders", "o_orderdate"),
    _on("orders", "o_orderpriority", "o_orderdate"),
    _on("orders", "o_clerk"),
    _on("orders", "o_custkey", "o_orderdate"),
    _on("orders", "o_totalprice"),
    _on("part", "p_brand", "p_container", "p_size"),
    _on("part", "p_type"),
    _on("part", "p_name"),
    _on("customer", "c_mktsegment", "c_nationkey"),
    _on("partsupp", "ps_suppkey", "ps_supplycost"),
)

METADATA: Final = sa.MetaData()
TICK: Final = sa.Table(
    "tick",
    METADATA,
    sa.Column("id", sa.BigInteger(), primary_key=True, autoincrement=False),
    sa.Column("symbol", sa.String(12), nullable=False),
    sa.Column("day", sa.Date(), nullable=False),
    sa.Column("at", sa.DateTime(), nullable=False),
    sa.Column("close", sa.Double()),
    sa.Column("volume", sa.BigInteger()),
    sa.Column("amount", sa.Numeric(18, 4)),
    sa.Column("kind", sa.SmallInteger(), nullable=False),
    sa.Column("sector", sa.String(40)),
    sa.Column("title", sa.String(200)),
    sa.Column("link", sa.Uuid(), nullable=False),
    sa.Column("done", sa.Boolean(), nullable=False),
)
ON_TICKS: Final = (
    _on("tick", "symbol"),
    _on("tick", "symbol", "day"),
    _on("tick", "day", "symbol"),
    _on("tick", "at"),
    _on("tick", "day"),
    _on("tick", "close"),
    _on("tick", "volume"),
    _on("tick", "amount"),
    _on("tick", "kind", "done"),
    _on("tick", "sector"),
    _on("tick", "sector", "symbol"),
    _on("tick", "title"),
    _on("tick", "symbol", "title"),
    _on("tick", "link"),
    _on("tick", "done"),
    _on("tick", "symbol", "at", include=("close",)),
)


def ticks() -> Iterator[dict[str, Any]]:
    """Rows as a market makes them: a few symbols are traded most, one after the other in time."""
    rng, begin = random.Random(SEED), datetime(2024, 1, 2, 9, 0)  # noqa: DTZ001 - the column knows no zone
    symbols = [f"{'KQ' if n % 3 else 'US'}:{n * 7919 % 999983:0{4 + n % 3}d}" for n in range(800)]
    weights = [1 / (1 + n) for n in range(800)]
    sectors = [f"sector {'of things ' * (n % 3)}{n}" for n in range(60)]
    for number, symbol in enumerate(rng.choices(symbols, weights, k=TICKS)):
        at = begin + timedelta(seconds=number * 90 + rng.randrange(90))
        yield {
            "id": number,
            "symbol": symbol,
            "day": date(at.year, at.month, at.day),
            "at": at,
            "close": None if rng.random() < 0.1 else round(rng.lognormvariate(4, 1), 2),
            "volume": None if rng.random() < 0.6 else int(rng.lognormvariate(9, 2)),
            "amount": round(rng.lognormvariate(6, 3), 4) % 1e12,
            "kind": min(9, int(rng.expovariate(1))),
            "sector": None if rng.random() < 0.3 else sectors[hash_of(symbol) % 60],
            "title": " ".join(rng.choices(sectors, k=rng.randrange(1, 8)))[: rng.randrange(5, 120)],
            "link": UUID(int=rng.getrandbits(128), version=4),
            "done": rng.random() < 0.97,
        }


def hash_of(symbol: str) -> int:
    """The same in every run."""
    return sum(ord(letter) * place for place, letter in enumerate(symbol, 1))


def load_ticks(engine: sa.Engine) -> None:
    """The table is there, filled and analysed."""
    METADATA.create_all(engine)
    with engine.begin() as connection:
        batch = []
        for row in ticks():
            batch.append(row)
            if len(batch) == BATCH:
                connection.execute(TICK.insert(), batch)
                batch = []
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        words = "ANALYZE TABLE tick" if engine.dialect.name in ("mysql", "mariadb") else "ANALYZE tick"
        connection.exec_driver_sql(words).close()


@dataclass(frozen=True)
class Measured:
    """One index: what it was thought to be, and what it became."""

    index: NewIndex
    real: float
    model: float
    peers: Mapping[str, float]

    @property
    def label(self) -> str:
        """As somebody would say it."""
        carried = f" include {', '.join(self.index.include)}" if self.index.include else ""
        return f"{self.index.table} ({', '.join(self.index.columns)}){carried}"


def measured(engine: sa.Engine, indexes: Sequence[NewIndex]) -> list[Measured]:
    """What each is thought to be, before any is made; then what each is."""
    if engine.dialect.name != "postgresql":  # what an index carries is in its key there
        indexes = [replace(one, keys=(*one.keys, *map(Key, one.include)), include=()) for one in indexes]
    opens = dialect_of(engine).what_if
    if opens is None:
        return []
    with opens(own_engine(engine), catalog(engine)) as what_if:
        thought = [what_if.size_bytes(index) for index in indexes]
    peers = hypopg_sizes(engine, indexes) if engine.dialect.name == "postgresql" else [{} for _ in indexes]
    real = [built(engine, index, f"sized_{number}") for number, index in enumerate(indexes)]
    return [Measured(*row) for row in zip(indexes, real, thought, peers, strict=True)]


def catalog(engine: sa.Engine) -> Catalog:
    """The catalogue as it is now."""
    with engine.connect() as connection:
        return dialect_of(engine).catalog(connection)


def built(engine: sa.Engine, index: NewIndex, name: str) -> float:
    """The size of the real one, which is dropped again."""
    described = index_of(index, name)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(said(engine, sa.schema.CreateIndex(described)))
        if engine.dialect.name in ("mysql", "mariadb"):
            connection.exec_driver_sql(f"ANALYZE TABLE {index.table}").close()
    [found] = [one for one in catalog(engine).tables[index.table].indexes if one.name == name]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(said(engine, sa.schema.DropIndex(described)))
    return float(found.size_bytes or math.nan)


def said(engine: sa.Engine, element: sa.schema.ExecutableDDLElement) -> str:
    """The statement, for this database."""
    return written(engine.dialect, element)


def hypopg_sizes(engine: sa.Engine, indexes: Sequence[NewIndex]) -> list[dict[str, float]]:
    """HypoPG's own estimates."""
    question = sa.text("SELECT hypopg_relation_size(indexrelid) FROM hypopg_create_index(:made)")
    with engine.connect() as connection:
        return [
            {"HypoPG": float(connection.scalar(question, {"made": said(engine, sa.schema.CreateIndex(described))}))}
            for described in (index_of(index, "hypothetical") for index in indexes)
        ]


def error(pairs: Sequence[tuple[float, float]]) -> float:
    """How many times too large or too small, on the geometric average."""
    return math.exp(sum(abs(math.log(thought / real)) for thought, real in pairs) / len(pairs))


def figures(database: str, on: str, rows: Sequence[Measured], *, judged: bool) -> Iterator[Figure]:
    """Each index of a set, and the set."""
    for row in rows:
        shown = {"model": row.model / MIB, **{name: size / MIB for name, size in row.peers.items()}}
        yield Figure(f"{database}, {row.label}", row.real / MIB, "MiB", shown)
    beside = {name: error([(row.peers[name], row.real) for row in rows]) for name in (rows[0].peers if rows else ())}
    found = error([(row.model, row.real) for row in rows])
    goal = f"at most {GOAL:g} x" if judged else None
    name = f"{database}: geometric error over {len(rows)} indexes on {on}"
    yield Figure(name, found, "x", beside, goal, found <= GOAL if judged else None)


@contextmanager
def database(name: str) -> Iterator[sa.Engine]:
    """An empty one."""
    if name == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield sa.create_engine(f"sqlite:///{Path(folder, 'sizes.sqlite3')}")
        return
    starts: dict[str, Callable[[], Any]] = {"postgresql": start_postgresql, "mariadb": start_mariadb}
    with starts[name]() as server:
        engine = sa.create_engine(server.create_database("sizes"))
        if name == "postgresql":
            with engine.begin() as connection:
                connection.exec_driver_sql("CREATE EXTENSION hypopg")
        yield engine
        engine.dispose()


def main(arguments: Sequence[str] | None = None) -> None:
    """The figures are measured, printed and kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index_size", description=__doc__)
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--databases", default="postgresql,mariadb,sqlite")
    options = parser.parse_args(arguments)
    found: list[Figure] = []
    for name in options.databases.split(","):
        with database(name) as engine:
            load_ticks(engine)
            found += figures(name, "ticks", measured(engine, ON_TICKS), judged=False)
            tpch.load(engine, options.scale)
            found += figures(name, f"TPC-H, scale {options.scale:g}", measured(engine, ON_TPCH), judged=True)
    publish("index_size", SEED, found)


if __name__ == "__main__":
    main()

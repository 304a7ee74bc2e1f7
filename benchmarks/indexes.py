"""bench-indexes: advice on TPC-H, PostgreSQL with HypoPG: how much it saves within how many bytes, and what it costs.

python -m benchmarks.indexes [--scale 0.1] [--no-real]

Costs are the optimizer's, for the 22 queries with hypothetical indexes. Two queries make up 98 % of the total without
any index, so the sum is taken without these (17 and 20), and all 22 count alike in the geometric mean of their ratios.
Budgets are in HypoPG's own bytes, by which other advisors were measured too. The server is set up for data that is in
memory: random_page_cost 1.1, work_mem 64 MB, no parallel plans. Then the indexes are really built, each proven by the
product's own gate: the queries are run, and a batch of orders is written and taken back.
"""

import argparse
import math
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from benchmarks import tpch
from benchmarks.extend import Extend
from benchmarks.report import Figure, publish
from dbpilot.clock import SYSTEM
from dbpilot.dialects import dialect_of
from dbpilot.dialects.catalog import Catalog
from dbpilot.dialects.ddl import index_of
from dbpilot.dialects.whatif import Cost, Grade, NewIndex, Query, WhatIf
from dbpilot.indexes.advisor import Limits, Proposal, advise
from dbpilot.indexes.apply import Applier
from dbpilot.indexes.changes import Promise, create
from dbpilot.indexes.workload import Statement, Workload
from dbpilot.sql.fingerprint import fingerprint
from dbpilot.sql.predicates import predicates_of
from dbpilot.sql.syntax import POSTGRESQL
from dbpilot.testing.servers import start_postgresql
from dbpilot.unsupported import Unsupported

MB: Final = 1_000_000
IN_MEMORY: Final = ("random_page_cost = 1.1", "work_mem = '64MB'", "max_parallel_workers_per_gather = 0")
GIANTS: Final = (17, 20)
GOALS: Final[Mapping[int, tuple[float, float]]] = {
    25: (80, 0.423),
    50: (69, 0.317),
    100: (53, 0.235),
    165: (47, 0.204),
    355: (38, 0.174),
}
"""By budget in MB: the sum's goal in percent, and the best geometric mean that another advisor reached within it."""
PEERS: Final[Mapping[int, Mapping[str, float]]] = {
    25: {"Anytime": 80.2, "DB2Advis": 87.1, "Relaxation": 85.1},
    50: {"Anytime": 70.2, "DB2Advis": 75.1, "Dexter (54.6 MB)": 67.1},
    100: {"supabase (95.6 MB)": 55.0, "Anytime": 60.6, "Relaxation": 68.9},
    165: {},
    355: {"DB2Advis": 48.3},
}
"""What others reached on the same data and queries, measured on another day."""
EXTENDS: Final[Mapping[str, bool]] = {"Extend": True, "Extend, that does not repeat a key": False}
"""In the same run: whether it may choose what begins like a primary key that is there, which no advice here may."""

REAL_GOALS: Final[Mapping[int, tuple[float, float]]] = {50: (0.80, 1.5), 165: (0.68, 2.2)}
"""By budget: the time of the queries, and that of the writes, as multiples of those without any index."""
REPEATS: Final = 3
NOISE_S: Final = 0.005
PLAIN: Final = {"no_parameters": True}
BATCH: Final = (
    "INSERT INTO orders SELECT 10000000 + g, 1 + g % 15000, 'O', 1000 + g, DATE '1998-01-01' + g % 200, '1-URGENT',"
    " 'Clerk#1', 0, 'a new order' FROM generate_series(1, 5000) g",
    "INSERT INTO lineitem SELECT 10000000 + g / 4, ps_partkey, ps_suppkey, 1 + g % 4, 1 + g % 50, 1000, 0.05, 0.02,"
    " 'N', 'O', DATE '1998-01-01' + g % 200, DATE '1998-02-01' + g % 200, DATE '1998-03-01' + g % 200, 'NONE', 'MAIL',"
    " 'a new line' FROM (SELECT ps_partkey, ps_suppkey, (3 + row_number() OVER ())::int AS g FROM partsupp"
    " LIMIT 20000) AS lines",
    "UPDATE orders SET o_totalprice = o_totalprice + 1 WHERE o_orderkey >= 10000000",
    "UPDATE lineitem SET l_quantity = l_quantity + 1 WHERE l_orderkey BETWEEN 10000000 AND 10001000",
)


@dataclass(frozen=True)
class Advised:
    """What one budget came to."""

    proposal: Proposal
    took_s: float
    explains: int
    used_bytes: float
    costs: Mapping[int, float]


class Ruled:
    """A what-if whose sizes are HypoPG's."""

    def __init__(self, what_if: WhatIf, connection: sa.Connection) -> None:
        self._what_if = what_if
        self._connection = connection
        self._sizes: dict[NewIndex, float] = {}
        self.grade: Grade = what_if.grade
        self.method = what_if.method

    @property
    def calls(self) -> int:
        """As the what-if counts."""
        return self._what_if.calls

    def cost(self, query: Query, indexes: Iterable[NewIndex] = (), without: Iterable[str] = ()) -> Cost | Unsupported:
        """As the what-if answers."""
        return self._what_if.cost(query, indexes, without)

    def size_bytes(self, index: NewIndex) -> float:
        """As HypoPG estimates it, which is about twice too much."""
        if index not in self._sizes:
            ddl = created(index, "hypothetical")
            row = self._connection.execute(sa.text("SELECT indexrelid FROM hypopg_create_index(:ddl)"), {"ddl": ddl})
            oid = row.scalar_one()
            size = self._connection.execute(sa.text("SELECT hypopg_relation_size(:oid)"), {"oid": oid}).scalar_one()
            self._connection.execute(sa.text("SELECT hypopg_drop_index(:oid)"), {"oid": oid})
            self._sizes[index] = float(size)
        return self._sizes[index]


def created(index: NewIndex, name: str) -> str:
    """CREATE INDEX, not concurrently."""
    made = index_of(index, name)
    return str(sa.schema.CreateIndex(made).compile(dialect=postgresql.dialect()))


def workload_of(queries: Mapping[int, str], catalog: Catalog) -> Workload:
    """Every query once."""
    statements = tuple(
        Statement(
            id=str(number),
            text=fingerprint(text, POSTGRESQL).text,
            samples=(Query(text),),
            predicates=predicates_of(text, "postgresql", catalog.columns),
            calls=1,
            total_s=None,
        )
        for number, text in queries.items()
    )
    return Workload(statements, "TPC-H")


def costs_of(what_if: WhatIf, queries: Mapping[int, str], indexes: Sequence[NewIndex]) -> dict[int, float]:
    """What each query costs with these indexes."""
    found = {}
    for number, text in queries.items():
        cost = what_if.cost(Query(text), indexes)
        if isinstance(cost, Unsupported):
            raise RuntimeError(f"query {number}: {cost.reason}")
        found[number] = cost.total
    return found


def without_giants(costs: Mapping[int, float]) -> float:
    """The sum without the two that outweigh all others."""
    return sum(cost for number, cost in costs.items() if number not in GIANTS)


def mean_ratio(costs: Mapping[int, float], base: Mapping[int, float]) -> float:
    """The geometric mean of all ratios."""
    return math.exp(statistics.fmean(math.log(costs[number] / base[number]) for number in base))


@contextmanager
def tpch_on_postgresql(scale: float) -> Iterator[sa.Engine]:
    """TPC-H on a private server with HypoPG, for as long as the block lasts."""
    server = start_postgresql(options={"shared_buffers": "512MB", "max_wal_size": "4GB"})
    try:
        engine = sa.create_engine(server.create_database("tpch"), poolclass=sa.NullPool)
        tpch.load(engine, scale)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("CREATE EXTENSION hypopg"))
            for setting in IN_MEMORY:
                connection.execute(sa.text(f"ALTER DATABASE tpch SET {setting}"))
        yield engine
    finally:
        server.stop()


def advised(engine: sa.Engine, queries: Mapping[int, str], budget_bytes: float, most_calls: int = 500) -> Advised:
    """What the advisor says within so many bytes."""
    dialect = dialect_of(engine)
    with engine.connect() as connection, dialect.what_if(engine, (catalog := dialect.catalog(connection))) as asked:
        what_if = Ruled(asked, connection)
        workload = workload_of(queries, catalog)
        began, before = time.perf_counter(), asked.calls
        proposal = advise(catalog, workload, what_if, Limits(budget_bytes=budget_bytes, most_calls=most_calls))
        took_s, explains = time.perf_counter() - began, asked.calls - before
        indexes = [advice.index for advice in proposal.advice]
        used = sum(what_if.size_bytes(index) for index in indexes)
        return Advised(proposal, took_s, explains, used, costs_of(asked, queries, indexes))


def hypothetical(engine: sa.Engine, queries: Mapping[int, str]) -> Iterator[Figure]:
    """What the advice saves by the optimizer's costs, budget by budget, beside what Extend would choose here."""
    base = _base(engine, queries)
    for budget_mb, (goal, peer_mean) in GOALS.items():
        found = advised(engine, queries, budget_mb * MB)
        extends = {name: extended(engine, queries, budget_mb * MB, repeats) for name, repeats in EXTENDS.items()}
        left, mean = _share(found.costs, base), mean_ratio(found.costs, base)
        what = f"within {budget_mb} MB ({len(found.proposal.advice)} indexes, {found.used_bytes / MB:.0f} MB)"
        here = {name: _share(one.costs, base) for name, one in extends.items()}
        peers = {**here, **PEERS[budget_mb]}
        yield Figure(f"{what}: cost of 20 queries", left, "%", peers, f"<= {goal:g} %", left <= goal)
        means = {name: mean_ratio(one.costs, base) for name, one in extends.items()}
        peers = {**means, "best of the others": peer_mean}
        yield Figure(f"{what}: geometric mean of 22 ratios", mean, "", peers, f"<= {peer_mean:g}", mean <= peer_mean)
        if budget_mb == 100:
            calls, took_s = found.explains, found.took_s
            peers = {**{name: one.questions for name, one in extends.items()}, "Dexter": 92}
            yield Figure("questions to the optimizer", calls, "", peers, "<= 500", calls <= 500)
            peers = {**{name: one.took_s for name, one in extends.items()}, "Dexter": 0.37}
            yield Figure("advice took", took_s, "s", peers, "<= 2 s", took_s <= 2)


@dataclass(frozen=True)
class Extended:
    """What Extend came to within one budget."""

    costs: Mapping[int, float]
    questions: int
    took_s: float


def extended(engine: sa.Engine, queries: Mapping[int, str], budget_bytes: float, repeats_keys: bool) -> Extended:
    """What Extend chooses within so many bytes."""
    dialect = dialect_of(engine)
    with engine.connect() as connection, dialect.what_if(engine, (catalog := dialect.catalog(connection))) as asked:
        peer = Extend(Ruled(asked, connection), workload_of(queries, catalog), catalog, repeats_keys)
        began = time.perf_counter()
        indexes = peer.chosen(budget_bytes)
        took_s = time.perf_counter() - began
        return Extended(costs_of(asked, queries, sorted(indexes, key=repr)), peer.questions, took_s)


def _share(costs: Mapping[int, float], base: Mapping[int, float]) -> float:
    return 100 * without_giants(costs) / without_giants(base)


def _base(engine: sa.Engine, queries: Mapping[int, str]) -> dict[int, float]:
    dialect = dialect_of(engine)
    with engine.connect() as connection, dialect.what_if(engine, dialect.catalog(connection)) as what_if:
        return costs_of(what_if, queries, [])


def real(engine: sa.Engine, queries: Mapping[int, str]) -> Iterator[Figure]:
    """What the queries, and writing, take with indexes that are really there."""
    quick = {number: text for number, text in queries.items() if number not in GIANTS}
    for budget_mb, (read_goal, write_goal) in REAL_GOALS.items():
        base, base_write_s = _timed(engine, quick), _written_s(engine)
        made = _proven(engine, queries, quick, budget_mb * MB)
        taken, write_s = _timed(engine, quick), _written_s(engine)
        with engine.connect() as connection:
            size = sum(connection.scalar(sa.text("SELECT pg_relation_size(:name)"), {"name": n}) or 0 for n in made)
        what = f"{len(made)} real indexes, {size / MB:.0f} MB (within {budget_mb})"
        read, write = sum(taken.values()) / sum(base.values()), write_s / base_write_s
        slower = sum(taken[number] > 1.1 * base[number] + NOISE_S for number in quick)
        yield Figure(f"{what}: time of 20 queries", read, "x", {}, f"<= {read_goal:g} x", read <= read_goal)
        yield Figure(f"{what}: time of a batch of writes", write, "x", {}, f"<= {write_goal:g} x", write <= write_goal)
        yield Figure(f"{what}: queries more than 10 % slower", slower, "", {}, "0", slower == 0)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for name in made:
                connection.execute(sa.schema.DropIndex(sa.Index(name, _table=sa.Table("t", sa.MetaData()))))


def _proven(engine: sa.Engine, queries: Mapping[int, str], quick: Mapping[int, str], budget_bytes: float) -> list[str]:
    """The names of the advised indexes that kept their promise, all built by the product's gate."""
    found = advised(engine, queries, budget_bytes)
    applier = Applier(engine, SYSTEM)
    asked = {str(number): Query(text) for number, text in quick.items()}
    kept = []
    for advice in found.proposal.advice:
        promises = tuple(Promise(gain.pattern_id, gain.ratio) for gain in advice.gains if gain.pattern_id in asked)
        change = create(advice.index, advice.name, "the advice", promises=promises, grade="what-if")
        outcome = applier.prove(change, asked, who="bench-indexes", repeats=3)
        print(f"{advice.name}: {outcome.step}: {outcome.text}", flush=True)
        if outcome.step == "kept":
            kept.append(advice.name)
    return kept


def _timed(engine: sa.Engine, queries: Mapping[int, str]) -> dict[int, float]:
    """The median of some executions of each, all in turn, but for the first."""
    taken: dict[int, list[float]] = {number: [] for number in queries}
    with engine.connect() as connection:
        for _ in range(REPEATS + 1):
            for number, text in queries.items():
                began = time.perf_counter()
                connection.exec_driver_sql(text, execution_options=PLAIN).all()
                taken[number].append(time.perf_counter() - began)
    return {number: statistics.median(some[1:]) for number, some in taken.items()}


def _written_s(engine: sa.Engine) -> float:
    """What a batch takes: orders with their lines inserted, some changed; taken back each time."""
    taken = []
    for _ in range(REPEATS):
        with engine.connect() as connection:
            began = time.perf_counter()
            for statement in BATCH:
                connection.exec_driver_sql(statement, execution_options=PLAIN)
            taken.append(time.perf_counter() - began)
            connection.rollback()
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM orders, lineitem")  # what was taken back is gone, and slows nobody
    return statistics.median(taken)


def main() -> None:
    """Runs all of it, and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--no-real", action="store_true", help="only what the optimizer says")
    options = parser.parse_args()
    queries = tpch.queries("postgresql")
    with tpch_on_postgresql(options.scale) as engine:
        figures = list(hypothetical(engine, queries))
        figures += [] if options.no_real else list(real(engine, queries))
    publish("indexes", None, figures)


if __name__ == "__main__":
    main()

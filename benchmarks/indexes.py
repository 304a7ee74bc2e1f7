"""bench-indexes: advice on TPC-H, PostgreSQL with HypoPG: how much it saves within how many bytes, and what it costs.

python -m benchmarks.indexes [--scale 0.1]

Costs are the optimizer's, for the 22 queries with hypothetical indexes. Two queries make up 98 % of the total without
any index, so the sum is taken without these (17 and 20), and all 22 count alike in the geometric mean of their ratios.
Budgets are in HypoPG's own bytes, by which other advisors were measured too. Then the indexes are really built: the
queries are run, and a batch of orders is written and taken back.
"""

import argparse
import math
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from benchmarks import tpch
from benchmarks.report import Figure, publish
from dbpilot.dialects import dialect_of
from dbpilot.dialects.catalog import Catalog
from dbpilot.dialects.ddl import index_of
from dbpilot.dialects.whatif import Cost, Grade, NewIndex, Query, WhatIf
from dbpilot.indexes.advisor import Limits, Proposal, advise
from dbpilot.indexes.workload import Statement, Workload
from dbpilot.sql.fingerprint import fingerprint
from dbpilot.sql.predicates import predicates_of
from dbpilot.testing.servers import start_postgresql
from dbpilot.unsupported import Unsupported

MB: Final = 1_000_000
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
    25: {"Extend": 80.4, "Anytime": 80.2, "DB2Advis": 87.1, "Relaxation": 85.1},
    50: {"Extend": 70.6, "Anytime": 70.2, "DB2Advis": 75.1, "Dexter (54.6 MB)": 67.1},
    100: {"Extend": 56.7, "supabase (95.6 MB)": 55.0, "Anytime": 60.6, "Relaxation": 68.9},
    165: {"Extend": 52.0},
    355: {"DB2Advis": 48.3},
}
"""What others reached on the same data and queries, measured on another day."""


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
            text=fingerprint(text, dialect_syntax()).text,
            samples=(Query(text),),
            predicates=predicates_of(text, "postgresql", catalog.columns),
            calls=1,
            total_s=None,
        )
        for number, text in queries.items()
    )
    return Workload(statements, "TPC-H")


def dialect_syntax() -> Any:
    """How PostgreSQL spells SQL."""
    from dbpilot.sql.syntax import POSTGRESQL

    return POSTGRESQL


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
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE EXTENSION hypopg"))
        yield engine
    finally:
        server.stop()


def advised(engine: sa.Engine, queries: Mapping[int, str], budget_bytes: float, most_calls: int = 500) -> Advised:
    """What the advisor says within so many bytes."""
    dialect = dialect_of(engine)
    assert dialect.what_if is not None
    with engine.connect() as connection, dialect.what_if(engine, (catalog := dialect.catalog(connection))) as asked:
        what_if = Ruled(asked, connection)
        workload = workload_of(queries, catalog)
        began, before = time.perf_counter(), asked.calls
        proposal = advise(catalog, workload, what_if, Limits(budget_bytes=budget_bytes, most_calls=most_calls))
        took_s, explains = time.perf_counter() - began, asked.calls - before
        indexes = [advice.index for advice in proposal.advice]
        used = sum(what_if.size_bytes(index) for index in indexes)
        return Advised(proposal, took_s, explains, used, costs_of(asked, queries, indexes))

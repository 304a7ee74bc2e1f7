"""Advice on every database: asked of its own optimizer, and what is promised is what the optimizer says."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import pytest
import sqlalchemy as sa

from dbpilot.dialects import dialect_of
from dbpilot.dialects.catalog import Catalog
from dbpilot.dialects.connections import own_engine
from dbpilot.dialects.whatif import Query
from dbpilot.indexes.advisor import Limits, Proposal, advise
from dbpilot.indexes.workload import Statement, Workload
from dbpilot.sql.fingerprint import fingerprint
from dbpilot.sql.predicates import predicates_of
from dbpilot.unsupported import Unsupported

ROWS = 20_000

BY_CUSTOMER = "SELECT id, total FROM orders WHERE customer_id = 4711"
BY_DAY = "SELECT count(*) FROM orders WHERE placed >= '2024-02-01' AND placed < '2024-02-02'"
BY_KEY = "SELECT total FROM orders WHERE id = 17"
LATEST = "SELECT id, total FROM orders WHERE status = 'open' AND customer_id = 12 ORDER BY placed DESC LIMIT 5"
BOTH = "SELECT total FROM orders WHERE customer_id = 4711 AND placed = '2024-02-01'"
SMALL = "SELECT name FROM colours WHERE name = 'red'"
WRITES = "INSERT INTO orders (id, customer_id, status, placed, total) VALUES (900000, 1, 'new', '2024-01-01', 1)"


@dataclass(frozen=True)
class Shop:
    engine: sa.Engine
    catalog: Catalog

    def advise(
        self,
        *queries: tuple[str, float, float | None],
        limits: Limits | None = None,
        taken_back: frozenset[tuple[str, str]] = frozenset(),
    ) -> Proposal:
        """On statements with their calls and seconds."""
        dialect = dialect_of(self.engine)
        workload = Workload(tuple(self._statement(*query) for query in queries), "a test")
        with dialect.what_if(own_engine(self.engine), self.catalog) as what_if:
            return advise(self.catalog, workload, what_if, limits or Limits(), taken_back)

    def cost(self, query: str, proposal: Proposal) -> tuple[float, float]:
        """Now and with all advice followed, asked anew."""
        dialect = dialect_of(self.engine)
        with dialect.what_if(own_engine(self.engine), self.catalog) as what_if:
            before = what_if.cost(Query(query))
            after = what_if.cost(Query(query), [advice.index for advice in proposal.advice])
        assert not isinstance(before, Unsupported)
        assert not isinstance(after, Unsupported)
        return before.total, after.total

    def _statement(self, text: str, calls: float, total_s: float | None) -> Statement:
        print_ = fingerprint(text, dialect_of(self.engine).syntax)
        predicates = predicates_of(text, self.catalog.dialect, self.catalog.columns)
        return Statement(print_.id, print_.text, (Query(text),), predicates, calls, total_s, ("shop/orders.py:41",))


@pytest.fixture
def shop(database_url: sa.URL) -> Iterator[Shop]:
    engine = sa.create_engine(database_url)
    metadata = sa.MetaData()
    orders = sa.Table(
        "orders",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("customer_id", sa.Integer, nullable=False),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("placed", sa.Date, nullable=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("note", sa.String(200), nullable=False),
    )
    colours = sa.Table(
        "colours", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(20))
    )
    metadata.create_all(engine)
    rows = [
        {
            "id": number,
            "customer_id": number * 7919 % 5000,
            "status": "open" if number % 50 == 0 else "done",
            "placed": date(2024, 1, 1) + timedelta(days=number * 31 % 365),
            "total": number % 1000,
            "note": "x" * 100,
        }
        for number in range(1, ROWS + 1)
    ]
    with engine.begin() as connection:
        connection.execute(orders.insert(), rows)
        connection.execute(colours.insert(), [{"id": number, "name": f"colour {number}"} for number in range(1, 21)])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        analyze = "ANALYZE TABLE orders, colours" if engine.dialect.name == "mysql" else "ANALYZE"
        connection.exec_driver_sql(analyze).close()
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS hypopg")
        catalog = dialect_of(engine).catalog(connection)
    yield Shop(engine, catalog)
    engine.dispose()


def test_the_missing_index_is_advised_with_what_it_gains_and_for_whom(shop: Shop) -> None:
    proposal = shop.advise((BY_CUSTOMER, 1000, 12.0))
    [advice] = proposal.advice
    assert advice.index.table == "orders"
    assert advice.index.columns[0] == "customer_id"
    assert advice.size_bytes > ROWS
    [gain] = advice.gains
    assert (gain.calls, gain.total_s, gain.sources) == (1000, 12.0, ("shop/orders.py:41",))
    assert gain.ratio < 0.2
    assert "4711" not in gain.query
    assert proposal.after < 0.2


def test_what_is_promised_is_what_the_optimizer_says_of_the_whole_set(shop: Shop) -> None:
    proposal = shop.advise((BY_CUSTOMER, 10, None), (BY_DAY, 10, None), (LATEST, 10, None), (BY_KEY, 10, None))
    gains = {gain.query: gain for advice in proposal.advice for gain in advice.gains}
    for query in (BY_CUSTOMER, BY_DAY, LATEST):
        gain = gains[fingerprint(query, dialect_of(shop.engine).syntax).text]
        before, after = shop.cost(query, proposal)
        assert gain.before == pytest.approx(before, rel=0.05)
        assert gain.after == pytest.approx(after, rel=0.05)


def test_the_same_workload_is_given_the_same_advice(shop: Shop) -> None:
    queries = [(BY_CUSTOMER, 10, None), (BY_DAY, 10, None), (LATEST, 10, None)]
    first, second = (shop.advise(*queries) for _ in range(2))
    assert [advice.index for advice in first.advice] == [advice.index for advice in second.advice]


def test_one_index_serves_two_statements_where_it_can(shop: Shop) -> None:
    proposal = shop.advise((BY_CUSTOMER, 100, 1.0), (LATEST, 100, 1.0))
    leading = [advice.index.columns for advice in proposal.advice if advice.index.columns[0] == "customer_id"]
    assert len(leading) <= 1, "an index and its prefix are not both advised"


def test_nothing_is_advised_where_nothing_helps(shop: Shop) -> None:
    assert shop.advise((BY_KEY, 1000, 1.0)).advice == ()
    assert shop.advise((SMALL, 1000, 1.0)).advice == (), "the table is small"


def test_the_budget_bounds_all_together(shop: Shop) -> None:
    queries = [(BY_CUSTOMER, 10, None), (BY_DAY, 10, None), (LATEST, 10, None)]
    sizes = [advice.size_bytes for advice in shop.advise(*queries).advice]
    budget = min(sizes) * 1.05
    bounded = shop.advise(*queries, limits=Limits(budget_bytes=budget))
    assert 0 < sum(advice.size_bytes for advice in bounded.advice) <= budget
    assert shop.advise(*queries, limits=Limits(budget_bytes=1)).advice == ()


def test_the_optimizer_is_asked_no_more_often_than_allowed(shop: Shop) -> None:
    queries = [(BY_CUSTOMER, 10, None), (BY_DAY, 10, None), (LATEST, 10, None)]
    assert shop.advise(*queries, limits=Limits(most_calls=10)).calls <= 20


def test_an_index_that_costs_more_than_it_saves_is_not_advised(shop: Shop) -> None:
    seldom, often = (BY_CUSTOMER, 1, 0.01), (WRITES, 1_000_000, 1000.0)
    assert shop.advise(seldom, often).advice == ()
    worth_it = shop.advise((BY_CUSTOMER, 100_000, 1000.0), (WRITES, 1000, 1.0))
    assert [advice.write_price > 0 for advice in worth_it.advice] == [True]


def test_a_statement_that_cannot_be_judged_is_said_to_be(shop: Shop) -> None:
    broken = "SELECT nothing FROM nowhere WHERE it = 1"
    proposal = shop.advise((broken, 10, 1.0), (BY_CUSTOMER, 10, 1.0))
    assert len(proposal.not_judged) == 1
    assert proposal.statements == 1
    assert len(proposal.advice) == 1


def test_what_the_workload_costs_at_each_table_adds_up(shop: Shop) -> None:
    proposal = shop.advise((BY_CUSTOMER, 10, 1.0), (SMALL, 10, 1.0))
    assert set(proposal.served) == {"orders", "colours"}
    assert sum(one.cost for one in proposal.served.values()) == pytest.approx(1.0)
    assert proposal.served["orders"].achievable_cost < 0.5 * proposal.served["orders"].cost
    assert proposal.served["colours"].achievable_cost == pytest.approx(proposal.served["colours"].cost)


def test_what_was_taken_back_is_advised_and_not_thought_to_be_achievable(shop: Shop) -> None:
    [advice] = shop.advise((BY_CUSTOMER, 10, 1.0)).advice
    again = shop.advise((BY_CUSTOMER, 10, 1.0), taken_back=frozenset({("orders", advice.name)}))
    assert [one.index for one in again.advice] == [advice.index]
    assert again.served["orders"].achievable_cost == again.served["orders"].cost


def test_what_is_told_are_shares_of_what_was_really_spent(shop: Shop) -> None:
    """However little a statement may count for where the set is chosen."""
    proposal = shop.advise((BY_CUSTOMER, 10, 0.4), (BY_KEY, 1000, 99.6))
    [advice] = proposal.advice
    assert 0.002 < advice.saves <= 0.004
    assert 0.996 <= proposal.after < 0.998
    assert proposal.served["orders"].cost == pytest.approx(1.0)
    assert proposal.served["orders"].achievable_cost == pytest.approx(proposal.after)


def test_what_could_not_be_judged_was_spent_as_well(shop: Shop) -> None:
    [advice] = shop.advise((BY_CUSTOMER, 10, 1.0), ("SELECT nothing FROM nowhere WHERE it = 1", 10, 9.0)).advice
    assert advice.saves <= 0.1


def test_where_another_advised_index_could_do_nearly_the_same_it_is_named(shop: Shop) -> None:
    proposal = shop.advise((BOTH, 1000, 90.0), (BY_CUSTOMER, 100, 5.0), (BY_DAY, 100, 5.0))
    names = {advice.name for advice in proposal.advice}
    assert len(names) == 2
    [one] = [advice for advice in proposal.advice if advice.stand_in is not None]
    assert one.stand_in is not None
    assert one.stand_in.name in names - {one.name}
    assert one.stand_in.saves > max(2 * one.saves, 0.7)
    [alone] = shop.advise((BY_CUSTOMER, 100, 5.0)).advice
    assert alone.stand_in is None

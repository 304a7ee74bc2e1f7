"""The adaptive policy, tried on days that a simulated pool lives through."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from statistics import mean

from hypothesis import given
from hypothesis import strategies as st

from dbpilot.config import PoolConfig
from dbpilot.pool.controller import decide
from dbpilot.pool.sample import PoolSample
from dbpilot.pool.simulation import START, Request, Simulated, Simulation

ADAPTIVE = PoolConfig(mode="adaptive")
NIGHT = [Request(number / 10, 0.003) for number in range(200)]
"""Twenty quiet seconds, in which it shows how fast the database is."""
CORES = 2.0


def _load(begin_s: float, length_s: float, per_s: float, takes_s: float) -> Iterator[Request]:
    chance, at_s = random.Random(3), begin_s
    while at_s < begin_s + length_s:
        at_s += chance.expovariate(per_s)
        yield Request(at_s, takes_s * chance.lognormvariate(0, 0.3))


def _lived(trace: list[Request], config: PoolConfig = ADAPTIVE, cores: float | None = CORES) -> Simulated:
    return Simulation(config, overflow=30, cores=cores).run(trace)


def _work(lived: Simulated, after_s: float) -> float:
    return mean(one.checkouts for one in lived.samples if one.at > START + timedelta(seconds=after_s) and one.waiting)


OVERLOAD = [*NIGHT, *_load(20, 60, 900, 0.003)]


def test_a_saturated_database_gets_as_few_statements_at_once_as_do_the_same_work() -> None:
    adaptive, fixed = _lived(OVERLOAD), _lived(OVERLOAD, PoolConfig(mode="off"))
    assert adaptive.samples[70].limit in (2, 3, 4)
    assert _work(adaptive, 40) >= 0.97 * _work(fixed, 40)
    assert sorted(adaptive.database_s[-10_000:])[9_900] < 0.3 * sorted(fixed.database_s[-10_000:])[9_900]


def test_a_process_that_starts_under_load_steps_down_to_see() -> None:
    lived = _lived(list(_load(0, 90, 900, 0.003)))
    assert lived.samples[80].limit in (2, 3, 4)
    assert any("fewer connections did less work" in decision.reason for decision in lived.decisions) or (
        lived.samples[80].limit == 2
    )


def test_a_database_that_is_not_slower_is_never_held_back() -> None:
    lived = _lived([*NIGHT, *_load(20, 40, 400, 0.09)], cores=None)
    assert max(one.most_in_use for one in lived.samples) > 30
    assert all(one.limit is None or one.limit >= 35 for one in lived.samples)


def test_the_limit_is_whole_again_when_nobody_waits_any_more() -> None:
    lived = _lived([*OVERLOAD, *_load(200, 20, 20, 0.003)])
    assert min(one.limit or 0 for one in lived.samples) <= 4
    assert lived.samples[-1].limit == 50


def test_the_size_follows_the_demand_at_once_and_leaves_it_late() -> None:
    lived = _lived([*NIGHT, *_load(20, 20, 200, 0.05), *_load(40, 40, 5, 0.01)], cores=None)
    sizes = [one.size for one in lived.samples]
    assert sizes[19] == 5
    assert max(sizes[21:25]) >= 15
    assert sizes[-1] == 5
    shrinks = [decision for decision in lived.decisions if decision.action == "shrink"]
    assert (shrinks[0].at - START).total_seconds() >= 45


def test_a_steady_load_moves_nothing() -> None:
    lived = _lived([Request(number / 100, 0.05) for number in range(12_000)], cores=None)
    later = [decision for decision in lived.decisions if decision.at > START + timedelta(seconds=30)]
    assert later == []


@given(
    st.lists(
        st.tuples(
            st.integers(1, 40),
            st.integers(1, 60),
            st.floats(0, 80),
            st.integers(0, 500),
            st.integers(0, 5000),
            st.one_of(st.none(), st.floats(1, 50)),
        ),
        min_size=1,
        max_size=80,
    ),
    st.one_of(st.none(), st.integers(1, 80)),
)
def test_whatever_was_seen_the_answer_is_within_bounds(
    seen: list[tuple[int, int, float, int, int, float | None]], ceiling: int | None
) -> None:
    start = datetime(2025, 1, 31, 12, tzinfo=UTC)
    samples = [
        PoolSample(
            start + timedelta(seconds=number), size, limit, used, round(used), 0, waiting, checkouts, slowdown=slowdown
        )
        for number, (size, limit, used, waiting, checkouts, slowdown) in enumerate(seen)
    ]
    decision = decide(samples, ADAPTIVE, samples[-1].at, ceiling)
    assert decision is not None
    assert decision.limit is not None
    assert 1 <= decision.size <= ADAPTIVE.max_size
    assert 1 <= decision.limit <= max(limit for _, limit, *_ in seen) or decision.limit <= (ceiling or 0)
    assert decision.size <= decision.limit
    assert decision.reason

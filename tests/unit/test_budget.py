"""Processes that share a budget: never more than it, whatever happens, and each gets what is its own."""

import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dbpilot.dialects.base import Capacity
from dbpilot.history.leases import STEP_S, TTL_S, Lease, Silence
from dbpilot.pool.budget import Need, budget_of, fair_share, is_scarce, settled, share

BUDGET = 24
ROUNDS = 60


def need(in_use: int = 0, waiting: int = 0, *, limit: int = 20, peak: int | None = None) -> Need:
    return Need(limit, in_use, in_use, waiting, in_use, in_use if peak is None else peak)


def lease(connections: int, wanted: int = 0, *, limit: int = 20) -> Lease:
    return Lease("other", connections, connections, wanted, limit, BUDGET)


@pytest.mark.parametrize(
    ("who", "held", "others", "expected"),
    [
        (need(limit=12), 0, [lease(12, limit=12)], 12),  # all limits fit: everybody has its limit
        (need(limit=12), 12, [lease(12, limit=12)], 12),
        (need(limit=12), 0, [lease(20, limit=12)], 4),  # the other is about to give back
        (need(limit=6), 12, [lease(6, limit=12)], 6),  # its pool was made smaller
        (need(), 0, [lease(20)], 1),  # one for the first request
        (need(), 0, [lease(24, 24)], 0),  # when there is one
        (need(4, 4), 4, [lease(4, 4)], 9),  # what it asks for, and one to spare
        (need(4, 40), 4, [lease(4, 4)], 20),
        (need(4, 8), 4, [lease(8, 30), lease(8, 30)], 8),  # up to the fair share, whoever else asks
        (need(8, 8), 8, [lease(8, 8), lease(2, 8)], 8),  # beyond it nothing that another is owed
        (need(8, 8), 8, [lease(8, 8), lease(6, 6)], 10),
        (need(4, peak=10), 13, [lease(8, 8)], 13),  # it was busy a moment ago, and nobody is short
        (need(4, peak=4), 13, [lease(8, 8)], 5),  # it was not
        (need(4, peak=10), 13, [lease(11, 20)], 10),  # somebody is short
        (need(4, peak=4), 11, [lease(13, 20)], 4),
        (need(4, peak=20), 20, [lease(4, 20)], 12),  # what is beyond the fair share is given at once
        (need(4, peak=10), 13, [lease(11, 13)], 11),  # but not by much
        (need(16, 9), 16, [lease(8, 12)], 12),  # it gives back in use what another is owed
        (need(16), 16, [lease(8, 8)], 16),
        (need(12, 2), 12, [lease(10, 10), lease(2, 4)], 10),  # all who have too much give, as far as they have
    ],
)
def test_what_a_process_holds(who: Need, held: int, others: list[Lease], expected: int) -> None:
    assert share(who, held, others, BUDGET) == expected


needs = st.builds(
    lambda limit, in_use, waiting, more: Need(limit, in_use, in_use, waiting, in_use, in_use + more),
    st.integers(1, 40),
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(0, 10),
)
leases = st.lists(st.builds(Lease, st.just("o"), *[st.integers(0, 40)] * 4, st.just(BUDGET)), max_size=6)


@given(needs, st.integers(0, 40), leases, st.integers(1, 60))
def test_nobody_takes_more_than_there_is(who: Need, held: int, others: list[Lease], budget: int) -> None:
    free = budget - held - sum(other.connections for other in others)
    assert 0 <= share(who, held, others, budget) <= held + max(0, free)


@given(needs, st.integers(0, 40), leases, st.integers(1, 60))
def test_nobody_loses_in_use_what_is_its_fair_share(who: Need, held: int, others: list[Lease], budget: int) -> None:
    if is_scarce(who, others, budget):
        kept = min(who.in_use, fair_share(budget, len(others) + 1), held)
        assert share(who, held, others, budget) >= kept


@given(needs, st.integers(0, 40), leases, st.integers(1, 60))
def test_what_suffices_is_not_changed(who: Need, held: int, others: list[Lease], budget: int) -> None:
    settled_ = [replace(other, wanted=min(other.wanted, other.connections)) for other in others]
    over = held + sum(other.connections for other in others) > budget
    if is_scarce(who, others, budget) and not over and who.wanted < held <= who.comfort + 1:
        assert share(who, held, settled_, budget) == held


@dataclass
class Process:
    """A process with a pool, as far as the budget is concerned."""

    name: str
    limit: int
    cap: int = 0
    open: int = 0
    demand: int = 0
    in_use: int = 0
    seen: list[Lease] = field(default_factory=list)
    asked: tuple[Need, int] | None = None
    """The exchange that is on its way, and what was held when it began."""
    target: int | None = None
    """What an exchange brought, and nobody has looked at yet."""
    known: bool = False

    def serve(self) -> None:
        """Idle connections and new ones, as far as they may be, are with those who ask."""
        self.in_use = max(min(self.in_use, self.demand), min(self.demand, self.limit, max(self.cap, self.in_use)))
        self.open = max(self.open, self.in_use)

    def turn_over(self) -> None:
        """Every connection is returned once, and those that are surplus are closed."""
        self.open = min(self.open, self.cap)
        self.in_use = min(self.in_use, self.open)
        self.serve()

    def bound(self, cap: int) -> None:
        self.cap = cap
        self.open = max(self.in_use, min(self.open, cap))

    @property
    def need(self) -> Need:
        return Need(self.limit, self.open, self.in_use, self.demand - self.in_use, self.in_use, self.in_use)

    def begin(self) -> None:
        if self.known:
            target = share(self.need, self.cap, self.seen, BUDGET)
            if target < self.cap:
                self.bound(target)
        self.asked = self.need, self.cap

    def collect(self) -> None:
        if self.target is not None:
            self.bound(self.target)
            self.target = None
            self.known = True
            self.serve()


class Fleet(RuleBasedStateMachine):
    """Processes that come, ask, get, return, hang and die, one step of one of them at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.table: dict[str, Lease] = {}
        self.alive: list[Process] = []
        self.away: list[Process] = []
        """Those that hung for so long that the others took them for dead; they will be back."""
        self.excess = 0
        """What those who came back had open, and nobody knew."""
        self.number = 0

    def exchange(self, process: Process) -> None:
        assert process.asked is not None
        needed, held = process.asked
        others = [lease for name, lease in self.table.items() if name != process.name]
        target, new = settled(needed, held, BUDGET, self.table.get(process.name), others)
        self.table[process.name] = replace(new, process=process.name)
        process.seen, process.target, process.asked = others, target, None

    @precondition(lambda self: len(self.alive) + len(self.away) < 6)
    @rule(limit=st.integers(1, 30))
    def come(self, limit: int) -> None:
        self.number += 1
        self.alive.append(Process(f"process {self.number}", limit))

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), demand=st.integers(0, 40))
    def ask(self, data: st.DataObject, demand: int) -> None:
        process = data.draw(st.sampled_from(self.alive))
        process.demand = demand
        process.serve()

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def return_connections(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.alive)).turn_over()

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        self.advance(data.draw(st.sampled_from(self.alive)))

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), times=st.integers(1, 3))
    def exchange_undisturbed(self, data: st.DataObject, times: int) -> None:
        process = data.draw(st.sampled_from(self.alive))
        for _ in range(3 * times):
            self.advance(process)

    @precondition(lambda self: len(self.alive) > 1)
    @rule(limit=st.integers(BUDGET // 2, BUDGET), demand=st.integers(0, BUDGET))
    def all_ask(self, limit: int, demand: int) -> None:
        for process in self.alive:
            process.limit, process.demand = max(process.limit, limit), demand
            process.serve()

    def advance(self, process: Process) -> None:
        """The next of the three steps of an exchange: to begin it, the exchange, to see what it brought."""
        if process.target is not None:
            process.collect()
        elif process.asked is not None:
            self.exchange(process)
        else:
            process.begin()

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        self.alive.remove(data.draw(st.sampled_from(self.alive)))

    @rule()
    def bury(self) -> None:
        living = {process.name for process in self.alive}
        self.table = {name: lease for name, lease in self.table.items() if name in living}

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def hang(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(self.alive))
        self.alive.remove(process)
        self.table.pop(process.name, None)
        self.away.append(process)

    @precondition(lambda self: self.away)
    @rule()
    def come_back(self) -> None:
        process = self.away.pop()
        self.excess += max(
            process.cap, process.open, process.target or 0, *process.asked[1:] if process.asked else (0,)
        )
        self.alive.append(process)

    @invariant()
    def leases_are_never_over_the_budget(self) -> None:
        assert sum(lease.connections for lease in self.table.values()) <= BUDGET + self.excess

    @invariant()
    def connections_are_never_over_the_budget(self) -> None:
        assert sum(process.open for process in self.alive) <= BUDGET + self.excess

    @invariant()
    def what_is_open_is_leased(self) -> None:
        if not self.excess:
            for process in self.alive:
                held = self.table[process.name].connections if process.name in self.table else 0
                assert max(process.open, process.cap) <= held

    def teardown(self) -> None:
        """After a while in which nobody comes or goes, everybody has what is its own, and nothing lies idle."""
        self.bury()
        for _ in range(ROUNDS):
            for process in self.alive:
                for _ in range(3):
                    self.advance(process)
                process.turn_over()
        assert sum(process.open for process in self.alive) <= BUDGET
        assert sum(lease.connections for lease in self.table.values()) <= BUDGET
        fair = fair_share(BUDGET, max(1, len(self.alive)))
        for process in self.alive:
            assert process.cap >= min(process.limit, fair, process.demand), "nobody starves"
        lacking = [process for process in self.alive if process.cap < min(process.limit, process.demand)]
        if lacking:
            assert sum(process.cap for process in self.alive) == BUDGET, "nothing is left over while somebody lacks it"
            assert all(process.in_use >= process.cap - 1 for process in self.alive), "nothing is idle, but one"


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)


@pytest.mark.parametrize("seed", range(8))
def test_long_lives_of_a_fleet(seed: int) -> None:
    """The same as above, with fewer kinds of steps and many more of them."""
    rng, fleet = random.Random(seed), Fleet()
    for _ in range(5):
        fleet.alive.append(Process(f"process {len(fleet.alive)}", rng.randint(5, 30)))
    for _ in range(20_000):
        process = rng.choice(fleet.alive)
        what = rng.random()
        if what < 0.7:
            fleet.advance(process)
        elif what < 0.85:
            process.turn_over()
        elif what < 0.998:
            process.demand = rng.choice((0, 1, 5, 8, 30))
            process.serve()
        else:
            fleet.alive.remove(process)
            fleet.bury()
            fleet.number += 1
            fleet.alive.append(Process(f"process after {fleet.number}", rng.randint(5, 30)))
        fleet.leases_are_never_over_the_budget()
        fleet.connections_are_never_over_the_budget()
        fleet.what_is_open_is_leased()
    fleet.teardown()


def test_who_is_silent_for_long_is_taken_for_dead() -> None:
    silence, beats = Silence(), {"a": 0, "b": 0}
    lost: set[str] = set()
    seconds = 0.0
    while not lost:
        beats["a"] += 1
        lost = silence.lost([Lease(name, 1, 1, 1, 1, 1, beat) for name, beat in beats.items()], 2.0)
        seconds += 2.0
    assert lost == {"b"}
    assert TTL_S < seconds <= TTL_S + 4


def test_who_was_stopped_itself_hears_the_others_out_first() -> None:
    silence, other = Silence(), Lease("other", 1, 1, 1, 1, 1, 7)
    assert not silence.lost([other], 2.0)
    assert not silence.lost([other], 3600.0), "it may have been stopped as well"
    assert not silence.lost([replace(other, beat=8)], STEP_S)
    assert not silence.lost([replace(other, beat=8)], 3600.0)


@pytest.mark.parametrize(
    ("capacity", "announced", "expected"),
    [
        (Capacity(100, 3, 0), 0, 87),
        (Capacity(100, 3, 50), 50, 87),
        (Capacity(100, 3, 55), 50, 87),  # the reserve is for them
        (Capacity(100, 3, 70), 50, 77),  # they use more
        (Capacity(100, 3, 40), 50, 87),  # announced, and closed meanwhile
        (Capacity(20, 0, 5), 0, 15),
        (Capacity(10, 0, 30), 0, 1),
    ],
)
def test_the_budget_is_what_the_server_allows_less_a_reserve_or_what_others_use(
    capacity: Capacity, announced: int, expected: int
) -> None:
    assert budget_of(capacity, 0.1, announced) == expected

"""Leases are agreed on one after the other, in memory and on every database, whoever dies or is stopped meanwhile."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import pytest
import sqlalchemy as sa

from dbpilot.clock import SYSTEM, Clock
from dbpilot.errors import StoreError
from dbpilot.history.leases import STEP_S, TTL_S, Lease, Leases, MemoryLeases, Settle, SqlLeases, server_of
from dbpilot.history.sql_store import SqlStore
from dbpilot.testing import FakeClock

BUDGET = 20
PROCESSES = 4
EXCHANGES = 60

Opener = Callable[..., Leases]


@pytest.fixture
def open_leases(database_url: sa.URL) -> Iterator[Opener]:
    """Opens the same history again and again, as several processes would."""
    opened: list[SqlLeases] = []

    def open_(server: str = "server", clock: Clock = SYSTEM) -> Leases:
        store = SqlStore(database_url.render_as_string(hide_password=False), "shop")
        opened.append(SqlLeases(store, server, clock))
        return opened[-1]

    yield open_
    for leases in opened:
        leases.close()


def asks(connections: int) -> Settle:
    return lambda _mine, _others: Lease("", connections, 1, 2, 3, BUDGET)


def held(leases: Sequence[Lease]) -> list[int]:
    return sorted(lease.connections for lease in leases)


def test_what_one_leases_the_others_see(open_leases: Opener) -> None:
    one, other = open_leases(), open_leases()
    first = one.exchange(asks(5))
    assert (first.mine, first.others) == (Lease(first.mine.process, 5, 1, 2, 3, BUDGET, 1), [])
    assert other.look().others == [first.mine]
    assert other.look().mine is None
    second = other.exchange(asks(7))
    assert second.others == [first.mine]
    third = one.exchange(asks(6))
    assert (held(third.others), third.mine.connections) == ([7], 6)
    assert held(other.look().others) == [6]


def test_one_sees_ones_own_last_lease(open_leases: Opener) -> None:
    leases, seen = open_leases(), []
    for connections in (5, 6):

        def settle(mine: Lease | None, _: Sequence[Lease], connections: int = connections) -> Lease:
            seen.append(mine and mine.connections)
            return Lease("", connections, 0, 0, 0, BUDGET)

        leases.exchange(settle)
    assert seen == [None, 5]


def test_who_leaves_is_gone_and_may_come_back(open_leases: Opener) -> None:
    one, other = open_leases(), open_leases()
    one.exchange(asks(5))
    one.leave()
    assert other.look().others == []
    one.exchange(asks(4))
    assert held(other.look().others) == [4]


def test_servers_share_nothing(open_leases: Opener) -> None:
    one, other = open_leases("one"), open_leases("other")
    one.exchange(asks(5))
    assert other.exchange(asks(6)).others == []
    other.leave()
    assert one.look().mine is not None


def test_the_silent_are_forgotten_and_the_others_are_not(open_leases: Opener) -> None:
    clock = FakeClock()
    watching, silent, living = open_leases(clock=clock), open_leases(), open_leases()
    silent.exchange(asks(5))
    for _ in range(int(TTL_S / STEP_S)):
        living.exchange(asks(6))
        assert held(watching.exchange(asks(1)).others) == [5, 6]
        clock.advance(STEP_S)
    living.exchange(asks(6))
    assert held(watching.exchange(asks(1)).others) == [6]
    assert silent.look().mine is None, "it can see that it was taken for dead"
    silent.exchange(asks(3))
    assert held(watching.exchange(asks(1)).others) == [3, 6]


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_after_a_fork_a_lease_is_the_parents(open_leases: Opener) -> None:
    leases = open_leases()
    leases.exchange(asks(5))
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # rather than wait for ever
        leases.abandon()
        os._exit(leases.look().mine is not None or held(leases.exchange(asks(4)).others) != [5])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    now = leases.look()
    assert (now.mine and now.mine.connections, held(now.others)) == (5, [4])


def test_an_exchange_that_fails_changes_nothing(open_leases: Opener) -> None:
    one, other = open_leases(), open_leases()
    one.exchange(asks(5))

    def fail(_mine: Lease | None, _others: Sequence[Lease]) -> Lease:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        one.exchange(fail)
    assert held(other.exchange(asks(6)).others) == [5]


def test_in_memory_one_is_alone() -> None:
    leases = MemoryLeases()
    assert leases.exchange(asks(5)).others == ()
    mine = leases.look().mine
    assert mine is not None
    assert mine.connections == 5
    leases.leave()
    assert leases.look().mine is None


def test_processes_that_begin_and_exchange_at_once_are_never_over_the_budget(database_url: sa.URL) -> None:
    url = database_url.render_as_string(hide_password=False)
    processes = [
        subprocess.Popen([sys.executable, "-c", TAKE_WHAT_IS_FREE, url, str(seed)], stdout=subprocess.PIPE, text=True)
        for seed in range(PROCESSES)
    ]
    printed = [process.communicate(timeout=120)[0].split() for process in processes]
    assert [len(most) for most in printed] == [1] * PROCESSES, "all came to their end"
    assert max(int(most) for [most] in printed) == BUDGET, "never over it, and all of it was in use at some time"


TAKE_WHAT_IS_FREE = f"""
import random, sys
from dbpilot.history.leases import Lease, SqlLeases
from dbpilot.history.sql_store import SqlStore
leases, rng, most = SqlLeases(SqlStore(sys.argv[1], "shop"), "server"), random.Random(int(sys.argv[2])), 0
def settle(mine, others):
    free = {BUDGET} - sum(one.connections for one in others)
    return Lease("", rng.randint(0, free) if rng.random() < 0.5 else free, 0, 0, 0, {BUDGET})
for _ in range({EXCHANGES}):
    now = leases.exchange(settle)
    most = max(most, sum(one.connections for one in [now.mine, *now.others]))
print(most)
"""


def test_who_is_killed_in_the_middle_changes_nothing_and_holds_nobody_up(
    open_leases: Opener, database_url: sa.URL
) -> None:
    leases = open_leases()
    leases.exchange(asks(5))
    url = database_url.render_as_string(hide_password=False)
    assert subprocess.run([sys.executable, "-c", DIE_IN_THE_MIDDLE, url, "SIGKILL"]).returncode == -signal.SIGKILL
    assert leases.exchange(asks(6)).others == []


@pytest.mark.parametrize("database_url", ["mariadb", "postgresql"], indirect=True)
def test_who_is_stopped_in_the_middle_loses_its_turn(open_leases: Opener, database_url: sa.URL) -> None:
    leases = open_leases()
    leases.exchange(asks(5))
    url = database_url.render_as_string(hide_password=False)
    process = subprocess.Popen([sys.executable, "-c", DIE_IN_THE_MIDDLE, url, "SIGSTOP"])
    try:
        assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
        for _ in range(5):
            with suppress(StoreError):  # one's own patience may end first
                assert leases.exchange(asks(6)).others == []
                break
        else:
            pytest.fail("it keeps its turn for ever")
    finally:
        process.kill()
        process.wait()


DIE_IN_THE_MIDDLE = """
import os, signal, sys
from dbpilot.history.leases import SqlLeases
from dbpilot.history.sql_store import SqlStore
def settle(mine, others):
    os.kill(os.getpid(), getattr(signal, sys.argv[2]))
SqlLeases(SqlStore(sys.argv[1], "shop"), "server").exchange(settle)
"""


def test_applications_on_one_server_share_it_whatever_their_database_driver_and_user() -> None:
    one = server_of(sa.make_url("mysql+pymysql://ann:a@db/shop"))
    other = server_of(sa.make_url("mariadb+asyncmy://ben:b@db:3306/office?charset=utf8mb4"))
    assert one == other
    assert server_of(sa.make_url("mysql://db:3307/shop")) != one
    assert server_of(sa.make_url("postgresql://db/shop")) == server_of(sa.make_url("postgresql+asyncpg://db:5432/x"))
    assert "a@" not in one

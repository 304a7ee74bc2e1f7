"""A schedule runs its job at the times of its cron line: each time once, however many processes there are."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dbpilot.errors import ConfigError, RefusedError, RetentionError
from dbpilot.retention.cron import Cron
from dbpilot.retention.schedule import CleanupSchedule, Due, Policy, due
from dbpilot.retention.turns import Turns, locks
from dbpilot.testing import FakeClock

REPOSITORY = Path(__file__).parents[2]
DEADLINE_S = 120
SUNDAYS = "0 2 * * 0"
SEOUL = "Asia/Seoul"
SUNDAY = datetime(2024, 3, 9, 17, 0, tzinfo=UTC)  # 02:00 on 10 March in Seoul
WEEK = timedelta(days=7)
DAILY = Cron("0 2 * * *", "UTC")
TWO = datetime(2024, 3, 6, 2, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def wait_until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"still waiting: {what}"
        time.sleep(0.01)


# The decision, which knows nothing but what it is told.


def test_nothing_is_due_before_its_time() -> None:
    assert due(DAILY, TWO - DAY, TWO - SECOND, Policy()) == Due(None, None, None, TWO)


def test_a_time_is_due_from_its_second_on() -> None:
    assert due(DAILY, TWO - DAY, TWO, Policy()) == Due(TWO, None, None, TWO + DAY)


def test_a_time_that_was_dealt_with_is_not_due_again() -> None:
    assert due(DAILY, TWO, TWO + HOUR, Policy()) == Due(None, None, None, TWO + DAY)


def test_a_missed_time_is_made_up_for_within_its_grace() -> None:
    policy = Policy(grace_s=3600)
    assert due(DAILY, TWO - DAY, TWO + HOUR, policy).run == TWO
    late = due(DAILY, TWO - DAY, TWO + HOUR + SECOND, policy)
    assert (late.run, late.missed, late.look_again) == (None, TWO, TWO + DAY)


def test_of_many_missed_times_the_latest_runs_once_and_the_others_are_told() -> None:
    found = due(DAILY, TWO - 10 * DAY, TWO + SECOND, Policy())
    assert found == Due(TWO, TWO - 9 * DAY, TWO, TWO + DAY)
    every_minute = due(Cron("* * * * *", "UTC"), TWO - HOUR, TWO, Policy(grace_s=600))
    assert (every_minute.run, every_minute.missed) == (TWO, TWO - HOUR + timedelta(minutes=1))


def test_what_is_left_out_is_dealt_with() -> None:
    """Or it would be told for ever."""
    now = TWO + 10 * DAY + 2 * HOUR
    found = due(DAILY, TWO, now, Policy())
    assert (found.run, found.missed) == (None, TWO + DAY)
    assert found.missed_until is not None
    assert due(DAILY, found.missed_until, now, Policy()) == Due(None, None, None, TWO + 11 * DAY)


def test_a_jitter_delays_each_run_by_a_part_of_it_that_all_processes_know() -> None:
    policy = Policy(jitter_s=600, seed="cleanup")
    starts = [policy.start_of(TWO + number * DAY) - (TWO + number * DAY) for number in range(50)]
    assert all(timedelta(0) <= each < timedelta(minutes=10) for each in starts)
    assert max(starts) - min(starts) > timedelta(minutes=5)
    assert starts == [Policy(jitter_s=600, seed="cleanup").start_of(TWO + n * DAY) - (TWO + n * DAY) for n in range(50)]
    assert starts != [Policy(jitter_s=600, seed="other").start_of(TWO + n * DAY) - (TWO + n * DAY) for n in range(50)]
    begins = policy.start_of(TWO)
    assert due(DAILY, TWO - DAY, begins - SECOND, policy) == Due(None, None, None, begins)
    assert due(DAILY, TWO - DAY, begins + HOUR, policy).run == TWO
    assert due(DAILY, TWO - DAY, begins + HOUR + SECOND, policy).run is None


@pytest.mark.parametrize("wrong", [{"grace_s": 0}, {"jitter_s": -1}, {"lease_s": 0}])
def test_a_policy_that_makes_no_sense_is_told(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="schedule: grace_s and lease_s are more than 0"):
        Policy(**wrong)


# One process, whose weeks pass in a moment.


class Tried:
    """A schedule on a clock that obeys, and what its job was asked for."""

    def __init__(self, engine: sa.Engine, clock: FakeClock, **options: Any) -> None:
        self.runs: list[datetime] = []
        self.clock = clock
        self.fails: BaseException | None = None
        self.blocked: threading.Event | None = None
        self.turns = Turns(engine)
        options = {"cron": SUNDAYS, "timezone": SEOUL, "policy": Policy(lease_s=60), **options}
        self.schedule = CleanupSchedule(options.pop("cron"), self.job, self.turns, clock=clock, **options).start()
        wait_until(lambda: self.turn() is not None, "the row")

    def job(self, stop: threading.Event) -> None:
        assert self.schedule.running is not None
        self.runs.append(self.schedule.running)
        if self.blocked is not None:
            while not (self.blocked.is_set() or stop.is_set()):
                time.sleep(0.01)
        if self.fails is not None:
            raise self.fails

    def turn(self) -> Any:
        return self.turns._found(self.schedule.name)

    def at(self, instant: datetime) -> None:
        """It is this late now, and whatever was due has been seen to."""
        self.clock.advance((instant - self.clock.now()).total_seconds())
        self.settle()

    def settle(self) -> None:
        def settled() -> bool:
            self.schedule.wake()
            turn, now = self.turn(), self.clock.now()
            found = due(self.schedule.cron, turn.planned, now, self.schedule.policy)
            return found.run is None and found.missed is None and turn.holder is None

        wait_until(settled, "what is due")

    def close(self) -> None:
        self.schedule.cancel()
        assert self.schedule.join(DEADLINE_S)


@pytest.fixture
def engine(database_url: sa.URL) -> Iterator[sa.Engine]:
    engine = sa.create_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def sqlite(sqlite_url: sa.URL) -> Iterator[sa.Engine]:
    engine = sa.create_engine(sqlite_url)
    yield engine
    engine.dispose()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(SUNDAY - timedelta(days=3))


def kinds(tried: Tried) -> list[str]:
    return [notice.kind for notice in tried.schedule.notices]


def test_it_fires_on_sundays_at_two_in_seoul(engine: sa.Engine, clock: FakeClock) -> None:
    with closing(Tried(engine, clock, policy=Policy(grace_s=6 * 3600))) as tried:
        assert tried.schedule.next_run == SUNDAY
        for hours in range(1, 24 * 7 * 5, 5):
            tried.at(SUNDAY - timedelta(days=3) + timedelta(hours=hours))
        assert tried.runs == [SUNDAY + number * WEEK for number in range(5)]
        assert kinds(tried) == []
        assert f"{tried.schedule.next_run:%A %H:%M %Z}" == "Sunday 02:00 KST"
        assert tried.schedule.last_turn().outcome == "done"


def test_it_fires_once_a_night_while_new_yorks_clocks_are_turned(sqlite: sa.Engine) -> None:
    for start, cron, expected in [
        (datetime(2024, 3, 9, 5, tzinfo=UTC), "30 2 * * *", ["09 07:30", "10 07:30", "11 06:30"]),
        (datetime(2024, 11, 2, 4, tzinfo=UTC), "30 1 * * *", ["02 05:30", "03 05:30", "04 06:30"]),
    ]:
        clock = FakeClock(start)
        with closing(Tried(sqlite, clock, cron=cron, timezone="America/New_York", name=cron)) as tried:
            for half_hours in range(3 * 48):
                tried.at(start + timedelta(minutes=30 * half_hours))
            assert [f"{planned:%d %H:%M}" for planned in tried.runs] == expected
            assert kinds(tried) == []


def test_a_time_missed_while_nothing_ran_is_made_up_for_once(engine: sa.Engine, clock: FakeClock) -> None:
    with closing(Tried(engine, clock)):
        pass
    clock.advance((SUNDAY + timedelta(minutes=50) - clock.now()).total_seconds())
    for _ in range(2):
        with closing(Tried(engine, clock)) as tried:
            tried.settle()
            runs = tried.runs
        assert runs == ([SUNDAY] if _ == 0 else [])


def test_a_time_missed_by_more_is_left_out_and_told_once(engine: sa.Engine, clock: FakeClock) -> None:
    with closing(Tried(engine, clock)):
        pass
    clock.advance((SUNDAY + 2 * WEEK + timedelta(minutes=61) - clock.now()).total_seconds())
    told = []
    for _ in range(2):
        with closing(Tried(engine, clock, at_notice=told.append)) as tried:
            tried.settle()
            assert tried.runs == []
    assert [(notice.kind, notice.planned) for notice in told] == [("missed", SUNDAY)]
    assert "from 2024-03-10 02:00:00+09:00 on runs were missed, and are left out" in told[0].text


def test_a_first_start_has_missed_nothing(sqlite: sa.Engine) -> None:
    with closing(Tried(sqlite, FakeClock(SUNDAY + SECOND))) as tried:
        tried.settle()
        assert (tried.runs, kinds(tried)) == ([], [])


def test_a_run_that_goes_on_is_not_begun_twice(sqlite: sa.Engine, clock: FakeClock) -> None:
    """Not by its own schedule, and not by another's, however long it takes."""
    with closing(Tried(sqlite, clock, cron="0 * * * *")) as one, closing(Tried(sqlite, clock, cron="0 * * * *")) as two:
        both = (one, two)
        for tried in both:
            tried.blocked = threading.Event()
        clock.advance((SUNDAY - clock.now()).total_seconds())
        wait_until(lambda: [tried.schedule.wake() for tried in both] and one.runs + two.runs, "the run")
        for _ in range(20):  # the lease is renewed, in the time that really passes
            clock.advance(1)
            one.schedule.wake()
            two.schedule.wake()
            time.sleep(0.01)
        assert len(one.runs + two.runs) == 1
        for tried in both:
            assert tried.blocked is not None
            tried.blocked.set()
        one.settle()
        assert len(one.runs + two.runs) == 1


def test_a_job_that_fails_is_told_and_runs_again_the_next_time(sqlite: sa.Engine, clock: FakeClock) -> None:
    with closing(Tried(sqlite, clock)) as tried:
        tried.fails = ValueError("a row's value")
        tried.at(SUNDAY)
        tried.fails = None
        [notice] = tried.schedule.notices
        assert (notice.kind, notice.planned) == ("failed", SUNDAY)
        assert notice.text == "the run of 2024-03-10 02:00:00+09:00 failed: ValueError"
        assert tried.schedule.last_turn().outcome == "failed"
        tried.at(SUNDAY + WEEK)
        assert tried.runs == [SUNDAY, SUNDAY + WEEK]
        assert tried.schedule.last_turn().outcome == "done"


def test_a_notifier_that_breaks_stops_nothing(sqlite: sa.Engine, clock: FakeClock) -> None:
    def breaks(_: object) -> None:
        raise ValueError

    with closing(Tried(sqlite, clock, at_notice=breaks)) as tried:
        tried.fails = ValueError()
        tried.at(SUNDAY)
        tried.at(SUNDAY + WEEK)
        assert tried.runs == [SUNDAY, SUNDAY + WEEK]


def test_a_lease_that_another_took_ends_the_run(sqlite: sa.Engine, clock: FakeClock) -> None:
    with closing(Tried(sqlite, clock, policy=Policy(lease_s=0.3))) as tried:
        tried.blocked = threading.Event()
        clock.advance((SUNDAY - clock.now()).total_seconds())
        tried.schedule.wake()
        wait_until(lambda: tried.runs, "the run")
        with sqlite.begin() as connection:
            connection.execute(locks.update().values(holder="another"))
        wait_until(lambda: tried.schedule.running is None, "the end of the run")
        assert kinds(tried) == ["lost"]
        assert tried.turn().holder == "another"


def test_a_host_whose_clock_is_ahead_takes_nobody_for_dead(sqlite: sa.Engine, clock: FakeClock) -> None:
    lease_s = 0.3
    ahead = FakeClock(clock.now() + timedelta(minutes=30))
    policy = Policy(lease_s=lease_s)
    with closing(Tried(sqlite, clock, policy=policy)) as one, closing(Tried(sqlite, ahead, policy=policy)) as two:
        one.blocked = threading.Event()
        clock.advance((SUNDAY - clock.now()).total_seconds())
        one.schedule.wake()
        wait_until(lambda: one.schedule.running, "the run")
        for _ in range(10):
            clock.advance(0.9 * lease_s)
            wait_until(lambda: one.turn().until == clock.now() + timedelta(seconds=lease_s), "the renewal")
            ahead.advance(0.9 * lease_s)
            two.schedule.wake()
            time.sleep(0.05)
        assert (kinds(one), kinds(two), two.runs) == ([], [], [])
        assert one.schedule.running == SUNDAY


def test_a_database_that_is_down_is_told_and_asked_again(sqlite: sa.Engine, clock: FakeClock) -> None:
    with closing(Tried(sqlite, clock)) as tried:
        with sqlite.begin() as connection:
            connection.execute(sa.text("ALTER TABLE dbpilot_locks RENAME TO away"))
        tried.schedule.wake()
        wait_until(lambda: tried.schedule.error, "the error")
        assert tried.schedule.error is not None
        assert "dbpilot_locks in the watched database cannot be used: OperationalError" in tried.schedule.error
        with sqlite.begin() as connection:
            connection.execute(sa.text("ALTER TABLE away RENAME TO dbpilot_locks"))
        tried.at(SUNDAY)
        assert tried.runs == [SUNDAY]
        assert tried.schedule.error is None


def test_a_database_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    turns = Turns(sa.create_engine(f"sqlite:///{tmp_path}/no/such/folder/db"))
    with pytest.raises(RetentionError, match="cannot be used: OperationalError"):
        turns.turn("cleanup", SUNDAY)


# Its end.


def test_cancel_asks_the_run_to_end_and_begins_no_other(sqlite: sa.Engine, clock: FakeClock) -> None:
    tried = Tried(sqlite, clock)
    tried.blocked = threading.Event()
    clock.advance((SUNDAY - clock.now()).total_seconds())
    tried.schedule.wake()
    wait_until(lambda: tried.runs, "the run")
    tried.close()
    assert tried.schedule.next_run is None
    assert tried.turn().holder is None
    assert tried.turn().outcome == "done"


def test_awaiting_it_returns_when_it_was_cancelled_and_the_loop_goes_on_meanwhile(
    sqlite: sa.Engine, clock: FakeClock
) -> None:
    async def main() -> int:
        schedule = CleanupSchedule(SUNDAYS, lambda _: None, Turns(sqlite), clock=clock).start()
        asyncio.get_running_loop().call_later(0.2, schedule.cancel)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        await schedule
        await schedule  # once more does no harm
        ticking.cancel()
        return ticks

    assert asyncio.run(main()) > 3


def test_to_cancel_who_awaits_it_is_to_cancel_it(sqlite: sa.Engine, clock: FakeClock) -> None:
    schedule = CleanupSchedule(SUNDAYS, lambda _: None, Turns(sqlite), clock=clock).start()

    async def main() -> None:
        async def wait() -> None:
            await schedule

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
    assert schedule.join(DEADLINE_S)


def test_one_that_was_never_started_can_be_cancelled_and_one_that_was_is_not_started_again(sqlite: sa.Engine) -> None:
    idle = CleanupSchedule(SUNDAYS, lambda _: None, Turns(sqlite))
    idle.cancel()
    assert idle.join(0)
    with closing(Tried(sqlite, FakeClock())) as tried, pytest.raises(RefusedError, match="started once"):
        tried.schedule.start()


def test_a_name_has_its_limits(sqlite: sa.Engine) -> None:
    for name in ("", "x" * 101):
        with pytest.raises(ConfigError, match="its name"):
            CleanupSchedule(SUNDAYS, lambda _: None, Turns(sqlite), name=name)


# Several processes.

PROCESS = """
import os, sys, threading, time
from datetime import UTC, datetime, timedelta
from pathlib import Path
import sqlalchemy as sa
from dbpilot.retention.turns import Turns
from dbpilot.retention.schedule import CleanupSchedule, Policy

url, folder, lease_s, hold = sys.argv[1:]

class Elsewhen:
    ticks = staticmethod(time.monotonic)

    def now(self):
        return datetime.now(UTC) + timedelta(seconds=float((Path(folder) / "ahead").read_text()))

def job(stop):
    (Path(folder) / f"run-{os.getpid()}-{time.monotonic_ns()}").touch()
    while hold == "hold" and not stop.is_set():
        time.sleep(0.01)

def told(notice):
    (Path(folder) / f"{notice.kind}-{os.getpid()}-{time.monotonic_ns()}").write_text(notice.text)

engine = sa.create_engine(url)
schedule = CleanupSchedule("0 2 * * 0", job, Turns(engine), policy=Policy(lease_s=float(lease_s)), clock=Elsewhen(),
                           at_notice=told).start()
(Path(folder) / f"up-{os.getpid()}").touch()

def look():
    while True:
        schedule.wake()
        time.sleep(0.1)

threading.Thread(target=look, daemon=True).start()
sys.stdin.read()
schedule.cancel()
schedule.join(30)
"""


class Processes:
    def __init__(self, url: sa.URL, folder: Path) -> None:
        self._url = url.render_as_string(hide_password=False)
        self._folder = folder
        self.all: list[subprocess.Popen[bytes]] = []

    def set_clocks(self, now: datetime) -> None:
        """It is so late now, for all of them."""
        written = self._folder / "written"
        written.write_text(str((now - datetime.now(UTC)).total_seconds()))
        written.rename(self._folder / "ahead")

    def start(self, lease_s: float = 60, hold: str = "") -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", PROCESS, self._url, str(self._folder), str(lease_s), hold]
        process = subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        self.all.append(process)
        return process

    def seen(self, kind: str) -> list[Path]:
        return sorted(self._folder.glob(f"{kind}-*"))

    def end(self) -> None:
        for process in self.all:
            _, errors = process.communicate(timeout=DEADLINE_S)
            assert process.returncode in (0, -signal.SIGKILL), errors.decode()

    def close(self) -> None:
        for process in self.all:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stderr):
                if pipe is not None:
                    pipe.close()


@pytest.fixture
def processes(database_url: sa.URL, tmp_path: Path) -> Iterator[Processes]:
    folder = tmp_path / "seen"
    folder.mkdir()
    with closing(Processes(database_url, folder)) as processes:
        yield processes


def enter(url: sa.URL, planned: datetime) -> None:
    """The schedule ran before, and its last time was this one."""
    engine = sa.create_engine(url)
    Turns(engine).turn("cleanup", planned)
    engine.dispose()


def test_four_processes_make_up_for_a_missed_hour_once(database_url: sa.URL, processes: Processes) -> None:
    enter(database_url, SUNDAY - WEEK)
    processes.set_clocks(SUNDAY + timedelta(minutes=10))
    for _ in range(4):
        processes.start()
    wait_until(lambda: len(processes.seen("up")) == 4 and processes.seen("run"), "four processes and a run")
    time.sleep(1)  # for those that would run it again
    processes.end()
    assert len(processes.seen("run")) == 1
    assert processes.seen("unfinished") == []


def test_four_processes_that_start_on_an_empty_database_run_each_time_once(
    database_url: sa.URL, processes: Processes
) -> None:
    engine = sa.create_engine(database_url)
    processes.set_clocks(SUNDAY - DAY)
    for _ in range(4):
        processes.start()
    wait_until(lambda: len(processes.seen("up")) == 4 and sa.inspect(engine).has_table("dbpilot_locks"), "the table")
    wait_until(lambda: Turns(engine)._found("cleanup"), "the row")
    for number in range(3):
        processes.set_clocks(SUNDAY + number * WEEK + SECOND)
        wait_until(lambda number=number: len(processes.seen("run")) > number, "a run")
        time.sleep(0.5)  # for those that would run it again
    processes.end()
    assert len(processes.seen("run")) == 3
    engine.dispose()


def test_a_killed_leader_frees_the_lock_after_its_lease_and_is_told(database_url: sa.URL, processes: Processes) -> None:
    enter(database_url, SUNDAY - WEEK)
    processes.set_clocks(SUNDAY + timedelta(minutes=10))
    engine = sa.create_engine(database_url)
    leader = processes.start(6, "hold")
    wait_until(lambda: processes.seen("run"), "the leader's run")
    first = turn_of(engine)
    assert first.holder is not None
    for _ in range(3):
        processes.start(6)
    wait_until(lambda: len(processes.seen("up")) == 4, "the others")
    wait_until(lambda: turn_of(engine).until > first.until, "its renewal")
    os.kill(leader.pid, signal.SIGKILL)
    leader.wait()
    assert processes.seen("unfinished") == []
    assert turn_of(engine).holder == first.holder
    wait_until(lambda: processes.seen("unfinished"), "the notice")
    time.sleep(1)  # for those that would tell it again, or run it
    processes.end()
    [notice] = processes.seen("unfinished")
    assert first.holder in notice.read_text()
    last = turn_of(engine)
    assert (last.holder, last.outcome, last.planned) == (None, "unfinished", SUNDAY)
    assert len(processes.seen("run")) == 1
    engine.dispose()


def turn_of(engine: sa.Engine) -> Any:
    return Turns(engine).turn("cleanup", SUNDAY)

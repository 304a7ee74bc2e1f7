"""Cleaning at the times of a cron line, by one of all processes, each time once.

What happened is kept in the watched database (:mod:`dbpilot.retention.turns`), so that it is known after a restart and
to every process: a time that was missed because nothing ran is made up for once if it is not too long ago.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import blake2b
from threading import Event, Lock, Thread
from typing import Any, Final, Literal, Self

from dbpilot.clock import SYSTEM, Clock
from dbpilot.errors import ConfigError, PilotError, RefusedError
from dbpilot.retention.cron import DEFAULT_TIMEZONE, Cron, next_run
from dbpilot.retention.turns import NAME_LENGTH, Outcome, Turn, Turns

__all__ = ["CleanupSchedule", "Due", "Notice", "Policy", "due", "next_run"]

log = logging.getLogger(__name__)

LOOK_AGAIN_S: Final = 30.0
"""At the latest: clocks are set, and machines sleep."""
BUSY_S: Final = 5.0
"""How soon to look again while another process is at work or the database does not answer."""
NOTICES: Final = 20
RENEWALS: Final = 3
"""Per lease: one may fail."""

Job = Callable[[Event], object]
"""What is done at these times; it should end soon when the event is set."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is done about times that were missed, and about processes that die.

    Raises:
        ConfigError: a duration makes no sense.
    """

    grace_s: float = 3600.0
    """How late a run may begin that was missed; what is missed by more is left out."""
    jitter_s: float = 0.0
    """Runs begin up to this much later, each by another part of it, so that many schedules do not begin at once."""
    lease_s: float = 60.0
    """How long after its last sign of life a process that runs counts as dead."""
    seed: str = ""
    """Schedules of different seeds begin at different parts of the jitter."""

    def __post_init__(self) -> None:
        if self.grace_s <= 0 or self.jitter_s < 0 or self.lease_s <= 0:
            raise ConfigError("schedule: grace_s and lease_s are more than 0, jitter_s is not less than 0")

    def start_of(self, planned: datetime) -> datetime:
        """When the run of a planned time begins; the same in every process."""
        mark = blake2b(f"{self.seed} {planned.timestamp():.0f}".encode(), digest_size=4).digest()
        return planned + timedelta(seconds=self.jitter_s * int.from_bytes(mark) / 2**32)


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done now, and when to look again."""

    run: datetime | None
    """The planned time whose run is due."""
    missed: datetime | None
    """The first planned time that is left out."""
    missed_until: datetime | None
    """All planned times up to here are left out, but the one that runs."""
    look_again: datetime
    """Before this nothing will be due."""


def due(cron: Cron, last: datetime, now: datetime, policy: Policy) -> Due:
    """What is due, all planned times up to ``last`` being dealt with.

    Of several that were missed, the latest within ``grace_s`` runs, and the others are left out.
    """
    first = cron.after(last)
    if policy.start_of(first) > now:
        return Due(None, None, None, policy.start_of(first))
    too_late = max(last, now - timedelta(seconds=policy.grace_s + policy.jitter_s, microseconds=1))
    passed = too_late
    while policy.start_of(coming := cron.after(passed)) <= now:
        passed = coming
    look_again = policy.start_of(coming)
    if passed == too_late or (now - policy.start_of(passed)).total_seconds() > policy.grace_s:
        return Due(None, first, passed, look_again)
    return Due(passed, first, passed, look_again) if first < passed else Due(passed, None, None, look_again)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that somebody should know."""

    kind: Literal["missed", "unfinished", "failed", "lost"]
    at: datetime
    planned: datetime
    """The planned time that it is about."""
    text: str


class CleanupSchedule:
    """Runs a job at the times of a cron line, on a thread of its own, from :meth:`start` to :meth:`cancel`.

    ``await schedule`` returns when it was cancelled and nothing runs any more; to cancel who awaits it is to cancel it.
    """

    def __init__(
        self,
        cron: str,
        job: Job,
        turns: Turns,
        *,
        timezone: str = DEFAULT_TIMEZONE,
        name: str = "cleanup",
        policy: Policy | None = None,
        clock: Clock = SYSTEM,
        at_notice: Callable[[Notice], None] = lambda _: None,
    ) -> None:
        """Nothing runs or is asked yet. Processes that give the same name take turns.

        Raises:
            ConfigError: a field of the cron line or the zone has no meaning; says which.
        """
        if not 0 < len(name) <= NAME_LENGTH:
            raise ConfigError(f"schedule: its name must have 1 to {NAME_LENGTH} characters")
        self.cron = Cron(cron, timezone)
        self.name = name
        self.policy = replace(policy or Policy(), seed=name)
        self._job = job
        self._turns = turns
        self._clock = clock
        self._at_notice = at_notice
        self._wake = Event()
        self._cancelled = Event()
        self._stop_run = Event()
        self._ended = Event()
        self._ending = Lock()
        self._at_end: list[Callable[[], None]] = []
        self._thread: Thread | None = None
        self._seen: tuple[str | None, datetime | None] = (None, None)
        self._seen_at = 0.0
        """The holder's last sign of life, and when it was first seen by the stopwatch."""
        self.notices: deque[Notice] = deque(maxlen=NOTICES)
        """The latest that this process gave."""
        self.error: str | None = None
        """Why the database was of no use at the last look; None while it is."""
        self.running: datetime | None = None
        """The planned time whose run is going on in this process."""

    def start(self) -> Self:
        """The thread runs.

        Raises:
            RefusedError: it did before.
        """
        if self._thread is not None:
            raise RefusedError("a schedule is started once; make a new one")
        self._thread = Thread(target=self._keep, name="dbpilot-schedule", daemon=True)
        self._thread.start()
        return self

    def cancel(self) -> None:
        """No run begins any more, and one that goes on is asked to end; returns at once."""
        self._cancelled.set()
        self._stop_run.set()
        self._wake.set()
        if self._thread is None:
            self._end()

    def join(self, timeout_s: float | None = None) -> bool:
        """Whether everything has ended, after waiting for it so long."""
        return self._ended.wait(timeout_s)

    def wake(self) -> None:
        """It looks at the clock now."""
        self._wake.set()

    @property
    def next_run(self) -> datetime | None:
        """When the next run begins, on the zone's clocks; None after :meth:`cancel`."""
        if self._cancelled.is_set():
            return None
        return self.cron.here(self.policy.start_of(self.cron.after(self._clock.now())))

    def last_turn(self) -> Turn:
        """The last run of any process, from the database.

        Raises:
            RetentionError: it cannot be asked.
        """
        return self._turns.turn(self.name, self._clock.now())

    def __await__(self) -> Generator[Any, None, None]:
        return self._until_ended().__await__()

    async def _until_ended(self) -> None:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def hear() -> None:
            if not ended.done():
                ended.set_result(None)

        self._when_ended(lambda: loop.call_soon_threadsafe(hear))
        try:
            await ended
        except asyncio.CancelledError:
            self.cancel()
            raise

    def _when_ended(self, call: Callable[[], object]) -> None:
        with self._ending:
            if not self._ended.is_set():
                self._at_end.append(lambda: _call(call))
                return
        call()

    def _end(self) -> None:
        with self._ending:
            self._ended.set()
            calls, self._at_end = self._at_end, []
        for call in calls:
            call()

    def _keep(self) -> None:
        try:
            while not self._cancelled.is_set():
                pause_s = self._attempt()
                self._wake.wait(pause_s)
                self._wake.clear()
        finally:
            self._end()

    def _attempt(self) -> float:
        """Looks once; for how long there will be nothing to do."""
        try:
            pause_s = self._look()
        except Exception as error:  # noqa: BLE001 - the border to the application: its schedule goes on
            said = str(error) if isinstance(error, PilotError) else f"schedule: {type(error).__name__}"
            if self.error is None:  # once per outage, not once per look
                log.warning("%s; the schedule looks again every %g s", said, BUSY_S)
            self.error = said
            return BUSY_S
        self.error = None
        return pause_s

    def _look(self) -> float:
        now = self._clock.now()
        turn = self._turns.turn(self.name, now)
        if turn.holder is not None:
            if not self._is_dead(turn, now):
                return min(BUSY_S, self.policy.lease_s / RENEWALS)
            self._tell_unfinished(turn, now)
            return 0.0
        found = due(self.cron, turn.planned, now, self.policy)
        if found.run is not None:
            return self._take(found, turn, now)
        if found.missed_until is not None and self._turns.skip(self.name, turn, found.missed_until):
            self._tell_missed(found, now)
        return min(LOOK_AGAIN_S, max(0.0, (found.look_again - self._clock.now()).total_seconds()))

    def _is_dead(self, turn: Turn, now: datetime) -> bool:
        """Whether the holder's lease is over, and by this process's stopwatch no sign of life came for as long: hosts'
        clocks differ, and one that is set must not make everybody look dead."""
        seen = turn.holder, turn.until
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._clock.ticks()
        is_over = turn.until is None or turn.until < now
        return is_over and self._clock.ticks() - self._seen_at >= self.policy.lease_s

    def _take(self, found: Due, turn: Turn, now: datetime) -> float:
        """The run is done here, unless another process took it."""
        planned = found.run
        if planned is None or not self._turns.begin(self.name, turn, planned, now, self._until(now)):
            return 0.0
        if found.missed is not None:
            self._tell_missed(found, now)
        self._run(planned)
        return 0.0

    def _run(self, planned: datetime) -> None:
        """The job is done, and the lease kept meanwhile."""
        self._stop_run.clear()
        if self._cancelled.is_set():
            self._stop_run.set()
        self.running = planned
        failed: list[str] = []
        done = Event()
        worker = Thread(target=self._work, args=(failed, done), name="dbpilot-cleanup", daemon=True)
        try:
            worker.start()
            self._hold_until(done, planned)
        finally:
            self.running = None
        if failed:
            text = f"the run of {self.cron.here(planned)} failed: {failed[0]}"
            self._tell(Notice("failed", self._clock.now(), planned, text))
        self._tell_end("failed" if failed else "done")

    def _tell_end(self, outcome: Outcome) -> None:
        """The database knows how the run ended; it is asked for as long as the lease lasts."""
        until = self._until(self._clock.now())
        while True:
            try:
                self._turns.end(self.name, outcome, self._clock.now())
            except PilotError:
                if self._clock.now() > until or self._cancelled.wait(BUSY_S):
                    raise
            else:
                return

    def _work(self, failed: list[str], done: Event) -> None:
        try:
            self._job(self._stop_run)
        except BaseException as error:  # noqa: BLE001 - the border to the job, which anybody may write
            failed.append(str(error) if isinstance(error, PilotError) else type(error).__name__)
        finally:
            done.set()

    def _hold_until(self, done: Event, planned: datetime) -> None:
        """Returns when the job has ended. If the lease is lost meanwhile, the job is asked to end."""
        until = self._until(self._clock.now())
        while not done.wait(self.policy.lease_s / RENEWALS):
            now = self._clock.now()
            renewed = self._renewed(now)
            until = self._until(now) if renewed else until
            if (renewed is False or until < now) and not self._stop_run.is_set():
                self._stop_run.set()
                text = f"the run of {self.cron.here(planned)} lost its lease and is asked to end"
                self._tell(Notice("lost", now, planned, text))

    def _renewed(self, now: datetime) -> bool | None:
        """Whether the lease is still this process's; None where the database does not say."""
        try:
            return self._turns.renew(self.name, self._until(now))
        except PilotError as error:
            log.warning("%s", error)
            return None

    def _until(self, now: datetime) -> datetime:
        return now + timedelta(seconds=self.policy.lease_s)

    def _tell_unfinished(self, turn: Turn, now: datetime) -> None:
        if self._turns.free(self.name, turn):
            text = (
                f"the run of {self.cron.here(turn.planned)} by {turn.holder} did not finish: that process gave no sign "
                "of life any more; the next run goes on where it ended"
            )
            self._tell(Notice("unfinished", now, turn.planned, text))

    def _tell_missed(self, found: Due, now: datetime) -> None:
        if found.missed is None:
            return
        text = f"from {self.cron.here(found.missed)} on runs were missed, and are left out"
        if found.run is not None:
            text += f"; that of {self.cron.here(found.run)} makes up for them"
        self._tell(Notice("missed", now, found.missed, text))

    def _tell(self, notice: Notice) -> None:
        log.warning("schedule %s: %s", self.name, notice.text)
        self.notices.append(notice)
        try:
            self._at_notice(notice)
        except Exception as error:  # noqa: BLE001 - the border to notifiers, which anybody may write
            log.warning("schedule %s: a notice was not taken: %s", self.name, type(error).__name__)


def _call(call: Callable[[], object]) -> None:
    try:
        call()
    except RuntimeError:  # the loop that waited is closed
        return

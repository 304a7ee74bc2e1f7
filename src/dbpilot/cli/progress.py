"""How far something is, for whoever watches: bars on a terminal, now and then a line elsewhere. Both on stderr."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.text import Text

from dbpilot.cli.render import count, duration, say
from dbpilot.clock import SYSTEM, Clock
from dbpilot.retention import CleanupProgress

LINE_EVERY_S: Final = 5.0


class Shown(Protocol):
    """Shows what it is told."""

    def update(self, progress: Sequence[CleanupProgress]) -> None:
        """How far each rule is that has begun; the last of them is the one at work."""

    def say(self, message: str) -> None:
        """Something else that whoever watches should know."""


@contextmanager
def shown() -> Iterator[Shown]:
    """Somebody to tell, until the block ends."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield Bars(bars)


@contextmanager
def analysis_shown() -> Iterator[Callable[[str], None]]:
    """Somebody to tell what an analysis does, until the block ends; nobody where there is no terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with Console(stderr=True).status("") as status:
        yield lambda what: status.update(Text(what))


class Building(Protocol):
    """Shows how far the steps are that change indexes."""

    def begin(self, what: str) -> None:
        """A step begins."""

    def look(self, phase: str, done: float | None) -> None:
        """What the statement at work does, and the share of that which is done; told by another thread."""

    def end(self, what: str) -> None:
        """The step is over."""

    def say(self, message: str) -> None:
        """Something else that whoever watches should know."""


@contextmanager
def building_shown() -> Iterator[Building]:
    """Somebody to tell how far steps are, until the block ends."""
    if not sys.stderr.isatty():
        yield BuildingLines()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[phase]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield BuildingBars(bars)


class BuildingBars:
    """A bar for each step; of a phase whose end is not known it only moves."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def begin(self, what: str) -> None:
        self._task = self._bars.add_task(what, total=None, phase="")

    def look(self, phase: str, done: float | None) -> None:
        if self._task is not None:
            self._bars.update(self._task, total=None if done is None else 1.0, completed=done or 0.0, phase=phase)

    def end(self, what: str) -> None:
        if self._task is not None:
            self._bars.update(self._task, total=1.0, completed=1.0, phase=what)

    def say(self, message: str) -> None:
        self._bars.console.print(f"dbpilot: {message}", markup=False, highlight=False)


class BuildingLines:
    """A line where a step begins and ends, and every few seconds."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._due = clock.ticks() + LINE_EVERY_S

    def begin(self, what: str) -> None:
        self.say(what)

    def look(self, phase: str, done: float | None) -> None:
        if self._clock.ticks() >= self._due:
            self.say(phase if done is None else f"{phase}: {done:.0%}")

    def end(self, what: str) -> None:
        self.say(what)

    def say(self, message: str) -> None:
        self._due = self._clock.ticks() + LINE_EVERY_S
        say(message)


def pace(progress: CleanupProgress) -> str:
    """How fast it goes, and how long it will; or what it waits for."""
    if progress.waiting_for is not None:
        return f"waits: {progress.waiting_for}"
    left = f", {duration(progress.left_s)} left" if progress.left_s else ""
    return f"{progress.rows_per_s:,.0f} rows/s{left}"


class Bars:
    """A bar for each rule."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def update(self, progress: Sequence[CleanupProgress]) -> None:
        for one in progress:
            if one.rule not in self._tasks:
                self._tasks[one.rule] = self._bars.add_task(one.rule, total=one.planned, pace="")
            self._bars.update(self._tasks[one.rule], completed=one.deleted, total=one.planned, pace=pace(one))

    def say(self, message: str) -> None:
        self._bars.console.print(f"dbpilot: {message}", markup=False, highlight=False)


class Lines:
    """A line for each rule that begins or is done, for what one begins to wait for, and every few seconds."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._due = clock.ticks() + LINE_EVERY_S
        self._told: dict[str, str | None] = {}
        self._done: set[str] = set()

    def update(self, progress: Sequence[CleanupProgress]) -> None:
        for one in progress:
            done = one.deleted >= one.planned
            news = one.rule not in self._told or self._told[one.rule] != one.waiting_for
            if (done and one.rule not in self._done) or (news and not done):
                self._tell(one)
            self._told[one.rule] = one.waiting_for
            self._done |= {one.rule} if done else set()
        if progress and self._clock.ticks() >= self._due:
            self._tell(progress[-1])

    def say(self, message: str) -> None:
        say(message)

    def _tell(self, one: CleanupProgress) -> None:
        self._due = self._clock.ticks() + LINE_EVERY_S
        say(f"{one.rule}: {count(one.deleted)} of {count(one.planned)} rows, {pace(one)}")

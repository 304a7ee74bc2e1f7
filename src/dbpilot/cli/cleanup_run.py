"""A cleaning that somebody watches, and may end."""

import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from typing import Final

from dbpilot.cleaning import Cleaning
from dbpilot.cli.progress import Shown
from dbpilot.retention import CleanupFinished, CleanupProgress, CleanupResult

LOOK_EVERY_S: Final = 0.1
ENDING: Final = "ends after the batch in hand; nothing is lost by that, and another Ctrl-C changes nothing"


class Interruption:
    """Whether somebody pressed Ctrl-C, or asked the program to end."""

    def __init__(self) -> None:
        self.asked = False  # no Event: its lock may be held by whom a second signal interrupts

    def __call__(self, *_: object) -> None:
        self.asked = True


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Inside, Ctrl-C and SIGTERM are noted, and end nothing by themselves."""
    noted = Interruption()
    before = {number: signal.signal(number, noted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watched(cleaning: Cleaning, table: str | None, by: str, show: Shown, interruption: Interruption) -> CleanupFinished:
    """The rules are run, in a thread of their own; whoever watches is told how far they are, and may interrupt.

    Raises:
        PilotError: the run could not begin; says why.
    """
    with ThreadPoolExecutor(1, "dbpilot-cleanup") as thread:
        run = thread.submit(partial(cleaning.run, table, dry_run=False, by=by))
        _watch(run, cleaning, show, interruption)
        finished = run.result()
    show.update([_at_its_end(result) for result in finished.results if result.planned])
    return finished


def _at_its_end(result: CleanupResult) -> CleanupProgress:
    return CleanupProgress(result.rule, result.planned, result.deleted, result.rows_per_s, None, 0)


def _watch(run: Future[CleanupFinished], cleaning: Cleaning, show: Shown, interruption: Interruption) -> None:
    told = False
    while not wait([run], LOOK_EVERY_S).done:
        running = cleaning.running()
        show.update([] if running is None else running.progress)
        if interruption.asked:
            cleaning.cancel()  # again and again: before it has begun there is nothing to cancel
            if not told:
                show.say(ENDING)
            told = True

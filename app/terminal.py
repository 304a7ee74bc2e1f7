"""Progress for whoever watches: a bar on a terminal, now and then a line elsewhere. Both on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer

from app.progress import Progress

LINE_EVERY_S: Final = 5.0


def say(message: str) -> None:
    """The message stands on stderr; stdout is for data."""
    typer.echo(message, err=True)


@contextmanager
def progress_shown() -> Iterator[Progress]:
    """A listener that shows what it hears, until the block ends."""
    if sys.stderr.isatty():
        with _bars() as progress:
            yield progress
    else:
        yield _Lines()


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks = {task.description: task.id for task in bars.tasks}

        def show(step: str, done: int, total: int | None) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield show


class _Lines:
    """A line for a step's end, and for its state every few seconds."""

    def __init__(self) -> None:
        self._due = time.monotonic() + LINE_EVERY_S

    def __call__(self, step: str, done: int, total: int | None) -> None:
        if done != total and time.monotonic() < self._due:
            return
        self._due = time.monotonic() + LINE_EVERY_S
        say(f"{step}: {done:,}" if total is None else f"{step}: {done:,} of {total:,}")

"""A writer of Parquet archives that is killed at a random line, as by ``kill -9``.

``python -m tests.contract.interrupted FOLDER COUNT`` tells one story COUNT times, each in a folder of its own and each
to another point of it. The points are the same every time.
"""

import datetime as dt
import os
import random
import signal
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow.parquet  # noqa: F401 - here once, or else in every child
import sqlalchemy as sa

from dbpilot.retention import columns, files, parquet
from dbpilot.retention.parquet import ParquetTarget
from dbpilot.retention.targets import BatchKey

SEED = 6
WATCHED = {columns.__file__, files.__file__, parquet.__file__}

NEWS = sa.Table(
    "news",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("title", sa.String(200)),
    sa.Column("price", sa.Numeric(12, 4)),
    sa.Column("at", sa.DateTime()),
)


def news(number: int) -> list[dict[str, Any]]:
    """The rows of a batch, each an hour later than the one before; a batch begins with its month."""
    start = dt.datetime.fromisoformat(f"2024-{1 + (number - 1) % 12:02d}-01")
    return [
        {
            "id": 100 * number + index + 1,
            "title": f"story {index} 😀",
            "price": Decimal(index) / 4,
            "at": start + dt.timedelta(hours=index),
        }
        for index in range(100)
    ]


def batch_of(number: int) -> BatchKey:
    """The name of that batch."""
    rows = news(number)
    return BatchKey("news", number, (rows[0]["id"],), (rows[-1]["id"],), f"{rows[0]['at']:%Y-%m}")


def story(target: ParquetTarget) -> None:
    """A batch is written again, another is new, a third is forgotten, and some of the first one's rows leave."""
    target.write(batch_of(1), NEWS, news(1))
    target.write(batch_of(2), NEWS, news(2))
    target.forget(batch_of(3), NEWS)
    target.remove("news", NEWS, [(row["id"],) for row in news(1)[:10]])


def _in_a_child(work: Callable[[], None]) -> int:
    """The signal that ended it, or 0."""
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class _Lines:
    """Counts the lines that are run, and ends the process at one of them."""

    def __init__(self, last: int | None = None) -> None:
        self._last = last
        self.count = 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in WATCHED:
            return None
        if event == "line":
            self.count += 1
            if self.count == self._last:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


def _told(target: ParquetTarget, lines: _Lines) -> None:
    sys.settrace(lines)
    story(target)
    sys.settrace(None)


def _beginning(folder: Path) -> ParquetTarget:
    target = ParquetTarget(folder)
    for number in (1, 3):
        target.write(batch_of(number), NEWS, news(number))
    return target


def _length(folder: Path) -> int:
    """How many lines the story has."""
    reading, writing = os.pipe()

    def work() -> None:
        lines = _Lines()
        _told(_beginning(folder), lines)
        os.write(writing, str(lines.count).encode())

    _in_a_child(work)
    return int(os.read(reading, 20))


def main(root: Path, count: int) -> None:
    """Every folder is as its writer left it."""
    rehearsal = root.with_name(f"{root.name}-rehearsal")
    points = sorted(random.Random(SEED).sample(range(1, _length(rehearsal) + 1), count))
    for point in points:
        target = root / f"{point:05d}"
        signal_number = _in_a_child(lambda target=target, point=point: _told(_beginning(target), _Lines(point)))
        assert signal_number == -signal.SIGKILL, (point, signal_number)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

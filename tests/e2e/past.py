"""Hours that a server did not live through, so that its charts have a course to show: made up from what it ran."""

import math
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dbpilot.history.sql_store import SqlStore, place
from dbpilot.history.store import Batch, Event, Window
from dbpilot.history.tally import Tally

MINUTES = 170
CALLS = 40
SIZE, LIMIT = 5, 35


def write_past(var: Path, ran: Sequence[dict[str, Any]], seed: int = 7) -> None:
    """Each of the statements that ran did so all the hours before, now more and now less, as other processes' do."""
    draw = random.Random(seed)
    store = SqlStore(
        f"sqlite:///{var / 'dbpilot.sqlite3'}", place(sa.make_url(f"sqlite:///{var / 'finstage.sqlite3'}"))
    )
    end = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=2)
    for minute in range(MINUTES, 0, -1):
        at = end - timedelta(minutes=minute)
        wave = 1 + 0.6 * math.sin(minute / 17) + 0.15 * draw.random()
        tallies = {one["pattern_id"]: _tally(draw, at, one["mean_s"], int(CALLS * wave)) for one in ran}
        store.write(Batch(windows=[Window(at, tallies)], events=[_pool(at, wave)]))
    store.close()


def _tally(draw: random.Random, at: datetime, mean_s: float, calls: int) -> Tally:
    tally = Tally()
    for _ in range(calls):
        duration_s = draw.lognormvariate(math.log(mean_s), 0.7)
        tally.add(at, duration_s, duration_s / 3, 12, None, 1.0)
    return tally


def _pool(at: datetime, wave: float) -> Event:
    """A sample as the history keeps it."""
    used = 1.8 * wave
    body = {
        "size": SIZE,
        "limit": LIMIT,
        "in_use": used,
        "most_in_use": math.ceil(used) + 1,
        "idle": max(0, SIZE - math.ceil(used)),
        "waiting": 0,
        "checkouts": int(400 * wave),
        "wait_s": 0.02 * wave,
        "longest_p95_s": 0.0004 * wave,
        "over_s": 60.0,
    }
    return Event("pool", at, "another:1", used, body)

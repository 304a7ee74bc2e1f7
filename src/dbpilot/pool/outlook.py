"""What a look at a pool means: how close is it to its limit, and who keeps connections?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from dbpilot.config import PoolConfig
from dbpilot.pool.resizable import Hold
from dbpilot.pool.sample import PoolSample, seconds_left

TREND: Final = timedelta(seconds=60)
SOON_S: Final = 300.0
"""A pool that is full within so long deserves a warning now."""
WORTH_A_TREND: Final = 0.5
"""With less of the limit in use, a load that has only just begun looks like one that grows for ever."""
SHOWN_HOLDERS: Final = 10


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who holds a connection, for ``held_s`` seconds already."""

    held_s: float
    callsite: str | None
    """Where it was asked for; None where that was not looked at: beyond a hundred checkouts a second."""
    too_long: bool


@dataclass(frozen=True, slots=True)
class Exhaustion:
    """How close the pool is to its limit."""

    state: Literal["far", "near", "reached", "unknown"]
    share: float | None
    """Of the limit, in use now."""
    seconds_left: float | None
    """Until the limit is reached, if the last minute's trend goes on; None where the use does not grow."""
    message: str


def exhaustion_of(recent: Sequence[PoolSample], config: PoolConfig) -> Exhaustion:
    """How close the latest samples come to the limit."""
    last = recent[-1] if recent else None
    limit = last.limit if last else None
    if last is None or limit is None:
        return Exhaustion("unknown", None, None, "the pool has no limit that could be reached, or cannot be counted")
    share = last.in_use / max(1, limit)  # a process that has no lease yet may open none
    left_s = seconds_left([sample for sample in recent if last.at - sample.at <= TREND])
    used = f"{last.in_use:.0f} of {limit} connections are in use"
    if last.in_use >= limit or last.timeouts:
        waits = f", {last.waiting} callers wait" if last.waiting else ""
        return Exhaustion("reached", share, 0.0, f"{used}{waits}")
    if share >= config.warn_at:
        return Exhaustion("near", share, left_s, used)
    if left_s is not None and left_s <= SOON_S and share >= WORTH_A_TREND:
        return Exhaustion("near", share, left_s, f"{used}, and it is full in {left_s:.0f} s at this pace")
    return Exhaustion("far", share, left_s, used)


def slow_connect_s(recent: Sequence[PoolSample], config: PoolConfig) -> float | None:
    """How long it took lately to open a connection, where that is too long; in seconds."""
    last = recent[-1].at if recent else None
    opened = [sample for sample in recent if sample.opened and last is not None and last - sample.at <= TREND]
    took_s = max((sample.connect_s / sample.opened for sample in opened), default=0.0)
    return took_s if took_s >= config.slow_connect_s else None


def holders_of(holds: Iterable[Hold], config: PoolConfig) -> list[Holder]:
    """Who holds connections."""
    found = [Holder(hold.age_s, hold.where, hold.age_s >= config.long_hold_s) for hold in holds]
    return found[:SHOWN_HOLDERS]

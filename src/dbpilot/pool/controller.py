"""How large should the pool be? Pure: what was seen goes in, a size and the reason for it come out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from dbpilot.config import PoolConfig


@dataclass(frozen=True, slots=True)
class PoolSample:
    """A pool over a short time that ended ``at``."""

    at: datetime
    size: int
    limit: int | None
    """The most connections there may be; None for no limit."""
    in_use: float
    """Connections in use, on the average."""
    most_in_use: int
    idle: int
    waiting: int
    """The most callers that waited at once."""
    checkouts: int = 0
    wait_s: float = 0.0
    """How often a connection was asked for, and how long all of them waited together."""
    longest_p95_s: float = 0.0
    """The p95 of the waits; of merged samples the longest."""
    created: int = 0
    closed: int = 0
    failed: int = 0
    timeouts: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What a review comes to."""

    at: datetime
    action: Literal["grow", "shrink", "keep"]
    before: int
    size: int
    utilization: float
    """The share of ``before`` that was in use."""
    reason: str


def decide(samples: Sequence[PoolSample], config: PoolConfig, now: datetime) -> Decision | None:
    """The size that the samples since the last review ask for; None where there are none.

    The rule: the average share of the size that was in use, against two thresholds. A new size puts the use in the
    middle between them, so that it is far from both.
    """
    recent = [sample for sample in samples if now - sample.at <= timedelta(seconds=config.review_s)]
    if not recent:
        return None
    size = recent[-1].size
    in_use = sum(sample.in_use for sample in recent) / len(recent)
    utilization = in_use / size
    wanted = resized(utilization, size, config)
    seen = f"{in_use:.1f} of {size} connections were in use ({utilization:.0%})"
    if wanted == size:
        return Decision(now, "keep", size, size, utilization, f"{seen}: {_why_kept(utilization, size, config)}")
    if wanted > size:
        cause = "smaller than the least" if size < config.min_size else f"from {config.grow_at:.0%} on it grows"
        return Decision(now, "grow", size, wanted, utilization, f"{seen}: {cause}")
    cause = "larger than the most" if size > config.max_size else f"down to {config.shrink_at:.0%} it shrinks"
    return Decision(now, "shrink", size, wanted, utilization, f"{seen}: {cause}")


def resized(utilization: float, size: int, config: PoolConfig) -> int:
    """The size that follows from one of which this share was in use."""
    fitting = math.ceil(utilization * size / ((config.grow_at + config.shrink_at) / 2))
    if utilization >= config.grow_at:
        size = max(size + 1, fitting)
    elif utilization <= config.shrink_at:
        size = min(size - 1, fitting)
    return min(max(size, config.min_size), config.max_size)


def _why_kept(utilization: float, size: int, config: PoolConfig) -> str:
    if utilization >= config.grow_at:
        return f"it would grow, but {config.max_size} is the most"
    if utilization <= config.shrink_at:
        return f"it would shrink, but {config.min_size} is the least"
    return f"between {config.shrink_at:.0%} and {config.grow_at:.0%} a size of {size} fits"


def seconds_left(samples: Sequence[PoolSample]) -> float | None:
    """The time until the limit is reached if the use goes on growing as it did over the samples (least squares).

    None where it does not grow, there is no limit, or too little was seen.
    """
    if len(samples) < 10 or samples[-1].limit is None:
        return None
    times = [(sample.at - samples[0].at).total_seconds() for sample in samples]
    used = [sample.in_use for sample in samples]
    middle, mean = sum(times) / len(times), sum(used) / len(used)
    spread = sum((time - middle) ** 2 for time in times)
    if spread == 0:
        return None
    slope = sum((time - middle) * (use - mean) for time, use in zip(times, used, strict=True)) / spread
    left = samples[-1].limit - (mean + slope * (times[-1] - middle))
    return max(0.0, left / slope) if slope > 1e-3 else None


def merged(samples: Sequence[PoolSample]) -> PoolSample:
    """The samples, at least one of them, as one over all of their time."""
    last = samples[-1]
    return PoolSample(
        at=last.at,
        size=last.size,
        limit=last.limit,
        in_use=sum(sample.in_use for sample in samples) / len(samples),
        most_in_use=max(sample.most_in_use for sample in samples),
        idle=last.idle,
        waiting=max(sample.waiting for sample in samples),
        checkouts=sum(sample.checkouts for sample in samples),
        wait_s=sum(sample.wait_s for sample in samples),
        longest_p95_s=max(sample.longest_p95_s for sample in samples),
        created=sum(sample.created for sample in samples),
        closed=sum(sample.closed for sample in samples),
        failed=sum(sample.failed for sample in samples),
        timeouts=sum(sample.timeouts for sample in samples),
    )

"""How large should the pool be? Pure: what was seen goes in, a size and the reason for it come out."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from dbpilot.config import PoolConfig
from dbpilot.pool.adaptive import adapted
from dbpilot.pool.sample import Decision, PoolSample


def decide(
    samples: Sequence[PoolSample], config: PoolConfig, now: datetime, ceiling: int | None = None
) -> Decision | None:
    """The size that the samples, oldest first, ask for; None where there are none.

    Args:
        samples: what was seen of the pool lately; of about a second each.
        config: the bounds, and which policy decides: "adaptive", or else the thresholds.
        now: the present instant.
        ceiling: the most connections that the adaptive policy may allow, overflow included; None for no limit.
    """
    if config.mode == "adaptive":
        return adapted(samples, config, now, ceiling)
    return by_thresholds(samples, config, now)


def by_thresholds(samples: Sequence[PoolSample], config: PoolConfig, now: datetime) -> Decision | None:
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

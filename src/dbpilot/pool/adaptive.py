"""The adaptive policy: follows within seconds what is asked of the pool, and what the database makes of it.

Two figures come out. The *size*, how many connections stay open, follows the demand: by Little's law (J. Little, "A
Proof for the Queuing Formula L = lambda W", 1961) the rate at which connections are asked for times how long each is
held, plus twice the square root of that, about what chance adds. It grows at once and shrinks late.

The *limit*, how many there may be at most, follows the database. Once it is saturated, more statements at once only
take longer, each. How many times longer than at its best is the slowdown; so many times fewer connections would do the
same work. That is the bottleneck rate times the unloaded time: the operating point that L. Kleinrock showed to be the
best (1979). The unloaded time is only known from when there was little load; a process that has seen none since it
started steps down once, to see.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import fmean, median
from typing import Final, Literal

from dbpilot.config import PoolConfig
from dbpilot.pool.sample import Decision, PoolSample

SPARE: Final = 0.8
"""The size shrinks only to this share of it or less: by one more or less nobody gains anything."""
PART: Final = 3
"""Samples that are taken together: one second alone says little."""
FULL: Final = 0.8
"""The share of the limit in use from which on there is hardly room for more."""
SATURATED: Final = 5
"""In so many samples the database has to be slow before the limit comes down: a burst is shorter."""
SHRINK_AFTER: Final = timedelta(seconds=10)
"""The size follows the largest demand of this time, so it shrinks only after so long."""
PAUSE: Final = timedelta(seconds=30)
"""After a step was taken back, the next one that way waits for so long; after another, twice as long."""
SLOW: Final = 1.6
"""From this slowdown on the database is saturated; a statement takes so many times longer than at its best."""
WELL: Final = 1.25
"""Below this slowdown more connections would do more work."""
SHARED: Final = 3
"""With fewer connections in use, it is not this process that keeps the database busy."""
HEADROOM: Final = 1.25
"""What is left above the operating point, so that the database never idles while somebody waits."""
WORTH: Final = 0.93
"""A step down after which less than this share of the work is done is taken back,"""
MORE: Final = 1.02
"""and one up after which not so many times the work is."""
STEADY: Final = 4
"""Samples that tell how much work is done at one limit."""


def adapted(samples: Sequence[PoolSample], config: PoolConfig, now: datetime, ceiling: int | None) -> Decision | None:
    """The size and the limit that the samples, oldest first, ask for; None where there are none.

    Without a ``ceiling`` the limit is never raised above what it is.
    """
    if not samples:
        return None
    last = samples[-1]
    limit, why_limit = _limit(samples, ceiling)
    size, why_size = _size(samples, config, now)
    if limit is not None:
        size = min(size, limit)
    utilization = last.in_use / last.size
    if limit != last.own_limit and limit is not None and last.own_limit is not None:
        action: Literal["grow", "shrink"] = "grow" if limit > last.own_limit else "shrink"
        return Decision(now, action, last.size, size, utilization, why_limit, limit)
    if size != last.size:
        return Decision(now, "grow" if size > last.size else "shrink", last.size, size, utilization, why_size, limit)
    return Decision(now, "keep", size, size, utilization, why_size, limit)


def _size(samples: Sequence[PoolSample], config: PoolConfig, now: datetime) -> tuple[int, str]:
    """How many connections stay open, and why."""
    last, lately = samples[-1], _since(samples, SHRINK_AFTER)
    needed = max(_needed(part) for part in _parts(lately))
    fitting = min(max(math.ceil(needed + 2 * math.sqrt(needed)), config.min_size), config.max_size)
    seen = f"{needed:.1f} connections are needed at once"
    if fitting > last.size:
        return fitting, seen
    known = samples[0].at <= now - SHRINK_AFTER and all(sample.size == last.size for sample in lately)
    if last.size > config.max_size or (fitting <= SPARE * last.size and known):
        return fitting, f"for {SHRINK_AFTER.total_seconds():.0f} s no more than {seen}"
    return max(last.size, config.min_size), f"{seen}: a size of {last.size} fits"


def _needed(samples: Sequence[PoolSample]) -> float:
    """Connections that would have been in use at once, had there been enough."""
    return fmean(sample.demand for sample in samples) + median(sample.waiting or 0 for sample in samples)


def _limit(samples: Sequence[PoolSample], ceiling: int | None) -> tuple[int | None, str]:
    """The most connections from now on, and why; the present limit where nothing speaks for another."""
    limit = samples[-1].own_limit
    if limit is None:
        return None, ""
    most, steps = max(limit, ceiling or limit), list(_steps(samples))
    step = steps[0] if steps else None
    if step is not None and _was_vain(step):
        return _taken_back(step, limit)
    settled = samples if step is None else step.after[1:]  # in the first second some of the old statements end
    recent = settled[-SATURATED:]
    if len(recent) < STEADY:
        return limit, ""
    slowdown = _slowdown(recent)
    if all(_is_slow(sample) for sample in recent) and slowdown is not None and not _is_paused(steps, up=False):
        fewer = max(1, math.ceil(fmean(sample.in_use for sample in recent) / slowdown * HEADROOM))
        if fewer < limit:
            return fewer, f"statements take {slowdown:.1f} x as long as at their best: fewer at once do as much"
    if not any(_is_full(sample) for sample in recent):
        return (most, "nobody waits: there is room for a burst") if limit < most else (limit, "")
    if not all(_is_full(sample) for sample in recent):
        return limit, ""
    if slowdown is not None and slowdown <= WELL and limit < most and not _is_paused(steps, up=True):
        more = min(most, math.ceil(limit * HEADROOM))
        return more, f"callers wait, and statements take only {slowdown:.1f} x as long as at their best"
    if limit > 1 and not any(_is_light(sample, limit) for sample in samples):
        return limit // 2, "callers wait, and the database was not seen with less load: trying half of it"
    return limit, ""


def _taken_back(step: "_Step", limit: int) -> tuple[int, str]:
    """The limit after a step that was not worth it; after one down not quite as high as before: there was a reason."""
    if step.is_up:
        return step.was, "more connections did no more work"
    return min(step.was, 2 * limit), "fewer connections did less work"


def _is_paused(steps: Sequence["_Step"], *, up: bool) -> bool:
    """Whether a step in this direction was taken back a while ago; the more often, the longer the next one waits."""
    taken_back = [later for later, earlier in pairwise(steps) if earlier.is_up == up and later.takes_back(earlier)]
    if not taken_back:
        return False
    return steps[0].after[-1].at - taken_back[0].after[0].at < PAUSE * (1 << (len(taken_back) - 1))


@dataclass(frozen=True, slots=True)
class _Step:
    """The last change of the limit: what was seen just before it, and since."""

    before: Sequence[PoolSample]
    after: Sequence[PoolSample]

    @property
    def was(self) -> int:
        """The limit before."""
        return self.before[-1].own_limit or 0

    @property
    def is_up(self) -> bool:
        """Whether the limit was raised."""
        return self.was < (self.after[0].own_limit or 0)

    def takes_back(self, earlier: "_Step") -> bool:
        """Whether the earlier step had not been worth it: this one goes the other way while as much is asked for."""
        return self.is_up != earlier.is_up and _is_full(self.before[-1])


def _steps(samples: Sequence[PoolSample]) -> Iterator[_Step]:
    """The changes of the limit, the last one first."""
    end = len(samples)
    for number in range(len(samples) - 1, 0, -1):
        if samples[number].own_limit != samples[number - 1].own_limit:
            yield _Step(samples[max(0, number - STEADY) : number], samples[number:end])
            end = number


def _was_vain(step: _Step) -> bool:
    """Whether after a step up no more work is done, or after one down less; told once, as soon as that is clear."""
    settled = step.after[1:]
    if len(settled) != STEADY or not all(_is_full(sample) for sample in settled):
        return False
    if step.is_up and not all(_is_full(sample) for sample in step.before):
        return False
    did, does = (fmean(sample.per_s for sample in samples) for samples in (step.before, settled))
    return does < (MORE if step.is_up else WORTH) * did


def _is_full(sample: PoolSample) -> bool:
    """Whether there are hardly any connections left to hand out."""
    return bool(sample.waiting) or (sample.limit is not None and sample.in_use >= FULL * sample.limit)


def _is_slow(sample: PoolSample) -> bool:
    """Whether the database is saturated, as far as the sample shows, and by this process at least in part."""
    return sample.slowdown is not None and sample.slowdown >= SLOW and sample.in_use >= SHARED


def _is_light(sample: PoolSample, limit: int) -> bool:
    """Whether the sample shows the database under at most half of this load."""
    return sample.slowdown is not None and sample.in_use <= limit / 2


def _slowdown(samples: Sequence[PoolSample]) -> float | None:
    known = [sample.slowdown for sample in samples if sample.slowdown is not None]
    return median(known) if known else None


def _since(samples: Sequence[PoolSample], age: timedelta) -> Sequence[PoolSample]:
    """The latest samples, up to this age."""
    end = samples[-1].at
    return [sample for sample in samples if end - sample.at < age]


def _parts(samples: Sequence[PoolSample]) -> Iterator[Sequence[PoolSample]]:
    """The samples by the few that are short enough to be now."""
    for first in range(0, len(samples), PART):
        yield samples[first : first + PART]

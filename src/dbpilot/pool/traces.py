"""Made traces: requests as a day would bring them, drawn from a seed."""

import random
from typing import Final

from dbpilot.pool.simulation import Request

SEED: Final = 7
MEDIAN_S: Final = 0.015
LONG_S: Final = 0.1
LONG_SHARE: Final = 0.04
STEPS: Final = 2000
"""The day is drawn in so many parts; within each the requests are spread evenly."""
SHAPE: Final = ((0.0, 0.15), (0.25, 0.15), (0.33, 1.0), (0.345, 10.0), (0.38, 3.0), (0.5, 0.6), (0.75, 0.6), (0.9, 2.5))
"""Pairs of a time of the day (0 to 1) and how busy it is; straight lines between."""
END: Final = (1.0, 0.2)


def market_day(length_s: float, requests: int, seed: int = SEED) -> list[Request]:
    """The requests of a market's day that is so long, in order; the same for the same seed.

    A quiet night, a ramp, an opening that is ten times as busy within a moment, a lull, a closing ramp. A request takes
    15 ms in the median, and one in twenty-five 100 ms.
    """
    rng = random.Random(seed)  # noqa: S311 - nothing secret is drawn
    weights = [_busyness(step / STEPS) for step in range(STEPS)]
    starts = sorted(rng.choices(range(STEPS), weights, k=requests))
    return sorted(
        (Request((step + rng.random()) / STEPS * length_s, _takes_s(rng)) for step in starts), key=lambda one: one.at_s
    )


def _busyness(time_of_day: float) -> float:
    earlier = max(point for point in SHAPE if point[0] <= time_of_day)
    later = min((point for point in SHAPE if point[0] > time_of_day), default=END)
    share = (time_of_day - earlier[0]) / (later[0] - earlier[0])
    return earlier[1] + share * (later[1] - earlier[1])


def _takes_s(rng: random.Random) -> float:
    return LONG_S if rng.random() < LONG_SHARE else MEDIAN_S * rng.lognormvariate(0, 0.3)

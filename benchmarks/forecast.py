"""bench-forecast: how well the pool knows what will be asked of it, on made weeks of a market.

python -m benchmarks.forecast [--series 20]

Each series is one application: connections in use by minute, drawn from a seed. The market opens with a spike and
closes with an auction, on weekdays; days and hours are busier or quieter than others, news comes at any time, and the
application is away now and again. Four weeks are learned, among them a holiday and a half day, and the fifth, which
has both as well, is forecast. The market is made as the forecast thinks that markets are: it flatters every model that
knows a calendar.
"""

import argparse
import timeit
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.report import Figure, publish
from dbpilot.pool.forecast import LEVEL_MINUTES, Demand, Profile, demand_of, forecast, learned, level_of
from dbpilot.pool.foresight import AHEAD_S

SEED: Final = 7
ZONE: Final = ZoneInfo("America/New_York")
FIRST: Final = datetime(2026, 2, 9, tzinfo=ZONE)
"""A Monday; clocks are put forward on 8 March, the last day that is learned."""
LEARNED_DAYS: Final = 28
TESTED_DAYS: Final = 7
HOLIDAYS: Final = frozenset({7, 30})
HALF_DAYS: Final = frozenset({18, 31})
"""Numbers of days since the first: of each one that is learned, and one that is forecast."""
OPENS: Final = 570
CLOSES: Final = 960
CLOSES_EARLY: Final = 780
"""Minutes of the day."""
AHEAD: Final = round(AHEAD_S / 60)
"""Minutes that the pool looks ahead."""
MINUTES: Final = 1440
LOOKS_PER_MINUTE: Final = 20

OURS: Final = "ours"
PROFILE: Final = "the profile alone"
AS_NOW: Final = "as in the last minutes"
YESTERDAY: Final = "yesterday"
LAST_WEEK: Final = "last week"
NAIVE: Final = (AS_NOW, YESTERDAY, LAST_WEEK)
TRUE: Final = "the true mean"
WAS: Final = "what was"

Floats: TypeAlias = npt.NDArray[np.float64]
Where: TypeAlias = npt.NDArray[np.bool_]
Models: TypeAlias = dict[str, Floats]
"""What each model said, by the days and minutes of the last week."""


@dataclass(frozen=True)
class Series:
    """Connections in use, the most in each minute, over all days; NaN while the application was away."""

    days: Floats
    """By day and minute of the day, by the market's clock."""
    true: Floats
    """What they were drawn from: nobody can know more."""


def series(seed: int) -> Series:
    """One application's weeks."""
    rng = np.random.default_rng(seed)
    days = LEARNED_DAYS + TESTED_DAYS
    rate = np.array([_day(number, rng) for number in range(days)]) * rng.lognormal(0, 0.6)
    rate *= _wandering(rng, rate.size).reshape(rate.shape)
    drawn = np.array([_most(rate, rng) for _ in range(16)])
    seen = drawn[:4].mean(axis=0)  # four processes
    for _ in range(6):
        gone = rng.integers(LEARNED_DAYS * MINUTES - 300)
        seen.reshape(-1)[gone : gone + rng.integers(5, 300)] = np.nan
    return Series(seen, drawn.mean(axis=0))


def _day(number: int, rng: np.random.Generator) -> Floats:
    """How many connections are in use on the average, by minute."""
    minutes = np.arange(MINUTES)
    night = 0.4 + 0.3 * np.exp(-(((minutes - 1200) / 120) ** 2))
    if _is_closed(number):
        return night * rng.lognormal(0, 0.2)
    closes = CLOSES_EARLY if number in HALF_DAYS else CLOSES
    open_ = (minutes >= OPENS) & (minutes < closes)
    since, left = np.maximum(minutes - OPENS, 0), np.maximum(closes - minutes, 0)
    trading = 3 + 2 * np.exp(-since / 90) + 2 * np.exp(-left / 60)
    spike = 14 * rng.lognormal(0, 0.2) * np.exp(-since / 6)
    auction = np.where(left <= 10, 5 * rng.lognormal(0, 0.2), 0)
    before = np.where(minutes < OPENS, 1.5 * np.exp(-(OPENS - minutes) / 60), 0)
    after = np.where(minutes >= closes, 1.5 * np.exp(-(minutes - closes) / 60), 0)
    busy: Floats = night + before + after + open_ * (trading + spike + auction)
    return busy * rng.lognormal(0, 0.2)


def _is_closed(number: int) -> bool:
    return number % 7 >= 5 or number in HOLIDAYS


def _wandering(rng: np.random.Generator, minutes: int) -> Floats:
    """How much busier than usual it is by minute: hours that go together, and news that come at once and fade."""
    keeps, steps = np.exp(-1 / 90), rng.normal(0, 1, minutes)
    level = np.zeros(minutes)
    for minute in range(1, minutes):
        level[minute] = keeps * level[minute - 1] + np.sqrt(1 - keeps**2) * steps[minute]
    news = np.zeros(minutes)
    for start in np.flatnonzero(rng.random(minutes) < 1.5 / MINUTES):
        news[start : start + 60] += rng.exponential(0.8) * np.exp(-np.arange(60) / 15)[: minutes - start]
    wandering: Floats = np.exp(0.2 * level) * (1 + news)
    return wandering


def _most(rate: Floats, rng: np.random.Generator) -> Floats:
    """The most connections that one process has in use in each minute."""
    most: Floats = rng.poisson(rate, (LOOKS_PER_MINUTE, *rate.shape)).max(axis=0).astype(float)
    return most


def demands(one: Series) -> tuple[list[Demand], list[Demand]]:
    """What is learned, and what comes after it."""
    last = FIRST + timedelta(days=LEARNED_DAYS)
    known = [
        Demand(at.astimezone(UTC), float(connections))
        for number, day in enumerate(one.days)
        for minute, connections in enumerate(day)
        if (at := _at(number, minute)) is not None and not np.isnan(connections)
    ]
    return [demand for demand in known if demand.minute < last], [demand for demand in known if demand.minute >= last]


def _at(number: int, minute: int) -> datetime | None:
    """The instant of a day's minute; None in the hour that is left out when clocks are put forward."""
    at = FIRST + timedelta(days=number, minutes=minute)
    return at if at.astimezone(UTC).astimezone(ZONE).hour == at.hour else None


def learned_from(one: Series) -> tuple[Profile, list[Demand], list[Demand]]:
    """What is known of the series when its last week begins, that week, and the minutes that go before each of it."""
    known, coming = demands(one)
    profile = learned(known, ZONE)
    if profile is None:
        raise RuntimeError("four weeks are enough to learn from")
    return profile, coming, known[-LEVEL_MINUTES:] + coming


def by_the_hour(one: Series) -> Models:
    """At each full hour, what is expected of each of the next sixty minutes."""
    profile, coming, before = learned_from(one)
    usual = profile.usual(np.array([int(demand.minute.timestamp()) for demand in coming])).reshape(TESTED_DAYS, MINUTES)
    hours = range(0, len(coming), 60)
    lately = [np.mean([demand.connections for demand in before[hour : hour + LEVEL_MINUTES]]) for hour in hours]
    levels = [level_of(profile, before[hour : hour + LEVEL_MINUTES], coming[hour].minute) for hour in hours]
    return {
        OURS: usual * np.repeat(levels, 60).reshape(usual.shape),
        PROFILE: usual,
        AS_NOW: np.repeat(lately, 60).reshape(usual.shape),
        YESTERDAY: one.days[LEARNED_DAYS - 1 : -1],
        LAST_WEEK: one.days[LEARNED_DAYS - 7 : -7],
        TRUE: one.true[LEARNED_DAYS:],
        WAS: one.days[LEARNED_DAYS:],
    }


def soon(one: Series) -> Models:
    """In each minute, the most that is expected of this one and the next ones: what the pool asks."""
    profile, coming, before = learned_from(one)
    most = [
        forecast(profile, before[number : number + LEVEL_MINUTES], demand.minute, AHEAD * 60).connections
        for number, demand in enumerate(coming)
    ]
    lately = one.days.reshape(-1)[LEARNED_DAYS * MINUTES - AHEAD - 1 : -1]
    return {
        OURS: np.array(most).reshape(TESTED_DAYS, MINUTES),
        AS_NOW: sliding_window_view(lately, AHEAD + 1).max(axis=1).reshape(TESTED_DAYS, MINUTES),
        YESTERDAY: _most_of_next(one.days)[LEARNED_DAYS - 1 : -1],
        LAST_WEEK: _most_of_next(one.days)[LEARNED_DAYS - 7 : -7],
        TRUE: _most_of_next(one.true)[LEARNED_DAYS:],
        WAS: _most_of_next(one.days)[LEARNED_DAYS:],
    }


def _most_of_next(days: Floats) -> Floats:
    """Of each minute and the next ones the most; of the last minutes, of those that are left."""
    padded = np.concatenate([days.reshape(-1), np.full(AHEAD, -np.inf)])
    most: Floats = sliding_window_view(padded, AHEAD + 1).max(axis=1).reshape(days.shape)
    return most


def wape(of_all: Sequence[Models], name: str, where: Where) -> float:
    """All that was missed, as a percentage of all that was; where the application was away, no model is judged."""
    missed = total = 0.0
    for models in of_all:
        judged = where & ~np.isnan(np.array(list(models.values()))).any(axis=0)
        missed += float(np.abs(models[name] - models[WAS])[judged].sum())
        total += float(models[WAS][judged].sum())
    return 100 * missed / total


def errors(of_all: Sequence[Models], title: str, places: dict[str, Where]) -> Iterator[Figure]:
    """Ours beside all others."""
    for place, where in places.items():
        found = {name: wape(of_all, name, where) for name in of_all[0] if name != WAS}
        ours = found.pop(OURS)
        best = min(value for name, value in found.items() if name in NAIVE)
        yield Figure(f"{title}, {place}", ours, "%", found, "less than the best naive one", ours < best)


def places(opening: str, first: int, last: int) -> dict[str, Where]:
    """Where errors are looked at, among the days that are forecast; the last place are these minutes of the opening."""
    day, minute = np.arange(TESTED_DAYS)[:, None] + LEARNED_DAYS, np.arange(MINUTES)[None, :]
    special = np.isin(day, [*HOLIDAYS, *HALF_DAYS])
    trading = (day % 7 < 5) & ~np.isin(day, [*HOLIDAYS])
    return {
        "always": np.ones((TESTED_DAYS, MINUTES), dtype=bool),
        "while the market is open": trading & (minute >= OPENS) & (minute < CLOSES),
        "on the holiday and the half day": special & (minute >= 0),
        opening: trading & (minute >= first) & (minute < last),
    }


def shortfall(of_all: Sequence[Models]) -> float:
    """How much more came than was expected, as a percentage of what came."""
    said, was = (sum(float(models[name].sum()) for models in of_all) for name in (OURS, WAS))
    return 100 * (was - said) / was


def speed(one: Series) -> Iterator[Figure]:
    """How long it takes to learn four weeks, and to forecast."""
    profile, coming, _ = learned_from(one)
    known, _ = demands(one)
    values = [(demand.minute, f"host:{process}", demand.connections) for demand in known for process in range(4)]
    reading_s = min(timeit.repeat(lambda: demand_of(values), number=1, repeat=5))
    learning_s = min(timeit.repeat(lambda: learned(known, ZONE), number=1, repeat=5))
    recent, now = coming[:60], coming[60].minute
    forecast_ms = min(timeit.repeat(lambda: forecast(profile, recent, now, AHEAD * 60), number=100, repeat=9)) * 10
    yield Figure("demand of four processes, from their values of 28 days", reading_s, "s")
    yield Figure("learning 28 days of minutes", learning_s, "s", {}, "less than 0.2 s", learning_s < 0.2)
    yield Figure("one forecast", forecast_ms, "ms", {}, "less than 1 ms", forecast_ms < 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """The figures are measured, printed and kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forecast", description=__doc__)
    parser.add_argument("--series", type=int, default=20)
    options = parser.parse_args(arguments)
    all_ = [series(SEED + number) for number in range(options.series)]
    hourly, pool = [by_the_hour(one) for one in all_], [soon(one) for one in all_]
    within = f"the most within {AHEAD} minutes"
    figures = [
        *errors(hourly, "the next hour, minute by minute: error", places("at the opening", OPENS, OPENS + 3)),
        *errors(pool, f"{within}: error", places("just before the opening", OPENS - AHEAD, OPENS)),
        Figure(f"{within}: more came than was expected, by", shortfall(pool), "%"),
        *speed(all_[0]),
    ]
    publish("forecast", SEED, figures)


if __name__ == "__main__":
    main()

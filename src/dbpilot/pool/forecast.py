"""How many connections will be asked for soon? Pure: the day's shape, learned from the past, times how busy today is.

A median per kind of day and minute is hard to beat for demand that follows the clock, and a holiday or an incident
among the days does not move it. What it cannot know, whether today is busier than usual, the last minutes tell.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

MINUTE_S: Final = 60
MINUTES_PER_DAY: Final = 1440
QUARTER_S: Final = 900
"""Clocks are put forward and back at full quarters of an hour."""
DAY_S: Final = 86_400
DAYS_PER_WEEK: Final = 7

LEAST_SPAN_S: Final = 2 * DAY_S
LEAST_MINUTES: Final = MINUTES_PER_DAY
"""From less than two days nothing is learned, nor from a few minutes here and there."""
KINDS: Final = ((0, 1, 2, 3, 4), (5, 6))
"""The weekdays that are one kind until they show that they are not: after a Monday, nobody has seen a Tuesday yet."""
WEEKDAYS: Final = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")
OWN_KIND_DAYS: Final = 3
"""So many Fridays that agree with each other, and not with the other days, are no coincidence."""
OWN_KIND_ERROR: Final = 0.6
"""What they leave unexplained, beside what the other days' profile leaves."""
STRANGE_ERROR: Final = 0.25
STRANGE_TIMES: Final = 2.5
"""A day is strange that misses its kind's profile by this share of it, and by so many times more than days usually do:
a holiday, a half day, an incident."""
LEAST_SEEN: Final = 60
"""A day of which fewer minutes were seen says too little of what days are like."""

LEVEL_MINUTES: Final = 20
"""How busy today is shows in the last minutes: fewer are noisy, more are late."""
LEVEL_DOUBT: Final = 10.0
"""Connection-minutes, as usual, that are thought to have been seen besides: at night a connection more says little."""
LEAST_LEVEL: Final = 0.25
MOST_LEVEL: Final = 3.0
"""A level beyond is no busier day, but something that the profile does not know."""
AS_USUAL: Final = 0.05

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Value: TypeAlias = tuple[datetime, str, float]
"""Instant, process, and the most connections that it had in use at once."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What was asked of a pool in the minute that begins at ``minute``."""

    minute: datetime
    connections: float
    """The most connections in use at once, per process."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is expected of the time to come."""

    connections: float
    """The most in use at once, per process."""
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """Days that look alike."""

    name: str
    days: int
    """How many of them were seen, strange ones left out."""
    course: Floats
    """Connections by minute of the day; NaN for minutes that were never seen."""


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """The day's shape, by the clock of ``timezone``; None for the machine's own."""

    timezone: tzinfo | None
    kinds: tuple[Kind | None, ...]
    """By weekday, from Monday; None for one of whose kind no day was seen."""

    def usual(self, minutes_s: Integers) -> Floats:
        """The connections that are usually in use in the minutes that begin then; NaN where nothing is known."""
        courses = np.array([_UNKNOWN if kind is None else kind.course for kind in self.kinds])
        local_s = _local(minutes_s, self.timezone)
        found: Floats = courses[_weekday(local_s // DAY_S), local_s % DAY_S // MINUTE_S]
        return found


def demand_of(values: Iterable[Value]) -> list[Demand]:
    """What was asked of the pools in each minute: the most of each process, on the average over those that were there.

    In order of time.
    """
    known = list(values)
    if not known:
        return []
    minutes = np.fromiter((at.timestamp() // MINUTE_S for at, _, _ in known), np.int64, len(known))
    numbers: dict[str, int] = {}
    processes = np.fromiter((numbers.setdefault(process, len(numbers)) for _, process, _ in known), np.int64)
    pairs, places = np.unique(minutes * len(numbers) + processes, return_inverse=True)
    most = np.full(len(pairs), -np.inf)
    np.maximum.at(most, places, [value for _, _, value in known])
    seen, starts, counts = np.unique(pairs // len(numbers), return_index=True, return_counts=True)
    means = np.add.reduceat(most, starts) / counts
    return [
        Demand(_instant(minute * MINUTE_S), mean) for minute, mean in zip(seen.tolist(), means.tolist(), strict=True)
    ]


def learned(demands: Sequence[Demand], timezone: tzinfo | None = None) -> Profile | None:
    """The day's shape; None from less than two days.

    A market opens by the clock on its wall, summer and winter: ``timezone`` says which, None the machine's own.
    """
    minutes_s, connections = _columns(demands)
    enough = len(minutes_s) > 0 and np.ptp(minutes_s) + MINUTE_S >= LEAST_SPAN_S
    if not enough or len(np.unique(minutes_s)) < LEAST_MINUTES:
        return None
    weekdays, days = _days(_local(minutes_s, timezone), connections)
    kinds: dict[int, Kind] = {}
    for members in KINDS:
        kinds |= _kinds(members, weekdays, days)
    return Profile(timezone, tuple(kinds.get(weekday) for weekday in range(DAYS_PER_WEEK)))


def forecast(profile: Profile, recent: Sequence[Demand], now: datetime, ahead_s: float) -> Expectation:
    """The most connections that are expected from now until ``ahead_s`` later.

    ``recent`` are the last minutes that are over; others among them are left out.
    """
    minutes_s = _minutes(now, ahead_s)
    usual, level = profile.usual(minutes_s), level_of(profile, recent, now)
    if np.isnan(usual).all():
        return _as_before(profile, recent, now)
    first = int(np.nanargmax(usual))
    at = max(now, _instant(int(minutes_s[first])))
    return Expectation(float(usual[first]) * level, at, _reason(profile, float(usual[first]), at, level))


def level_of(profile: Profile, recent: Sequence[Demand], now: datetime) -> float:
    """How many times as busy as usual the last minutes were."""
    minutes_s, connections = _columns(_last(recent, now))
    usual = profile.usual(minutes_s)
    known = ~np.isnan(usual)
    level = (connections[known].sum() + LEVEL_DOUBT) / (usual[known].sum() + LEVEL_DOUBT)
    return float(np.clip(level, LEAST_LEVEL, MOST_LEVEL))


def _last(recent: Sequence[Demand], now: datetime) -> list[Demand]:
    """Those of the minutes before this one that say how busy it is."""
    until = _instant(int(now.timestamp()) // MINUTE_S * MINUTE_S)
    since = until - timedelta(minutes=LEVEL_MINUTES)
    return [demand for demand in recent if since <= demand.minute < until]


def _as_before(profile: Profile, recent: Sequence[Demand], now: datetime) -> Expectation:
    local = now.astimezone(profile.timezone)
    reason = f"nothing is known of {WEEKDAYS[local.weekday()]} at {local:%H:%M} yet: as many as in the last minutes"
    return Expectation(max((demand.connections for demand in _last(recent, now)), default=0.0), now, reason)


def _reason(profile: Profile, usual: float, at: datetime, level: float) -> str:
    local = at.astimezone(profile.timezone)
    kind = profile.kinds[local.weekday()]
    name = kind.name if kind is not None else ""
    today = "as busy as usual" if abs(level - 1) <= AS_USUAL else f"{level:.2g} x as busy"
    return f"{name} {usual:.3g} connections are in use at {local:%H:%M}, and today is {today}"


def _kinds(members: tuple[int, ...], weekdays: Integers, days: Floats) -> dict[int, Kind]:
    """One kind for all of these weekdays, but for those that are a kind of their own."""
    own = [weekday for weekday in members if _is_own_kind(weekday, members, weekdays, days)]
    rest = [weekday for weekday in members if weekday not in own]
    found: dict[int, Kind] = {}
    for group in [*([weekday] for weekday in own), rest]:
        its = days[np.isin(weekdays, group)]
        if len(its):
            found |= dict.fromkeys(group, _kind(_name(group), its))
    return found


def _is_own_kind(weekday: int, members: Sequence[int], weekdays: Integers, days: Floats) -> bool:
    """Whether these days resemble each other, and not the other days of their kind."""
    its = days[weekdays == weekday]
    others = days[np.isin(weekdays, members) & (weekdays != weekday)]
    if len(its) < OWN_KIND_DAYS or not len(others):
        return False
    as_others = statistics.median(_errors(its, _median(others)))
    each_left_out = [_errors(its[[number]], _median(np.delete(its, number, 0)))[0] for number in range(len(its))]
    return as_others > STRANGE_ERROR and statistics.median(each_left_out) < OWN_KIND_ERROR * as_others


def _kind(name: str, days: Floats) -> Kind:
    """What these days have in common; strange ones, such as holidays, are left out."""
    errors = np.array(_errors(days, _median(days)))
    bound = max(STRANGE_ERROR, STRANGE_TIMES * float(np.median(errors)))
    usual = days[errors <= bound]
    return Kind(name, len(usual), _median(usual))


def _errors(days: Floats, course: Floats) -> list[float]:
    """How far each day is from the course, as a share of it; 0 for one that has no minute in common with it."""
    missed = np.nansum(np.abs(days - course), axis=1)
    usual = np.where(np.isnan(days), 0.0, np.nan_to_num(course)).sum(axis=1)
    errors: list[float] = (missed / np.maximum(usual, 1.0)).tolist()
    return errors


def _median(days: Floats) -> Floats:
    """The median of each minute over the days that saw it; NaN where none did."""
    ordered, counts = np.sort(days, axis=0), np.count_nonzero(~np.isnan(days), axis=0)
    minutes, last = np.arange(days.shape[1]), np.maximum(counts - 1, 0)  # NaN sorts last
    median: Floats = (ordered[last // 2, minutes] + ordered[(last + 1) // 2, minutes]) / 2
    return median


def _name(weekdays: Sequence[int]) -> str:
    *others, last = [WEEKDAYS[weekday] for weekday in weekdays]
    if len(others) > 1 and weekdays[-1] - weekdays[0] == len(others):
        return f"{others[0]} to {last}"
    return f"{', '.join(others)} and {last}" if others else last


def _days(local_s: Integers, connections: Floats) -> tuple[Integers, Floats]:
    """The weekday of each date that was seen, and its connections by minute; NaN for a minute that was not seen."""
    dates, rows = np.unique(local_s // DAY_S, return_inverse=True)
    days = np.full((len(dates), MINUTES_PER_DAY), np.nan)
    # An hour comes twice when clocks are put back: the larger counts.
    np.fmax.at(days, (rows, local_s % DAY_S // MINUTE_S), connections)
    seen = np.count_nonzero(~np.isnan(days), axis=1) >= LEAST_SEEN
    return _weekday(dates[seen]), days[seen]


def _weekday(dates: Integers) -> Integers:
    """Monday is 0; a date is so many days after 1 January 1970, a Thursday."""
    return (dates + 3) % DAYS_PER_WEEK


def _columns(demands: Sequence[Demand]) -> tuple[Integers, Floats]:
    """The minutes, in seconds since 1970, and their connections."""
    seconds = np.fromiter((demand.minute.timestamp() for demand in demands), np.int64, len(demands))
    connections = np.fromiter((demand.connections for demand in demands), np.float64, len(demands))
    return seconds // MINUTE_S * MINUTE_S, connections


def _minutes(now: datetime, ahead_s: float) -> Integers:
    """The minutes that begin, or go on, from now until then."""
    first, last = now.timestamp() // MINUTE_S, (now.timestamp() + ahead_s) // MINUTE_S
    return np.arange(int(first), int(last) + 1) * MINUTE_S


def _local(seconds: Integers, timezone: tzinfo | None) -> Integers:
    """What the clock on the wall shows then, as seconds since 1970 on that clock."""
    quarters, places = np.unique(seconds // QUARTER_S, return_inverse=True)
    offsets_s = [_offset_s(quarter * QUARTER_S, timezone) for quarter in quarters.tolist()]
    return seconds + np.array(offsets_s, dtype=np.int64)[places]


def _offset_s(second: int, timezone: tzinfo | None) -> int:
    offset = _instant(second).astimezone(timezone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def _instant(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


_UNKNOWN: Final = np.full(MINUTES_PER_DAY, np.nan)

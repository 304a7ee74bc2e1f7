"""Times in the notation of cron(8): minute, hour, day of the month, month, day of the week.

Understood are numbers, names of months and weekdays, lists, ranges, steps, and words like ``@weekly``. As in cron, 0
and 7 are Sunday; where both the day of the month and that of the week are given, either will do.

Where clocks are turned, cron's habits hold, too: a time that the clock leaves out is when it would have been by the old
clock, and a time that comes twice is taken once, unless every hour is meant (``*``).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dbpilot.clock import SYSTEM
from dbpilot.errors import ConfigError

DEFAULT_TIMEZONE: Final = "Asia/Seoul"
WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WORDS: Final[Mapping[str, str]] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
PART: Final = re.compile(r"(?:\*|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>[1-9]\d*))?", re.ASCII)
LONGEST_TURN: Final = timedelta(hours=3)
"""More than clocks are ever turned by, but for islands that change the day."""
INSTALL: Final = "pip install 'dbpilot[retention]'"


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    least: int
    most: int
    names: Mapping[str, int] = field(default_factory=dict)

    def values(self, text: str) -> list[int]:
        """The numbers that a field of cron means, in order.

        Raises:
            ConfigError: it has no meaning; says which field.
        """
        found = {number for part in text.split(",") for number in self._part(part)}
        return sorted({number % 7 if self.most == 7 else number for number in found})

    def _part(self, part: str) -> range:
        match = PART.fullmatch(part)
        if match is None:
            raise self._error(part)
        low, high, step = match["low"], match["high"], int(match["step"] or 1)
        if low is None:
            return range(self.least, self.most + 1, step)
        first = self._number(low)
        last = self._number(high) if high else self.most if match["step"] else first
        if self.most == 7 and high and last == 0:  # until Sunday
            last = 7
        if first > last:
            raise self._error(part)
        return range(first, last + 1, step)

    def _number(self, text: str) -> int:
        number = self.names.get(text.lower(), int(text) if text.isdecimal() else -1)
        if not self.least <= number <= self.most:
            raise self._error(text)
        return number

    def _error(self, said: str) -> ConfigError:
        names = f", {' '.join(self.names)}" if self.names else ""
        return ConfigError(
            f"cron, {self.name}: {said!r} means nothing; it may be *, {self.least} to {self.most}{names}, lists 1,2, "
            "ranges 1-5 and steps */2"
        )


MINUTE: Final = _Field("minute", 0, 59)
HOUR: Final = _Field("hour", 0, 23)
DAY: Final = _Field("day of the month", 1, 31)
MONTH: Final = _Field("month", 1, 12, {name: number for number, name in enumerate(MONTHS, 1)})
WEEKDAY: Final = _Field("day of the week", 0, 7, {name: number for number, name in enumerate(WEEKDAYS)})


@dataclass(frozen=True, slots=True)
class Cron:
    """Recurring times on the clocks of a time zone.

    Raises:
        ConfigError: a field or the zone has no meaning, or no such time ever comes; says which.
    """

    text: str
    timezone: str = DEFAULT_TIMEZONE
    _zone: ZoneInfo = field(init=False, repr=False, compare=False)
    _triggers: tuple[Any, ...] = field(init=False, repr=False, compare=False)
    _each_hour: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fields = _fields(self.text)
        zone = _zone(self.timezone)
        put = partial(object.__setattr__, self)
        put("_zone", zone)
        put("_triggers", _triggers(fields, zone))
        put("_each_hour", fields[1].startswith("*"))
        if self._next(datetime(2000, 1, 1, tzinfo=UTC)) is None:
            raise ConfigError(f"cron, day of the month: {self.text!r} never comes; no such month has that day")

    def after(self, instant: datetime) -> datetime:
        """The first of these times after an instant, in UTC."""
        instant = instant.astimezone(UTC)
        # From within an hour that the clock leaves out, the trigger sees no time of that hour any more.
        start = instant - LONGEST_TURN if self._is_turned_before(instant) else instant
        while (found := self._next(start)) is not None:
            if found > instant and (self._each_hour or not self._came_already(found)):
                return found
            start = found
        raise ConfigError(f"cron: {self.text!r} comes no more after {instant:%Y-%m-%d}")

    def here(self, instant: datetime) -> datetime:
        """The instant on the zone's clocks."""
        return instant.astimezone(self._zone)

    def _next(self, instant: datetime) -> datetime | None:
        later = (instant + timedelta(microseconds=1)).astimezone(self._zone)
        found = (trigger.get_next_fire_time(None, later) for trigger in self._triggers)
        return min((time.astimezone(UTC) for time in found if time is not None), default=None)

    def _is_turned_before(self, instant: datetime) -> bool:
        before, now = (at.astimezone(self._zone).utcoffset() for at in (instant - LONGEST_TURN, instant))
        return before != now

    def _came_already(self, instant: datetime) -> bool:
        """Whether the zone's clocks showed the same time before, and were turned back then."""
        return instant.astimezone(self._zone).fold == 1


def next_run(cron: str, timezone: str = DEFAULT_TIMEZONE, now: datetime | None = None) -> datetime:
    """The next time that is meant, after ``now``: an aware instant in that zone.

    ``next_run("0 2 * * 0")`` is a Sunday, 02:00 in Seoul.

    Raises:
        ConfigError: a field or the zone has no meaning, or no such time ever comes; says which.
    """
    line = Cron(cron, timezone)
    return line.here(line.after(now or SYSTEM.now()))


def _fields(text: str) -> list[str]:
    fields = WORDS.get(text.strip().lower(), text).split()
    if len(fields) != 5:
        raise ConfigError(
            f"cron: {text!r} has {len(fields)} fields instead of 5: minute, hour, day of the month, month, day of the "
            "week"
        )
    return fields


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(f"cron: there is no time zone {name!r}; it is written like Asia/Seoul or UTC") from None


def _triggers(fields: list[str], zone: ZoneInfo) -> tuple[Any, ...]:
    """One for the days of the month and one for those of the week where both are given, else one."""
    minute, hour, day, month, weekday = fields
    told = {"minute": _listed(MINUTE, minute), "hour": _listed(HOUR, hour), "month": _listed(MONTH, month)}
    days = {"day": _listed(DAY, day)}
    # APScheduler's numbers begin on Monday; its names mean what they say.
    weekdays = {"day_of_week": ",".join(WEEKDAYS[number] for number in WEEKDAY.values(weekday))}
    if day.startswith("*") or weekday.startswith("*"):
        return (_trigger(zone, **told, **days, **weekdays),)
    return _trigger(zone, **told, **days, day_of_week="*"), _trigger(zone, **told, day="*", **weekdays)


def _listed(field_: _Field, text: str) -> str:
    return ",".join(map(str, field_.values(text)))


def _trigger(zone: ZoneInfo, **fields: str) -> Any:
    try:
        from apscheduler.triggers.cron import CronTrigger
    except ImportError:
        raise ConfigError(f"a schedule needs APScheduler: {INSTALL}") from None
    return CronTrigger(**fields, second="0", timezone=zone)

"""What is expected of a pool: the day's shape, learned, times how busy today is."""

import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from dbpilot.pool.forecast import (
    LEAST_LEVEL,
    LEVEL_MINUTES,
    MOST_LEVEL,
    WEEKDAYS,
    Demand,
    Profile,
    demand_of,
    forecast,
    learned,
    level_of,
)

MONDAY = datetime(2026, 6, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
NEW_YORK = ZoneInfo("America/New_York")
OPENING = 30.0

Shape = Callable[[datetime], float]


def opening(local: datetime) -> float:
    """A market: on weekdays a spike at nine, then twelve connections until five; two at other times."""
    minute = local.hour * 60 + local.minute
    if local.weekday() >= 5 or not 540 <= minute < 1020:
        return 2.0
    return OPENING if minute < 542 else 12.0


def past(shape: Shape, days: int, start: datetime = MONDAY) -> list[Demand]:
    """What was asked for in each minute of so many days, by the clock of the zone in which they start."""
    began = start.astimezone(UTC)
    minutes = [began + number * MINUTE for number in range(days * 1440)]
    return [Demand(minute, shape(minute.astimezone(start.tzinfo))) for minute in minutes]


def known(shape: Shape, days: int, start: datetime = MONDAY) -> Profile:
    profile = learned(past(shape, days, start), start.tzinfo)
    assert profile is not None
    return profile


def lately(now: datetime, connections: float, minutes: int = 60) -> list[Demand]:
    begins = now.astimezone(UTC).replace(second=0, microsecond=0)
    return [Demand(begins - number * MINUTE, connections) for number in range(minutes, 0, -1)]


@pytest.mark.parametrize("connections", [0.0, 1.0, 7.5, 300.0])
def test_a_flat_history_forecasts_flat(connections: float) -> None:
    profile = known(lambda _: connections, 14)
    for hours in range(0, 7 * 24, 5):
        now = MONDAY + timedelta(days=14, hours=hours, seconds=17)
        expected = forecast(profile, lately(now, connections), now, 3600)
        assert expected.connections == pytest.approx(connections)
        assert "today is as busy as usual" in expected.reason


def test_the_opening_is_expected_before_it_comes_and_not_on_a_saturday() -> None:
    profile = known(opening, 14)
    now = MONDAY + 14 * DAY + timedelta(hours=8, minutes=59)
    expected = forecast(profile, lately(now, 2), now, 120)
    assert (expected.connections, expected.at) == (OPENING, now + MINUTE)
    assert expected.reason == ("Mondays to Fridays 30 connections are in use at 09:00, and today is as busy as usual")
    assert forecast(profile, lately(now, 2), now, 59).connections == 2, "not yet"
    saturday = now + 5 * DAY
    assert forecast(profile, lately(saturday, 2), saturday, 120).connections == 2


def test_the_minute_that_goes_on_counts_and_is_expected_now() -> None:
    now = MONDAY + 14 * DAY + timedelta(hours=9, minutes=1, seconds=30)
    expected = forecast(known(opening, 14), [], now, 300)
    assert (expected.connections, expected.at) == (OPENING, now)


def test_a_busier_day_is_expected_to_stay_busier() -> None:
    profile = known(opening, 14)
    now = MONDAY + 14 * DAY + timedelta(hours=12)
    expected = forecast(profile, lately(now, 18), now, 300)
    assert expected.connections == pytest.approx(18, rel=0.03)
    assert expected.reason.endswith("12 connections are in use at 12:00, and today is 1.5 x as busy")


def test_the_level_is_bounded_and_little_says_little() -> None:
    now = MONDAY + 14 * DAY + timedelta(hours=12)
    day, night = known(opening, 14), known(lambda _: 0.2, 14)
    assert level_of(day, lately(now, 10_000), now) == MOST_LEVEL
    assert level_of(day, lately(now, 0), now) == LEAST_LEVEL
    assert level_of(day, [], now) == 1
    assert 1 < level_of(day, lately(now, 24, minutes=1), now) < 1.6, "one minute"
    one = [*lately(now, 0.2)[:-1], Demand(now - MINUTE, 1.2)]
    assert 1 < level_of(night, one, now) < 1.1, "one connection at night"


def test_only_minutes_that_are_over_and_not_long_ago_say_how_busy_it_is() -> None:
    profile, now = known(opening, 14), MONDAY + 14 * DAY + timedelta(hours=12, seconds=30)
    others = [
        Demand(now - timedelta(minutes=LEVEL_MINUTES + 1, seconds=30), 99),
        Demand(now - timedelta(seconds=30), 99),
    ]
    assert level_of(profile, [*others, *lately(now, 12, LEVEL_MINUTES)], now) == 1


def noisy(rng: random.Random, shape: Shape) -> Shape:
    return lambda local: shape(local) * rng.uniform(0.8, 1.2)


@pytest.mark.parametrize("number", [0, 7, 17, 18])
def test_a_holiday_among_the_days_does_not_move_the_profile(number: int) -> None:
    holiday = MONDAY + number * DAY
    assert holiday.weekday() < 5
    usual = past(noisy(random.Random(7), opening), 26)
    without = [demand for demand in usual if demand.minute.date() != holiday.date()]
    with_ = [*without, *past(lambda _: 2.0, 1, holiday)]
    one, other = learned(with_, UTC), learned(without, UTC)
    assert one is not None
    assert other is not None
    for kind, expected in zip(one.kinds, other.kinds, strict=True):
        assert kind is not None
        assert expected is not None
        assert np.array_equal(kind.course, expected.course)
        assert kind.days == expected.days


def test_a_half_day_and_an_incident_are_forgotten_too() -> None:
    def shape(local: datetime) -> float:
        if local.date() == date(2026, 6, 10) and local.hour >= 11:
            return 2.0
        return 60.0 if local.date() == date(2026, 6, 16) and local.hour < 20 else opening(local)

    profile = known(shape, 21)
    kind = profile.kinds[0]
    assert kind is not None
    assert kind.days == 13
    assert [kind.course[minute] for minute in (0, 539, 540, 541, 542, 1019, 1020)] == [2, 2, 30, 30, 12, 12, 2]


def test_weekdays_that_differ_become_kinds_of_their_own() -> None:
    def shape(local: datetime) -> float:
        """A week from Sunday to Thursday."""
        working = local.weekday() not in (4, 5)
        return 20.0 if working and 8 <= local.hour < 16 else 3.0

    profile = known(noisy(random.Random(7), shape), 28)
    names = [kind and kind.name for kind in profile.kinds]
    assert names == [*["Mondays to Thursdays"] * 4, "Fridays", "Saturdays", "Sundays"]
    sunday = MONDAY + 34 * DAY + timedelta(hours=7, minutes=59)
    assert forecast(profile, lately(sunday, 3), sunday, 120).connections > 15
    assert forecast(profile, lately(sunday - 2 * DAY, 3), sunday - 2 * DAY, 120).connections < 5


def test_noise_makes_no_kinds_of_days() -> None:
    profile = known(noisy(random.Random(7), opening), 28)
    names = {kind and kind.name for kind in profile.kinds}
    assert names == {"Mondays to Fridays", "Saturdays and Sundays"}
    assert [kind and kind.days for kind in profile.kinds] == [20] * 5 + [8] * 2


def test_two_days_are_enough_and_less_is_not() -> None:
    two = past(opening, 2)
    assert learned(two, UTC) is not None
    assert learned(two[1:], UTC) is None
    assert learned(past(opening, 1), UTC) is None
    assert learned([], UTC) is None
    assert learned([*two[:60], *past(opening, 1, MONDAY + 5 * DAY)[:60]], UTC) is None, "two hours, far apart"


def test_of_a_kind_of_day_that_was_never_seen_the_last_minutes_are_all_that_is_known() -> None:
    profile = known(opening, 3)
    assert [kind is None for kind in profile.kinds] == [False] * 5 + [True] * 2
    thursday = MONDAY + 3 * DAY + timedelta(hours=8, minutes=59)
    assert forecast(profile, lately(thursday, 2), thursday, 120).connections == OPENING
    saturday = thursday + 2 * DAY
    expected = forecast(profile, lately(saturday, 4), saturday, 120)
    assert (expected.connections, expected.at) == (4, saturday)
    assert expected.reason == "nothing is known of Saturdays at 08:59 yet: as many as in the last minutes"
    assert forecast(profile, [], saturday, 120).connections == 0


def test_a_gap_in_the_history_is_no_zero() -> None:
    whole = past(opening, 14)
    gone = [*whole[:3000], *whole[3000 + 3 * 1440 :]]
    profile = learned(gone, UTC)
    assert profile is not None
    now = MONDAY + 14 * DAY + timedelta(hours=8, minutes=59)
    assert forecast(profile, lately(now, 2), now, 120).connections == OPENING
    every_day = [demand for demand in whole if not 3 <= demand.minute.hour < 6]
    nightless = learned(every_day, UTC)
    assert nightless is not None
    night = MONDAY + 14 * DAY + timedelta(hours=4)
    assert forecast(nightless, lately(night, 1), night, 120).reason.startswith("nothing is known of Mondays at 04:00")
    assert forecast(nightless, lately(night, 1), night, 6 * 3600).connections == OPENING, "what is known of it"


@pytest.mark.parametrize(
    ("start", "now"),
    [
        (datetime(2026, 2, 16, tzinfo=NEW_YORK), datetime(2026, 3, 9, 8, 59, tzinfo=NEW_YORK)),
        (datetime(2026, 10, 12, tzinfo=NEW_YORK), datetime(2026, 11, 2, 8, 59, tzinfo=NEW_YORK)),
    ],
    ids=["clocks are put forward", "clocks are put back"],
)
def test_a_market_opens_by_its_own_clock(start: datetime, now: datetime) -> None:
    """The clocks are changed in the night before ``now``, or are about to be when all was learned."""
    for days in (20, 21):
        profile = known(opening, days, start)
        expected = forecast(profile, lately(now, 2), now.astimezone(UTC), 120)
        assert (expected.connections, expected.at) == (OPENING, now + MINUTE)
        assert "at 09:00" in expected.reason
        earlier = now - timedelta(hours=2)
        assert forecast(profile, lately(earlier, 2), earlier, 3600).connections == 2


@pytest.mark.parametrize("start", [datetime(2026, 3, 2, tzinfo=NEW_YORK), datetime(2026, 10, 19, tzinfo=NEW_YORK)])
def test_days_before_and_after_clocks_are_changed_are_one_kind(start: datetime) -> None:
    kind = known(opening, 28, start).kinds[0]
    assert kind is not None
    assert kind.days >= 20
    weekday = datetime(2026, 6, 1)  # noqa: DTZ001 - only the clock on the wall counts
    assert kind.course.tolist() == [opening(weekday + number * MINUTE) for number in range(1440)]


def test_of_a_minute_that_comes_twice_the_larger_counts() -> None:
    """As when clocks are put back."""
    night = datetime(2026, 11, 1, 5, 30, tzinfo=UTC)  # half past one in New York, and again an hour later
    history = past(lambda _: 2.0, 9, datetime(2026, 10, 26, tzinfo=NEW_YORK))
    again = [Demand(one.minute, {night: 6.0, night + timedelta(hours=1): 4.0}.get(one.minute, 2.0)) for one in history]
    sunday = [demand for demand in again if demand.minute.astimezone(NEW_YORK).weekday() != 5]
    profile = learned(sunday, NEW_YORK)
    assert profile is not None
    kind = profile.kinds[6]
    assert kind is not None
    assert (kind.days, kind.course[89], kind.course[90]) == (1, 2, 6)


def test_a_glimpse_of_a_day_is_no_day() -> None:
    days = past(opening, 5)
    glimpse = past(lambda _: 50.0, 1, MONDAY + 5 * DAY)
    one, other = learned([*days, *glimpse[:59]], UTC), learned([*days, *glimpse[:60]], UTC)
    assert one is not None
    assert other is not None
    assert one.kinds[5] is None
    assert other.kinds[5] is not None


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine's clock shows the time of New York."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_new_york")
def test_without_a_zone_the_machines_own_counts() -> None:
    profile = learned(past(opening, 21, datetime(2026, 2, 16, tzinfo=NEW_YORK)))
    assert profile is not None
    now = datetime(2026, 3, 9, 12, 59, tzinfo=UTC)
    expected = forecast(profile, lately(now, 2), now, 120)
    assert (expected.connections, expected.at) == (OPENING, now + MINUTE)
    assert "at 09:00" in expected.reason


def test_the_order_of_the_history_does_not_matter() -> None:
    history = past(noisy(random.Random(7), opening), 9)
    shuffled = random.Random(7).sample(history, len(history))
    one, other = learned(history, UTC), learned(shuffled, UTC)
    assert one is not None
    assert other is not None
    minutes_s = np.arange(7 * 1440) * 60
    assert np.array_equal(one.usual(minutes_s), other.usual(minutes_s))


def test_demand_is_the_most_of_each_process_on_the_average_over_those_that_were_there() -> None:
    values = [
        (MONDAY + timedelta(seconds=70), "a", 3.0),
        (MONDAY, "a", 4.0),
        (MONDAY + timedelta(seconds=59.9), "a", 8.0),
        (MONDAY + timedelta(seconds=30), "b", 2.0),
        (MONDAY + timedelta(seconds=50), "b", 1.0),
        (MONDAY + timedelta(minutes=3), "b", 7.0),
    ]
    expected = [Demand(MONDAY, 5.0), Demand(MONDAY + MINUTE, 3.0), Demand(MONDAY + 3 * MINUTE, 7.0)]
    assert demand_of(values) == expected
    assert demand_of(random.Random(7).sample(values, len(values))) == expected
    assert demand_of([]) == []


def test_weekdays_are_counted_from_monday() -> None:
    for number, name in enumerate(WEEKDAYS):
        day = MONDAY + number * DAY
        assert f"{day:%A}s" == name
        profile = known(lambda _: 1.0, 2, day)
        seen = profile.kinds[day.weekday()]
        assert seen is not None
        assert name in seen.name or (number < 5 and seen.name == "Mondays to Fridays")

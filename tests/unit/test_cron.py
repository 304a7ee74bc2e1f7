"""Cron's own rules, on clocks that are turned twice a year."""

import re
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbpilot.errors import ConfigError
from dbpilot.retention.cron import MONTHS, WEEKDAYS, Cron, next_run

NEW_YORK = ZoneInfo("America/New_York")
NOW = datetime(2024, 3, 6, 12, 0, tzinfo=UTC)  # a Wednesday


def days(weekday: str) -> str:
    """The weekdays of two weeks on which this day of the week comes."""
    found, cron = [], Cron(f"0 2 * * {weekday}", "UTC")
    at = datetime(2024, 3, 2, 12, tzinfo=UTC)  # a Saturday
    while (at := cron.after(at)) < datetime(2024, 3, 16, 12, tzinfo=UTC):
        found.append(f"{at:%a}".lower())
    half = len(found) // 2
    assert found[:half] == found[half:]
    return " ".join(found[:half])


@pytest.mark.parametrize(
    ("weekday", "expected"),
    [
        ("0", "sun"),
        ("1", "mon"),
        ("2", "tue"),
        ("3", "wed"),
        ("4", "thu"),
        ("5", "fri"),
        ("6", "sat"),
        ("7", "sun"),
        ("SUN", "sun"),
        ("Mon", "mon"),
        ("0,7", "sun"),
        ("1-5", "mon tue wed thu fri"),
        ("mon-fri", "mon tue wed thu fri"),
        ("5-7", "sun fri sat"),
        ("fri-sun", "sun fri sat"),
        ("0-2", "sun mon tue"),
        ("6,0", "sun sat"),
        ("mon,wed,5", "mon wed fri"),
        ("*/2", "sun tue thu sat"),
        ("1-5/2", "mon wed fri"),
        ("1/2", "sun mon wed fri"),
        ("*", "sun mon tue wed thu fri sat"),
        ("0-7", "sun mon tue wed thu fri sat"),
    ],
)
def test_a_weekday_is_the_one_that_cron_means(weekday: str, expected: str) -> None:
    assert days(weekday) == expected


def test_the_default_is_seoul() -> None:
    found = next_run("0 2 * * 0", now=NOW)
    assert f"{found:%A %H:%M %Z}" == "Sunday 02:00 KST"
    assert found.astimezone(UTC) == datetime(2024, 3, 9, 17, 0, tzinfo=UTC)


def test_the_present_moment_is_not_the_next() -> None:
    planned = next_run("0 2 * * 0", now=NOW)
    assert next_run("0 2 * * 0", now=planned) == planned + timedelta(days=7)
    assert next_run("0 2 * * 0", now=planned - timedelta(microseconds=1)) == planned


def test_without_a_now_it_is_the_present() -> None:
    before = datetime.now(UTC)
    found = next_run("* * * * *")
    assert before < found <= datetime.now(UTC) + timedelta(minutes=1)


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("*/15 * * * *", "2024-03-06 12:15"),
        ("5/20 12 * * *", "2024-03-06 12:05"),
        ("59 23 31 12 *", "2024-12-31 23:59"),
        ("0 0 29 feb *", "2028-02-29 00:00"),
        ("0 0 1 jan-mar/2 *", "2025-01-01 00:00"),
        ("0 3 15 * 0", "2024-03-10 03:00"),  # either will do
        ("0 3 7 * 0", "2024-03-07 03:00"),
        ("0 3 */2 * 0", "2024-03-17 03:00"),  # cron takes */2 for any day; so both must do
        (" @weekly ", "2024-03-10 00:00"),
        ("@Daily", "2024-03-07 00:00"),
        ("@hourly", "2024-03-06 13:00"),
        ("@monthly", "2024-04-01 00:00"),
        ("@yearly", "2025-01-01 00:00"),
    ],
)
def test_fields_mean_what_cron_says(cron: str, expected: str) -> None:
    assert f"{next_run(cron, 'UTC', NOW):%Y-%m-%d %H:%M}" == expected


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("60 * * * *", "cron, minute: '60' means nothing; it may be *, 0 to 59"),
        ("* 24 * * *", "cron, hour: '24'"),
        ("* * 0 * *", "cron, day of the month: '0'"),
        ("* * 32 * *", "cron, day of the month: '32'"),
        ("* * * 13 *", "cron, month: '13'"),
        ("* * * * 8", "cron, day of the week: '8'"),
        ("* * * * sunday", "cron, day of the week: 'sunday'"),
        ("* * * janx *", "cron, month: 'janx'"),
        ("5-1 * * * *", "cron, minute: '5-1'"),
        ("*/0 * * * *", "cron, minute: '*/0'"),
        ("1,,2 * * * *", "cron, minute: ''"),
        ("-1 * * * *", "cron, minute: '-1'"),
        ("1.5 * * * *", "cron, minute: '1.5'"),
        ("* * L * *", "cron, day of the month: 'L'"),
        ("* * ? * *", "cron, day of the month: '?'"),
        ("* * * * 1#2", "cron, day of the week: '1#2'"),
        ("² * * * *", "cron, minute: '²'"),
        ("* * * *", "cron: '* * * *' has 4 fields instead of 5"),
        ("* * * * * *", "has 6 fields instead of 5"),
        ("", "has 0 fields"),
        ("@reboot", "has 1 fields"),
        ("0 0 30 2 *", "cron, day of the month: '0 0 30 2 *' never comes"),
        ("0 0 31 2,4,6,9,11 *", "never comes"),
    ],
)
def test_what_means_nothing_is_told_by_field(cron: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        next_run(cron, now=NOW)


@pytest.mark.parametrize("zone", ["Asia/Soul", "", "../etc/passwd", "/etc/localtime"])
def test_an_unknown_zone_is_told(zone: str) -> None:
    with pytest.raises(ConfigError, match="there is no time zone"):
        next_run("* * * * *", zone, NOW)


# Clocks are turned: in New York on 10 March (02:00 -> 03:00) and on 3 November 2024 (02:00 -> 01:00).


def runs(cron: str, first: str, last: str) -> list[str]:
    at = datetime.fromisoformat(first).replace(tzinfo=NEW_YORK)
    end = datetime.fromisoformat(last).replace(tzinfo=NEW_YORK)
    found, line = [], Cron(cron, "America/New_York")
    while (at := line.after(at)) < end:
        found.append(f"{line.here(at):%d %H:%M %Z}")
    return found


def test_a_time_that_the_clock_leaves_out_comes_when_it_would_have_been() -> None:
    assert runs("30 2 * * *", "2024-03-09", "2024-03-12") == ["09 02:30 EST", "10 03:30 EDT", "11 02:30 EDT"]


def test_it_comes_whenever_one_asks() -> None:
    """Also for who asks after the clocks were turned, and before it comes."""
    cron, planned = Cron("30 2 * * *", "America/New_York"), datetime(2024, 3, 10, 7, 30, tzinfo=UTC)
    for minutes in range(1, 180):
        assert cron.after(planned - timedelta(minutes=minutes)) == planned


def test_a_time_that_comes_twice_is_taken_once() -> None:
    assert runs("30 1 * * *", "2024-11-02", "2024-11-05") == ["02 01:30 EDT", "03 01:30 EDT", "04 01:30 EST"]
    assert runs("*/30 1 * * *", "2024-11-03", "2024-11-04") == ["03 01:00 EDT", "03 01:30 EDT"]


def test_each_hour_is_each_hour() -> None:
    assert runs("30 * * * *", "2024-11-03", "2024-11-03T03:00") == [
        "03 00:30 EDT",
        "03 01:30 EDT",
        "03 01:30 EST",
        "03 02:30 EST",
    ]
    assert runs("30 * * * *", "2024-03-10T01:00", "2024-03-10T05:00") == [
        "10 01:30 EST",
        "10 03:30 EDT",
        "10 04:30 EDT",
    ]


def test_a_turn_by_half_an_hour_is_one_as_well() -> None:
    cron = Cron("45 1 * * *", "Australia/Lord_Howe")
    first = cron.after(datetime(2024, 4, 6, 0, tzinfo=UTC))
    second = cron.after(first)
    assert f"{cron.here(first):%d %H:%M %z}" == "07 01:45 +1100"
    assert f"{cron.here(second):%d %H:%M %z}" == "08 01:45 +1030"


def test_without_apscheduler_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apscheduler.triggers.cron", None)
    with pytest.raises(ConfigError, match=r"needs APScheduler: pip install 'dbpilot\[retention\]'"):
        next_run("* * * * *")


zones = st.sampled_from(["UTC", "Asia/Seoul", "America/New_York", "Australia/Lord_Howe", "Europe/Dublin"])
crons = st.sampled_from(
    ["0 2 * * 0", "30 2 * * *", "30 1 * * *", "*/20 * * * *", "15 1,2,3 * * *", "0 0 1 * 1", "@weekly"]
)
instants = st.datetimes(datetime(2023, 1, 1), datetime(2026, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - its zone is beside it


@given(crons, zones, instants, st.timedeltas(timedelta(0), timedelta(days=3)))
@settings(deadline=None)
def test_times_move_forward_only_and_none_is_passed_over(cron: str, zone: str, at: datetime, more: timedelta) -> None:
    line = Cron(cron, zone)
    following = line.after(at)
    assert following > at
    later = at + more
    assert line.after(later) == following if later < following else line.after(later) >= following


@given(
    st.lists(st.integers(0, 59), min_size=1, max_size=3),
    st.lists(st.integers(0, 23), min_size=1, max_size=3),
    st.none() | st.lists(st.integers(1, 28), min_size=1, max_size=3),
    st.lists(st.integers(1, 12), min_size=4, max_size=12),
    st.none() | st.lists(st.integers(0, 7), min_size=1, max_size=3),
    instants,
)
@settings(deadline=None, max_examples=60)
def test_the_next_time_is_the_first_that_matches(
    minutes: list[int],
    hours: list[int],
    month_days: list[int] | None,
    months: list[int],
    weekdays: list[int] | None,
    at: datetime,
) -> None:
    def told(values: list[int] | None) -> str:
        return "*" if values is None else ",".join(map(str, values))

    found = next_run(" ".join(map(told, (minutes, hours, month_days, months, weekdays))), "UTC", at)

    def matches(day: datetime) -> bool:
        by_month = month_days is not None and day.day in month_days
        by_week = weekdays is not None and day.isoweekday() % 7 in {weekday % 7 for weekday in weekdays}
        return day.month in months and (by_month or by_week or (month_days is None and weekdays is None))

    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    times = [timedelta(hours=hour, minutes=minute) for hour in sorted(set(hours)) for minute in sorted(set(minutes))]
    while True:
        if matches(day) and (later := [day + time for time in times if day + time > at]):
            assert found == later[0]
            return
        day += timedelta(days=1)


def test_names_stand_for_numbers() -> None:
    for number, name in enumerate(MONTHS, 1):
        assert next_run(f"0 0 1 {name} *", "UTC", NOW) == next_run(f"0 0 1 {number} *", "UTC", NOW)
    for number, name in enumerate(WEEKDAYS):
        assert next_run(f"0 0 * * {name}", "UTC", NOW) == next_run(f"0 0 * * {number}", "UTC", NOW)

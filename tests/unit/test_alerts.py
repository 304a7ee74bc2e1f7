"""Alerts: raised once, escalated, held while they flap, and over when they are over."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbpilot.alerts import (
    MAX_OPEN,
    RANK,
    Alert,
    AlertBook,
    Finding,
    Sightings,
    Usual,
    alerts_of,
    last_sighting,
    minute_findings,
    slow_finding,
)
from dbpilot.config import AlertsConfig, QueriesConfig
from dbpilot.history.store import Event, Pattern
from dbpilot.history.tally import Tally
from dbpilot.testing import FakeClock

NOON = datetime(2025, 1, 31, 12, tzinfo=UTC)

NOW = FakeClock().now()
PATTERN = Pattern("a" * 16, "SELECT a FROM t WHERE b = ?", "SELECT", ("t",))
CONFIG = AlertsConfig(recover_s=60, cooldown_s=600)


def _finding(severity: str = "WARNING", value: float = 2.5, holds_only: bool = False) -> Finding:
    return Finding("slow", PATTERN.id, severity, "slow", value, 2.0, PATTERN.id, holds_only)


def _after(seconds: float):
    return NOW + timedelta(seconds=seconds)


def _tally(calls: int, failed: int = 0, duration_s: float = 0.01) -> Tally:
    tally = Tally()
    for number in range(calls):
        tally.add(NOW, duration_s, 0.0, 1, "OperationalError 1205" if number < failed else None, slow_s=1)
    return tally


def _kinds(tally: Tally, usual: dict[str, Usual] | None = None) -> list[tuple[str, bool]]:
    found = minute_findings({PATTERN.id: tally}, {PATTERN.id: PATTERN}, usual, CONFIG)
    return [(finding.kind, finding.holds_only) for finding in found]


def test_the_same_cause_is_told_once_and_counted() -> None:
    book = AlertBook(CONFIG)
    assert [change.what for change in book.see([_finding(), _finding()], NOW)] == ["raised"]
    assert book.see([_finding(value=3.0)], _after(10)) == []
    [alert] = book.open.values()
    assert (alert.count, alert.value, alert.since, alert.last_seen) == (3, 3.0, NOW, _after(10))


def test_it_escalates_once_and_never_back() -> None:
    book = AlertBook(CONFIG)
    book.see([_finding()], NOW)
    assert [change.what for change in book.see([_finding("CRITICAL", 6.0)], _after(1))] == ["escalated"]
    assert book.see([_finding(), _finding("CRITICAL")], _after(2)) == []


def test_it_is_over_after_a_while_without_cause() -> None:
    book = AlertBook(CONFIG)
    book.see([_finding()], NOW)
    assert book.settle(_after(59)) == []
    [change] = book.settle(_after(60))
    assert (change.what, change.alert.resolved_at) == ("resolved", _after(60))
    assert book.settle(_after(61)) == []


def test_what_comes_and_goes_is_told_of_once_in_its_cool_down() -> None:
    book = AlertBook(CONFIG)
    told = []
    for round_ in range(10):
        told += [change for change in book.see([_finding()], _after(100 * round_)) if not change.silent]
        book.settle(_after(100 * round_ + 70))
    assert [change.alert.since for change in told] == [NOW, _after(600)]


def test_what_comes_and_goes_is_said_to_be_over_as_often_as_it_was_told_of() -> None:
    book, told = AlertBook(CONFIG), []
    for round_ in range(10):
        changes = [*book.see([_finding()], _after(100 * round_)), *book.settle(_after(100 * round_ + 70))]
        told += [change.what for change in changes if not change.silent]
    assert told == ["raised", "resolved", "raised", "resolved"]


def test_a_cool_down_hides_nothing_that_is_more_severe() -> None:
    book = AlertBook(CONFIG)
    book.see([_finding()], NOW)
    book.settle(_after(60))
    [raised] = book.see([_finding("CRITICAL")], _after(100))
    assert not raised.silent
    [over] = book.settle(_after(160))
    assert not over.silent
    assert [change.silent for change in book.see([_finding(), _finding("CRITICAL")], _after(200))] == [True, True]
    assert book.settle(_after(260))[0].silent


def test_what_outlives_its_cool_down_is_told_of_after_all_and_once() -> None:
    book, told = AlertBook(CONFIG), []
    book.see([_finding()], NOW)
    book.settle(_after(60))
    for seconds in range(100, 1000, 50):
        told += [(change.what, seconds) for change in book.see([_finding()], _after(seconds)) if not change.silent]
    assert told == [("persists", 600)]
    assert [change.silent for change in book.settle(_after(2000))] == [False]


def test_other_processes_learn_at_once_of_what_is_new_and_once_a_minute_of_what_goes_on() -> None:
    book, sightings, said = AlertBook(CONFIG), Sightings(timedelta(seconds=60)), []
    for seconds in range(0, 130, 10):
        book.see([_finding()], _after(seconds))
        if seconds >= 90:
            book.see([Finding("slow", "b", "INFO", "", 1.0, 1.0)], _after(90))
        said += [event] if (event := sightings.news(book.open, _after(seconds))) else []
    assert [(event.at, event.value) for event in said] == [(NOW, 1), (_after(60), 1), (_after(90), 2)]
    assert last_sighting(book.open[f"slow:{PATTERN.id}"], said) == _after(120)
    earlier = Alert("slow", PATTERN.id, "INFO", "", 1.0, 1.0, None, NOW, NOW)
    assert last_sighting(earlier, said) == _after(90)
    assert sightings.news(book.open, _after(150)) is not None
    assert sightings.news(book.open, _after(300)) is None, "nothing was seen since"


def test_what_holds_only_raises_nothing_but_keeps_open() -> None:
    book = AlertBook(CONFIG)
    assert book.see([_finding(holds_only=True)], NOW) == []
    book.see([_finding()], NOW)
    book.see([_finding(holds_only=True)], _after(50))
    assert book.settle(_after(70)) == []


@pytest.mark.parametrize("muted", ["slow", PATTERN.id])
def test_what_is_muted_is_not_there(muted: str) -> None:
    book = AlertBook(AlertsConfig(muted=(muted,)))
    assert book.see([_finding()], NOW) == []


def test_open_alerts_are_bounded_and_the_rest_is_counted() -> None:
    book = AlertBook(CONFIG)
    for number in range(MAX_OPEN + 3):
        book.see([Finding("slow", f"{number}", "WARNING", "", 3.0, 2.0)], NOW)
    assert (len(book.open), book.over_limit) == (MAX_OPEN, 3)


@given(
    st.lists(st.tuples(st.sampled_from(["see", "hold", "settle"]), st.sampled_from(list(RANK)), st.integers(0, 200)))
)
def test_between_two_raises_there_is_always_an_end(steps: list[tuple[str, str, int]]) -> None:
    book, now, raised = AlertBook(CONFIG), NOW, False
    for step, severity, seconds in steps:
        now += timedelta(seconds=seconds)
        changes = (
            book.settle(now) if step == "settle" else book.see([_finding(severity, holds_only=step == "hold")], now)
        )
        for change in changes:
            assert (change.what == "raised") != raised
            raised = change.what != "resolved"


def test_a_statement_of_two_seconds_warns_and_one_of_five_is_critical() -> None:
    found = []
    for duration_s in (1.9, 2.0, 4.9, 5.0):
        event = Event("slow", NOW, PATTERN.id, duration_s, {"callsite": "shop.py:7", "route": "GET /x"}, PATTERN.id)
        found.append(slow_finding(event, PATTERN, QueriesConfig()))
    assert [finding and finding.severity for finding in found] == [None, "WARNING", "WARNING", "CRITICAL"]
    assert found[1] is not None
    assert found[1].message == "A statement took 2.0 s at shop.py:7 (GET /x): SELECT a FROM t WHERE b = ?"


def test_a_rate_of_errors_is_found_and_holds_until_it_is_calm() -> None:
    assert _kinds(_tally(100, failed=5)) == [("error_rate", False)]
    assert _kinds(_tally(100, failed=3)) == [("error_rate", True)]
    assert _kinds(_tally(100, failed=2)) == []
    assert _kinds(_tally(10, failed=10)) == [], "too few to say"


def test_a_pattern_that_got_slower_than_itself_is_found() -> None:
    usual = {PATTERN.id: Usual(1000, 0.1)}
    assert _kinds(_tally(50, duration_s=0.3), usual) == [("regression", False)]
    assert _kinds(_tally(50, duration_s=0.17), usual) == [("regression", True)]
    assert _kinds(_tally(50, duration_s=0.1), usual) == []
    assert _kinds(_tally(50, duration_s=0.003), {PATTERN.id: Usual(1000, 0.001)}) == [], "nobody feels two milliseconds"
    assert _kinds(_tally(50, duration_s=0.3), None) == [], "nothing is known yet"


def test_a_new_pattern_that_takes_much_is_found() -> None:
    assert _kinds(_tally(50), {"b" * 16: Usual(1, 0.1)}) == [("new_pattern", False)]
    assert _kinds(_tally(50), None) == []


def test_alerts_come_back_from_the_history_of_all_processes() -> None:
    book = AlertBook(CONFIG)
    [raised] = book.see([_finding()], NOW)
    book.see([_finding(value=9.0)], _after(5))
    [open_] = book.open.values()
    [ended] = book.settle(_after(100))
    assert Alert.from_event(ended.alert.event()) == ended.alert
    assert alerts_of([raised.alert.event()], [open_]) == [open_]
    assert alerts_of([raised.alert.event(), ended.alert.event()], []) == [ended.alert]


def test_an_alert_of_a_process_that_is_gone_is_over() -> None:
    book = AlertBook(AlertsConfig())
    [change] = book.see([Finding("slow", "x", "WARNING", "it is slow", 2.0, 1.0)], NOON)
    hour_later = NOON + timedelta(hours=1)
    [alert] = alerts_of([change.alert.event()], [], [], hour_later)
    assert alert.resolved_at == NOON
    [alert] = alerts_of([change.alert.event()], [], [], NOON)
    assert alert.resolved_at is None
    [alert] = alerts_of([change.alert.event()], [change.alert], [], hour_later)
    assert alert.resolved_at is None, "this process sees it"

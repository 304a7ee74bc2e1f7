"""Telling of alerts: through a real HTTP channel that works, refuses, hangs or is not there, and never in the way."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import apprise
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from dbpilot import Autopilot, ConfigError, PilotConfig
from dbpilot.alerting import Alerting, NotifierError
from dbpilot.alerts import SIGHTINGS, Finding, Mute, mutes_in
from dbpilot.errors import NotThereError
from dbpilot.history.sql_store import SqlStore
from dbpilot.history.store import Batch, Event, MemoryStore, Pattern
from dbpilot.notifiers import AppriseNotifier
from dbpilot.testing import FakeClock

TOKEN = "geheim123"
PATTERN = Pattern("a" * 16, "SELECT ?", "SELECT", ())


@contextmanager
def _channel(answer: Callable[[], int]) -> Iterator[tuple[str, list[bytes]]]:
    """A web hook on this machine that answers with a status, and the bodies that came."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = answer()
            bodies.append(body)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"json://127.0.0.1:{server.server_port}/{TOKEN}", bodies
    server.shutdown()
    server.server_close()
    thread.join()


def _config(*urls: str, **alerts: object) -> PilotConfig:
    return PilotConfig.model_validate(
        {
            "queries": {"slow_s": 1e-7, "warning_s": 1e-6, "critical_s": 1000, "drain_s": 0.01},
            "alerts": {"urls": urls, "title": "shop", **alerts},
        }
    )


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/application.sqlite3")
    yield engine
    engine.dispose()


def _run(engine: sa.Engine, statement: str = "SELECT 'secret'") -> None:
    with engine.connect() as connection:
        connection.execute(sa.text(statement)).all()


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_message_says_what_happened_without_a_value(engine: sa.Engine) -> None:
    with _channel(lambda: 200) as (url, bodies):
        with Autopilot(engine, _config(url), store=MemoryStore()) as pilot:
            _run(engine)
            _run(engine)
            _until(lambda: pilot.alerts(1, 10).delivery.sent == 1)
            [alert] = pilot.alerts(1, 10).alerts
        assert (alert.severity, alert.kind, alert.count) == ("WARNING", "slow", 2)
    [body] = bodies
    assert b"shop: WARNING (slow)" in body
    assert b"SELECT ?" in body
    assert b"test_alerting.py" in body
    assert b"secret" not in body


@pytest.mark.parametrize("status", [500, None])
def test_a_channel_that_fails_is_shown_without_its_address(
    engine: sa.Engine, status: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    with _channel(lambda: status or 200) as (url, _):
        pass
    with _channel(lambda: 500) as (refusing, _):
        config = _config(refusing if status else url)
        with Autopilot(engine, config, store=MemoryStore()) as pilot:
            _run(engine)
            _until(lambda: pilot.alerts(1, 10).delivery.failed == 1)
            delivery = pilot.alerts(1, 10).delivery
    assert delivery.error == "JSON did not take the message"
    for told in (repr(delivery), caplog.text, repr(config), repr(pilot._notifier)):
        assert TOKEN not in told


def test_a_channel_that_hangs_costs_nobody_anything(engine: sa.Engine) -> None:
    hanging = threading.Event()
    with _channel(lambda: (hanging.wait(60) and 200) or 200) as (url, _):
        pilot = Autopilot(engine, _config(url), store=MemoryStore())
        with pilot:
            for number in range(150):
                _run(engine, f"SELECT {number} AS c{number}")
            _until(lambda: pilot.alerts(1, 200).delivery.dropped > 0)
            slowest_s = max(line.max_s for line in pilot.query_stats(1, 200).patterns)
            started = time.monotonic()
        assert time.monotonic() - started < 12
        assert slowest_s < 1
        hanging.set()


def test_of_two_processes_one_tells(engine: sa.Engine, database_url: sa.URL) -> None:
    """Two pilots with one history, each on an engine of its own, as two processes have them."""
    history = database_url.render_as_string(hide_password=False)
    other = sa.create_engine(engine.url)
    with _channel(lambda: 200) as (url, bodies):
        settings = {**_config(url).model_dump(), "history": {"url": history}}
        settings["alerts"] = {"urls": [url]}
        config = PilotConfig.model_validate(settings)
        with Autopilot(engine, config) as one, Autopilot(other, config) as two:
            _run(engine)
            _run(other)
            _until(lambda: not one.alerts(1, 10).delivery.waiting and not two.alerts(1, 10).delivery.waiting)
            _until(lambda: one.alerts(1, 10).delivery.sent + two.alerts(1, 10).delivery.sent >= 1)
    other.dispose()
    assert len(bodies) == 1


class Process:
    """The alerting of one of several processes that share a history; ``told`` is what all of them sent."""

    def __init__(self, name: str, history: Path, clock: FakeClock, told: list[tuple[str, str, str]]) -> None:
        self._name, self._clock, self._told = name, clock, told
        store = SqlStore(f"sqlite:///{history}", "shop")
        self.alerting = Alerting(
            PilotConfig(),
            clock,
            self,
            store.write,
            store.claim,
            store.tallies,
            lambda since, until: store.events(SIGHTINGS, since, until, 1000),
        )

    def send(self, title: str, message: str) -> None:
        self._told.append((self._name, title.removeprefix("dbpilot: ").removesuffix(" (slow)"), message))

    def sees(self, duration_s: float) -> None:
        """A statement took so long, and a window ends."""
        self.alerting.slow(Event("slow", self._clock.now(), PATTERN.id, duration_s, {}, PATTERN.id), PATTERN)
        self.turn()

    def turn(self) -> None:
        """A window ends, and what is to be told is told."""
        self.alerting.start()
        self.alerting.window(Batch())
        self.alerting.stop(10)


@pytest.fixture
def told() -> list[tuple[str, str, str]]:
    return []


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def processes(tmp_path: Path, clock: FakeClock, told: list[tuple[str, str, str]]) -> list[Process]:
    return [Process(name, tmp_path / "history.sqlite3", clock, told) for name in "abc"]


def _headings(told: list[tuple[str, str, str]]) -> list[tuple[str, str]]:
    return [(name, heading) for name, heading, _ in told]


def test_what_another_process_told_hides_nothing_that_is_more_severe(
    processes: list[Process], told: list[tuple[str, str, str]]
) -> None:
    a, b, c = processes
    a.sees(2.5)
    b.sees(2.5)
    b.sees(60)
    a.sees(60)
    c.sees(2.5)
    assert _headings(told) == [("a", "WARNING"), ("b", "CRITICAL")]


def test_who_told_the_worst_spoke_for_the_rest(processes: list[Process], told: list[tuple[str, str, str]]) -> None:
    a, b, _ = processes
    a.sees(60)
    b.sees(2.5)
    assert _headings(told) == [("a", "CRITICAL")]


def test_it_is_over_when_it_is_over_in_every_process(
    processes: list[Process], clock: FakeClock, told: list[tuple[str, str, str]]
) -> None:
    a, b, _ = processes
    a.sees(2.5)
    for _ in range(30):
        b.sees(2.5)
        a.turn()
        clock.advance(10)
    assert _headings(told) == [("a", "WARNING")]
    for _ in range(30):
        a.turn()
        b.turn()
        clock.advance(10)
    assert _headings(told) == [("a", "WARNING"), ("a", "over")]
    assert "It lasted 290 s" in told[-1][2], "as long as b saw it"


def test_of_those_who_told_one_says_that_it_is_over(
    processes: list[Process], clock: FakeClock, told: list[tuple[str, str, str]]
) -> None:
    a, b, _ = processes
    a.sees(2.5)
    b.sees(60)
    for _ in range(30):
        clock.advance(10)
        a.turn()
        b.turn()
    assert _headings(told) == [("a", "WARNING"), ("b", "CRITICAL"), ("a", "over")]


def test_a_channel_that_breaks_leaves_the_others_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: apprise.NotifyBase, **_: object) -> bool:
        raise ValueError(f"no luck with {TOKEN}")

    monkeypatch.setattr(apprise.plugins.N_MGR["xml"], "send", broken)
    with _channel(lambda: 200) as (url, bodies):
        notifier = AppriseNotifier([SecretStr(url.replace("json:", "xml:")), SecretStr(url)])
        with pytest.raises(NotifierError) as failed:
            notifier.send("title", "message")
    assert str(failed.value) == "XML did not take the message; 1 of 2 channels did"
    assert TOKEN not in repr(failed.value.__context__)
    assert len(bodies) == 1


def test_an_address_that_is_none_is_refused_at_once_without_repeating_it(engine: sa.Engine) -> None:
    with pytest.raises(ConfigError, match="the 1") as refused:
        Autopilot(engine, _config(f"nothing:{TOKEN}"), store=MemoryStore())
    assert TOKEN not in str(refused.value)


def test_a_message_that_was_refused_is_sent_again(engine: sa.Engine) -> None:
    answers = iter([500, 500])
    clock = FakeClock()
    with _channel(lambda: next(answers, 200)) as (url, bodies):
        config = _config(url, recover_s=100_000)
        with Autopilot(engine, config, store=MemoryStore(), clock=clock) as pilot:
            pilot._alerting.findings([Finding("slow", "x", "WARNING", "it is slow", 2.0, 1.0)])
            for tries in (1, 2, 3):
                _until(lambda tries=tries: len(bodies) == tries)
                _until(lambda tries=tries: pilot.alerts(1, 10).delivery.failed == min(tries, 2))
                clock.advance(61)
                pilot._alerting.window(Batch())
            _until(lambda: pilot.alerts(1, 10).delivery.sent == 1)
    assert len(bodies) == 3


def test_a_token_is_in_no_log_even_at_debug(engine: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with _channel(lambda: 200) as (url, bodies), Autopilot(engine, _config(url), store=MemoryStore()):
        _run(engine)
        _until(lambda: bool(bodies))
    assert TOKEN not in caplog.text


def test_nobody_is_told_of_what_is_muted_until_it_is_unmuted(engine: sa.Engine) -> None:
    with _channel(lambda: 200) as (url, bodies):
        pilot = Autopilot(engine, _config(url), store=MemoryStore())
        with pytest.raises(NotThereError):
            pilot.mute_alert("slow:nothing", 1)
        with pilot:
            _run(engine)
            _until(lambda: len(bodies) == 1)
            [alert] = pilot.alerts(1, 10).alerts
            muted = pilot.mute_alert(alert.name, 1, "somebody")
            assert pilot.alerts(1, 10).alerts[0].muted_until == muted.until
            worse = [Finding(alert.kind, alert.key, "CRITICAL", "it got worse", 1.0, 1.0)]
            other = [Finding("slow", "another", "WARNING", "something else", 1.0, 1.0)]
            pilot._tell(worse)
            pilot._tell(other)
            _until(lambda: len(bodies) == 2)
            assert b"something else" in bodies[1]
            assert pilot.alerts(1, 10).alerts[-1].severity == "CRITICAL", "it is counted and shown"
            pilot.unmute_alert(alert.name, "somebody else")
            assert pilot.alerts(1, 10).alerts[-1].muted_until is None
            done = [(one.who, one.what.split()[0]) for one in pilot.activity(1, 10).activities]
            assert done == [("somebody else", "unmuted"), ("somebody", "muted")]
            with pytest.raises(NotThereError):
                pilot.unmute_alert(alert.name)


class Sent:
    """A channel that remembers."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def send(self, _title: str, message: str) -> None:
        self.messages.append(message)


def _alerting(clock: FakeClock, sent: Sent, mutes: list[Event]) -> Alerting:
    store = MemoryStore()
    return Alerting(
        PilotConfig(), clock, sent, store.write, store.claim, store.tallies, mutes=lambda _since, _until: mutes
    )


def test_what_goes_on_when_a_mute_ends_is_told_of_then() -> None:
    clock, sent = FakeClock(), Sent()
    mutes = [Mute("slow:a", clock.now() + timedelta(hours=1), "somebody").event(clock.now())]
    alerting = _alerting(clock, sent, mutes)
    alerting.findings([Finding("slow", "a", "WARNING", "it is slow", 1.0, 1.0)])
    alerting._deliver(alerting._waiting.popleft())
    assert sent.messages == []
    clock.advance(120)
    alerting._deliver(alerting._later["slow:a"][1])
    assert sent.messages == [], "it is muted still"
    clock.advance(3600)
    alerting._deliver(alerting._later["slow:a"][1])
    assert (sent.messages, alerting._later) == (["it is slow"], {})


def test_who_is_muted_by_another_process_is_quiet_and_the_latest_word_counts() -> None:
    now = FakeClock().now()
    first = Mute("slow:a", now + timedelta(hours=1), "one").event(now - timedelta(minutes=2))
    undone = Mute("slow:a", now - timedelta(minutes=1), "another").event(now - timedelta(minutes=1))
    assert list(mutes_in([first], now)) == ["slow:a"]
    assert mutes_in([undone, first], now) == mutes_in([first, undone], now) == {}


def test_pages_of_alerts_stay_where_they_began(engine: sa.Engine) -> None:
    pilot = Autopilot(engine, _config(), store=MemoryStore())
    with pilot:
        for number in range(3):
            pilot._tell([Finding("slow", f"k{number}", "WARNING", "slow", 1.0, 1.0)])
        first = pilot.alerts(1, 1)
        pilot._tell([Finding("slow", "later", "WARNING", "slow", 1.0, 1.0)])
        assert [alert.key for alert in pilot.alerts(1, 10).alerts] == ["later", "k2", "k1", "k0"]
        assert [alert.key for alert in pilot.alerts(1, 10, until=first.until).alerts] == ["k2", "k1", "k0"]


def test_an_alert_on_a_later_page_is_as_it_is_now() -> None:
    clock = FakeClock()
    engine = sa.create_engine("sqlite://")
    pilot = Autopilot(engine, _config(), store=MemoryStore(), clock=clock)
    pilot._tell([Finding("slow", "k", "WARNING", "slow", 1.0, 1.0)])
    clock.advance(10)
    until = clock.now()
    clock.advance(600)
    pilot._tell([Finding("slow", "another", "WARNING", "slow", 1.0, 1.0)])
    pilot._alerting.window(Batch())
    over = clock.now()
    clock.advance(1)
    [alert] = pilot.alerts(1, 10, until=until).alerts
    assert alert.resolved_at == over

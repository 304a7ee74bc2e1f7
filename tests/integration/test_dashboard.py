"""The dashboard's pages without a browser: what they say, whom they let do what, and what they never do."""

import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from dbpilot import Autopilot, PilotConfig
from dbpilot.errors import StoreError
from dbpilot.history.store import MemoryStore
from dbpilot.retention import Rule
from dbpilot.web.access import Caller
from dbpilot.web.api import make_api
from dbpilot.web.dashboard import make_dashboard
from dbpilot.web.keys import Role, new_key
from dbpilot.web.sharing import Budget

PAGES = ("/", "/queries", "/indexes", "/pool", "/maintenance", "/activity", "/setup")
SOON_S = 30
NASTY = """<script>alert("x")</script>"""


@pytest.fixture
def engine(sqlite_url: sa.URL) -> Iterator[sa.Engine]:
    engine = sa.create_engine(sqlite_url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, day DATE)"))
        rows = [{"c": f"c{n % 50}", "d": f"2020-01-{n % 28 + 1:02}"} for n in range(2000)]
        connection.execute(sa.text("INSERT INTO orders (customer, day) VALUES (:c, :d)"), rows)
    yield engine
    engine.dispose()


Open = Callable[..., TestClient]


@pytest.fixture
def open_(engine: sa.Engine) -> Iterator[Open]:
    """A client of a dashboard with these settings, mounted at ``/db``."""
    opened: list[Autopilot] = []

    def open_one(store: MemoryStore | None = None, authorize: Any = None, **settings: Any) -> TestClient:
        config = PilotConfig.model_validate({"queries": {"slow_s": 0.02}, **settings})
        rule = Rule("old orders", "orders", "day", timedelta(days=365))
        pilot = Autopilot(engine, config, store=store or MemoryStore(), retention=[rule])
        pilot.start()
        opened.append(pilot)
        app = FastAPI()
        app.state.pilot = pilot
        app.include_router(make_dashboard(pilot, authorize, title="Shop"), prefix="/db")
        return TestClient(app, follow_redirects=False)

    yield open_one
    for pilot in opened:
        pilot.stop()


def _run(engine: sa.Engine, text: str, times: int = 1) -> None:
    with engine.connect() as connection:
        for _ in range(times):
            connection.exec_driver_sql(text).all()


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("language", ["en", "ko"])
def test_every_page_opens_with_nothing_known(open_: Open, page: str, language: str) -> None:
    answer = open_().get(f"/db{page}", headers={"Accept-Language": language})
    assert answer.status_code == 200
    assert f'<html lang="{language}"' in answer.text


def test_every_page_opens_on_every_database(database_url: sa.URL) -> None:
    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer VARCHAR(9), day DATE)"))
    rule = Rule("old orders", "orders", "day", timedelta(days=365))
    with Autopilot(engine, store=MemoryStore(), retention=[rule]) as pilot:
        pilot.indexing.analyse()
        app = FastAPI()
        app.include_router(make_dashboard(pilot))
        _run(engine, "SELECT id FROM orders WHERE customer = 'c1'")
        with TestClient(app) as client:
            for page in PAGES:
                assert client.get(page).status_code == 200
            assert "<code>orders</code>" in client.get("/indexes").text
    engine.dispose()


def test_nothing_known_is_no_zero(open_: Open) -> None:
    text = open_().get("/db/").text
    assert text.count("no data") >= 4
    assert "0/s" not in text


def test_what_ran_is_shown_and_leads_on(open_: Open, engine: sa.Engine) -> None:
    client = open_()
    _run(engine, "SELECT id FROM orders WHERE customer = 'a secret'", times=3)
    page = client.get("/db/").text
    link = re.search(r'href="(/db/queries/[0-9a-f]{16})"', page)
    assert link
    query = client.get(link[1]).text
    assert "SELECT id\nFROM orders\nWHERE customer = ?" in query
    assert "a secret" not in query


def test_where_no_index_can_be_judged_no_page_says_that_none_would_help(mariadb_url: sa.URL) -> None:
    """An account that may read and write its own schema, and make no copies of it."""
    poor = mariadb_url.set(username=f"p_{mariadb_url.database}"[:30], password="poor")
    admin = sa.create_engine(mariadb_url)
    with admin.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer VARCHAR(9))").close()
        connection.exec_driver_sql(f"CREATE USER {poor.username}@'%%' IDENTIFIED BY 'poor'").close()
        connection.exec_driver_sql(f"GRANT ALL ON `{poor.database}`.* TO {poor.username}@'%%'").close()
    admin.dispose()
    engine = sa.create_engine(poor)
    with Autopilot(engine, PilotConfig.model_validate({"queries": {"window_s": 1}}), store=MemoryStore()) as pilot:
        app = FastAPI()
        app.include_router(make_dashboard(pilot))
        _run(engine, "SELECT id FROM orders WHERE customer = 'c1'", times=5)
        with TestClient(app) as client:
            [pattern] = [one for one in pilot.query_stats(1, 100).patterns if "customer" in one.query]
            assert "Nothing was analysed yet." in client.get(f"/queries/{pattern.pattern_id}").text
            assert pilot.indexing.analyse().workload.statements
            query, page = client.get(f"/queries/{pattern.pattern_id}").text, client.get("/indexes").text
            korean = client.get("/indexes", headers={"Accept-Language": "ko"}).text
    engine.dispose()
    assert "No index step would help this query" not in query
    assert "Whether an index would help this query could not be judged: this user may not make the schema" in query
    assert "No new index would pay" not in page
    assert "Whether a new index would pay could not be judged: this user may not make the schema" in page
    assert "none of them was judged" in page
    assert "근거 없음: 이 테이블을 읽는 쿼리가 관측되었지만" in korean


def test_a_statement_is_text_whatever_it_says(open_: Open, engine: sa.Engine) -> None:
    client = open_()
    _run(engine, f"SELECT id AS `{NASTY}` FROM orders")
    for page in ("/", "/queries", f"/queries?q={NASTY}"):
        answer = client.get(f"/db{page}")
        assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert" in client.get("/db/queries").text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=customer", 1),
        ("table=orders", 2),
        ("verb=SELECT&table=orders", 2),
        ("verb=DELETE", 0),
        ("has=errors", 1),
        ("q=nothing+like+it", 0),
        ("callsite=test_dashboard", 3),
        ("sort=p95_s", 3),
        ("sort=luck", 3),
    ],
)
def test_queries_are_found_by_what_is_asked_for(open_: Open, engine: sa.Engine, query: str, found: int) -> None:
    client = open_(queries={"sample_every": 1})
    _run(engine, "SELECT id FROM orders WHERE customer = 'c1'")
    _run(engine, "SELECT count(*) FROM orders")
    with pytest.raises(sa.exc.OperationalError):
        _run(engine, "SELECT nothing FROM nowhere")
    assert f"{found} queries</h2>" in client.get(f"/db/queries?{query}").text


def test_the_pages_of_a_long_list_lead_to_each_other(open_: Open, engine: sa.Engine) -> None:
    client = open_()
    for number in range(60):
        _run(engine, f"SELECT {', '.join(['id'] * (number + 1))} FROM orders LIMIT 1")
    first = client.get("/db/queries?q=orders").text
    assert "1–50 / 60" in first
    after = re.search(r'rel="next" href="([^"]+)"', first)
    assert after
    assert "51–60 / 60" in client.get(after[1].replace("&amp;", "&")).text


def test_pages_carry_their_headers_and_nothing_inline(open_: Open, engine: sa.Engine) -> None:
    client = open_()
    _run(engine, "SELECT id FROM orders")
    for page in (*PAGES, "/login", "/queries/nobody"):
        answer = client.get(f"/db{page}")
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", answer.text)
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', answer.text)


def test_files_are_kept_by_their_version(open_: Open) -> None:
    client = open_()
    page = client.get("/db/").text
    for address in re.findall(r'(?:src|href)="(/db/static/[^"]+)"', page):
        answer = client.get(address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        tag = answer.headers["etag"]
        assert client.get(address, headers={"If-None-Match": tag}).status_code == 304
    assert client.get("/db/static/../dashboard.py").status_code == 404
    assert client.get("/db/static/vendor/htmx/LICENSE").status_code == 404


def test_a_choice_is_remembered(open_: Open) -> None:
    client = open_()
    assert '<html lang="ko" data-scheme="dark"' in client.get("/db/?lang=ko&scheme=dark").text
    assert '<html lang="ko" data-scheme="dark"' in client.get("/db/pool").text
    assert '<html lang="en" data-scheme="auto"' in client.get("/db/pool?lang=en&scheme=auto").text


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/queries/0123456789abcdef", 404),
        ("/queries?hours=-1", 422),
        ("/queries?start=x", 422),
        ("/?hours=1e9", 422),
        ("/nowhere", 404),
    ],
)
def test_what_makes_no_sense_is_refused_on_a_page(open_: Open, address: str, status: int) -> None:
    assert open_().get(f"/db{address}").status_code == status


class _Deaf(MemoryStore):
    """A store that answers nothing."""

    def tallies(self, *_: Any, **__: Any) -> Any:
        raise StoreError("history: out of order")

    timeline = events = tallies


def test_without_its_history_every_page_opens_and_says_so(open_: Open, engine: sa.Engine) -> None:
    client = open_(_Deaf())
    _run(engine, "SELECT id FROM orders", times=2)
    for page in PAGES:
        assert client.get(f"/db{page}").status_code == 200
    page = client.get("/db/").text
    assert "The history could not be read" in page
    assert "SELECT id FROM orders" in page, "what this process knows is shown all the same"


def _until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_cleanup_is_looked_at_and_then_run(open_: Open, engine: sa.Engine) -> None:
    client = open_()
    looked = client.post("/db/maintenance/dry-run", data={"table": "orders"})
    assert "Dry run: 2,000 rows would go" in looked.text
    assert _rows(engine) == 2000
    refused = client.post("/db/maintenance/run", data={"table": "orders", "typed": "order"})
    assert refused.status_code == 409
    assert "type orders" in refused.text
    begun = client.post("/db/maintenance/run", data={"table": "orders", "typed": "orders"})
    assert (begun.status_code, begun.headers["location"]) == (303, "/db/maintenance?said=begun")
    _until(lambda: _rows(engine) == 0)
    _until(lambda: "finished" in client.get("/db/maintenance").text)
    found = client.post("/db/maintenance/restore/dry-run", data={"rule": "old orders"})
    assert "2,000 archived rows of orders were found" in found.text
    assert client.post("/db/maintenance/restore", data={"rule": "old orders", "typed": "x"}).status_code == 409
    assert client.post("/db/maintenance/restore", data={"rule": "old orders", "typed": "old orders"}).status_code == 303
    assert _rows(engine) == 2000
    done = client.get("/db/activity").text
    assert "restored 2000 rows of orders" in done
    assert "this machine" in done


def _rows(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM orders").scalar_one())


@pytest.mark.parametrize("day", ["tomorrow", "2020-13-01", "2020-01-01T00:00:00"])
def test_a_day_that_is_none_is_refused(open_: Open, day: str) -> None:
    answer = open_().post("/db/maintenance/restore/dry-run", data={"rule": "old orders", "since": day})
    assert answer.status_code == 422


ACTIONS = [
    ("/maintenance/dry-run", {}, "operator"),
    ("/maintenance/run", {"typed": "all"}, "operator"),
    ("/maintenance/cancel", {}, "operator"),
    ("/maintenance/restore/dry-run", {"rule": "old orders"}, "operator"),
    ("/maintenance/restore", {"rule": "old orders", "typed": "old orders"}, "admin"),
    ("/maintenance/holds/1/release", {}, "admin"),
    ("/pool/review", {}, "operator"),
    ("/indexes/dry-run", {"id": "x"}, "operator"),
    ("/indexes/apply", {"id": "x", "typed": "apply"}, "admin"),
    ("/indexes/changes/1/undo", {"typed": "1"}, "admin"),
]


def test_each_action_asks_for_its_role(open_: Open) -> None:
    least = Role.VIEWER
    client = open_(authorize=lambda _: Caller("somebody", least))
    for action, fields, role in ACTIONS:
        least = Role(Role.named(role) - 1)
        answer = client.post(f"/db{action}", data=fields)
        assert answer.status_code == 403, action
        assert f"this needs the role {role}" in answer.text


def test_another_sites_page_does_nothing(open_: Open) -> None:
    client = open_()
    for action, fields, _ in ACTIONS:
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://elsewhere.example"}):
            assert client.post(f"/db{action}", data=fields, headers=headers).status_code == 403, action
        assert client.get(f"/db{action}").status_code in (404, 405), action


def test_who_may_only_look_is_offered_nothing_else(open_: Open) -> None:
    client = open_(authorize=lambda _: Caller("a viewer", Role.VIEWER))
    for page in PAGES:
        assert 'method="post"' not in client.get(f"/db{page}").text.replace('id="steps" method="post"', "")


def test_with_keys_one_logs_in_and_each_form_carries_a_token(open_: Open) -> None:
    key = new_key("kim", Role.ADMIN)
    client = open_(web={"keys": [key.hash.line]})
    away = client.get("/db/pool")
    assert away.status_code == 303
    assert away.headers["location"] == "/db/login?next=/db/pool"
    login = client.get(away.headers["location"])
    assert 'name="next" value="/db/pool"' in login.text
    assert "wrong=1" in client.post("/db/login", data={"key": "dbpilot_x_y", "next": "/db/pool"}).headers["location"]
    back = client.post("/db/login", data={"key": key.secret, "next": "/db/pool"})
    assert back.headers["location"] == "/db/pool"
    page = client.get("/db/maintenance").text
    assert "kim (admin)" in page
    assert client.post("/db/maintenance/dry-run", data={}).status_code == 403, "a cookie alone does nothing"
    token = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert token
    assert client.post("/db/maintenance/dry-run", data={"csrf_token": token[1]}).status_code == 200
    assert key.secret not in page


def test_secrets_are_not_among_the_settings(open_: Open) -> None:
    secret = "json://user:hunter2@127.0.0.1:9/hook"
    text = open_(alerts={"urls": [secret]}, web={"secret": "s" * 40}).get("/db/setup").text
    assert "DBPILOT_ALERTS__URLS" in text
    assert "hunter2" not in text
    assert "s" * 40 not in text


def test_a_large_form_is_not_read(open_: Open) -> None:
    answer = open_().post("/db/maintenance/dry-run", data={"table": "x" * 100_000})
    assert answer.status_code == 413


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_comes_in_pieces_is_counted_as_well(open_: Open, method: str) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(1000):
            yield b"x" * 10_000

    path = "/db/maintenance" if method == "GET" else "/db/maintenance/dry-run"
    assert open_().request(method, path, content=pieces()).status_code == 413


def test_what_was_done_on_a_page_is_seen_by_programs_at_once(open_: Open) -> None:
    client = open_()
    pilot = client.app.state.pilot  # type: ignore[attr-defined]  # FastAPI's
    client.app.include_router(make_api(pilot), prefix="/api")  # type: ignore[attr-defined]
    Budget.of(pilot).spend(10)
    assert [client.get("/api/cleanup").headers.get("age") for _ in range(2)] == [None, "0"]
    assert client.post("/db/maintenance/cancel").status_code == 303
    assert client.get("/api/cleanup").headers.get("age") is None


@pytest.mark.parametrize("path", ["/db/queries?at=1099511627776", "/db/queries?at=68719476736&step=31622400"])
def test_an_instant_beyond_the_calendar_is_no_failure(open_: Open, path: str) -> None:
    assert open_().get(path).status_code in (200, 422)


def test_a_day_beyond_the_calendar_is_no_failure(open_: Open) -> None:
    answer = open_().post("/db/maintenance/restore/dry-run", data={"rule": "old orders", "until": "9999-12-31"})
    assert answer.status_code == 422


@pytest.mark.parametrize("path", ["maintenance/run", "maintenance/restore", "indexes/apply"])
def test_what_is_dear_is_limited_on_pages_as_it_is_for_programs(open_: Open, path: str) -> None:
    client = open_(web={"expensive_per_minute": 2})
    first, second, third = [client.post(f"/db/{path}", data={"rule": "old orders", "typed": "no"}) for _ in range(3)]
    assert first.status_code == second.status_code != 429
    assert third.status_code == 429


def test_a_moment_of_the_heatmap_shows_only_what_ran_then(open_: Open, engine: sa.Engine) -> None:
    client = open_()
    _run(engine, "SELECT id FROM orders")
    now = int(time.time())
    assert "1 queries</h2>" in client.get(f"/db/queries?at={now - 60}&step=120").text
    assert "0 queries</h2>" in client.get(f"/db/queries?at={now - 7200}&step=60").text


def test_the_same_is_answered_as_json(engine: sa.Engine, open_: Open) -> None:
    from dbpilot.web.api import make_api

    client = open_()
    pilot = client.app.state.pilot  # type: ignore[attr-defined]  # it is a FastAPI
    app = FastAPI()
    app.include_router(make_api(pilot), prefix="/api")
    _run(engine, "SELECT id FROM orders WHERE customer = 'c1'", times=3)
    with TestClient(app) as api:
        found = api.get("/api/queries?q=customer").json()
        [line] = found["patterns"]
        assert (found["found"], line["calls"]) == (1, 3)
        timeline = api.get(f"/api/timeline?pattern_id={line['pattern_id']}").json()
        assert sum(point["calls"] for point in timeline["patterns"][line["pattern_id"]]) == 3
        assert timeline["total"]["calls"] >= 3
        assert api.get(f"/api/queries/{line['pattern_id']}").json()["stats"]["calls"] == 3
        assert api.get("/api/queries/0123456789abcdef").status_code == 404
        assert api.get("/api/queries/nonsense").status_code == 422
        assert api.get("/api/timeline?pattern_id=nonsense").status_code == 422


def test_an_alert_is_muted_and_unmuted_by_who_may(open_: Open, engine: sa.Engine) -> None:
    role = Role.OPERATOR
    client = open_(authorize=lambda _: Caller("anna", role), queries={"slow_s": 1e-7, "warning_s": 1e-6})
    _run(engine, "SELECT count(*) FROM orders")
    pilot: Autopilot = client.app.state.pilot
    _until(lambda: bool(pilot.alerts(1, 10).alerts))
    [alert] = pilot.alerts(1, 1).alerts
    muted = client.post("/db/alerts/mute", data={"alert": alert.name})
    assert (muted.status_code, muted.headers["location"]) == (303, "/db/?said=muted")
    page = client.get("/db/").text
    assert "Muted until" in page
    assert 'action="/db/alerts/unmute"' in page
    assert client.post("/db/alerts/mute", data={"alert": "slow:nothing"}).status_code == 404
    assert client.post("/db/alerts/unmute", data={"alert": alert.name}).status_code == 303
    role = Role.VIEWER
    assert client.post("/db/alerts/mute", data={"alert": alert.name}).status_code == 403
    assert 'action="/db/alerts/' not in client.get("/db/").text
    assert [one.who for one in pilot.activity(1, 10).activities] == ["anna", "anna"]


def test_a_click_on_the_heatmap_shows_what_took_so_long(open_: Open, engine: sa.Engine) -> None:
    client = open_()
    _run(engine, "SELECT count(*) FROM orders")
    now = int(time.time())
    slower = client.get(f"/db/queries?at={now - 3000}&step=6000&band=8").text
    assert "from 3.0 s to ∞" in slower
    assert "FROM orders" not in slower
    pages = [client.get(f"/db/queries?at={now - 3000}&step=6000&band={band}").text for band in range(9)]
    assert any("FROM orders" in page for page in pages)
    assert client.get("/db/queries?band=9").status_code == 422


def test_a_server_that_counts_no_statements_is_not_told_to_be_watched(engine: sa.Engine) -> None:
    pilot = Autopilot(engine, PilotConfig(), store=MemoryStore(), server_side_s=0.05)
    app = FastAPI()
    app.include_router(make_dashboard(pilot), prefix="/db")
    with pilot:
        until = time.monotonic() + SOON_S
        while pilot.silence() is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        page = TestClient(app).get("/db/").text
    assert "No statement is seen: the server counts none." in page
    assert "Every statement is watched" not in page

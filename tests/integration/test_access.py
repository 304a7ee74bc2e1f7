"""Who may ask what: this machine, keys with roles, sessions of the dashboard, and what the host application says."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.testclient import TestClient
from httpx2 import Response
from typer.testing import CliRunner

from dbpilot import Autopilot, PilotConfig
from dbpilot.cli.program import program
from dbpilot.config import WebConfig
from dbpilot.errors import ConfigError, RefusedError
from dbpilot.history.store import MemoryStore
from dbpilot.pool import ResizableQueuePool
from dbpilot.retention import Rule
from dbpilot.testing.fakes import FakeClock
from dbpilot.web.access import LOGIN_PAGE, Access, Authorize, Caller, caller_of, csrf_token, expensive, make_login
from dbpilot.web.answers import ApiRoute
from dbpilot.web.api import make_api, make_metrics
from dbpilot.web.keys import KeyHash, Keyring, NewKey, Role, is_loopback, new_key, refuse_open
from dbpilot.web.limits import Limits
from tests.support import environment, run_cli

ELSEWHERE = ("203.0.113.9", 40_000)
HERE = ("127.0.0.1", 40_000)
BASE = "http://127.0.0.1:8081"
NEWS = sa.Table("news", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("at", sa.DateTime))
RULE = Rule("old news", "news", "at", timedelta(days=365))


@dataclass(frozen=True)
class Keys:
    """A key of each role."""

    made: dict[str, NewKey]

    def header(self, role: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.made[role].secret}"}

    def config(self, **more: Any) -> WebConfig:
        return WebConfig.model_validate({"keys": [key.hash.line for key in self.made.values()], **more})


@pytest.fixture(scope="session")
def keys() -> Keys:
    return Keys({role.title: new_key(f"{role.title}-of-ours", role) for role in Role})


@contextmanager
def _news(folder: Path) -> Iterator[sa.Engine]:
    """A database with two pieces of news, an old one and a new one."""
    engine = sa.create_engine(f"sqlite:///{folder / 'news.sqlite3'}", poolclass=ResizableQueuePool)
    NEWS.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(NEWS), [{"at": datetime(2001, 2, 3)}, {"at": datetime.now()}])  # noqa: DTZ001, DTZ005 - naive, as the column
    yield engine
    engine.dispose()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    """For a service that a test makes itself."""
    with _news(tmp_path) as engine:
        yield engine


class Service:
    """A plain FastAPI application with dbpilot in it, asked from wherever a test says."""

    def __init__(self, engine: sa.Engine, web: WebConfig, authorize: Authorize | None = None) -> None:
        config = PilotConfig.model_validate({"pool": {"mode": "auto"}, "web": web.model_dump(exclude_unset=True)})
        self.pilot = Autopilot(engine, config, store=MemoryStore(), retention=[RULE])
        self.app = FastAPI()
        self.engine = engine
        self.addresses = (f"198.51.100.{n}" for n in range(1, 255))
        self.app.include_router(make_api(self.pilot, authorize), prefix="/api/database")
        self.app.include_router(make_metrics(self.pilot, "shop", authorize))

    def from_elsewhere(self) -> TestClient:
        """From an address that nobody has asked from yet."""
        return self.asked_from((next(self.addresses), 40_000))

    def asked_from(self, client: tuple[str, int], base: str = BASE) -> TestClient:
        return TestClient(self.app, base_url=base, client=client, follow_redirects=False)


@pytest.fixture(scope="module")
def open_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """No key is configured."""
    with _news(tmp_path_factory.mktemp("open")) as engine:
        service = Service(engine, WebConfig())
        with service.pilot:
            yield service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Iterator[Service]:
    """A key of each role is configured."""
    with _news(tmp_path_factory.mktemp("closed")) as engine:
        service = Service(engine, keys.config())
        with service.pilot:
            yield service


STATS = "/api/database/query-stats"
REVIEW = "/api/database/connection-pool/optimize"


def test_without_a_key_this_machine_may_do_everything(open_service: Service) -> None:
    client = open_service.asked_from(HERE)
    assert client.get(STATS).status_code == 200
    assert client.post("/api/database/cleanup/run").status_code == 200
    assert client.post("/api/database/cleanup/restore", json={"rule": "old news"}).status_code == 409, "no archive yet"
    assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize("path", [STATS, "/metrics", "/api/database/cleanup", "/api/database/requests/abc"])
def test_without_a_key_nobody_else_is_answered_and_hears_why(open_service: Service, path: str) -> None:
    answer = open_service.from_elsewhere().get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (403, PROBLEM)
    assert "dbpilot key new --role admin" in answer.json()["detail"]
    assert "DBPILOT_WEB__KEYS" in answer.json()["detail"]


PROBLEM = "application/problem+json"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"X-Real-IP": "127.0.0.1"},
        {"Via": "1.1 proxy"},
        {"Host": "rebound.example:8081"},
        {"Host": "127.0.0.1.example"},
        {"Host": "["},
        {"Host": ""},
    ],
    ids=str,
)
def test_what_comes_through_a_proxy_or_under_another_name_is_not_from_here(
    open_service: Service, headers: dict[str, str]
) -> None:
    client = open_service.asked_from(HERE)
    assert client.get(STATS, headers=headers).status_code == 403
    assert client.post(REVIEW, headers=headers).status_code == 403
    assert client.get("/metrics", headers=headers).status_code == 403


@pytest.mark.parametrize("host", ["localhost:8081", "127.0.0.1:8081", "[::1]:8081", "127.8.8.8"])
def test_every_name_of_this_machine_is_ours(open_service: Service, host: str) -> None:
    assert open_service.asked_from(HERE).get(STATS, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("address", "ours"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_loopback_is_what_no_other_machine_reaches(address: str, ours: bool) -> None:
    assert is_loopback(address) is ours


def test_once_there_are_keys_this_machine_needs_one_too(service: Service) -> None:
    for client in (service.asked_from(HERE), service.from_elsewhere()):
        answer = client.get(STATS)
        assert (answer.status_code, answer.headers["content-type"]) == (401, PROBLEM)
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_more_than_a_program_has_to_say_is_refused_before_a_key_is_asked_for(service: Service) -> None:
    pieces, json = (b"x" * 10_000 for _ in range(1000)), {"Content-Type": "application/json"}
    refused = service.from_elsewhere().post("/api/database/cleanup/holds", content=pieces, headers=json)
    assert (refused.status_code, refused.headers["content-type"]) == (413, PROBLEM)


@pytest.mark.parametrize("sent", ["", "Bearer", "Bearer x", "Basic YTpi", "Bearer dbpilot_", "Bearer dbpilot_a_b", "é"])
def test_what_is_no_key_opens_nothing(service: Service, sent: str) -> None:
    answer = service.from_elsewhere().get(STATS, headers={"Authorization": sent.encode("latin-1")})
    assert answer.status_code == 401


def test_another_secret_under_the_right_id_opens_nothing(service: Service, keys: Keys) -> None:
    wrong = keys.header("admin")["Authorization"][:-4] + "AAAA"
    client = service.from_elsewhere()
    assert client.get(STATS, headers={"Authorization": wrong}).status_code == 401
    assert client.get(STATS, headers=keys.header("admin")).status_code == 200
    assert client.get(STATS, headers={"Authorization": wrong}).status_code == 401, "also after the right one was seen"


MAY = [
    ("GET", "/metrics", None, "metrics"),
    ("GET", STATS, None, "viewer"),
    ("GET", "/api/database/activity", None, "viewer"),
    ("GET", "/api/database/indexes/changes", None, "viewer"),
    ("POST", REVIEW, None, "operator"),
    ("POST", "/api/database/alerts/slow:none/mute", None, "operator"),
    ("POST", "/api/database/alerts/slow:none/unmute", None, "operator"),
    ("POST", "/api/database/cleanup/run", None, "operator"),
    ("POST", "/api/database/cleanup/cancel", None, "operator"),
    ("POST", "/api/database/cleanup/verify?rule=old news", None, "operator"),
    ("POST", "/api/database/cleanup/holds", {"table": "news", "reason": "a lawsuit"}, "operator"),
    ("POST", "/api/database/indexes/apply", {"ids": ["none"]}, "operator"),
    ("POST", "/api/database/indexes/apply?dry_run=false", {"ids": ["none"]}, "admin"),
    ("POST", "/api/database/indexes/changes/1/undo", None, "admin"),
    ("POST", "/api/database/cleanup/restore", {"rule": "old news"}, "admin"),
    ("POST", "/api/database/cleanup/restore?dry_run=false", {"rule": "old news"}, "admin"),
    ("DELETE", "/api/database/cleanup/holds/4711", None, "admin"),
]


def test_every_route_that_changes_something_is_in_the_list_of_who_may(service: Service) -> None:
    paths = service.app.openapi()["paths"]
    changing = {
        (verb.upper(), re.sub(r"\{\w+\}", "N", path))
        for path, verbs in paths.items()
        for verb in verbs
        if verb != "get"
    }
    listed = {
        (verb, re.sub(r"/(\d+|slow:none)", "/N", path.partition("?")[0])) for verb, path, _, _ in MAY if verb != "GET"
    }
    assert changing == listed


@pytest.mark.parametrize(("verb", "path", "body", "least"), MAY, ids=lambda value: str(value))
def test_each_role_may_do_what_those_before_it_may_and_no_more(
    service: Service, keys: Keys, verb: str, path: str, body: Any, least: str
) -> None:
    client = service.from_elsewhere()
    for role in Role:
        answer = client.request(verb, path, json=body, headers=keys.header(role.title))
        may = role >= Role.named(least)
        assert (answer.status_code not in (401, 403)) is may, f"{role.title}: {answer.status_code} {answer.text}"
        assert answer.status_code < 500


def test_activity_says_whose_key_it_was(service: Service, keys: Keys) -> None:
    client = service.from_elsewhere()
    operator, admin = keys.header("operator"), keys.header("admin")
    held = client.post("/api/database/cleanup/holds", json={"table": "news", "reason": "a lawsuit"}, headers=operator)
    assert held.status_code == 200, held.text
    client.delete(f"/api/database/cleanup/holds/{held.json()['id']}", headers=admin)
    client.post(REVIEW, headers=operator)
    found = client.get("/api/database/activity", headers=keys.header("viewer")).json()["activities"]
    told = [(line["subject"], line["who"], line["what"]) for line in found]
    assert ("cleanup", "operator-of-ours", f"hold {held.json()['id']} on news") in told
    assert ("cleanup", "admin-of-ours", f"released hold {held.json()['id']}") in told
    assert ("pool review", "operator-of-ours", "asked for a review of the pool") in told
    assert all(line["why"] and line["undo"] for line in found)


def test_no_key_is_in_a_repr_or_a_log(service: Service, keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    admin = keys.made["admin"]
    wrong = admin.secret[:-4] + "AAAA"
    with caplog.at_level(logging.DEBUG):
        service.from_elsewhere().get(STATS, headers={"Authorization": f"Bearer {wrong}"})
        service.from_elsewhere().get(STATS, headers=keys.header("admin"))
    assert "a wrong key of admin-of-ours was sent from 198.51.100." in caplog.text
    secrets = [wrong.rpartition("_")[2][:20], admin.hash.line.rpartition(":")[2]]
    shown = caplog.text + repr(admin) + repr(service.pilot.config) + repr(keys.config()) + str(keys.config())
    assert not any(secret in shown for secret in secrets)
    assert service.pilot.config.web.secret.get_secret_value() not in shown


class Timed:
    """A router of two routes, one of them expensive, whose time a test decides."""

    def __init__(self, web: WebConfig) -> None:
        self.clock = FakeClock()
        self.app = FastAPI()
        looks = Access(web, clock=self.clock).looks
        router = APIRouter(dependencies=[Depends(looks)], route_class=ApiRoute)
        router.add_api_route("/cheap", lambda: "cheap")
        router.add_api_route("/dear", lambda: "dear", dependencies=[Depends(expensive)])
        self.app.include_router(router)

    def get(self, path: str, key: str, address: str = "203.0.113.9") -> Response:
        client = TestClient(self.app, client=(address, 40_000))
        return client.get(path, headers={"Authorization": f"Bearer {key}"})


def test_who_tries_keys_is_slowed_down_and_others_are_not(keys: Keys) -> None:
    timed, viewer = Timed(keys.config()), keys.made["viewer"].secret
    wrong = keys.made["operator"].secret[:-5]
    codes = [timed.get("/cheap", f"{wrong}{n:05}").status_code for n in range(12)]
    assert codes == [401] * 10 + [429] * 2
    refused = timed.get("/cheap", viewer)
    assert (refused.status_code, refused.headers["content-type"]) == (429, PROBLEM)
    assert refused.headers["retry-after"] == "6"
    assert timed.get("/cheap", viewer, "203.0.113.10").status_code == 200
    assert timed.get("/cheap", viewer).status_code == 200, "a key that is known costs nothing"
    assert timed.get("/cheap", keys.made["admin"].secret).status_code == 429
    timed.clock.advance(6)
    assert timed.get("/cheap", keys.made["admin"].secret).status_code == 200


def test_what_is_expensive_is_limited_for_each_key(keys: Keys) -> None:
    timed = Timed(keys.config(expensive_per_minute=2))
    viewer, operator = keys.made["viewer"].secret, keys.made["operator"].secret
    assert [timed.get("/dear", viewer).status_code for _ in range(3)] == [200, 200, 429]
    assert timed.get("/dear", viewer, "203.0.113.10").status_code == 429, "it is the key that counts"
    assert timed.get("/dear", operator).status_code == 200
    assert timed.get("/cheap", viewer).status_code == 200
    timed.clock.advance(30)
    assert timed.get("/dear", viewer).status_code == 200


def test_a_bucket_fills_again_with_time() -> None:
    clock = FakeClock()
    limits = Limits(60, clock)
    assert [limits.take("a") for _ in range(60)] == [0] * 60
    assert limits.take("a") == 1
    assert limits.take("b") == 0
    clock.advance(2.5)
    assert [limits.take("a") for _ in range(3)] == [0, 0, 1]


def test_callers_that_are_remembered_are_bounded() -> None:
    limits = Limits(1, FakeClock())
    for n in range(2000):
        limits.take(str(n))
    assert limits.take("1999") > 0
    assert limits.take("0") == 0


# Sessions


class Pages:
    """A dashboard of one page, as the library's own is made."""

    def __init__(self, web: WebConfig, authorize: Authorize | None = None) -> None:
        self.clock = FakeClock()
        self.access = Access(web, authorize, self.clock)
        self.app = FastAPI()
        self.app.include_router(self._open(), prefix="/dashboard")
        self.app.include_router(self._closed(), prefix="/dashboard")

    def _open(self) -> APIRouter:
        router = make_login(self.access)
        router.add_api_route("/login", lambda: "log in", name=LOGIN_PAGE)
        return router

    def _closed(self) -> APIRouter:
        router = APIRouter(dependencies=[Depends(self.access.shows)], route_class=ApiRoute)

        @router.get("/pool")
        def pool(request: Request) -> dict[str, str]:
            return {"who": caller_of(request).name, "by": caller_of(request).by, "token": csrf_token(request)}

        @router.post("/pool")
        def act(request: Request) -> str:
            return caller_of(request).name

        return router

    def browser(self, base: str = "https://db.example") -> TestClient:
        return TestClient(self.app, base_url=base, client=ELSEWHERE, follow_redirects=False)


SAME = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def pages(keys: Keys) -> Pages:
    return Pages(keys.config())


def _log_in(pages: Pages, keys: Keys, role: str = "operator", **fields: str) -> TestClient:
    browser = pages.browser()
    browser.post("/dashboard/login", data={"key": keys.made[role].secret, **fields}, headers=SAME)
    return browser


def test_who_is_not_known_is_sent_to_the_login_page_and_back(pages: Pages, keys: Keys) -> None:
    browser = pages.browser()
    sent = browser.get("/dashboard/pool?hours=3")
    assert (sent.status_code, sent.headers["location"]) == (303, "/dashboard/login?next=/dashboard/pool%3Fhours%3D3")
    assert browser.get("/dashboard/login").status_code == 200
    fields = {"key": keys.made["viewer"].secret, "next": "/dashboard/pool?hours=3"}
    back = browser.post("/dashboard/login", data=fields, headers=SAME)
    assert (back.status_code, back.headers["location"]) == (303, "/dashboard/pool?hours=3")
    assert browser.get("/dashboard/pool").json()["who"] == "viewer-of-ours"


def test_a_session_is_a_cookie_that_no_script_and_no_other_site_sees(pages: Pages, keys: Keys) -> None:
    answer = pages.browser().post("/dashboard/login", data={"key": keys.made["viewer"].secret}, headers=SAME)
    cookie = answer.headers["set-cookie"].lower()
    assert {"httponly", "samesite=strict", "secure", "path=/", "max-age=43200"} <= set(cookie.split("; "))
    assert keys.made["viewer"].secret.lower() not in cookie


@pytest.mark.parametrize(
    "key", ["", "x", "dbpilot_x_y", "metrics"], ids=["none", "nonsense", "unknown", "one that may only scrape"]
)
def test_a_key_that_opens_nothing_leads_to_the_login_page_again(pages: Pages, keys: Keys, key: str) -> None:
    sent = keys.made["metrics"].secret if key == "metrics" else key
    answer = pages.browser().post("/dashboard/login", data={"key": sent, "next": "/dashboard/pool"}, headers=SAME)
    assert answer.headers["location"] == "/dashboard/login?next=/dashboard/pool&wrong=1"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "wanted",
    ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x", "", "/dashboard/login", "/a\r\nb"],
)
def test_nobody_is_led_elsewhere_after_the_login(pages: Pages, keys: Keys, wanted: str) -> None:
    fields = {"key": keys.made["viewer"].secret, "next": wanted}
    assert pages.browser().post("/dashboard/login", data=fields, headers=SAME).headers["location"] == "/dashboard"


def test_an_action_needs_the_sessions_token(pages: Pages, keys: Keys) -> None:
    browser = _log_in(pages, keys)
    token = browser.get("/dashboard/pool").json()["token"]
    assert browser.post("/dashboard/pool", headers=SAME).status_code == 403
    assert browser.post("/dashboard/pool", headers=SAME, data={"csrf_token": "x"}).status_code == 403
    assert browser.post("/dashboard/pool", headers=SAME, data={"csrf_token": token}).json() == "operator-of-ours"
    assert browser.post("/dashboard/pool", headers={**SAME, "X-CSRF-Token": token}).status_code == 200
    other = _log_in(pages, keys).get("/dashboard/pool").json()["token"]
    assert browser.post("/dashboard/pool", headers=SAME, data={"csrf_token": other}).status_code == 403


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "https://db.example"}, True),
        ({}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://db.example"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "https://db.example.evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "nonsense"}, False),
    ],
    ids=str,
)
def test_a_page_of_another_site_may_do_nothing(pages: Pages, keys: Keys, headers: dict[str, str], ours: bool) -> None:
    browser = _log_in(pages, keys)
    token = browser.get("/dashboard/pool").json()["token"]
    answer = browser.post("/dashboard/pool", data={"csrf_token": token}, headers=headers)
    assert (answer.status_code == 200) is ours


def test_a_page_of_another_site_may_do_nothing_on_a_developers_machine_either(open_service: Service) -> None:
    client = open_service.asked_from(HERE)
    assert client.post(REVIEW, headers={"Origin": "https://evil.example"}).status_code == 403
    assert client.post(REVIEW, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.post(REVIEW, headers={"Origin": BASE}).status_code == 200


def test_a_session_ends_with_its_time_its_key_or_the_secret(pages: Pages, keys: Keys) -> None:
    browser = _log_in(pages, keys)
    pages.clock.advance(11 * 3600)
    assert browser.get("/dashboard/pool").status_code == 200
    pages.clock.advance(2 * 3600)
    assert browser.get("/dashboard/pool").status_code == 303
    browser = _log_in(pages, keys)
    cookie = browser.cookies["dbpilot_session"]
    for web in (
        WebConfig.model_validate({"keys": [keys.made["viewer"].hash.line], "secret": keys.config().secret}),
        keys.config(secret="another secret of at least 32 letters"),
    ):
        later = Pages(web).browser()
        later.cookies.set("dbpilot_session", cookie)
        assert later.get("/dashboard/pool").status_code == 303


def test_processes_with_one_secret_know_each_others_sessions(keys: Keys) -> None:
    web = keys.config(secret="a secret that all workers have in common")
    cookie = _log_in(Pages(web), keys).cookies["dbpilot_session"]
    other = Pages(web).browser()
    other.cookies.set("dbpilot_session", cookie)
    assert other.get("/dashboard/pool").status_code == 200


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: c.replace(".", ".9", 1), lambda _: "", lambda _: "..."])
def test_a_cookie_that_was_changed_is_none(pages: Pages, keys: Keys, change: Any) -> None:
    cookie = _log_in(pages, keys).cookies["dbpilot_session"]
    browser = pages.browser()
    browser.cookies.set("dbpilot_session", change(cookie))
    assert browser.get("/dashboard/pool").status_code == 303


def test_who_logs_out_is_sent_to_the_login_page(pages: Pages, keys: Keys) -> None:
    browser = _log_in(pages, keys)
    answer = browser.post("/dashboard/logout", headers=SAME)
    assert answer.headers["location"] == "/dashboard/login?next=/dashboard"
    assert browser.get("/dashboard/pool").status_code == 303
    assert pages.browser().post("/dashboard/logout", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_a_form_that_is_too_large_or_another_sites_is_refused(pages: Pages, keys: Keys) -> None:
    large = pages.browser().post("/dashboard/login", data={"key": "x" * 100_000}, headers=SAME)
    assert (large.status_code, large.headers["content-type"]) == (413, PROBLEM)
    foreign = {"Origin": "https://evil.example"}
    sent = pages.browser().post("/dashboard/login", data={"key": keys.made["admin"].secret}, headers=foreign)
    assert (sent.status_code, "set-cookie" in sent.headers) == (403, False)


# What a host application says


@pytest.mark.parametrize("how", ["function", "coroutine"])
def test_the_host_application_may_say_who_asks(engine: sa.Engine, keys: Keys, how: str) -> None:
    roles = {"anna": Caller("anna@shop", Role.OPERATOR), "bert": Role.VIEWER}

    def authorize(request: Request) -> Role | Caller | None:
        return roles.get(request.headers.get("x-user", ""))

    async def authorize_async(request: Request) -> Role | Caller | None:
        return authorize(request)

    service = Service(engine, keys.config(), authorize if how == "function" else authorize_async)
    with service.pilot:
        client = service.from_elsewhere()
        assert client.get(STATS).status_code == 401
        assert service.asked_from(HERE).get(STATS).status_code == 401
        assert client.get(STATS, headers=keys.header("admin")).status_code == 401, (
            "keys are the library's, not the host's"
        )
        assert client.get(STATS, headers={"x-user": "bert"}).status_code == 200
        assert client.get("/metrics", headers={"x-user": "bert"}).status_code == 200
        assert client.post(REVIEW, headers={"x-user": "bert"}).status_code == 403
        assert client.post(REVIEW, headers={"x-user": "anna"}).status_code == 200
        assert client.post(REVIEW, headers={"x-user": "anna", "Origin": "https://evil.example"}).status_code == 403
        [line] = [a for a in service.pilot.activity(1, 10).activities if a.subject == "pool review"]
        assert line.who == "anna@shop"


# Keys, and where they are configured


@pytest.mark.parametrize(
    "line",
    [
        "alice",
        "alice:operator:1:scrypt-14-8-1:x",
        "alice:operator:1:md5:AAAA:AAAA",
        "alice:king:1:scrypt-14-8-1:AAAAAAAAAAAAAAAAAAAAAA:" + "A" * 43,
        "alice:operator:1:scrypt-14-8-1:AAAA:AAAA",
        "al ice:operator:1:scrypt-14-8-1:AAAAAAAAAAAAAAAAAAAAAA:" + "A" * 43,
    ],
)
def test_a_line_that_is_no_keys_is_refused_without_repeating_it(line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        KeyHash.read(line, "key 1")
    assert line not in str(refused.value)


def test_a_key_with_a_lines_name_and_role_opens(keys: Keys) -> None:
    made = new_key("alice@shop", Role.OPERATOR)
    read = KeyHash.read(f"  {made.hash.line}\n", "key 1")
    assert (read, read.fits(made.secret), read.fits(made.secret + "x")) == (made.hash, True, False)
    assert re.fullmatch(r"[A-Za-z0-9._@:-]+", made.hash.line), "nothing that a shell would take for its own"


def test_two_keys_of_one_id_are_refused(keys: Keys) -> None:
    hash_ = keys.made["admin"].hash
    with pytest.raises(ConfigError, match="the same id"):
        Keyring([hash_, hash_])


def test_keys_are_read_from_a_file_as_well(engine: sa.Engine, keys: Keys, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# ours\n\n{keys.made['viewer'].hash.line}\n")
    service = Service(engine, WebConfig(keys_file=file))
    assert service.from_elsewhere().get("/metrics", headers=keys.header("viewer")).status_code == 200
    assert service.asked_from(HERE).get(STATS).status_code == 401
    file.write_text("nonsense")
    with pytest.raises(ConfigError, match="line 1 of"):
        make_api(service.pilot)
    file.unlink()
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        make_api(service.pilot)


def test_a_command_makes_a_key_and_the_line_that_configures_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = CliRunner().invoke(program, ["key", "new", "--role", "operator", "--name", "alice"])
    assert made.exit_code == 0, made.output
    [secret] = re.findall(r"dbpilot_\w{12}_[\w-]{43}", made.output)
    [value] = re.findall(r"DBPILOT_WEB__KEYS='(.*)'", made.output)
    monkeypatch.setenv("DBPILOT_WEB__KEYS", value)
    access = Access(PilotConfig.from_env().web)
    assert access.asks_for_keys
    second = CliRunner().invoke(program, ["key", "new", "--role", "viewer", "--name", "bob"]).output
    assert value[1:-1] in second, "keys that are configured stay so"
    assert secret not in second


def test_a_command_adds_a_key_to_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    for name in ("alice", "bob"):
        made = CliRunner().invoke(program, ["key", "new", "--role", "viewer", "--name", name, "--file", str(file)])
        assert f"DBPILOT_WEB__KEYS_FILE={file}" in made.output
    assert [line.split(":")[:2] for line in file.read_text().splitlines()] == [["alice", "viewer"], ["bob", "viewer"]]
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_service_may_listen_on_loopback_without_a_key(host: str) -> None:
    refuse_open(host, WebConfig(), "HOST")


def test_a_service_may_listen_anywhere_with_a_key_and_nowhere_else_without(keys: Keys) -> None:
    refuse_open("0.0.0.0", keys.config(), "HOST")
    with pytest.raises(RefusedError, match=r"HOST=0\.0\.0\.0 .*dbpilot key new --role admin.*DBPILOT_WEB__KEYS="):
        refuse_open("0.0.0.0", WebConfig(), "HOST")


def test_finstage_does_not_start_where_others_reach_it_without_a_key(tmp_path: Path) -> None:
    done = run_cli("serve", env=environment(tmp_path / "var", FINSTAGE_HOST="0.0.0.0", FINSTAGE_PORT="0"))
    assert done.returncode == 5
    assert "DBPILOT_WEB__KEYS='" in done.stderr
    assert not (tmp_path / "var" / "finstage.sqlite3").exists(), "nothing was done before"


# Answers


def test_answers_carry_the_headers_of_data(open_service: Service) -> None:
    for path in (STATS, "/api/database/requests/none", "/metrics"):
        headers = open_service.asked_from(HERE).get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("verb", "path", "status", "kind"),
    [
        ("GET", f"{STATS}?limit=0", 422, "invalid-request"),
        ("GET", f"{STATS}?cursor=nonsense", 422, "invalid-request"),
        ("GET", "/api/database/requests/none", 404, "not-there"),
        ("POST", "/api/database/cleanup/verify?rule=none", 422, "invalid-request"),
        ("POST", "/api/database/indexes/apply", 422, "invalid-request"),
        ("POST", "/api/database/cleanup/verify?rule=old news", 409, "refused"),
        ("PUT", STATS, 405, "method-not-allowed"),
    ],
)
def test_every_refusal_is_a_problem_in_a_plain_application(
    open_service: Service, verb: str, path: str, status: int, kind: str
) -> None:
    answer = open_service.asked_from(HERE).request(verb, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
    problem = answer.json()
    assert (problem["status"], problem["type"]) == (status, kind)
    assert problem["title"]
    assert problem["detail"]


def test_a_problem_says_where_the_request_is_wrong_and_repeats_nothing(open_service: Service) -> None:
    answer = open_service.asked_from(HERE).get(STATS, params={"limit": "4711x"})
    assert [error["loc"] for error in answer.json()["errors"]] == [["query", "limit"]]
    assert "4711x" not in answer.text


def test_what_has_not_changed_is_not_sent_again(open_service: Service) -> None:
    client = open_service.asked_from(HERE)
    tag = client.get(STATS).headers["etag"]
    again = client.get(STATS, headers={"If-None-Match": f'"x", {tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    with open_service.engine.connect() as connection:
        connection.execute(sa.select(NEWS)).all()
    changed = client.get(STATS, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


def test_a_long_list_comes_in_pages_that_together_are_all_of_it(open_service: Service) -> None:
    client = open_service.asked_from(HERE)
    with open_service.engine.connect() as connection:
        for n in range(7):
            connection.execute(sa.select(*[NEWS.c.id.label(f"c{m}") for m in range(n + 1)])).all()
    everything = client.get(STATS, params={"order": "calls", "limit": 1000}).json()
    pages = [client.get(STATS, params={"order": "calls", "limit": 3}).json()]
    while pages[-1]["next"]:
        params = {"order": "calls", "limit": 3, "cursor": pages[-1]["next"]}
        pages.append(client.get(STATS, params=params).json())
    ids = [line["pattern_id"] for page in pages for line in page["patterns"]]
    assert ids == [line["pattern_id"] for line in everything["patterns"]]
    assert [len(page["patterns"]) for page in pages[:-1]] == [3] * (len(pages) - 1)
    assert len({page["until"] for page in pages}) == 1, "all of them are about one range of time"
    assert everything["next"] is None


def test_activity_comes_in_pages_latest_first(open_service: Service) -> None:
    client = open_service.asked_from(HERE)
    for _ in range(5):
        client.post(REVIEW)
    everything = client.get("/api/database/activity").json()["activities"]
    first = client.get("/api/database/activity", params={"limit": 3}).json()
    second = client.get("/api/database/activity", params={"limit": 3, "cursor": first["next"]}).json()
    lines = [*first["activities"], *second["activities"]]
    assert lines == everything[: len(lines)]
    assert len(lines) >= 5
    times = [line["at"] for line in lines]
    assert times == sorted(times, reverse=True)

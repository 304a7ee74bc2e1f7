"""Whoever asks much about the database must not keep the application waiting."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Barrier, Event
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient
from sqlalchemy import Engine, QueuePool, create_engine, text
from sqlalchemy.orm import Session
from starlette.types import ASGIApp, Receive, Scope, Send

from app.main import AT_ONCE, InTurn
from dbpilot.config import WebConfig
from dbpilot.testing.fakes import FakeClock
from dbpilot.web.access import Access, Caller
from dbpilot.web.keys import Role
from dbpilot.web.sharing import (
    MAX_AGE_S,
    MAX_BODY,
    MAX_BYTES,
    MAX_OLD_S,
    SAVED_S,
    SHARE,
    THREADS,
    Budget,
    SharedAnswers,
    SharingMiddleware,
)

DEADLINE_S = 60


class Asked:
    """A router whose answers are numbers, each one more work than the share allows for seconds."""

    def __init__(self, work_s: float = 2 * SAVED_S) -> None:
        self.clock, self.work_s, self.made = FakeClock(), work_s, 0
        self.worked_s = 0.0
        self.found: Caller | None = Caller("an operator", Role.OPERATOR)
        self.fails = False
        self.times_asked = 0
        self.slow_s = 0.0
        access = Access(WebConfig(), self.authorize)
        answers = SharedAnswers(access.looks, Budget(self.clock, lambda: self.worked_s))
        self.answers = answers
        router = APIRouter(route_class=answers.route(), dependencies=[Depends(access.looks)])
        router.add_api_route("/number", self.number)
        router.add_api_route("/number", self.changed, methods=["POST"])
        router.add_api_route("/refused", self.refused)
        app = FastAPI()
        app.include_router(router)
        self.router, self.app, self.client = router, app, TestClient(app)

    def authorize(self, _: Request) -> Caller | None:
        self.times_asked += 1
        return self.found if 1 / (not self.fails) else None

    def number(self, which: int = 0) -> dict[str, int]:
        time.sleep(self.slow_s)
        self.made += 1
        self.worked_s += self.work_s
        return {"number": self.made, "which": which}

    def changed(self) -> None:
        """Something is another way now."""

    def refused(self) -> None:
        time.sleep(self.slow_s)
        self.made += 1
        self.worked_s += self.work_s
        raise HTTPException(404, "not there")

    def get(self, query: str = "", **headers: str) -> httpx2.Response:
        return self.client.get(f"/number{query}", headers=headers)


@pytest.fixture
def asked() -> Asked:
    return Asked()


def test_what_takes_little_is_always_made_anew() -> None:
    asked = Asked(SAVED_S / 100)
    assert [asked.get().json()["number"] for _ in range(50)] == [*range(1, 51)]


def test_what_takes_much_is_made_for_all_who_ask_within_seconds(asked: Asked) -> None:
    first = asked.get()
    assert (first.json()["number"], first.headers.get("age")) == (1, None)
    asked.clock.advance(MAX_AGE_S - 1)
    again = asked.get()
    assert (again.json()["number"], again.headers["age"], again.headers["etag"]) == (1, "4", first.headers["etag"])
    assert asked.get(**{"If-None-Match": first.headers["etag"]}).status_code == 304
    asked.clock.advance(2)
    assert asked.get().json()["number"] == 2
    assert asked.get().json()["number"] == 2


def test_what_is_done_with_what_was_found_is_work_as_well() -> None:
    asked = Asked(0)

    class Written(PlainTextResponse):
        def render(self, content: Any) -> bytes:
            asked.worked_s += 2 * SAVED_S
            return bytes(super().render(content))

    async def many() -> Written:
        asked.made += 1
        return Written(str(asked.made))

    asked.router.add_api_route("/many", many)
    asked.app.include_router(asked.router)
    assert [asked.client.get("/many").text for _ in range(3)] == ["1"] * 3


def test_the_routers_of_a_pilot_have_one_budget() -> None:
    pilot, other = Asked(), Asked()
    Budget.of(pilot).spend(2 * SAVED_S)
    assert (Budget.of(pilot).is_spent, Budget.of(other).is_spent) == (True, False)


def test_who_is_refused_keeps_no_answer_from_being_made_anew(asked: Asked) -> None:
    asked.app.add_middleware(SharingMiddleware)
    known, seen = asked.found, []
    for _ in range(8):
        asked.found = None
        assert asked.get().status_code == 401
        asked.found = known
        seen.append(asked.get().json()["number"])
        asked.clock.advance(MAX_AGE_S - 1)
    assert len(set(seen)) >= len(seen) / 2, seen


def test_nobody_is_asked_twice_who_may_not_look(asked: Asked) -> None:
    asked.app.add_middleware(SharingMiddleware)
    assert [asked.get().status_code for _ in range(2)] == [200, 200]
    before, asked.found = asked.times_asked, None
    refused = asked.get()
    assert asked.times_asked == before + 1
    assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
    assert refused.headers["x-content-type-options"] == "nosniff"


def test_while_there_is_time_for_it_nobody_gets_an_old_answer() -> None:
    asked = Asked(SAVED_S / 100)
    asked.get()
    asked.clock.advance(86_400)
    answers = _together(asked.app, "/number", 4)
    assert [answer.headers.get("age") for answer in answers] == [None] * 4


def test_what_an_outer_middleware_adds_to_an_answer_is_not_given_to_others(asked: Asked) -> None:
    class Marks:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def marked(message: Any) -> None:
                if message["type"] == "http.response.start" and b"x-who" in dict(scope["headers"]):
                    message["headers"].append((b"set-cookie", b"sid=mine"))
                await send(message)

            await self.app(scope, receive, marked)

    asked.app.add_middleware(SharingMiddleware)
    asked.app.add_middleware(Marks)
    assert asked.get(**{"x-who": "me"}).headers["set-cookie"] == "sid=mine"
    assert [asked.get().headers.get("set-cookie") for _ in range(2)] == [None, None]


def test_of_a_crowd_that_asks_at_once_few_keep_us_working() -> None:
    asked = Asked(SAVED_S / 10)
    answers = _together(asked.app, "/number", 200)
    assert {answer.status_code for answer in answers} == {200}
    assert 1 <= asked.made <= 10 + THREADS


def test_a_crowd_is_told_of_one_failure(asked: Asked) -> None:
    asked.get()  # which takes more time than there was
    made, asked.slow_s = asked.made, 0.2  # long enough for all to ask meanwhile
    answers = _together(asked.app, "/refused", 50)
    assert [answer.status_code for answer in answers] == [404] * 50
    assert asked.made == made + 1


def test_who_goes_away_leaves_the_work_to_one_other(asked: Asked) -> None:
    asked.get()
    made, asked.slow_s = asked.made, 0.2

    async def all_of_them() -> list[Any]:
        transport = httpx2.ASGITransport(asked.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=DEADLINE_S) as client:
            asking = [asyncio.create_task(client.get("/number?which=7")) for _ in range(20)]
            await asyncio.sleep(0.1)
            asking[0].cancel()
            return await asyncio.gather(*asking, return_exceptions=True)

    first, *others = asyncio.run(all_of_them())
    assert isinstance(first, asyncio.CancelledError)
    assert {answer.json()["which"] for answer in others} == {7}
    assert asked.made == made + 2


def test_answers_take_no_more_memory_than_they_may(asked: Asked) -> None:
    size = MAX_BODY - 1000

    async def long(which: int) -> PlainTextResponse:
        return PlainTextResponse(str(which) * size)

    asked.router.add_api_route("/long", long)
    asked.app.include_router(asked.router)
    asked.get()
    for which in range(3 * MAX_BYTES // MAX_BODY):
        assert len(asked.client.get(f"/long?which={which % 10}&n={which}").text) == size
    kept = [len(made.body) for made in asked.answers._known.values()]
    assert MAX_BYTES / 2 < sum(kept) <= MAX_BYTES
    asked.clock.advance(MAX_OLD_S + 1)
    asked.get()
    assert len(asked.answers._known) == 1


def test_who_may_not_change_anything_does_not_make_us_forget(asked: Asked) -> None:
    asked.get()
    known, asked.found = asked.found, None
    assert asked.client.post("/number").status_code == 401
    asked.found = known
    assert asked.get().json()["number"] == 1


def test_another_question_has_an_answer_of_its_own(asked: Asked) -> None:
    assert [asked.get(f"?which={which}").json()["which"] for which in (1, 2, 1, 2)] == [1, 2, 1, 2]
    assert asked.made == 2


def test_after_a_pause_answers_are_made_anew(asked: Asked) -> None:
    asked.get()
    asked.clock.advance(2 * SAVED_S / SHARE + MAX_AGE_S)
    assert [asked.get().json()["number"] for _ in range(2)] == [2, 2]


def test_who_changed_something_sees_it(asked: Asked) -> None:
    asked.get()
    assert asked.client.post("/number").status_code == 200
    assert asked.get().json()["number"] == 2


def test_a_refusal_is_nobody_elses(asked: Asked) -> None:
    assert [asked.client.get("/refused").status_code for _ in range(3)] == [404] * 3
    assert asked.made == 3


def test_who_may_not_look_is_not_told_what_others_were(asked: Asked) -> None:
    asked.get()
    asked.found = None
    refused = asked.get()
    assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
    asked.found = Caller("a viewer", Role.VIEWER)
    assert asked.get().json()["number"] == 2, "it was made for somebody who may see more"
    asked.found = Caller("an admin", Role.ADMIN)
    assert asked.get().json()["number"] == 2


def test_a_router_is_not_reached_for_what_was_answered_a_moment_ago() -> None:
    asked, reached = Asked(), []

    class Looked:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            reached.append(scope["path"])
            await self.app(scope, receive, send)

    asked.app.add_middleware(Looked)
    asked.app.add_middleware(SharingMiddleware)  # so that it asks first
    numbers = [asked.get().json()["number"] for _ in range(5)]
    assert (numbers, reached) == ([1] * 5, ["/number"])
    assert asked.get().headers["age"] == "0"
    assert asked.get("?which=1").json() == {"number": 2, "which": 1}
    assert asked.client.post("/number").status_code == 200
    assert asked.get().json()["number"] == 3
    asked.found = None
    assert asked.get().status_code == 401
    asked.found = Caller("a viewer", Role.VIEWER)
    assert asked.get().json()["number"] == 4, "it was made for somebody who may see more"
    asked.clock.advance(MAX_AGE_S + 1)
    assert asked.get().json()["number"] == 5
    assert asked.get().json()["number"] == 5


def _application(*, mounted: bool = False, include: list[Any] | None = None) -> tuple[FastAPI, Asked]:
    """One that shares, in which the router is included, or an application of its own."""
    asked, outer = Asked(), FastAPI()
    outer.add_middleware(SharingMiddleware)
    if mounted:
        outer.mount("/inside", asked.app)
    else:
        outer.include_router(asked.router, dependencies=include)
    return outer, asked


def test_what_a_mounted_applications_middleware_refuses_is_refused() -> None:
    outer, asked = _application(mounted=True)

    class Guard:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            who = dict(scope.get("headers", ())).get(b"x-who")
            await (self.app if who == b"boss" else PlainTextResponse("who?", 401))(scope, receive, send)

    asked.app.add_middleware(Guard)
    client = TestClient(outer)
    answers = [client.get("/inside/number", headers=who) for who in ({}, {"x-who": "boss"}, {}, {"x-who": "boss"})]
    assert [answer.status_code for answer in answers] == [401, 200, 401, 200]
    assert answers[-1].headers["age"] == "0"


def test_what_the_router_was_included_with_is_asked_first() -> None:
    asked, app, seen = Asked(), FastAPI(), []

    def needs(request: Request, response: Response) -> None:
        seen.append(request.headers.get("x-who"))
        if seen[-1] != "boss":
            raise HTTPException(401)
        response.set_cookie("who", "boss")

    app.include_router(asked.router, dependencies=[Depends(needs)])
    client = TestClient(app)
    answers = [client.get("/number", headers=who) for who in ({}, {"x-who": "boss"}, {}, {"x-who": "boss"})]
    assert [answer.status_code for answer in answers] == [401, 200, 401, 200]
    assert seen == [None, "boss", None, "boss"]
    assert [answers[number].json()["number"] for number in (1, 3)] == [1, 2], "a cookie is for one alone"


def test_what_authorize_raises_is_answered_by_the_application() -> None:
    outer, asked = _application()

    @outer.exception_handler(ZeroDivisionError)
    def answer(_: Request, __: Exception) -> Response:
        return PlainTextResponse("its database is away", 503)

    client = TestClient(outer)
    assert client.get("/number").status_code == 200
    asked.fails = True
    assert [client.get("/number").status_code for _ in range(2)] == [503, 503]
    asked.fails = False
    assert client.get("/number").headers["age"] == "0"


def test_an_answer_whose_renewal_came_to_nothing_is_made_anew_in_seconds(asked: Asked) -> None:
    asked.app.add_middleware(SharingMiddleware)
    asked.get()
    asked.get()
    asked.clock.advance(MAX_AGE_S + 1)
    asked.fails = True
    with pytest.raises(ZeroDivisionError):
        asked.get()
    asked.fails = False
    asked.clock.advance(MAX_AGE_S + 1)
    assert asked.get().json()["number"] == 2


def test_the_first_of_two_headers_counts(asked: Asked) -> None:
    def get(*accepted: str) -> Any:
        return asked.client.get("/number", headers=[("accept", one) for one in accepted]).json()["number"]

    assert [get("a", "b"), get("b"), get("a")] == [1, 2, 1]


def test_one_hosts_answers_are_not_another_ones(asked: Asked) -> None:
    assert [asked.get(Host=host).json()["number"] for host in ("a", "b", "a")] == [1, 2, 1]


def _together(app: FastAPI, path: str, many: int) -> list[httpx2.Response]:
    """The answers to so many requests at once."""

    async def all_of_them() -> list[httpx2.Response]:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=DEADLINE_S) as client:
            asking = asyncio.gather(*(client.get(path) for _ in range(many)))
            return await asyncio.wait_for(asking, DEADLINE_S)

    return asyncio.run(all_of_them())


def _router(endpoint: Callable[..., Any]) -> FastAPI:
    async def admits(_: Request) -> None:
        """Everybody."""

    budget = Budget()
    budget.spend(SAVED_S + 1)
    answers = SharedAnswers(admits, budget)
    router = APIRouter(route_class=answers.route())
    router.add_api_route("/slow", endpoint)
    app = FastAPI()
    app.include_router(router)
    return app


def test_what_is_being_made_is_waited_for() -> None:
    made: list[int] = []

    def slow() -> int:
        time.sleep(0.2)  # long enough for all to ask meanwhile
        made.append(1)
        return len(made)

    assert {answer.json() for answer in _together(_router(slow), "/slow", 20)} == {1}


def test_the_applications_threads_are_left_to_it() -> None:
    held, full, busy = Event(), Barrier(THREADS + 1), []

    def slow(number: int) -> None:
        busy.append(number)
        if len(busy) <= THREADS:
            full.wait(DEADLINE_S)
            held.wait(DEADLINE_S)

    app = _router(slow)

    def release() -> int:
        full.wait(DEADLINE_S)
        seen = len(busy)
        held.set()
        return seen

    app.add_api_route("/own", release)

    async def asked() -> int:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=DEADLINE_S) as client:
            many = [asyncio.create_task(client.get(f"/slow?number={number}")) for number in range(100)]
            seen = await client.get("/own")
            await asyncio.gather(*many)
            return int(seen.json())

    assert asyncio.run(asked()) == THREADS


def _sessions(engine: Engine) -> FastAPI:
    def session() -> Iterator[Session]:
        with Session(engine) as made:
            yield made

    def known(db: Annotated[Session, Depends(session)]) -> int:
        return int(db.scalar(text("SELECT 1")) or 0)

    app = FastAPI()

    @app.get("/api/market/one")
    def one(db: Annotated[Session, Depends(session)], first: Annotated[int, Depends(known)]) -> int:
        return first + int(db.scalar(text("SELECT 1")) or 0)

    app.add_middleware(InTurn, at_once=AT_ONCE)
    return app


def test_more_requests_than_threads_and_connections_are_all_answered(tmp_path: Path) -> None:
    """Each holds its connection from one thread to the next."""
    engine = create_engine(
        f"sqlite:///{tmp_path}/one", poolclass=QueuePool, pool_size=2, max_overflow=0, pool_timeout=DEADLINE_S
    )
    try:
        answers = _together(_sessions(engine), "/api/market/one", 200)
        assert {(answer.status_code, answer.text) for answer in answers} == {(200, "2")}
    finally:
        engine.dispose()

"""Which request ran what: ids, traces, routes, lines of code, N+1, and the comment that the server sees."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import BackgroundTasks, FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from dbpilot import Autopilot, PilotConfig, unit_of_work
from dbpilot.history.store import MemoryStore
from dbpilot.web.api import make_api
from dbpilot.web.requests import RequestsMiddleware
from tests.contract.probe import ASYNC_DRIVERS

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


class Base(DeclarativeBase):
    """The tables of this file."""


class Writer(Base):
    __tablename__ = "writers"
    id: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[list["Book"]] = relationship()


class Book(Base):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    writer_id: Mapped[int] = mapped_column(sa.ForeignKey("writers.id"))


@pytest.fixture
def engine(sqlite_url: sa.URL) -> Iterator[sa.Engine]:
    engine = sa.create_engine(sqlite_url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Writer(id=n, books=[Book(id=n)]) for n in range(12)])
        session.commit()
    yield engine
    engine.dispose()


@pytest.fixture
def pilot(engine: sa.Engine) -> Iterator[Autopilot]:
    config = PilotConfig.model_validate({"queries": {"drain_s": 0.05}})
    with Autopilot(engine, config, store=MemoryStore()) as pilot:
        yield pilot


@pytest.fixture
def client(engine: sa.Engine, pilot: Autopilot) -> Iterator[TestClient]:
    app = FastAPI()

    @app.get("/writers/{number}")
    def writers(number: int, background: BackgroundTasks) -> int:
        with Session(engine) as session:
            found = session.scalars(sa.select(Writer)).all()
            count = sum(len(writer.books) for writer in found)
        background.add_task(_count, engine)
        return count

    app.include_router(make_api(pilot), prefix="/api/database")
    app.add_middleware(RequestsMiddleware)
    with TestClient(app) as client:
        yield client


def _count(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT count(*) FROM books")).all()


def test_a_receipt_tells_what_a_request_ran_background_tasks_included(client: TestClient) -> None:
    answer = client.get("/writers/7", headers={"traceparent": PARENT})
    receipt = client.get(f"/api/database/requests/{answer.headers['x-request-id']}").json()
    assert (receipt["route"], receipt["trace_id"], receipt["calls"]) == ("GET /writers/{number}", TRACE, 14)
    lines = {line["query"].split(" FROM ")[1].split()[0]: line for line in receipt["lines"]}
    assert lines["books"]["calls"] in (1, 12)
    assert sum(line["calls"] for line in receipt["lines"]) == 14
    assert all(line["total_s"] > 0 for line in receipt["lines"])


def test_an_n_plus_one_names_the_line_the_relationship_and_the_cure(client: TestClient) -> None:
    client.get("/writers/7")
    [found] = client.get("/api/database/n-plus-one").json()["repetitions"]
    assert (found["calls"], found["relationship"], found["route"]) == (12, "Writer.books", "GET /writers/{number}")
    assert found["callsite"].startswith("tests/integration/test_requests.py:")
    assert "selectinload(Writer.books)" in found["advice"]
    lines = client.get("/api/database/query-stats", params={"order": "calls"}).json()["patterns"]
    assert any("selectinload(Writer.books)" in sentence for sentence in lines[0]["advice"])
    assert lines[0]["sources"][0]["callsite"] == found["callsite"]


def test_lazy_loads_are_an_n_plus_one_however_many_rows_each_answers(client: TestClient, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.insert(Book), [{"id": 100 + n, "writer_id": n % 12} for n in range(12 * 60)])
    client.get("/writers/7")
    [found] = client.get("/api/database/n-plus-one").json()["repetitions"]
    assert (found["calls"], found["relationship"]) == (12, "Writer.books")
    assert "selectinload(Writer.books)" in found["advice"]


def test_an_id_that_comes_is_kept_and_one_that_is_none_is_replaced(client: TestClient) -> None:
    assert client.get("/writers/7", headers={"x-request-id": "order-7"}).headers["x-request-id"] == "order-7"
    assert client.get("/writers/7", headers={"x-request-id": "<script>"}).headers["x-request-id"] != "<script>"
    assert client.get("/writers/7", headers={"traceparent": "00-zz"}).status_code == 200
    assert client.get("/api/database/requests/unknown").status_code == 404


def test_the_latest_requests_are_listed_with_their_routes(client: TestClient) -> None:
    for number in range(3):
        client.get(f"/writers/{number}")
    listed = client.get("/api/database/requests").json()["receipts"]
    assert [receipt["route"] for receipt in listed] == ["GET /writers/{number}"] * 3, "never the path, which has values"


def test_a_mounted_applications_route_holds_no_value(engine: sa.Engine, pilot: Autopilot) -> None:
    outer, inner = FastAPI(), FastAPI()

    @inner.get("/orders/{number}")
    def orders(number: int) -> int:
        _count(engine)
        return number

    outer.mount("/tenants/{mail}", inner)
    outer.add_middleware(RequestsMiddleware)
    with TestClient(outer) as client:
        answer = client.get("/tenants/alice@example.org/orders/7")
    assert answer.json() == 7
    receipt = pilot.receipt(answer.headers["X-Request-ID"])
    assert receipt is not None
    assert receipt.route == "GET /orders/{number}"


def test_only_requests_of_the_asked_for_time_are_listed(client: TestClient) -> None:
    client.get("/writers/1")
    assert client.get("/api/database/requests?hours=1").json()["receipts"]
    clock = client.get("/api/database/requests?hours=1").json()
    assert clock["since"] < clock["until"]


@pytest.mark.parametrize("what", ["route", "trace"])
def test_many_rows_stay_one_statement_with_a_comment(mariadb_url: sa.URL, what: str) -> None:
    engine = sa.create_engine(mariadb_url)
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer))
    table.create(engine)
    config = PilotConfig.model_validate({"queries": {"comment": what}})
    with Autopilot(engine, config, store=MemoryStore()), unit_of_work("import"), engine.begin() as connection:
        connection.execute(table.insert(), [{"a": number} for number in range(100)])
        sent = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Com_insert'").one()
    engine.dispose()
    assert sent[1] == "1"


@pytest.mark.parametrize("name", ["caf\udce9", 5])
def test_a_name_that_no_server_could_read_costs_no_statement(engine: sa.Engine, name: Any) -> None:
    config = PilotConfig.model_validate({"queries": {"comment": "route"}})
    with Autopilot(engine, config, store=MemoryStore()) as pilot, unit_of_work(name) as request:
        _count(engine)
    found = pilot.receipt(request.id)
    assert found is not None
    assert found.route in ("caf?", "5")


def test_a_job_is_a_request_too(engine: sa.Engine, pilot: Autopilot) -> None:
    with unit_of_work("nightly report") as job:
        _count(engine)
    receipt = pilot.receipt(job.id)
    assert receipt is not None
    assert (receipt.route, receipt.calls) == ("nightly report", 1)
    _count(engine)
    assert pilot.receipt(job.id) == receipt, "what runs outside is not its own"


def test_a_receipt_survives_the_process(engine: sa.Engine, tmp_path: Path) -> None:
    config = PilotConfig.model_validate({"history": {"url": f"sqlite:///{tmp_path}/history.sqlite3"}})
    with Autopilot(engine, config), unit_of_work("nightly report") as job:
        _count(engine)
    with Autopilot(engine, config) as another:
        receipt = another.receipt(job.id)
    assert receipt is not None
    assert (receipt.lines[0].query, receipt.lines[0].calls) == ("SELECT count(*) FROM books", 1)


@asynccontextmanager
async def _async_engine(url: sa.URL) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(url.set(drivername=ASYNC_DRIVERS[url.get_backend_name()]))
    yield engine
    await engine.dispose()


def test_spawned_tasks_belong_to_their_request_and_async_lines_are_found(database_url: sa.URL) -> None:
    async def ask(engine: AsyncEngine) -> None:
        async with engine.connect() as connection:
            await connection.execute(sa.text("SELECT 1"))

    async def work() -> tuple[Any, Any]:
        async with _async_engine(database_url) as engine:
            config = PilotConfig.model_validate({"queries": {"sample_every": 1}})
            with Autopilot(engine, config, store=MemoryStore()) as pilot:
                with unit_of_work("report") as job:
                    await asyncio.gather(*(asyncio.create_task(ask(engine)) for _ in range(3)))
                await ask(engine)
                return pilot.receipt(job.id), pilot.query_stats(1, 10).patterns

    receipt, patterns = asyncio.run(work())
    [line] = [line for line in receipt.lines if line.query == "SELECT ?"]
    assert line.calls == 3
    [pattern] = [pattern for pattern in patterns if pattern.query == "SELECT ?"]
    assert pattern.calls == 4
    assert pattern.sources[0].function.endswith("ask")
    assert pattern.sources[0].callsite.startswith("tests/integration/test_requests.py:")


@pytest.mark.parametrize(("what", "expected"), [("route", "/*route='report%20100%25'*/"), ("off", None)])
def test_the_server_sees_the_route_as_a_comment(database_url: sa.URL, what: str, expected: str | None) -> None:
    engine = sa.create_engine(database_url)
    sent: list[str] = []
    original = engine.dialect.do_execute

    def spy(cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        sent.append(statement)
        original(cursor, statement, parameters, context)

    vars(engine.dialect)["do_execute"] = spy
    config = PilotConfig.model_validate({"queries": {"comment": what}})
    with Autopilot(engine, config, store=MemoryStore()) as pilot:
        with unit_of_work("report 100%"), engine.connect() as connection:
            assert connection.execute(sa.select(sa.literal(7))).scalar() == 7
        [line] = [line for line in pilot.query_stats(1, 10).patterns if "anon" in line.query or "?" in line.query]
    engine.dispose()
    assert line.calls == 1
    assert (expected is None) == ("/*" not in sent[-1])
    if expected is not None:
        assert sent[-1].replace("%%", "%").endswith(expected)


def test_waiting_for_a_connection_is_told_apart(sqlite_url: sa.URL) -> None:
    engine = sa.create_engine(sqlite_url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    with Autopilot(engine, store=MemoryStore()) as pilot:
        with engine.connect(), pytest.raises(sa.exc.TimeoutError):
            engine.connect()
        asyncio.run(_wait_for_it(engine))
        [line] = pilot.query_stats(1, 10).patterns
        reading = pilot.connections()
    engine.dispose()
    assert line.wait_s >= 0.02
    assert line.wait_s > line.total_s
    assert reading.failures == {"TimeoutError": 1}
    assert (reading.failed, reading.checkouts) == (1, 3)
    assert reading.wait_s >= 0.02
    assert reading.oldest_s is not None


async def _wait_for_it(engine: sa.Engine) -> None:
    def hold() -> None:
        with engine.connect():
            held.set()
            release.wait(0.03)

    import threading

    held, release = threading.Event(), threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1")).all()
    holder.join()

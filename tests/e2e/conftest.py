"""A real browser over a real Finstage: one of each per run, as much as the workers allow."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, sync_playwright

from dbpilot import Autopilot, PilotConfig
from dbpilot.retention import Rule
from dbpilot.web.dashboard import make_dashboard
from dbpilot.web.keys import Role, new_key
from tests.e2e.past import write_past
from tests.e2e.site import Site, free_port
from tests.support import Finstage, environment, serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PLANNED_S = 60
SETTINGS = {
    "DBPILOT_INDEXES__APPLY": "true",
    "DBPILOT_POOL__MODE": "auto",
    "DBPILOT_QUERIES__SLOW_S": "0.0001",
    "DBPILOT_QUERIES__SAMPLE_EVERY": "1",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, as Debian packages it; of one module at a time, for a loop runs in this thread while it is open."""
    if CHROMIUM is None:
        pytest.fail("Chromium is not installed: tools/ensure-servers chromium")
    with sync_playwright() as playwright:
        # Chromium's sandbox needs more than a container gives; the only pages it opens are ours.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def finstage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finstage]:
    """A server with the sample data, that was used for a moment and has analysed its indexes."""
    folder = tmp_path_factory.mktemp("e2e")
    with serving(environment(folder / "var", **SETTINGS), folder / "log") as server:
        _use(server)
        yield server


def _use(server: Finstage) -> None:
    symbols = [one["symbol"] for one in server.get("/api/market/symbols").json()["items"]]
    for symbol in symbols * 3:
        for subject in ("prices", "news", "analysis"):
            server.get(f"/api/market/{subject}/{symbol}")
        server.get(f"/api/market/signals?symbol={symbol}")
    _until(lambda: server.get("/api/database/indexes/analysis").json()["status"] == "ready")
    _until(lambda: any(one["plan"] for one in server.get("/api/database/slow-queries/patterns").json()["patterns"]))
    write_past(Path(server.environment["FINSTAGE_VAR"]), server.get("/api/database/query-stats").json()["patterns"])


def _until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PLANNED_S
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A small application whose dashboard asks for a key, which lacks an index, and whose cleaning takes its time."""
    folder: Path = tmp_path_factory.mktemp("guarded")
    engine = sa.create_engine(f"sqlite:///{folder / 'shop.sqlite3'}")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE orders (id INTEGER PRIMARY KEY, day DATE)"))
        connection.execute(sa.text("INSERT INTO orders (day) VALUES ('2020-01-01')"), [{} for _ in range(200_000)])
        connection.execute(sa.text("CREATE TABLE visits (id INTEGER PRIMARY KEY, customer INTEGER, page TEXT)"))
        rows = [{"customer": number // 4, "page": "x" * 50} for number in range(20_000)]
        connection.execute(sa.text("INSERT INTO visits (customer, page) VALUES (:customer, :page)"), rows)
    keys = {role.title: new_key(f"the-{role.title}", role) for role in Role}
    config = PilotConfig.model_validate(
        {
            "indexes": {"apply": True},
            "history": {"url": f"sqlite:///{folder / 'history.sqlite3'}"},
            "web": {"keys": [key.hash.line for key in keys.values()]},
        }
    )
    rule = Rule("old orders", "orders", "day", timedelta(days=365), batch=1)
    app, port = FastAPI(), free_port()
    with Autopilot(engine, config, retention=[rule]) as pilot:
        with engine.connect() as connection:
            for customer in range(60):
                connection.execute(sa.text("SELECT page FROM visits WHERE customer = :c"), {"c": customer}).all()
        pilot.indexing.analyse()
        app.include_router(make_dashboard(pilot, title="Shop"), prefix="/db")
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        _until(lambda: server.started)
        yield Site(f"http://127.0.0.1:{port}/db", {name: key.secret for name, key in keys.items()})
        server.should_exit = True
        thread.join()
    engine.dispose()

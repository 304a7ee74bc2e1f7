"""What the market API answers, and that every database makes it answer the same."""

import json
import re
from base64 import urlsafe_b64encode
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from urllib.parse import urlencode

import pytest
from bokeh_sampledata import stocks
from fastapi.openapi.models import OpenAPI
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, event, insert, make_url, select
from sqlalchemy.orm import Session

from app.common.infra.database.config.database_config import Base, get_db, make_engine
from app.main import create_app
from app.market.indicators import SIGNAL_TYPES
from app.market.models import Content, DailyPrice, SignalOutcome, Symbol, TechnicalSignal
from app.market.refresh import compute_signals

DAYS = 500
NEWS = 40
PROBLEM = "application/problem+json"

EVERY_ROUTE = [
    "/api/market/symbols",
    "/api/market/prices/AAPL",
    "/api/market/prices/AAPL?limit=7",
    "/api/market/prices/AAPL?start=2000-06-19&end=2000-06-23",
    "/api/market/prices/aapl?start=2001-01-01&limit=1000",
    "/api/market/news/AAPL?limit=7",
    "/api/market/news/AAPL",
    "/api/market/news/005930",
    "/api/market/signals",
    "/api/market/signals?symbol=IBM&limit=1000",
    "/api/market/signals?signal_type=rsi_oversold&timeframe=1d",
    "/api/market/signals?symbol=AAPL&signal_type=ma20_cross_up&timeframe=1d&start=2000-05-01&end=2000-08-01",
    "/api/market/signals?start=0001-01-01&end=9999-12-31",
    "/api/market/signals?timeframe=1h",
    "/api/market/analysis/AAPL",
    "/api/market/analysis/IBM?start=2000-10-01&end=2000-12-31",
    "/api/market/signals/performance",
    "/api/market/signals/performance?symbol=AAPL&timeframe=1d",
    "/api/market/signals/performance?timeframe=1h",
    "/api/market/prices/XYZ",
    "/api/market/prices/%C3%84APL",
    "/api/market/prices/AAPL%20",
    "/api/market/prices/%00",
    f"/api/market/prices/{'A' * 200}",
    "/api/market/prices/AAPL?start=2001-01-02&end=2001-01-01",
]
PAGED = [
    "/api/market/prices/AAPL",
    "/api/market/prices/IBM?start=2000-06-01&end=2001-03-01",
    "/api/market/news/AAPL",
    "/api/market/signals",
    "/api/market/signals?symbol=AAPL",
    "/api/market/signals?signal_type=ma20_cross_up&timeframe=1d&start=2000-06-01",
]


def fill(engine):
    """The tables hold real prices, their signals, and news of which several share an instant."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        names = [("MSFT", None), ("IBM", "International Business Machines"), ("AAPL", "Apple"), ("005930", "삼성전자")]
        connection.execute(insert(Symbol), [{"symbol": symbol, "name": name} for symbol, name in names])
        for symbol in ("AAPL", "IBM"):
            connection.execute(insert(DailyPrice), price_rows(symbol))
        connection.execute(insert(Content), [news_row(number) for number in range(NEWS)])
    compute_signals(engine)


def price_rows(symbol):
    series = getattr(stocks, symbol)
    names = ("open", "high", "low", "close", "adj_close")
    rows = [
        {
            "symbol": symbol,
            "date": date.fromisoformat(series["date"][day]),
            **{name: round(Decimal(series[name][day]), 6) for name in names},
            "volume": series["volume"][day],
        }
        for day in range(DAYS)
    ]
    rows[-1]["adj_close"] = None  # as a source without corrections gives the last day
    return rows


def news_row(number):
    published = datetime(2001, 5, 1, 13, 30, tzinfo=UTC) + timedelta(hours=number // 4, microseconds=number // 4)
    return {
        "symbol": "005930" if number % 10 == 0 else "AAPL",
        "title": f"소식 {number} 📈" if number % 2 else f"News {number}",
        "summary": None if number % 3 else "A 'quoted' summary\nof two lines",
        "url": f"https://news.example/{number}",
        "source": "news.example",
        "html": "<p>long</p>",
        "published_at": published,
        "crawled_at": published + timedelta(seconds=1),
        "content_hash": f"{number:064x}",
    }


@contextmanager
def filled(url):
    made = make_engine(make_url(url))
    fill(made)
    yield made
    made.dispose()


@pytest.fixture
def engine(database_url):
    with filled(database_url) as made:
        yield made


@pytest.fixture(scope="module")
def sqlite_engine(tmp_path_factory):
    """For tests that only read."""
    with filled(f"sqlite:///{tmp_path_factory.mktemp('filled')}/finstage.sqlite3") as made:
        yield made


@pytest.fixture
def anywhere(engine):
    """A client of the app on each database in turn."""
    return client_on(engine)


@pytest.fixture
def client(sqlite_engine):
    return client_on(sqlite_engine)


def app_on(engine):
    def session():
        with Session(engine) as made:
            yield made

    app = create_app()
    app.dependency_overrides[get_db] = session
    return app


def client_on(engine):
    return TestClient(app_on(engine), raise_server_exceptions=False)


def pages(client, path, limit):
    """All pages of a list, each asked for with the cursor of the one before."""
    cursor = {}
    while cursor is not None:
        page = client.get(with_query(path, limit=limit, **cursor)).json()
        yield page["items"]
        cursor = {"cursor": page["next"]} if page["next"] else None


def with_query(path, **parameters):
    return f"{path}{'&' if '?' in path else '?'}{urlencode(parameters)}"


@contextmanager
def statements(engine):
    """The SELECTs that run meanwhile, with their parameters."""
    seen = []

    def remember(_connection, _cursor, statement, parameters, *_):
        seen.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", remember)
    yield seen
    event.remove(engine, "before_cursor_execute", remember)


def test_every_route_answers_the_same_bytes_on_every_database(client, anywhere):
    for path in EVERY_ROUTE:
        expected, answer = client.get(path), anywhere.get(path)
        assert (answer.status_code, answer.content) == (expected.status_code, expected.content), path


@pytest.mark.parametrize("path", PAGED)
@pytest.mark.queries(full_scan_rows=100)
def test_pages_put_together_are_the_list(client, path):
    [whole] = pages(client, path, 1000)
    parts = list(pages(client, path, 7))
    assert [len(part) for part in parts[:-1]] == [7] * ((len(whole) - 1) // 7)
    assert [item for part in parts for item in part] == whole


def test_news_that_arrive_while_somebody_pages_move_nothing(sqlite_url):
    with filled(sqlite_url) as engine:
        client = client_on(engine)
        [whole] = pages(client, "/api/market/news/AAPL", 1000)
        seen = []
        for page in pages(client, "/api/market/news/AAPL", 7):
            seen += page
            with engine.begin() as connection:
                connection.execute(insert(Content), news_row(NEWS + 10 * len(seen) + 1))  # newer than all before
    assert seen == whole


def test_lists_are_in_the_promised_order(client):
    prices = client.get("/api/market/prices/AAPL?limit=1000").json()["items"]
    assert [day["date"] for day in prices] == sorted(stocks.AAPL["date"][:DAYS])
    news = client.get("/api/market/news/AAPL").json()["items"]
    assert news == sorted(news, key=lambda item: (item["published_at"], item["id"]), reverse=True)
    signals = client.get("/api/market/signals").json()["items"]
    assert signals == sorted(signals, key=lambda item: (item["triggered_at"], item["id"]), reverse=True)
    symbols = client.get("/api/market/symbols").json()["items"]
    assert [item["symbol"] for item in symbols] == ["005930", "AAPL", "IBM", "MSFT"]


def test_a_price_is_the_number_that_was_traded(client):
    [item] = client.get("/api/market/prices/AAPL?start=2000-06-21&end=2000-06-21").json()["items"]
    day = stocks.AAPL["date"].index("2000-06-21")
    assert (item["close"], item["volume"]) == (stocks.AAPL["close"][day], stocks.AAPL["volume"][day])
    assert item["adj_close"] == round(stocks.AAPL["adj_close"][day], 6)


def test_a_range_includes_both_its_days(client):
    prices = client.get("/api/market/prices/AAPL?start=2000-06-19&end=2000-06-21").json()["items"]
    assert [day["date"] for day in prices] == ["2000-06-19", "2000-06-20", "2000-06-21"]
    signals = client.get("/api/market/signals?symbol=AAPL&start=2000-06-20&end=2000-06-21").json()
    assert {signal["triggered_at"][:10] for signal in signals["items"]} == {"2000-06-20", "2000-06-21"}


def test_the_last_day_of_a_range_includes_its_hours(sqlite_url):
    at = datetime(2001, 5, 1, 19, 45, tzinfo=UTC)
    hourly = {"symbol": "AAPL", "signal_type": "rsi_oversold", "timeframe": "1h", "triggered_at": at, "price": 1}
    with filled(sqlite_url) as engine:
        with engine.begin() as connection:
            connection.execute(insert(TechnicalSignal).values(hourly))
        answer = client_on(engine).get("/api/market/signals?timeframe=1h&start=2001-05-01&end=2001-05-01").json()
    [signal] = answer["items"]
    assert (signal["triggered_at"], signal["indicator_value"]) == ("2001-05-01T19:45:00Z", None)


def test_the_list_of_news_leaves_the_pages_out(client):
    answer = client.get("/api/market/news/AAPL")
    assert "html" not in answer.json()["items"][0]
    assert "<p>" not in answer.text


@pytest.mark.parametrize(("start", "end"), [("2000-06-01", "2000-06-30"), ("2001-07-02", None), ("1990-01-01", None)])
def test_indicators_do_not_depend_on_the_range_asked_for(client, start, end):
    whole = client.get("/api/market/analysis/AAPL").json()
    bounds = {name: value for name, value in (("start", start), ("end", end)) if value}
    part = client.get(with_query("/api/market/analysis/AAPL", **bounds)).json()
    chosen = [day for day, at in enumerate(whole["dates"]) if start <= at <= (end or "9999")]
    assert chosen
    for name in whole.keys() - {"symbol", "timeframe"}:
        assert part[name] == [whole[name][day] for day in chosen], name


def test_an_indicator_is_null_until_its_window_is_full(client):
    whole = client.get("/api/market/analysis/AAPL").json()
    missing = {name: series.count(None) for name, series in whole.items() if name not in ("symbol", "timeframe")}
    bollinger = dict.fromkeys(("bollinger_upper", "bollinger_middle", "bollinger_lower"), 19)
    assert missing == {"dates": 0, "close": 0, "ma20": 19, "ma50": 49, "ma200": 199, "rsi14": 14, **bollinger}
    assert whole["ma20"][19] == pytest.approx(sum(whole["close"][:20]) / 20, abs=1e-6)


def test_a_symbol_without_data_has_empty_answers(client):
    assert client.get("/api/market/prices/MSFT").json() == {"items": [], "next": None}
    assert client.get("/api/market/news/MSFT").json() == {"items": [], "next": None}
    assert client.get("/api/market/analysis/MSFT").json()["dates"] == []


def test_performance_is_what_the_rows_say(anywhere, engine):
    answered = anywhere.get("/api/market/signals/performance?symbol=AAPL").json()["items"]
    rows = outcomes_of(engine, "AAPL")
    assert [entry["signal_type"] for entry in answered] == sorted({kind for kind, *_ in rows})
    for entry in answered:
        mine = [row for row in rows if row[0] == entry["signal_type"]]
        evaluated = [success for _, success, *_ in mine if success is not None]
        months = [float(month) for *_, month in mine if month is not None]
        assert (entry["signals"], entry["evaluated"]) == (len(mine), len(evaluated))
        assert entry["success_rate"] == pytest.approx(sum(evaluated) / len(evaluated), abs=1e-6)
        assert entry["mean_return_1m"] == pytest.approx(sum(months) / len(months), abs=1e-6)
        assert entry["expects"] == SIGNAL_TYPES[entry["signal_type"]].direction.name.lower()


def outcomes_of(engine, symbol):
    query = (
        select(TechnicalSignal.signal_type, SignalOutcome.success, SignalOutcome.return_1m)
        .outerjoin(SignalOutcome, SignalOutcome.signal_id == TechnicalSignal.id)
        .where(TechnicalSignal.symbol == symbol)
    )
    with engine.connect() as connection:
        return connection.execute(query).all()


@pytest.mark.parametrize("path", [path for path in EVERY_ROUTE if "XYZ" not in path])
@pytest.mark.queries(max=2)
def test_a_route_asks_one_question_about_the_symbol_and_one_about_the_data(client, path):
    client.get(path)


@pytest.mark.parametrize("path", [path for path in PAGED if "signal_type" not in path])
def test_a_page_is_read_from_an_index_without_sorting(client, sqlite_engine, path):
    cursor = client.get(with_query(path, limit=5)).json()["next"]
    with statements(sqlite_engine) as seen:
        client.get(with_query(path, limit=5, cursor=cursor))
    with sqlite_engine.connect() as connection:
        plan = " ".join(
            row.detail
            for statement, parameters in seen
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        )
    assert "USING INDEX" in plan
    assert "SCAN" not in plan
    assert "B-TREE" not in plan


@pytest.mark.parametrize(
    ("path", "status", "kind", "says"),
    [
        ("/api/market/prices/XYZ", 404, "unknown-symbol", "'XYZ'"),
        ("/api/market/news/XYZ", 404, "unknown-symbol", "'XYZ'"),
        ("/api/market/analysis/XYZ", 404, "unknown-symbol", "'XYZ'"),
        ("/api/market/signals?symbol=XYZ", 404, "unknown-symbol", "'XYZ'"),
        ("/api/market/signals/performance?symbol=XYZ", 404, "unknown-symbol", "'XYZ'"),
        ("/api/market/nothing", 404, "http-not-found", "Not Found"),
        ("/api/market/prices/AAPL?start=2001-01-02&end=2001-01-01", 422, "request-validation-failed", "after end"),
        ("/api/market/prices/AAPL?start=yesterday", 422, "request-validation-failed", "valid date"),
        ("/api/market/prices/AAPL?limit=0", 422, "request-validation-failed", "limit"),
        ("/api/market/prices/AAPL?limit=1001", 422, "request-validation-failed", "limit"),
        ("/api/market/prices/AAPL?cursor=nonsense", 422, "request-validation-failed", "cursor"),
        ("/api/market/signals?signal_type=luck", 422, "request-validation-failed", "golden_cross"),
        ("/api/market/signals?timeframe=1D", 422, "request-validation-failed", "timeframe"),
    ],
)
def test_a_wrong_request_is_answered_with_a_problem_that_says_what(client, path, status, kind, says):
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
    assert (answer.json()["status"], answer.json()["type"]) == (status, kind)
    assert says in answer.text


@pytest.mark.parametrize(
    "key",
    [
        ["2001-05-01T13:30:00", 1],
        ["2001-05-01T13:30:00Z", -1],
        ["2001-05-01T13:30:00Z", 2**63],
        ["9999-12-31T23:00:00-10:00", 1],
        ["2001-05-01T13:30:00Z"],
        ["2001-05-01T13:30:00Z", 1, 2],
        {"$ne": 1},
        None,
        [[[]]],
    ],
)
def test_a_forged_cursor_is_a_bad_request_and_never_reaches_the_database(client, key):
    cursor = urlsafe_b64encode(json.dumps(key).encode()).decode()
    answer = client.get(with_query("/api/market/news/AAPL", cursor=cursor))
    assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (422, ["query", "cursor"])


def test_the_cursor_of_another_list_is_refused(client):
    cursor = client.get("/api/market/prices/AAPL?limit=1").json()["next"]
    assert client.get(with_query("/api/market/news/AAPL", cursor=cursor)).status_code == 422


def test_a_wrong_method_is_a_problem_that_names_the_right_one(client):
    answer = client.delete("/api/market/symbols")
    assert (answer.status_code, answer.headers["content-type"], answer.headers["allow"]) == (405, PROBLEM, "GET")


@pytest.mark.parametrize(
    "url",
    [
        "mysql+pymysql://trader:hunter2@127.0.0.1:1/finstage",
        "postgresql+psycopg://trader:hunter2@127.0.0.1:1/finstage",
        "sqlite:////nowhere/hunter2.sqlite3",
    ],
)
@pytest.mark.parametrize("path", ["/healthz", "/api/market/symbols", "/api/market/signals", "/api/market/news/AAPL"])
def test_a_database_that_is_down_is_said_without_secrets(url, path, caplog):
    down = create_engine(url)
    answer = TestClient(app_on(down)).get(path)  # which would raise what a server logs with its traceback
    assert (answer.status_code, answer.headers["content-type"]) == (503, PROBLEM)
    assert (answer.json()["type"], answer.headers["retry-after"]) == ("database-unavailable", "5")
    [record] = [record for record in caplog.records if record.name == "app.problems"]
    assert record.exc_info is None
    assert "hunter2" not in answer.text
    assert "hunter2" not in caplog.text
    down.dispose()


def test_a_defect_is_answered_without_its_details(sqlite_engine):
    def broken():
        raise RuntimeError("the secret is hunter2")

    app = app_on(sqlite_engine)
    app.add_api_route("/broken", broken)
    answer = TestClient(app, raise_server_exceptions=False).get("/broken")
    assert (answer.status_code, answer.headers["content-type"]) == (500, PROBLEM)
    assert answer.json()["type"] == "unexpected-error"
    assert "hunter2" not in answer.text


def test_the_landing_page_leads_to_everything(client):
    answer = client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    for path in ("/docs", "/api/database/performance-summary", "/metrics"):
        assert f'href="{path}"' in answer.text


def test_health_is_the_databases_too(anywhere):
    answer = anywhere.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_the_openapi_document_is_valid_and_refers_to_nothing_missing():
    document = create_app().openapi()
    OpenAPI.model_validate(document)
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert named <= document["components"]["schemas"].keys()


def operations():
    for path, methods in create_app().openapi()["paths"].items():
        if path.startswith("/api/market"):
            yield from ((path, operation) for operation in methods.values())


def test_every_error_is_documented_as_a_problem():
    for path, operation in operations():
        errors = {status: answer for status, answer in operation["responses"].items() if status >= "4"}
        assert {"500", "503"} <= errors.keys(), path
        assert ("422" in errors) == ("parameters" in operation), path
        assert ("404" in errors) == ("symbol" in str(operation.get("parameters"))), path
        assert all(list(answer["content"]) == [PROBLEM] for answer in errors.values()), path


def test_every_operation_and_parameter_is_described():
    for path, operation in operations():
        assert operation["description"], path
        assert all(parameter["description"] for parameter in operation.get("parameters", [])), path

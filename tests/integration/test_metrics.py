"""What is told to Prometheus: all that the page lists, bounded, and right with several workers."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
import sqlalchemy as sa
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families
from prometheus_client.samples import Sample

from dbpilot import Autopilot, PilotConfig, unit_of_work
from dbpilot.errors import StoreError
from dbpilot.export.catalogue import METRICS, Scope
from dbpilot.export.prometheus import SCOPES, Exposition
from dbpilot.export.statements import TOP_PATTERNS, by_operation_and_table
from dbpilot.history.store import CLEANUP, Batch, Event, MemoryStore
from dbpilot.history.tally import Tally
from dbpilot.pool import ResizableQueuePool
from dbpilot.queries.request import CURRENT, Request
from dbpilot.queries.windows import MAX_SERIES
from tests.support import REPOSITORY, Answer, Finstage, environment, run_cli, serving

OPENMETRICS: Final = "application/openmetrics-text;version=1.0.0"
TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
DEADLINE_S: Final = 60
REQUESTS: Final = 60
NOTHING_TO_TELL: Final = {
    *(name for name in METRICS if name.startswith("index_")),  # before the first analysis
    *(name for name in METRICS if name.startswith("cleanup_last_")),  # before the first run
    "db_pool_budget_connections",  # of a pool that is not resized
    "db_pool_exhaustion_seconds",  # while the use does not grow
    "db_pool_expected_connections",  # before a day is known
    "db_pool_resizes",  # before the first one
}
"""What is absent from the answer of a program that has just begun; the tests of the dashboard see most of it."""


class FailingStore(MemoryStore):
    """A history that has died."""

    def tallies(self, *_: object) -> dict[str, Tally]:
        raise StoreError("history: it is gone")


@pytest.fixture
def engine(sqlite_url: sa.URL) -> Iterator[sa.Engine]:
    engine = sa.create_engine(sqlite_url, poolclass=ResizableQueuePool)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (id INTEGER PRIMARY KEY)"))
    yield engine
    engine.dispose()


@pytest.fixture
def pilot(engine: sa.Engine) -> Iterator[Autopilot]:
    config = PilotConfig.model_validate({"queries": {"slow_s": 1e-9, "window_s": 1, "explain": False}})
    with Autopilot(engine, config, store=MemoryStore()) as pilot:
        yield pilot


def _run(engine: sa.Engine, statements: list[str]) -> None:
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(sa.text(statement)).all()


def _told(pilot: Autopilot, scope: Scope = "process") -> dict[str, Metric]:
    """The families by their names without the namespace."""
    text, _ = Exposition(pilot, "shop").answer("", scope)
    return {family.name.removeprefix("shop_"): family for family in text_families(text.decode())}


def _until_written(pilot: Autopilot) -> dict[str, Metric]:
    """What is told of all processes once this one's window is in the history."""
    deadline = time.monotonic() + DEADLINE_S
    while "db_operations" not in (told := _told(pilot, "all")):
        assert time.monotonic() < deadline, "nothing was written"
        time.sleep(0.1)
    return told


def test_the_page_lists_every_metric_as_it_is() -> None:
    page = (REPOSITORY / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (counter|gauge|histogram) \| (.*?) \| (.*?) \| (.*?) \|$", page, re.MULTILINE)
    listed = {name: (type_, tuple(re.findall(r"`(\w+)`", labels)), means) for name, type_, labels, means, _ in rows}
    by_process = {name for name, *_, scope in rows if "`process`" in scope}
    suffix = {"counter": "_total", "gauge": "", "histogram": ""}
    known = {f"{one.name}{suffix[one.type]}": one for one in METRICS.values()}
    assert listed == {name: (one.type, one.labels, one.help) for name, one in known.items()}
    assert by_process == {name for name, one in known.items() if "process" in one.labels_in("all")}


@pytest.mark.parametrize("scope", SCOPES)
def test_what_is_told_is_what_is_listed(pilot: Autopilot, engine: sa.Engine, scope: Scope) -> None:
    _run(engine, ["SELECT id FROM t"])
    _until_written(pilot)
    told = _told(pilot, scope)
    assert METRICS.keys() - told.keys() == NOTHING_TO_TELL
    for name, family in told.items():
        described = METRICS[name]
        assert (family.type, family.documentation) == (described.type, described.help)
        labels = {frozenset(sample.labels) - {"le"} for sample in family.samples}
        assert labels <= {frozenset(described.labels_in(scope))}, name


@pytest.mark.parametrize("scope", SCOPES)
def test_openmetrics_can_be_read_by_a_strict_reader(pilot: Autopilot, engine: sa.Engine, scope: Scope) -> None:
    _run(engine, ["SELECT id FROM t"])
    _until_written(pilot)
    text, content_type = Exposition(pilot, "shop").answer(OPENMETRICS, scope)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    told = {family.name.removeprefix("shop_") for family in openmetrics_families(text.decode())}
    assert METRICS.keys() - told == NOTHING_TO_TELL


def test_slow_statements_of_a_trace_are_exemplars_where_they_can_be_told(pilot: Autopilot, engine: sa.Engine) -> None:
    token = CURRENT.set(Request("GET /t", None, f"00-{TRACE}-00f067aa0ba902b7-01"))
    _run(engine, ["SELECT id FROM t"])
    CURRENT.reset(token)
    with unit_of_work("a job without a trace"):
        _run(engine, ["SELECT id FROM t"])
    text, _ = Exposition(pilot, "shop").answer(OPENMETRICS)
    families = {family.name: family for family in openmetrics_families(text.decode())}
    samples = families["shop_db_operation_duration_seconds"].samples
    assert [sample.exemplar.labels for sample in samples if sample.exemplar] == [{"trace_id": TRACE}]
    assert TRACE not in Exposition(pilot, "shop").answer("")[0].decode()


def test_five_thousand_patterns_are_a_few_series(pilot: Autopilot, engine: sa.Engine) -> None:
    _run(engine, [f"SELECT id AS c{number} FROM t" for number in range(5000)])
    told = _told(pilot)
    calls = told["db_pattern_calls"].samples
    assert len(calls) == TOP_PATTERNS + 1
    assert sum(sample.value for sample in calls) == 5000
    assert sum(sample.value for sample in told["db_operations"].samples) == 5000
    assert sum(len(family.samples) for family in told.values()) < 400


def _selected(pilot: Autopilot) -> list[Sample]:
    """By table, how many SELECTs succeeded."""
    found = _told(pilot)["db_operations"].samples
    return [one for one in found if (one.labels["operation"], one.labels["status"]) == ("SELECT", "success")]


def test_so_many_tables_are_told_apart_and_none_is_lost(pilot: Autopilot, engine: sa.Engine) -> None:
    views = MAX_SERIES + 50
    with engine.begin() as connection:
        for number in range(views):
            connection.execute(sa.text(f"CREATE VIEW v{number} AS SELECT id FROM t"))
    _run(engine, [f"SELECT id FROM v{number}" for number in range(views)])
    # Who asks waits half a second at the most for texts to be read, and they all differ here.
    deadline = time.monotonic() + DEADLINE_S
    samples = _selected(pilot)
    while sum(sample.value for sample in samples) < views and time.monotonic() < deadline:
        time.sleep(0.1)
        samples = _selected(pilot)
    assert sum(sample.value for sample in samples) == views
    [other] = [sample.value for sample in samples if sample.labels["table"] == "other"]
    assert other >= 50
    assert len(samples) <= MAX_SERIES + 1


def test_of_all_processes_the_pairs_that_took_most_are_told_apart() -> None:
    tallies = {str(number): Tally(calls=1, total_s=float(number)) for number in range(10)}
    keys = {id_: ("SELECT", f"t{id_}") for id_ in tallies}
    sums = by_operation_and_table(tallies, keys, most=3)
    assert {table: tally.total_s for (_, table), tally in sums.items()} == {"t9": 9, "t8": 8, "t7": 7, "other": 21}
    assert sum(tally.calls for tally in sums.values()) == 10


def test_a_history_that_is_gone_leaves_gaps_and_no_zeros(engine: sa.Engine) -> None:
    with Autopilot(engine, store=FailingStore()) as pilot:
        _run(engine, ["SELECT id FROM t"])
        told = _told(pilot, "all")
        assert "db_operations" not in told
        assert [sample.value for sample in told["history_up"].samples] == [0]
        assert [sample.value for sample in told["db_connections_checkouts"].samples] == [1]
        assert _told(pilot)["db_operations"].samples


def test_whichever_of_two_workers_answers_figures_are_those_of_both(tmp_path: Path) -> None:
    surroundings = environment(tmp_path / "var", DBPILOT_QUERIES__WINDOW_S="1")
    assert run_cli("migrate", env=surroundings).returncode == 0
    with serving(surroundings, tmp_path / "log", workers=2) as finstage:
        with ThreadPoolExecutor(8) as threads:
            seen = threads.submit(_scraped, finstage)
            assert {answer.status for answer in threads.map(_ask_for_symbols, [finstage] * REQUESTS)} == {200}
        counts, answered, pools = seen.result()
    assert counts == sorted(counts), "a counter became less from one worker's answer to another's"
    assert counts[-1] == REQUESTS
    assert len(answered) == 2
    assert answered <= pools


def _ask_for_symbols(finstage: Finstage) -> Answer:
    return finstage.get("/api/market/symbols")


def _scraped(finstage: Finstage) -> tuple[list[float], set[str], set[str]]:
    """Scrapes until both workers have answered, all is counted, and each knows the other's pool: what was counted each
    time, who answered, and whose pools were told of by one answer."""
    counts: list[float] = []
    answered: set[str] = set()
    pools: set[str] = set()
    deadline = time.monotonic() + DEADLINE_S
    while len(answered) < 2 or counts[-1] < REQUESTS or len(pools) < 2:
        assert time.monotonic() < deadline, (counts[-5:], answered, pools)
        families = {family.name: family for family in text_families(finstage.get("/metrics?scope=all").text)}
        counted = families.get("finstage_db_operations")
        operations = counted.samples if counted is not None else []
        counts.append(sum(one.value for one in operations if one.labels["table"] == "symbols"))
        answered |= {one.labels["process"] for one in families["finstage_watcher_up"].samples}
        pools = {one.labels["process"] for one in families["finstage_db_connections_active"].samples}
        time.sleep(0.05)
    return counts, answered, pools


def _cleaning(at: datetime, *, ok: bool) -> Event:
    body = {"started_s": at.timestamp(), "by": "schedule", "ok": ok, "deleted": 0, "error": None, "results": []}
    return Event(CLEANUP, at, "a process", 0.0, {**body, "advice": []})


@pytest.mark.parametrize("failed", [0, 60])
def test_the_last_cleaning_that_went_well_is_told_however_long_ago(engine: sa.Engine, failed: int) -> None:
    """Or the alert that it is late would end when the history forgot it."""
    now, store = datetime.now(UTC), MemoryStore()
    good = now - timedelta(days=30)
    since = [_cleaning(now - timedelta(hours=hours), ok=False) for hours in range(failed)]
    store.write(Batch(events=[_cleaning(good, ok=True), *reversed(since)]))
    with Autopilot(engine, PilotConfig(), store=store) as pilot:
        text, _ = Exposition(pilot, "shop").answer("", "process")
    [told] = [
        line for line in text.decode().splitlines() if line.startswith("shop_cleanup_last_success_timestamp_seconds")
    ]
    assert float(told.split()[-1]) == pytest.approx(good.timestamp(), abs=1)

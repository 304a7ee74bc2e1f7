"""``dbpilot doctor``, ``health``, ``queries``, ``demo`` and ``serve``, as a shell sees them, on real databases."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from dbpilot import Autopilot, PilotConfig
from dbpilot.alerts import Alert
from dbpilot.cli.health import judged
from dbpilot.cli.main import main
from dbpilot.clock import SystemClock
from dbpilot.config import AlertsConfig
from dbpilot.dialects.base import Capacity
from dbpilot.health import full_connections
from dbpilot.history.store import MemoryStore
from dbpilot.reports.queries import QueryTotals
from dbpilot.testing.servers import start_mariadb, start_postgresql
from tests.support import environment

COMMAND = [sys.executable, "-m", "dbpilot.cli.main"]
CLOSED_PORT = 1
WAIT_S = 120
NOW = SystemClock().now()
WELL = QueryTotals(100, 0, 0, 0.0, 0.01, 0.01, 0.02, 0.03)


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Done]:
    """Runs ``dbpilot ARGUMENTS`` in this process, beside no history but the one that is named."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(("DBPILOT_", "DATABASE_URL")):
            monkeypatch.delenv(name)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["dbpilot", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err)

    return run


def text(url: sa.URL) -> str:
    return url.render_as_string(hide_password=False)


@contextmanager
def connected(url: sa.URL) -> Iterator[sa.Connection]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection


def execute(url: sa.URL, *statements: str) -> None:
    with connected(url) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a history that a real pilot wrote: one pattern often, one slow, one that fails."""
    folder = tmp_path_factory.mktemp("seen")
    engine = sa.create_engine(f"sqlite:///{folder}/shop.sqlite3")
    url = f"sqlite:///{folder}/history.sqlite3"
    queries, pool = {"slow_s": 0.01, "warning_s": 60, "critical_s": 60, "sample_every": 1}, {"sample_s": 0.05}
    config = PilotConfig.model_validate({"queries": queries, "pool": pool, "history": {"url": url}})
    with Autopilot(engine, config) as pilot, engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT)")
        for number in range(20):
            connection.execute(sa.text("SELECT name FROM items WHERE id = :id"), {"id": number}).all()
        slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) SELECT max(i) FROM n"
        connection.exec_driver_sql(slow).all()
        with pytest.raises(sa.exc.OperationalError):
            connection.exec_driver_sql("SELECT nothing FROM nowhere")
        until(lambda: pilot.pool_history(1).samples)
    engine.dispose()
    return url


@pytest.mark.parametrize("name", ["mysql", "mariadb", "postgresql", "postgres"])
def test_an_address_without_a_driver_is_taken_with_the_one_that_is_installed(run, request, monkeypatch, tmp_path, name):
    server = "postgresql" if name.startswith("postgres") else "mariadb"
    url = request.getfixturevalue(f"{server}_url").set(drivername=name)
    monkeypatch.setenv("DATABASE_URL", text(url))
    done = run("indexes", "audit", "--json")
    assert (done.code, done.json()["database"].rpartition("/")[2]) == (0, url.database)
    top = [*COMMAND, "queries", "top", "--history", text(url)]
    none = subprocess.run(top, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert (none.returncode, "there is no history in" in none.stderr) == (4, True)


def test_where_no_driver_is_installed_the_best_is_asked_for(run, monkeypatch):
    for module in ("pymysql", "MySQLdb"):
        monkeypatch.setitem(sys.modules, module, None)
    done = run("doctor", "--url", "mysql://u:s3cret@127.0.0.1:1/x")
    assert (done.code, "asks for a driver that is not installed: import of pymysql" in done.err) == (2, True)


# -- queries, health


def test_the_top_queries_are_those_that_took_most_time_with_their_lines(run, history):
    done = run("queries", "top", "--history", history)
    assert done.code == 0
    shares = [int(line.split()[1].rstrip("%")) for line in done.out.splitlines()[1:]]
    assert shares == sorted(shares, reverse=True)
    assert "test_cli_face.py:" in done.out
    often = run("queries", "top", "--history", history, "--order", "calls", "--limit", "1", "--json").json()
    assert often["version"] == 1
    assert (often["queries"][0]["calls"], often["queries"][0]["query"]) == (20, "SELECT name FROM items WHERE id = ?")
    assert often["totals"]["errors"] == 1


def test_slow_executions_are_listed_and_one_pattern_is_shown_whole(run, history):
    assert "WITH RECURSIVE" in run("queries", "slow", "--history", history).out
    found = run("queries", "slow", "--history", history, "--json").json()["queries"]
    [slow] = [one for one in found if one["query"].startswith("WITH RECURSIVE")]
    shown = run("queries", "show", slow["pattern_id"][:8], "--history", history)
    assert (shown.code, shown.out.splitlines()[0]) == (0, slow["query"])
    assert "from " in shown.out


def test_a_shell_is_told_of_an_offset_where_the_pattern_shows_that_there_is_one(run, database_url, tmp_path):
    history = f"sqlite:///{tmp_path}/history.sqlite3"
    engine = sa.create_engine(database_url)
    items = sa.table("items", sa.column("id"))
    with Autopilot(engine, PilotConfig.model_validate({"history": {"url": history}})), engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE items (id INTEGER PRIMARY KEY)")
        for query in (sa.select(items).limit(10), sa.select(items).order_by("id").limit(10).offset(20)):
            connection.execute(query).all()
    engine.dispose()
    found = run("queries", "top", "--history", history, "--json").json()["queries"]
    told = {one["query"] for one in found if any("OFFSET" in sentence for sentence in one["advice"])}
    assert len(told) == (0 if engine.dialect.name == "sqlite" else 1)
    assert all("ORDER BY" in query for query in told)


def test_a_pattern_that_nobody_knows_is_a_usage_error(run, history):
    done = run("queries", "show", "zzz", "--history", history)
    assert (done.code, done.out) == (2, "")
    assert "no pattern of that time begins with 'zzz'" in done.err


def test_health_is_one_line_and_ends_with_0_while_all_is_well(run, history):
    done = run("health", "--history", history)
    assert len(done.out.splitlines()) == 1
    assert "23 statements in 1 h" in done.out
    assert "1 failed" in done.out
    assert done.code == 0, done.out
    [found] = run("health", "--history", history, "--json").json()["databases"]
    assert (found["state"], found["reasons"]) == ("ok", [])


@pytest.mark.parametrize("command", [("health",), ("queries", "top")])
def test_without_a_history_the_command_ends_with_4_and_makes_none(run, tmp_path, command):
    done = run(*command, "--history", f"sqlite:///{tmp_path}/none.sqlite3")
    assert (done.code, done.out) == (4, "")
    assert list(tmp_path.iterdir()) == []


def alert(severity: Any) -> Alert:
    return Alert("slow", "x", severity, "it is slow", 2.0, 1.0, None, NOW, NOW)


@pytest.mark.parametrize(
    ("totals", "seen", "alerts", "state", "says"),
    [
        (WELL, NOW, (), "ok", ""),
        (WELL, NOW, (alert("INFO"),), "ok", ""),
        (WELL, NOW, (alert("WARNING"),), "amber", "it is slow"),
        (WELL, NOW, (alert("CRITICAL"),), "red", "it is slow"),
        (WELL, NOW - timedelta(minutes=6), (), "amber", "no pilot has written"),
        (WELL, None, (), "amber", "no pilot has told"),
        (QueryTotals(100, 6, 0, 0.0, 0.01, 0.01, 0.02, 0.03), NOW, (), "red", "6% of all statements fail"),
        (QueryTotals(10, 6, 0, 0.0, 0.01, 0.01, 0.02, 0.03), NOW, (), "ok", ""),  # too few to say
    ],
)
def test_what_is_open_failing_or_silent_is_not_well(totals, seen, alerts, state, says):
    found = judged("shop", totals, seen, alerts, NOW, AlertsConfig())
    assert found.state == state
    assert says in "; ".join(found.reasons)


# -- doctor


def whats(done: Done) -> str:
    return "\n".join(one["what"] for check in done.json()["checkup"]["checks"] for one in check["found"])


def states(done: Done) -> dict[str, str]:
    return {check["check"]: check["state"] for check in done.json()["checkup"]["checks"]}


def fixes(done: Done, check: str) -> list[str]:
    [found] = [one for one in done.json()["checkup"]["checks"] if one["check"] == check]
    return [line for one in found["found"] for line in one["fix"].splitlines()]


def test_a_file_without_a_log_and_with_idle_foreign_keys_is_mended_by_what_is_said(run, sqlite_url, history):
    execute(sqlite_url, "CREATE TABLE a (id INTEGER PRIMARY KEY)", "CREATE TABLE b (a_id INTEGER REFERENCES a (id))")
    done = run("doctor", "--url", text(sqlite_url), "--history", history)
    assert done.code == 3
    assert "!  the journal's mode is delete" in done.out
    assert "> PRAGMA journal_mode = WAL;" in done.out
    assert "foreign keys are declared, and not kept" in done.out
    execute(sqlite_url, "PRAGMA journal_mode = WAL;", "DROP TABLE b")
    assert run("doctor", "--url", text(sqlite_url), "--history", history).code == 0


def test_mariadb_tells_what_it_does_not_count_and_what_is_stored_badly(run, mariadb_url):
    execute(
        mariadb_url,
        "CREATE TABLE nokey (a INT)",
        "CREATE TABLE `odd name` (id TINYINT AUTO_INCREMENT PRIMARY KEY, t VARCHAR(10)) CHARACTER SET utf8mb3",
        "CREATE TABLE old (id INT PRIMARY KEY) ENGINE = MyISAM",
        "INSERT INTO `odd name` VALUES (120, 'x')",
    )
    done = run("doctor", "--url", text(mariadb_url), "--json")
    assert (done.code, done.json()["version"]) == (3, 1)
    found = whats(done)
    for said in ("performance_schema is off", "userstat is off", "nokey has no primary key", "not in InnoDB: old"):
        assert said in found
    assert "95% of the numbers of odd name.id are used up" in found
    assert states(done)["keys"] == "red"
    assert states(done)["rights"] == "ok"
    assert not [state for state in states(done).values() if state == "unknown"]
    execute(mariadb_url, *fixes(done, "texts"), *fixes(done, "engines"))
    mended = states(run("doctor", "--url", text(mariadb_url), "--json"))
    assert (mended["texts"], mended["engines"]) == ("ok", "ok"), "what is to be pasted does what it says"


def test_postgresql_tells_what_is_missing_broken_and_open(run, postgresql_url):
    execute(
        postgresql_url,
        "CREATE TABLE nokey (a INT)",
        "CREATE TABLE items (id SMALLSERIAL PRIMARY KEY, name TEXT)",
        "INSERT INTO items (name) SELECT 'x' FROM generate_series(1, 2000)",
        "SELECT setval('items_id_seq', 32000)",
    )
    with pytest.raises(sa.exc.IntegrityError):
        execute(postgresql_url, "CREATE UNIQUE INDEX CONCURRENTLY broken_one ON items (name)")
    done = run("doctor", "--url", text(postgresql_url), "--json")
    found = whats(done)
    assert done.code == 3
    for said in ("pg_stat_statements is not loaded", "HypoPG is not installed", "no statement_timeout"):
        assert said in found
    assert "the index broken_one of items is not valid" in found
    assert "98% of the numbers of items_id_seq are used up" in found
    assert "nokey has no primary key" in found
    assert "no statistics were ever collected of items" in found
    assert not [state for state in states(done).values() if state == "unknown"]
    execute(postgresql_url, *fixes(done, "what-if"), *fixes(done, "statistics"))
    mended = states(run("doctor", "--url", text(postgresql_url), "--json"))
    assert (mended["what-if"], mended["statistics"]) == ("ok", "ok"), "what is to be pasted does what it says"


def test_an_account_with_few_rights_is_told_what_it_lacks_and_what_cannot_be_known(run, postgresql_url, mariadb_url):
    execute(postgresql_url, "CREATE TABLE items (id INT PRIMARY KEY)")
    execute(
        postgresql_url,
        "CREATE ROLE reader_of_face LOGIN PASSWORD 'zq-secret'",
        "GRANT SELECT ON items TO reader_of_face",
    )
    try:
        poor = postgresql_url.set(username="reader_of_face", password="zq-secret")
        done = run("doctor", "--url", text(poor), "--json")
        assert "reader_of_face owns not: items" in whats(done)
        assert "GRANT SELECT, DELETE ON items TO reader_of_face;" in fixes(done, "rights")
        assert (states(done)["statements"], states(done)["what-if"]) == ("amber", "amber"), "no superuser is needed"
        assert "zq-secret" not in done.out + done.err
    finally:
        execute(postgresql_url, "DROP OWNED BY reader_of_face", "DROP ROLE reader_of_face")
    execute(mariadb_url, "CREATE TABLE items (id INT PRIMARY KEY)")
    database = mariadb_url.database
    execute(mariadb_url, "CREATE USER reader_of_face@'%%' IDENTIFIED BY 'zq-secret'")
    try:
        execute(mariadb_url, f"GRANT SELECT ON `{database}`.* TO reader_of_face@'%%'")
        done = run("doctor", "--url", text(mariadb_url.set(username="reader_of_face", password="zq-secret")), "--json")
        assert "has no right to ALTER, CREATE, INDEX" in whats(done)
        assert states(done)["transactions"] == "unknown"
        assert "reader_of_face'@'%' may not make the schema in which other indexes are tried" in whats(done)
        asked = fixes(done, "rights")
        assert len([line for line in asked if "dbpilot" in line or "_stats" in line]) == 3
        execute(mariadb_url, *(line.replace("%", "%%") for line in asked))
        done = run("doctor", "--url", text(mariadb_url.set(username="reader_of_face", password="zq-secret")), "--json")
        assert states(done)["rights"] == "ok", "what is to be pasted does what it says"
    finally:
        execute(mariadb_url, "DROP USER reader_of_face@'%%'")


def test_a_transaction_that_is_open_for_long_is_shown_with_what_ends_it(postgresql_url, monkeypatch, run):
    from dbpilot.dialects.postgresql import checkup

    monkeypatch.setattr(checkup, "LONG_TRANSACTION_S", 0.2)
    engine = sa.create_engine(postgresql_url, connect_args={"application_name": "a job"})
    with engine.connect() as connection:
        pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        done = until(lambda: (found := run("doctor", "--url", text(postgresql_url), "--json"))
                     and states(found)["transactions"] != "ok" and found)  # fmt: skip
        assert "a transaction of a job is open for" in whats(done)
        assert fixes(done, "transactions") == [f"SELECT pg_terminate_backend({pid});"]
    engine.dispose()


class Skewed(SystemClock):
    def now(self):
        return super().now() - timedelta(minutes=5)


def test_clocks_that_differ_and_versions_without_support_are_told(postgresql_url, mariadb_url):
    for url in (postgresql_url, mariadb_url):
        pilot = Autopilot(sa.create_engine(url), PilotConfig(), store=MemoryStore(), clock=Skewed())
        checks = {one.check: one for one in pilot.doctor().checks}
        assert "are 300 s apart" in checks["clock"].found[0].what

    class Later(SystemClock):
        def now(self):
            return super().now() + timedelta(days=3650)

    pilot = Autopilot(sa.create_engine(postgresql_url), PilotConfig(), store=MemoryStore(), clock=Later())
    [version] = [one for one in pilot.doctor().checks if one.check == "version"]
    assert version.state == "red"
    assert "has had no support since" in version.found[0].what


def test_a_pilot_tells_of_an_async_engine_and_of_a_history_that_cannot_be_written(postgresql_url, tmp_path):
    url = postgresql_url.set(drivername="postgresql+asyncpg")
    pilot = Autopilot(create_async_engine(url), PilotConfig(), store=MemoryStore())
    checks = {one.check: one.state for one in pilot.doctor().checks}
    assert (checks["clock"], checks["history"], checks["statements"]) == ("ok", "ok", "amber")
    lost = PilotConfig.model_validate({"history": {"url": f"postgresql+psycopg://nobody@127.0.0.1:{CLOSED_PORT}/none"}})
    found = Autopilot(sa.create_engine(f"sqlite:///{tmp_path}/x.sqlite3"), lost).doctor()
    [history] = [one for one in found.checks if one.check == "history"]
    assert history.state == "red"


def test_a_history_that_is_read_only_is_told(run, sqlite_url, postgresql_url):
    config = PilotConfig.model_validate({"history": {"url": text(postgresql_url)}})
    execute(sqlite_url, "PRAGMA journal_mode = WAL", "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    engine = sa.create_engine(sqlite_url)
    with Autopilot(engine, config), engine.connect() as connection:
        connection.exec_driver_sql("SELECT * FROM t").all()
    engine.dispose()
    assert run("doctor", "--url", text(sqlite_url), "--history", text(postgresql_url)).code == 0
    execute(postgresql_url, f'ALTER DATABASE "{postgresql_url.database}" SET default_transaction_read_only = on')
    done = run("doctor", "--url", text(sqlite_url), "--history", text(postgresql_url))
    assert done.code == 3
    assert "cannot be written: " in done.out


def test_a_server_that_is_down_ends_with_4_without_its_password(run):
    done = run("doctor", "--url", f"postgresql+psycopg://me:zq-secret@127.0.0.1:{CLOSED_PORT}/shop")
    assert (done.code, done.out) == (4, "")
    assert "zq-secret" not in done.err


def test_a_server_with_hardly_a_connection_left_is_red():
    assert not list(full_connections(Capacity(100, 3, 50)))
    [found] = full_connections(Capacity(100, 3, 90))
    assert (found.severity, found.what.split()[0]) == ("red", "90")


# -- demo


def test_the_demo_ends_well_and_leaves_nothing(run, monkeypatch, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    done = run("demo", "--rows", "40000")
    assert done.code == 0
    assert "from shop.py:" in done.out
    assert "CREATE INDEX ix_orders_customer_id ON orders (customer_id)" in done.out
    assert list(temporary.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]


# -- serve


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def counting(request: pytest.FixtureRequest) -> Iterator[sa.URL]:
    """A server that counts statements, with a shop whose application is no Python program."""
    if request.param == "postgresql":
        with start_postgresql(options={"shared_preload_libraries": "pg_stat_statements"}) as server:
            url = server.create_database("shop")
            execute(url, "CREATE EXTENSION pg_stat_statements")
            yield url
    else:
        with start_mariadb(options={"performance_schema": "ON"}) as server:
            yield server.create_database("shop")


def buy_once(url: sa.URL) -> bool:
    execute(url, "INSERT INTO items SELECT coalesce(max(id), 0) + 1, 'x' FROM items")
    return True


def counts(pilot: Autopilot) -> dict[str, int]:
    """How often each pattern ran, as MariaDB and PostgreSQL both spell it."""
    return {one.query.replace("`", "").upper(): one.calls for one in pilot.query_stats(1, 100).patterns}


def test_what_others_send_is_counted_from_the_servers_own_statistics(counting):
    execute(counting, "DROP TABLE IF EXISTS items", "CREATE TABLE items (id INT PRIMARY KEY, name VARCHAR(10))")
    engine, store = sa.create_engine(counting), MemoryStore()
    with Autopilot(engine, PilotConfig(), store=store, server_side_s=0.2) as pilot:
        until(lambda: buy_once(counting) and pilot.query_stats(1, 100).patterns)  # the first look only remembers
        with connected(counting) as connection:
            for _ in range(25):
                connection.execute(sa.text("SELECT name FROM items WHERE id = :id"), {"id": 1}).all()
        until(lambda: counts(pilot).get("SELECT NAME FROM ITEMS WHERE ID = ?", 0) == 25)
    found = pilot.query_stats(1, 100).patterns
    assert {table for one in found for table in one.tables} == {"items"}, "what monitors is left out"
    [select] = [one for one in found if one.calls == 25]
    assert select.rows == 25
    assert 0 < select.mean_s == pytest.approx(select.total_s / 25)
    assert store.patterns([select.pattern_id]), "the history has it"
    engine.dispose()


@contextmanager
def serving(
    *arguments: str, env: dict[str, str], folder: Path
) -> Iterator[tuple[str, subprocess.Popen[str], list[str]]]:
    """``dbpilot serve`` until the block ends: its address, the process, and what it says on stderr."""
    command = [*COMMAND, "serve", "--port", "0", *arguments]
    process = subprocess.Popen(command, env=env, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said: list[str] = []
    assert process.stderr is not None
    reader = Thread(target=said.extend, args=(process.stderr,), daemon=True)
    reader.start()
    try:
        first = until(lambda: process.poll() is not None or next((line for line in said if "http://" in line), None))
        assert isinstance(first, str), "".join(said)
        yield first.split()[1], process, said
    finally:
        process.kill()
        process.wait()
        reader.join()
        assert process.stdout is not None
        process.stdout.close()
        process.stderr.close()


def answer(url: str) -> Any:
    try:
        with urlopen(url, timeout=30) as found:
            return found.status, found.read().decode()
    except URLError:
        return None


@pytest.mark.parametrize("counting", ["postgresql"], indirect=True)
def test_a_database_without_a_python_application_is_served(counting, tmp_path):
    execute(counting, "DROP TABLE IF EXISTS items", "CREATE TABLE items (id INT PRIMARY KEY, name VARCHAR(10))")
    env = environment(tmp_path / "var", DATABASE_URL=text(counting))
    history = f"sqlite:///{tmp_path}/history.sqlite3"
    with serving("--every", "1", "--history", history, env=env, folder=tmp_path) as (url, process, said):
        until(lambda: answer(f"{url}/api/database/query-stats"))
        until(lambda: buy_once(counting) and "items" in answer(f"{url}/api/database/query-stats")[1])
        status, metrics = answer(f"{url}/metrics")
        assert status == 200
        assert 'table="items"' in metrics
        assert answer(f"{url}/")[0] == 200, "the dashboard"
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == 130, "".join(said)
    assert any("statistics are read every 1 s" in line for line in said)
    assert not any(str(counting.password) in line for line in said)


def test_an_open_address_without_a_key_is_refused_with_the_line_to_add(run, sqlite_url):
    execute(sqlite_url, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    done = run("serve", "--url", text(sqlite_url), "--host", "0.0.0.0", "--port", "0")
    assert (done.code, done.out) == (5, "")
    assert "DBPILOT_WEB__KEYS" in done.err


@pytest.mark.parametrize("command", ["doctor", "health", "demo", "serve", "queries"])
def test_every_command_has_its_page(run, command):
    done = run(command, "--help")
    assert done.code == 0
    assert f"Usage: dbpilot {command}" in done.out
    assert command in run("--help").out


def test_a_shell_completes_commands(tmp_path):
    env = environment(tmp_path, _DBPILOT_COMPLETE="complete_bash", COMP_WORDS="dbpilot hea", COMP_CWORD="1")
    done = subprocess.run(COMMAND, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.stdout.split() == ["health"]

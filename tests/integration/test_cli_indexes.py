"""``dbpilot indexes``, as a shell sees it, and ``finstage indexes``, which is the same with Finstage's database."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from app.common.infra.database.optimization.index_optimizer import RECOMMENDED
from dbpilot import Autopilot, PilotConfig
from dbpilot.cli.main import main
from dbpilot.cli.values import size
from dbpilot.dialects import dialect_of
from dbpilot.history.sql_store import place
from dbpilot.testing.servers import start_mariadb, start_postgresql
from tests.support import REPOSITORY, environment, run_cli

COMMAND = [sys.executable, "-m", "dbpilot.cli.main", "indexes"]
WAIT_S = 120
ORDERS = 12_000
SHOWN = "orders", "ix_orders_status", "ix_orders_status_placed"
MARK = "zq-secret-value"
BY_CUSTOMER = "SELECT id, total FROM orders WHERE customer = {} ORDER BY placed DESC LIMIT 10;\n"
WORKLOAD = "".join(
    [
        *(BY_CUSTOMER.format(number) for number in range(1, 30)),
        "SELECT count(*) FROM orders WHERE status = 'new' AND placed > '2026-01-05 00:00:00';\n" * 5,
        f"SELECT id FROM orders WHERE note = '{MARK}' AND id = 5;\n",
    ]
)

METADATA = sa.MetaData()
ORDERS_TABLE = sa.Table(
    "orders",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("customer", sa.Integer, nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("placed", sa.DateTime, nullable=False),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("note", sa.String(100)),
    sa.Index("ix_orders_status", "status"),
    sa.Index("ix_orders_status_placed", "status", "placed"),
)


def filled(url: sa.URL) -> sa.URL:
    """A shop without an index by customer, and with one that begins another."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    began = datetime(2026, 1, 1)  # noqa: DTZ001 - the column has no time zone
    with engine.begin() as connection:
        METADATA.create_all(connection)
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS hypopg"))
        rows = [
            {
                "id": number,
                "customer": 1 + number * 7919 % 2000,
                "status": "new" if number % 100 == 0 else "done",
                "placed": began + timedelta(minutes=number),
                "total": number * 31 % 1000,
                "note": f"note {number} {'x' * 60}",
            }
            for number in range(ORDERS)
        ]
        for at in range(0, ORDERS, 2000):
            connection.execute(sa.insert(ORDERS_TABLE), rows[at : at + 2000])
    analyze = {"postgresql": "VACUUM ANALYZE orders", "mysql": "ANALYZE TABLE orders", "sqlite": "ANALYZE"}
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(analyze[engine.dialect.name]))
    return url


def text(url: sa.URL) -> str:
    return url.render_as_string(hide_password=False)


@contextmanager
def connected(url: sa.URL) -> Iterator[sa.Connection]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection


def indexes(url: sa.URL) -> dict[str, tuple[str, ...]]:
    """The columns of each index of the orders; of hidden ones, too, which SQLAlchemy does not know."""
    with connected(url) as connection:
        table = dialect_of(connection.engine).catalog(connection).tables["orders"]
        return {index.name: index.columns for index in table.indexes if index.constraint is None}


def tables(url: sa.URL) -> list[str]:
    with connected(url) as connection:
        return sorted(sa.inspect(connection).get_table_names())


def plan_uses(url: sa.URL, index: str) -> bool:
    """Whether the database would answer by this index."""
    with connected(url) as connection:
        explain = dialect_of(connection.engine).explain
        root = explain(connection, BY_CUSTOMER.format(5).rstrip(";\n"), None)
        return any(node.index == index for _, node in root.walk())


class Shell:
    """Runs ``dbpilot indexes ARGUMENTS`` in a folder of its own."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder, self.env = folder, env

    def __call__(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        options: dict[str, Any] = {"env": self.env, "cwd": self.folder, "timeout": 300, "check": False, "text": True}
        return subprocess.run([*COMMAND, *arguments], input=stdin, capture_output=True, **options)

    def json(self, *arguments: str) -> dict[str, Any]:
        done = self(*arguments, "--json")
        assert done.returncode in (0, 3), done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        assert document.pop("version") == 1
        return document

    @contextmanager
    def begun(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """The command while it runs; it does not outlive the block."""
        options: dict[str, Any] = {"env": self.env, "cwd": self.folder, "text": True}
        command = [*COMMAND, *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
            try:
                yield process
            finally:
                process.kill()


def shell(folder: Path, url: sa.URL, **settings: str) -> Shell:
    (folder / "shop.sql").write_text(WORKLOAD)
    history = {"DBPILOT_HISTORY__URL": f"sqlite:///{folder}/pilot.sqlite3"}
    return Shell(folder, environment(folder / "var", DATABASE_URL=text(url), **{**history, **settings}))


def test_advised_applied_used_remembered_and_undone(database_url: sa.URL, tmp_path: Path) -> None:
    url, run = filled(database_url), shell(tmp_path, database_url)
    before = indexes(url)

    advice = run("advise", "--workload", "shop.sql")
    assert advice.returncode == 3, advice.stderr
    assert "3 of 3 statements judged" in advice.stdout
    document = run.json("advise", "--workload", "shop.sql")
    assert document["database"] == place(url)
    assert document["workload"]["source"] == "the statements in shop.sql"
    created = [step for step in document["steps"] if step["act"] == "create"]
    [step] = [one for one in created if one["columns"][0] == "customer"]
    assert (step["why"], step["grade"], step["safe"]) == ("workload", "what-if", True)
    assert step["size_bytes"] > 0
    assert step["undo"]
    assert max(gain["before"] / gain["after"] for gain in step["gains"]) > 3
    assert f"{step['id']}  create {step['index']} on orders" in advice.stdout
    [dropped] = [one for one in document["steps"] if one["act"] == "drop"]
    assert (dropped["index"], dropped["why"], dropped["covered_by"]) == (SHOWN[1], "prefix", SHOWN[2])

    dry = run("apply", step["id"], "--workload", "shop.sql", "--url", text(url))
    assert dry.returncode == 3, dry.stderr
    assert step["ddl"].split(" ALGORITHM")[0] in dry.stdout
    assert "dbpilot: a dry run, nothing was changed; this does it: dbpilot indexes apply" in dry.stderr
    assert dry.stderr.endswith("--yes\n")
    assert url.password is None or url.password not in dry.stdout + dry.stderr
    assert (indexes(url), tables(url)) == (before, ["orders"])
    assert not (tmp_path / "pilot.sqlite3").exists()

    done = run("apply", step["id"], "--workload", "shop.sql", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"create {step['index']} on orders +kept +.* of their time was promised", done.stdout)
    assert indexes(url).keys() - before.keys() == {step["index"]}
    assert plan_uses(url, step["index"])

    after = run.json("advise", "--workload", "shop.sql")
    assert [one for one in after["steps"] if one["act"] == "create"] == []
    assert after["score"] > document["score"]

    [entry] = run.json("history")["changes"]
    assert (entry["number"], entry["step"], entry["who"], entry["index"]) == (1, "kept", "command line", step["index"])
    assert "kept" in run("history").stdout

    undo = run("undo", "1")
    assert (undo.returncode, indexes(url).keys() - before.keys()) == (3, {step["index"]})
    undone = run("undo", "1", "--yes")
    assert undone.returncode == 0, undone.stderr
    assert indexes(url) == before
    again = run("undo", "1", "--yes")
    assert (again.returncode, again.stderr.count("\n")) == (5, 1)
    assert "change 1 cannot be taken back: it is reverted" in again.stderr
    said = "".join(one.stdout + one.stderr for one in (advice, dry, done, undo, undone, again))
    assert MARK not in said + json.dumps([document, after, entry])


def test_a_needless_index_goes_on_trial_and_comes_back(database_url: sa.URL, tmp_path: Path) -> None:
    url, run = filled(database_url), shell(tmp_path, database_url, DBPILOT_INDEXES__TRIAL_DAYS="0.000001")
    audit = run("audit", "--workload", "shop.sql")
    assert audit.returncode == 3, audit.stderr
    [line] = [line for line in audit.stdout.splitlines() if SHOWN[1] in line]
    step, table, index, act, kind, *_ = line.split()
    assert (table, index, act, kind) == ("orders", SHOWN[1], "drop:", "prefix")
    assert "safe" in line
    done = run("apply", step, "--workload", "shop.sql", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "change 1 is on trial" in done.stderr
    hides = url.get_backend_name() == "mysql"
    assert (SHOWN[1] in indexes(url)) == hides

    assert run.json("settle")["changes"][0]["step"] == "watching"
    settled = run.json("settle", "--yes")["changes"]
    assert [one["step"] for one in settled] == ["kept"]
    assert SHOWN[1] not in indexes(url)
    assert run("audit", "--workload", "shop.sql").returncode == 0


def test_what_sql_prints_is_executed_by_the_database(database_url: sa.URL, tmp_path: Path) -> None:
    url, run = filled(database_url), shell(tmp_path, database_url)
    printed = run("sql", "--workload", "-", stdin=WORKLOAD)
    assert printed.returncode == 0, printed.stderr
    lines = printed.stdout.splitlines()
    statements = [line for line in lines if line and not line.startswith("--")]
    undo = [line.removeprefix("-- undo: ") for line in lines if line.startswith("-- undo: ")]
    assert (len(statements), len(undo)) == (2, 2)
    assert MARK not in printed.stdout
    before = indexes(url)
    for wanted, expected in ((statements, True), (undo[::-1], False)):
        with connected(url) as connection:
            direct = connection.execution_options(isolation_level="AUTOCOMMIT")
            for statement in wanted:
                direct.exec_driver_sql(statement.removesuffix(";"))
        assert (SHOWN[1] not in indexes(url)) == expected
    assert indexes(url) == before


def test_an_alembic_revision_goes_there_and_back(database_url: sa.URL, tmp_path: Path) -> None:
    url, run = filled(database_url), shell(tmp_path, database_url)
    printed = run("sql", "--workload", "shop.sql", "--format", "alembic")
    assert printed.returncode == 0, printed.stderr
    before = indexes(url)
    revision: dict[str, Any] = {}
    exec(compile(printed.stdout, "revision.py", "exec"), revision)
    for name in ("upgrade", "downgrade"):
        with connected(url) as connection:
            context = MigrationContext.configure(connection)
            with context.begin_transaction(), Operations.context(context):
                revision[name]()
            connection.commit()
        if name == "upgrade":
            assert SHOWN[1] not in indexes(url)
            assert "customer" in [columns[0] for columns in indexes(url).values()]
    assert indexes(url) == before


def test_a_budget_bounds_what_is_advised(database_url: sa.URL, tmp_path: Path) -> None:
    filled(database_url)
    run = shell(tmp_path, database_url)
    few = run.json("advise", "--workload", "shop.sql", "--budget", "20kB")
    assert [step for step in few["steps"] if step["why"] == "workload"] == []
    enough = run.json("advise", "--workload", "shop.sql", "--budget", "5MB")
    assert sum(step["size_bytes"] for step in enough["steps"] if step["act"] == "create") <= 5e6
    assert [step for step in enough["steps"] if step["why"] == "workload"]


def test_the_workload_is_what_a_pilot_remembers_where_no_file_is_named(database_url: sa.URL, tmp_path: Path) -> None:
    url, run = filled(database_url), shell(tmp_path, database_url)
    history = f"sqlite:///{tmp_path}/pilot.sqlite3"
    engine = sa.create_engine(url)
    query = sa.select(ORDERS_TABLE.c.total).where(ORDERS_TABLE.c.customer == sa.bindparam("who"))
    with (
        Autopilot(engine, PilotConfig.model_validate({"history": {"url": history}, "queries": {"sample_every": 1}})),
        engine.connect() as connection,
    ):
        for number in range(30):
            connection.execute(query, {"who": number}).all()
    engine.dispose()
    for arguments in ([], ["--history", history]):
        found = run.json("advise", *arguments)
        assert found["workload"]["source"] == "statements that the application sent"
        [step] = [one for one in found["steps"] if one["columns"][0] == "customer"]
        assert "test_cli_indexes.py" in step["gains"][0]["sources"][0]
        assert "asked with values made up" in step["evidence"][0]
    elsewhere = run("advise", "--database", "no such one")
    assert (elsewhere.returncode, elsewhere.stderr.count("\n")) == (2, 1)


def test_with_no_workload_it_is_an_audit_only_and_says_so(database_url: sa.URL, tmp_path: Path) -> None:
    filled(database_url)
    run = shell(tmp_path, database_url)
    found = run("advise")
    assert found.returncode == 3, found.stderr
    assert "no advice by a workload: no statement is known that could be judged" in found.stdout
    assert "this is an audit only: name statements with --workload FILE" in found.stderr
    assert SHOWN[1] in found.stdout
    document = run.json("advise")
    assert document["score"] is None
    [step] = document["steps"]
    assert step["index"] == SHOWN[1]
    assert not (tmp_path / "pilot.sqlite3").exists()


@pytest.mark.parametrize("kind", ["mariadb", "postgresql"])
def test_the_workload_is_what_the_server_counted_where_nothing_else_is_known(kind: str, tmp_path: Path) -> None:
    start = {
        "mariadb": lambda: start_mariadb(options={"performance_schema": "ON"}),
        "postgresql": lambda: start_postgresql(options={"shared_preload_libraries": "pg_stat_statements"}),
    }[kind]
    with start() as server:
        url = filled(server.create_database("shop"))
        with connected(url) as connection:
            if kind == "postgresql":
                connection.execute(sa.text("CREATE EXTENSION pg_stat_statements"))
                connection.execute(sa.text("SELECT pg_stat_statements_reset()"))  # that it was filled
                connection.commit()
            for number in range(30):
                connection.execute(sa.select(ORDERS_TABLE.c.total).where(ORDERS_TABLE.c.customer == number)).all()
        found = shell(tmp_path, url).json("advise")
    assert found["workload"]["source"] == "statements that the server counted"
    assert [step["columns"][0] for step in found["steps"] if step["act"] == "create"] == ["customer"]


def test_where_the_optimizer_cannot_be_asked_nothing_is_called_fine(mariadb_url: sa.URL, tmp_path: Path) -> None:
    """An account that may read the shop, and make no copies of it."""
    poor = mariadb_url.set(username=f"poor_{mariadb_url.database}"[:30], password="poor")
    with connected(filled(mariadb_url)) as connection:
        connection.exec_driver_sql("DROP INDEX ix_orders_status ON orders").close()
        connection.exec_driver_sql(f"CREATE USER {poor.username}@'%%' IDENTIFIED BY 'poor'").close()
        connection.exec_driver_sql(f"GRANT SELECT ON {poor.database}.* TO {poor.username}@'%%'").close()
    run = shell(tmp_path, poor)
    for arguments, code in ((["sql"], 0), (["apply"], 5), (["apply", "--yes"], 5)):
        done = run(*arguments, "--workload", "shop.sql")
        assert (done.returncode, "no advice by a workload" in done.stderr) == (code, True), done
        assert "GRANT" in done.stderr
    advice = run("advise", "--workload", "shop.sql")
    assert advice.returncode == 5
    assert "no advice by a workload: this user may not make the schema" in advice.stdout
    assert f"TO '{poor.username}'@'%';" in advice.stdout
    assert "what the workload wants could not be judged" in advice.stdout
    assert "nothing is to be done" not in advice.stdout
    assert "statements that read it were seen, and none of them was judged" in advice.stdout
    assert "no statement that reads it was seen" not in advice.stdout
    assert run("advise", "--workload", "shop.sql", "--json").returncode == 5


def test_where_no_statement_can_be_judged_nothing_is_called_fine(sqlite_url: sa.URL, tmp_path: Path) -> None:
    with connected(filled(sqlite_url)) as connection:
        connection.exec_driver_sql("DROP INDEX ix_orders_status")
        connection.commit()
    run = shell(tmp_path, sqlite_url)
    advice = run("advise", "--workload", "-", stdin="SELECT nothing FROM orders WHERE nothing = 5;")
    assert (advice.returncode, "nothing is to be done" in advice.stdout) == (5, False), advice.stdout
    assert "no advice by a workload: none of the statements could be judged" in advice.stdout


def test_a_slow_log_is_a_workload(mariadb_url: sa.URL, tmp_path: Path) -> None:
    url, run = filled(mariadb_url), shell(tmp_path, mariadb_url)
    entry = f"# User@Host: shop[shop] @ localhost []\n# Thread_id: 7  Schema: {url.database}  QC_hit: No\n"
    entry += (
        "# Query_time: 0.812000  Lock_time: 0.000100  Rows_sent: 6  Rows_examined: 12000\nSET timestamp=1767700000;\n"
    )
    (tmp_path / "slow.log").write_text("".join(entry + BY_CUSTOMER.format(number) for number in range(5)))
    found = run.json("advise", "--workload", "slow.log")
    assert found["workload"]["source"] == "the slow log slow.log"
    [step] = [one for one in found["steps"] if one["act"] == "create"]
    assert step["gains"][0]["total_s"] == pytest.approx(5 * 0.812)


def test_watch_tells_what_is_read_and_made_until_ctrl_c(postgresql_url: sa.URL, tmp_path: Path) -> None:
    url, run = filled(postgresql_url), shell(tmp_path, postgresql_url)
    with run.begun("watch", "--every", "0.2") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline().startswith("dbpilot: watching 3 indexes")
        with connected(url) as connection:
            connection.execute(sa.text("SELECT count(*) FROM orders WHERE status = 'new' AND placed > now()")).all()
        assert re.search(r"orders\.ix_orders_status(_placed)?: 1 reads", process.stdout.readline())
        with connected(url) as connection:
            connection.execute(sa.text("CREATE INDEX ix_new ON orders (total)"))
            connection.commit()
        assert process.stdout.readline().rstrip().endswith("orders.ix_new: new")
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    assert "Traceback" not in rest


def until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def builds(url: sa.URL) -> int:
    """How many indexes PostgreSQL builds in this database."""
    if url.get_backend_name() != "postgresql":
        return 0
    with connected(url) as connection:
        query = "SELECT count(*) FROM pg_stat_progress_create_index WHERE datname = current_database()"
        return connection.scalar(sa.text(query)) or 0


@pytest.mark.parametrize("kind", ["mariadb", "postgresql"])
def test_ctrl_c_leaves_nothing_half_done(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """While it waits behind somebody's open transaction, which holds the table."""
    url = filled(request.getfixturevalue(f"{kind}_url"))
    run, before = shell(tmp_path, url), indexes(url)
    [step] = [one for one in run.json("advise", "--workload", "shop.sql")["steps"] if one["act"] == "create"]
    with connected(url) as blocker:
        blocker.execute(sa.update(ORDERS_TABLE).where(ORDERS_TABLE.c.id == 1).values(total=1))
        with run.begun("apply", step["id"], "--workload", "shop.sql", "--yes") as process:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("dbpilot: create ")
            until(lambda: "dbpilot_index_ledger" in tables(url), "it has begun")
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGINT)
            assert "ends as soon as nothing is half done" in process.stderr.readline()
            until(lambda: not builds(url), "its statement has ended")
            blocker.rollback()  # a broken index of PostgreSQL is only gone when no transaction is open that may read it
            stdout, stderr = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130, stdout + stderr
    assert "Traceback" not in stderr
    assert indexes(url) == before, stdout + stderr
    [entry] = run.json("history")["changes"]
    assert entry["step"] == "failed"


def shadows(url: sa.URL) -> list[str]:
    with connected(url) as connection:
        return [name for name in sa.inspect(connection).get_schema_names() if name.startswith("dbpilot_shadow_")]


def test_ctrl_c_leaves_no_shadow(tmp_path: Path) -> None:
    """While the optimizer is asked about many statements; on a server where nobody else's shadows are."""
    columns = [column.name for column in ORDERS_TABLE.columns]
    chosen = [chosen for number in (1, 2, 3) for chosen in combinations(columns, number)]
    asked = ("customer = 5", "customer = 5 AND total > 3", "status IN ('a', 'b') AND total = 4")
    queries = [f"SELECT {', '.join(one)} FROM orders WHERE {where};\n" for one in chosen for where in asked]
    (tmp_path / "many.sql").write_text("".join(queries))
    with start_mariadb() as server:
        url = filled(server.create_database("shop"))
        with shell(tmp_path, url).begun("advise", "--workload", "many.sql") as process:
            until(lambda: shadows(url), "it is at work")
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=WAIT_S)
        assert (process.returncode, stdout, stderr) == (130, "", "")
        assert shadows(url) == []


def test_finstage_knows_its_database_and_its_wishes(tmp_path: Path) -> None:
    env = environment(tmp_path / "var", COLUMNS="200")
    assert run_cli("migrate", env=env).returncode == 0
    advice = run_cli("indexes", "advise", "--json", env=env)
    assert advice.returncode in (0, 3), advice.stderr
    found = json.loads(advice.stdout)
    assert [(one["table"], tuple(one["columns"])) for one in found["patterns"]] == [
        (one.table, one.columns) for one in RECOMMENDED
    ]
    assert {one["status"] for one in found["patterns"]} <= {"present", "satisfied"}
    unknown = run_cli("indexes", "sql", "--table", "daily_price", env=env)
    assert (unknown.returncode, unknown.stderr) == (
        2,
        "finstage: there is no table daily_price; did you mean daily_prices?\n",
    )
    assert (
        run_cli("indexes", "history", env=env).stderr == "dbpilot: no index of this database was changed by dbpilot\n"
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> sa.URL:
    """One that no test of this module changes."""
    path = tmp_path_factory.mktemp("shop") / "shop.sqlite3"
    return filled(sa.URL.create("sqlite+pysqlite", database=str(path)))


class Here:
    """Runs ``dbpilot indexes ARGUMENTS`` in this process: what it prints where, and how it ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["dbpilot", "indexes", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, shop: sa.URL) -> Here:
    """A folder with workloads of all kinds for a shop, and with no history."""
    monkeypatch.delenv("DBPILOT_HISTORY__URL", raising=False)
    monkeypatch.setenv("DATABASE_URL", text(shop))
    monkeypatch.chdir(tmp_path)
    files = {
        "shop.sql": WORKLOAD.encode(),
        "empty.sql": b"",
        "blank.sql": b"\n  -- nothing\n",
        "binary.sql": b"SELECT 1;\n\x00\x01\x02",
        "latin.sql": "SELECT 'gr\xfc\xdfe';".encode("latin-1"),
        "half.sql": f"SELECT 1;\nSELECT id FROM orders WHERE note = '{MARK}".encode(),
        "slow.log": b"# Time: 261126\n# User@Host: a[a] @ b []\n# Query_time: 1.0\nSELECT 1;\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return Here(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["audit", "--url", "sqlite:///none"], 4, "there is no database at sqlite:///"),
        (["audit", "--url", "no:s3cret"], 2, "the database's URL cannot be read"),
        (
            ["audit", "--url", "postgresql+psycopg://u:s3cret@127.0.0.1:1/x"],
            4,
            "the database at postgresql://127.0.0.1:1/x cannot be reached: connection failed",
        ),
        (["audit", "--url", "mysql+pymysql://u:s3cret@127.0.0.1:1/x"], 4, "cannot be reached: "),
        (["audit", "--url", "oracle://u:s3cret@127.0.0.1:1/x"], 2, "asks for a driver that is not installed"),
        (["audit", "--url", "sqlite+aiosqlite:///x"], 2, "is a driver for asyncio"),
        (["audit", "--url", "sqlite://"], 4, "there is no database at sqlite:///"),
        (["audit", "--table", "order"], 2, "there is no table order; did you mean orders?"),
        (["advise", "--table", "zebra"], 2, "there is no table zebra"),
        (["sql", "--table", "order"], 2, "there is no table order; did you mean orders?"),
        (["advise", "--workload", "none.sql"], 2, "none.sql cannot be read: No such file"),
        (["advise", "--workload", "."], 2, "cannot be read: Is a directory"),
        (["advise", "--workload", "empty.sql"], 2, "empty.sql holds no statement"),
        (["advise", "--workload", "blank.sql"], 2, "blank.sql holds no statement"),
        (["advise", "--workload", "binary.sql"], 2, "binary.sql, line 2: that is no text"),
        (["advise", "--workload", "latin.sql"], 2, "latin.sql, line 1: that is not UTF-8"),
        (["advise", "--workload", "half.sql"], 2, "half.sql, line 2: the file ends within the statement"),
        (["advise", "--workload", "slow.log"], 2, "slow.log is a slow log of MariaDB or MySQL, and this is neither"),
        (["advise", "--workload", "shop.sql", "--budget", "5 apples"], 2, "'5 apples' is no size; write 500MB or"),
        (["advise", "--workload", "shop.sql", "--budget", "0MB"], 2, "'0MB' is no size"),
        (["advise", "--history", "sqlite:///none"], 4, "there is no history at sqlite:///"),
        (["advise", "--history", "no:s3cret"], 2, "the history's URL cannot be read"),
        (["apply", "nosuchid", "--workload", "shop.sql", "--yes"], 2, "there is no step nosuchid"),
        (["undo", "7", "--yes"], 2, "there is no change 7 in this database; `indexes history` shows them"),
        (["watch", "--url", "sqlite:///none"], 4, "there is no database at sqlite:///"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_and_leaves_nothing(
    here: Here, tmp_path: Path, shop: sa.URL, arguments: list[str], code: int, said: str
) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    ended, out, err = here(*arguments)
    assert (ended, out, err.count("\n")) == (code, "", 1), err
    assert err.startswith("dbpilot: ")
    assert said in err
    assert "s3cret" not in err
    assert MARK not in err
    assert tables(shop) == ["orders"]
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("written", "wanted"),
    [("500MB", 5e8), ("1.5GiB", 1.5 * 2**30), ("4096", 4096), ("20 kB", 20_000), ("7b", 7), ("2 mib", 2**21)],
)
def test_a_size_has_a_unit_or_is_in_bytes(written: str, wanted: float) -> None:
    assert size(written) == wanted


def test_a_setting_that_is_none_is_told(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBPILOT_INDEXES__BUGDET_MB", "5")
    code, out, err = here("audit")
    assert (code, out) == (2, "")
    assert "did you mean DBPILOT_INDEXES__BUDGET_MB" in err


def test_help_needs_no_database() -> None:
    env = environment(Path("/nonexistent"), DATABASE_URL="nonsense")
    for words in ([], ["audit"], ["advise"], ["sql"], ["apply"], ["watch"], ["history"], ["settle"], ["undo"]):
        done = subprocess.run(
            [*COMMAND, *words, "--help"], env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0
        assert "Usage:" in done.stdout

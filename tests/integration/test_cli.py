"""The ``finstage`` command, as a shell sees it: what it prints where, and how it ends."""

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
import sqlalchemy as sa

from tests.support import REPOSITORY, environment, run_cli, run_python

PRICES = "symbol,date,open,high,low,close,volume\nFB,2012-05-18,42.05,45,38,38.23,573576400\n"
BAD_PRICE = "FB,2012-05-22,32.61,30,31.5,31,101786600\n"
CLOSED_PORT = 1
WAIT_S = 60


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """Surroundings with no database yet."""
    return environment(tmp_path / "var")


@pytest.fixture
def env(bare: dict[str, str]) -> dict[str, str]:
    """Surroundings with the tables and nothing in them."""
    assert run_cli("migrate", env=bare).returncode == 0
    return bare


def rows(env: Mapping[str, str], table: str) -> int:
    engine = sa.create_engine(f"sqlite:///{env['FINSTAGE_VAR']}/finstage.sqlite3")
    with engine.connect() as connection:
        found = connection.scalar(sa.select(sa.func.count()).select_from(sa.table(table)))
    engine.dispose()
    return found or 0


def prices(folder: Path, content: str = PRICES) -> Path:
    path = folder / "prices.csv"
    path.write_text(content)
    return path


def test_help_and_version_need_no_database(bare: dict[str, str], tmp_path: Path) -> None:
    unusable = {**bare, "DATABASE_URL": "nonsense"}
    assert run_cli("--version", env=unusable).stdout == "0.1.0\n"
    for command in ([], ["serve"], ["migrate"], ["import"], ["import", "prices"], ["import", "news"], ["generate"]):
        done = run_cli(*command, "--help", env=unusable)
        assert done.returncode == 0
        assert "Usage:" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_clean_import_ends_with_0_and_one_line(env: dict[str, str], tmp_path: Path) -> None:
    path = prices(tmp_path)
    done = run_cli("import", "prices", str(path), env=env)
    assert (done.returncode, done.stdout) == (0, f"imported 1, already there 0, refused 0 ({path})\n")
    done = run_cli("import", "prices", str(path), "--json", env=env)
    assert json.loads(done.stdout) == {"file": str(path), "imported": 0, "already_there": 1, "refused": 0}


def test_a_bad_row_ends_with_3_and_says_where_and_why(env: dict[str, str], tmp_path: Path) -> None:
    path = prices(tmp_path, PRICES + BAD_PRICE)
    done = run_cli("import", "prices", str(path), env=env)
    assert done.returncode == 3
    assert f"{path}:3: high 30 is below low 31.5\n" in done.stderr
    assert done.stdout == f"imported 1, already there 0, refused 1 ({path})\n"


def test_a_strict_import_with_a_bad_row_ends_with_3_and_changes_nothing(env: dict[str, str], tmp_path: Path) -> None:
    path = prices(tmp_path, PRICES + BAD_PRICE)
    done = run_cli("import", "prices", str(path), "--strict", env=env)
    assert done.returncode == 3
    assert done.stderr == f"{path}:3: high 30 is below low 31.5\nnothing was changed\n"
    assert rows(env, "daily_prices") == rows(env, "symbols") == 0


def test_broken_json_ends_with_3_and_the_rest_is_there(env: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "news.jsonl"
    piece = '{"symbol":"FB","title":"%s","source":"s","published_at":"2012-05-18T00:00:00Z"}\n'
    path.write_text(piece % "a" + piece % "b" + "{broken\n" + piece % "c")
    done = run_cli("import", "news", str(path), env=env)
    assert done.returncode == 3
    assert f"{path}:3: Invalid JSON: key must be a string at column 2\n" in done.stderr
    assert done.stdout == f"imported 3, already there 0, refused 1 ({path})\n"
    assert rows(env, "contents") == 3


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("prices.parquet", PRICES, "is not a Parquet file, whatever its name says; if it is text, rename it to .csv"),
        ("prices.csv", "a,b\n1,2\n", "has the unknown header 'a,b'"),
        (None, "", "cannot be read: No such file or directory"),
    ],
)
def test_an_unusable_file_ends_with_2_and_one_line(
    env: dict[str, str], tmp_path: Path, name: str | None, content: str, reason: str
) -> None:
    path = tmp_path / (name or "none.csv")
    if name:
        path.write_text(content)
    done = run_cli("import", "prices", str(path), env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"finstage: {path} {reason}")
    assert done.stderr.count("\n") == 1
    assert rows(env, "daily_prices") == 0


@pytest.mark.parametrize("command", [["import", "prices", "p.csv"], ["signals"]])
def test_tables_that_are_not_ready_end_with_5_and_the_fix(bare: dict[str, str], command: list[str]) -> None:
    done = run_cli(*command, env=bare)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == (
        "finstage: the database's tables are at revision none, this program needs 0002: run `finstage migrate` first\n"
    )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://u:s3cret@127.0.0.1:1/x?nonsense=1", "unexpected keyword argument 'nonsense'"),
        ("postgresql://u:s3cret@127.0.0.1:1/x?nonsense=1", 'invalid connection option "nonsense"'),
        ("sqlite:///TMP/file", "file is not a database"),
        ("sqlite:///TMP/file/x", "File exists"),
    ],
)
def test_a_database_that_cannot_be_opened_ends_with_4_and_one_line(tmp_path: Path, url: str, reason: str) -> None:
    (tmp_path / "file").write_text("no database")
    done = run_cli("migrate", env=environment(tmp_path, DATABASE_URL=url.replace("TMP", str(tmp_path))))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1)
    assert reason in done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(
    "settings",
    [
        {"DATABASE_URL": "mysql://finstage:s3cret@127.0.0.1"},
        {"DATABASE_URL": "sqlite://"},
        {"DBPILOT_QUERIES__SLOW_S": "s3cret"},
        {"DBPILOT_HISTORY__URL": "mysql://finstage:s3cret@127.0.0.1/x"},
    ],
)
def test_a_setting_that_cannot_work_ends_with_2_before_anything_is_done(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    done = run_cli("serve", env=environment(tmp_path / "var", **settings))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "s3cret" not in done.stderr
    assert not (tmp_path / "var").exists()


@pytest.mark.parametrize("scheme", ["mysql", "postgresql"])
@pytest.mark.parametrize("command", [["migrate"], ["serve"], ["import", "prices", "p.csv"]])
def test_a_database_that_is_down_ends_with_4_and_no_password(
    bare: dict[str, str], scheme: str, command: list[str]
) -> None:
    url = f"{scheme}://finstage:s3cret%21@127.0.0.1:{CLOSED_PORT}/finstage"
    done = run_cli(*command, env={**bare, "DATABASE_URL": url, "FINSTAGE_PORT": "0"})
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith(f"finstage: the database at {scheme}://127.0.0.1:{CLOSED_PORT}/finstage cannot be")
    assert done.stderr.count("\n") == 1
    assert "s3cret" not in done.stderr


def test_a_wrong_password_ends_with_4_and_does_not_repeat_it(bare: dict[str, str], mariadb_url: sa.URL) -> None:
    url = mariadb_url.set(username="nobody", password="s3cret")
    env = {**bare, "DATABASE_URL": url.render_as_string(hide_password=False)}
    done = run_cli("migrate", env=env)
    assert done.returncode == 4
    assert "Access denied for user 'nobody'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"DATABASE_URL": "s3cret"}, "DATABASE_URL cannot be read"),
        ({"DATABASE_URL": "oracle://s3cret@host/x"}, "DATABASE_URL names 'oracle'"),
        ({"FINSTAGE_PORT": "abc"}, "FINSTAGE_PORT: Input should be a valid integer"),
    ],
)
def test_an_unusable_setting_ends_with_2_and_its_name(
    bare: dict[str, str], settings: dict[str, str], said: str
) -> None:
    done = run_cli("migrate", env={**bare, **settings})
    assert done.returncode == 2
    assert done.stderr.startswith(f"finstage: {said}")
    assert done.stderr.count("\n") == 1
    assert "s3cret" not in done.stderr


def test_migrate_says_where_the_tables_are(bare: dict[str, str]) -> None:
    path = f"{bare['FINSTAGE_VAR']}/finstage.sqlite3"
    steps = [
        ([], f"the tables in {path} are at revision 0002 now (before: none)\n"),
        ([], f"the tables in {path} are at revision 0002\n"),
        (["--revision", "0001"], f"the tables in {path} are at revision 0001 now (before: 0002)\n"),
    ]
    for options, line in steps:
        assert run_cli("migrate", *options, env=bare).stdout == line
    done = run_cli("migrate", "--revision", "base", env=bare)
    assert (done.returncode, done.stdout) == (2, "")


def test_signals_follow_imported_prices(env: dict[str, str]) -> None:
    assert run_cli("import", "prices", "examples/prices.csv", env=env).returncode == 0
    done = run_cli("signals", env=env)
    assert done.returncode == 0
    assert done.stdout.startswith("signals ")


def test_the_examples_are_taken_without_a_word(env: dict[str, str]) -> None:
    for kind, name in (("prices", "prices.csv"), ("news", "news.jsonl")):
        done = run_cli("import", kind, f"examples/{name}", "--strict", env=env)
        assert done.returncode == 0, done.stderr
        assert ", already there 0, refused 0" in done.stdout


def test_a_port_in_use_ends_with_2_and_names_the_setting(bare: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_cli("serve", env={**bare, "FINSTAGE_PORT": str(port)})
    assert done.returncode == 2
    assert done.stderr == (
        f"finstage: cannot listen on 127.0.0.1 port {port}: Address already in use; "
        "choose another with FINSTAGE_PORT (or FINSTAGE_HOST)\n"
    )


def test_ctrl_c_while_the_sample_loads_ends_with_0_and_the_next_start_completes_it(bare: dict[str, str]) -> None:
    env = {**bare, "FINSTAGE_PORT": "0"}
    command = [sys.executable, "-m", "app.cli", "serve"]
    process = Popen(command, env=env, cwd=REPOSITORY, stdout=PIPE, stderr=PIPE, text=True)
    assert process.stderr is not None
    while process.stderr.readline() != "prices: 12,154 of 12,154\n":
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, said = process.communicate(timeout=WAIT_S)
    assert (process.returncode, output) == (0, "")
    assert said.endswith("stopped\n")
    assert "Traceback" not in said

    process = Popen(command, env=env, cwd=REPOSITORY, stdout=PIPE, stderr=PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("Finstage Market Data: http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    assert "loaded the sample prices" in said
    assert "Traceback" not in said
    assert rows(env, "daily_prices") == 12_154
    assert rows(env, "technical_signals") == rows(env, "signal_outcomes") > 1000


def test_progress_is_a_bar_on_a_terminal(bare: dict[str, str], tmp_path: Path) -> None:
    assert run_cli("migrate", env=bare).returncode == 0
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "app.cli", "import", "prices", str(prices(tmp_path))]
    with Popen(command, env={**bare, "TERM": "xterm"}, cwd=REPOSITORY, stdout=PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
        assert process.wait(WAIT_S) == 0
    os.close(ours)
    assert b"prices.csv" in shown
    assert "━".encode() in shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # how a terminal says that its other end is closed
        return b""


WATCHED = """
    from sqlalchemy import text
    from app.common.infra.database.config.database_config import engine
    from app.common.infra.database.monitoring.query_monitor import query_monitor
    with query_monitor, engine.connect() as connection:
        for _ in range(3):
            connection.execute(text("SELECT symbol FROM symbols")).all()
"""


def test_what_was_seen_is_told_without_naming_the_database_or_its_history(env: dict[str, str]) -> None:
    run_python(WATCHED, env)
    top = run_cli("queries", "top", "--json", env=env)
    assert top.returncode == 0, top.stderr
    [seen] = [one for one in json.loads(top.stdout)["queries"] if one["query"] == "SELECT symbol FROM symbols"]
    assert seen["calls"] == 3
    shown = run_cli("queries", "show", seen["pattern_id"][:8], env=env)
    assert shown.stdout.startswith("SELECT symbol FROM symbols\n")
    nothing = run_cli("queries", "show", "zz", env=env)
    assert (nothing.returncode, nothing.stderr) == (
        2,
        "finstage: no pattern of that time begins with 'zz'; `finstage queries top --json` has them\n",
    )
    health = run_cli("health", "--json", env=env)
    [pulse] = json.loads(health.stdout)["databases"]
    assert pulse["database"].endswith("/var/finstage.sqlite3")
    assert pulse["totals"]["calls"] >= 3
    assert health.returncode == (0 if pulse["state"] == "ok" else 3)
    doctor = run_cli("doctor", "--json", env=env)
    checks = {one["check"]: one["state"] for one in json.loads(doctor.stdout)["checkup"]["checks"]}
    assert checks["history"] == "ok", "it is found without being named"
    assert doctor.returncode in (0, 3)


def test_where_nothing_was_seen_a_look_makes_nothing(env: dict[str, str]) -> None:
    health = run_cli("health", env=env)
    assert (health.returncode, health.stderr.startswith("finstage: there is no history at ")) == (4, True)
    assert run_cli("queries", "top", env=env).returncode == 4
    assert run_cli("doctor", env=env).returncode == 3
    assert sorted(path.name for path in Path(env["FINSTAGE_VAR"]).glob("dbpilot*")) == []

"""The ``dbpilot`` command, as a shell sees it, beside histories that real pilots wrote."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from dbpilot import Autopilot, PilotConfig
from dbpilot.clock import SystemClock
from dbpilot.history.store import MemoryStore
from dbpilot.pool import ResizableQueuePool
from dbpilot.web.api import make_api
from tests.support import environment, run_python

COMMAND = [sys.executable, "-m", "dbpilot.cli.main"]
CLOSED_PORT = 1
WAIT_S = 60
HELD = 10
POLICY = {"mode": "auto", "sample_s": 0.05, "review_s": 0.5}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Surroundings that know no history."""
    return environment(tmp_path / "var", COLUMNS="80")


@pytest.fixture
def run(tmp_path: Path, env: dict[str, str]) -> "Shell":
    return Shell(tmp_path, env)


class Shell:
    """Runs ``dbpilot ARGUMENTS`` in a folder of its own, to the end."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder, self.env = folder, env

    def __call__(self, *arguments: str, given: str | bytes = b"", **env: str) -> subprocess.CompletedProcess[str]:
        given = given.encode() if isinstance(given, str) else given
        options: dict[str, Any] = {"env": {**self.env, **env}, "cwd": self.folder, "timeout": 300, "check": False}
        done = subprocess.run([*COMMAND, *arguments], input=given, capture_output=True, **options)
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    @contextmanager
    def begun(self, *arguments: str, stdout: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
        """The command while it runs; it does not outlive the block."""
        command = [*COMMAND, *arguments]
        options: dict[str, Any] = {"env": {**self.env, "TERM": "xterm"}, "cwd": self.folder, "text": True}
        with subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, **options) as process:
            try:
                yield process
            finally:
                process.kill()


class Behind(SystemClock):
    """A clock that is late."""

    def __init__(self, behind_s: float) -> None:
        self._behind = timedelta(seconds=behind_s)

    def now(self) -> Any:
        return super().now() - self._behind


def _live_a_little(shop: sa.URL, history: str, behind_s: float = 0) -> int:
    """A pilot watches a pool all of whose connections are in use, until it was seen to have grown; how large it is."""
    engine = sa.create_engine(shop, poolclass=ResizableQueuePool, pool_size=5, max_overflow=HELD - 5)
    config = PilotConfig.model_validate({"pool": POLICY, "history": {"url": history}})
    held = [engine.connect() for _ in range(HELD)]
    with Autopilot(engine, config, clock=Behind(behind_s)) as pilot:
        deadline = time.monotonic() + WAIT_S
        while not (pilot.alerts(1, 10).alerts and pilot.pool_history(1).samples[-1].sample.size > 5):
            assert time.monotonic() < deadline, "the pool did not grow, or nobody was alerted"
            time.sleep(0.01)
    size: int = engine.pool.size()
    for connection in held:
        connection.close()
    engine.dispose()
    return size


def _text(url: sa.URL) -> str:
    return url.render_as_string(hide_password=False)


@pytest.fixture
def shop(tmp_path: Path) -> sa.URL:
    """A database that is watched."""
    return sa.URL.create("sqlite+pysqlite", database=str(tmp_path / "shop.sqlite3"))


@pytest.fixture
def history(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/pilot.sqlite3"


def test_the_pools_of_a_history_on_any_database_are_shown(run: Shell, shop: sa.URL, database_url: sa.URL) -> None:
    size, url = _live_a_little(shop, _text(database_url)), _text(database_url)
    done = run("pool", "status", DBPILOT_HISTORY__URL=url)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"sqlite:///{shop.database}"
    assert lines[1].split()[:5] == ["process", "size", "limit", "in", "use"]
    assert lines[2].split()[1:4] == [str(size), str(size + 5), "10.0"]
    assert f"grow: 5 -> {size} connections" in done.stdout
    assert "from 80% on it grows" in done.stdout
    assert "pool.resize(5, 5)" in done.stdout
    assert "CRITICAL" in done.stdout
    assert "10 of 10 connections are in use" in done.stdout

    found = json.loads(run("pool", "status", "--json", "--history", url).stdout)
    assert found["version"] == 1
    assert found["history"].startswith(database_url.get_backend_name())
    assert database_url.password is None or database_url.password not in json.dumps(found)
    [database] = found["databases"]
    [process] = database["processes"]
    assert (process["process"].rsplit(":", 1)[1], process["state"]) == (str(os.getpid()), "running")
    assert (process["size"], process["limit"], process["in_use"], process["idle"]) == (size, size + 5, 10, 0)
    assert (process["utilization"], process["timeouts"]) == (10 / size, 0)
    assert process["wait_p95_s"] is None, "no connection was asked for while the pilot looked"
    assert database["resizes"][-1]["undo"] == "pool.resize(5, 5)"
    assert "pool_exhaustion" in {alert["kind"] for alert in database["alerts"]}


def test_a_process_that_is_silent_is_gone_and_not_zero(run: Shell, shop: sa.URL, history: str) -> None:
    _live_a_little(shop, history, behind_s=120)
    line = run("pool", "status", "--history", history).stdout.splitlines()[2]
    assert line.split()[1:10] == [*"--------", "0"]
    assert "gone, " in line
    [database] = json.loads(run("pool", "status", "--json", "--history", history).stdout)["databases"]
    [process] = database["processes"]
    assert (process["state"], process["size"], process["in_use"], process["waiting"]) == ("gone", None, None, None)
    assert 110 < process["silent_s"] < 120 + 2 * WAIT_S


def test_who_was_seen_long_ago_is_said_to_be(run: Shell, shop: sa.URL, history: str) -> None:
    _live_a_little(shop, history, behind_s=3 * 3600)
    done = run("pool", "status", "--history", history)
    assert "no pool was seen in the last 10 minutes; the last time: 3 h ago" in done.stdout
    assert "latest resizes" in done.stdout
    assert "open alerts" not in done.stdout, "who saw them is gone"
    assert "latest resizes" not in run("pool", "status", "--history", history, "--hours", "1").stdout


def test_several_databases_are_listed_and_one_can_be_picked(run: Shell, tmp_path: Path, history: str) -> None:
    for name in ("shop", "mall"):
        _live_a_little(sa.URL.create("sqlite+pysqlite", database=str(tmp_path / f"{name}.db")), history)
    places = [f"sqlite:///{tmp_path}/mall.db", f"sqlite:///{tmp_path}/shop.db"]
    found = json.loads(run("pool", "status", "--json", "--history", history).stdout)
    assert [one["database"] for one in found["databases"]] == places
    for wanted in ("shop", places[1]):
        found = json.loads(run("pool", "status", "--json", "--history", history, "--database", wanted).stdout)
        assert [one["database"] for one in found["databases"]] == places[1:]
    for wanted, how_many in (("bakery", "no"), ("sqlite", "more than one")):
        done = run("pool", "status", "--history", history, "--database", wanted)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"'{wanted}' names {how_many} database in sqlite:///{tmp_path}/pilot.sqlite3; there are: " in done.stderr
        assert all(place in done.stderr for place in places)


def test_looking_at_a_history_that_is_not_there_makes_none(run: Shell, tmp_path: Path) -> None:
    for command in ("status", "watch"):
        done = run("pool", command)
        assert (done.returncode, done.stdout) == (4, "")
        assert done.stderr == (
            f"dbpilot: there is no history at sqlite:///{tmp_path}/var/dbpilot.sqlite3; "
            "name another with --history URL or DBPILOT_HISTORY__URL\n"
        )
    assert list(tmp_path.iterdir()) == []


def test_looking_at_an_empty_server_makes_no_tables(run: Shell, postgresql_url: sa.URL) -> None:
    done = run("pool", "status", "--history", _text(postgresql_url))
    assert (done.returncode, done.stdout) == (4, "")
    assert "there is no history in postgresql://127.0.0.1" in done.stderr
    engine = sa.create_engine(postgresql_url)
    assert sa.inspect(engine).get_table_names() == []
    engine.dispose()


def test_looking_leaves_no_file_behind(run: Shell, shop: sa.URL, tmp_path: Path) -> None:
    folder = tmp_path / "a folder? 100%"
    folder.mkdir()
    _live_a_little(shop, f"sqlite:///{folder}/pilot.sqlite3".replace("?", "%3F"))
    [path] = folder.iterdir()
    before = path.read_bytes()
    done = run("pool", "status", "--history", f"sqlite:///{path}".replace("?", "%3F"))
    assert (done.returncode, done.stderr) == (0, "")
    assert list(folder.iterdir()) == [path]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        (f"mysql+pymysql://u:s3cret@127.0.0.1:{CLOSED_PORT}/x", 4, "the history at mysql://127.0.0.1:1/x cannot be"),
        (f"postgresql+psycopg://u:s3cret@127.0.0.1:{CLOSED_PORT}/x", 4, "the history at postgresql://127.0.0.1:1/x c"),
        (f"mysql+pymysql://u:s3cret@127.0.0.1:{CLOSED_PORT}/x?no=1", 4, "unexpected keyword argument 'no'"),
        ("sqlite:///file", 4, "file is not a database"),
        ("sqlite:///", 4, "there is no history at sqlite:///"),
        ("nonsense:s3cret", 2, "the history's URL cannot be read"),
        ("oracle+s3cret://u:s3cret@host/x", 2, "the history's URL cannot be read"),
        ("mssql+pymssql://u:s3cret@host/x", 2, "asks for a driver that is not installed"),
    ],
)
def test_a_history_that_cannot_be_read_is_told_in_one_line(
    run: Shell, tmp_path: Path, url: str, code: int, said: str
) -> None:
    (tmp_path / "file").write_text("no database " * 100)
    done = run("pool", "status", DBPILOT_HISTORY__URL=url)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert said in done.stderr
    assert "s3cret" not in done.stderr


def test_a_setting_that_is_none_ends_with_2_and_its_name(run: Shell) -> None:
    done = run("pool", "status", DBPILOT_HISTORY__URI="x")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("dbpilot: DBPILOT_HISTORY__URI is no setting; did you mean")


def test_watching_tells_a_line_a_turn_until_ctrl_c(run: Shell, shop: sa.URL, history: str) -> None:
    size = _live_a_little(shop, history)
    with run.begun("pool", "watch", "--history", history, "--every", "0.1") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=WAIT_S)
    assert (process.returncode, said) == (130, "")
    for line in lines:
        assert f" sqlite:///{shop.database} " in line
        assert f" size={size} limit={size + 5} in_use=10.0 " in line


def test_watching_goes_on_while_the_history_cannot_be_read(run: Shell, shop: sa.URL, history: str) -> None:
    _live_a_little(shop, history)
    path = Path(history.removeprefix("sqlite:///"))
    with run.begun("pool", "watch", "--history", history, "--every", "0.1") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        hidden = path.rename(path.with_suffix(".hidden"))
        assert process.stderr.readline().startswith("dbpilot: there is no history at sqlite:///")
        hidden.rename(path)
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=WAIT_S)
    assert process.returncode == 130


def test_watching_redraws_a_terminal_until_ctrl_c(run: Shell, shop: sa.URL, history: str) -> None:
    _live_a_little(shop, history)
    ours, theirs = os.openpty()
    with run.begun("pool", "watch", "--history", history, "--every", "0.1", stdout=theirs) as process:
        os.close(theirs)
        shown = b""
        while shown.count(b"Ctrl-C ends it") < 2:
            shown += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        while chunk := _read(ours):
            shown += chunk
        _, said = process.communicate(timeout=WAIT_S)
    os.close(ours)
    assert (process.returncode, said) == (130, "")
    assert b"\x1b[" in shown
    assert b"latest resizes" in shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # how a terminal says that its other end is closed
        return b""


ONE_AFTER_THE_OTHER = "at_s,takes_s\n0,1\n0.25,1\n0.5,1\n"


def test_a_trace_is_replayed_under_every_policy_side_by_side(run: Shell) -> None:
    options = ["--min-size", "1", "--max-size", "4", "--overflow", "0", "--review-s", "1"]
    done = run("pool", "simulate", "-", *options, given=ONE_AFTER_THE_OTHER)
    assert done.returncode == 0
    table = {line[:20].strip(): line[20:].split() for line in done.stdout.splitlines()[:10]}
    assert table["mode"] == ["off", "auto", "adaptive"]
    assert table["requests"] == ["3", "3", "3"]
    assert table["longest wait"][:4] == ["1.5", "s", "750", "ms"]
    assert table["wait p50"][:4] == ["750", "ms", "515", "ms"], "auto has grown at 1 s, and connects in 15 ms"
    assert table["connection-seconds"][0] == "3.0"
    assert done.stdout.count("━") > 3 * 60
    assert "\nno resizes\n" in done.stdout
    assert "from 80% on it grows" in done.stdout
    assert done.stderr.splitlines() == [
        f"dbpilot: replaying 3 requests over 0.5 s, mode {mode}" for mode in ("off", "auto", "adaptive")
    ]


def test_a_replay_is_one_document(run: Shell, tmp_path: Path) -> None:
    (tmp_path / "day.csv").write_text(ONE_AFTER_THE_OTHER)
    options = ["--mode", "off", "--min-size", "1", "--overflow", "0", "--cores", "2", "--connect-ms", "250"]
    document = json.loads(run("pool", "simulate", "day.csv", *options, "--json").stdout)
    assert document["version"] == 1
    assert document["trace"] == {"source": "day.csv", "requests": 3, "length_s": 0.5}
    assert document["world"] == {"overflow": 0, "cores": 2, "connect_s": 0.25}
    [run_] = document["runs"]
    waits = [run_[name] for name in ("wait_p50_s", "wait_p95_s", "wait_p99_s", "wait_max_s")]
    assert waits == [0.75, 1.5, 1.5, 1.5]
    assert (run_["mode"], run_["connects"], run_["connection_s"], run_["resizes"]) == ("off", 0, 3, 0)
    assert run_["decisions"] == []
    assert [sample["in_use"] for sample in run_["samples"]] == [1, 1]


def test_what_cannot_show_blocks_gets_other_characters_and_never_a_line_too_long(run: Shell) -> None:
    day = run("pool", "trace", "--seconds", "20", "--requests", "500").stdout
    done = run("pool", "simulate", "-", "--mode", "off", given=day, COLUMNS="50", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert max(map(len, done.stdout.splitlines())) == 50
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "FILE:1: the file is empty"),
        (b"time,length\n1,2\n", "FILE:1: the header is 'time,length' instead of at_s,takes_s"),
        (b"at_s,takes_s\n", "FILE holds no request"),
        (b"at_s,takes_s\n1,2\n2,abc\n", "FILE:3: takes_s is 'abc', which is no number"),
        (b"at_s,takes_s\n1,nan\n", "FILE:2: takes_s is 'nan'; it has to be a number of seconds, 0 or more"),
        (b"at_s,takes_s\n-1,1\n", "FILE:2: at_s is '-1'; it has to be"),
        (b"at_s,takes_s\n2,1\n\n1,1\n", "FILE:4: at_s is 1 after 2; times must not run backwards"),
        (b"at_s,takes_s\n1,2\n2", "FILE:3: '2' is not two numbers, at_s,takes_s; was the file cut?"),
        (b"at_s,takes_s\n1,2,3\n", "FILE:2: '1,2,3' is not two numbers, at_s,takes_s\n"),
        (b"at_s,takes_s\n1,1\n\0\0\0\0\n", "FILE:3: this is no text"),
        (b"at_s,takes_s\n1,1\n\xff\xfe\n", "FILE:3: this is no text"),
        (b"at_s,takes_s\n1,1\n700000,1\n", "FILE is longer than 7 days"),
        (b'{"since": "2026-01-01T00:00:00Z",\n"samples": [{"pro', "EOF while parsing a string at line 2"),
        (b'{"error": "not found"}', "FILE: since: Field required"),
    ],
)
def test_a_file_that_is_no_trace_ends_with_2_and_says_where_and_why(
    run: Shell, tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "FILE").write_bytes(content)
    done = run("pool", "simulate", "FILE")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pool", "simulate", "none.csv"], "none.csv cannot be read: No such file"),
        (["pool", "simulate", "."], ". cannot be read: Is a directory"),
        (["pool", "simulate"], "Missing argument"),
        (["pool", "simulate", "-", "--mode", "bold"], "'bold' is not one of"),
        (["pool", "simulate", "-", "--min-size", "9", "--max-size", "8"], "min_size 9 is more than max_size 8"),
        (["pool", "simulate", "-", "--cores", "0"], "--cores"),
        (["pool", "simulate", "-", "--process", "a"], "<stdin> is CSV, which tells of no processes"),
        (["pool", "trace", "--requests", "0"], "--requests"),
        (["pool", "trace", "--shape", "round"], "--shape"),
        (["pool", "status", "--hours", "-1"], "--hours"),
        (["pool", "resize"], "No such command"),
    ],
)
def test_wrong_arguments_end_with_2(run: Shell, arguments: list[str], said: str) -> None:
    done = run(*arguments, given=ONE_AFTER_THE_OTHER)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_api_recorded_is_replayed(run: Shell, shop: sa.URL, tmp_path: Path) -> None:
    engine = sa.create_engine(shop, poolclass=ResizableQueuePool)
    config, app = PilotConfig.model_validate({"pool": {"sample_s": 0.05}}), FastAPI()
    with Autopilot(engine, config, store=MemoryStore()) as pilot:
        app.include_router(make_api(pilot))
        for _ in range(30):
            with engine.connect():
                time.sleep(0.01)
        with TestClient(app) as client:
            deadline = time.monotonic() + WAIT_S
            while True:
                text = client.get("/connection-pool/metrics").text
                seen = sum(one["sample"]["checkouts"] for one in json.loads(text)["samples"])
                if seen == 30:
                    break
                assert time.monotonic() < deadline, f"{seen} of 30 checkouts were seen"
    engine.dispose()
    (tmp_path / "metrics.json").write_text(text)
    done = run("pool", "simulate", "metrics.json", "--mode", "off", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["runs"][0]["requests"] == 30
    assert "recorded samples: their checkouts are spread evenly" in done.stderr
    done = run("pool", "simulate", "metrics.json", "--process", "nobody")
    assert done.returncode == 2
    assert f"has no process 'nobody'; it has {os.uname().nodename}:{os.getpid()}" in done.stderr


def test_a_made_trace_is_the_same_for_the_same_seed_and_can_be_replayed(run: Shell) -> None:
    made = ["pool", "trace", "--seconds", "10", "--requests", "50"]
    day = run(*made, "--seed", "7").stdout
    assert day.splitlines()[:2] == ["at_s,takes_s", "2.694901,0.012611"]
    assert day.count("\n") == 51
    assert run(*made).stdout == day != run(*made, "--seed", "8").stdout
    done = run("pool", "simulate", "-", "--mode", "auto", "--json", given=day)
    assert json.loads(done.stdout)["runs"][0]["requests"] == 50
    assert "auto reviews every 300 s, and all was over before" in done.stderr


def test_help_and_version_need_no_history(run: Shell, tmp_path: Path) -> None:
    assert run("--version", DBPILOT_HISTORY__URL="nonsense").stdout == "0.1.0\n"
    for command in ([], ["pool"], *(["pool", verb] for verb in ("status", "watch", "simulate", "trace"))):
        done = run(*command, "--help", DBPILOT_HISTORY__URL="nonsense")
        assert done.returncode == 0
        assert "Usage: dbpilot" in done.stdout
    alone = run()
    assert "Usage: dbpilot" in alone.stdout + alone.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_program_is_installed_with_the_library() -> None:
    [script] = entry_points(group="console_scripts", name="dbpilot")
    assert script.value == "dbpilot.cli.main:main"


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_extra_the_program_says_what_to_install(env: dict[str, str], missing: str) -> None:
    code = f"""
    import sys
    sys.modules[{missing!r}] = None  # what is not installed
    from dbpilot.cli.main import main
    try:
        main()
    except SystemExit as ended:
        print(ended.code)
    """
    assert run_python(code, env) == f"dbpilot: the command line needs {missing}: pip install 'dbpilot[cli]'\n"

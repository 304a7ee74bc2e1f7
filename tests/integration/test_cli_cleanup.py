"""``dbpilot cleanup``, as a shell sees it, and ``finstage cleanup``, which is the same with Finstage's rules."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.common.infra.database.maintenance.data_cleanup import RULES
from dbpilot.cli.main import main
from dbpilot.history.sql_store import place
from tests.support import environment, run_cli

COMMAND = [sys.executable, "-m", "dbpilot.cli.main", "cleanup"]
CLOSED_PORT = 1
WAIT_S = 60
OLD, NEW = 500, 100
TODAY = datetime.now(UTC).replace(tzinfo=None, hour=12, minute=0, second=0, microsecond=0)
LONG_AGO = TODAY - timedelta(days=700)
RULES_FILE = """
[[rule]]
name = "old news"
table = "news"
time_column = "at"
keep_days = 365
batch = 100
"""
ONE_ROW_AT_A_TIME = RULES_FILE.replace("100", "1") + "batch_s = 0.000001\n"

NEWS = sa.Table(
    "news",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.DateTime, nullable=False),
    sa.Column("text", sa.String(50), nullable=False),
)


@contextmanager
def connected(url: sa.URL) -> Iterator[sa.Connection]:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def fill(url: sa.URL, old: int = OLD) -> sa.URL:
    """News in this database: old ones, an hour apart, and new ones."""
    with connected(url) as connection:
        NEWS.metadata.create_all(connection)
        rows = [{"id": n, "at": LONG_AGO - timedelta(hours=n), "text": f"n{n}"} for n in range(old)]
        rows += [{"id": old + n, "at": TODAY, "text": f"n{old + n}"} for n in range(NEW)]
        connection.execute(sa.insert(NEWS), rows)
    return url


def rows(url: sa.URL, table: str = "news") -> int:
    with connected(url) as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(sa.table(table))) or 0


def tables(url: sa.URL) -> list[str]:
    with connected(url) as connection:
        return sa.inspect(connection).get_table_names()


def text(url: sa.URL) -> str:
    return url.render_as_string(hide_password=False)


class Shell:
    """Runs ``dbpilot cleanup ARGUMENTS`` in a folder of its own."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder, self.env = folder, env

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        options: dict[str, Any] = {"env": self.env, "cwd": self.folder, "timeout": 300, "check": False, "text": True}
        return subprocess.run([*COMMAND, *arguments], capture_output=True, **options)

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
    (folder / "rules.toml").write_text(RULES_FILE)
    history = {"DBPILOT_HISTORY__URL": f"sqlite:///{folder}/pilot.sqlite3"}
    return Shell(folder, environment(folder / "var", DATABASE_URL=text(url), **{**history, **settings}))


def test_planned_run_remembered_verified_and_restored(database_url: sa.URL, tmp_path: Path) -> None:
    url, run = fill(database_url), shell(tmp_path, database_url)
    named = ["--rules", "rules.toml"]
    plan = run("plan", *named)
    assert (plan.returncode, plan.stderr) == (3, "")
    header, line, *changes, total = plan.stdout.splitlines()
    assert header.split()[:5] == ["rule", "from", "to", "rows", "about"]
    assert line.split()[:5] == ["old", "news", "news", "news_archive", str(OLD)]
    assert f"{LONG_AGO - timedelta(hours=OLD - 1):%Y-%m-%d %H:%M:%S}" in line
    assert line.split()[-2:] == ["0", "0"]
    assert [change.startswith("old news: before, at the archive: CREATE TABLE") for change in changes] == [True]
    assert total.startswith(f"in all {OLD} rows, about ")

    dry = run("run", *named, "--url", text(url))
    assert dry.returncode == 3
    assert dry.stdout.splitlines()[1].split()[4] == str(OLD)
    assert "dbpilot: a dry run, nothing was changed; this does it: dbpilot cleanup run --rules rules.toml" in dry.stderr
    assert dry.stderr.endswith("--yes\n")
    assert url.password is None or url.password not in dry.stdout + dry.stderr
    assert (rows(url), tables(url)) == (OLD + NEW, ["news"])
    assert sorted(path.name for path in tmp_path.iterdir() if "test.sqlite3" not in path.name) == ["rules.toml"]

    done = run("run", *named, "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[:8] == ["old", "news", "news", "news_archive", *[str(OLD)] * 4]
    assert f"dbpilot: old news: {OLD} of {OLD} rows" in done.stderr
    assert (rows(url), rows(url, "news_archive")) == (NEW, OLD)

    history = run("history", "--json")
    [database] = json.loads(history.stdout)["databases"]
    assert database["database"] == place(url)
    [one] = database["runs"]
    assert (one["by"], one["ok"], one["deleted"], one["results"][0]["verified"]) == ("command line", True, OLD, OLD)

    verified = run("verify", "old news", *named)
    assert (verified.returncode, verified.stdout.splitlines()[0]) == (0, f"news_archive: {OLD} of {OLD} rows")

    # of the last ten archived hours, and not of the first of them: until is excluded
    since, until = (f"{LONG_AGO - timedelta(hours=hours):%Y-%m-%dT%H:%M:%S}Z" for hours in (9, 0))
    restored = run("restore", "old news", *named, "--since", since, "--until", until, "--yes")
    assert (restored.returncode, restored.stdout) == (0, "9 rows of news_archive are in news again\n")
    assert (rows(url), rows(url, "news_archive")) == (NEW + 9, OLD - 9)


def test_ctrl_c_ends_it_after_the_batch_in_hand_and_the_next_run_goes_on(sqlite_url: sa.URL, tmp_path: Path) -> None:
    many = 20_000
    url, run = fill(sqlite_url, many), shell(tmp_path, sqlite_url)
    (tmp_path / "rules.toml").write_text(ONE_ROW_AT_A_TIME)
    with run.begun("run", "--rules", "rules.toml", "--yes") as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("dbpilot: old news: ")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert "ends after the batch in hand" in stderr
    assert stderr.endswith("interrupted; this goes on: dbpilot cleanup run --rules rules.toml --yes\n")
    assert "old news: cancelled; run the rule again, and it goes on from here" in stdout
    archived = rows(url, "news_archive")
    assert 0 < archived < many
    assert rows(url) == many + NEW - archived
    (tmp_path / "rules.toml").write_text(RULES_FILE)
    again = run("run", "--rules", "rules.toml", "--yes")
    assert again.returncode == 0, again.stderr
    assert (rows(url), rows(url, "news_archive")) == (NEW, many)


def test_finstage_knows_its_rules_and_its_database(tmp_path: Path) -> None:
    env = environment(tmp_path / "var", COLUMNS="200")
    assert run_cli("migrate", env=env).returncode == 0
    plan = run_cli("cleanup", "plan", "--json", env=env)
    assert (plan.returncode, plan.stderr) == (0, "")
    steps = json.loads(plan.stdout)["steps"]
    assert {step["rule"] for step in steps} == {rule.name for rule in RULES}
    done = run_cli("cleanup", "run", "--yes", env=env)
    assert done.returncode == 0, done.stderr
    history = run_cli("cleanup", "history", env=env)
    assert history.stdout.splitlines()[0] == f"sqlite:///{tmp_path}/var/finstage.sqlite3"
    assert history.stdout.splitlines()[2].endswith("done")


@pytest.fixture
def news(sqlite_url: sa.URL) -> sa.URL:
    return fill(sqlite_url)


class Here:
    """Runs ``dbpilot cleanup ARGUMENTS`` in this process: what it prints where, and how it ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["dbpilot", "cleanup", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    def json(self, *arguments: str) -> dict[str, Any]:
        """What it prints with ``--json``, which is one document of version 1."""
        document: dict[str, Any] = json.loads(self(*arguments, "--json")[1])
        assert document.pop("version") == 1
        return document


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, news: sa.URL) -> Here:
    """A folder with a file of rules for a database with news, and with no history yet."""
    for name in ("DATABASE_URL", "DBPILOT_HISTORY__URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", text(news))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "rules.toml").write_text(RULES_FILE)
    return Here(monkeypatch, capsys)


def test_json_is_one_document_and_the_exit_code_tells_what_was_found(here: Here, news: sa.URL) -> None:
    named = ["--rules", "rules.toml"]
    plan = here.json("plan", *named)
    assert (plan["dry_run"], plan["rows"], plan["database"]) == (True, OLD, place(news))
    [step] = plan["steps"]
    assert (step["rule"], step["kind"], step["rows"], step["first_key"], step["last_key"]) == (
        "old news",
        "beside",
        OLD,
        [0],
        [OLD - 1],
    )
    held = here.json("hold", "news", "--where", "id=7", "--where", "id=8", "--reason", "case 1", *named)
    assert [(one["id"], one["where"], one["reason"]) for one in held["holds"]] == [(1, {"id": [7, 8]}, "case 1")]
    assert here.json("holds")["holds"] == held["holds"]
    assert here.json("plan", *named)["steps"][0]["held"] == 2

    run = here.json("run", *named, "--yes")
    assert (run["dry_run"], run["ok"], run["planned"], run["deleted"], run["history_error"]) == (
        False,
        True,
        OLD - 2,
        OLD - 2,
        None,
    )
    assert run["results"][0]["rows_per_s"] > 0
    assert here("plan", *named)[0] == 0, "nothing is due any more"
    assert here.json("run", *named)["dry_run"] is True
    [database] = here.json("history")["databases"]
    assert [one["deleted"] for one in database["runs"]] == [OLD - 2]

    assert here.json("verify", "old news", *named)["ok"] is True
    with connected(news) as connection:
        connection.execute(sa.delete(sa.table("news_archive", sa.column("id"))).where(sa.column("id") == 3))
    code, out, _ = here("verify", "old news", *named)
    assert (code, "1 of 498 rows are missing" in out) == (3, True)

    dry = here.json("restore", "old news", *named, "--key", "4", "--key", "5")
    assert dry == {"dry_run": True, "rule": "old news", "found": 2, "missing_rows": 0, "missing": []}
    assert rows(news) == NEW + 2
    with connected(news) as connection:
        connection.execute(sa.insert(NEWS).values(id=5, at=TODAY, text="another"))
    restored = here.json("restore", "old news", *named, "--key", "4", "--key", "5", "--yes")["restored"]
    assert (restored["restored"], restored["in_conflict"]) == (1, 1)
    assert restored["conflicts"] == [{"key": [5], "reason": "a row of this key is live"}]
    assert here("restore", "old news", *named, "--key", "5", "--yes")[0] == 3

    assert here.json("release", "1", *named)["released"] is False
    assert here.json("release", "1", *named, "--yes")["released"] is True
    assert here.json("holds")["holds"] == []
    assert here("release", "1", *named, "--yes")[0] == 2


def test_a_restore_from_files_of_which_one_is_gone_says_which_and_ends_with_3(
    here: Here, tmp_path: Path, news: sa.URL
) -> None:
    (tmp_path / "rules.toml").write_text(RULES_FILE + 'batch_s = 0.000001\ntarget = "files"\n')
    assert here("run", "--rules", "rules.toml", "--yes")[0] == 0
    gone = sorted((tmp_path / "files").rglob("0*.parquet"))[0]
    gone.unlink()
    for more in ((), ("--yes",)):
        code, out, _ = here("restore", "old news", "--rules", "rules.toml", *more)
        assert (code, "100 rows are missing from" in out, gone.name in out) == (3, True, True)
    assert rows(news) == OLD + NEW - 100


def test_a_run_with_a_window_ends_and_says_that_it_is_not_done(here: Here, tmp_path: Path, news: sa.URL) -> None:
    (tmp_path / "rules.toml").write_text(ONE_ROW_AT_A_TIME)
    code, out, _ = here("run", "--rules", "rules.toml", "--yes", "--window", "0.001s", "--max-lag", "5s")
    assert code == 3
    assert "old news: the maintenance window ended; run the rule again, and it goes on from here" in out
    assert rows(news) == OLD + NEW
    code, out, _ = here("history")
    assert (code, "old news: the maintenance window ended" in out) == (0, True)
    assert here("run", "--rules", "rules.toml", "--yes", "--no-wait")[0] == 0
    assert rows(news) == NEW


def test_a_command_keeps_no_schedule(here: Here, monkeypatch: pytest.MonkeyPatch, news: sa.URL) -> None:
    monkeypatch.setenv("DBPILOT_RETENTION__SCHEDULE", "at this no schedule can be begun")
    assert here("run", "--rules", "rules.toml", "--yes")[0] == 0
    assert rows(news) == NEW


def test_a_history_that_cannot_be_reached_stops_no_cleaning_and_is_told_of(
    here: Here, monkeypatch: pytest.MonkeyPatch, news: sa.URL
) -> None:
    dead = f"postgresql+psycopg://u:s3cret@127.0.0.1:{CLOSED_PORT}/x"
    monkeypatch.setenv("DBPILOT_HISTORY__URL", dead)
    code, out, err = here("run", "--rules", "rules.toml", "--yes")
    assert (code, rows(news), rows(news, "news_archive")) == (0, NEW, OLD)
    assert f"it was done, but it is not remembered: the history at postgresql://127.0.0.1:{CLOSED_PORT}/x" in err
    assert "s3cret" not in out + err


def test_rules_of_a_module_in_the_current_folder(here: Here, tmp_path: Path, news: sa.URL) -> None:
    (tmp_path / "shop_rules_of_this_test.py").write_text(
        "from datetime import timedelta\n"
        "from dbpilot.retention import Rule\n"
        "class Policy:\n"
        "    RULES = [Rule('old news', 'news', 'at', timedelta(days=365), target='files')]\n"
    )
    code, out, _ = here("run", "--rules", "shop_rules_of_this_test:Policy.RULES", "--yes")
    assert code == 0
    assert f"{tmp_path}/files" in out
    assert list((tmp_path / "files").rglob("*.parquet"))
    assert rows(news) == NEW
    named = ["--rules", "shop_rules_of_this_test:Policy.RULES"]
    assert here.json("restore", "old news", *named, "--key", "3")["found"] == 1
    assert here.json("verify", "old news", *named)["verified"]["content_checked"] is True


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["plan"], 2, "name the rules as --rules MODULE:NAME or --rules FILE.toml"),
        (["plan", "--rules", "none.toml"], 2, "none.toml cannot be read: No such file"),
        (["plan", "--rules", "nonsense"], 2, "'nonsense' names no rules"),
        (["plan", "--rules", "no_such_module:RULES"], 2, "there is no module no_such_module"),
        (["plan", "--rules", "json:RULES"], 2, "the module json has no RULES"),
        (["plan", "--rules", "json:__all__"], 2, "json:__all__ is no sequence of dbpilot.retention.Rule"),
        (["plan", "--rules", "rules.toml", "--table", "weather"], 2, "no retention rule is about 'weather'"),
        (["plan", "--rules", "rules.toml", "--url", "sqlite:///none"], 4, "there is no database at sqlite:///"),
        (["plan", "--rules", "rules.toml", "--url", "no:s3cret"], 2, "the database's URL cannot be read"),
        (
            ["plan", "--rules", "rules.toml", "--url", "postgresql+psycopg://u:s3cret@127.0.0.1:1/x"],
            4,
            "the database at postgresql://127.0.0.1:1/x cannot be reached: connection failed",
        ),
        (
            ["plan", "--rules", "rules.toml", "--url", "mysql+pymysql://u:s3cret@127.0.0.1:1/x?no=1"],
            4,
            "the database at mysql://127.0.0.1:1/x cannot be reached: ",
        ),
        (["plan", "--rules", "rules.toml", "--url", "sqlite+aiosqlite:///x"], 2, "is a driver for asyncio"),
        (["run", "--rules", "rules.toml", "--window", "soon"], 2, "'soon' is no duration; write 90s, 30m, 2h or 1d"),
        (["run", "--rules", "rules.toml", "--max-lag", "0"], 2, "max_lag_s: Input should be greater than 0"),
        (["verify", "no rule", "--rules", "rules.toml"], 2, "there is no retention rule 'no rule'"),
        (["verify", "old news", "--rules", "rules.toml"], 5, "archived nothing yet"),
        (
            ["restore", "no rule", "--rules", "rules.toml"],
            2,
            "there is no retention rule 'no rule'; there are: old news",
        ),
        (["restore", "old news", "--rules", "rules.toml"], 5, "archived nothing yet"),
        (["restore", "old news", "--rules", "rules.toml", "--key", "x"], 2, "'x' is no value of id"),
        (["restore", "old news", "--rules", "rules.toml", "--since", "June"], 2, "'June' is no instant"),
        (["hold", "weather", "--rules", "rules.toml", "--reason", "x"], 5, "there is no table 'weather'"),
        (["hold", "news", "--rules", "rules.toml", "--reason", ""], 2, "--reason has 1 to 500 characters"),
        (["hold", "news", "--rules", "rules.toml", "--reason", "x", "--where", "a"], 2, "write column=value"),
        (["release", "1", "--rules", "rules.toml"], 2, "no hold in force has the number 1"),
        (["history"], 4, "there is no history at sqlite:///"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    here: Here, tmp_path: Path, news: sa.URL, arguments: list[str], code: int, said: str
) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    ended, out, err = here(*arguments)
    assert (ended, out, err.count("\n")) == (code, "", 1)
    assert err.startswith("dbpilot: ")
    assert said in err
    assert "s3cret" not in err
    assert (rows(news), tables(news)) == (OLD + NEW, ["news"])
    assert [name for name in sorted(path.name for path in tmp_path.iterdir()) if "lock" not in name] == before


@pytest.mark.parametrize(
    ("rule", "code", "said"),
    [
        ('name = "a"\ntable = "weather"\ntime_column = "at"\nkeep_days = 1', 5, "there is no table 'weather'"),
        ('name = "a"\ntable = "news"\ntime_column = "on"\nkeep_days = 1', 5, "news has no column 'on'; it has id, at"),
        ('name = "a"\ntable = "news"\ntime_column = "text"\nkeep_days = 1', 5, "take a date or an instant: at"),
        ('name = "a"\ntable = "news"\ntime_colum = "at"', 2, "rule 1 ('a'): time_colum is no key; did you mean time_"),
        ('name = "a"\ntable = "news"\nkeep_days = "a year"', 2, "rule 1 ('a'): keep_days: Input should be a valid num"),
        ('table = "news"', 2, "rules.toml: rule 1: name: Field required"),
        ('name = "a"\ntable = "news"\ntime_column = "at"', 2, "rule 1 ('a'): retention rule 'a': keep is zero"),
        ("name = ", 2, "rules.toml is no TOML: Invalid value (at line 2, column 8)"),
    ],
)
def test_a_rule_that_makes_no_sense_is_told_with_its_place_and_the_fix(
    here: Here, tmp_path: Path, news: sa.URL, rule: str, code: int, said: str
) -> None:
    (tmp_path / "rules.toml").write_text(f"[[rule]]\n{rule}\n")
    ended, out, err = here("run", "--rules", "rules.toml", "--yes")
    assert (ended, out, err.count("\n")) == (code, "", 1)
    assert said in err
    assert rows(news) == OLD + NEW

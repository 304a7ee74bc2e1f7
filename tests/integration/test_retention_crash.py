"""A cleaning that is killed, at any step or moment, loses and doubles nothing: the next run finishes it.

``make bench-crash`` does the same hundreds of times.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from benchmarks.crash import NEWS, PLACES, RULE, kept
from dbpilot.retention import CleanupFinished, Manners, Retention
from dbpilot.testing.servers import SqlServer, start_mariadb, start_postgresql
from tests.support import REPOSITORY, run_python

KILLS = 12
BACK: dict[str, list[str]] = {"cleaning": [], "restoring": ["--back"]}


@pytest.fixture(params=["beside", "server", "files"])
def target(request: pytest.FixtureRequest, database_url: sa.URL, tmp_path: Path) -> Iterator[str]:
    """An archive of each kind."""
    kind = database_url.get_backend_name()
    if request.param != "server" or kind == "sqlite":
        files, table = str(tmp_path / "archive"), f"sqlite:///{tmp_path}/archive.sqlite3"
        yield {"beside": "beside", "files": files, "server": table}[request.param]
        return
    server = request.getfixturevalue("mariadb_server" if kind == "mysql" else "postgresql_server")
    name = f"{database_url.database}_archive"
    yield server.create_database(name).render_as_string(hide_password=False)
    server.drop_database(name)


@pytest.mark.parametrize("act", ["cleaning", "restoring"])
def test_what_is_killed_is_finished_by_the_next(database_url: sa.URL, target: str, act: str) -> None:
    places = json.dumps([database_url.render_as_string(hide_password=False), target])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.crash", "--kills", str(KILLS), "--seed", "11", *BACK[act]],
        cwd=REPOSITORY,
        env={**os.environ, PLACES: places},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["kills"] == KILLS
    faults = ("lost", "doubled", "altered", "unfinished")
    assert {name: outcome[name] for name in faults} == dict.fromkeys(faults, 0)


@pytest.fixture(params=[start_mariadb, start_postgresql], ids=["mariadb", "postgresql"])
def own_server(request: pytest.FixtureRequest) -> Iterator[SqlServer]:
    with request.param() as server:
        yield server


@pytest.mark.parametrize("kind", ["beside", "server", "files"])
def test_a_database_that_is_killed_in_the_middle_loses_nothing(
    own_server: SqlServer, kind: str, tmp_path: Path
) -> None:
    url = own_server.create_database("live").render_as_string(hide_password=False)
    other = own_server.create_database("archive").render_as_string(hide_password=False)
    target = {"beside": "beside", "server": other, "files": str(tmp_path / "files")}[kind]
    retention, before = kept(url, target), _filled(url)
    batches = threading.Semaphore(0)
    killer = threading.Thread(target=lambda: (batches.acquire(), own_server.kill()))
    killer.start()
    [result] = retention.run(dry_run=False, manners=Manners(at_progress=lambda _: batches.release())).results
    batches.release()
    killer.join()
    own_server.restart()

    assert result.error is not None or result.deleted == len(before)
    [again] = _patiently(retention).results

    assert again.error is None
    assert retention.verify(RULE).ok
    assert retention.restore(RULE).restored == len(before)
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
        assert {row.id: tuple(row) for row in connection.execute(sa.select(NEWS))} == before


def _filled(url: str) -> dict[int, tuple[object, ...]]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    NEWS.create(engine)
    rows = [{"id": key, "at": datetime(2020, 1, 1), "body": "x" * key} for key in range(1, 2001)]  # noqa: DTZ001 - naive, as the column is
    with engine.begin() as connection:
        connection.execute(sa.insert(NEWS), rows)
        return {row.id: tuple(row) for row in connection.execute(sa.select(NEWS))}


def _patiently(retention: Retention) -> CleanupFinished:
    """The run of a database that may still be recovering."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return retention.run(dry_run=False)
        except sa.exc.DBAPIError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


LIMITED = """
import json, os, resource, signal
from benchmarks.crash import PLACES, kept
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # what is too long is an error of the write then, as a full disk is
resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, 250_000))
[result] = kept(*json.loads(os.environ[PLACES])).run(dry_run=False).results
print(json.dumps([result.deleted, result.error]))
"""


@pytest.mark.parametrize("kind", ["server", "files"])
def test_an_archive_without_space_is_told_and_keeps_what_it_has(mariadb_url: sa.URL, kind: str, tmp_path: Path) -> None:
    url = mariadb_url.render_as_string(hide_password=False)
    target = {"server": f"sqlite:///{tmp_path}/archive.sqlite3", "files": str(tmp_path / "files")}[kind]
    before = _filled(url)
    with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
        incompressible = sa.func.concat(*(sa.func.md5(sa.func.rand()) for _ in range(100)))
        connection.execute(sa.update(NEWS).where(NEWS.c.id > 500).values(body=incompressible))

    said = run_python(LIMITED, {**os.environ, PLACES: json.dumps([url, target])})

    deleted, error = json.loads(said)
    assert 0 < deleted < len(before)
    assert "nothing is deleted from the live table" in error
    retention = kept(url, target)
    [again] = retention.run(dry_run=False).results
    assert (again.error, again.recovered, again.deleted) == (None, 1, len(before) - deleted)
    assert retention.verify(RULE).ok

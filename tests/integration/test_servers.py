"""The private servers keep to themselves, and leave nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from redis import Redis

from dbpilot.testing import server_kinds, servers
from dbpilot.testing.servers import MissingServer, Server, ServerError, SqlServer

STARTS = {"mariadb": servers.start_mariadb, "postgresql": servers.start_postgresql, "redis": servers.start_redis}
GONE_WITHIN_S = 10

OWNER_PROGRAM = """
import sys
from dbpilot.testing import servers
server = getattr(servers, f"start_{sys.argv[1]}")()
print(server.pid, server.folder, flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["mariadb", "postgresql"])
def sql_server(request: pytest.FixtureRequest) -> SqlServer:
    server: SqlServer = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture(params=STARTS)
def start(request: pytest.FixtureRequest, servers_owner: int) -> Iterator[Callable[..., Server]]:
    """Starts servers that the test may kill, from the data folders that the run has installed already."""
    started = []

    def start(**options: object) -> Server:
        started.append(STARTS[request.param](owner=servers_owner, **options))  # one of three
        return started[-1]

    yield start
    for server in started:
        server.stop()


def exists(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # empty once it is dead and waits to be reaped
    except (FileNotFoundError, ProcessLookupError):
        return False


def becomes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + GONE_WITHIN_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_servers_started_at_once_do_not_collide(start: Callable[..., Server]) -> None:
    with ThreadPoolExecutor(2) as both:
        one, other = both.map(lambda _: start(), range(2))

    assert one.answers
    assert other.answers
    assert one.url.port != other.url.port
    assert one.data_folder != other.data_folder


def test_a_taken_port_is_left_to_who_has_it(start: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    first = start()
    taken, free = first.url.port, servers._free_port()
    offers = iter([taken, free])
    monkeypatch.setattr(servers, "_free_port", lambda: next(offers))

    second = start()

    assert second.url.port == free
    assert second.answers
    assert first.answers


def test_a_server_that_answers_from_another_folder_is_not_taken_for_ours(start: Callable[..., Server]) -> None:
    ours = start()

    assert ours.answers
    assert not Server(ours.name, ours.folder / "other", ours.url).answers


@pytest.mark.parametrize("kind", STARTS)
def test_server_and_folder_are_gone_when_their_owner_is_killed(kind: str) -> None:
    command = [sys.executable, "-c", OWNER_PROGRAM, kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid, _, folder = owner.stdout.readline().strip().partition(" ")
        assert exists(int(pid))
        owner.kill()

        assert becomes_true(lambda: not exists(int(pid)))
        assert becomes_true(lambda: not Path(folder).parent.exists())


def test_a_killed_supervisor_takes_the_server_with_it(start: Callable[..., Server]) -> None:
    server = start()
    pid = server.pid
    assert pid
    supervisor = int((server.folder / "supervisor.pid").read_text())

    os.kill(supervisor, signal.SIGKILL)

    assert becomes_true(lambda: not exists(pid))
    assert server.pid is None
    assert not server.answers
    server.stop()
    assert not server.folder.exists()


def test_a_killed_server_is_noticed_and_comes_back_at_the_same_address(start: Callable[..., Server]) -> None:
    server = start()
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)

    assert becomes_true(lambda: server.pid is None)
    assert not server.answers
    server.restart()
    assert server.pid
    assert server.answers


def test_what_was_committed_survives_a_killed_server(sql_server: SqlServer, servers_owner: int) -> None:
    with STARTS[sql_server.name](owner=servers_owner) as server:
        assert isinstance(server, SqlServer)
        engine = sa.create_engine(server.create_database("kept"), poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE kept (id int)"))
            connection.execute(sa.text("INSERT INTO kept VALUES (7)"))

        server.kill()
        assert server.pid is None
        server.restart()

        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT id FROM kept")) == 7


def test_stopping_removes_the_folder_and_may_be_repeated(start: Callable[..., Server]) -> None:
    server = start()
    pid = server.pid
    assert pid

    server.stop()
    server.stop()

    assert not exists(pid)
    assert not server.folder.exists()


def test_a_missing_program_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch, servers_owner: int) -> None:
    monkeypatch.setattr(server_kinds.shutil, "which", lambda *_, **__: None)

    for kind, package in [("mariadb", "mariadb-server"), ("postgresql", "postgresql"), ("redis", "redis-server")]:
        with pytest.raises(MissingServer, match=f"is not installed: sudo apt-get install .* {package}$"):
            STARTS[kind](owner=servers_owner)


def test_a_server_that_cannot_start_says_why(start: Callable[..., Server]) -> None:
    with pytest.raises(ServerError, match=r"(?s)did not start; its log ends with:.*no_such_setting"):
        start(options={"no_such_setting": "1"})


def test_options_reach_the_server(servers_owner: int) -> None:
    with servers.start_mariadb(owner=servers_owner, options={"performance_schema": "ON"}) as server:
        engine = sa.create_engine(server.url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT @@performance_schema")) == 1


def test_text_is_unicode_and_time_is_utc(sql_server: SqlServer) -> None:
    settings = {
        "mariadb": "SELECT @@character_set_server, @@time_zone",
        "postgresql": "SELECT current_setting('server_encoding'), current_setting('timezone')",
    }
    expected = {"mariadb": ("utf8mb4", "+00:00"), "postgresql": ("UTF8", "UTC")}
    engine = sa.create_engine(sql_server.url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        assert tuple(connection.execute(sa.text(settings[sql_server.name])).one()) == expected[sql_server.name]


def test_servers_are_reached_over_the_loopback_alone(sql_server: SqlServer, redis_server: Server) -> None:
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    for server in (sql_server, redis_server):
        ours = [line.split()[1] for line in listening.splitlines() if f":{server.url.port:04X} 0" in line]
        assert f"0100007F:{server.url.port:04X}" in ours  # 127.0.0.1, in the kernel's byte order
        assert not [address for address in ours if address.startswith("00000000")]


@pytest.mark.parametrize("kind", STARTS)
def test_a_server_refuses_who_does_not_know_its_password(kind: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(f"{kind}_server")

    assert not Server(server.name, server.folder, server.url.set(password="guessed")).answers
    assert str(server.url.password) not in repr(server)


def test_a_database_is_dropped_although_somebody_left_a_transaction_open(sql_server: SqlServer) -> None:
    url = sql_server.create_database('leaky `"name')
    engine = sa.create_engine(url)
    leaked = engine.connect()
    leaked.execute(sa.text("CREATE TABLE held (id int)"))
    leaked.execute(sa.text("INSERT INTO held VALUES (1)"))

    sql_server.drop_database('leaky `"name')

    with pytest.raises(sa.exc.DBAPIError):
        leaked.execute(sa.text("SELECT 1"))
    leaked.invalidate()
    leaked.close()
    engine.dispose()
    with pytest.raises(sa.exc.OperationalError), sa.create_engine(url, poolclass=sa.NullPool).connect():
        pass


def test_all_who_share_an_owner_share_the_server(mariadb_server: SqlServer, servers_owner: int) -> None:
    assert servers.shared(servers.start_mariadb, servers_owner) == mariadb_server


def test_a_test_gets_an_empty_redis_database(redis_url: str) -> None:
    with Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


def test_the_next_test_finds_nothing_of_the_one_before(redis_url: str) -> None:
    with Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


def test_a_free_port_can_be_bound() -> None:
    with socket.socket() as probe:
        probe.bind((server_kinds.HOST, servers._free_port()))

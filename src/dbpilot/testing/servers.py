"""Private MariaDB, PostgreSQL, Redis and Prometheus servers that stop by themselves.

Each runs on a free port of the loopback, in a folder of its own, with a password that only this run knows, and beside
whatever else serves on the machine::

    with start_mariadb() as server:
        engine = create_engine(server.create_database("shop"))

A server belongs to its owner, by default the process that started it. When the owner ends, even by SIGKILL, the server
ends and its folder is removed (:mod:`dbpilot.testing.supervisor`). Data folders are made once per owner and copied.
Needs Linux, and the servers' programs as Debian installs them.
"""

import fcntl
import os
import pwd
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar, cast

from sqlalchemy import URL, Connection, NullPool, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from dbpilot.errors import PilotError
from dbpilot.testing import supervisor
from dbpilot.testing.server_kinds import HOST, KINDS, Kind, MissingServer, program

__all__ = [
    "MissingServer",
    "Server",
    "ServerError",
    "SqlServer",
    "run_folder",
    "shared",
    "start_mariadb",
    "start_postgresql",
    "start_prometheus",
    "start_redis",
    "stop_all",
]

START_TIMEOUT_S: Final = 60
STOP_TIMEOUT_S: Final = supervisor.END_TIMEOUT_S + supervisor.REMOVE_TIMEOUT_S + 5
INSTALL_TIMEOUT_S: Final = 120
DROP_TIMEOUT_S: Final = 10
POLL_S: Final = 0.01
PORT_ATTEMPTS: Final = 5
LOG_LINES: Final = 20
ADDRESS_IN_USE: Final = "address already in use"
SQL_SERVERS: Final = ("mariadb", "postgresql")


class ServerError(PilotError):
    """A test server did not do what was asked; the message ends with the last lines of its log."""


@dataclass(frozen=True)
class Server:
    """A running server. As a context manager it is stopped at the end."""

    name: str
    folder: Path
    url: URL
    """The administrator's address, with the password."""

    @property
    def pid(self) -> int | None:
        """The server's process, or None when it does not run."""
        # Without its supervisor the server ends, and nobody takes the note of its process away.
        return _number_in(self.folder / "pid") if _supervisor_of(self.folder) else None

    @property
    def data_folder(self) -> Path:
        """Where the server keeps its data."""
        return self.folder / "data"

    @property
    def answers(self) -> bool:
        """Whether the server that answers at the address is this one and no other."""
        return KINDS[self.name].data_folder(self.url) == self.data_folder

    def log_tail(self, lines: int = LOG_LINES) -> str:
        """The last lines that the server wrote."""
        try:
            return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(no log)"

    def kill(self) -> None:
        """The server and its children are dead, as by ``kill -9``; its folder stays for :meth:`restart`."""
        pid = self.pid
        if pid is None:
            return
        _kill_and_wait([pid, *_children(pid)])
        _until(lambda: self.pid is None, STOP_TIMEOUT_S)

    def restart(self) -> None:
        """The server, killed before if it still ran, serves the same data at the same address again."""
        self.kill()
        _signal_supervisor(self.folder, signal.SIGHUP)
        _until(lambda: self.pid is not None, STOP_TIMEOUT_S)
        if not _until_it_answers(self):
            raise _did_not_start(self)

    def stop(self) -> None:
        """Server and folder are gone; once more does no harm."""
        _end_supervisor(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


AnyServer = TypeVar("AnyServer", bound=Server)


@dataclass(frozen=True)
class SqlServer(Server):
    """A running server with databases."""

    def create_database(self, name: str) -> URL:
        """An empty database of this name exists; returns its address for the administrator."""
        with self._administrator() as connection:
            connection.execute(text(f"CREATE DATABASE {_quoted(connection, name)}"))
        return self.url.set(database=name)

    def drop_database(self, name: str) -> None:
        """The database is gone, with the connections that somebody left open to it."""
        with self._administrator() as connection:
            target = _quoted(connection, name)
            if self.name == "postgresql":
                connection.execute(text(f"DROP DATABASE IF EXISTS {target} WITH (FORCE)"))
                return
            _kill_connections_to(connection, name)
            connection.execute(text("SET lock_wait_timeout = :seconds"), {"seconds": DROP_TIMEOUT_S})
            connection.execute(text(f"DROP DATABASE IF EXISTS {target}"))

    @contextmanager
    def _administrator(self) -> Iterator[Connection]:
        engine = create_engine(self.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            yield connection


def start_mariadb(
    *, durable: bool = False, options: Mapping[str, str] | None = None, owner: int | None = None
) -> SqlServer:
    """A private MariaDB answers, in utf8mb4 and UTC; ``options`` are server variables.

    ``durable`` leaves the server's own defaults, which survive a power failure; otherwise a killed server loses nothing
    but nothing waits for the disk. ``owner`` is the process whose end ends the server, by default this one.

    Raises:
        MissingServer: MariaDB is not installed.
        ServerError: it did not start.
    """
    return SqlServer(*_started(KINDS["mariadb"], durable=durable, options=options or {}, owner=owner or os.getpid()))


def start_postgresql(
    *, durable: bool = False, options: Mapping[str, str] | None = None, owner: int | None = None
) -> SqlServer:
    """A private PostgreSQL answers, in UTF-8 and UTC; the arguments and errors are those of :func:`start_mariadb`."""
    return SqlServer(*_started(KINDS["postgresql"], durable=durable, options=options or {}, owner=owner or os.getpid()))


def start_redis(*, durable: bool = False, options: Mapping[str, str] | None = None, owner: int | None = None) -> Server:
    """A private Redis answers, persistent only if ``durable``; otherwise as :func:`start_mariadb`."""
    return Server(*_started(KINDS["redis"], durable=durable, options=options or {}, owner=owner or os.getpid()))


def start_prometheus(config: Path, *, owner: int | None = None) -> Server:
    """A private Prometheus scrapes and judges by this configuration, and keeps exemplars; errors as above."""
    options = {"config.file": str(config)}
    return Server(*_started(KINDS["prometheus"], durable=False, options=options, owner=owner or os.getpid()))


def shared(start: Callable[..., AnyServer], owner: int) -> AnyServer:
    """The one server that all processes of this owner share, started by the first that asks for it.

    Raises:
        MissingServer: it is not installed.
        ServerError: it did not start.
    """
    run = run_folder(owner)
    note = run / f"{start.__name__}.shared"
    with _locked(run / f"{start.__name__}.lock"):
        if not note.exists():
            server = start(owner=owner)
            _write_secret(note, f"{server.name}\n{server.folder}\n{server.url.render_as_string(hide_password=False)}")
            return server
    name, folder, url = note.read_text().splitlines()
    made = SqlServer if name in SQL_SERVERS else Server
    return cast("AnyServer", made(name, Path(folder), make_url(url)))


def stop_all(owner: int | None = None) -> None:
    """No server and no folder of this owner is left; for servers whose owner has ended this happens by itself."""
    run = _run_folder_path(owner or os.getpid())
    for folder in [*run.glob("server-*"), run]:
        _end_supervisor(folder)


def run_folder(owner: int) -> Path:
    """The folder of everything that belongs to this owner; removed when the owner ends.

    It has the installed data folders, one folder for each server, and the run's password.
    """
    run = _run_folder_path(owner)
    with suppress(FileExistsError):  # a test worker of the same run was faster
        run.mkdir(mode=0o700)
    if run.lstat().st_uid != os.geteuid():
        raise ServerError(f"{run} belongs to somebody else; set TMPDIR to a folder of your own")
    with _locked(run / "lock"):
        if not (run / "password").exists():
            _supervise(run, owner, signal.SIGTERM, [])
            run.chmod(0o711)  # servers run under accounts of their own, and must get through
            _write_secret(run / "password", secrets.token_hex(16))
    return run


def _run_folder_path(owner: int) -> Path:
    # With the time of its start in the name, the folder of an earlier process of the same number is not taken for it.
    return Path(tempfile.gettempdir()).resolve() / f"dbpilot-{owner}-{_start_ticks(owner)}"


def _start_ticks(pid: int) -> str:
    """When the process started, in clock ticks since boot: field 22 of proc_pid_stat(5)."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        raise ServerError(f"a test server's owner must be a running process; {pid} is none") from None
    return after_name[19]


def _started(kind: Kind, *, durable: bool, options: Mapping[str, str], owner: int) -> tuple[str, Path, URL]:
    run = run_folder(owner)
    password = (run / "password").read_text()
    for _ in range(PORT_ATTEMPTS):
        port = _free_port()
        home = _new_home(kind, run, password)
        command = kind.serve(home, port, durable=durable, options=options)
        _supervise(home, owner, kind.end_signal, _as_account(kind, command))
        server = Server(kind.name, home, kind.url(port, password))
        if _until_it_answers(server):
            return server.name, server.folder, server.url
        failure = _did_not_start(server)
        server.stop()
        if ADDRESS_IN_USE not in str(failure).lower():
            raise failure
    raise failure


def _free_port() -> int:
    # Free now; somebody may take it before the server does, which is why a start asks who answers.
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _until_it_answers(server: Server) -> bool:
    """Whether the server came to answer at its address; False as soon as it has ended instead."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while server.pid is not None and time.monotonic() < deadline:
        if server.answers:
            return True
        time.sleep(POLL_S)
    return False


def _did_not_start(server: Server) -> ServerError:
    return ServerError(f"{server.name} did not start; its log ends with:\n{server.log_tail()}")


def _new_home(kind: Kind, run: Path, password: str) -> Path:
    """A folder for one server, with a copy of the installed data, that only its account can read."""
    template = _template(kind, run, password)
    home = Path(tempfile.mkdtemp(prefix=f"server-{kind.name}-", dir=run))
    # Keeps owner, modes and holes, and shares blocks where the file system can.
    _run(["cp", "--archive", "--reflink=auto", f"{template}/.", str(home)], cwd=run)
    return home


def _template(kind: Kind, run: Path, password: str) -> Path:
    """The installed data folder from which servers are copied, made by the first who needs it."""
    template = run / f"template-{kind.name}"
    with _locked(run / f"template-{kind.name}.lock"):
        if not template.exists():
            unfinished = run / f"unfinished-{kind.name}"
            shutil.rmtree(unfinished, ignore_errors=True)
            _install(kind, unfinished, password)
            unfinished.rename(template)
    return template


def _install(kind: Kind, home: Path, password: str) -> None:
    for folder in (home, home / "data", home / "tmp"):
        folder.mkdir(mode=0o700)
    _write_secret(home / "secret", kind.secret(password))
    if os.geteuid() == 0:
        account = _account(kind.account)
        for path in (home, *home.iterdir()):
            os.chown(path, account.pw_uid, account.pw_gid)
    command = kind.install(home)
    if command:
        _run(_as_account(kind, command), cwd=home)


def _account(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return pwd.getpwnam("nobody")


def _as_account(kind: Kind, command: list[str]) -> list[str]:
    """The command, as the kind's account where we are root; it ends with the process that started it."""
    guarded = [program("setpriv", "util-linux"), f"--pdeathsig={kind.end_signal.name.removeprefix('SIG')}"]
    if os.geteuid() == 0:
        account = _account(kind.account)
        guarded += [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    return [*guarded, "--", *command]


def _run(command: list[str], cwd: Path) -> None:
    done = subprocess.run(  # noqa: S603 - the commands are ours
        command, cwd=cwd, env=_environment(), capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-LOG_LINES:])
        raise ServerError(f"{' '.join(command)} failed with {done.returncode}:\n{said}")


def _supervise(folder: Path, owner: int, end_signal: signal.Signals, command: list[str]) -> None:
    """The command runs, guarded: it and the folder are gone when the owner is."""
    with (folder / "log").open("ab") as log:
        subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-I", "-S", supervisor.__file__, str(owner), str(folder), str(int(end_signal)), *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=_environment(),
            start_new_session=True,  # Ctrl-C in the terminal is the owner's affair
            check=True,
        )


def _environment() -> dict[str, str]:
    # Messages that we read are in English, and nobody's PGDATA or MYSQL_UNIX_PORT is taken for ours.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _end_supervisor(folder: Path) -> None:
    """What the folder's supervisor guards is gone, and so is the folder."""
    _signal_supervisor(folder, signal.SIGTERM)
    if not _until(lambda: _supervisor_of(folder) is None, STOP_TIMEOUT_S):
        raise ServerError(f"{folder} is still guarded {STOP_TIMEOUT_S} s after its supervisor was asked to end")
    supervisor.remove(folder)  # there is something left only if the supervisor was killed, and the server with it


def _signal_supervisor(folder: Path, number: signal.Signals) -> None:
    pid = _supervisor_of(folder)
    if pid is not None:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.kill(pid, number)


def _supervisor_of(folder: Path) -> int | None:
    """The process that guards the folder; None once it has ended, whoever bears its number now."""
    pid = _number_in(folder / "supervisor.pid")
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return pid if os.fsencode(folder) in arguments else None


def _kill_and_wait(pids: list[int]) -> None:
    handles = []
    for pid in pids:
        with suppress(ProcessLookupError):  # one that has ended need not be killed
            handles.append(os.pidfd_open(pid))
    for handle in handles:
        with suppress(ProcessLookupError):  # nor one that ends meanwhile
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    for handle in handles:
        select.select([handle], [], [], STOP_TIMEOUT_S)
        os.close(handle)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _number_in(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _write_secret(file: Path, content: str) -> None:
    """The file is there with all its content or not at all, and only its owner can read it."""
    written = file.with_name(f"{file.name}.new")
    written.touch(mode=0o600)
    written.write_text(content)
    written.rename(file)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _quoted(connection: Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote_identifier(name)


def _kill_connections_to(connection: Connection, database: str) -> None:
    """No other connection holds a lock in this MariaDB database."""
    found = text("SELECT id FROM information_schema.processlist WHERE db = :database")
    for leaked in connection.scalars(found, {"database": database}).all():
        # It may have ended meanwhile, which is what we want.
        with suppress(OperationalError):
            connection.execute(text("KILL CONNECTION :id"), {"id": leaked})

"""What differs between the servers that tests start: programs, arguments, and how to ask which one answers."""

import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final, Protocol
from urllib.request import urlopen

from sqlalchemy import URL

from dbpilot.errors import PilotError

HOST: Final = "127.0.0.1"
CONNECT_TIMEOUT_S: Final = 2
MAX_CONNECTIONS: Final = 200
"""A whole test run shares one server, and every test has pools of its own."""

REDIS_DATABASES: Final = 64


class MissingServer(PilotError):
    """A program that a test server needs is not installed; names the package that has it."""


class Kind(Protocol):
    """One kind of server. Its ``home`` has ``data``, ``tmp``, and ``secret``, which only its account can read."""

    name: ClassVar[str]
    package: ClassVar[str]
    account: ClassVar[str]
    """Who runs it when root starts it: MariaDB and PostgreSQL refuse to serve as root."""
    end_signal: ClassVar[signal.Signals]
    """Ends it at once; its data is thrown away with it."""

    def secret(self, password: str) -> str:
        """The text of ``secret`` that sets this password for the administrator."""

    def install(self, home: Path) -> list[str]:
        """The command that fills ``home/data``; empty where a server starts from nothing."""

    def serve(self, home: Path, port: int, *, durable: bool, options: Mapping[str, str]) -> list[str]:
        """The command that serves ``home/data`` on this port of the loopback, in the foreground."""

    def url(self, port: int, password: str) -> URL:
        """The administrator's address."""

    def data_folder(self, url: URL) -> Path | None:
        """The data folder of the server that answers there; None when none does."""


def program(name: str, package: str) -> str:
    """The path of an installed program.

    Raises:
        MissingServer: it is not installed.
    """
    # An ordinary user's PATH leaves out the sbin folders, and Debian keeps PostgreSQL's programs out of every PATH. Its
    # folder comes first, so that all of them are of one version.
    newest_first = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    folders = [*map(str, newest_first), os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"]
    found = shutil.which(name, path=os.pathsep.join(folders))
    if found is None:
        raise MissingServer(f"{name} is not installed: sudo apt-get install --no-install-recommends {package}")
    return found


def _version(folder: Path) -> float:
    try:
        return float(folder.parent.name)
    except ValueError:
        return 0


class MariaDB:
    """A private MariaDB."""

    name: ClassVar = "mariadb"
    package: ClassVar = "mariadb-server"
    account: ClassVar = "mysql"
    end_signal: ClassVar = signal.SIGKILL

    FAST: ClassVar[Mapping[str, str]] = {
        # Commits reach the operating system but not the disk: they survive a killed server, not a power failure.
        "innodb_flush_log_at_trx_commit": "2",
        "innodb_flush_method": "nosync",
        "innodb_doublewrite": "OFF",
        "innodb_log_file_size": "16M",
    }

    def secret(self, password: str) -> str:
        """Executed once, when the data folder is made: one administrator, over TCP and with a password."""
        root = f"root@'{HOST}'"
        return (
            "FLUSH PRIVILEGES;\n"  # switches on the accounts, which an installation runs without
            f"CREATE OR REPLACE USER {root} IDENTIFIED BY '{password}';\n"
            f"GRANT ALL PRIVILEGES ON *.* TO {root} WITH GRANT OPTION;\n"
            f"DELETE FROM mysql.global_priv WHERE User = 'root' AND Host <> '{HOST}';\n"
        )

    def install(self, home: Path) -> list[str]:
        """Its own ``tmpdir``, because two installations at once collide in a common one."""
        return [
            program("mariadb-install-db", self.package),
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            f"--datadir={home / 'data'}",
            f"--tmpdir={home / 'tmp'}",
            f"--extra-file={home / 'secret'}",
            "--innodb-log-file-size=16M",
            "--innodb-flush-method=nosync",
        ]

    def serve(self, home: Path, port: int, *, durable: bool, options: Mapping[str, str]) -> list[str]:
        """``--socket`` is relative to the data folder, so that a long path does not exceed a socket's 107 bytes."""
        settings = {
            "datadir": str(home / "data"),
            "tmpdir": str(home / "tmp"),
            "socket": "server.sock",
            "bind_address": HOST,
            "port": str(port),
            "skip_name_resolve": "ON",
            "character_set_server": "utf8mb4",
            "default_time_zone": "+00:00",
            "max_connections": str(MAX_CONNECTIONS),
            **({"innodb_flush_log_at_trx_commit": "1"} if durable else self.FAST),
            **options,
        }
        return [
            program("mariadbd", self.package),
            "--no-defaults",
            *(f"--{name}={value}" for name, value in settings.items()),
        ]

    def url(self, port: int, password: str) -> URL:
        """Over TCP, with the driver that the application ships."""
        return URL.create("mysql+pymysql", "root", password, HOST, port)

    def data_folder(self, url: URL) -> Path | None:
        """What ``@@datadir`` says."""
        import pymysql

        try:
            connection = pymysql.connect(
                host=url.host,
                port=url.port or 0,
                user=url.username,
                password=str(url.password),
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=CONNECT_TIMEOUT_S,
            )
        except (pymysql.MySQLError, OSError):
            return None
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT @@datadir")
            return Path(cursor.fetchone()[0])


class PostgreSQL:
    """A private PostgreSQL."""

    name: ClassVar = "postgresql"
    package: ClassVar = "postgresql"
    account: ClassVar = "postgres"
    end_signal: ClassVar = signal.SIGQUIT  # at once like SIGKILL, and its children and shared memory go with it

    FAST: ClassVar[Mapping[str, str]] = {"fsync": "off", "full_page_writes": "off"}

    def secret(self, password: str) -> str:
        """Read by ``initdb --pwfile``."""
        return f"{password}\n"

    def install(self, home: Path) -> list[str]:
        """Plain passwords: SCRAM would cost every connection of every test some milliseconds on the loopback."""
        return [
            program("initdb", self.package),
            f"--pgdata={home / 'data'}",
            "--username=postgres",
            f"--pwfile={home / 'secret'}",
            "--auth=password",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ]

    def serve(self, home: Path, port: int, *, durable: bool, options: Mapping[str, str]) -> list[str]:
        """Without a socket file: TCP is enough, and its path cannot be too long."""
        settings = {
            "listen_addresses": HOST,
            "port": str(port),
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "max_connections": str(MAX_CONNECTIONS),
            **({} if durable else self.FAST),
            **options,
        }
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [program("postgres", self.package), "-D", str(home / "data"), *arguments]

    def url(self, port: int, password: str) -> URL:
        """Over TCP, with the driver that the application ships."""
        return URL.create("postgresql+psycopg", "postgres", password, HOST, port, "postgres")

    def data_folder(self, url: URL) -> Path | None:
        """What ``SHOW data_directory`` says."""
        import psycopg

        address = url.set(drivername="postgresql").render_as_string(hide_password=False)
        try:
            connection = psycopg.connect(address, connect_timeout=CONNECT_TIMEOUT_S)
        except psycopg.OperationalError:
            return None
        with connection:
            row = connection.execute("SHOW data_directory").fetchone()
        return Path(row[0]) if row else None


class Redis:
    """A private Redis."""

    name: ClassVar = "redis"
    package: ClassVar = "redis-server"
    account: ClassVar = "redis"
    end_signal: ClassVar = signal.SIGKILL

    FAST: ClassVar[Mapping[str, str]] = {"save": "", "appendonly": "no"}
    DURABLE: ClassVar[Mapping[str, str]] = {"appendonly": "yes", "appendfsync": "always"}

    def secret(self, password: str) -> str:
        """Its configuration file; everything else is an argument."""
        return f"requirepass {password}\n"

    def install(self, home: Path) -> list[str]:  # noqa: ARG002 - the role's signature
        """It makes what it needs when it starts."""
        return []

    def serve(self, home: Path, port: int, *, durable: bool, options: Mapping[str, str]) -> list[str]:
        """In the foreground, and silent on its standard output but for what went wrong."""
        settings = {
            "bind": HOST,
            "port": str(port),
            "dir": str(home / "data"),
            "databases": str(REDIS_DATABASES),
            **(self.DURABLE if durable else self.FAST),
            **options,
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return [program("redis-server", self.package), str(home / "secret"), *arguments]

    def url(self, port: int, password: str) -> URL:
        """Rendered with its password it is what ``Redis.from_url`` reads."""
        return URL.create("redis", "default", password, HOST, port, "0")

    def data_folder(self, url: URL) -> Path | None:
        """What ``CONFIG GET dir`` says."""
        import redis

        client = redis.Redis.from_url(url.render_as_string(hide_password=False), socket_timeout=CONNECT_TIMEOUT_S)
        try:
            return Path(str(client.config_get("dir")["dir"]))
        except redis.RedisError:
            return None
        finally:
            client.close()


class Prometheus:
    """A private Prometheus; its configuration is the option ``config.file``, which its account must be able to read."""

    name: ClassVar = "prometheus"
    package: ClassVar = "prometheus"
    account: ClassVar = "prometheus"
    end_signal: ClassVar = signal.SIGKILL

    def secret(self, password: str) -> str:  # noqa: ARG002 - the role's signature
        """None: it answers on the loopback alone, and keeps what anybody there may read."""
        return ""

    def install(self, home: Path) -> list[str]:  # noqa: ARG002 - the role's signature
        """It makes what it needs when it starts."""
        return []

    def serve(self, home: Path, port: int, *, durable: bool, options: Mapping[str, str]) -> list[str]:  # noqa: ARG002 - the role's
        """With exemplars; whatever is durable is thrown away with its folder."""
        settings = {
            "storage.tsdb.path": str(home / "data"),
            "web.listen-address": f"{HOST}:{port}",
            "enable-feature": "exemplar-storage",
            "log.level": "warn",
            **options,
        }
        return [program("prometheus", self.package), *(f"--{name}={value}" for name, value in settings.items())]

    def url(self, port: int, password: str) -> URL:  # noqa: ARG002 - the role's signature
        """Where its API is."""
        return URL.create("http", host=HOST, port=port)

    def data_folder(self, url: URL) -> Path | None:
        """What its flags say."""
        try:
            with urlopen(f"{url}/api/v1/status/flags", timeout=CONNECT_TIMEOUT_S) as answer:  # noqa: S310 - ours
                return Path(json.load(answer)["data"]["storage.tsdb.path"])
        except (OSError, ValueError, KeyError):
            return None


KINDS: Final[Mapping[str, Kind]] = {kind.name: kind for kind in (MariaDB(), PostgreSQL(), Redis(), Prometheus())}

"""Addresses of databases as somebody types them: engines for them, and what goes wrong, without their passwords."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Final

from sqlalchemy import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from dbpilot.errors import ConfigError

MYSQL: Final = {"pymysql": "pymysql", "mysqldb": "MySQLdb"}
POSTGRESQL: Final = {"psycopg": "psycopg", "psycopg2": "psycopg2"}
DRIVERS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "mysql": ("mysql", MYSQL),
    "mariadb": ("mariadb", MYSQL),
    "postgresql": ("postgresql", POSTGRESQL),
    "postgres": ("postgresql", POSTGRESQL),
    "sqlite": ("sqlite", {"pysqlite": "sqlite3"}),
}
"""Addresses without a driver as people and platforms begin them: what SQLAlchemy calls the database, and its drivers,
the best first, with the module of each."""


def with_driver(url: URL) -> URL:
    """The address, with the best driver that is installed where it names none: ``mysql://`` is ``mysql+pymysql://``.

    Where none is installed it has the best, and whoever connects is told of that one.
    """
    if url.drivername not in DRIVERS:
        return url
    database, drivers = DRIVERS[url.drivername]
    installed = [driver for driver, module in drivers.items() if find_spec(module) is not None]
    return url.set(drivername=f"{database}+{next(iter(installed or drivers))}")


def engine_at(text: str, whose: str, make: Callable[[URL], Engine]) -> Engine:
    """What ``make`` makes of the address, which may name no driver; nothing is connected yet.

    Raises:
        ConfigError: the URL cannot be read, or its driver is not installed. The message never repeats the URL, which
            may carry a password.
    """
    try:
        return make(with_driver(make_url(text)))
    except (SQLAlchemyError, ValueError):
        raise ConfigError(f"{whose} URL cannot be read; write it as SQLAlchemy does") from None
    except ImportError as error:
        raise ConfigError(f"{whose} URL asks for a driver that is not installed: {error}") from None


def reason(url: URL, error: Exception) -> str:
    """The driver's own words, on one line, without the statement, its values and the password."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    said = original if isinstance(original, OSError) or not original.args else original.args[-1]
    words = (str(said).splitlines() or [""])[0].rstrip(".")
    return words.replace(url.password, "***") if url.password else words


def command_line(program: str, arguments: Sequence[str]) -> str:
    """The command as a shell understands it; addresses in it have no passwords."""
    return shlex.join([program, *map(_without_password, arguments)])


def _without_password(argument: str) -> str:
    name, equals, value = argument.rpartition("=") if argument.startswith("--") else ("", "", argument)
    try:
        url = make_url(value)
    except (ArgumentError, ValueError):
        return argument
    secret = any("pass" in option for option in url.query)
    return f"{name}{equals}{url.set(query={} if secret else url.query).render_as_string(hide_password=True)}"

"""A workload from a file, whichever kind of file it is."""

from pathlib import Path
from typing import Literal

from dbpilot.dialects.catalog import Catalog
from dbpilot.errors import ConfigError
from dbpilot.indexes.slow_log import looks_like_slow_log, of_slow_log
from dbpilot.indexes.sql_file import of_sql_file
from dbpilot.indexes.workload import Workload
from dbpilot.sql.predicates import DialectName

Kind = Literal["sql", "slow log"]


def kind_of(path: Path) -> Kind:
    """What the file is, as far as its beginning tells.

    Raises:
        ConfigError: it cannot be read.
    """
    return "slow log" if looks_like_slow_log(path) else "sql"


def of_file(path: Path, catalog: Catalog, dialect_name: DialectName) -> Workload:
    """The workload in a file of SQL or a slow log.

    Raises:
        ConfigError: the file cannot be read, or is neither; says in which line.
    """
    if kind_of(path) == "sql":
        return of_sql_file(path, catalog, dialect_name)
    if dialect_name not in ("mysql", "mariadb"):
        raise ConfigError(f"{path.name} is a slow log of MariaDB or MySQL, and this is neither")
    return of_slow_log(path, catalog, dialect_name)

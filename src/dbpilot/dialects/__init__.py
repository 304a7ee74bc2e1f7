"""All that differs between databases; the same questions, one file per database that answers them."""

from sqlalchemy import Engine

from dbpilot.dialects import mysql, postgresql, sqlite
from dbpilot.dialects.base import Dialect
from dbpilot.errors import ConfigError

_DIALECTS: dict[str, Dialect] = {
    "mysql": mysql.DIALECT,
    "mariadb": mysql.DIALECT,
    "postgresql": postgresql.DIALECT,
    "sqlite": sqlite.DIALECT,
}


def dialect_of(engine: Engine) -> Dialect:
    """What dbpilot knows about this engine's database.

    Raises:
        ConfigError: it is a database that dbpilot does not know.
    """
    try:
        return _DIALECTS[engine.dialect.name]
    except KeyError:
        known = ", ".join(sorted(_DIALECTS))
        raise ConfigError(f"dbpilot knows {known}; this engine speaks {engine.dialect.name}") from None


__all__ = ["Dialect", "dialect_of"]

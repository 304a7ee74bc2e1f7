"""SQLite."""

from typing import Final

from sqlalchemy import Engine

from dbpilot.dialects.base import Dialect
from dbpilot.sql.syntax import SQLITE


def _product(_engine: Engine) -> str:
    return "SQLite"


def _error_code(error: BaseException) -> str | None:
    name = getattr(error, "sqlite_errorname", None)
    return str(name) if name else None


DIALECT: Final = Dialect(syntax=SQLITE, product=_product, error_code=_error_code)

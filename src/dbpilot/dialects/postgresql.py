"""PostgreSQL."""

from typing import Final

from sqlalchemy import Engine

from dbpilot.dialects.base import Dialect
from dbpilot.sql.syntax import POSTGRESQL


def _product(_engine: Engine) -> str:
    return "PostgreSQL"


def _error_code(error: BaseException) -> str | None:
    """The SQLSTATE, which every driver keeps under the same name."""
    state = getattr(error, "sqlstate", None)
    return str(state) if state else None


DIALECT: Final = Dialect(syntax=POSTGRESQL, product=_product, error_code=_error_code)

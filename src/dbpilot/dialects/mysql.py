"""MariaDB and MySQL."""

from typing import Final

from sqlalchemy import Engine

from dbpilot.dialects.base import Dialect
from dbpilot.sql.syntax import MYSQL


def _product(engine: Engine) -> str:
    return "MariaDB" if getattr(engine.dialect, "is_mariadb", False) else "MySQL"


def _error_code(error: BaseException) -> str | None:
    """The drivers put the server's error number first."""
    number = error.args[0] if error.args else None
    return str(number) if isinstance(number, int) else None


DIALECT: Final = Dialect(syntax=MYSQL, product=_product, error_code=_error_code)

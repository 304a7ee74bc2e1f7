"""SQLite."""

from typing import Any, Final

from sqlalchemy import Connection, Engine

from dbpilot.dialects.base import LOCKED, NO_SPACE, NOT_ALLOWED, READ_ONLY, Dialect
from dbpilot.dialects.plan import PlanNode
from dbpilot.dialects.sqlite.catalog import catalog, sampled
from dbpilot.dialects.sqlite.checkup import CHECKS
from dbpilot.dialects.sqlite.ddl import DDL
from dbpilot.dialects.sqlite.explain import lines_of, tree_of
from dbpilot.dialects.sqlite.whatif import open_what_if
from dbpilot.sql.syntax import SQLITE
from dbpilot.unsupported import Unsupported

REASONS: Final = {
    "SQLITE_PERM": NOT_ALLOWED,
    "SQLITE_READONLY": READ_ONLY,
    "SQLITE_READONLY_DIRECTORY": READ_ONLY,
    "SQLITE_FULL": NO_SPACE,
    "SQLITE_BUSY": LOCKED,
    "SQLITE_LOCKED": LOCKED,
}


def _product(_engine: Engine) -> str:
    return "SQLite"


def _error_code(error: BaseException) -> str | None:
    name = getattr(error, "sqlite_errorname", None)
    return str(name) if name else None


def _explain(connection: Connection, statement: str, parameters: Any) -> PlanNode:
    # Python's driver keeps prepared statements, and an EXPLAIN among them would show the plan of an older schema.
    version = int(connection.exec_driver_sql("PRAGMA schema_version").scalar_one())
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN /* {version} */ {statement}", parameters).all()
    return tree_of(lines_of(rows))


def _server_statements(_connection: Connection, _most: int) -> Unsupported:
    return Unsupported("SQLite has no server that could count statements", "read the application's own figures")


DIALECT: Final = Dialect(
    syntax=SQLITE,
    product=_product,
    error_code=_error_code,
    reasons=REASONS,
    explain=_explain,
    server_statements=_server_statements,
    capacity=Unsupported("SQLite has no server whose connections could run out", "bound the pool by its own limit"),
    catalog=catalog,
    sampled=sampled,
    ddl=DDL,
    what_if=open_what_if,
    checks=CHECKS,
)

"""MariaDB and MySQL."""

import json
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection, Engine, text

from dbpilot.dialects.base import Capacity, Dialect, ServerStatement
from dbpilot.dialects.plan import PlanNode
from dbpilot.sql.fingerprint import fingerprint
from dbpilot.sql.syntax import MYSQL
from dbpilot.unsupported import Unsupported

PICOSECONDS_PER_S: Final = 1e12
DIGESTS: Final = text(
    """SELECT DIGEST, DIGEST_TEXT, COUNT_STAR, SUM_TIMER_WAIT, SUM_ROWS_SENT + SUM_ROWS_AFFECTED, SUM_ROWS_EXAMINED,
    SUM_ERRORS FROM performance_schema.events_statements_summary_by_digest
    WHERE SCHEMA_NAME = DATABASE() AND DIGEST_TEXT IS NOT NULL ORDER BY SUM_TIMER_WAIT DESC LIMIT :most"""
)
LIMITS: Final = text("SELECT @@GLOBAL.max_connections, @@SESSION.max_user_connections")
CONNECTED: Final = text("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
CONNECTED_AS_ME: Final = text(
    "SELECT count(*) FROM information_schema.processlist WHERE user = SUBSTRING_INDEX(CURRENT_USER(), '@', 1)"
)
CONSUMER: Final = text("SELECT ENABLED FROM performance_schema.setup_consumers WHERE NAME = 'statements_digest'")


def _product(engine: Engine) -> str:
    return "MariaDB" if getattr(engine.dialect, "is_mariadb", False) else "MySQL"


def _error_code(error: BaseException) -> str | None:
    """The drivers put the server's error number first."""
    number = error.args[0] if error.args else None
    return str(number) if isinstance(number, int) else None


def _explain(connection: Connection, statement: str, parameters: Any) -> PlanNode:
    answer = connection.exec_driver_sql("EXPLAIN FORMAT=JSON " + statement, parameters).scalar_one()
    return PlanNode("query", children=tuple(_steps(json.loads(answer))))


def _steps(found: Any) -> Iterator[PlanNode]:
    """The steps in a part of the server's answer, whose form differs from version to version."""
    if isinstance(found, list):
        for part in found:
            yield from _steps(part)
    elif isinstance(found, Mapping):
        for name, part in found.items():
            if name == "table" and isinstance(part, Mapping):
                yield _table(part)
            elif isinstance(part, Mapping | list):
                children = tuple(_steps(part))
                kept = isinstance(part, Mapping) and name not in ("query_block", "nested_loop")
                yield from [PlanNode(name, children=children)] if kept and children else children


def _table(part: Mapping[str, Any]) -> PlanNode:
    access, rows = str(part.get("access_type", "")), part.get("rows", part.get("rows_examined_per_scan"))
    condition = part.get("attached_condition")
    return PlanNode(
        operation=f"access {access}" if access else "access",
        table=part.get("table_name"),
        index=part.get("key"),
        rows=float(rows) if rows is not None else None,
        condition=fingerprint(str(condition), MYSQL).text if condition else None,
        reads_all=access == "ALL" and not str(part.get("table_name", "<")).startswith("<"),
        children=tuple(_steps({name: value for name, value in part.items() if isinstance(value, Mapping)})),
    )


def _server_statements(connection: Connection, most: int) -> list[ServerStatement] | Unsupported:
    if not int(connection.execute(text("SELECT @@performance_schema")).scalar_one()):
        return Unsupported(
            "performance_schema is off", "put performance_schema=ON under [mysqld] in my.cnf and restart the server"
        )
    if connection.execute(CONSUMER).scalar() != "YES":
        return Unsupported(
            "the server counts no digests of statements",
            "UPDATE performance_schema.setup_consumers SET ENABLED = 'YES' WHERE NAME = 'statements_digest'",
        )
    found = []
    for digest, written, calls, picoseconds, rows, examined, errors in connection.execute(DIGESTS, {"most": most}):
        print_ = fingerprint(written, MYSQL)
        total_s = float(picoseconds) / PICOSECONDS_PER_S
        figures = (int(calls), total_s, int(rows), int(examined), int(errors))
        found.append(ServerStatement(digest, print_.id, print_.text, *figures))
    return found


def _capacity(connection: Connection) -> Capacity:
    """The server's own bound or the account's, 0 for none; beyond the server's own, administrators have one more."""
    most, most_of_mine = connection.execute(LIMITS).one()
    connected = connection.execute(CONNECTED).one()[1]
    bounds = [Capacity(int(most), 0, int(connected) - 1)]
    if int(most_of_mine):
        bounds.append(Capacity(int(most_of_mine), 0, connection.execute(CONNECTED_AS_ME).scalar_one() - 1))
    return min(bounds, key=attrgetter("free"))


DIALECT: Final = Dialect(
    syntax=MYSQL,
    product=_product,
    error_code=_error_code,
    explain=_explain,
    server_statements=_server_statements,
    capacity=_capacity,
)

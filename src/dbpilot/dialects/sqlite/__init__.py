"""SQLite."""

import re
from typing import Any, Final

from sqlalchemy import Connection, Engine

from dbpilot.dialects.base import Dialect
from dbpilot.dialects.plan import PlanNode
from dbpilot.sql.syntax import SQLITE
from dbpilot.unsupported import Unsupported

# "SCAN t", "SEARCH t AS u USING COVERING INDEX i (a=?)", "USE TEMP B-TREE FOR ORDER BY": sqlite.org/eqp.html
STEP: Final = re.compile(
    r"(?P<operation>SCAN|SEARCH) (?P<table>\S+)(?: AS \S+)?"
    r"(?: USING (?:AUTOMATIC )?(?:PARTIAL )?(?:COVERING )?(?:INDEX (?P<index>\S+)|INTEGER PRIMARY KEY))?"
    r"(?: \((?P<condition>.*)\))?"
)


def _product(_engine: Engine) -> str:
    return "SQLite"


def _error_code(error: BaseException) -> str | None:
    name = getattr(error, "sqlite_errorname", None)
    return str(name) if name else None


def _explain(connection: Connection, statement: str, parameters: Any) -> PlanNode:
    rows = connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters).all()
    own = {detail.split()[1] for *_, detail in rows if detail.startswith(("CO-ROUTINE ", "MATERIALIZE "))}
    none = own | {"CONSTANT"}  # what is scanned, and is no table
    children: dict[int, list[tuple[int, str]]] = {}
    for id_, parent, _, detail in rows:
        children.setdefault(parent, []).append((id_, detail))

    def node(id_: int, detail: str) -> PlanNode:
        below = tuple(node(*child) for child in children.get(id_, ()))
        step = STEP.match(detail)
        if step is None:
            return PlanNode(detail, children=below)
        return PlanNode(
            operation=step["operation"],
            table=step["table"],
            index=step["index"],
            condition=step["condition"],
            reads_all=step["operation"] == "SCAN" and step["index"] is None and step["table"] not in none,
            children=below,
        )

    return PlanNode("QUERY", children=tuple(node(*child) for child in children.get(0, ())))


def _server_statements(_connection: Connection, _most: int) -> Unsupported:
    return Unsupported("SQLite has no server that could count statements", "read the application's own figures")


DIALECT: Final = Dialect(
    syntax=SQLITE,
    product=_product,
    error_code=_error_code,
    explain=_explain,
    server_statements=_server_statements,
    capacity=Unsupported("SQLite has no server whose connections could run out", "bound the pool by its own limit"),
)

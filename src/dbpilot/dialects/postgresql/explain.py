"""Plans of PostgreSQL: which statements may be asked about, and what the server answers."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection

from dbpilot.dialects.plan import PlanNode
from dbpilot.sql.fingerprint import fingerprint, operation_of, pattern_tokens
from dbpilot.sql.syntax import POSTGRESQL
from dbpilot.unsupported import Unsupported

ASK: Final = "EXPLAIN (FORMAT JSON) "
CONDITIONS: Final = ("Index Cond", "Recheck Cond", "Filter", "Join Filter", "Hash Cond", "Merge Cond", "TID Cond")
EXPLAINED: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})


def explain(connection: Connection, statement: str, parameters: Any) -> PlanNode:
    """The plan of a statement with its parameters, as the driver takes them; it is not executed."""
    return plan_in(connection.exec_driver_sql(ASK + statement, parameters).scalar_one())


def plan_in(answer: Any) -> PlanNode:
    """The plan in what EXPLAIN (FORMAT JSON) answered; some drivers read the JSON themselves."""
    plans = json.loads(answer) if isinstance(answer, str) else answer
    return node(plans[0]["Plan"])


def node(part: Mapping[str, Any]) -> PlanNode:
    """One step of a plan, and those below it, without a value."""
    conditions = [fingerprint(str(part[name]), POSTGRESQL).text for name in CONDITIONS if name in part]
    return PlanNode(
        operation=str(part["Node Type"]),
        table=part.get("Relation Name"),
        index=part.get("Index Name"),
        rows=float(part["Plan Rows"]),
        cost=float(part["Total Cost"]),
        condition=" AND ".join(conditions) or None,
        reads_all=part["Node Type"] == "Seq Scan",
        children=tuple(node(child) for child in part.get("Plans", ())),
    )


def indexes_in(root: PlanNode, table: str = "") -> Iterator[tuple[str, str]]:
    """The table and name of each index that a plan uses; a bitmap's table is told by the step above it."""
    table = root.table or table
    if root.index is not None:
        yield table, root.index
    for child in root.children:
        yield from indexes_in(child, table)


def tables_in(plans: Any) -> set[tuple[str, str]]:
    """The schema and name of each table in what EXPLAIN (FORMAT JSON, VERBOSE) answered."""
    if isinstance(plans, list):
        return {found for part in plans for found in tables_in(part)}
    below = tables_in([plans[name] for name in ("Plan", "Plans") if name in plans])
    return below | {(plans["Schema"], plans["Relation Name"])} if "Relation Name" in plans else below


def renamed(root: PlanNode, names: Mapping[str, str]) -> PlanNode:
    """The plan with other names for these indexes."""
    children = tuple(renamed(child, names) for child in root.children)
    return replace(root, index=names.get(root.index or "", root.index), children=children)


def may_ask(statement: str) -> Unsupported | None:
    """Why a statement is not asked about; None for one single statement that reads or writes rows."""
    tokens = _tokens(statement)
    while tokens and tokens[-1] == ";":
        tokens.pop()
    if ";" in tokens:
        return Unsupported("there is more than one statement in it", "ask about one at a time")
    if operation_of(pattern_tokens(statement, POSTGRESQL)) not in EXPLAINED:
        return Unsupported("it neither reads nor writes rows", f"ask about {', '.join(sorted(EXPLAINED))}")
    return None


def is_open(statement: str) -> bool:
    """Whether values are missing in it: it has placeholders as the server writes them (``$1``)."""
    return any(
        value.startswith("$") and value[1:].isdigit()
        for token in _tokens(statement)
        if "$" in token and not token[0].isalpha() and token[0] not in '"_'  # in names it may stand as well
        for value in POSTGRESQL.value.findall(token)
    )


def _tokens(statement: str) -> list[str]:
    """All of it but comments, however long: what stands behind another statement would be executed."""
    quoted = POSTGRESQL.dollar_quoted
    if "$" in statement and quoted is not None:
        statement = quoted.sub(lambda match: "''" if match[1] else match[0], statement)
    return [token for token in POSTGRESQL.tokens.findall(statement) if not token.startswith(("--", "/*"))]

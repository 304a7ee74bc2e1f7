"""Plans of MariaDB and MySQL, from what ``EXPLAIN FORMAT=JSON`` answers; its form differs from version to version."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from dbpilot.dialects.plan import PlanNode
from dbpilot.sql.fingerprint import fingerprint
from dbpilot.sql.syntax import MYSQL

EXPLAIN: Final = "EXPLAIN FORMAT=JSON "
TEXT: Final = re.compile(r'(?<=": )"(.*?)"(?=,?\n\s*["{}\]])', re.DOTALL)
"""A text that is alone on its line. MariaDB 10 writes quotation marks and backslashes in it as they are."""
COLUMN: Final = re.compile(r"\.`?([^\W\d][\w$]*)")
"""Each is named with its table; what looks like one in a value does no harm."""
TRANSPARENT: Final = ("query_block", "nested_loop")
"""Parts that are no steps of their own."""


@dataclass(frozen=True, slots=True)
class Access:
    """How one table is read."""

    alias: str
    """The table's name in the statement."""
    indexes: tuple[str, ...]
    """Several where they are merged, or one filters what another finds."""
    rows: float
    parts: int
    """So many of the index's columns are looked up by."""
    kind: str
    """The server's own word for it."""
    is_covered: bool
    """Whether the index holds all that is asked of the table."""
    is_constant: bool
    """Whether all that it is looked up by are values of the statement."""
    filtered_by: frozenset[str]
    """The columns of which something is asked once a row is found: rather too many than too few."""

    @property
    def is_counted(self) -> bool:
        """Whether the rows are what the server counted in the index for these very values, rather than an average."""
        return self.kind in ("range", "index_merge") or (self.kind == "ref" and self.is_constant)


@dataclass(frozen=True, slots=True)
class Block:
    """One SELECT of a statement."""

    select_id: int
    parent: int | None
    repeated: bool
    """Whether it is answered anew for each row of its parent, rather than once."""
    sorts: int
    groups: int
    """How often its rows are put in order, and into a temporary table."""
    cost: float | None
    """MariaDB 11 says it, and MySQL; MariaDB 10 does not."""
    accesses: tuple[Access, ...]

    @property
    def looked_up(self) -> Access | None:
        """How its one table is looked up in, where each row that is found is answered at once; else None."""
        if len(self.accesses) != 1 or self.sorts or self.groups:
            return None
        return self.accesses[0] if self.accesses[0].kind in ("ref", "range") else None


def explain(connection: Connection, statement: str, parameters: Any) -> PlanNode:
    """The plan of a statement with its parameters, as the driver takes them; it is not executed."""
    return plan_in(read(connection.exec_driver_sql(EXPLAIN + statement, parameters).scalar_one()))


def read(answer: str) -> Mapping[str, Any]:
    """The server's answer; what has the same name several times, as it is allowed to in JSON, is a list.

    Raises:
        ValueError: it is no JSON.
    """
    found: Mapping[str, Any] = loaded(answer, object_pairs_hook=_object)
    return found


def loaded(answer: str, **how: Any) -> Any:
    """What the server says in JSON, or in something that is nearly JSON.

    Raises:
        ValueError: it is neither.
    """
    try:
        return json.loads(answer, strict=False, **how)
    except ValueError:
        return json.loads(TEXT.sub(lambda text: json.dumps(text[1]), answer), strict=False, **how)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        before = found.get(name)
        found[name] = value if before is None else [*(before if isinstance(before, list) else [before]), value]
    return found


def plan_in(found: Mapping[str, Any]) -> PlanNode:
    """The whole plan."""
    return PlanNode("query", children=tuple(_steps(found)))


def _steps(found: Any) -> Iterator[PlanNode]:
    if isinstance(found, list):
        for part in found:
            yield from _steps(part)
    elif isinstance(found, Mapping):
        for name, part in found.items():
            if name == "table" and isinstance(part, Mapping):
                yield _table(part)
            elif isinstance(part, Mapping | list):
                children = tuple(_steps(part))
                kept = isinstance(part, Mapping) and name not in TRANSPARENT
                yield from [PlanNode(name, children=children)] if kept and children else children


def _table(part: Mapping[str, Any]) -> PlanNode:
    access, rows = str(part.get("access_type", "")), part.get("rows", part.get("rows_examined_per_scan"))
    condition = part.get("attached_condition")
    return PlanNode(
        operation=f"access {access}" if access else "access",
        table=part.get("table_name"),
        index=",".join(_keys(part)) or None,
        rows=float(rows) if rows is not None else None,
        condition=fingerprint(str(condition), MYSQL).text if condition else None,
        reads_all=access == "ALL" and not str(part.get("table_name", "<")).startswith("<"),
        children=tuple(_steps({name: value for name, value in part.items() if isinstance(value, Mapping)})),
    )


def _keys(part: Mapping[str, Any]) -> list[str]:
    """The index that a table is read by; several where they are merged."""
    key = part.get("key")
    return [str(key)] if key is not None else list(dict.fromkeys(_keys_within(part.get("index_merge"))))


def _keys_within(found: Any) -> Iterator[str]:
    if isinstance(found, list):
        for part in found:
            yield from _keys_within(part)
    elif isinstance(found, Mapping):
        for name, part in found.items():
            if name == "key":
                yield str(part)
            else:
                yield from _keys_within(part)


def blocks_in(found: Any, parent: int | None = None, *, repeated: bool = False) -> Iterator[Block]:
    """Every SELECT of the plan, those around it first."""
    if isinstance(found, list):
        for part in found:
            yield from blocks_in(part, parent, repeated=repeated)
    elif isinstance(found, Mapping):
        for name, part in found.items():
            if name == "query_block" and "select_id" in part:
                yield _block(part, parent, repeated=repeated)
                yield from blocks_in(part, int(part["select_id"]))
            else:
                # A cache stands around what depends on the row; what is materialized is read once, whatever is around.
                again = (repeated or name == "expression_cache") and name != "materialization"
                yield from blocks_in(part, parent, repeated=again)


def _block(part: Mapping[str, Any], parent: int | None, *, repeated: bool) -> Block:
    own = list(_own_parts(part))
    names = [name for name, _ in own]
    cost = part.get("cost", part.get("cost_info", {}).get("query_cost"))
    return Block(
        int(part["select_id"]),
        parent,
        repeated or bool(part.get("dependent")),
        names.count("filesort") + names.count("using_filesort"),
        names.count("temporary_table") + names.count("using_temporary_table"),
        float(cost) if cost is not None else None,
        tuple(_access(table) for name, table in own if name == "table" and "table_name" in table),
    )


def _own_parts(found: Any) -> Iterator[tuple[str, Any]]:
    """What is in a block and in no block within it that the server plans apart, where it is there and not false."""
    if isinstance(found, list):
        for part in found:
            yield from _own_parts(part)
    elif isinstance(found, Mapping):
        for name, part in found.items():
            if name != "query_block" and part is not False:
                yield name, part
                yield from _own_parts(part)


def _access(table: Mapping[str, Any]) -> Access:
    return Access(
        str(table["table_name"]),
        (*_keys(table), *_keys_within(table.get("rowid_filter"))),
        float(table.get("rows", table.get("rows_examined_per_scan")) or 0),
        len(table.get("used_key_parts") or ()),
        str(table.get("access_type", "")),
        bool(table.get("using_index")),
        all(one == "const" for one in table.get("ref") or ()),
        frozenset(COLUMN.findall(str(table.get("attached_condition", "")))),
    )

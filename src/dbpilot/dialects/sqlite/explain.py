"""Reads what EXPLAIN QUERY PLAN answers (https://sqlite.org/eqp.html)."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dbpilot.dialects.plan import PlanNode

# "SCAN t", "SEARCH u USING COVERING INDEX i (a=? AND b>?) LEFT-JOIN", "SEARCH t USING INTEGER PRIMARY KEY (rowid=?)";
# older versions write "SCAN TABLE t AS u". Names are not quoted, and may hold blanks.
STEP: Final = re.compile(
    r"(?P<operation>SCAN|SEARCH) (?:TABLE )?(?P<table>.+?)(?: AS \S+)?"
    r"(?: USING (?P<automatic>AUTOMATIC )?(?:PARTIAL )?(?P<covering>COVERING )?"
    r"(?:INDEX(?: (?P<index>(?!\().+?))?|(?P<key>(?:INTEGER )?PRIMARY KEY)))?"
    r"(?: VIRTUAL TABLE INDEX (?P<virtual>\S*))?"
    r"(?: \((?P<condition>.*)\))?(?: (?:LEFT|RIGHT|FULL)-JOIN)?"
)
MADE_ON_THE_WAY: Final = ("CO-ROUTINE ", "MATERIALIZE ")
NO_TABLE: Final = "CONSTANT ROW"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the answer, with those below it."""

    detail: str
    children: tuple["Line", ...] = ()

    @property
    def made(self) -> str | None:
        """The name of what it makes on the way, a view or a subquery; None where it is another kind of step."""
        return self.detail.split(" ", 1)[1] if self.detail.startswith(MADE_ON_THE_WAY) else None

    def walk(self) -> Iterator["Line"]:
        """This line and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


def lines_of(rows: Sequence[Any]) -> tuple[Line, ...]:
    """The lines without a parent; ``rows`` are (id, parent, not used, detail)."""
    children: dict[int, list[tuple[int, str]]] = {}
    for id_, parent, _, detail in rows:
        children.setdefault(parent, []).append((id_, detail))

    def below(id_: int) -> tuple[Line, ...]:
        return tuple(Line(detail, below(child)) for child, detail in children.get(id_, ()))

    return below(0)


def tree_of(lines: Sequence[Line]) -> PlanNode:
    """The same plan as every database's."""
    made = {line.made for first in lines for line in first.walk()}
    return PlanNode("QUERY", children=tuple(_node(line, made) for line in lines))


def _node(line: Line, made: set[str | None]) -> PlanNode:
    below = tuple(_node(child, made) for child in line.children)
    step = STEP.fullmatch(line.detail)
    if step is None:
        return PlanNode(line.detail, children=below)
    is_table = step["table"] not in made and step["table"] != NO_TABLE
    return PlanNode(
        operation=step["operation"],
        table=step["table"],
        index=step["index"],
        condition=step["condition"],
        reads_all=step["operation"] == "SCAN" and step["index"] is None and is_table,
        children=below,
    )

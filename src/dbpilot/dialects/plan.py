"""How a database means to answer a statement: the same tree for every database, without a value in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any


@dataclass(frozen=True, slots=True)
class PlanNode:
    """One step, with those that feed it."""

    operation: str
    table: str | None = None
    index: str | None = None
    rows: float | None = None
    """Rows that the database expects; None where it does not say."""
    cost: float | None = None
    """In the database's own unit."""
    condition: str | None = None
    """What it filters or looks up by, values hidden."""
    reads_all: bool = False
    """Whether it reads a whole table."""
    children: tuple["PlanNode", ...] = ()

    def uses(self, index: str) -> bool:
        """Whether this step reads the index: MariaDB names several at once, and SQLite's is known up to a blank."""
        return self.index is not None and (index in self.index.split(",") or index.split(" ")[0] == self.index)

    def walk(self, depth: int = 0) -> Iterator[tuple[int, "PlanNode"]]:
        """This step and all below it, with their depths."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole plan."""

    root: PlanNode

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits, equal for plans of the same shape whatever the estimates."""
        shape = [(depth, node.operation, node.table, node.index) for depth, node in self.root.walk()]
        return blake2b(repr(shape).encode(), digest_size=8).hexdigest()

    @property
    def text(self) -> str:
        """One line per step, indented."""
        return "\n".join("  " * depth + _line(node) for depth, node in self.root.walk())

    @property
    def findings(self) -> tuple[str, ...]:
        """What is remarkable about it, in sentences."""
        found = (
            f"It reads the whole table {node.table}"
            + (f" (about {node.rows:,.0f} rows expected)" if node.rows else "")
            + (f" to find {node.condition}: an index on those columns would spare that." if node.condition else ".")
            for _, node in self.root.walk()
            if node.reads_all and node.table
        )
        return tuple(dict.fromkeys(found))

    def as_json(self) -> dict[str, Any]:
        """For the history and the API."""
        return {"hash": self.hash, "text": self.text, "findings": list(self.findings)}


def _line(node: PlanNode) -> str:
    parts = [
        node.operation,
        f"on {node.table}" if node.table else "",
        f"using {node.index}" if node.index else "",
        f"rows={node.rows:.0f}" if node.rows is not None else "",
        f"cost={node.cost:.2f}" if node.cost is not None else "",
        f"where {node.condition}" if node.condition else "",
    ]
    return " ".join(part for part in parts if part)

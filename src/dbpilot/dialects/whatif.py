"""What would a statement cost if there were other indexes? Each database has a way of its own to answer that."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from sqlalchemy import Engine

from dbpilot.dialects.catalog import Catalog, Key
from dbpilot.dialects.plan import PlanNode
from dbpilot.unsupported import Unsupported

Grade = Literal["measured", "what-if", "estimate"]
"""How something is known: by running it, by asking the optimizer about an index that is not there, or by a model."""


@dataclass(frozen=True, slots=True)
class NewIndex:
    """An index that does not exist yet; equal to another when it would be the same one."""

    table: str
    keys: tuple[Key, ...]
    include: tuple[str, ...] = ()
    unique: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its key's columns; of an expression, its text."""
        return tuple(key.column or key.expression or "" for key in self.keys)


@dataclass(frozen=True, slots=True)
class Query:
    """A statement to ask about, as the driver takes it; it is never executed by a what-if."""

    statement: str = field(repr=False)
    parameters: Any = field(default=None, repr=False)
    """None where the values stand in the statement, or where there are none: then its placeholders are as the server
    writes them (``$1``, ``?``), and what cannot be planned without values is Unsupported."""


@dataclass(frozen=True, slots=True)
class Cost:
    """How a database would answer."""

    total: float
    """In the database's own unit, and comparable with other answers of the same what-if only."""
    used: frozenset[NewIndex]
    """Which of the new indexes it would use."""
    used_names: frozenset[str]
    """Which of the present indexes it would use, as ``table.index``."""
    root: PlanNode


class WhatIf(Protocol):
    """Asks about one database; used by one thread, and closed after use, which leaves no trace in the database."""

    grade: Grade
    method: str
    """In words: what the answers rest on."""
    calls: int
    """How often the optimizer was asked."""

    def cost(self, query: Query, indexes: Iterable[NewIndex] = (), without: Iterable[str] = ()) -> Cost | Unsupported:
        """What it would cost with these indexes besides the present ones, ``without`` those (``table.index``).

        Unsupported where the statement cannot be planned, or not without these; says why. Nothing is executed, and no
        table of the application is changed or locked for longer than a plan takes.

        Raises:
            WatchedDatabaseError: the database cannot be reached any more.
        """

    def size_bytes(self, index: NewIndex) -> float:
        """How large the index would be, in bytes, freshly built."""


class OpensWhatIf(Protocol):
    """A dialect's way in."""

    def __call__(self, engine: Engine, catalog: Catalog) -> AbstractContextManager[WhatIf]:
        """``engine``: one whose connections are the caller's own, see :func:`dbpilot.dialects.connections.own_engine`.

        Raises:
            RefusedError: there is no way on this database, for this user; says why, and what would change that.
            WatchedDatabaseError: the database cannot be reached, or refuses.
        """

"""The questions that dbpilot asks about a database."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine

from dbpilot.dialects.catalog import ReadsCatalog, SamplesTable
from dbpilot.dialects.checkup import Check
from dbpilot.dialects.ddl import Ddl
from dbpilot.dialects.plan import PlanNode
from dbpilot.dialects.whatif import OpensWhatIf
from dbpilot.sql.syntax import Syntax
from dbpilot.unsupported import Unsupported

NOT_ALLOWED: Final = "its user has not the right to do that"
READ_ONLY: Final = "it may only be read"
NO_SPACE: Final = "it has no space left"
LOCKED: Final = "somebody else has a lock"


@dataclass(frozen=True, slots=True)
class Identity:
    """Which product answers, and in which version; the version is None until a first connection was made."""

    product: str
    version: str | None


@dataclass(frozen=True, slots=True)
class ServerStatement:
    """What a server counted of one of its patterns, whoever sent it, since it began to count."""

    digest: str
    """The server's own name for the pattern."""
    pattern_id: str
    """Ours: several of the server's patterns may be one of ours."""
    query: str
    """Values hidden."""
    calls: int
    total_s: float
    rows: int
    rows_examined: int | None
    errors: int | None
    """None where the server does not count them."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many connections a server, or the bound that is nearest for this user, allows."""

    max_connections: int
    reserved: int
    """Of these, kept for administrators."""
    in_use: int
    """Of these, taken now, the one that asks left out."""

    @property
    def free(self) -> int:
        """As many could be opened."""
        return self.max_connections - self.reserved - self.in_use


@dataclass(frozen=True, slots=True)
class Dialect:
    """One kind of database."""

    syntax: Syntax
    """How its SQL is spelled."""

    product: Callable[[Engine], str]
    """The product's name, as far as the driver tells."""

    error_code: Callable[[BaseException], str | None]
    """The server's own code of a driver error (SQLSTATE, error number, ...); None when the driver gives none."""

    reasons: Mapping[str, str]
    """What is in the way until somebody mends it, or ends it, by such a code."""

    explain: Callable[[Connection, str, Any], PlanNode]
    """The plan of a statement with its parameters, as the driver takes them; it is not executed."""

    server_statements: Callable[[Connection, int], list[ServerStatement] | Unsupported]
    """What the server itself counted, by its own patterns, most time first."""

    capacity: Callable[[Connection], Capacity | Unsupported] | Unsupported
    """How many connections the server allows, and has; Unsupported where there is no server."""

    catalog: ReadsCatalog
    """What tables, columns, indexes and foreign keys there are, and what is known of them."""

    sampled: SamplesTable
    """What some of a table's rows tell of columns without statistics; the only question that reads rows."""

    ddl: Ddl
    """How indexes are made and taken away while others read and write."""

    what_if: OpensWhatIf
    """What statements would cost with other indexes."""

    checks: tuple[Check, ...]
    """What may be off on such a database."""

    def identity(self, engine: Engine) -> Identity:
        """What answers behind this engine, from what SQLAlchemy learned at its first connection."""
        version = getattr(engine.dialect, "server_version_info", None)
        return Identity(self.product(engine), ".".join(str(part) for part in version) if version else None)

    def error_class(self, error: BaseException) -> str:
        """The error's class, and its code where there is one: ``IntegrityError 1062``. Never its message, which
        repeats values."""
        code = self.error_code(error)
        return f"{type(error).__name__} {code}" if code else type(error).__name__

    def failure(self, error: BaseException) -> str:
        """The same with what is in the way, where the code says that."""
        kind, reason = self.error_class(error), self.reasons.get(self.error_code(error) or "")
        return f"{kind}, {reason}" if reason else kind

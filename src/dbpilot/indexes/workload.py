"""What a database is asked, as far as it is known: statements, how often, and how long they take."""

from dataclasses import dataclass

from dbpilot.dialects.whatif import Query
from dbpilot.sql.predicates import Predicates


@dataclass(frozen=True, slots=True)
class Statement:
    """One pattern of the workload."""

    id: str
    """The pattern's id, see :func:`dbpilot.sql.fingerprint.fingerprint`."""
    text: str
    """Values hidden; to be shown and stored."""
    samples: tuple[Query, ...]
    """Executions to ask about, with the values of real ones where they are known; neither shown nor stored."""
    predicates: Predicates | None
    """None where the statement could not be read."""
    calls: float
    """How often it ran in the time that the workload covers."""
    total_s: float | None
    """How long all of that took, in seconds; None where nobody measured."""
    sources: tuple[str, ...] = ()
    """The lines of code that send it, most often first."""
    real_values: bool = True
    """Whether the samples' values are real ones, rather than made up from statistics or left open."""

    @property
    def mean_s(self) -> float | None:
        """Of one execution."""
        return None if self.total_s is None or not self.calls else self.total_s / self.calls


@dataclass(frozen=True, slots=True)
class Workload:
    """Statements, most time first where it is known."""

    statements: tuple[Statement, ...]
    source: str
    """In words: where it is from."""
    covers_s: float | None = None
    """How long it was watched; None where it is not known."""
    left_out: int = 0
    """Statements that could not be read."""

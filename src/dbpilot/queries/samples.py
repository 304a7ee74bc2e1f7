"""A few real executions of each pattern, for as long as the process lives: to ask what they would cost otherwise.

They are the application's data. They are neither written anywhere nor shown.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any, Final
from uuid import UUID

from dbpilot.dialects.whatif import Query
from dbpilot.history.store import Pattern

PER_PATTERN: Final = 3
MAX_PATTERNS: Final = 1000
MAX_PARAMETERS: Final = 4096
"""Bytes of an execution's parameters, about; one with more is not kept."""
MAX_STATEMENT: Final = 16_384
"""Characters of a statement, which may have its values in it; a longer one is not kept."""
READING: Final = "SELECT"
CHANGING: Final = frozenset({"UPDATE", "DELETE"})
ONE_VALUE: Final = frozenset(
    {type(None), bool, int, float, str, bytes, Decimal, date, datetime, time, timedelta, UUID},
)
"""What parameters consist of; whose are of other kinds is not kept, for nobody knows how large they are or whether
they change."""
SEED: Final = 7


@dataclass(slots=True)
class _Kept:
    """Of one pattern."""

    queries: list[Query] = field(default_factory=list)
    seen: int = 0
    """Executions that were offered and differed from those that were kept."""


class Samples:
    """One thread at a time may use it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._rng = Random(SEED)  # noqa: S311 - no secret depends on it

    def offer(self, pattern: Pattern, statement: str, parameters: Any) -> None:
        """The execution may be kept: of one pattern up to three that differ, each with the same chance.

        Of more patterns than there is room for, those that were offered last are known.
        """
        if not is_asked_about(pattern) or len(statement) > MAX_STATEMENT or size_of(parameters) > MAX_PARAMETERS:
            return
        kept = self._kept.setdefault(pattern.id, _Kept())
        self._kept.move_to_end(pattern.id)
        while len(self._kept) > MAX_PATTERNS:
            self._kept.popitem(last=False)
        query = Query(statement, _copied(parameters))
        if query not in kept.queries:
            self._choose(kept, query)

    def _choose(self, kept: _Kept, query: Query) -> None:
        """Reservoir sampling (Vitter, "Random Sampling with a Reservoir", 1985: algorithm R)."""
        kept.seen += 1
        if len(kept.queries) < PER_PATTERN:
            kept.queries.append(query)
            return
        place = self._rng.randrange(kept.seen)
        if place < PER_PATTERN:
            kept.queries[place] = query

    def of(self, ids: Iterable[str]) -> Mapping[str, tuple[Query, ...]]:
        """The executions kept of these patterns; nothing for those of which there are none."""
        return {id_: tuple(self._kept[id_].queries) for id_ in ids if id_ in self._kept}


def is_asked_about(pattern: Pattern) -> bool:
    """Whether indexes may help it: it reads, or looks for the rows that it changes."""
    return pattern.operation == READING or (pattern.operation in CHANGING and " WHERE " in pattern.text)


def size_of(parameters: Any) -> float:
    """The bytes that parameters take, about; infinite for several rows of them, and for kinds of values unknown."""
    if parameters is None:
        return 0
    values = list(parameters.values()) if isinstance(parameters, Mapping) else parameters
    if not isinstance(values, list | tuple):
        return float("inf")
    if values and isinstance(values[0], Mapping | tuple):
        return float("inf")
    return sum(map(_size_of_value, values))


def _size_of_value(value: Any) -> float:
    if isinstance(value, list | tuple):  # of an array
        return sum(map(_size_of_value, value))
    if type(value) not in ONE_VALUE:
        return float("inf")
    return len(value) if isinstance(value, str | bytes) else 8


def _copied(parameters: Any) -> Any:
    """The same, whatever the application does with its own afterwards."""
    if isinstance(parameters, Mapping):
        return {name: _copied_value(value) for name, value in parameters.items()}
    return None if parameters is None else tuple(map(_copied_value, parameters))


def _copied_value(value: Any) -> Any:
    return [_copied_value(one) for one in value] if isinstance(value, list | tuple) else value

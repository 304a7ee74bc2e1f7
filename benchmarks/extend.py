"""Extend, the strongest of the published ways to choose indexes, as a peer that is measured in the same run.

After Schlosser, Kossmann and Boissier, "Efficient Scalable Multi-attribute Index Selection Using Recursive Strategies"
(2019): one step after another, either an index of one column is added or one that was chosen gets a further column,
whichever saves most for its bytes, until nothing that fits saves a share of what is left.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from dbpilot.dialects.catalog import Catalog, Key
from dbpilot.dialects.whatif import NewIndex, Query, WhatIf
from dbpilot.indexes.workload import Workload
from dbpilot.sql.predicates import TableUse
from dbpilot.unsupported import Unsupported

WIDTH: Final = 2
"""Columns of an index: with three, others found little more, for twice the questions."""
LEAST: Final = 0.003
"""The share of what is left that a step has to save."""
Chosen = frozenset[NewIndex]


@dataclass
class Extend:
    """Chooses for one workload; every answer of the optimizer is asked for once."""

    what_if: WhatIf
    workload: Workload
    catalog: Catalog
    repeats_keys: bool
    """Whether an index may begin like one that is there: the published way asks for a second copy of a primary key's
    beginning, which is smaller than the key."""
    questions: int = 0
    _known: dict[tuple[str, Chosen], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._columns = {
            one.id: {(use.table, column) for use in one.predicates.uses for column in _columns_of(use)}
            for one in self.workload.statements
            if one.predicates is not None
        }
        self._all = sorted(set().union(*self._columns.values()))

    def chosen(self, budget_bytes: float) -> Chosen:
        """The set within so many bytes."""
        found: Chosen = frozenset()
        left = self._total(found)
        while True:
            steps = [
                (saved / max(self._size(wider) - self._size(found), 1.0), saved, wider)
                for wider in self._steps(found)
                if self._size(wider) <= budget_bytes and (saved := left - self._total(wider)) >= LEAST * left
            ]
            if not steps:
                return found
            _, saved, found = max(steps, key=lambda step: step[:2])
            left -= saved

    def _steps(self, found: Chosen) -> Iterator[Chosen]:
        first = {(index.table, index.columns[0]) for index in found}
        for table, column in self._all:
            new = NewIndex(table, (Key(column),))
            if (table, column) not in first and self._may(new):
                yield found | {new}
            for index in found:
                if index.table == table and len(index.keys) < WIDTH and column not in index.columns:
                    wider = replace(index, keys=(*index.keys, Key(column)))
                    if self._may(wider):
                        yield found - {index} | {wider}

    def _may(self, index: NewIndex) -> bool:
        there = self.catalog.tables[index.table].indexes
        return self.repeats_keys or not any(one.keys[: len(index.keys)] == index.keys for one in there)

    def _size(self, indexes: Chosen) -> float:
        return sum(self.what_if.size_bytes(index) for index in indexes)

    def _total(self, indexes: Chosen) -> float:
        return sum(self._cost(number, indexes) for number in self._columns)

    def _cost(self, number: str, indexes: Chosen) -> float:
        tables = {table for table, _ in self._columns[number]}
        asked = number, frozenset(index for index in indexes if index.table in tables)
        if asked not in self._known:
            self.questions += 1
            self._known[asked] = _told(self.what_if, self.workload, *asked)
        return self._known[asked]


def _told(what_if: WhatIf, workload: Workload, number: str, indexes: Chosen) -> float:
    [sample] = [one.samples[0] for one in workload.statements if one.id == number]
    cost = what_if.cost(Query(sample.statement), indexes)
    if isinstance(cost, Unsupported):
        raise RuntimeError(f"query {number}: {cost.reason}")
    return cost.total


def _columns_of(use: TableUse) -> set[str]:
    """Where an index could be of use."""
    joined = [join.column for join in use.joins]
    sorted_by = [sort.column for sort in use.order]
    arms = [column for arm in use.arms for column in arm]
    return {*use.equal, *joined, *use.ranges, *use.group, *use.distinct, *sorted_by, *arms}

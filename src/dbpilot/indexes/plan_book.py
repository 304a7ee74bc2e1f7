"""What is known of how queries could be answered, from as few questions to the optimizer as can be.

A plan that uses only some of the indexes it may use stays the best when those that it leaves alone are taken away. So
one answer stands for many sets of indexes, and a question whose answer follows from others is not asked.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from dbpilot.dialects.whatif import Cost, NewIndex, Query, WhatIf
from dbpilot.unsupported import Unsupported

SAME: Final = 0.999
"""A cost that is nearer to the present one than this is the same: no index is worth less."""

Set = frozenset[NewIndex]


@dataclass(frozen=True, slots=True)
class _Answer:
    allowed: Set
    cost: Cost


@dataclass(slots=True)
class Asked:
    """One query, and what is known of it."""

    query: Query
    relevant: tuple[NewIndex, ...]
    """The indexes that may matter to it."""
    base: float
    """What it costs now."""
    now: Cost
    answers: list[_Answer] = field(default_factory=list)

    def known(self, allowed: Set) -> Cost | None:
        """The answer that follows from others; None if none does."""
        for answer in self.answers:
            if answer.cost.used <= allowed <= answer.allowed:
                return answer.cost
        return None

    @property
    def plans(self) -> dict[Set, float]:
        """What it costs by the indexes that it would use; the cheapest where the same ones cost differently."""
        found: dict[Set, float] = {frozenset(): self.base}
        for answer in self.answers:
            used = answer.cost.used
            found[used] = min(answer.cost.total, found.get(used, answer.cost.total))
        return found


class PlanBook:
    """Asks one what-if, and remembers what it answered."""

    def __init__(self, what_if: WhatIf) -> None:
        self._what_if = what_if
        self._impossible: Set = frozenset()
        """Indexes that this database would not make."""

    def open(self, query: Query, relevant: Iterable[NewIndex]) -> Asked | Unsupported:
        """The query, with what it costs now; Unsupported where the database cannot plan it."""
        now = self._what_if.cost(query)
        if isinstance(now, Unsupported):
            return now
        asked = Asked(query, tuple(relevant), now.total, now)
        asked.answers.append(_Answer(frozenset(), now))
        return asked

    def ask(self, asked: Asked, allowed: Iterable[NewIndex]) -> float:
        """What the query costs when it may use these indexes."""
        wanted = frozenset(asked.relevant) & frozenset(allowed)
        return self._ask(asked, wanted).total

    def used(self, asked: Asked, allowed: Iterable[NewIndex]) -> Set:
        """The indexes that the query would use, of these."""
        return self._ask(asked, frozenset(asked.relevant) & frozenset(allowed)).used

    def _ask(self, asked: Asked, indexes: Set) -> Cost:
        wanted = indexes - self._impossible
        known = asked.known(wanted)
        if known is not None:
            return known
        cost = self._cost(asked, wanted)
        if isinstance(cost, Unsupported):
            culprits = frozenset(index for index in wanted if isinstance(self._cost(asked, {index}), Unsupported))
            self._impossible |= culprits
            return self._ask(asked, wanted) if culprits else asked.now
        asked.answers.append(_Answer(wanted, cost))
        return cost

    def _cost(self, asked: Asked, indexes: Iterable[NewIndex]) -> Cost | Unsupported:
        """In an order of their own: of plans that cost the same an optimizer takes the one that it meets first."""
        return self._what_if.cost(asked.query, sorted(indexes, key=repr))

    def peel(self, asked: Asked, sizes: Mapping[NewIndex, float], most: int) -> None:
        """The best plan is known, and the best with smaller and smaller indexes only, by at most so many questions."""
        allowed = frozenset(asked.relevant)
        for _ in range(most):
            cost = self._ask(asked, allowed)
            if not cost.used or cost.total >= SAME * asked.base:
                return
            largest = max(sizes[index] for index in cost.used)
            allowed = frozenset(index for index in allowed if sizes[index] < largest)

"""Which of many possible indexes together save most, within so many bytes; pure, and without asking a database.

Of every query some plans are known: which new indexes each needs, and what it costs. A set of indexes makes a query
cost what its cheapest plan costs of which every index is in the set. That is what the optimizer would choose among the
known ones, so a set is never praised for a plan that nobody has seen.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Final

LEAST_RATIO: Final = 1e-4
"""Below this share of its present cost a query saves nothing more by costing even less."""
STEEPNESS: Final = (1.0, 0.6, 0.3)
"""How much size counts when one index after another is chosen; the best of these ways wins."""
MAX_ROUNDS: Final = 40
PAIRED: Final = 5
"""So many of the largest indexes are also given up two at a time."""
REFILLS: Final = 2
"""What becomes free is used up in so many steps."""
MIN_GAIN: Final = 1e-9


@dataclass(frozen=True, slots=True)
class PlanCost:
    """One way to answer a query."""

    needs: int
    """The indexes, as bits."""
    ratio: float
    """Its cost, as a share of what the query costs now."""


@dataclass(frozen=True, slots=True)
class Demand:
    """One query, and the ways known to answer it."""

    weight: float
    """Its share of the workload; those of all queries add up to one."""
    plans: tuple[PlanCost, ...]
    """The cheapest first."""


@dataclass(frozen=True, slots=True)
class Option:
    """One possible index."""

    size_bytes: float
    price: float = 0.0
    """What it costs to keep up: as a share of the workload, like what queries save by it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What has to be chosen from."""

    demands: tuple[Demand, ...]
    options: tuple[Option, ...]
    budget_bytes: float = math.inf
    evenness: float = 0.0
    """How much it counts, from 0 to 1, that every query becomes a multiple faster, rather than that all together cost
    less: an optimizer's costs of unlike queries can hardly be added up."""
    excludes: tuple[tuple[int, int], ...] = ()
    """Pairs of options (as numbers) of which only one makes sense."""


@dataclass(frozen=True, slots=True)
class _Gains:
    """A set of indexes, and what every move would save beside it."""

    chosen: int
    gains: list[float]


class Chooser:
    """Searches one problem: greedily in several ways, each then improved by exchanges."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._sizes = [option.size_bytes for option in problem.options]
        self._prices = [option.price for option in problem.options]
        self._rivals = self._all_rivals()
        self._felt = self._all_felt()
        self._mattering = [_any_of(plan.needs for plan in demand.plans) for demand in problem.demands]
        self._known: list[dict[int, float]] = [{} for _ in problem.demands]
        self._demands_of = self._by_option()
        self._moves = self._all_moves()

    def good(self, start: int = 0) -> int:
        """A set from a quick search; as good as ``start``, or better, where that fits."""
        found = {self._greedy(STEEPNESS[1])} | ({start} if self._fits(start) else set())
        return self._improved(min(found, key=self._rank), paired=0)

    def best(self) -> int:
        """The indexes of the best set found, as bits."""
        likely = sorted({self._greedy(steepness) for steepness in STEEPNESS}, key=self._rank)[:2]
        return min((self._improved(one) for one in likely), key=self._rank)

    def loss(self, chosen: int) -> float:
        """What the workload costs with these indexes, their upkeep included."""
        felt = sum(self._felt_of(number, chosen) for number in range(len(self._felt)))
        return felt + self._sum(self._prices, chosen)

    def _rank(self, chosen: int) -> tuple[float, float]:
        return self.loss(chosen), self._sum(self._sizes, chosen)

    def _all_rivals(self) -> list[int]:
        """For each option those that make no sense beside it, as bits."""
        found = [0] * len(self._problem.options)
        for one, other in self._problem.excludes:
            found[one] |= 1 << other
            found[other] |= 1 << one
        return found

    def _all_felt(self) -> list[list[tuple[int, float]]]:
        """For each demand what its plans need, and how much they hurt; the one that hurts least first."""
        even = [math.sqrt(demand.weight) for demand in self._problem.demands]
        whole, evenness = sum(even) or 1.0, self._problem.evenness
        return [
            [
                (plan.needs, (1 - evenness) * demand.weight * plan.ratio + evenness * root / whole * _times(plan.ratio))
                for plan in (*demand.plans, PlanCost(0, 1.0))
            ]
            for demand, root in zip(self._problem.demands, even, strict=True)
        ]

    def _felt_of(self, number: int, chosen: int) -> float:
        """How much a demand hurts with these indexes."""
        known, mattering = self._known[number], chosen & self._mattering[number]
        found = known.get(mattering)
        if found is None:
            found = next(felt for needs, felt in self._felt[number] if not needs & ~mattering)
            known[mattering] = found
        return found

    def _by_option(self) -> list[int]:
        """For each option the demands that it may matter to, as bits."""
        found = [0] * len(self._problem.options)
        for number, mattering in enumerate(self._mattering):
            for option in bits(mattering):
                found[option] |= 1 << number
        return found

    def _all_moves(self) -> list[tuple[int, int, int]]:
        """Sets of indexes worth adding at once: each that a plan needs, and all that a plan needs; with the demands
        that they may matter to, and with the options that make no sense beside them."""
        plans = [plan.needs for demand in self._problem.demands for plan in demand.plans if plan.needs]
        alone = [1 << number for number in bits(_any_of(plans))]
        found = []
        for move in dict.fromkeys([*alone, *plans]):
            rivals = _any_of(self._rivals[number] for number in bits(move))
            if not rivals & move:
                found.append((move, _any_of(self._demands_of[number] for number in bits(move)), rivals))
        return found

    @staticmethod
    def _sum(figures: list[float], chosen: int) -> float:
        return sum(figures[number] for number in bits(chosen))

    def _change(self, before: int, after: int) -> float:
        """By how much the loss becomes smaller; only queries are looked at that the difference may matter to."""
        touched, saved = 0, 0.0
        for number in bits(before ^ after):
            touched |= self._demands_of[number]
            saved += self._prices[number] if before >> number & 1 else -self._prices[number]
        return saved + sum(self._felt_of(one, before) - self._felt_of(one, after) for one in bits(touched))

    def _fits(self, chosen: int) -> bool:
        return self._sum(self._sizes, chosen) <= self._problem.budget_bytes and not any(
            self._rivals[number] & chosen for number in bits(chosen)
        )

    def _gains(self, chosen: int, known: "_Gains | None" = None) -> "_Gains":
        """What every move would save; ``known`` are those of another set: what does not differ is not looked at."""
        changed, removed = ~0, 0
        if known is not None:
            changed, removed = 0, known.chosen ^ chosen
            for number in bits(removed):
                changed |= self._demands_of[number]
        gains = []
        for place, (move, touched, rivals) in enumerate(self._moves):
            if known is not None and not touched & changed and not (move | rivals) & removed:
                gains.append(known.gains[place])
            else:
                wider = chosen & ~rivals | move
                gains.append(0.0 if wider == chosen else self._change(chosen, wider))
        return _Gains(chosen, gains)

    def _wider(self, known: "_Gains", steepness: float) -> int:
        """The set with the move that is most worth its bytes; the same where none is."""
        chosen = known.chosen
        best, best_worth, left = chosen, 0.0, self._problem.budget_bytes - self._sum(self._sizes, chosen)
        for gain, (move, _, rivals) in zip(known.gains, self._moves, strict=True):
            if gain <= MIN_GAIN:
                continue
            more = self._sum(self._sizes, move & ~chosen) - self._sum(self._sizes, chosen & rivals & ~move)
            worth = gain / max(more, 1.0) ** steepness
            if worth > best_worth and more <= left:
                best, best_worth = chosen & ~rivals | move, worth
        return best

    def _greedy(self, steepness: float) -> int:
        known = self._gains(0)
        while (wider := self._wider(known, steepness)) != known.chosen:
            known = self._gains(wider, known)
        return known.chosen

    def _improved(self, chosen: int, paired: int = PAIRED) -> int:
        """One index, or two, are given up if something better then fits, until nothing does."""
        for _ in range(MAX_ROUNDS):
            chosen = self._pruned(chosen)
            better = next(self._better(chosen, paired), chosen)
            if better == chosen:
                return chosen
            chosen = better
        return chosen

    def _better(self, chosen: int, paired: int) -> Iterator[int]:
        known = self._gains(chosen)
        wider = self._wider(known, 0.0)
        if wider != chosen:
            yield wider
        by_size = sorted(bits(chosen), key=lambda number: -self._sizes[number])
        pairs = [1 << one | 1 << other for one, other in combinations(by_size[:paired], 2)]
        for gone in [*(1 << number for number in by_size), *pairs]:
            fewer = self._gains(chosen & ~gone, known)
            for steepness in (0.3, 1.0):
                rival = fewer
                for _ in range(REFILLS):
                    wider = self._wider(rival, steepness)
                    if wider == rival.chosen:
                        break
                    rival = self._gains(wider, rival)
                if self._change(chosen, rival.chosen) > MIN_GAIN:
                    yield rival.chosen

    def _pruned(self, chosen: int) -> int:
        """The set without indexes that save nothing beside the others."""
        for number in sorted(bits(chosen), key=lambda one: -self._sizes[one]):
            if self._change(chosen, chosen & ~(1 << number)) >= 0:
                chosen &= ~(1 << number)
        return chosen


def _times(ratio: float) -> float:
    """How many times faster, as a logarithm to base 10, below zero."""
    return math.log10(max(ratio, LEAST_RATIO))


def ratio_of(demand: Demand, chosen: int) -> float:
    """What the query costs with these indexes, as a share of what it costs now."""
    return next((plan.ratio for plan in demand.plans if not plan.needs & ~chosen), 1.0)


def bits(number: int) -> Iterator[int]:
    """The places of the ones."""
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


def _any_of(numbers: Iterable[int]) -> int:
    found = 0
    for number in numbers:
        found |= number
    return found


def demand_of(weight: float, plans: Iterable[PlanCost]) -> Demand:
    """The query with its plans in order, without those that cost more and need as much as another."""
    kept: list[PlanCost] = []
    for plan in sorted(plans, key=lambda one: (one.ratio, one.needs.bit_count())):
        if plan.ratio <= 1 and not any(not other.needs & ~plan.needs for other in kept):
            kept.append(plan)
    return Demand(weight, tuple(kept))

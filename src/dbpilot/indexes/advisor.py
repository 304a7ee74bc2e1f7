"""Which new indexes a workload wants: asked of the database's own optimizer, and chosen as one set."""

import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Final

from dbpilot.dialects.catalog import Catalog
from dbpilot.dialects.whatif import Grade, NewIndex, WhatIf
from dbpilot.indexes.candidates import candidates, name_of
from dbpilot.indexes.choice import Chooser, Demand, Option, PlanCost, Problem, bits, demand_of
from dbpilot.indexes.plan_book import Asked, PlanBook
from dbpilot.indexes.score import Served
from dbpilot.indexes.workload import Statement, Workload
from dbpilot.sql.predicates import TableUse, Written
from dbpilot.unsupported import Unsupported

PRICE_OF_A_WRITE: Final = 0.1
"""By this share a statement that writes takes longer for one index more: 7 to 12 percent were measured."""
PAYS: Final = 1.5
"""What an index saves has to be so many times what it costs."""
MAX_SHARE: Final = 0.15
"""No statement counts for more where indexes are chosen: its cost is an estimate, and one wrong estimate must not
decide all. What is told of the chosen ones are shares of what was really spent."""
PEELED: Final = 5
ROUNDS: Final = 8
SMALL: Final = 0.03
"""An index is small that takes so little of the budget."""
LOOKED: Final = 0.6
"""Of all questions so many are asked before anything is chosen."""
SAVES: Final = 0.98
"""An index is said to help a statement that costs at most this share of what it cost before."""
NEARLY: Final = 0.5
"""Others can do nearly the same as an index that saves less than this share of what it would save without them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What advice has to keep to."""

    budget_bytes: float = math.inf
    """How large all new indexes may be together."""
    most_calls: int = 500
    """How often the optimizer may be asked, about."""
    min_gain: float = 0.001
    """The share of the workload that an index has to save at least."""
    evenness: float = 0.2
    """See :attr:`dbpilot.indexes.choice.Problem.evenness`."""


@dataclass(frozen=True, slots=True)
class Gain:
    """What the set does for one statement that uses an index."""

    pattern_id: str
    query: str
    """Values hidden."""
    sources: tuple[str, ...]
    calls: float
    total_s: float | None
    before: float
    after: float
    """Costs, in the database's own unit: with all advice followed, and now."""

    @property
    def ratio(self) -> float:
        """What it would cost, as a share of what it costs now."""
        return self.after / self.before if self.before else 1.0


@dataclass(frozen=True, slots=True)
class NewIndexAdvice:
    """One index to create."""

    index: NewIndex
    name: str
    size_bytes: float
    gains: tuple[Gain, ...]
    """Of the statements that would use it, those first that it saves most."""
    saves: float
    """The share of what was spent on the workload that the whole set would not save without it."""
    write_price: float
    """How much of the workload it costs to keep up."""
    grade: Grade
    real_values: bool
    """Whether the optimizer was asked with values that were really sent."""
    stand_in: "StandIn | None" = None
    """What could do nearly the same in its place."""


@dataclass(frozen=True, slots=True)
class StandIn:
    """Advised indexes beside which another one saves little, as they could do nearly the same."""

    name: str | None
    """The index; None where it takes several."""
    saves: float
    """The share of what was spent on the workload that the other one would save without them."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Everything that came of asking."""

    advice: tuple[NewIndexAdvice, ...]
    """What saves most first."""
    statements: int
    """Judged ones."""
    not_judged: Mapping[str, str]
    """Reasons by pattern id."""
    calls: int
    method: str
    grade: Grade
    before: float
    after: float
    """What was spent on the workload: 1, and the share of it that would be left."""
    served: Mapping[str, Served]
    """What the workload costs at each table, as shares of the whole workload."""
    used: Mapping[str, tuple[str, ...]]
    """The pattern ids that use each present index (``table.index``)."""


@dataclass(frozen=True, slots=True)
class _Judged:
    statement: Statement
    asked: tuple[Asked, ...]
    """One for each sample."""

    @property
    def base(self) -> float:
        return sum(one.base for one in self.asked) / len(self.asked)


def advise(
    catalog: Catalog,
    workload: Workload,
    what_if: WhatIf,
    limits: Limits = Limits(),
    taken_back: Container[tuple[str, str]] = (),
) -> Proposal:
    """The set of new indexes that saves most of the workload, as far as the limits allow; of indexes that were
    ``taken_back`` (table and name) lately nothing is thought to be achievable.

    Raises:
        WatchedDatabaseError: the database cannot be reached any more.
    """
    return _Advisor(catalog, workload, what_if, limits, taken_back).proposal()


class _Advisor:
    def __init__(
        self,
        catalog: Catalog,
        workload: Workload,
        what_if: WhatIf,
        limits: Limits,
        taken_back: Container[tuple[str, str]],
    ) -> None:
        self._catalog = catalog
        self._workload = workload
        self._what_if = what_if
        self._limits = limits
        self._taken_back = taken_back
        self._book = PlanBook(what_if)
        self._not_judged: dict[str, str] = {}
        self._options = self._candidates()
        self._judged = list(self._opened())

    def _candidates(self) -> tuple[NewIndex, ...]:
        readable = [one for one in self._workload.statements if one.predicates is not None]
        asked = [one.predicates for one in readable if one.predicates is not None]
        return candidates(asked, self._catalog, [max(one.calls, 1.0) for one in readable])

    def _opened(self) -> Iterable[_Judged]:
        for statement in self._workload.statements:
            if statement.predicates is None:
                self._not_judged[statement.id] = "it could not be read"
                continue
            relevant = [one for one in self._options if any(matters(one, use) for use in statement.predicates.uses)]
            opened = [self._book.open(query, relevant) for query in statement.samples]
            asked = tuple(one for one in opened if isinstance(one, Asked))
            if asked and sum(one.base for one in asked) > 0:
                yield _Judged(statement, asked)
            else:
                reasons = [one.reason for one in opened if isinstance(one, Unsupported)]
                self._not_judged[statement.id] = next(iter(reasons), "no execution of it is known")

    def proposal(self) -> Proposal:
        """Asks, chooses, asks what could be better than what was chosen, and chooses again."""
        sizes = dict(zip(self._options, self._sizes, strict=True))
        for asked in self._all_asked():
            self._book.peel(asked, sizes, PEELED)
        self._look_at_each(sizes)
        chosen = self._chooser().good()
        for _ in range(ROUNDS):
            known = self._plans_known()
            for asked, allowed in self._doubts(self._indexes(chosen), sizes):
                if self._what_if.calls >= self._limits.most_calls:
                    break
                self._book.ask(asked, allowed)
            if self._plans_known() == known:
                break
            chosen = self._chooser().good(chosen)
        chooser = self._chooser()
        return self._told(min(chosen, chooser.best(), key=chooser.loss))

    def _look_at_each(self, sizes: Mapping[NewIndex, float]) -> None:
        """Of each query it is known what it does with every single narrow index, beside all that are next to free."""
        bound = SMALL * min(self._limits.budget_bytes, sum(sizes.values()))
        small = frozenset(index for index in self._options if sizes[index] <= bound)
        for asked in self._all_asked():
            for index in asked.relevant:
                if self._what_if.calls >= LOOKED * self._limits.most_calls:
                    return
                if index not in small and not index.include:
                    self._book.ask(asked, small | {index})

    def _all_asked(self) -> list[Asked]:
        return [asked for judged in self._judged for asked in judged.asked]

    def _plans_known(self) -> int:
        return sum(len(asked.plans) for asked in self._all_asked())

    def _doubts(
        self, chosen: frozenset[NewIndex], sizes: Mapping[NewIndex, float]
    ) -> Iterator[tuple[Asked, frozenset[NewIndex]]]:
        """What to ask about a set: whether a query finds a better use for it; what it would do without the largest
        index that it uses, with a smaller one in its place, or with one that does the work of two; and what would still
        fit."""
        for asked in self._all_asked():
            yield asked, chosen
        for index in sorted(chosen, key=lambda one: (-sizes[one], repr(one))):
            others = chosen - {index}
            stand_ins = {one for one in self._options if stands_in(one, index) and sizes[one] < sizes[index]}
            for asked in self._users(index, chosen):
                yield asked, others
                yield asked, others | stand_ins
        for both, one, other in self._unions(chosen):
            fewer = chosen - {one, other} | {both}
            for asked in {id(user): user for index in (one, other) for user in self._users(index, chosen)}.values():
                yield asked, fewer
        left = self._limits.budget_bytes - sum(sizes[index] for index in chosen)
        fitting = frozenset(index for index in self._options if sizes[index] <= left)
        for asked in self._all_asked():
            yield asked, chosen | fitting

    def _users(self, index: NewIndex, chosen: frozenset[NewIndex]) -> list[Asked]:
        return [asked for asked in self._all_asked() if uses([asked], index, chosen)]

    def _unions(self, chosen: frozenset[NewIndex]) -> Iterator[tuple[NewIndex, NewIndex, NewIndex]]:
        """Options that have all that two chosen indexes have, with these."""
        for one, other in combinations(sorted(chosen, key=repr), 2):
            if one.table == other.table and one.columns[0] == other.columns[0]:
                whole = {*one.columns, *one.include, *other.columns, *other.include}
                for both in self._options:
                    has_all = both.table == one.table and whole <= {*both.columns, *both.include}
                    if has_all and both.columns[0] == one.columns[0] and both not in (one, other):
                        yield both, one, other

    @cached_property
    def _sizes(self) -> tuple[float, ...]:
        return tuple(self._what_if.size_bytes(index) for index in self._options)

    @cached_property
    def _weights(self) -> list[float]:
        return capped([self._spent(judged.statement, judged.base) for judged in self._judged], MAX_SHARE)

    @cached_property
    def _whole(self) -> float:
        """What goes into the workload, judged or not, as far as that is known."""
        spent = (
            [one.total_s or 0.0 for one in self._workload.statements]
            if self._is_timed
            else [self._spent(judged.statement, judged.base) for judged in self._judged]
        )
        return sum(spent) or 1.0

    @cached_property
    def _shares(self) -> list[float]:
        """What really goes into each judged statement, as a share of the whole workload."""
        return [self._spent(judged.statement, judged.base) / self._whole for judged in self._judged]

    @cached_property
    def _sought(self) -> float:
        """What goes into the statements that look for rows."""
        seeking = [one for one in self._judged if one.asked[0].relevant]
        return sum(self._spent(judged.statement, judged.base) for judged in seeking) or 1.0

    @cached_property
    def _is_timed(self) -> bool:
        return all(statement.total_s is not None for statement in self._workload.statements)

    def _spent(self, statement: Statement, base: float) -> float:
        """What goes into a statement: seconds where those of all are known, otherwise the optimizer's costs."""
        return statement.total_s or 0.0 if self._is_timed else base * statement.calls

    @cached_property
    def _writing(self) -> tuple[tuple[Written, float], ...]:
        """What statements write, and what goes into each, as a share of what goes into those that look for rows; one
        that the optimizer tells nothing about is taken for as cheap as the cheapest."""
        bases = {judged.statement.id: judged.base for judged in self._judged}
        cheapest = min(bases.values(), default=0.0)
        return tuple(
            (one.predicates.written, self._spent(one, bases.get(one.id, cheapest)) / self._sought)
            for one in self._workload.statements
            if one.predicates is not None and one.predicates.written is not None
        )

    def _price(self, index: NewIndex) -> float:
        """What it takes to keep the index up, as a share of what goes into the workload."""
        return PRICE_OF_A_WRITE * sum(
            spent
            for written, spent in self._writing
            if written.table == index.table and touches(written.columns, index)
        )

    def _demands(self) -> tuple[Demand, ...]:
        numbers = {index: number for number, index in enumerate(self._options)}
        found = []
        for judged, weight in zip(self._judged, self._weights, strict=True):
            for asked in judged.asked:
                plans = (
                    PlanCost(sum(1 << numbers[one] for one in used), cost / asked.base)
                    for used, cost in asked.plans.items()
                )
                found.append(demand_of(weight / len(judged.asked), plans))
        return tuple(found)

    def _problem(self) -> Problem:
        options = tuple(
            Option(size, PAYS * self._price(index) + self._limits.min_gain)
            for index, size in zip(self._options, self._sizes, strict=True)
        )
        return Problem(self._demands(), options, self._limits.budget_bytes, self._limits.evenness, self._excludes)

    @cached_property
    def _excludes(self) -> tuple[tuple[int, int], ...]:
        """Of an index and another that begins with its key only one makes sense."""
        return tuple(
            (one, other)
            for one, narrow in enumerate(self._options)
            for other, wide in enumerate(self._options)
            if one != other and is_prefix(narrow, wide)
        )

    def _chooser(self) -> Chooser:
        return Chooser(self._problem())

    def _indexes(self, chosen: int) -> frozenset[NewIndex]:
        return frozenset(self._options[number] for number in bits(chosen))

    def _told(self, chosen: int) -> Proposal:
        # A little of many statements' cost is within what estimates are worth: it would be nobody's promise.
        all_chosen = self._indexes(chosen)
        idle = [number for number in bits(chosen) if not self._gains(self._options[number], all_chosen)]
        indexes = self._indexes(chosen & ~sum(1 << number for number in idle))
        numbers = [number for number in bits(chosen) if number not in idle]
        advice = sorted((self._advice(number, indexes) for number in numbers), key=lambda one: -one.saves)
        return Proposal(
            advice=tuple(advice),
            statements=len(self._judged),
            not_judged=self._not_judged,
            calls=self._what_if.calls,
            method=self._what_if.method,
            grade=self._what_if.grade,
            before=1.0,
            after=self._left(indexes),
            served=self._served(frozenset(index for index in indexes if not self._was_taken_back(index))),
            used=self._used(),
        )

    def _was_taken_back(self, index: NewIndex) -> bool:
        return (index.table, name_of(index, self._catalog)) in self._taken_back

    def _left(self, indexes: frozenset[NewIndex]) -> float:
        """The share of what is spent on the workload that would be left."""
        return 1 - self._spared(indexes, [True] * len(self._judged))

    def _spared(self, indexes: frozenset[NewIndex], counted: Sequence[bool]) -> float:
        """The share that the statements that count do without."""
        return sum(
            share * (1 - self._cost(judged, indexes) / judged.base)
            for judged, share, counts in zip(self._judged, self._shares, counted, strict=True)
            if counts
        )

    def _gained(self, index: NewIndex, indexes: frozenset[NewIndex]) -> float:
        """The share that would be spent besides if these indexes were without this one."""
        return self._left(indexes - {index}) - self._left(indexes)

    def _stand_in(self, index: NewIndex, indexes: frozenset[NewIndex]) -> StandIn | None:
        saves = self._gained(index, indexes)
        users = [uses(judged.asked, index, indexes) for judged in self._judged]
        if not self._is_much_more(self._spared(indexes, users), saves):
            return None
        others = sorted((one for one in indexes - {index} if one.table == index.table), key=repr)
        without = {other: self._gained(index, indexes - {other}) for other in others}
        best = max(without, key=without.__getitem__, default=None)
        if best is not None and self._is_much_more(without[best], saves):
            return StandIn(name_of(best, self._catalog), without[best])
        alone = self._gained(index, frozenset({index}))
        return StandIn(None, alone) if self._is_much_more(alone, saves) else None

    def _is_much_more(self, alone: float, saves: float) -> bool:
        return saves < NEARLY * alone and alone - saves >= self._limits.min_gain

    def _cost(self, judged: _Judged, indexes: frozenset[NewIndex]) -> float:
        """Known by now for every set that is asked about here, but for one index less at the most."""
        return sum(known_cost(asked, indexes) for asked in judged.asked) / len(judged.asked)

    def _advice(self, number: int, indexes: frozenset[NewIndex]) -> NewIndexAdvice:
        index = self._options[number]
        return NewIndexAdvice(
            index=index,
            name=name_of(index, self._catalog),
            size_bytes=self._sizes[number],
            gains=self._gains(index, indexes),
            saves=self._gained(index, indexes),
            write_price=self._price(index) * self._sought / self._whole,
            grade=self._what_if.grade,
            real_values=all(judged.statement.real_values for judged in self._helped(index, indexes)),
            stand_in=self._stand_in(index, indexes),
        )

    def _helped(self, index: NewIndex, indexes: frozenset[NewIndex]) -> list[_Judged]:
        return [judged for judged in self._judged if uses(judged.asked, index, indexes)]

    def _gains(self, index: NewIndex, indexes: frozenset[NewIndex]) -> tuple[Gain, ...]:
        gains = [self._gain(judged, indexes) for judged in self._helped(index, indexes)]
        useful = [gain for gain in gains if gain.ratio <= SAVES]
        return tuple(sorted(useful, key=lambda gain: gain.calls * (gain.after - gain.before)))

    def _gain(self, judged: _Judged, indexes: frozenset[NewIndex]) -> Gain:
        statement = judged.statement
        after = self._cost(judged, indexes)
        told = (statement.id, statement.text, statement.sources, statement.calls, statement.total_s)
        return Gain(*told, before=judged.base, after=after)

    def _served(self, indexes: frozenset[NewIndex]) -> dict[str, Served]:
        """What a statement costs is counted at each table that it reads, in equal parts."""
        found: dict[str, Served] = {}
        for judged, weight in zip(self._judged, self._shares, strict=True):
            tables = {use.table for use in judged.statement.predicates.uses} if judged.statement.predicates else set()
            part, ratio = weight / max(len(tables), 1), self._cost(judged, indexes) / judged.base
            for table in tables:
                known = found.get(table, Served(0, 0, 0))
                found[table] = Served(
                    known.calls + judged.statement.calls,
                    known.cost + part,
                    known.achievable_cost + part * min(ratio, 1),
                )
        return found

    def _used(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for judged in self._judged:
            for name in sorted({name for asked in judged.asked for name in asked.now.used_names}):
                found.setdefault(name, []).append(judged.statement.id)
        return {name: tuple(ids) for name, ids in found.items()}


def capped(shares: Sequence[float], most: float) -> list[float]:
    """The shares scaled to add up to one, none above ``most`` where there are enough of them."""
    bound = max(most, 1 / len(shares)) if shares else 1.0
    total = sum(shares) or 1.0
    found = [share / total for share in shares]
    for _ in found:
        over = [one > bound for one in found]
        rest = sum(one for one, is_over in zip(found, over, strict=True) if not is_over)
        if not any(over) or not rest:
            break
        left = 1 - bound * sum(over)
        found = [bound if is_over else one * left / rest for one, is_over in zip(found, over, strict=True)]
    whole = sum(found) or 1.0
    return [one / whole for one in found]


def known_cost(asked: Asked, indexes: frozenset[NewIndex]) -> float:
    """The cost of the cheapest known plan that needs no other indexes."""
    return min(cost for used, cost in asked.plans.items() if used <= indexes)


def uses(asked: Iterable[Asked], index: NewIndex, indexes: frozenset[NewIndex]) -> bool:
    """Whether some execution's cheapest plan with these indexes needs this one."""
    return any(
        index in min((one for one in query.plans.items() if one[0] <= indexes), key=lambda one: one[1])[0]
        for query in asked
    )


def matters(index: NewIndex, use: TableUse) -> bool:
    """Whether the index could be of any use where a statement names the table."""
    if index.table != use.table:
        return False
    joined = [join.column for join in use.joins]
    sought = {*use.equal, *joined, *use.ranges, *use.group, *use.distinct, *(sort.column for sort in use.order)}
    sought |= {column for arm in use.arms for column in arm}
    sought |= {defeat.expression for defeat in use.defeats if defeat.expression}
    return index.columns[0] in sought or set(use.all) <= {*index.columns, *index.include}


def touches(columns: Iterable[str], index: NewIndex) -> bool:
    """Whether writing these columns, or whole rows where there are none, writes the index as well."""
    written = set(columns)
    return not written or bool(written & {*index.columns, *index.include})


def stands_in(one: NewIndex, other: NewIndex) -> bool:
    """Whether it begins with the same column, and so may do in the other's place."""
    return one.table == other.table and one.columns[0] == other.columns[0]


def is_prefix(narrow: NewIndex, wide: NewIndex) -> bool:
    """Whether the key of one begins the other's, so that both together hardly make sense."""
    if narrow.table != wide.table or narrow.unique or len(narrow.keys) > len(wide.keys):
        return False
    same_key = narrow.keys == wide.keys[: len(narrow.keys)]
    if len(narrow.keys) == len(wide.keys):
        return same_key and set(narrow.include) < set(wide.include)
    return same_key and set(narrow.include) <= {*wide.columns, *wide.include}

"""What a plan costs, from the optimizer trace: MariaDB 10 says it nowhere else.

The trace repeats the values of the statement: it is read and forgotten, and never shown.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dbpilot.dialects.mysql.explain import Block, loaded

SORT_PER_COMPARISON: Final = 0.02
GROUP_PER_ROW: Final = 0.1
"""In units of MariaDB 10's own costs, where to compare a row that was read costs 0.2. The server counts neither, so
that an index which gives the order would seem to spare nothing. Measured on MariaDB 10.11 with 600,000 rows in memory:
to go through them takes 0.15 s, to put them in order 0.4 s more, and to group them 0.3 s more."""
LEAVES: Final = frozenset(("considered_execution_plans", "rows_estimation", "attaching_conditions_to_tables"))
"""Most of a trace, and no other SELECT is planned in them."""
CONSTANT: Final = 1.0
"""A SELECT whose tables are read while it is planned: one row each."""


Factors = Mapping[tuple[int, str], float]
"""How many times as many rows as the optimizer thinks a SELECT finds in a table, by its number and the alias."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What the optimizer expects of one SELECT."""

    cost: float
    rows: float
    so_far: tuple[tuple[str, float], ...] = ()
    """The tables in the order they are read, each with what it costs up to and with it."""

    def corrected(self, factors: Mapping[str, float]) -> "Planned":
        """The plan when there are so many times as many rows in these tables: what comes after them costs more, too."""
        often, cost, before = 1.0, 0.0, 0.0
        for table, until in self.so_far:
            often *= factors.get(table, 1.0)
            cost += often * (until - before)
            before = until
        return Planned(cost + often * (self.cost - before), self.rows * often)

    def up_to(self, most_rows: int | None) -> "Planned":
        """The plan when reading ends after so many rows that were found."""
        share = 1.0 if most_rows is None else min(1.0, most_rows / max(self.rows, 1.0))
        return Planned(self.cost * share, self.rows * share, self.so_far)


def total_cost(
    blocks: Sequence[Block],
    trace: str,
    factors: Factors,
    spared: Mapping[int, float],
    most_rows: int | None = None,
) -> float:
    """The cost of all SELECTs, each as often as it is answered, with the sorts that the server leaves out.

    ``spared``: what some of them cost less than the optimizer thinks. ``most_rows``: the LIMIT of the outermost one;
    the optimizer minds it only where it weighs an index for its order, but whatever finds rows in order stops there.
    """
    found = dict(_planned(loaded(trace))) if trace else {}
    # What was made a part of the SELECT around it is planned there.
    merged = {alias: factor for (select_id, alias), factor in factors.items() if select_id not in found}
    planned = {
        number: plan.corrected(merged | {alias: factor for (of, alias), factor in factors.items() if of == number})
        for number, plan in found.items()
    }
    times: dict[int | None, float] = {None: 1.0}
    total = 0.0
    for block in blocks:
        around = planned.get(block.parent or 0)
        rows = max(1.0, around.rows) if around and block.repeated else 1.0
        times[block.select_id] = times.get(block.parent, 1.0) * rows
        plan = planned.get(block.select_id)
        if plan is not None and block.parent is None:
            plan = plan.up_to(most_rows)
        once = _cost(block, plan) - spared.get(block.select_id, 0.0)
        total += times[block.select_id] * max(0.0, once)
    return total


def _cost(block: Block, planned: Planned | None) -> float:
    if block.cost is not None:
        return block.cost
    return planned.cost + sorting(block, planned.rows) if planned else 0.0


def sorting(block: Block, rows: float) -> float:
    """What it costs to put so many rows in order and into temporary tables."""
    return block.sorts * SORT_PER_COMPARISON * rows * math.log2(rows + 1) + block.groups * GROUP_PER_ROW * rows


def _planned(found: Any) -> Iterator[tuple[int, Planned]]:
    """Of every SELECT; one that is planned twice comes twice, and the last counts."""
    if isinstance(found, list):
        for part in found:
            yield from _planned(part)
    elif isinstance(found, Mapping):
        for name, part in found.items():
            if name not in LEAVES:
                yield from _planned(part)
            if name == "join_optimization" and isinstance(part, Mapping):
                yield int(part["select_id"]), _join(part["steps"])


def _join(steps: Iterable[Mapping[str, Any]]) -> Planned:
    planned, complete = Planned(CONSTANT, 1.0), list[Planned]()
    for step in steps:
        complete = list(_complete(step.get("considered_execution_plans", ()))) or complete
        if "best_join_order" in step and complete:
            planned = _chosen(complete, step["best_join_order"])
        for choice in step.get("test_if_skip_sort_order", ()):
            planned = _in_order(planned, choice.get("reconsidering_access_paths_for_index_ordering", {}))
    return planned


def _chosen(complete: Sequence[Planned], order: Sequence[str]) -> Planned:
    """The plan that reads the tables in this order; a semi-join is named otherwise in it, then it is the cheapest."""
    named = [plan for plan in complete if [table for table, _ in plan.so_far] == list(order)]
    most = max(len(plan.so_far) for plan in complete)
    return min(named or [plan for plan in complete if len(plan.so_far) == most], key=lambda plan: plan.cost)


def _complete(plans: Iterable[Mapping[str, Any]], so_far: tuple[tuple[str, float], ...] = ()) -> Iterator[Planned]:
    """The plans that the optimizer followed to their last table."""
    for plan in plans:
        if "cost_for_plan" not in plan:
            continue
        path = (*so_far, (str(plan["table"]), float(plan["cost_for_plan"])))
        # One that is "pruned_by_hanging_leaf" goes on all the same.
        if "rest_of_plan" in plan:
            yield from _complete(plan["rest_of_plan"], path)
        elif not any(name.startswith("pruned") for name in plan):
            yield _leaf(plan, path)


def _leaf(plan: Mapping[str, Any], path: tuple[tuple[str, float], ...]) -> Planned:
    """Semi-joins may be cheaper than the plan that they are a part of; where in it they save is not told."""
    choices = plan.get("semijoin_strategy_choice", ())
    chosen = {choice["chosen_strategy"] for choice in choices if "chosen_strategy" in choice}
    for way in choices:
        if way.get("strategy") in chosen:
            share = way["read_time"] / max(plan["cost_for_plan"], 1.0)
            return Planned(way["read_time"], way["records"], tuple((table, cost * share) for table, cost in path))
    return Planned(plan["cost_for_plan"], plan["rows_for_plan"], path)


def _in_order(planned: Planned, choice: Mapping[str, Any]) -> Planned:
    """The plan when another index is read after all, because it gives the order: as many rows as the LIMIT needs.

    Without one, an index is read for its order only where it holds all that is asked for; that costs no more than the
    table does, and spares the sort.
    """
    for key in choice.get("possible_keys", ()):
        share = key.get("updated_limit", math.inf) / max(choice["rows_estimation"], 1.0)
        if key.get("chosen") and share < 1.0:
            rest = max(0.0, planned.cost - choice["read_time"]) * share
            planned = Planned(key["index_scan_time"] + rest, planned.rows * share, planned.so_far[:1])
    return planned

"""What a plan costs, from the optimizer trace: MariaDB 10 says it nowhere else.

The trace repeats the values of the statement: it is read and forgotten, and never shown.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dbpilot.dialects.mysql.explain import Block

SORT_PER_COMPARISON: Final = 0.02
GROUP_PER_ROW: Final = 0.1
"""In units of MariaDB 10's own costs, where to compare a row that was read costs 0.2. The server counts neither, so
that an index which gives the order would seem to spare nothing. Measured on MariaDB 10.11: to put rows in order takes
about twice as long as to scan them, for some hundred thousand rows in memory."""
CONSTANT: Final = 1.0
"""A SELECT whose tables are read while it is planned: one row each."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What the optimizer expects of one SELECT."""

    cost: float
    rows: float


def total_cost(blocks: Sequence[Block], trace: str, factors: Mapping[int, float], spared: Mapping[int, float]) -> float:
    """The cost of all SELECTs, each as often as it is answered, with the sorts that the server leaves out.

    ``factors``: how many times as many rows as the optimizer thinks some of them have. ``spared``: what some of them
    cost less than it thinks.
    """
    planned = dict(_planned(json.loads(trace))) if trace else {}
    times: dict[int | None, float] = {None: 1.0}
    total = 0.0
    for block in blocks:
        factor, around = factors.get(block.select_id, 1.0), planned.get(block.parent or 0)
        rows = max(1.0, around.rows * factors.get(block.parent or 0, 1.0)) if around and block.repeated else 1.0
        times[block.select_id] = times.get(block.parent, 1.0) * rows
        once = _cost(block, planned.get(block.select_id)) - spared.get(block.select_id, 0.0)
        total += times[block.select_id] * factor * max(0.0, once)
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
            yield from _planned(part)
            if name == "join_optimization" and isinstance(part, Mapping):
                yield int(part["select_id"]), _join(part["steps"])


def _join(steps: Iterable[Mapping[str, Any]]) -> Planned:
    planned = Planned(CONSTANT, 1.0)
    for step in steps:
        complete = list(_complete(step.get("considered_execution_plans", ())))
        if complete:
            most = max(tables for tables, _ in complete)
            planned = min((plan for tables, plan in complete if tables == most), key=lambda plan: plan.cost)
        for choice in step.get("test_if_skip_sort_order", ()):
            planned = _in_order(planned, choice.get("reconsidering_access_paths_for_index_ordering", {}))
    return planned


def _complete(plans: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, Planned]]:
    """The plans that the optimizer followed to their last table, with the number of their tables."""
    for plan in plans:
        if "rest_of_plan" in plan:
            yield from _complete(plan["rest_of_plan"])
        elif "cost_for_plan" in plan and not any(name.startswith("pruned") for name in plan):
            yield len(plan["plan_prefix"]) + 1, _leaf(plan)


def _leaf(plan: Mapping[str, Any]) -> Planned:
    """Semi-joins may be cheaper than the plan that they are a part of."""
    ways = [way for way in plan.get("semijoin_strategy_choice", ()) if "read_time" in way]
    chosen = {way["chosen_strategy"] for way in plan.get("semijoin_strategy_choice", ()) if "chosen_strategy" in way}
    costs = [Planned(way["read_time"], way["records"]) for way in ways if way["strategy"] in chosen]
    return costs[-1] if costs else Planned(plan["cost_for_plan"], plan["rows_for_plan"])


def _in_order(planned: Planned, choice: Mapping[str, Any]) -> Planned:
    """The plan when another index is read after all, because it gives the order: as many rows as the LIMIT needs.

    Without one, an index is read for its order only where it holds all that is asked for; that costs no more than the
    table does, and spares the sort.
    """
    for key in choice.get("possible_keys", ()):
        share = key.get("updated_limit", math.inf) / max(choice["rows_estimation"], 1.0)
        if key.get("chosen") and share < 1.0:
            rest = max(0.0, planned.cost - choice["read_time"]) * share
            planned = Planned(key["index_scan_time"] + rest, planned.rows * share)
    return planned

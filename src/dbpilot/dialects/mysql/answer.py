"""What the optimizer answers about a shadow, read as an answer about the application's tables.

The shadow has the statistics of whole tables and a sample of their rows. What the optimizer takes from statistics is
right; what it counts in an index, for the very values of a statement, is too few by as much as the sample is smaller.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dbpilot.dialects.mysql.explain import Access, Block, blocks_in, plan_in
from dbpilot.dialects.mysql.optimizer_trace import total_cost
from dbpilot.dialects.mysql.shadow import Copy
from dbpilot.dialects.whatif import Cost

Names = frozenset[str]
"""Of indexes in the shadow, as ``table.index``."""
MOST_COUNTED: Final = 0.5
"""InnoDB believes that at most half of the rows are found in a range, if it does not count all of them."""
HALF_A_ROW: Final = 0.5
"""The server says that one row is found where the sample has none."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One plan."""

    cost: Cost
    doubtful: Names
    """The indexes that it uses by what was counted in a sample: with all rows it might not."""


@dataclass(frozen=True, slots=True)
class _Use:
    """An access, with the indexes that it is by."""

    select_id: int
    alias: str
    indexes: tuple[tuple[Copy, str], ...]
    factor: float
    """How many times as many rows it would find in the whole table."""
    spared: float
    """What it costs less than the optimizer says."""


def planned(
    copies: Mapping[str, Sequence[Copy]], answer: Mapping[str, Any], trace: str, most_rows: int | None = None
) -> Planned:
    """The plan, its costs corrected.

    ``copies``: those that each name (or alias) in the statement may mean; ``most_rows``: as many as are answered.
    """
    blocks = list(blocks_in(answer))
    uses = list(_uses(copies, blocks))
    factors = {(use.select_id, use.alias): use.factor for use in uses if use.factor > 1.0}
    spared: dict[int, float] = {}
    for use in uses:
        spared[use.select_id] = spared.get(use.select_id, 0.0) + use.spared
    used = [found for use in uses for found in use.indexes]
    cost = Cost(
        total_cost(blocks, trace, factors, spared, most_rows if _ends_early(copies, blocks) else None),
        frozenset(index for copy, name in used for index, built in copy.built.items() if built == name),
        frozenset(f"{copy.name}.{name}" for copy, name in used if name in copy.present),
        plan_in(answer),
    )
    doubtful = (f"{copy.name}.{name}" for use in uses if use.factor > 1.0 for copy, name in use.indexes)
    return Planned(cost, frozenset(doubtful))


def _ends_early(copies: Mapping[str, Sequence[Copy]], blocks: Sequence[Block]) -> bool:
    """Whether an index finds the rows that are answered, in order and no others, so that reading ends with the last."""
    access = blocks[0].looked_up if blocks else None
    if access is None or len(access.indexes) != 1:
        return False
    [name] = access.indexes
    known = [copy.columns_of(name) for copy in copies.get(access.alias, ())]
    return len(known) == 1 and access.filtered_by <= known[0]


def _uses(copies: Mapping[str, Sequence[Copy]], blocks: Sequence[Block]) -> Iterator[_Use]:
    for block in blocks:
        for access in block.accesses:
            indexes = tuple(
                (copy, name)
                for name in access.indexes
                for copy in copies.get(access.alias, ())
                if name in copy.present or name in copy.built.values()
            )
            if indexes:
                factor, spared = _factor(access, *indexes[0]), _spared(access, *indexes[0])
                yield _Use(block.select_id, access.alias, indexes, factor, spared)


def _factor(access: Access, copy: Copy, name: str) -> float:
    if not access.is_counted or copy.share == 1.0 or copy.statistics is None:
        return 1.0
    return max(1.0, _rows(access, copy, name) / max(access.rows, 1.0))


def _spared(access: Access, copy: Copy, name: str) -> float:
    """MariaDB 10 reckons with the pages of the table where it goes through a smaller index that holds all it needs."""
    if access.kind != "index" or not access.is_covered or copy.statistics is None:
        return 0.0
    pages = copy.statistics.pages(name)
    return max(0.0, copy.statistics.clustered_pages - pages) if pages is not None else 0.0


def _rows(access: Access, copy: Copy, name: str) -> float:
    """How many rows there are where so many are in the sample."""
    if access.rows > 1:
        return min(access.rows / copy.share, MOST_COUNTED * copy.whole_rows)
    alike = copy.alike(name, access.parts) if access.kind == "ref" else None
    return alike if alike is not None else HALF_A_ROW / copy.share

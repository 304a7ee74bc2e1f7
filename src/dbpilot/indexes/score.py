"""How good the indexes of a table are, from 0 to 100, by three shares that can be measured.

    score = 100 x (1 - spared) x (1 - 0.3 x needless) x (1 - 0.2 x unserved)

- **spared**: the share of what its statements cost that the advised indexes would spare;
- **needless**: the share of its indexes' bytes that is held by those that are redundant beside the others that are
  there, unused or broken, or is empty; of their number, where no size is known;
- **unserved**: the share of its foreign keys that no index serves.

It is 100 exactly when there is nothing to do, and rounded down, so that a little is not rounded away. Whoever follows
any of the advice never lowers it: each share has a bound that advice does not move, or loses as much above as below.
A new index that makes another one needless is followed when that one is dropped as well: it counts as needless only
from the moment on at which the new one is there.
All tables together are scored by the same formula on the sums, so that each counts by the time spent on it. What nobody
queries has no score, as nothing tells what would be a good index for it.
"""

import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from dbpilot.dialects.catalog import MIN_ROWS, Catalog, Table
from dbpilot.indexes.audit import Finding

NEEDLESS_WEIGHT: Final = 0.3
UNSERVED_WEIGHT: Final = 0.2
"""What is lost by a table all of whose indexes are needless, and one none of whose foreign keys is served; that its
statements could do without their whole cost would lose all."""
UNKNOWN_BYTES: Final = 2**14
"""An index of unknown size counts as one page of InnoDB; where no size is known, all count the same."""
NONE_SEEN: Final = "No evidence: no statement that reads it was seen."
NONE_JUDGED: Final = "No evidence: statements that read it were seen, and none of them was judged."
BEST_BUT_ONE: Final = 99.9
"""The best score of a table for which there is something to do, however little."""


@dataclass(frozen=True, slots=True)
class Served:
    """What the workload costs at one table, in any unit that is the same for all tables: seconds, or shares."""

    calls: float
    cost: float
    """With the present indexes; the upkeep of indexes is not counted."""
    achievable_cost: float
    """With the advised ones besides; never more."""


@dataclass(frozen=True, slots=True)
class TableEvidence:
    """What is known of one table, or of several together."""

    calls: float = 0.0
    cost: float = 0.0
    achievable_cost: float = 0.0
    size: float = 0.0
    """Of all its indexes but a clustered one and those that are to go once another one is there, in bytes."""
    needless: float = 0.0
    """Of that, what could be freed."""
    foreign_keys: int = 0
    unserved: int = 0
    """Of these, those that no index serves."""
    seen: bool = False
    """Whether a statement that reads it was seen, judged or not."""

    def __add__(self, other: Self) -> "TableEvidence":
        """Both together."""
        return TableEvidence(
            self.calls + other.calls,
            self.cost + other.cost,
            self.achievable_cost + other.achievable_cost,
            self.size + other.size,
            self.needless + other.needless,
            self.foreign_keys + other.foreign_keys,
            self.unserved + other.unserved,
            self.seen or other.seen,
        )

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to do."""
        return not self.needless and not self.unserved and self.achievable_cost >= self.cost


@dataclass(frozen=True, slots=True)
class Part:
    """One of the three shares that make up a score."""

    name: str
    share: float
    """What is amiss, from 0 to 1."""
    weight: float
    """How much of the score is lost where all is amiss."""
    sentence: str

    @property
    def factor(self) -> float:
        """What the score is multiplied by."""
        return 1 - self.weight * self.share


@dataclass(frozen=True, slots=True)
class Score:
    """A score, and what it is made of."""

    value: float | None
    """From 0 to 100, rounded down to a tenth; None where nothing is known of the statements: no evidence."""
    parts: tuple[Part, ...]
    reason: str
    """In a sentence."""


def score(evidence: TableEvidence) -> Score:
    """How good the indexes are, and why."""
    parts = (_spared(evidence), _needless(evidence), _unserved(evidence))
    if not evidence.calls or not evidence.cost:
        return Score(None, parts, NONE_JUDGED if evidence.seen else NONE_SEEN)
    if evidence.is_done:
        return Score(100.0, parts, "There is nothing to do.")
    value = min(BEST_BUT_ONE, math.floor(round(1000 * math.prod(part.factor for part in parts), 6)) / 10)
    worst = min(parts, key=lambda part: part.factor)
    return Score(value, parts, worst.sentence)


def overall(evidence: Iterable[TableEvidence]) -> Score:
    """How good the indexes of all these tables are together; what is needless counts at tables that nobody queries as
    well."""
    return score(sum(evidence, TableEvidence()))


def evidence_of(
    catalog: Catalog, findings: Iterable[Finding], served: Mapping[str, Served], seen: Container[str] = ()
) -> dict[str, TableEvidence]:
    """What is known of each table, as :func:`score` wants it; statements were ``seen`` to read these, judged or not."""
    by_table: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.is_proposal:
            by_table.setdefault(finding.table, []).append(finding)
    nothing = Served(0.0, 0.0, 0.0)
    return {
        name: _evidence(table, by_table.get(name, []), served.get(name, nothing), is_seen=name in seen)
        for name, table in catalog.tables.items()
    }


def _evidence(table: Table, proposals: list[Finding], served: Served, *, is_seen: bool) -> TableEvidence:
    # What goes once another index is there counts neither as held nor as needless: gone, it would move no share.
    waiting = {finding.drop for finding in proposals if finding.waits_for is not None}
    held = [index for index in table.indexes if not index.clustered and index.name not in waiting]
    freed = [finding for finding in proposals if (finding.drop or finding.rebuild) and finding.waits_for is None]
    return TableEvidence(
        calls=served.calls,
        cost=served.cost,
        achievable_cost=min(served.achievable_cost, served.cost),
        size=sum(_bytes(index.size_bytes) for index in held),
        needless=sum(_bytes(finding.frees_bytes) for finding in freed),
        foreign_keys=len(table.foreign_keys) if table.rows >= MIN_ROWS else 0,
        unserved=sum(finding.kind == "foreign key" for finding in proposals),
        seen=is_seen,
    )


def _bytes(size: int | None) -> float:
    return float(UNKNOWN_BYTES if size is None else max(size, 1))


def _share(part: float, whole: float) -> float:
    """0 where there is no whole."""
    return min(1.0, part / whole) if whole > 0 else float(part > 0)


def _spared(evidence: TableEvidence) -> Part:
    share = _share(max(0.0, evidence.cost - evidence.achievable_cost), evidence.cost)
    said = f"Advised indexes would spare {_percent(share)} of what its statements cost."
    if not evidence.calls or not evidence.cost:
        said = "What other indexes would spare its statements is not known."
    elif not share:
        said = "No index is known that would spare its statements anything."
    return Part("spared", share, 1.0, said)


def _needless(evidence: TableEvidence) -> Part:
    share = _share(evidence.needless, evidence.size)
    said = f"{_percent(share)} of what its indexes hold is redundant, unused, broken or empty."
    return Part(
        "needless", share, NEEDLESS_WEIGHT, said if share else "Nothing in its indexes is known to be needless."
    )


def _unserved(evidence: TableEvidence) -> Part:
    share = _share(evidence.unserved, evidence.foreign_keys)
    said = f"{evidence.unserved} of {evidence.foreign_keys} foreign keys have no index."
    return Part("unserved", share, UNSERVED_WEIGHT, said if share else "Every foreign key that needs an index has one.")


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "less than 1%"

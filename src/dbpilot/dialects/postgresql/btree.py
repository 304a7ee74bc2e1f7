"""How large a B-tree of PostgreSQL is when it was just built.

The model follows what a build does (src/backend/access/nbtree/nbtsort.c and nbtdedup.c of PostgreSQL 13 and later):
leaves are filled to 90 %, inner pages to 70 %; rows with equal keys share one entry with a list of their places, of at
most a tenth of a page, where equal values are the same bytes, the index is not unique and carries no other columns.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

PAGE: Final = 8192
LINE_POINTER: Final = 4
USABLE: Final = PAGE - 24 - 16 - LINE_POINTER - LINE_POINTER
"""Without the page's header and the B-tree's own part, the pointer to the high key, and that of the next entry."""
LEAF_FREE: Final = PAGE // 10
INNER_FREE: Final = PAGE * 3 // 10
MAX_POSTING: Final = 808
PLACE: Final = 6
"""A row's place in a list of places."""
ALIGNMENT: Final = 8
HEADER: Final = 8
HEADER_WITH_NULLS: Final = 16
HALF_ALIGNMENT: Final = (ALIGNMENT - 1) / 2
MAX_KEY: Final = 2704
"""A longer key is refused."""
MANY: Final = 40
"""Of so many rows per key on the average, how they are spread over keys hardly matters."""


@dataclass(frozen=True, slots=True)
class Part:
    """A column as it lies in an entry."""

    width: float
    varies: bool
    alignment: int
    equal_image: bool
    """Whether equal values are the same bytes, so that rows may share an entry."""
    nulls: float = 0.0
    """The share of rows without a value."""


@dataclass(frozen=True, slots=True)
class Group:
    """So many keys with so many rows each, on the average."""

    keys: float
    rows: float
    spread: bool = False
    """Whether some keys have more rows and some fewer, as chance would have it."""


@dataclass(frozen=True, slots=True)
class Entries:
    """What lies in the leaves."""

    count: float
    bytes: float
    places: float
    """Bytes of all lists of places."""


def entry_bytes(parts: Sequence[Part]) -> float:
    """The length of an entry with these columns, on the average."""
    whole = 1 - math.prod(1 - part.nulls for part in parts)
    if not whole:
        return _entry(HEADER, parts)
    # Where one is NULL, each is so more often than elsewhere.
    some = [replace(part, width=part.width * (1 - part.nulls / whole), varies=True) for part in parts]
    return whole * _entry(HEADER_WITH_NULLS, some) + (1 - whole) * _entry(HEADER, parts)


def _entry(at: float, parts: Sequence[Part]) -> float:
    shortest, varies = at + ALIGNMENT, False
    for part in parts:
        varies = varies or part.varies
        at = part.width + (at + (part.alignment - 1) / 2 if varies else _aligned(at, part.alignment))
    return min(max(at + HALF_ALIGNMENT, shortest) if varies else _aligned(at, ALIGNMENT), MAX_KEY)


def _aligned(length: float, alignment: int) -> float:
    return math.ceil(length / alignment) * alignment


def shared(groups: Iterable[Group], entry: float) -> Entries:
    """The entries of rows that share them by key."""
    made = [_of_group(group, entry) for group in groups]
    return Entries(sum(one.count for one in made), sum(one.bytes for one in made), sum(one.places for one in made))


def _of_group(group: Group, entry: float) -> Entries:
    alike = not group.spread or group.rows >= MANY
    shares = [(1.0, group.rows)] if alike else list(_chances(group.rows))
    made = [(share * group.keys, _of_key(rows, entry)) for share, rows in shares]
    return Entries(
        sum(keys * one.count for keys, one in made),
        sum(keys * one.bytes for keys, one in made),
        sum(keys * one.places for keys, one in made),
    )


def _chances(mean: float) -> Iterator[tuple[float, float]]:
    """How likely a key has 1, 2, ... rows, if keys with none do not count (the zero-truncated Poisson distribution)."""
    rate = mean
    for _ in range(50):  # mean = rate / (1 - exp(-rate))
        rate = max(1e-6, mean * (1 - math.exp(-rate)))
    chance = rate * math.exp(-rate) / -math.expm1(-rate)
    for rows in range(1, 3 * MANY):
        yield chance, rows
        chance *= rate / (rows + 1)


def _of_key(rows: float, entry: float) -> Entries:
    most = max(1, (MAX_POSTING - entry) // PLACE)
    full, rest = divmod(rows, most)
    listed = full * _aligned(most * PLACE, ALIGNMENT) if most > 1 else 0.0
    count = full
    if rest > 0:
        count += 1
        listed += _aligned(rest * PLACE, ALIGNMENT) if rest > 1 else 0.0
    return Entries(count, count * entry + listed, listed)


def tree_bytes(entries: Entries, pivot: float, *, whole: bool) -> float:
    """The size of a tree with these entries in its leaves; ``whole``: all entries are equally long."""
    if entries.count <= 0:
        return PAGE
    each, places = entries.bytes / entries.count, entries.places / entries.count
    fits = (USABLE - max(each + ALIGNMENT, LEAF_FREE - places)) / (each + LINE_POINTER)
    pages = level = math.ceil(entries.count / max(1.0, math.floor(fits) if whole else fits))
    fan_out = max(2.0, (USABLE - INNER_FREE) // (pivot + LINE_POINTER))
    while level > 1:
        level = math.ceil(level / fan_out)
        pages += level
    return float((pages + 1) * PAGE)

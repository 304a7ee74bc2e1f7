"""How large an index is when it is built anew (https://sqlite.org/fileformat2.html).

CREATE INDEX sorts the entries first and appends them, so that pages are full but for what is too small for one more
entry. Each entry is in the B-tree once: some of them in its inner pages, each with the number of a page below.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

LEAF_HEADER: Final = 8
INNER_HEADER: Final = 12
POINTER: Final = 2
CHILD: Final = 4
LONG_TEXT: Final = 57
"""Bytes of a text from which its type takes two bytes."""
SHORT: Final = 127
"""The greatest number that takes one byte."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of an index, on the average."""

    widths: Sequence[float]
    """Bytes of each value, and of what it finds the row by."""

    @property
    def payload(self) -> float:
        """Bytes of the record: its header and its values."""
        types = sum(1 if width <= LONG_TEXT else 2 for width in self.widths)
        return 1 + types + sum(self.widths)


def index_bytes(rows: float, entry: Entry, page_size: int) -> float:
    """The size in bytes of an index with so many entries."""
    payload = entry.payload
    local, overflow_pages = _local(payload, page_size)
    cell = local + (1 if payload <= SHORT else 2)
    leaves = _pages(rows, cell + POINTER, page_size - LEAF_HEADER)
    level = ceil(leaves)
    pages = float(level)
    while level > 1:
        level = ceil(_pages(level, cell + CHILD + POINTER, page_size - INNER_HEADER))
        pages += level
    return (pages + overflow_pages * rows) * page_size


def _pages(cells: float, size: float, room: float) -> float:
    """Pages that hold so many entries, of which one for each page goes to the level above."""
    fit = max((room - size / 2) / size, 1.0)  # the last one fits by half on the average
    return max(cells / (fit + 1), 1.0)


def _local(payload: float, page_size: int) -> tuple[float, float]:
    """Bytes of an entry that are on its own page, and how many pages the rest takes."""
    most = (page_size - 12) * 64 / 255 - 23
    if payload <= most:
        return payload, 0.0
    least, room = (page_size - 12) * 32 / 255 - 23, page_size - 4
    kept = least + (payload - least) % room
    local = (kept if kept <= most else least) + CHILD
    return local, ceil((payload - local + CHILD) / room)

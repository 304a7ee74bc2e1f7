"""Many tallies as one block of bytes, column by column, so that a thousand patterns are added up in a millisecond.

A block is: a version, the numbers of rows and of histogram entries, the length of the errors' JSON; then the columns,
little-endian; all but the version may be compressed.
"""

import json
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dbpilot.history.tally import LatencyHistogram, Tally

OTHER_ID: Final = "other"
"""The pattern that stands for all those over the limit."""
PLAIN: Final = 1
COMPRESSED: Final = 2
HEAD: Final = struct.Struct("<III?")
OTHER_NUMBER: Final = 2**64 - 1
NARROW: Final = 2**32 - 1
"""Counts above it need eight bytes instead of four."""
ROWS_AT_ONCE: Final = 1_000
"""Patterns whose histograms are added up in one table, of a few megabytes; thousands at once would be a hundred."""
BLOCKS_AT_ONCE: Final = 60
"""Stored blocks that are unpacked together; a day of windows at once would be a gigabyte."""
SUMS: Final = ("calls", "slow", "rows", "total_s", "fetch_s", "first_row_s", "wait_s")

Ids: TypeAlias = NDArray[np.uint64]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Errors: TypeAlias = dict[int, dict[str, int]]


class BlockError(ValueError):
    """These bytes are no block."""


@dataclass(frozen=True, slots=True)
class Block:
    """Tallies as columns; one row per pattern."""

    ids: Ids
    sums: Floats
    """One row of it per name in SUMS; counts are exact up to 2**53."""
    least: Floats
    most: Floats
    last_seen: Floats
    errors: Errors
    """By row."""
    lengths: NDArray[np.uint32]
    """The histograms: how many entries each row has, one row's after the other's."""
    buckets: NDArray[np.uint16]
    counts: Ints | NDArray[np.uint32]
    """Each entry: so many durations fell into that bucket."""

    def to_bytes(self, *, compressed: bool) -> bytes:
        """The block as it is stored."""
        errors = json.dumps(self.errors, separators=(",", ":")).encode()
        wide = len(self.counts) > 0 and int(self.counts.max()) > NARROW
        columns = (
            *(self.ids, self.sums, self.least, self.most, self.last_seen),
            *(self.lengths.astype("<u4"), self.buckets.astype("<u2"), self.counts.astype("<i8" if wide else "<u4")),
        )
        head = HEAD.pack(len(self.ids), len(self.buckets), len(errors), wide)
        raw = b"".join([head, *(column.tobytes() for column in columns), errors])
        return bytes([COMPRESSED]) + zlib.compress(raw, 1) if compressed else bytes([PLAIN]) + raw

    @classmethod
    def from_bytes(cls, stored: bytes) -> "Block":
        """The block that ``to_bytes`` wrote.

        Raises:
            BlockError: the bytes are damaged, or of a later version.
        """
        try:
            if stored[0] == COMPRESSED:
                return cls._read(zlib.decompress(memoryview(stored)[1:]), 0)
            if stored[0] == PLAIN:
                return cls._read(stored, 1)
            raise BlockError(f"version {stored[0]} is not known")
        except (ValueError, IndexError, struct.error, zlib.error) as error:
            raise BlockError(f"a block of the history cannot be read: {error}") from None

    @classmethod
    def _read(cls, raw: bytes, place: int) -> "Block":
        rows, entries, errors_length, wide = HEAD.unpack_from(raw, place)
        place += HEAD.size

        def column(kind: str, count: int) -> NDArray[Any]:
            nonlocal place
            values = np.frombuffer(raw, kind, count, place)  # a view: a block is read much faster than it is used
            place += values.nbytes
            return values

        ids, sums = column("<u8", rows), column("<f8", len(SUMS) * rows).reshape(len(SUMS), rows)
        least, most, last_seen = (column("<f8", rows) for _ in range(3))
        lengths, buckets, counts = (
            column("<u4", rows),
            column("<u2", entries),
            column("<i8" if wide else "<u4", entries),
        )
        errors = json.loads(raw[place : place + errors_length])
        by_row = {int(row): counts for row, counts in errors.items()}
        return cls(ids, sums, least, most, last_seen, by_row, lengths, buckets, counts)


def block_of(tallies: dict[str, Tally]) -> Block:
    """The tallies as a block."""
    values = list(tallies.values())
    entries = [list(tally.histogram.items()) for tally in values]
    flat = np.array([entry for some in entries for entry in some], np.int64).reshape(-1, 2)
    return Block(
        ids=np.array([_number(id_) for id_ in tallies], np.uint64),
        sums=np.array([[getattr(tally, name) for tally in values] for name in SUMS], np.float64),
        least=np.array([tally.min_s for tally in values], np.float64),
        most=np.array([tally.max_s for tally in values], np.float64),
        last_seen=np.array([tally.last_seen.timestamp() for tally in values], np.float64),
        errors={row: dict(tally.errors) for row, tally in enumerate(values) if tally.errors},
        lengths=np.array([len(some) for some in entries], np.uint32),
        buckets=flat[:, 0].astype(np.uint16),
        counts=flat[:, 1],
    )


def merged(blocks: Sequence[Block]) -> Block:
    """The blocks added up by pattern."""
    frame = _Frame(blocks)
    end = len(frame.ids)
    rows = np.concatenate(
        [np.repeat(row_of, block.lengths) for block, row_of in zip(blocks, frame.rows_of, strict=True)]
    )
    buckets = np.concatenate([block.buckets for block in blocks])
    counts = np.concatenate([block.counts for block in blocks])
    parts = [_histograms(rows, buckets, counts, first, end) for first in range(0, max(end, 1), ROWS_AT_ONCE)]
    lengths, buckets, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
    return replace(frame.block, lengths=lengths, buckets=buckets, counts=counts)


def _histograms(
    rows: NDArray[np.intp], buckets: NDArray[np.uint16], counts: NDArray[Any], first: int, end: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint16], Ints]:
    """Lengths, buckets and counts of the rows from ``first`` on, as many as are added up at once."""
    height = min(ROWS_AT_ONCE, end - first)
    if height < end:
        some = (rows >= first) & (rows < first + height)
        rows, buckets, counts = rows[some] - first, buckets[some], counts[some]
    width = int(buckets.max(initial=0)) + 1
    table = np.bincount(rows * width + buckets, counts, height * width)
    cells = np.flatnonzero(table)
    lengths = np.bincount(cells // width, minlength=height)
    return lengths.astype(np.uint32), (cells % width).astype(np.uint16), table[cells].astype(np.int64)


def added_up(blocks: Iterable[Block]) -> dict[str, Tally]:
    """The sum of all blocks by pattern id. The histograms are added up when somebody looks at them, one by one."""
    some = list(blocks)
    if not some:
        return {}
    frame = _Frame(some)
    total = frame.block
    bounds = zip(total.least.tolist(), total.most.tolist(), total.last_seen.tolist(), strict=True)
    columns = zip(total.ids.tolist(), total.sums.T.tolist(), bounds, strict=True)
    tallies = {}
    for row, (number, sums, its) in enumerate(columns):
        histogram = LatencyHistogram(later=_Entries(frame, row))
        tallies[_id(number)] = tally_of(sums, its, Counter(total.errors.get(row, ())), histogram)
    return tallies


def tally_of(
    sums: list[float], bounds: tuple[float, float, float], errors: Counter[str], histogram: LatencyHistogram
) -> Tally:
    """One row of a block; ``sums`` in the order of SUMS, ``bounds``: least, most, last seen."""
    calls, slow, rows, total_s, fetch_s, first_row_s, wait_s = sums
    least, most, last_seen = bounds
    return Tally(
        int(calls),
        int(slow),
        int(rows),
        total_s,
        fetch_s,
        first_row_s,
        wait_s,
        min_s=least,
        max_s=most,
        last_seen=datetime.fromtimestamp(last_seen, UTC),
        errors=errors,
        histogram=histogram,
    )


def unpacked(stored: Iterable[bytes]) -> dict[str, Tally]:
    """The sum of all that ``to_bytes`` wrote, by pattern id, however many there are."""
    left = iter(stored)
    parts = []
    while some := [Block.from_bytes(data) for data in islice(left, BLOCKS_AT_ONCE)]:
        parts.append(merged(some))
    return added_up(parts)


class _Frame:
    """Blocks side by side: which row of the sum each of their rows belongs to, and all of the sum but histograms."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = blocks
        self.ids, row_of = np.unique(np.concatenate([block.ids for block in blocks]), return_inverse=True)
        offsets = np.cumsum([len(block.ids) for block in blocks])[:-1]
        self.rows_of: list[NDArray[np.intp]] = np.split(row_of, offsets)
        count = len(self.ids)
        least, most, last_seen = np.full(count, np.inf), np.zeros(count), np.zeros(count)
        np.minimum.at(least, row_of, np.concatenate([block.least for block in blocks]))
        np.maximum.at(most, row_of, np.concatenate([block.most for block in blocks]))
        np.maximum.at(last_seen, row_of, np.concatenate([block.last_seen for block in blocks]))
        columns = np.concatenate([block.sums for block in blocks], axis=1)
        none = np.zeros(0, np.int64)
        self.block = Block(
            self.ids,
            np.stack([np.bincount(row_of, column, count) for column in columns]),
            least,
            most,
            last_seen,
            self._errors(),
            np.zeros(count, np.uint32),
            none.astype(np.uint16),
            none,
        )

    def _errors(self) -> Errors:
        added: dict[int, Counter[str]] = {}
        for block, row_of in zip(self.blocks, self.rows_of, strict=True):
            for row, errors in block.errors.items():
                added.setdefault(int(row_of[row]), Counter()).update(errors)
        return {row: dict(errors) for row, errors in added.items()}

    @cached_property
    def places(self) -> list[tuple[Ints, Ints]]:
        """Per block: where the entries of each row of the sum begin and end in it."""
        found = []
        for block, row_of in zip(self.blocks, self.rows_of, strict=True):
            ends = np.cumsum(block.lengths, dtype=np.int64)
            first, last = np.zeros(len(self.ids), np.int64), np.zeros(len(self.ids), np.int64)
            first[row_of], last[row_of] = ends - block.lengths, ends
            found.append((first, last))
        return found


class _Entries:
    """The histogram of one row of a sum, added up when it is looked at."""

    __slots__ = ("_frame", "_row")

    def __init__(self, frame: _Frame, row: int) -> None:
        self._frame = frame
        self._row = row

    def items(self) -> Iterator[tuple[int, int]]:
        """Pairs of a bucket's number and its count."""
        row, buckets, counts = self._row, [], []
        for block, (first, last) in zip(self._frame.blocks, self._frame.places, strict=True):
            if last[row] > first[row]:
                buckets.append(block.buckets[first[row] : last[row]])
                counts.append(block.counts[first[row] : last[row]])
        if not buckets:
            return iter(())
        totals = np.bincount(np.concatenate(buckets), np.concatenate(counts))
        hit = np.flatnonzero(totals)
        return zip(hit.tolist(), totals[hit].astype(np.int64).tolist(), strict=True)


def limited(block: Block, most: int) -> Block:
    """The block with at most so many patterns; those with the least time go into "other"."""
    if len(block.ids) <= most:
        return block
    kept = np.zeros(len(block.ids), bool)
    kept[np.argsort(block.sums[SUMS.index("total_s")])[-(most - 1) :]] = True
    # Two rows of one block may have the same id only here, and are added up at once.
    return merged([replace(block, ids=np.where(kept, block.ids, np.uint64(OTHER_NUMBER)))])


def _number(id_: str) -> int:
    return OTHER_NUMBER if id_ == OTHER_ID else int(id_, 16)


def _id(number: int) -> str:
    return OTHER_ID if number == OTHER_NUMBER else f"{number:016x}"

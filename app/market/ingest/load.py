"""Checked rows into a table: in batches that each stand alone, or all or none."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Final

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import DBAPIError

from app.common.infra.database.config.database_config import Base
from app.locks import exclusive
from app.market.bulk_insert import Row, insert_new
from app.market.ingest.rows import BadRow, Checked, Counts, ImportStopped, StrictlyRefused, UnusableFile, ignored
from app.market.models import Symbol
from app.progress import Progress, silent

SYMBOLS: Final = Base.metadata.tables[Symbol.__tablename__]
LOCK: Final = "finstage-import"  # two imports of the same rows would block each other half-way
BATCH_BYTES: Final = 2_000_000  # small enough to hold and to repeat, large enough that a commit's cost vanishes


@dataclass(frozen=True)
class Source:
    """Where checked rows come from, and how their listeners hear of it."""

    name: str
    rows: Iterable[Checked]
    weigh: Callable[[Row], int]
    """About how many bytes of memory a row takes."""
    total: int | None = None
    tell: Callable[[BadRow], None] = ignored
    progress: Progress = silent


@dataclass
class _Writer:
    """Writes batches, and the symbols that were new in them."""

    table: Table
    known: set[str] = field(default_factory=set)

    def write(self, connection: Connection, rows: list[Row]) -> int:
        new = {row["symbol"] for row in rows} - self.known
        insert_new(connection, SYMBOLS, [{"symbol": symbol} for symbol in sorted(new)])
        self.known |= new
        return insert_new(connection, self.table, rows)


def load(engine: Engine, table: Table, source: Source, *, strict: bool = False) -> Counts:
    """Every good row is in the table; rows that were there are left as they are, and counted.

    Raises:
        StrictlyRefused: ``strict``, and a row is bad; nothing was changed.
        ImportStopped: it was interrupted, or the database or the file failed; it can simply be run again.
    """
    return _load_all_or_none(engine, table, source) if strict else _load_in_batches(engine, table, source)


def _load_in_batches(engine: Engine, table: Table, source: Source) -> Counts:
    counts = Counts()
    writer = _Writer(table)
    try:
        for rows, bad_rows in _batches(source):
            written = 0
            if rows:
                with exclusive(engine, LOCK) as connection:
                    written = writer.write(connection, rows)
            counts = _add(counts, rows, written, bad_rows)
            source.progress(source.name, _seen(counts), source.total)
    except (KeyboardInterrupt, DBAPIError, UnusableFile) as cause:
        raise ImportStopped(counts, cause) from cause
    return counts


def _load_all_or_none(engine: Engine, table: Table, source: Source) -> Counts:
    counts = Counts()
    writer = _Writer(table)
    stopping = replace(source, rows=_none_bad(source.rows))
    try:
        batches = _batches(stopping)
        first = next(batches, None)  # read before the lock is taken: many a bad file shows itself here
        with exclusive(engine, LOCK) as connection:
            for rows, _ in chain([first] if first else [], batches):
                counts = _add(counts, rows, writer.write(connection, rows), 0)
                source.progress(source.name, _seen(counts), source.total)
    except (KeyboardInterrupt, DBAPIError, UnusableFile) as cause:
        raise ImportStopped(Counts(), cause) from cause
    return counts


def _batches(source: Source) -> Iterator[tuple[list[Row], int]]:
    """Good rows of about ``BATCH_BYTES`` together, with the number of bad ones met meanwhile."""
    rows: list[Row] = []
    held_bytes = bad_rows = 0
    for row in source.rows:
        if isinstance(row, BadRow):
            source.tell(row)
            bad_rows += 1
            continue
        rows.append(row)
        held_bytes += source.weigh(row)
        if held_bytes >= BATCH_BYTES:
            yield rows, bad_rows
            rows, held_bytes, bad_rows = [], 0, 0
    if rows or bad_rows:
        yield rows, bad_rows


def _none_bad(rows: Iterable[Checked]) -> Iterator[Row]:
    for row in rows:
        if isinstance(row, BadRow):
            raise StrictlyRefused(row)
        yield row


def _add(counts: Counts, rows: list[Row], written: int, bad_rows: int) -> Counts:
    return Counts(
        imported=counts.imported + written,
        already_there=counts.already_there + len(rows) - written,
        refused=counts.refused + bad_rows,
    )


def _seen(counts: Counts) -> int:
    return counts.imported + counts.already_there + counts.refused

"""What happens to the indexes of a database, a line for each thing that is new since the last look."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import typer
from sqlalchemy import Connection, Engine

from dbpilot.cli.render import count, moment, say
from dbpilot.clock import SYSTEM
from dbpilot.dialects import dialect_of
from dbpilot.dialects.catalog import Catalog, Index
from dbpilot.dialects.connections import OwnConnections
from dbpilot.errors import RefusedError
from dbpilot.indexes.ledger import Entry, Ledger
from dbpilot.unsupported import Unsupported

LOOK_S = 30.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found."""

    catalog: Catalog
    entries: tuple[Entry, ...]

    @property
    def indexes(self) -> Mapping[str, Index]:
        """By ``table.index``."""
        tables = self.catalog.tables.values()
        return {f"{table.name}.{index.name}": index for table in tables for index in table.indexes}


def keep_telling(engine: Engine, every_s: float) -> None:
    """Tells until it is interrupted.

    Raises:
        RefusedError: the database shares its only connection with nobody.
        WatchedDatabaseError: it cannot be reached.
    """
    before = _looked(engine)
    unknown = before.catalog.uses_unknown
    if unknown is not None:
        say(f"uses are not known: {unknown.reason}; {unknown.fix}")
    for entry in before.entries:
        if entry.state not in ("kept", "reverted", "failed"):
            _tell(SYSTEM.now(), _change(entry))
    say(f"watching {count(len(before.indexes))} indexes; Ctrl-C ends it")
    while True:
        time.sleep(every_s)
        after = _looked(engine)
        for news in news_of(before, after):
            _tell(SYSTEM.now(), news)
        before = after


def _looked(engine: Engine) -> Seen:
    read = dialect_of(engine).catalog

    def look(connection: Connection) -> Seen:
        return Seen(read(connection), tuple(Ledger(connection).entries()))

    found = OwnConnections(engine).run(look, LOOK_S)
    if isinstance(found, Unsupported):
        raise RefusedError(f"{found.reason}; {found.fix}")
    return found


def news_of(before: Seen, after: Seen) -> Iterator[str]:
    """What the later look found that the earlier one did not."""
    were, are = before.indexes, after.indexes
    yield from (f"{name}: gone" for name in were.keys() - are.keys())
    yield from (f"{name}: new{_state(are[name])}" for name in are.keys() - were.keys())
    for name in sorted(were.keys() & are.keys()):
        if _state(were[name]) != _state(are[name]):
            yield f"{name}: now{_state(are[name]) or ', usable'}"
        reads = _reads(are[name]) - _reads(were[name])
        if reads > 0:
            what = "reads" if are[name].uses is not None else "entries read"
            yield f"{name}: {count(reads)} {what}"
    known = {entry.id: entry.state for entry in before.entries}
    yield from (_change(entry) for entry in after.entries if known.get(entry.id) != entry.state)


def _state(index: Index) -> str:
    return (", not valid: being built, or half built" if not index.valid else "") + (
        ", hidden from the optimizer" if index.ignored else ""
    )


def _reads(index: Index) -> int:
    return (index.uses if index.uses is not None else index.rows_read) or 0


def _change(entry: Entry) -> str:
    change = entry.change
    why = f": {entry.note}" if entry.note else ""
    until = f" until {moment(entry.until)}" if entry.until is not None else ""
    return f"change {entry.id}, {change.act} {change.name} on {change.table}: {entry.state}{until}{why}"


def _tell(at: datetime, what: str) -> None:
    typer.echo(f"{moment(at)}  {what}")

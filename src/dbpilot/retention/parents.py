"""Rows that cannot be live yet, because what they point at is not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dbpilot.retention.conditions import one_of
from dbpilot.retention.live import Catalogue, Live
from dbpilot.retention.policy import Rule
from dbpilot.retention.scope import chunks
from dbpilot.retention.targets import Key

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Parent:
    """A table that rows of another point at."""

    table: sa.Table
    columns: tuple[str, ...]
    """Those that point."""
    parent_columns: tuple[str, ...]

    def of(self, row: Row) -> Key | None:
        """What the row points at; None for nothing."""
        key = tuple(row.get(name) for name in self.columns)
        return None if None in key else key


def parents_of(connection: sa.Connection, live: Live) -> list[Parent]:
    """The tables that the live table's rows point at."""
    catalogue, found = Catalogue(connection), []
    for key in sa.inspect(connection).get_foreign_keys(live.table.name):
        table = catalogue.table(key["referred_table"])
        if table is not None:
            # SQLite's foreign keys may leave out that they mean the primary key.
            theirs = tuple(key["referred_columns"]) or tuple(column.name for column in table.primary_key)
            found.append(Parent(table, tuple(key["constrained_columns"]), theirs))
    return found


def orphans(
    connection: sa.Connection, live: Live, parents: Sequence[Parent], rows: Mapping[Key, Row]
) -> dict[Key, str]:
    """Those of the rows that point at one which is neither live nor among them, each with the table that it misses.

    Of text nothing is said: what is the same text is the database's own.
    """
    found: dict[Key, str] = {}
    for parent in parents:
        pointing = {key: wanted for key, row in rows.items() if (wanted := parent.of(row)) is not None}
        if any(isinstance(part, str) for wanted in pointing.values() for part in wanted):
            continue
        there = _there(connection, parent, list(set(pointing.values())))
        if parent.table.name == live.table.name:
            there |= {tuple(row.get(name) for name in parent.parent_columns) for row in rows.values()}
        found.update({key: parent.table.name for key, wanted in pointing.items() if wanted not in there})
    return found


def _there(connection: sa.Connection, parent: Parent, wanted: Sequence[Key]) -> set[Key]:
    columns = [parent.table.c[name] for name in parent.parent_columns]
    parts = (sa.select(*columns).where(one_of(columns, part)) for part in chunks(wanted, len(columns)))
    return {tuple(row) for part in parts for row in connection.execute(part)}


def said_of(rows: int, table: str, parents: Sequence[str], rules: Sequence[Rule]) -> str:
    """Why so many rows of a table stay in their archive, which point at one of these, and what brings them back."""
    places = " or ".join(parents)
    said = f"{rows} {'row' if rows == 1 else 'rows'} of {table} point at rows of {places} that are not live"
    if table in parents:
        return f"{said}: restore once more when those are back"
    names = [f"{rule.name!r}" for rule in rules if rule.table in parents and rule.kind != "purge"]
    return f"{said}: restore {'rule ' + ' and '.join(names) if names else 'those'} first"

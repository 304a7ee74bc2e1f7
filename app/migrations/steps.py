"""Steps that can be run again after a crash in their middle.

MariaDB and MySQL commit every change of a table at once, so a step that died half-way leaves its first half behind.
Everything here therefore looks first, and does what is missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alembic import op
from sqlalchemy import ColumnClause, Connection, Table, column, func, inspect, select
from sqlalchemy import table as named_table

from app.errors import RefusedForSafety

Columns = tuple[str, ...]


class RefusedStep(RefusedForSafety):
    """The data does not allow this step; nothing was changed."""


@dataclass(frozen=True)
class IndexChange:
    """What a step adds to one table and what it takes away, by name."""

    table: str
    uniques: Mapping[str, Columns] = field(default_factory=dict)
    indexes: Mapping[str, Columns] = field(default_factory=dict)
    superseded: Mapping[str, Columns] = field(default_factory=dict)
    """Plain indexes that the new ones make needless."""


def create_missing(tables: Sequence[Table]) -> None:
    """All these tables and their indexes exist.

    Raises:
        RefusedStep: a table of that name with other columns is there already.
    """
    bind = op.get_bind()
    for table in tables:
        _refuse_stranger(bind, table)
    for table in tables:
        table.create(bind, checkfirst=True)
        for index in table.indexes:
            index.create(bind, checkfirst=True)


def apply(changes: Sequence[IndexChange]) -> None:
    """Every addition is there and every superseded index is gone.

    Raises:
        RefusedStep: rows repeat where they would have to be unique.
    """
    _refuse_repeats(op.get_bind(), changes)
    for change in changes:
        present = _names(op.get_bind(), change.table)
        with op.batch_alter_table(change.table) as batch:
            for name, columns in change.uniques.items():
                if name not in present:
                    batch.create_unique_constraint(name, columns)
            for name, columns in change.indexes.items():
                if name not in present:
                    batch.create_index(name, columns)
            for name in change.superseded.keys() & present:
                batch.drop_index(name)


def revert(changes: Sequence[IndexChange]) -> None:
    """Every superseded index is back and every addition is gone."""
    for change in changes:
        present = _names(op.get_bind(), change.table)
        with op.batch_alter_table(change.table) as batch:
            # First back, then away: a foreign key must not be without an index for a moment.
            for name, columns in change.superseded.items():
                if name not in present:
                    batch.create_index(name, columns)
            for name in change.indexes.keys() & present:
                batch.drop_index(name)
            for name in change.uniques.keys() & present:
                batch.drop_constraint(name, type_="unique")


def _names(bind: Connection, table: str) -> set[str]:
    inspector = inspect(bind)
    found = [*inspector.get_indexes(table), *inspector.get_unique_constraints(table)]
    return {str(each["name"]) for each in found}


def _refuse_stranger(bind: Connection, table: Table) -> None:
    inspector = inspect(bind)
    if not inspector.has_table(table.name):
        return
    there = {each["name"] for each in inspector.get_columns(table.name)}
    if there != {each.name for each in table.columns}:
        raise RefusedStep(
            f"a table named {table.name} with other columns is in this database already; nothing was changed. "
            "Give Finstage a database of its own"
        )


def _refuse_repeats(bind: Connection, changes: Sequence[IndexChange]) -> None:
    findings = [
        f"{count} rows of {change.table} repeat the ({', '.join(columns)}) of another row"
        for change in changes
        for columns in change.uniques.values()
        if (count := _repeats(bind, change.table, columns))
    ]
    if findings:
        raise RefusedStep(
            f"{'; '.join(findings)}. Nothing was changed. Delete the repeats (keep one row of each), then run "
            "`finstage migrate` again"
        )


def _repeats(bind: Connection, table: str, columns: Columns) -> int:
    cells: list[ColumnClause[Any]] = [column(name) for name in columns]
    of_one = (
        select(func.count().label("rows_alike"))
        .select_from(named_table(table, *cells))
        .group_by(*cells)
        .having(func.count() > 1)
        .subquery()
    )
    return int(bind.scalar(select(func.coalesce(func.sum(of_one.c.rows_alike - 1), 0))) or 0)

"""Rows that nobody may clean away, whatever the rules say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from dbpilot.retention.conditions import check_where, differs
from dbpilot.retention.keys import from_json, to_json
from dbpilot.retention.live import Live

NAME_LENGTH: Final = 64

_metadata = sa.MetaData()
holds = sa.Table(
    "dbpilot_holds",
    _metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
    sa.Column("table_name", sa.String(NAME_LENGTH), nullable=False),
    sa.Column("rows_where", sa.Text, nullable=False),
    sa.Column("reason", sa.String(500), nullable=False),
    sa.Column("since_s", sa.Double, nullable=False),
    sa.Column("released_s", sa.Double),
)


@dataclass(frozen=True, slots=True)
class Hold:
    """Rows of a table that stay: all of it where ``where`` is empty."""

    id: int
    table: str
    where: Mapping[str, Any]
    reason: str
    since: datetime


def held(connection: sa.Connection, table: str | None = None) -> list[Hold]:
    """The holds that are in force, on this table or on all."""
    if not sa.inspect(connection).has_table(holds.name):
        return []
    found = sa.select(holds).where(holds.c.released_s.is_(None)).order_by(holds.c.id)
    if table is not None:
        found = found.where(holds.c.table_name == table)
    return [
        Hold(row.id, row.table_name, from_json(row.rows_where), row.reason, datetime.fromtimestamp(row.since_s, UTC))
        for row in connection.execute(found)
    ]


def hold(connection: sa.Connection, live: Live, where: Mapping[str, Any], reason: str, now: datetime) -> Hold:
    """These rows stay until the hold is released; of a batch that is at work now, the next will know.

    Raises:
        RefusedError: the table has no such column, or a value is not of its type.
    """
    check_where(live.table, where, "a hold")
    _metadata.create_all(connection)
    made = connection.execute(
        sa.insert(holds).values(
            table_name=live.table.name, rows_where=to_json(dict(where)), reason=reason, since_s=now.timestamp()
        )
    )
    [number] = made.inserted_primary_key or (0,)
    return Hold(number, live.table.name, dict(where), reason, now)


def release(connection: sa.Connection, id_: int, now: datetime) -> bool:
    """The hold is over; False if there was none of this number."""
    if not sa.inspect(connection).has_table(holds.name):
        return False
    over = sa.update(holds).where(holds.c.id == id_, holds.c.released_s.is_(None)).values(released_s=now.timestamp())
    return connection.execute(over).rowcount == 1


def free(table: sa.FromClause, in_force: Sequence[Hold]) -> sa.ColumnElement[bool]:
    """The row is held by none of these.

    A column that the table lost since makes the hold one of the whole table: better too much than too little.
    """
    known = [{name: value for name, value in one.where.items() if name in table.c} for one in in_force]
    return sa.and_(sa.true(), *(differs(table, where) for where in known))

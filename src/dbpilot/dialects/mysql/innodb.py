"""InnoDB's persistent statistics of a table: read, made smaller or larger, and written.

https://mariadb.com/kb/en/innodb-persistent-statistics/ tells what the two tables hold. A server that has a table open
goes on with what it read before; on MariaDB 10.11 a FLUSH does not change that, but to rename the table does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection

TABLE_STATS: Final = sa.table(
    "innodb_table_stats",
    *map(sa.column, "database_name table_name n_rows clustered_index_size sum_of_other_index_sizes".split()),
    schema="mysql",
)
INDEX_STATS: Final = sa.table(
    "innodb_index_stats",
    *map(
        sa.column,
        "database_name table_name index_name stat_name stat_value sample_size stat_description".split(),
    ),
    schema="mysql",
)
DISTINCT: Final = "n_diff_pfx"
LEAVES: Final = "n_leaf_pages"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one index."""

    index: str
    name: str
    """``n_diff_pfx02``: how many different values its first two columns have; ``size`` and ``n_leaf_pages``: pages."""
    value: float
    sampled: int | None
    about: str
    """The columns, with commas between."""

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The columns whose different values it counts; None where it counts pages."""
        return tuple(self.about.split(",")) if self.name.startswith(DISTINCT) else None


@dataclass(frozen=True, slots=True)
class Statistics:
    """All figures of one table."""

    rows: float
    clustered_pages: float
    other_pages: float
    figures: tuple[Figure, ...]

    def without(self, index: str) -> "Statistics":
        """The same, when there is no such index."""
        return replace(self, figures=tuple(figure for figure in self.figures if figure.index != index))

    def pages(self, index: str) -> float | None:
        """How many pages hold the entries of an index."""
        return next((one.value for one in self.figures if (one.index, one.name) == (index, LEAVES)), None)

    @property
    def distinct(self) -> Mapping[frozenset[str], float]:
        """How many different values columns have together, as far as indexes tell."""
        return {frozenset(figure.columns): figure.value for figure in self.figures if figure.columns}


def read(connection: Connection, schema: str, table: str) -> Statistics | None:
    """The statistics of a table; None where the server keeps none, as of one that is not InnoDB's."""
    rows = sa.select(*list(TABLE_STATS.c)[2:]).where(*_of(TABLE_STATS, schema, table))
    found = connection.execute(rows).one_or_none()
    if found is None:
        return None
    figures = sa.select(*list(INDEX_STATS.c)[2:]).where(*_of(INDEX_STATS, schema, table))
    counted, clustered, others = map(float, found)
    return Statistics(counted, clustered, others, tuple(_figure(*one) for one in connection.execute(figures)))


def _figure(index: str, name: str, value: int, sampled: int | None, about: str) -> Figure:
    return Figure(index, name, float(value), sampled, about)


def _of(stats: sa.TableClause, schema: str, table: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return stats.c.database_name == schema, stats.c.table_name == table


def write(connection: Connection, schema: str, table: str, statistics: Statistics) -> None:
    """The server's tables hold these; one that has the table open knows once it is renamed."""
    forget(connection, schema, table)
    named = {"database_name": schema, "table_name": table}
    rows = [round(statistics.rows), round(statistics.clustered_pages), round(statistics.other_pages)]
    connection.execute(
        sa.insert(TABLE_STATS), {**named, **dict(zip(list(TABLE_STATS.c.keys())[2:], rows, strict=True))}
    )
    figures = [named | _row(figure) for figure in statistics.figures]
    if figures:
        connection.execute(sa.insert(INDEX_STATS), figures)


def _row(figure: Figure) -> dict[str, Any]:
    values = (figure.index, figure.name, round(figure.value), figure.sampled, figure.about)
    return dict(zip(list(INDEX_STATS.c.keys())[2:], values, strict=True))


def forget(connection: Connection, schema: str, table: str) -> None:
    """The server's tables hold nothing of this one."""
    for stats in (INDEX_STATS, TABLE_STATS):
        connection.execute(sa.delete(stats).where(*_of(stats, schema, table)))


def with_index(
    statistics: Statistics, counted: Iterable[Figure], distinct: Mapping[tuple[str, ...], float], share: float
) -> Statistics:
    """The statistics with a new index's, which were counted where only this share of the rows is.

    ``distinct``: how many different values columns have together in all rows, where it is known better.
    """
    floor, figures = 1.0, []
    for figure in counted:
        value = figure.value / share
        if figure.columns is not None:
            # The more columns, the more different values, up to the number of rows.
            value = floor = max(floor, min(statistics.rows, distinct.get(figure.columns, value)))
        figures.append(replace(figure, value=value))
    return replace(statistics, figures=(*statistics.figures, *figures))

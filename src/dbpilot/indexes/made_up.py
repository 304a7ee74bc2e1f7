"""Values for placeholders of statements that nobody has seen real ones of, made up from what is known of the columns.

They are the application's data where they are from its statistics: neither shown nor stored.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final

from dbpilot.dialects.catalog import Catalog, Column, Family
from dbpilot.dialects.whatif import Query
from dbpilot.sql.predicates import DialectName, filled, placeholders_of

EXAMPLES: Final[Mapping[Family, Any]] = {
    "integer": 1,
    "decimal": Decimal(1),
    "float": 1.0,
    "boolean": True,
    "text": "a",
    "binary": b"a",
    "date": date(2020, 1, 1),
    "time": time(12),
    "datetime": datetime(2020, 1, 1, tzinfo=UTC),
    "uuid": "00000000-0000-4000-8000-000000000001",
    "json": "{}",
    "other": "a",
}
"""Where nothing is known of the column's values."""
ROWS_WANTED: Final = 20
"""By LIMIT, and by whatever else is no column's value."""
PLACES: Final = (0.3, 0.8)
"""Two executions are made up: one with values that are common, and one with others."""


def made_up(text: str, catalog: Catalog, dialect: DialectName) -> tuple[Query, ...]:
    """Executions of a statement with ``?`` or the like for its values: two at the most, one where they are alike.

    Where values cannot be written into it, it is the statement as it is.
    """
    targets = placeholders_of(text, dialect, catalog.columns, catalog.schema)
    columns = [_column(catalog, target) for target in targets]
    try:
        texts = [filled(text, dialect, _values(columns, share)) for share in PLACES]
    except ValueError:
        return (Query(text),)
    return tuple(Query(one) for one in dict.fromkeys(texts))


def _column(catalog: Catalog, target: tuple[str, str] | None) -> Column | None:
    if target is None or target[0] not in catalog.tables:
        return None
    return catalog.tables[target[0]].by_name.get(target[1])


def _values(columns: Sequence[Column | None], share: float) -> list[Any]:
    """One for each placeholder; several for one column rise, so that a range between two of them holds rows."""
    seen: dict[str, int] = {}
    values = []
    for column in columns:
        if column is None:
            values.append(ROWS_WANTED)
            continue
        number = seen[column.name] = seen.get(column.name, -1) + 1
        values.append(value_of(column, share, number))
    return values


def value_of(column: Column, share: float, number: int = 0) -> Any:
    """A value at that share of the column's values, common ones first; each next ``number`` is one that follows it."""
    below = 0.0
    for value, rows in () if number else column.common:
        below += rows
        if below >= share:
            return value
    if column.bounds:
        last = len(column.bounds) - 1
        return column.bounds[min(round((share * (1 - below) if below < 1 else 0.5) * last) + number, last)]
    common = [value for value, _ in column.common]
    return common[min(number, len(common) - 1)] if common else EXAMPLES[column.family]

"""What somebody types, as the values that it means."""

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Column, Table

from dbpilot.errors import ConfigError
from dbpilot.retention.conditions import comparable

UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
WORDS: Final = {"true": True, "1": True, "false": False, "0": False}
READERS: Final[Mapping[type, Callable[[str], Any]]] = {
    str: str,
    int: int,
    float: float,
    Decimal: Decimal,
    bool: lambda text: WORDS[text.lower()],
    date: date.fromisoformat,
    time: time.fromisoformat,
    UUID: UUID,
    bytes: bytes.fromhex,
}


def seconds(text: str) -> float:
    """A duration: ``90``, ``90s``, ``30m``, ``2h``, ``1.5d``.

    Raises:
        ConfigError: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    if found is None:
        raise ConfigError(f"'{text}' is no duration; write 90s, 30m, 2h or 1d")
    return float(found[1]) * UNITS_S[found[2] or "s"]


def size(text: str) -> float:
    """Bytes: ``500MB`` (of a million bytes each), ``1.5GiB`` (of 2 to the power of 30), ``4096``.

    Raises:
        ConfigError: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kMGT])(i?))?B?", text.strip(), re.IGNORECASE)
    if found is None or not float(found[1]):
        raise ConfigError(f"'{text}' is no size; write 500MB or 1.5GiB")
    power = "KMGT".index(found[2].upper()) + 1 if found[2] else 0
    return float(found[1]) * (1024.0 if found[3] else 1000.0) ** power


def instant(text: str) -> datetime:
    """An instant; without a time it is midnight, without a zone in UTC.

    Raises:
        ConfigError: it is none.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"'{text}' is no instant; write 2024-03-01 or 2024-03-01T12:00:00+09:00") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def key(columns: Sequence[Column[Any]], text: str) -> tuple[Any, ...]:
    """The key of a row; of several columns its values stand between commas, as in CSV.

    Raises:
        ConfigError: it is none.
    """
    parts = [text] if len(columns) == 1 else next(csv.reader([text]), [])
    if len(parts) != len(columns):
        names = ",".join(column.name for column in columns)
        raise ConfigError(f"'{text}' is no key of {columns[0].table.name}; write {names}")
    return tuple(value(column, part) for column, part in zip(columns, parts, strict=True))


def condition(table: Table, texts: Iterable[str]) -> dict[str, Any]:
    """``column=value`` of each text; one that is named several times may have any of its values.

    Raises:
        ConfigError: there is no such column, or a value is not of its type.
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, written = text.partition("=")
        if not equals or name not in table.c:
            columns = ", ".join(table.c.keys())
            raise ConfigError(f"'{text}' is no condition; write column=value, of {table.name}'s columns: {columns}")
        found.setdefault(name, []).append(value(table.c[name], written))
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def value(column: Column[Any], text: str) -> Any:
    """A value of this column.

    Raises:
        ConfigError: it is none.
    """
    wanted = _python_type(column)
    if wanted is datetime:
        return comparable(column, instant(text))
    if wanted not in READERS:
        raise ConfigError(f"values of {column.name}, which is {column.type!r}, cannot be written on a command line")
    try:
        return READERS[wanted](text)
    except (ValueError, KeyError, InvalidOperation):
        raise ConfigError(f"'{text}' is no value of {column.name}, which is {column.type!r}") from None


def _python_type(column: Column[Any]) -> type:
    try:
        return column.type.python_type
    except NotImplementedError:
        return str

"""Keys and other plain values as JSON, and back as what they were."""

import json
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from dbpilot.errors import RefusedError

TYPE: Final = "dbpilot:type"

WRITERS: Final[Mapping[type, tuple[str, Callable[[Any], str]]]] = {
    Decimal: ("decimal", str),
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    timedelta: ("microseconds", lambda value: str(value // timedelta(microseconds=1))),
    UUID: ("uuid", str),
    bytes: ("bytes", bytes.hex),
    bytearray: ("bytes", lambda value: bytes(value).hex()),
    memoryview: ("bytes", lambda value: bytes(value).hex()),
}
READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "decimal": Decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "microseconds": lambda text: timedelta(microseconds=int(text)),
    "uuid": UUID,
    "bytes": bytes.fromhex,
}


def to_json(value: Any) -> str:
    """The value, made of plain ones, lists and tables of these, as JSON.

    Raises:
        RefusedError: a value is of a type that cannot be written down.
    """
    return json.dumps(value, default=_written, ensure_ascii=False)


def from_json(text: str) -> Any:
    """What :func:`to_json` was given; tuples and sets are lists."""
    return json.loads(text, object_hook=_read)


def _written(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return list(value)
    for kind in type(value).__mro__:
        if kind in WRITERS:
            name, write = WRITERS[kind]
            return {TYPE: name, "value": write(value)}
    raise RefusedError(f"a {type(value).__name__} cannot be written down as part of a key or a condition")


def _read(found: dict[str, Any]) -> Any:
    return READERS[found[TYPE]](found["value"]) if TYPE in found else found

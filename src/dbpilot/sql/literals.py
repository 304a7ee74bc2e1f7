"""Values written into a statement, each as its database reads it back."""

import json
import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from dbpilot.sql.predicates import DialectName
from dbpilot.sql.reading import Piece, Unreadable, pieces_of


def written_in(statement: str, dialect: DialectName, values: Sequence[Any]) -> str:
    """See :func:`dbpilot.sql.predicates.filled`."""
    try:
        pieces = pieces_of(statement, dialect)
    except Unreadable:
        raise ValueError("the statement is too long to write values into it") from None
    count = sum(piece.kind == "placeholder" for piece in pieces)
    if count != len(values):
        raise ValueError(f"the statement has {count} placeholders; {len(values)} values were given")
    left = iter(values)
    return "".join(
        piece.before + (_placed(next(left), pieces, place, dialect) if piece.kind == "placeholder" else piece.text)
        for place, piece in enumerate(pieces)
    )


def _placed(value: Any, pieces: Sequence[Piece], place: int, dialect: DialectName) -> str:
    """The literal; a list with the brackets that are missing around it."""
    before = [piece.word for piece in pieces[max(0, place - 2) : place]]
    if not isinstance(value, list | tuple | set | frozenset):
        text = literal(value, dialect)
        return f"({text})" if before[-1:] == ["IN"] else text
    listed = ", ".join(_row(one, dialect) for one in value) or "NULL"
    if before[-2:] == ["IN", "("] or before[-1:] == ["VALUES"]:
        return listed
    return f"ARRAY[{listed}]" if dialect == "postgresql" and before[-1:] != ["IN"] else f"({listed})"


def _row(value: Any, dialect: DialectName) -> str:
    if isinstance(value, list | tuple):
        return "(" + ", ".join(literal(one, dialect) for one in value) + ")"
    return literal(value, dialect)


def literal(value: Any, dialect: DialectName) -> str:
    """One value as this database reads it back; of a type that nobody knows, its text."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).upper() if dialect == "postgresql" else str(int(value))
    if isinstance(value, int | float | Decimal):
        return _number(value, dialect)
    if isinstance(value, bytes | bytearray | memoryview):
        return _binary(bytes(value), dialect)
    if isinstance(value, datetime):
        return _quoted(_moment(value, dialect), dialect)
    if isinstance(value, date | time):
        return _quoted(value.isoformat(), dialect)
    if isinstance(value, timedelta):
        return _quoted(_duration(value, dialect), dialect)
    if isinstance(value, UUID):
        return _quoted(str(value) if dialect == "postgresql" else value.hex, dialect)
    if isinstance(value, dict):
        return _quoted(json.dumps(value, default=str), dialect)
    return _quoted(str(value), dialect)


def _number(value: float | Decimal, dialect: DialectName) -> str:
    if not math.isfinite(value):
        return f"'{value}'::float8" if dialect == "postgresql" else "NULL"
    text = f"{value:f}" if isinstance(value, Decimal) else repr(value)
    return f"({text})" if text.startswith("-") else text  # a sign before a sign would begin a comment


def _binary(value: bytes, dialect: DialectName) -> str:
    return f"'\\x{value.hex()}'::bytea" if dialect == "postgresql" else f"X'{value.hex()}'"


def _moment(value: datetime, dialect: DialectName) -> str:
    if value.tzinfo is not None and dialect != "postgresql":
        value = value.astimezone(UTC).replace(tzinfo=None)
    return value.isoformat(" ", "microseconds" if dialect == "sqlite" else "auto")


def _duration(value: timedelta, dialect: DialectName) -> str:
    seconds = value.total_seconds()
    if dialect == "postgresql":
        return f"{seconds:f} seconds"
    sign, seconds = "-" if seconds < 0 else "", abs(seconds)
    return f"{sign}{int(seconds // 3600)}:{int(seconds // 60) % 60:02}:{seconds % 60:09.6f}"


def _quoted(text: str, dialect: DialectName) -> str:
    """Safe whichever way the server reads a backslash."""
    text = text.replace("\0", "").replace("'", "''")
    if "\\" not in text or dialect == "sqlite":
        return f"'{text}'"
    prefix = "E" if dialect == "postgresql" else ""
    return prefix + "'" + text.replace("\\", "\\\\") + "'"

"""What every dialect's catalogue is read with."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import takewhile
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Row

Line = Row[*tuple[Any, ...]]
"""One row of a catalogue's table, with names."""


def version_of(connection: Connection) -> tuple[int, ...]:
    """The server's or library's version, without what a packager added."""
    told = connection.dialect.server_version_info or ()
    return tuple(int(part) for part in takewhile(lambda part: isinstance(part, int), told))


def grouped(rows: Iterable[Line], by: Callable[[Line], Any] = itemgetter(0)) -> defaultdict[Any, list[Line]]:
    """The rows by what they tell of: that of nothing that is not there is an empty list."""
    found: defaultdict[Any, list[Line]] = defaultdict(list)
    for row in rows:
        found[by(row)].append(row)
    return found

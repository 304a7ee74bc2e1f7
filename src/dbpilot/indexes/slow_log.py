"""Reads a slow log of MariaDB or MySQL, of whatever length.

https://mariadb.com/kb/en/slow-query-log-overview/, https://dev.mysql.com/doc/refman/8.4/en/slow-query-log.html
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from dbpilot.dialects.catalog import Catalog
from dbpilot.errors import ConfigError
from dbpilot.indexes.workload import Book, Workload
from dbpilot.sql.predicates import DialectName

MAX_LINE: Final = 65_536
"""Bytes of a line that are read at once."""
MAX_STATEMENT: Final = 65_536
"""Characters kept of a statement; its pattern is made of fewer."""
LOOKED_AT: Final = 65_536
"""Bytes at the beginning of a file that tell what it is."""
BEGINS: Final = re.compile(r"# (?:Time: |User@Host: )")
SECONDS: Final = re.compile(r"# Query_time: ([0-9.]+)")
SCHEMA: Final = re.compile(r"# .*\bSchema: (\S*)")
USE: Final = re.compile(r"use (`(?:[^`]|``)*`|\S+?);", re.IGNORECASE)
TIMESTAMP: Final = re.compile(r"SET timestamp=(\d+)[.\d]*;", re.IGNORECASE)
BANNER: Final = re.compile(r".*, Version: .* started with:|Tcp port: .*|Time\s+Id\s+Command\s+Argument")
"""What a server writes when it starts, or opens the log anew."""
HINT: Final = re.compile(rb"^# (?:Time: |User@Host: |Query_time: )", re.MULTILINE)
COMMAND: Final = "# administrator command: "
"""What stands for a statement where none was sent."""
CUT: Final = "cut off at the beginning of the log"
OTHER_DATABASE: Final = "sent to other databases"


@dataclass(slots=True)
class Entry:
    """One execution that was slow enough to be written down."""

    duration_s: float | None = None
    schema: str | None = None
    """The database it was sent to; None where the log does not say."""
    timestamp: int | None = None
    """Of its start, in seconds since 1970."""
    lines: list[str] = field(default_factory=list, repr=False)
    length: int = 0
    in_header: bool = True

    @property
    def statement(self) -> str:
        """As it was sent; a very long one without its end."""
        return "".join(self.lines).strip().removesuffix(";").rstrip()


def looks_like_slow_log(path: Path) -> bool:
    """Whether the file begins as a slow log does.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return HINT.search(file.read(LOOKED_AT)) is not None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def of_slow_log(path: Path, catalog: Catalog, dialect_name: DialectName) -> Workload:
    """The executions in a slow log that were sent to the catalogue's database, with the time they took.

    Raises:
        ConfigError: the file cannot be read, or holds no entry.
    """
    book = Book(catalog, dialect_name)
    first = last = None
    count = 0
    try:
        with path.open("rb") as file:
            for entry in entries_of(file):
                count += entry.duration_s is not None
                first = first if first is not None else entry.timestamp
                last = entry.timestamp if entry.timestamp is not None else last
                _add(book, entry, catalog.schema)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if not count:
        raise ConfigError(f"{path.name} holds no entry of a slow log")
    covers_s = float(last - first) if first is not None and last is not None and last > first else None
    return book.workload(f"the slow log {path.name}", covers_s)


def _add(book: Book, entry: Entry, schema: str | None) -> None:
    if entry.duration_s is None:
        book.leave_out(CUT)
    elif schema is not None and entry.schema is not None and entry.schema != schema:
        book.leave_out(OTHER_DATABASE)
    elif entry.statement and not entry.statement.startswith(COMMAND):
        book.add(entry.statement, entry.duration_s)


def entries_of(file: IO[bytes]) -> Iterator[Entry]:
    """The entries, one after another; of a log that was cut the first one has no duration.

    A statement that holds a line like those that begin an entry is taken for two.
    """
    entry = Entry()
    schema: str | None = None
    """The database that the entries are about: it is written only where it changes."""
    for line, is_whole in _lines(file):
        if is_whole and BEGINS.match(line) and not entry.in_header:
            if entry.lines or entry.duration_s is not None:
                yield entry
            schema = entry.schema
            entry = Entry(schema=schema)
        if is_whole and entry.in_header and line.startswith("#"):
            _read_header(entry, line)
        elif not (is_whole and BANNER.match(line)):
            _read_body(entry, line, is_whole=is_whole)
    if entry.lines or entry.duration_s is not None:
        yield entry


def _read_header(entry: Entry, line: str) -> None:
    seconds, schema = SECONDS.match(line), SCHEMA.match(line)
    if seconds is not None:
        entry.duration_s = float(seconds[1])
    if schema is not None and schema[1]:
        entry.schema = schema[1]


def _read_body(entry: Entry, line: str, *, is_whole: bool) -> None:
    entry.in_header = False
    if is_whole and not entry.lines:
        use, timestamp = USE.match(line), TIMESTAMP.match(line)
        if use is not None:
            entry.schema = use[1].strip("`").replace("``", "`")
        if timestamp is not None:
            entry.timestamp = int(timestamp[1])
        if use is not None or timestamp is not None or not line.strip():
            return
    room = MAX_STATEMENT - entry.length
    entry.length += len(line)
    if room > 0:
        entry.lines.append(line[:room])


def _lines(file: IO[bytes]) -> Iterator[tuple[str, bool]]:
    """Lines, long ones in pieces; and whether a piece is the beginning of its line."""
    begins = True
    while piece := file.readline(MAX_LINE):
        yield piece.decode("utf-8", "replace").replace("\r\n", "\n"), begins
        begins = piece.endswith(b"\n")

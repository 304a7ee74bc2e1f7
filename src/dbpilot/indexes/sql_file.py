"""Reads a file of SQL: one statement after another, each ended by a semicolon."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dbpilot.dialects.catalog import Catalog
from dbpilot.errors import ConfigError
from dbpilot.indexes.workload import JUDGED, SYNTAXES, Book, Workload
from dbpilot.sql.fingerprint import fingerprint
from dbpilot.sql.predicates import DialectName, predicates_of
from dbpilot.sql.syntax import Syntax

MAX_BYTES: Final = 64 * 2**20
"""A file is read at once; a larger one was not written by hand."""
MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""What some editors begin a file with, to say how it is encoded."""
OPENS: Final = {"(": 1, "[": 1, ")": -1, "]": -1}


@dataclass(frozen=True, slots=True)
class Written:
    """One statement of a file."""

    text: str
    line: int
    """Where it begins, from 1."""
    is_ended: bool
    """Whether a semicolon follows it."""


def of_sql_file(path: Path, catalog: Catalog, dialect_name: DialectName) -> Workload:
    """The statements of a file, each as often as it is there.

    Raises:
        ConfigError: the file cannot be read, is none of SQL, or breaks off in a statement; names the line.
    """
    book = Book(catalog, dialect_name)
    found = False
    for written in statements_in(text_of(path), SYNTAXES[dialect_name], path.name):
        if not written.is_ended:
            _check_whole(written, path.name, catalog, dialect_name)
        book.add(written.text)
        found = True
    if not found:
        raise ConfigError(f"{path.name} holds no statement: write some, each ended by a semicolon")
    return book.workload(f"the statements in {path.name}", None)


def _check_whole(written: Written, name: str, catalog: Catalog, dialect_name: DialectName) -> None:
    """What ends with the file may be half a statement."""
    operation = fingerprint(written.text, SYNTAXES[dialect_name]).operation
    if operation in JUDGED and predicates_of(written.text, dialect_name, catalog.columns, catalog.schema) is None:
        raise ConfigError(
            f"{name}, line {written.line}: the file ends within the statement that begins there; end it with a "
            "semicolon if it is whole"
        )


def text_of(path: Path) -> str:
    """The file's text.

    Raises:
        ConfigError: it cannot be read, or is no text; names the line where it is not.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path.name} is larger than {MAX_BYTES // 2**20} MiB: give a part of it, or a slow log")
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    encoding = next((encoding for mark, encoding in MARKS if data.startswith(mark)), "utf-8")
    if encoding != "utf-16" and b"\0" in data:
        raise ConfigError(f"{path.name}, line {_line_at(data, data.index(0))}: that is no text")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = _line_at(data, error.start)
        raise ConfigError(
            f"{path.name}, line {line}: that is not {encoding.upper()}; convert it, as by iconv"
        ) from None


def _line_at(data: bytes, position: int) -> int:
    return data.count(b"\n", 0, position) + 1


def statements_in(text: str, syntax: Syntax, name: str) -> Iterator[Written]:
    """The statements of a text without what is between them; semicolons in values, comments and bodies end none.

    Raises:
        ConfigError: a quote, a comment or a bracket is open at the end.
    """
    # What is open at the end swallows a semicolon that is put there.
    even = _evened(f"{text}\n;", syntax)
    start: int | None = None
    line, counted, depth = 1, 0, 0
    for match in syntax.tokens_of_rows.finditer(even):
        token, at = match[1], match.start(1)
        is_end = token == ";" and at == len(text) + 1
        if is_end and start is not None and depth <= 0:
            yield Written(text[start:].rstrip(), line, is_ended=False)
            return
        if _is_comment(token, syntax) and match.end() <= len(text) + 1:
            continue
        if token == ";" and depth <= 0:
            if start is not None:
                yield Written(text[start:at].rstrip(), line, is_ended=True)
            start, depth = None, 0
        elif start is None:
            start, line, counted = at, line + text.count("\n", counted, at), at
        depth += OPENS.get(token, 0)
    if start is not None:
        raise ConfigError(
            f"{name}, line {line}: the file ends within the statement that begins there: a quote, a comment or a "
            "bracket is open"
        )


def _evened(text: str, syntax: Syntax) -> str:
    """As long as the text, with what dollar signs quote made an ordinary string."""
    if syntax.dollar_quoted is None or "$" not in text:
        return text
    return syntax.dollar_quoted.sub(lambda match: f"'{'x' * (len(match[0]) - 2)}'" if match[1] else match[0], text)


def _is_comment(token: str, syntax: Syntax) -> bool:
    return (
        token[:2] == "--"
        or (token[:2] == "/*" and token[2:3] not in ("!", "+"))
        or (syntax.kinds[token[0]] == "comment")
    )

"""Two statements that differ only in values, spacing and comments have the same fingerprint.

One pass over the tokens. Values become ``?``, a list of values after IN or in ARRAY[] becomes one, rows of VALUES
that look alike become one, keywords become upper case, names keep their case. Nothing here raises: what no rule
understands is kept token by token, and values are replaced all the same.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from dbpilot.sql.syntax import Syntax

SCHEME: Final = "1"
"""Part of every id: a change of the rules below must change it, for ids are kept in histories."""

MAX_TEXT: Final = 16_384
"""Characters of a statement that are read; a longer one is told apart by these alone and marked as cut."""

KEYWORDS: Final = frozenset(
    """ADD ALL ALTER ANALYZE AND ANY ARRAY AS ASC BEGIN BETWEEN BY CASCADE CASE CAST COLLATE COLUMN COMMIT CONFLICT
    CONSTRAINT CREATE CROSS DEFAULT DELETE DESC DISTINCT DO DROP DUPLICATE ELSE END ESCAPE EXCEPT EXISTS EXPLAIN
    FALSE FETCH FILTER FIRST FOR FORCE FOREIGN FROM FULL GROUP HAVING IF IGNORE ILIKE IN INDEX INNER INSERT INTERSECT
    INTERVAL INTO IS JOIN KEY LATERAL LEFT LIKE LIMIT LOCK LOCKED MERGE NATURAL NEXT NOT NOTHING NULL NULLS OF OFFSET
    ON ONLY OR ORDER OUTER OVER PARTITION PRAGMA PRIMARY RECURSIVE REFERENCES RELEASE REPLACE RETURNING RIGHT ROLLBACK
    ROW ROWS SAVEPOINT SELECT SET SHARE SHOW SKIP SOME START TABLE THEN TO TRANSACTION TRUE TRUNCATE UNION UNIQUE
    UPDATE USING VACUUM VALUES VIEW WHEN WHERE WINDOW WITH""".split()
)
VALUE_WORDS: Final = frozenset({"NULL", "TRUE", "FALSE"})
BEFORE_VALUE: Final = frozenset({"(", ",", "=", "<>", "!=", "THEN", "ELSE", "VALUES", "RETURN", "SELECT"})

COMPARISONS: Final = frozenset({"=", "==", "<>", "!=", "<", ">", "<=", ">=", "||", "LIKE", "GLOB", "MATCH", "IS"})
SETTINGS: Final = frozenset({"SET", "PRAGMA"})
VERBS: Final = frozenset(
    """SELECT INSERT UPDATE DELETE MERGE REPLACE CREATE ALTER DROP TRUNCATE BEGIN COMMIT ROLLBACK SAVEPOINT RELEASE
    SET SHOW EXPLAIN ANALYZE VACUUM PRAGMA CALL""".split()
)
MAIN_VERBS: Final = ("INSERT", "UPDATE", "DELETE", "MERGE", "SELECT")
TIGHT_BEFORE: Final = frozenset({",", ")", "]", ".", ";", "::"})
TIGHT_AFTER: Final = frozenset({"(", "[", ".", "::"})
VALUE: Final = "\0"
"""Stands for a value among the tokens: no statement holds it, while a question mark is PostgreSQL's jsonb operator."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a statement is, without its values."""

    id: str
    """Sixteen hexadecimal digits, equal for equal texts of one database's syntax."""

    text: str
    """Readable, values replaced by ``?``."""

    operation: str
    """The verb in upper case, ``OTHER`` where it is none that we know."""


def fingerprint(statement: str, syntax: Syntax) -> Fingerprint:
    """The statement's pattern in this syntax; never raises."""
    tokens = pattern_tokens(statement, syntax)
    text = joined(tokens, "?")
    if len(statement) > MAX_TEXT:
        text += " ..."
    digest = blake2b(f"{SCHEME} {syntax.name} {text}".encode(), digest_size=8)
    return Fingerprint(digest.hexdigest(), text, operation_of(tokens))


def pattern_tokens(statement: str, syntax: Syntax) -> list[str]:
    """The statement's tokens with ``VALUE`` in the place of values, lists and rows collapsed.

    What no database could store as text (NUL, halves of surrogate pairs) is replaced.
    """
    storable = statement[:MAX_TEXT].encode("utf-8", "replace").decode().replace("\0", " ")
    tokens = _collapse_rows(_collapse_lists(list(_normalised(storable, syntax))))
    while tokens and tokens[-1] == ";":
        tokens.pop()
    return tokens


def _normalised(statement: str, syntax: Syntax) -> Iterator[str]:
    """The tokens, values replaced; a sign in front of a number goes with it, and ``'a' 'b'`` is one value."""
    first = before = last = sign = ""
    for match in syntax.token.finditer(statement):
        kind = match.lastgroup or ""
        if kind == "skip":
            continue
        if kind == "tag":  # of a dollar-quoted string
            kind = "literal"
        token = _token(kind, match.group(kind), last)
        if _hides_a_value(kind, token, (first, before, last)) and (kind == "word" or _may_be_value(match, syntax)):
            token = VALUE
        if sign:
            if token != VALUE:
                yield sign
            sign = ""
        if token in ("-", "+") and not _ends_operand(last):
            sign = token
        elif not token == last == VALUE:
            yield token
        first, before, last = first or token, last, token
    if sign:
        yield sign


def _hides_a_value(kind: str, token: str, seen: tuple[str, str, str]) -> bool:
    """Whether a name stands where a value is expected; ``seen`` is the first token, and the last two."""
    first, before, last = seen
    if kind == "word":
        return first in SETTINGS and last in ("=", "TO") and token not in KEYWORDS
    in_list = (last == "(" and before in ("IN", "VALUES", ",")) or (last == "," and before == VALUE)
    return kind == "quoted" and (last in COMPARISONS or in_list)


def _may_be_value(match: re.Match[str], syntax: Syntax) -> bool:
    """SQLite takes a name in double quotes that it does not know for a string; one before a dot is a table's."""
    text = match.string
    return syntax.names_may_be_values and text[match.end() - 1] == '"' and text[match.end() : match.end() + 1] != "."


def _ends_operand(token: str) -> bool:
    return token[:1] in (")", "]", '"', "`", "_", VALUE) or (token[:1].isalnum() and token not in KEYWORDS)


def _token(kind: str, raw: str, last: str) -> str:
    if kind == "literal":
        return VALUE
    if kind == "word":
        upper = raw.upper()
        if upper in VALUE_WORDS and last in BEFORE_VALUE:
            return VALUE
        if last == "SAVEPOINT":  # SQLAlchemy numbers them
            return VALUE
        return upper if upper in KEYWORDS or upper in VERBS else raw
    if kind == "hint":
        return raw.rstrip("0123456789")
    return "%" if raw == "%%" else raw


def _collapse_lists(tokens: list[str]) -> list[str]:
    """``IN (?, ?, ?)`` and ``ARRAY[?, ?]`` with any number of plain values become ``IN (?)`` and ``ARRAY[?]``."""
    kept: list[str] = []
    in_list = False
    for token in tokens:
        if token in ("(", "["):
            in_list = bool(kept) and kept[-1] in ("IN", "ARRAY")
        elif token in (")", "]"):
            in_list = False
        elif in_list and token == VALUE and kept[-2:] == [VALUE, ","]:
            kept.pop()
            continue
        kept.append(token)
    return kept


def _collapse_rows(tokens: list[str]) -> list[str]:
    """``VALUES (?, ?), (?, ?)`` becomes ``VALUES (?, ?)``, likewise pairs after IN; rows of another shape stay."""
    kept: list[str] = []
    position = 0
    while position < len(tokens):
        kept.append(tokens[position])
        position += 1
        if tokens[position : position + 1] == ["("] and (kept[-1] == "VALUES" or kept[-2:] == ["IN", "("]):
            row = _group(tokens, position)
            kept.extend(row)
            position = _after_equal_rows(tokens, position + len(row), row)
    return kept


def _after_equal_rows(tokens: list[str], position: int, row: list[str]) -> int:
    while tokens[position : position + 1 + len(row)] == [",", *row]:
        position += 1 + len(row)
    return position


def _group(tokens: list[str], position: int) -> list[str]:
    """The tokens from an opening bracket to its closing one."""
    depth = 0
    for end in range(position, len(tokens)):
        depth += (tokens[end] == "(") - (tokens[end] == ")")
        if depth == 0:
            return tokens[position : end + 1]
    return tokens[position:]


def operation_of(tokens: list[str]) -> str:
    """The verb of a statement's tokens, ``OTHER`` where it is none that we know."""
    first = next((token for token in tokens if token != "(" and not token.startswith("/*")), "")
    if first == "WITH":
        return _main_verb(tokens)
    if first in ("START", "END"):
        return "BEGIN" if first == "START" else "COMMIT"
    return first if first in VERBS else "OTHER"


def _main_verb(tokens: list[str]) -> str:
    """The verb outside the brackets of the common table expressions."""
    depth = 0
    for token in tokens:
        depth += (token == "(") - (token == ")")
        if depth == 0 and token in MAIN_VERBS:
            return token
    return "OTHER"


def joined(tokens: list[str], value: str) -> str:
    """The tokens as one readable line, each value written as ``value``."""
    parts: list[str] = []
    last = before = ""
    for token in tokens:
        if parts and not (token in TIGHT_BEFORE or last in TIGHT_AFTER or (token == "(" and _calls(last, before))):
            parts.append(" ")
        parts.append(value if token == VALUE else token)
        last, before = token, last
    return "".join(parts)


def _calls(name: str, before: str) -> bool:
    """A bracket right after a name opens a call, unless the name is a keyword or the table of an INSERT."""
    return (name[:1].isalpha() or name[:1] == "_") and name not in KEYWORDS and before not in ("INTO", "TABLE")

"""How the databases spell the same things: quoting, comments and placeholders as regular expressions."""

import re
from dataclasses import dataclass
from typing import Final

SINGLE = r"'(?:[^']|'')*(?:'|\Z)"
SINGLE_BACKSLASH = r"'(?:[^'\\]|\\(?:.|\Z)|'')*(?:'|\Z)"
DOUBLE = r'"(?:[^"]|"")*(?:"|\Z)'
DOUBLE_BACKSLASH = r'"(?:[^"\\]|\\(?:.|\Z)|"")*(?:"|\Z)'
BACKTICK = r"`(?:[^`]|``)*(?:`|\Z)"
BRACKET = r"\[[^\]]*\]"
DOLLAR = r"\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)"

NUMBER = r"0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)?"
# No name begins with a digit (MariaDB's may, and few do): what does was a value that somebody forgot to quote.
DIGITS_FIRST = r"(?<![\w$])\d[\w$]*"
# What SQLAlchemy leaves in a compiled statement for an IN list that it fills in later.
EXPANDING = r"__\[POSTCOMPILE_[^\]]*\]"
# The forms that DBAPI drivers know: %s and %(name)s, :name (but not ::cast), numbered $1, and ?.
BINDS = rf"%s|%\(\w+\)s|(?<![:\w]):[^\W\d]\w*|(?<![:\w]):\d+|{EXPANDING}"

# A comment is no part of the pattern; a hint (/*+ */) or versioned code (/*! */) is, and is read like the rest.
BLOCK_COMMENT = r"/\*(?![!+]).*?(?:\*/|\Z)"
HINT = r"/\*!\d*|/\*\+|\*/"


def _nested(depth: int) -> str:
    """The rest of a PostgreSQL comment, which may hold others; deeper than ``depth`` the first end ends it."""
    if not depth:
        return r"(?:[^*]|\*(?!/))*(?:\*/|\Z)"
    return rf"(?:[^*/]|\*(?!/)|/(?!\*)|/\*{_nested(depth - 1)})*(?:\*/|\Z)"


@dataclass(frozen=True, slots=True)
class Syntax:
    """One database's spelling, compiled into a single token pattern.

    The groups of ``token``: ``skip`` (white space and comments), ``literal`` (values and placeholders), ``word``,
    ``quoted`` (names), ``hint``, ``op``. Together they match every text without a gap.
    """

    name: str
    """The name sqlglot knows this database by."""

    token: re.Pattern[str]

    names_may_be_values: bool
    """Whether double quotes hold a name or, failing that, a string."""


def _syntax(
    name: str,
    *,
    comment: str,
    literal: str,
    quoted: str,
    block_comment: str = BLOCK_COMMENT,
    names_may_be_values: bool = False,
) -> Syntax:
    groups = (
        rf"(?P<skip>(?:\s+|{comment}|{block_comment})+)|(?P<hint>{HINT})"
        rf"|(?P<literal>{literal}|{BINDS}|(?<![\w$])(?:{NUMBER})(?![\w$])|{DIGITS_FIRST})"
        rf"|(?P<quoted>{quoted})|(?P<word>[^\W\d][\w$]*)"
        r"|(?P<op>::|->>|->|#>>|#>|@>|<@|\?\||\?&|<=>|<>|!=|<=|>=|\|\||&&|:=|%%|\S)"
    )
    return Syntax(name, re.compile(groups, re.DOTALL), names_may_be_values)


MYSQL: Final = _syntax(
    "mysql",
    comment=r"--(?=\s|\Z)[^\n]*|#[^\n]*",
    literal=rf"(?:[nN]|[xXbB]|_[a-zA-Z0-9]+\s*)?{SINGLE_BACKSLASH}|{DOUBLE_BACKSLASH}|\?",
    quoted=BACKTICK,
)
POSTGRESQL: Final = _syntax(
    "postgres",
    comment=r"--[^\n]*",
    block_comment=rf"/\*(?![!+]){_nested(depth=3)}",
    # A question mark is an operator here (jsonb), and every driver for PostgreSQL writes its placeholders otherwise.
    literal=rf"[eE]{SINGLE_BACKSLASH}|(?:[nNxXbB]|[uU]&)?{SINGLE}|{DOLLAR}|\$\d+",
    quoted=rf"(?:[uU]&)?{DOUBLE}",
)
SQLITE: Final = _syntax(
    "sqlite",
    comment=r"--[^\n]*",
    literal=rf"[xX]?{SINGLE}|\?\d*|[@$][^\W\d]\w*",
    quoted=rf"{DOUBLE}|{BACKTICK}|{BRACKET}",
    names_may_be_values=True,
)

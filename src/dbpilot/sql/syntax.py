"""How the databases spell the same things: quoting, comments and placeholders as regular expressions."""

import re
from dataclasses import dataclass
from typing import Final

SINGLE = r"'(?:[^']|'')*(?:'|\Z)"
SINGLE_BACKSLASH = r"'(?:[^'\\]|\\.|'')*(?:'|\Z)"
DOUBLE = r'"(?:[^"]|"")*(?:"|\Z)'
DOUBLE_BACKSLASH = r'"(?:[^"\\]|\\.|"")*(?:"|\Z)'
BACKTICK = r"`(?:[^`]|``)*(?:`|\Z)"
BRACKET = r"\[[^\]]*\]"
DOLLAR = r"\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)"

NUMBER = r"0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)?"
# What SQLAlchemy leaves in a compiled statement for an IN list that it fills in later.
EXPANDING = r"__\[POSTCOMPILE_[^\]]*\]"
# The forms that DBAPI drivers know: %s and %(name)s, :name (but not ::cast), numbered $1, and ?.
BINDS = rf"%s|%\(\w+\)s|(?<![:\w]):[^\W\d]\w*|(?<![:\w]):\d+|{EXPANDING}"

# A comment is no part of the pattern; a hint (/*+ */) or versioned code (/*! */) is.
BLOCK_COMMENT = r"/\*(?![!+]).*?(?:\*/|\Z)"


@dataclass(frozen=True, slots=True)
class Syntax:
    """One database's spelling, compiled into a single token pattern.

    The groups of ``token``: ``literal`` (values and placeholders), ``word``, ``quoted`` (names), ``hint``, ``op``.
    White space and comments before a token belong to its match.
    """

    name: str
    """The name sqlglot knows this database by."""

    token: re.Pattern[str]


def _syntax(name: str, *, comment: str, literal: str, quoted: str) -> Syntax:
    # Possessive: a comment before the end must not be read again as operators, nor cost exponential time.
    skip = rf"(?:\s+|{comment}|{BLOCK_COMMENT})*+"
    groups = (
        rf"(?P<hint>/\*[!+].*?(?:\*/|\Z))|(?P<literal>{literal}|{BINDS}|(?<![\w$])(?:{NUMBER})(?![\w$]))"
        rf"|(?P<quoted>{quoted})|(?P<word>[^\W\d][\w$]*)"
        r"|(?P<op>::|->>|->|#>>|#>|@>|<@|\?\||\?&|<=>|<>|!=|<=|>=|\|\||&&|:=|%%|\S)"
    )
    return Syntax(name, re.compile(rf"{skip}(?:{groups}|\Z)", re.DOTALL))


MYSQL: Final = _syntax(
    "mysql",
    comment=r"--(?=\s|\Z)[^\n]*|#[^\n]*",
    literal=rf"(?:[nN]|[xXbB]|_[a-zA-Z0-9]+\s*)?{SINGLE_BACKSLASH}|{DOUBLE_BACKSLASH}|\?",
    quoted=BACKTICK,
)
POSTGRESQL: Final = _syntax(
    "postgres",
    comment=r"--[^\n]*",
    # A question mark is an operator here (jsonb), and every driver for PostgreSQL writes its placeholders otherwise.
    literal=rf"[eE]{SINGLE_BACKSLASH}|(?:[nNxXbB]|[uU]&)?{SINGLE}|{DOLLAR}|\$\d+",
    quoted=rf"(?:[uU]&)?{DOUBLE}",
)
SQLITE: Final = _syntax(
    "sqlite",
    comment=r"--[^\n]*",
    literal=rf"[xX]?{SINGLE}|\?\d*|[@$][^\W\d]\w*",
    quoted=rf"{DOUBLE}|{BACKTICK}|{BRACKET}",
)

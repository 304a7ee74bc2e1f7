"""How the databases spell the same things: quoting, comments and placeholders as regular expressions.

Nothing in them can be read in two ways, so a statement is read in time proportional to its length. Every alternative
begins with a character or a set of them, which is how the regular expression engine finds the right one quickly.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_letters, digits, punctuation
from typing import Final

SINGLE = r"'[^']*(?:''[^']*)*(?:'|\Z)"
SINGLE_BACKSLASH = r"'[^'\\]*(?:(?:\\.|'')[^'\\]*)*\\?(?:'|\Z)"
DOUBLE = r'"[^"]*(?:""[^"]*)*(?:"|\Z)'
DOUBLE_BACKSLASH = r'"[^"\\]*(?:(?:\\.|"")[^"\\]*)*\\?(?:"|\Z)'
BACKTICK = r"`[^`]*(?:``[^`]*)*(?:`|\Z)"
BRACKET = r"\[[^\]]*\]"

# What begins like a number and goes on like a name was a value that somebody forgot to quote, or is one of MariaDB's
# names; whoever reads the tokens decides.
NUMBER = r"0[xX]\w+|\d[\w$.]*(?:(?<=[eE])[+-]\d+)?|\.\d[\w$]*(?:(?<=[eE])[+-]\d+)?"
# What SQLAlchemy leaves in a compiled statement for an IN list that it fills in later.
EXPANDING = r"__\[POSTCOMPILE_[^\]]*\]"
# The forms that DBAPI drivers know: %s and %(name)s, :name (but not ::cast), and more in some syntaxes.
BINDS = r"%s|%\(\w+\)s|:(?<![:\w]:)\w+"
WORD = r"[^\W\d][\w$]*"
# Most names, in characters that the engine knows without looking them up in Unicode's tables.
ASCII_NAME = r"[A-Za-z_][A-Za-z_0-9]*"

# A comment is no part of the pattern; a hint (/*+ */) or versioned code (/*! */) is, and is read like the rest.
BLOCK_COMMENT = r"/\*(?![!+]).*?(?:\*/|\Z)"
HINT = r"/\*!\d*|/\*\+|\*/"
# Signs that are whole operators wherever they stand alone; a comma before a bracket may begin another row.
SIGN = r"[()\];]|,(?!\s*\()|[=<>](?![=<>~!@#%^&|`?*/+-])"
OPERATOR = r"::|->>|->|#>>|#>|@>|<@|\?\||\?&|<=>|<>|!=|<=|>=|<<|>>|==|\|\||&&|:=|%%|\S"
# PostgreSQL's rule: the longest run of these signs, which ends in + or - only if it has one of the rarer ones; 63 at
# the most.
PG_OPERATOR = (
    r"[(),;\[\].]|::|:=|(?:(?!--|/\*)[*/<>=+-]){0,63}(?:%%|[~!@#^&|`?%])(?:(?!--|/\*)[*/<>=~!@#^&|`?%+-]){0,63}"
    r"|(?:(?!--|/\*)[*/<>=+-]){0,63}[*/<>=]|\S"
)


class _Kinds(dict[str, str]):
    """By first character; those beyond ASCII that are no digits begin names."""

    def __missing__(self, first: str) -> str:
        return "value" if first.isdecimal() else "name"


def _kinds(**others: str) -> _Kinds:
    """``others``: characters whose kind in a syntax is not what it is in most."""
    kinds = _Kinds({**dict.fromkeys(punctuation, "rest"), **dict.fromkeys(ascii_letters + '"', "name")})
    kinds.update({**dict.fromkeys(digits + "'", "value"), **dict.fromkeys("%:$@.", "perhaps"), "_": "prefixed"})
    for kind, characters in others.items():
        kinds.update(dict.fromkeys(characters, kind))
    return kinds


def _nested(depth: int) -> str:
    """The rest of a PostgreSQL comment, which may hold others; deeper than ``depth`` the first end ends it."""
    if not depth:
        return r"(?:[^*]|\*(?!/))*(?:\*/|\Z)"
    return rf"(?:[^*/]|\*(?!/)|/(?!\*)|/\*{_nested(depth - 1)})*(?:\*/|\Z)"


@dataclass(frozen=True, slots=True, eq=False)
class Syntax:
    """One database's spelling, compiled."""

    name: str
    """Part of every pattern's id: the same text is another pattern on another kind of database."""

    tokens: re.Pattern[str]
    """Matches one token and the white space before it; together its matches leave no gap. Its one group is the token:
    a name with dots between; an operator or another sign; a value, or several with commas between; rows of values that
    follow another row, with the comma before them; or a comment. Which of these it is, its first characters tell."""

    tokens_of_rows: re.Pattern[str]
    """The same, rows taken apart as anything else."""

    value: re.Pattern[str]
    """Matches one value of several."""

    kinds: Mapping[str, str]
    """What a token is, by its first character: a "name", or an "odd" one that may be a value; a "value", "perhaps" one
    (or an operator), or "prefixed" like one (or a name); a "comment"; or the "rest": operators, comments, rows."""

    prefixed: re.Pattern[str]
    """Matches a value that begins like a name."""

    dollar_quoted: re.Pattern[str] | None
    """Matches what may hold a dollar sign: the first group a string quoted with them, otherwise something else."""

    names_may_be_values: bool
    """Whether double quotes hold a name or, failing that, a string."""


def _syntax(
    name: str,
    *,
    comment: str,
    prefixed: str,
    value: str,
    quoted: str,
    block_comment: str = BLOCK_COMMENT,
    operator: str = OPERATOR,
    kinds: _Kinds,
    dollar_quoted: re.Pattern[str] | None = None,
    names_may_be_values: bool = False,
) -> Syntax:
    dotted = rf"(?:\.(?:{WORD}|{quoted}))*"
    # What a quotation mark or a bracket follows may be something else than a name.
    end = r"(?![\w$'&\[.])"
    simple = rf"{ASCII_NAME}(?:{end}|\.{ASCII_NAME}{end})"
    plain = rf"{simple}|{WORD}(?![\w$'&\[]){dotted}|(?:{quoted}){dotted}"
    one = rf"{value}|{NUMBER}|{BINDS}"
    run = rf"(?:{one})(?:\s*,\s*[-+]?(?:{one}))*"
    cell = rf"[-+]?(?:{prefixed}|{one})|(?i:NULL|TRUE|FALSE)\b"
    row = rf",\s*\(\s*(?:{cell})(?:\s*,\s*(?:{cell}))*\s*\)"
    before = rf"\s*({plain}|{SIGN}|{run}|{EXPANDING}|{prefixed}|{comment}|{block_comment}|"
    after = rf"{WORD}{dotted}|{HINT}|{operator})"
    return Syntax(
        name,
        re.compile(rf"{before}{row}(?:\s*{row})*|{after}", re.DOTALL),
        re.compile(f"{before}{after}", re.DOTALL),
        re.compile(one, re.DOTALL),
        kinds,
        re.compile(rf"{EXPANDING}|{prefixed}", re.DOTALL),
        dollar_quoted,
        names_may_be_values,
    )


MYSQL: Final = _syntax(
    "mysql",
    comment=r"--(?=\s|\Z)[^\n]*|#[^\n]*",
    prefixed=rf"[nNxXbB]{SINGLE_BACKSLASH}|_[a-zA-Z0-9]+\s*{SINGLE_BACKSLASH}",
    value=rf"{SINGLE_BACKSLASH}|{DOUBLE_BACKSLASH}|\?",
    quoted=BACKTICK,
    kinds=_kinds(prefixed="nNxXbB", value='"?', comment="#", name="`"),
)
POSTGRESQL: Final = _syntax(
    "postgres",
    comment=r"--[^\n]*",
    block_comment=rf"/\*(?![!+]){_nested(depth=3)}",
    prefixed=rf"[eE]{SINGLE_BACKSLASH}|[nNxXbB]{SINGLE}|[uU]&{SINGLE}",
    # A question mark is an operator here (jsonb), and every driver for PostgreSQL writes its placeholders otherwise.
    value=rf"{SINGLE}|\$\d+",
    quoted=rf"{DOUBLE}|[uU]&{DOUBLE}",
    operator=PG_OPERATOR,
    kinds=_kinds(prefixed="eEnNxXbBuU"),
    dollar_quoted=re.compile(
        rf"{SINGLE}|{DOUBLE}|[eE]{SINGLE_BACKSLASH}|--[^\n]*|/\*{_nested(depth=3)}|[^\W\d][\w$]*"
        r"|(\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z))",
        re.DOTALL,
    ),
)
SQLITE: Final = _syntax(
    "sqlite",
    comment=r"--[^\n]*",
    prefixed=rf"[xX]{SINGLE}",
    value=rf"{SINGLE}|\?\d*|[@$][^\W\d]\w*",
    quoted=rf"{DOUBLE}|{BACKTICK}|{BRACKET}",
    kinds=_kinds(prefixed="xX", odd='"', name="[`", value="?"),
    names_may_be_values=True,
)

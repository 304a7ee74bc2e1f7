"""Two statements that differ only in values, spacing and comments have the same fingerprint.

The regular expression of the syntax does most of the work; one pass over its tokens does the rest. Values become
``?``, a list of values after IN or in ARRAY[] becomes one, rows of VALUES that look alike become one, keywords become
upper case, names keep their case. Nothing here raises: what no rule understands is kept token by token, and values are
replaced all the same.
"""

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from dbpilot.sql.syntax import Syntax

SCHEME: Final = "2"
"""Part of every id: a change of the rules below must change it, for ids are kept in histories."""
SCHEME_CUT: Final = "2 cut"

MAX_TEXT: Final = 16_384
"""Characters of a statement that are read; a longer one is told apart by these alone and marked as cut."""

# A bare name that is one of these cannot be a column, or it is one so rarely that two patterns for it do no harm.
RESERVED: Final = frozenset(
    """ADD ALL ALTER ANALYZE AND ANY ARRAY AS ASC BETWEEN BY CASE CAST COLLATE COLUMN CONSTRAINT CREATE CROSS DEFAULT
    DELETE DESC DISTINCT DROP ELSE END ESCAPE EXCEPT EXISTS EXPLAIN FALSE FETCH FOR FOREIGN FROM FULL GROUP HAVING
    ILIKE IN INNER INSERT INTERSECT INTERVAL INTO IS JOIN LATERAL LEFT LIKE LIMIT MERGE NATURAL NOT NULL OF OFFSET ON
    ONLY OR ORDER OUTER OVER PRAGMA PRIMARY RECURSIVE REFERENCES RELEASE REPLACE RETURNING RIGHT ROLLBACK SAVEPOINT
    SELECT SET SHOW SOME TABLE THEN TO TRUE TRUNCATE UNION UNIQUE UPDATE USING VACUUM VALUES WHEN WHERE WINDOW WITH
    COMMIT BEGIN""".split()
)
AFTER: Final = {
    "CASCADE": frozenset({"DELETE", "UPDATE", "CONSTRAINT", "TABLE"}),
    "CONFLICT": frozenset({"ON"}),
    "DO": frozenset({")", "CONFLICT"}),
    "DUPLICATE": frozenset({"ON"}),
    "EACH": frozenset({"FOR"}),
    "FILTER": frozenset({")"}),
    "FIRST": frozenset({"NULLS", "FETCH"}),
    "IF": frozenset({"TABLE", "INDEX", "VIEW"}),
    "IGNORE": frozenset({"INSERT", "UPDATE", "DELETE"}),
    "INDEX": frozenset({"CREATE", "DROP", "FORCE", "USE", "IGNORE", "UNIQUE"}),
    "KEY": frozenset({"PRIMARY", "FOREIGN", "DUPLICATE", "UNIQUE", "NO"}),
    "LAST": frozenset({"NULLS"}),
    "LOCKED": frozenset({"SKIP"}),
    "NEXT": frozenset({"FETCH"}),
    "NOTHING": frozenset({"DO"}),
    "NOWAIT": frozenset({"UPDATE", "SHARE"}),
    "NULLS": frozenset({"ASC", "DESC", "DISTINCT"}),
    "PARTITION": frozenset({"("}),
    "ROW": frozenset({"FETCH", "EACH", "CURRENT"}),
    "ROWS": frozenset({"\0", "FETCH"}),
    "SHARE": frozenset({"FOR", "KEY"}),
    "SKIP": frozenset({"UPDATE", "SHARE"}),
    "START": frozenset({""}),
    "TRANSACTION": frozenset({"START", "BEGIN", "SET", "COMMIT", "ROLLBACK"}),
    "VIEW": frozenset({"CREATE", "DROP"}),
    "CALL": frozenset({""}),
}
"""Words that are keywords only after some other tokens, and names of columns elsewhere."""

KEYWORDS: Final = RESERVED | AFTER.keys()
VALUE_WORDS: Final = frozenset({"NULL", "TRUE", "FALSE"})
BEFORE_VALUE: Final = frozenset({"(", ",", "=", "<>", "!=", "THEN", "ELSE", "VALUES", "RETURN", "SELECT"})

ODD_WORDS: Final = RESERVED | AFTER.keys() | VALUE_WORDS
BEFORE_ODD: Final = frozenset({"SAVEPOINT", "TO", "="})
BEFORE_LIST: Final = frozenset({"(", "[", ",", "+", "-"})
COMPARISONS: Final = frozenset(
    {"=", "==", "<>", "!=", "<", ">", "<=", ">=", "||", "LIKE", "GLOB", "MATCH", "IS", "BETWEEN", "THEN", "ELSE"}
)
UNLIKE_A_NAME: Final = re.compile(r"[@/\\:;,'=+]|\s\s|\d{6}")
"""What hardly any column is called, and many values hold."""
SETTINGS: Final = frozenset({"SET", "PRAGMA"})
BEFORE_TABLE: Final = frozenset({"FROM", "JOIN", "INTO", "UPDATE", "TABLE"})
VERBS: Final = frozenset(
    """SELECT INSERT UPDATE DELETE MERGE REPLACE CREATE ALTER DROP TRUNCATE BEGIN COMMIT ROLLBACK SAVEPOINT RELEASE
    SET SHOW EXPLAIN ANALYZE VACUUM PRAGMA CALL""".split()
)
MAIN_VERBS: Final = ("INSERT", "UPDATE", "DELETE", "MERGE", "SELECT")
TIGHT_BEFORE: Final = frozenset({",", ")", "]", ".", ";", "::"})
TIGHT_AFTER: Final = frozenset({"(", "[", ".", "::"})
VALUE: Final = "\0"
"""Stands for a value among the tokens: no statement holds it, while a question mark is PostgreSQL's jsonb operator.
Several values with commas between are one token of several such signs."""
MAX_VALUES: Final = 50
"""Of so many VALUES in one statement the rows are collapsed; more there are only where somebody tries us."""
LISTS: Final = frozenset({"IN", "ARRAY"})
NUMBER: Final = re.compile(r"(?:\d[\d_]*(?:\.[\d_]*)?|\.\d+)(?:[eE][+-]?\d+)?|0[xXbBoO][0-9a-fA-F_]+")

ODD: Final = "\0odd"
AT_ONCE: Final = {
    form: word if word in RESERVED - VALUE_WORDS else ODD
    for word in ODD_WORDS
    for form in (word, word.lower(), word.capitalize())
} | {sign: sign for sign in "( ) [ ] , ; . + - * / = < > <> != <= >= || ::".split()}
"""Most keywords and signs are found here at once; words that may be something else are ODD."""


class Fingerprint(NamedTuple):
    """What a statement is, without its values."""

    id: str
    """Sixteen hexadecimal digits, equal for equal tokens of one database's syntax."""

    operation: str
    """The verb in upper case, ``OTHER`` where it is none that we know."""

    tokens: tuple[str, ...]
    cut: bool

    @property
    def text(self) -> str:
        """Readable, values replaced by ``?``."""
        return joined(self.tokens, "?") + (" ..." if self.cut else "")


def fingerprint(statement: str, syntax: Syntax) -> Fingerprint:
    """The statement's pattern in this syntax; never raises."""
    tokens = pattern_tokens(statement, syntax)
    cut = len(statement) > MAX_TEXT
    # A unit separator is white space to every syntax: no token holds one.
    told = "\x1f".join([SCHEME_CUT if cut else SCHEME, syntax.name, *tokens])
    digest = blake2b(told.encode(), digest_size=8)
    return Fingerprint(digest.hexdigest(), operation_of(tokens), tuple(tokens), cut)


def pattern_tokens(statement: str, syntax: Syntax) -> list[str]:
    """The statement's tokens with ``VALUE`` in the place of values, lists and rows collapsed.

    What no database could store as text (NUL, halves of surrogate pairs) is replaced.
    """
    statement = statement[:MAX_TEXT].rstrip()
    if not statement.isascii():
        statement = statement.encode("utf-8", "replace").decode()
    if "\0" in statement or "\x1f" in statement:
        statement = statement.replace("\0", " ").replace("\x1f", " ").rstrip()
    if "$" in statement and syntax.dollar_quoted is not None:
        statement = syntax.dollar_quoted.sub(lambda match: "''" if match[1] else match[0], statement)
    tokens = _normalised(statement, syntax, syntax.tokens)
    if "VALUES" in tokens:
        tokens = _collapse_rows(tokens)
    while tokens and tokens[-1] == ";":
        tokens.pop()
    if tokens and tokens[0].isidentifier():  # the verb, even where it is one that we do not know
        tokens[0] = tokens[0].upper()
    return tokens


def _normalised(  # noqa: C901 - each token of each statement passes here
    statement: str, syntax: Syntax, pattern: re.Pattern[str]
) -> list[str]:
    """The tokens, values replaced; a sign in front of a number goes with it, and ``'a' 'b'`` is one value."""
    tokens: list[str] = []
    push, at_once, kinds = tokens.append, AT_ONCE.get, syntax.kinds
    last = ""
    for token in pattern.findall(statement):
        word = at_once(token)
        if word is None:
            kind = kinds[token[0]]
            if kind == "prefixed":
                kind = "one value" if ("'" in token or "[" in token) and syntax.prefixed.match(token) else "name"
            elif kind == "perhaps":
                kind = "value" if token[1:2].isalnum() or token[1:2] in ("_", "(") else "rest"
            if kind == "name":
                is_plain = last not in BEFORE_ODD and (token.islower() or token.upper() not in ODD_WORDS)
                word = token if is_plain else ODD
            elif kind == "value" or kind == "one value":
                is_list = last == "(" and len(tokens) > 1 and tokens[-2] in LISTS
                count = 1 if is_list or kind != "value" or "," not in token else len(syntax.value.findall(token))
                if VALUE in last or (last in BEFORE_LIST and not is_list):
                    last = _push_values(tokens, count)
                    continue
                word = VALUE * count
                if last in BEFORE_TABLE and token[0].isdigit() and not NUMBER.fullmatch(token):
                    word = token  # MariaDB's names may begin with a digit
            elif kind == "odd":
                word = ODD
            elif token[0] == ",":
                if not _is_row(tokens):  # what looks like more rows is something else: its brackets count
                    tokens += [",", *_normalised(token[1:], syntax, syntax.tokens_of_rows)]
                    last = tokens[-1]
                continue
            elif kind == "comment" or token[:2] == "--" or (token[:2] == "/*" and token[2:3] not in ("!", "+")):
                continue
            else:
                word = _operator(token)
        if word == ODD:
            word = _word(token, tokens, last, syntax)
            if word == VALUE:
                last = _push_values(tokens, 1)
                continue
        push(word)
        last = word
    return tokens


def _is_row(tokens: list[str]) -> bool:
    """Whether the tokens end with a row of values, after which others must be as long as that one."""
    if len(tokens) < 4 or tokens[-1] != ")" or tokens[-2][:1] != VALUE or tokens[-3] != "(":
        return False
    return tokens[-4] == "VALUES" or tokens[-5:-3] == ["IN", "("]


def _operator(raw: str) -> str:
    if raw == "%%":  # as drivers with % placeholders want it written
        return "%"
    return raw.rstrip("0123456789") if raw[:2] == "/*" else raw


def _push_values(tokens: list[str], count: int) -> str:
    """So many values are the last of the tokens; their token."""
    last = tokens[-1] if tokens else ""
    if last in ("-", "+") and not _ends_operand(tokens[-2] if len(tokens) > 1 else ""):
        tokens.pop()
        last = tokens[-1] if tokens else ""
    if last == "," and len(tokens) > 1 and tokens[-2][:1] == VALUE:
        tokens.pop()
        count += len(tokens.pop())
        last = tokens[-1] if tokens else ""
    elif last[:1] == VALUE:  # nothing between two values: they are one, of a kind that we do not know
        return last
    if last in ("(", "[") and len(tokens) > 1 and tokens[-2] in LISTS:
        count = 1
    values = VALUE * count
    tokens.append(values)
    return values


def _word(raw: str, tokens: list[str], last: str, syntax: Syntax) -> str:
    """A name, or a keyword written in another way, or one that is a name elsewhere."""
    may_be_value = raw[0] == '"' and syntax.names_may_be_values and '".' not in raw and last not in BEFORE_TABLE
    if may_be_value and (UNLIKE_A_NAME.search(raw) or _hides_a_value(tokens, last)):
        return VALUE
    upper = raw.upper()
    if upper in VALUE_WORDS and (last in BEFORE_VALUE or last[:1] == VALUE):
        return VALUE
    if last == "SAVEPOINT" and tokens[0] in ("SAVEPOINT", "RELEASE", "ROLLBACK"):  # SQLAlchemy numbers them
        return VALUE
    if last in ("=", "TO") and tokens[0] in SETTINGS and upper not in KEYWORDS:
        return VALUE
    if upper in RESERVED or (upper in AFTER and last in AFTER[upper]):
        return upper
    return raw


def _hides_a_value(tokens: list[str], last: str) -> bool:
    """Whether a name in double quotes stands where a value is expected: SQLite takes one that it does not know for a
    string."""
    before = tokens[-2] if len(tokens) > 1 else ""
    in_list = (last == "(" and before in ("IN", "VALUES", ",")) or (last == "," and before[:1] == VALUE)
    after_between = last == "AND" and "BETWEEN" in tokens[-4:]
    return last in COMPARISONS or in_list or after_between


def _ends_operand(token: str) -> bool:
    first = token[:1]
    return first in (")", "]", '"', "`", "_", VALUE) or (first.isalnum() and token not in KEYWORDS)


def _collapse_rows(tokens: list[str]) -> list[str]:
    """``VALUES (?, f(?)), (?, f(?))`` becomes ``VALUES (?, f(?))``; rows of another shape stay."""
    places = [place for place, token in enumerate(tokens) if token == "VALUES"]
    for place in reversed(places[:MAX_VALUES]):  # the inner ones first: a row may hold rows itself
        first = place + 1
        if tokens[first : first + 1] == ["("]:
            row = _group(tokens, first)
            end = first + len(row)
            tokens[end:] = tokens[_after_equal_rows(tokens, end, row) :]
    return tokens


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
    first = tokens[0] if tokens else ""
    if first[:1] in ("(", "/"):
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


def joined(tokens: Sequence[str], value: str) -> str:
    """The tokens as one readable line, each value written as ``value``."""
    parts: list[str] = []
    last = before = ""
    for token in tokens:
        if parts and not (token in TIGHT_BEFORE or last in TIGHT_AFTER or (token == "(" and _calls(last, before))):
            parts.append(" ")
        parts.append(", ".join([value] * len(token)) if token[:1] == VALUE else token)
        last, before = token, last
    return "".join(parts)


def _calls(name: str, before: str) -> bool:
    """A bracket right after a name opens a call, unless the name is a keyword or the table of an INSERT."""
    return (name[:1].isalpha() or name[:1] == "_") and name not in KEYWORDS and before not in ("INTO", "TABLE")

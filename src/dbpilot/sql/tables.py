"""Which tables does a statement name?

Read from the tokens that its fingerprint is made of, in one pass without recursion. A parser would know more, but it
meets every statement of somebody else's application here: it must not raise, take long, write into the application's
log, or exhaust the stack, whatever the statement is. (A compiled one does the last; that ends the host's process.)
"""

import re
from collections.abc import Sequence
from typing import Final

from dbpilot.sql.fingerprint import KEYWORDS

OPENERS: Final = frozenset({"FROM", "JOIN", "INTO", "TABLE", "UPDATE", "USING", "TRUNCATE", "VIEW"})
"""Words after which a table is named."""
MODIFIERS: Final = frozenset({"ONLY", "LATERAL", "IF", "NOT", "EXISTS", "IGNORE", "OR", "REPLACE", "(", "TABLE"})
LISTS: Final = frozenset({"FROM", "USING", "UPDATE"})
"""Words after which several may be named, with commas between."""
ENDS: Final = frozenset(
    """WHERE GROUP ORDER HAVING LIMIT OFFSET FETCH UNION EXCEPT INTERSECT SET VALUES RETURNING ON SELECT FOR WINDOW
    WHEN""".split()
)
NO_TABLE_UPDATED: Final = frozenset({"FOR", "DO", "KEY", "ON", "THEN"})
"""Before UPDATE: it is a lock, or a part of an INSERT or MERGE."""
WITH_FROM_INSIDE: Final = frozenset({"EXTRACT", "SUBSTRING", "TRIM", "OVERLAY", "POSITION"})
"""Functions whose arguments are told apart by FROM."""
PART: Final = re.compile(r'"((?:[^"]|"")*)"?|`((?:[^`]|``)*)`?|\[([^\]]*)\]?|([^."`\[]+)')


def tables_of(tokens: Sequence[str]) -> tuple[str, ...]:  # noqa: C901 - one pass, and each kind of token is a line
    """The tables in the order they are named, without those that the statement defines itself in WITH.

    What stands for a table but is none, like a function that answers rows, is left out.
    """
    found: list[str] = []
    own = _defined(tokens)
    expected = False
    brackets: list[tuple[str, bool]] = []
    """Of each open bracket: the token before it, and whether a list of tables was being read."""
    in_list = may_be_call = False
    for place, token in enumerate(tokens):
        before, after = tokens[place - 1] if place else "", "".join(tokens[place + 1 : place + 2])
        if expected and (token in MODIFIERS or (token == "SELECT" and before == "(")):
            if token == "(":
                brackets.append((before, in_list))
            elif token == "SELECT":
                expected = in_list = False
            continue
        if expected and _is_name(token):
            if after != "(" or not may_be_call:
                found.append(_plain(token))
            expected = False
            continue
        expected = False
        if token == "(":
            brackets.append((before, in_list))
            in_list = False
        elif token == ")":
            in_list = brackets.pop()[1] if brackets else False
        elif token == ",":
            expected = may_be_call = in_list
        elif token in OPENERS or (token == "ON" and "INDEX" in tokens[:place] and tokens[0] in ("CREATE", "DROP")):
            expected = _opens(token, before, after, brackets[-1][0] if brackets else "")
            in_list = expected and token in LISTS
            may_be_call = in_list or token == "JOIN"
        elif token in ENDS:
            in_list = False
        elif place == 0 and token in ("INSERT", "REPLACE"):
            expected, may_be_call = after != "INTO", False
    return tuple(dict.fromkeys(name for name in found if name not in own))


def _opens(token: str, before: str, after: str, bracket: str) -> bool:
    """Whether a table is named next."""
    if token == "UPDATE":
        return before not in NO_TABLE_UPDATED
    if token == "FROM":
        return before != "DISTINCT" and bracket.upper() not in WITH_FROM_INSIDE
    if token == "USING":
        return after != "("
    return True


def _defined(tokens: Sequence[str]) -> set[str]:
    """The names before ``AS (``, with or without columns of their own."""
    if "WITH" not in tokens:
        return set()
    names = set()
    for place, token in enumerate(tokens):
        if token == "AS" and place and "(" in tokens[place + 1 : place + 4]:
            end = place - 1
            if tokens[end] == ")":
                while end > 0 and tokens[end] != "(":
                    end -= 1
                end -= 1
            if end >= 0 and _is_name(tokens[end]):
                names.add(_plain(tokens[end]))
    return names


def _is_name(token: str) -> bool:
    first = token[:1]
    return (first.isalpha() or first in ("_", '"', "`", "[") or not first.isascii()) and token not in KEYWORDS


def _plain(name: str) -> str:
    """The name without quotation marks: ``"s"."x"`` is ``s.x``."""
    parts = []
    for double, back, bracket, bare in PART.findall(name):
        part = double.replace('""', '"') or back.replace("``", "`") or bracket or bare
        if part:
            parts.append(part)
    return ".".join(parts)

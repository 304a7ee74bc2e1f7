"""Which tables does a statement name?"""

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from dbpilot.sql.fingerprint import joined, pattern_tokens
from dbpilot.sql.syntax import Syntax

# A parser of every dialect has surprises for statements that its authors never saw; they cost us the names only.
SURPRISES = (SqlglotError, RecursionError, TypeError, ValueError, AttributeError, LookupError)


def tables_of(statement: str, syntax: Syntax) -> tuple[str, ...]:
    """The tables in the order they are named, without those that the statement defines itself in WITH.

    Empty where the statement cannot be parsed.
    """
    parseable = joined(pattern_tokens(statement, syntax), "'?'")
    try:
        tree = sqlglot.parse_one(parseable, read=syntax.name)
    except SURPRISES:
        return ()
    if isinstance(tree, exp.Command):  # what sqlglot reads no further than its first word
        return ()
    own = {cte.alias_or_name for cte in tree.find_all(exp.CTE)}
    named = (_name(table) for table in tree.find_all(exp.Table, bfs=False))
    return tuple(dict.fromkeys(name for name in named if name and name not in own))


def _name(table: exp.Table) -> str:
    return ".".join(part.name for part in table.parts if isinstance(part, exp.Identifier))

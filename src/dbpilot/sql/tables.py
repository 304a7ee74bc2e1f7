"""Which tables does a statement name?"""

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from dbpilot.sql.fingerprint import joined, operation_of, pattern_tokens
from dbpilot.sql.syntax import Syntax

# A parser of every dialect has surprises for statements that its authors never saw; they cost us the names only.
SURPRISES = (SqlglotError, RecursionError, TypeError, ValueError, AttributeError, LookupError)


# Of what else it does not understand sqlglot would write the text into the application's log.
WITH_TABLES = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE"})


def tables_of(statement: str, syntax: Syntax) -> tuple[str, ...]:
    """The tables in the order they are named, without those that the statement defines itself in WITH.

    Empty where the statement cannot be parsed.
    """
    tokens = pattern_tokens(statement, syntax)
    if operation_of(tokens) not in WITH_TABLES:
        return ()
    parseable = joined(tokens, "'?'")
    try:
        tree = sqlglot.parse_one(parseable, read=syntax.name)
    except SURPRISES:
        return ()
    own = {cte.alias_or_name for cte in tree.find_all(exp.CTE)}
    named = (_name(table) for table in tree.find_all(exp.Table, bfs=False))
    return tuple(dict.fromkeys(name for name in named if name and name not in own))


def _name(table: exp.Table) -> str:
    return ".".join(part.name for part in table.parts if isinstance(part, exp.Identifier))

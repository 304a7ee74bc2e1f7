"""Conditions that hide a column from its index: which they are, and how they would be written to use it."""

import re
from typing import Final, Literal

from sqlglot import exp

from dbpilot.sql.blocks import Names, bare, own_nodes
from dbpilot.sql.fingerprint import RESERVED, fingerprint
from dbpilot.sql.predicates import DialectName, Trouble
from dbpilot.sql.reading import GRAMMARS, SYNTAXES, mark_of

Values = Literal["text", "varying", "char", "integer", "decimal", "float", "moment", "other"]
"""Kinds of values that databases convert into one another."""

KINDS: Final[tuple[tuple[Values, str], ...]] = (
    ("integer", r"(?:(?:tiny|small|medium|big)?int(?:eger|[248])?|(?:small|big)?serial|year)(?![a-z])"),
    ("decimal", r"numeric|decimal|dec\b"),
    ("float", r"float|double|real"),
    ("char", r"char(?:acter)?(?:\(|$|\s+(?!varying))|bpchar|nchar(?:\(|$)"),
    ("varying", r"n?varchar|character varying"),
    ("text", r"\w*text|clob"),
    ("moment", r"date|time"),
)
KIND_OF: Final = tuple((kind, re.compile(f"(?:{pattern})", re.IGNORECASE)) for kind, pattern in KINDS)
NUMBERS: Final = frozenset({"integer", "decimal", "float"})
WITH_ZONE: Final = re.compile(r"timestamptz|with time zone", re.IGNORECASE)

ONE_SIDE_BARE: Final = "every side of the OR needs a condition that an index serves"
SIDES_APART: Final = "write one query for each side of the OR, and unite them"

DAY: Final = (exp.Date, exp.TsOrDsToDate)
TRUNCATED: Final = (exp.DateTrunc, exp.TimestampTrunc)
PARTS: Final = (exp.Year, exp.Month, exp.Day, exp.Extract)
CASES: Final = (exp.Lower, exp.Upper)
SIMPLE: Final = (*CASES, exp.Length, exp.Abs, exp.Coalesce, exp.Trim, exp.Add, exp.Sub, exp.Mul, exp.Neg, exp.Paren)
"""What gives the same answer for the same rows, whatever the settings of the session, in PostgreSQL and SQLite."""
TRUE_DATES: Final = (exp.Extract, exp.Cast, exp.Date, exp.Year, exp.Month, exp.Day, exp.Var)
"""So do these where the column has no time zone."""
PLAIN_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*")


def kind_of(type_: str) -> Values:
    """What values of a type are, of all there are in the three databases."""
    return next((kind for kind, pattern in KIND_OF if pattern.match(type_.strip())), "other")


def kind_of_value(node: exp.Expr) -> Values | None:
    """What a value is, as far as the statement tells; None for a text literal, whose type is the other side's."""
    node = bare(node)
    while isinstance(node, exp.Neg):
        node = bare(node.this)
    if isinstance(node, exp.Cast):
        return kind_of(node.to.sql("postgres"))
    if isinstance(node, exp.Literal) and not node.is_string:
        return "integer" if node.name.isdecimal() else "decimal"
    return None


def is_converted(column: Values, value: Values | None, dialect: DialectName) -> bool:
    """Whether the database compares them by converting the column, rather than the value."""
    if value is None or dialect == "sqlite":  # SQLite converts the value to what the column prefers
        return False
    if dialect == "postgresql":
        if column == "char":  # varchar becomes char, which becomes text
            return value == "text"
        wider = {"integer": ("decimal", "float"), "decimal": ("float",)}
        return value in wider.get(column, ())
    return column in ("text", "varying", "char") and value in NUMBERS


def hidden(node: exp.Expr, dialect: DialectName) -> str:
    """The condition in this dialect, its values replaced."""
    text = fingerprint(f"SELECT {node.sql(GRAMMARS[dialect])}", SYNTAXES[dialect]).text
    return text.removeprefix("SELECT ")


def trouble_of(side: exp.Expr) -> Trouble:
    """What stands around the column."""
    return "cast" if isinstance(bare(side), exp.Cast) and not _is_day(bare(side)) else "function"


def _is_day(node: exp.Expr) -> bool:
    is_cast = isinstance(node, exp.Cast) and node.to.is_type(exp.DataType.Type.DATE)
    return isinstance(node, DAY) or is_cast


def rewrite_of(side: exp.Expr, column: str, dialect: DialectName, *, prefix: bool = False) -> str | None:
    """What to write instead, where something is known."""
    side = bare(side)
    if _is_day(side):
        return f"compare {column} itself with a range: at or after the day's begin, and before the next day's"
    if isinstance(side, TRUNCATED):
        return f"compare {column} itself with a range: at or after the period's begin, and before the next one's"
    if isinstance(side, exp.Year) or (isinstance(side, exp.Extract) and side.name.upper() == "YEAR"):
        return f"compare {column} itself with a range: at or after the year's first day, and before the next year's"
    if isinstance(side, CASES):
        return _of_case(side, column, dialect, prefix=prefix)
    if isinstance(side, exp.Cast):
        return f"convert the value to the type of {column}, not the column to the value's"
    if isinstance(side, exp.Add | exp.Sub | exp.Mul | exp.Div | exp.Neg):
        return f"leave {column} alone on its side, and calculate on the other"
    return None


def _of_case(side: exp.Expr, column: str, dialect: DialectName, *, prefix: bool) -> str:
    name = side.key
    if prefix and dialect == "sqlite":
        return f"compare {column} itself: LIKE takes no account of case, and an index COLLATE NOCASE serves it"
    return {
        "postgresql": f"an index on {name}({column}), or a case-insensitive collation and {column} itself",
        "sqlite": f"an index on {name}({column}), or {column} COLLATE NOCASE and an index of that collation",
    }.get(dialect, f"compare {column} itself: a case-insensitive collation (_ci) makes {name}() needless")


def of_converted(column: str, kind: Values, dialect: DialectName) -> str:
    """What to do about a comparison that converts the column."""
    if dialect == "postgresql" and kind == "char":
        return f"declare {column} as varchar or text, or send the value as char"
    if kind in NUMBERS:
        return f"send the value in the type of {column}"
    return f"send the value as text, like {column}"


def of_joined(column: str, other: str) -> str:
    """What to do about two columns of different types."""
    return f"declare {column} and {other} as the same type"


def of_ilike(column: str) -> str:
    """What finds the beginnings of texts whatever their case."""
    return f"write lower({column}) LIKE lower(..), with an index on lower({column}) of class text_pattern_ops"


def of_contained(dialect: DialectName) -> str:
    """What finds a text within texts."""
    return {
        "postgresql": "a trigram index (extension pg_trgm, GIN with gin_trgm_ops) finds texts within texts",
        "sqlite": "a full-text table (FTS5, trigram tokenizer) finds texts within texts",
    }.get(dialect, "a FULLTEXT index and MATCH .. AGAINST find words within texts")


def expression_of(side: exp.Expr, table: str, names: Names, fold: dict[str, str]) -> str | None:
    """What an index on this expression would hold; None where there is none, or it would hold values of the statement.

    ``fold``: the columns of the table by the names used in the expression.
    """
    if names.dialect not in ("postgresql", "sqlite") or not _is_simple(bare(side), table, names, fold):
        return None
    copy = bare(side).copy()
    for column in list(copy.find_all(exp.Column)):
        name = fold[names.fold(column.this)]
        quoted = PLAIN_NAME.fullmatch(name) is None or name.upper() in RESERVED
        plain = exp.column(exp.to_identifier(name, quoted=quoted))
        copy = plain if column is copy else copy
        column.replace(plain)
    return copy.sql(GRAMMARS[names.dialect], normalize_functions="lower")


def _is_simple(side: exp.Expr, table: str, names: Names, fold: dict[str, str]) -> bool:
    """Whether there are only columns of the table, and functions that are known to be deterministic."""
    types = {name: names.types[table][column] for name, column in fold.items()}
    zoned = any(WITH_ZONE.search(type_) for type_ in types.values())
    allowed: tuple[type[exp.Expr], ...] = SIMPLE if zoned or names.dialect == "sqlite" else (*SIMPLE, *TRUE_DATES)
    for node in own_nodes(side):
        if isinstance(node, exp.Column):
            if names.fold(node.this) not in fold:
                return False
        elif isinstance(node, exp.Cast):
            if (
                zoned
                or names.dialect == "sqlite"
                or not _is_day(node)
                or kind_of(types.get(node.this.name, "")) != "moment"
            ):
                return False
        elif not isinstance(node, (exp.Identifier, exp.DataType, *allowed)):
            return False
    return True


def starts_with(pattern: exp.Expr, wild: str) -> bool | None:
    """Whether a LIKE pattern says how the text begins; None where only its value tells."""
    first = _first_part(pattern)
    if mark_of(first) is not None or not isinstance(first, exp.Literal) or not first.name:
        return None
    return first.name[0] not in wild


def _first_part(node: exp.Expr) -> exp.Expr:
    """Of texts that are joined, the first; case and type do not matter."""
    while isinstance(node, exp.Concat | exp.Coalesce | exp.DPipe | exp.Cast | exp.Lower | exp.Upper | exp.Paren):
        node = node.expressions[0] if isinstance(node, exp.Concat) else node.this
    return node

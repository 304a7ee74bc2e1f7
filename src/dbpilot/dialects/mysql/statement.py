"""A statement as a shadow is asked about it: in another schema, and without some of the indexes.

The statement's text is kept but for a few words put in at places that the parser tells; what is written anew might be
planned otherwise.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from dbpilot.unsupported import Unsupported

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.tokenizer_core import Token

PLACEHOLDER: Final = re.compile(r"%%|%s|%\(\w+\)s")
DOUBLED: Final = "%\t"
"""Stands for a doubled percent sign: an operator and a space, unless it is inside of a name or a text."""
READS: Final = re.compile(r"\s*\(*\s*(?:SELECT|WITH|UPDATE|DELETE|INSERT)\b", re.IGNORECASE)
"""How a statement begins that may be asked about; the parser warns of others, and its warning repeats their values."""
UNREAD: Final = Unsupported(
    "the statement cannot be read", "ask about a SELECT, an UPDATE, a DELETE or an INSERT ... SELECT of one statement"
)
OPEN: Final = Unsupported(
    "its values are not known, and MariaDB and MySQL plan no statement without them",
    "ask with the values of a real execution",
)
WRITES_ONLY: Final = Unsupported("it reads no table", "ask about statements that read: no index makes this one faster")


Column = tuple[str, str]
"""A name (or alias) of a table, empty where the statement gives none, and a column's name."""


@dataclass(frozen=True, slots=True)
class Place:
    """A table where a statement names it."""

    table: str
    alias: str
    hint_at: int | None
    """Where in the text its indexes may be ruled out; None where nothing is read from it."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that was read."""

    text: str = field(repr=False)
    places: tuple[Place, ...]
    schemas: tuple[tuple[int, int], ...]
    """Where in the text the application's schema is named."""
    fixed: Mapping[Column, Any] = field(repr=False)
    """Columns that have to equal a value, somewhere in the statement."""
    parameters: Any = field(repr=False)
    """Those of the given ones that this text has places for."""
    most_rows: int | None = None
    """After so many rows the server reads no further; None where it has to read all before it answers."""

    def asked(self, shadow: str, ruled_out: Callable[[str], Collection[str]], quote: Callable[[str], str]) -> str:
        """The text, about the shadow, with these indexes of each table ruled out."""
        edits = [(begin, end, quote(shadow)) for begin, end in self.schemas]
        for place in self.places:
            names = ", ".join(quote(name) for name in sorted(ruled_out(place.table)))
            if place.hint_at is not None and names:
                edits.append((place.hint_at, place.hint_at, f" IGNORE INDEX ({names})"))
        text = self.text
        for begin, end, said in sorted(edits, reverse=True):
            text = text[:begin] + (said if self.parameters is None else said.replace("%", "%%")) + text[end:]
        return text


def read(text: str, parameters: Any, schema: str) -> Statement | Unsupported:
    """The statement, with the places where it names tables."""
    from sqlglot.errors import SqlglotError

    if not READS.match(text):
        return UNREAD
    try:
        return _read(text, parameters, schema)
    except (SqlglotError, RecursionError):
        return UNREAD


def _read(text: str, parameters: Any, schema: str) -> Statement | Unsupported:
    from sqlglot import exp, parse_one

    plain = _plain(text, parameters)
    tree = parse_one(plain, dialect="mysql")
    if isinstance(tree, exp.Update | exp.Delete) and not _is_of_several(tree):
        text, parameters = _as_select(text, plain, tree, parameters)
        plain = _plain(text, parameters)
        tree = parse_one(plain, dialect="mysql")
    if isinstance(tree, exp.Insert) and not isinstance(tree.expression, exp.Query):
        return WRITES_ONLY
    if parameters is None and any(True for _ in tree.find_all(exp.Placeholder, exp.Parameter)):
        return OPEN
    if not isinstance(tree, exp.Query | exp.Insert | exp.Update | exp.Delete):
        return UNREAD
    schemas, places = _places(tree, schema)
    most_rows = _most_rows(text, plain, parameters) if _answers_at_once(tree) else None
    return Statement(text, places, schemas, _fixed(text, plain, parameters), parameters, most_rows)


def _answers_at_once(tree: "exp.Expr") -> bool:
    """Whether a row can be answered before the next one is read, if only they come in order."""
    from sqlglot import exp

    if not isinstance(tree, exp.Select) or any(tree.args.get(part) for part in ("group", "having", "distinct")):
        return False
    return not any(True for one in tree.expressions for _ in one.find_all(exp.AggFunc, exp.Window))


def _most_rows(text: str, plain: str, parameters: Any) -> int | None:
    """What LIMIT says, with the rows that OFFSET passes over; None where it is not there, or not known."""
    from sqlglot.tokenizer_core import TokenType

    depth, said, given = 0, list[Any](), _given(text, parameters)
    for token in _tokens(plain):
        depth += (token.token_type == TokenType.L_PAREN) - (token.token_type == TokenType.R_PAREN)
        if depth == 0 and token.token_type == TokenType.LIMIT:
            said = [0]
        elif said and (value := _value(token, given)) is not None:
            said.append(value)
    return sum(said) if len(said) > 1 and all(isinstance(value, int) for value in said) else None


def _plain(text: str, parameters: Any) -> str:
    """The text, with what the parser knows in the place of the driver's placeholders, and no longer or shorter."""
    return text if parameters is None else PLACEHOLDER.sub(_stand_in, text)


def _stand_in(found: re.Match[str]) -> str:
    return DOUBLED if found[0] == "%%" else ":" + "p" * (len(found[0]) - 1)


def _single(name: str) -> str:
    """The name or text as it is in the database."""
    return name.replace(DOUBLED, "%")


def _is_of_several(tree: "exp.Update | exp.Delete") -> bool:
    """Whether it names several tables: then their indexes can be ruled out where they are named."""
    table = tree.this
    return bool(tree.args.get("tables") or tree.args.get("using") or table is None or table.args.get("joins"))


def _as_select(text: str, plain: str, tree: "exp.Update | exp.Delete", parameters: Any) -> tuple[str, Any]:
    """A SELECT of the rows that it would change: an UPDATE of one table leaves no trace, a DELETE takes no hints."""
    begin = _span(tree.this.args.get("db") or tree.this.this)[0]
    table_end, rest = _clauses(plain, begin)
    if parameters is not None and not isinstance(parameters, Mapping):
        kept = [one.start() for one in PLACEHOLDER.finditer(text) if one[0] == "%s"]
        inside = [begin <= at < table_end or at >= rest for at in kept]
        parameters = tuple(value for value, stays in zip(parameters, inside, strict=False) if stays)
    return " ".join(("SELECT * FROM", text[begin:table_end].rstrip(), text[rest:])), parameters


def _clauses(plain: str, begin: int) -> tuple[int, int]:
    """Where the table's name ends, and where what chooses its rows begins."""
    from sqlglot.tokenizer_core import TokenType

    depth, end = 0, None
    for token in _tokens(plain):
        depth += (token.token_type == TokenType.L_PAREN) - (token.token_type == TokenType.R_PAREN)
        if depth or token.start < begin:
            continue
        if token.token_type == TokenType.SET and end is None:
            end = token.start
        elif token.token_type in (TokenType.WHERE, TokenType.ORDER_BY, TokenType.LIMIT):
            return token.start if end is None else end, token.start
        elif token.token_type == TokenType.RETURNING:
            break
    return len(plain) if end is None else end, len(plain)


def _tokens(plain: str) -> "list[Token]":
    from sqlglot.dialects.mysql import MySQL

    return list(MySQL().tokenize(plain))


def _span(name: "exp.Expr") -> tuple[int, int]:
    return int(name.meta["start"]), int(name.meta["end"]) + 1


def _places(tree: "exp.Expr", schema: str) -> tuple[tuple[tuple[int, int], ...], tuple[Place, ...]]:
    """Where the application's schema is named, and where its tables are."""
    from sqlglot import exp

    tables = [table for table in tree.find_all(exp.Table) if not _is_defined(table)]
    named: list[exp.Expr] = [*tables, *tree.find_all(exp.Column)]
    schemas = {_span(one.args["db"]) for one in named if one.args.get("db") and _single(one.args["db"].name) == schema}
    # What a DELETE of several names first are its aliases.
    own = [
        table
        for table in tables
        if (not table.args.get("db") or _single(table.db) == schema) and table.arg_key != "tables"
    ]
    return tuple(sorted(schemas)), tuple(_place(table) for table in own)


def _is_defined(table: "exp.Table") -> bool:
    """Whether the name stands for a part of the statement's own WITH."""
    from sqlglot import exp

    below: exp.Expr = table
    above = None if table.args.get("db") else table.parent
    while above is not None:
        within = above if isinstance(above, exp.With) else above.args.get("with_")
        if within is not None and within is not below and table.name in _names_in(within, below):
            return True
        below, above = above, above.parent
    return False


def _names_in(within: "exp.With", part: "exp.Expr") -> list[str]:
    """The names that one part of a WITH may use, those before it, or what comes after all of them."""
    names = [one.alias for one in within.expressions]
    places = [place for place, one in enumerate(within.expressions) if one is part]
    return names[: places[0]] if places and not within.args.get("recursive") else names


def _place(table: "exp.Table") -> Place:
    from sqlglot import exp

    alias = table.args.get("alias")
    last = alias.this if alias is not None and alias.this is not None else table.this
    above = table.parent if not isinstance(table.parent, exp.Schema) else table.parent.parent
    at = None if isinstance(above, exp.Insert) else _span(last)[1]
    return Place(_single(table.name), _single(table.alias_or_name), at)


def _fixed(text: str, plain: str, parameters: Any) -> Mapping[Column, Any]:
    """Columns and the values that they have to equal, those that equal one another likewise. That it is said in another
    part of the statement, or in an OR, does no harm: who uses it wants to see rows that may be asked for."""
    from sqlglot.tokenizer_core import TokenType

    tokens = _tokens(plain)
    values: dict[Column, Any] = {}
    pairs: list[tuple[Column, Column]] = []
    given = _given(text, parameters)
    for place, token in enumerate(tokens):
        if token.token_type != TokenType.EQ or not 0 < place < len(tokens) - 1:
            continue
        left, right = _column_before(tokens, place), _column_after(tokens, place)
        value, other = _value(tokens[place + 1], given), _value(tokens[place - 1], given)
        if left and value is not None:
            values[left] = value
        elif right and other is not None:
            values[right] = other
        elif left and right:
            pairs += [(left, right), (right, left)]
    for _ in range(len(pairs)):
        values |= {there: values[here] for here, there in pairs if here in values and there not in values}
    return values


def _given(text: str, parameters: Any) -> Mapping[int, Any]:
    """The parameters by the place where they stand."""
    if parameters is None:
        return {}
    places = [one for one in PLACEHOLDER.finditer(text) if one[0] != "%%"]
    if isinstance(parameters, Mapping):
        return {one.start(): parameters.get(one[0][2:-2]) for one in places}
    return {one.start(): value for one, value in zip(places, parameters, strict=False)}


def _value(token: "Token", given: Mapping[int, Any]) -> Any:
    """The value that stands there, None if none does."""
    from sqlglot.tokenizer_core import TokenType

    if token.start in given:
        return given[token.start]
    if token.token_type == TokenType.NUMBER:
        return int(token.text) if token.text.isdigit() else None
    return _single(token.text) if token.token_type == TokenType.STRING else None


def _column_before(tokens: "Sequence[Token]", place: int) -> Column | None:
    name = tokens[place - 1]
    if not _is_name(name):
        return None
    dotted = place >= 3 and tokens[place - 2].text == "."
    return (_single(tokens[place - 3].text) if dotted else "", _single(name.text))


def _column_after(tokens: "Sequence[Token]", place: int) -> Column | None:
    if not _is_name(tokens[place + 1]):
        return None
    dotted = place + 3 < len(tokens) and tokens[place + 2].text == "."
    names = [_single(tokens[at].text) for at in ((place + 1, place + 3) if dotted else (place + 1,))]
    return (names[0], names[1]) if dotted else ("", names[0])


def _is_name(token: "Token") -> bool:
    from sqlglot.tokenizer_core import TokenType

    return token.token_type == TokenType.IDENTIFIER or (
        token.token_type not in (TokenType.STRING, TokenType.NUMBER) and token.text.isidentifier()
    )

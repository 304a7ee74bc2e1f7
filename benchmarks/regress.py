"""PostgreSQL's regression suite, statement by statement, taken apart by PostgreSQL's own scanner.

The source archive of pglast, among others, has the suite; pglast is the scanner: ``pip install pglast``.
"""

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

DML: Final = re.compile(r"\s*(?:select|insert|update|delete|with|values|merge|table|\()", re.IGNORECASE)
LITERALS: Final = frozenset({"ICONST", "FCONST", "SCONST", "USCONST", "BCONST", "XCONST"})
GAPS: Final = (" ", "\n", "\t  ", ' /* it\'s; a "comment" */ ', " -- don't\n")


@dataclass(frozen=True)
class Token:
    """One token of PostgreSQL's scanner."""

    kind: str
    text: str

    @property
    def is_literal(self) -> bool:
        """Whether it is a value written out."""
        return self.kind in LITERALS


def regression_statements(folder: Path) -> Iterator[list[Token]]:
    """The suite's single statements that read or change rows, as tokens."""
    for path in sorted(folder.rglob("*.sql")):
        for part in parts_of(path):
            tokens = tokens_of(part)
            if tokens:
                yield tokens


def parts_of(path: Path) -> list[str]:
    """The statements of a file, without what psql alone understands."""
    return re.split(r";\s*\n", re.sub(r"(?m)^\\.*$", "", path.read_text(errors="replace")))


def tokens_of(part: str) -> list[Token]:
    """The tokens of a single statement that reads or changes rows; none for any other."""
    pglast = _pglast()
    if not DML.match(part) or "\\" in part.split("\n")[0][:1]:
        return []
    try:
        pglast.parse_sql(part)
        found = pglast.parser.scan(part)
    except pglast.parser.ParseError:
        return []
    tokens = [Token(t.name, part[t.start : t.end + 1]) for t in found]
    tokens = [token for token in tokens if token.kind not in ("SQL_COMMENT", "C_COMMENT")]
    return tokens if all(token.text != ";" for token in tokens) else []


def _pglast() -> Any:
    try:
        import pglast
        import pglast.parser
    except ImportError:
        raise SystemExit("PostgreSQL's scanner is not there: pip install pglast") from None
    return pglast


def tables_in(statement: str) -> set[str]:
    """The tables that PostgreSQL's own parser finds in a statement."""
    _pglast()
    from pglast.visitors import referenced_relations

    names: set[str] = referenced_relations(statement)
    return names


def joined(tokens: Sequence[Token], rng: random.Random | None = None) -> str:
    """The statement again, with one space or any white space and comments between its tokens."""
    return "".join(token.text + (rng.choice(GAPS) if rng else " ") for token in tokens)


def replaced(tokens: Iterable[Token], rng: random.Random) -> list[Token]:
    """Other literals of the same kinds."""
    return [Token(token.kind, _other(token, rng)) if token.is_literal else token for token in tokens]


def _other(token: Token, rng: random.Random) -> str:
    number = str(rng.randrange(1, 10**6))
    others = {
        "ICONST": number,
        "FCONST": f"{number}.25",
        "BCONST": "B'0101'",
        "XCONST": "X'1F'",
        "USCONST": f"U&'{number}'",
    }
    return others.get(token.kind, rng.choice([f"'{number}'", f"'it''s /* {number}'", f"'-- {number}'"]))

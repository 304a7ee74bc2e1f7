"""Statements of somebody else's application, made fit for a parser; and their placeholders, found and filled in.

Drivers write placeholders in many ways, servers shorten what they count (``IN (...)``, ``$1 /*, ... */``), and our own
patterns hide values behind ``?``. All of that becomes a text literal here, a mark with the placeholder's number in it:
a literal may stand wherever a value may, in every dialect, and the parser need not know of placeholders at all.
"""

import logging
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import sqlglot
from sqlglot import ErrorLevel, exp

from dbpilot.sql.fingerprint import KEYWORDS
from dbpilot.sql.predicates import DialectName
from dbpilot.sql.syntax import MYSQL, POSTGRESQL, SQLITE, Syntax

SYNTAXES: Final[dict[str, Syntax]] = {"mysql": MYSQL, "mariadb": MYSQL, "postgresql": POSTGRESQL, "sqlite": SQLITE}
GRAMMARS: Final = {"mysql": "mysql", "mariadb": "mysql", "postgresql": "postgres", "sqlite": "sqlite"}
"""SQLGlot's names."""

MAX_CHARACTERS: Final = 200_000
MAX_PIECES: Final = 6_000
"""After long lists were shortened; what is longer was not written by a person, nor by an ORM."""
MAX_DEPTH: Final = 60
"""Brackets within brackets, or signs before signs: the parser is recursive."""

MAX_CHAIN: Final = 20
"""``[1][2]..`` and ``f().g()..``: over these the parser takes time with the third power of their number."""

MARK: Final = "\ue000"
"""From Unicode's private use area; a statement that holds one loses it. No letters beside it: a parser that changes
the case of what it thinks to be a unit does no harm."""
MARKED: Final = re.compile(f"{MARK}(\\d+){MARK}")
VERBS: Final = frozenset({"SELECT", "WITH", "INSERT", "REPLACE", "UPDATE", "DELETE", "("})
TYPED: Final = frozenset({"DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "INTERVAL", "DATETIME"})
"""Words that a value may follow directly."""
SIGNS: Final = frozenset({"-", "+", "NOT", "~", "!"})

Kind = Literal["word", "value", "placeholder"]


class Piece(NamedTuple):
    """One token, and the white space before it."""

    before: str
    text: str
    kind: Kind

    @property
    def word(self) -> str:
        """In upper case, for comparison with keywords; empty for values."""
        return self.text.upper() if self.kind == "word" else ""


@dataclass(frozen=True, slots=True)
class Marked:
    """A statement with marks for placeholders."""

    text: str
    marks: tuple[int, ...]
    """Of each placeholder in order of appearance: the number of the mark that stands for it. Those of a list share
    one, as do those of equal rows."""


class Unreadable(Exception):
    """The statement is too long, too deep, cut, or of a kind that nothing can be said about."""


def pieces_of(statement: str, dialect: DialectName) -> list[Piece]:
    """The statement's tokens without comments and hints.

    Raises:
        Unreadable: it is too long.
    """
    if len(statement) > MAX_CHARACTERS:
        raise Unreadable
    syntax = SYNTAXES[dialect]
    statement = statement.replace(MARK, "").rstrip().rstrip(";").rstrip()
    if "$" in statement and syntax.dollar_quoted is not None:
        statement = syntax.dollar_quoted.sub(_single_quoted, statement)
    found = list(_split(statement, syntax))
    if any(piece.text[:1] == "%" and piece.kind == "placeholder" for piece in found):
        found = [piece._replace(text=piece.text.replace("%%", "%")) for piece in found]
    return _told_apart(found) if dialect == "postgresql" else found


def _single_quoted(match: re.Match[str]) -> str:
    """What dollar signs quoted, in ordinary quotation marks."""
    if match[1] is None:
        return match[0]
    tag = f"${match['tag']}$"
    return "'" + match[1].removeprefix(tag).removesuffix(tag).replace("'", "''") + "'"


def _split(statement: str, syntax: Syntax) -> Iterator[Piece]:
    in_hint = False
    end = 0
    for match in syntax.tokens_of_rows.finditer(statement):
        token, before = match[1], statement[end : match.start(1)]
        end = match.end(1)
        if token == "*/" or token[:3] == "/*+":
            in_hint = token != "*/"
        elif in_hint or _is_comment(token, syntax):
            continue
        elif token == "." and statement[end - 1 : end + 2] == "...":  # where a server left values out
            yield Piece(before, "...", "placeholder")
        elif token != "." or statement[max(0, end - 3) : end].count(".") < 2:
            yield from _parts(before, token, syntax)


def _is_comment(token: str, syntax: Syntax) -> bool:
    return token[:2] in ("--", "/*") or syntax.kinds[token[0]] == "comment"


def _parts(before: str, token: str, syntax: Syntax) -> Iterator[Piece]:
    """A run of values is told apart; anything else is one piece."""
    kind = syntax.kinds[token[0]]
    is_prefixed = kind == "prefixed" and ("'" in token or "[" in token) and syntax.prefixed.match(token) is not None
    may_be = token[1:2].isalnum() or token[1:2] in ("_", "(")
    if is_prefixed:
        yield Piece(before, token, "placeholder" if token.startswith("__[") else "value")
    elif kind != "value" and not (kind == "perhaps" and may_be):
        yield Piece(before, token, "word")
    else:
        yield from _values(before, token, syntax)


def _values(before: str, token: str, syntax: Syntax) -> Iterator[Piece]:
    end = 0
    for match in syntax.value.finditer(token):
        for sign in token[end : match.start()].split():
            yield from (Piece("", character, "word") for character in sign)
        is_placeholder = match[0][0] in "?%:@$"
        yield Piece(before if not end else " ", match[0], "placeholder" if is_placeholder else "value")
        end = match.end()


def _told_apart(pieces: list[Piece]) -> list[Piece]:
    """PostgreSQL's question mark is an operator between two operands, and otherwise a value that we hid."""
    found: list[Piece] = []
    for place, piece in enumerate(pieces):
        if piece.text == "?" and piece.kind == "word":
            last = found[-1] if found else None
            following = pieces[place + 1] if place + 1 < len(pieces) else None
            if not (_ends_operand(last) and _begins_operand(following)):
                piece = piece._replace(kind="placeholder")
        found.append(piece)
    return found


def _ends_operand(piece: Piece | None) -> bool:
    if piece is None or piece.word in KEYWORDS:
        return False
    return piece.kind != "word" or piece.text[-1] in ')]"' or piece.text[0].isalpha() or piece.text[0] == "_"


def _begins_operand(piece: Piece | None) -> bool:
    if piece is None or piece.word in KEYWORDS:
        return False
    return piece.kind != "word" or piece.text[0] in '("?' or piece.text[0].isalpha() or piece.text[0] == "_"


def marked(statement: str, dialect: DialectName) -> Marked:
    """The statement with marks where its placeholders are, lists and equal rows shortened.

    Raises:
        Unreadable: it is too long or too deep, was cut, or is none that filters, joins or writes rows.
    """
    pieces = pieces_of(statement, dialect)
    if not pieces or pieces[0].word not in VERBS or _is_cut(pieces):
        raise Unreadable
    if pieces[0].word == "REPLACE":
        pieces[0] = pieces[0]._replace(text="INSERT")
    return _Marking(pieces).done()


def _is_cut(pieces: Sequence[Piece]) -> bool:
    """Whether the end is missing; ``LIMIT ?, ...`` is how a server writes two values."""
    if pieces[-1].text != "...":
        return False
    return not any(piece.word == "LIMIT" for piece in pieces[-4:-1])


class _Marking:
    """One pass over the pieces."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces
        self._out: list[str] = []
        self._marks: list[int] = []
        self._depth = self._signs = self._chained = 0
        self._last = ""

    def done(self) -> Marked:
        place = 0
        while place < len(self._pieces):
            place = self._take(place)
            if len(self._out) > 2 * MAX_PIECES:
                raise Unreadable
        return Marked("".join(self._out), tuple(self._marks))

    def _take(self, place: int) -> int:
        """The piece is written, or a whole list or row with it; the place of the next."""
        piece = self._pieces[place]
        last = self._pieces[place - 1].word if place else ""
        self._watch(piece)
        if piece.kind == "placeholder":
            mark = self._new_mark()
            self._out += [piece.before or " ", f"({mark})" if last == "IN" else mark]
        else:
            self._out += [piece.before, piece.text]
        if piece.text == "(" and last == "IN":
            return self._after_list(place + 1)
        if piece.word in ("VALUES", "VALUE") and self._pieces[0].word == "INSERT":
            return self._after_rows(place + 1)
        return place + 1

    def _watch(self, piece: Piece) -> None:
        self._depth += (piece.text == "(") - (piece.text == ")")
        self._depth += (piece.word == "CASE") - (piece.word == "END")
        self._signs = self._signs + 1 if piece.word in SIGNS else 0
        self._chained += piece.text[0] in "[." and self._last in (")", "]")
        self._last = piece.text
        if max(self._depth, self._signs) > MAX_DEPTH or self._chained > MAX_CHAIN:
            raise Unreadable

    def _new_mark(self) -> str:
        self._marks.append(len(self._marks))
        return f"'{MARK}{self._marks[-1]}{MARK}'"

    def _after_list(self, start: int) -> int:
        """One value of a list of nothing but values stands for all, a placeholder if there is one."""
        end = start
        while end < len(self._pieces) and self._is_in_list(end):
            end += 1
        values = [place for place in range(start, end) if self._pieces[place].kind != "word"]
        if len(values) < 2 or self._pieces[end : end + 1] == [] or self._pieces[end].text != ")":
            return start
        placeholders = [place for place in values if self._pieces[place].kind == "placeholder"]
        kept = (placeholders or values)[0]
        first = len(self._marks)
        self._out.append(self._new_mark() if placeholders else self._pieces[kept].text)
        if self._pieces[kept + 1].text == "::":
            self._out += ["::", self._pieces[kept + 2].text]
        self._marks += [first] * (len(placeholders) - 1)
        return end

    def _is_in_list(self, place: int) -> bool:
        piece = self._pieces[place]
        is_type = self._pieces[place - 1].text == "::" and piece.text[0].isalpha()
        return piece.kind != "word" or piece.text in (",", "-", "+", "::") or is_type

    def _after_rows(self, start: int) -> int:
        """The first row stands for all that have as many placeholders."""
        end = self._row_end(start)
        place = start
        first = len(self._marks)
        while place < end:
            place = self._take(place)
        marks = self._marks[first:]
        while end < len(self._pieces) and self._pieces[end].text == ",":
            after = self._row_end(end + 1)
            count = sum(piece.kind == "placeholder" for piece in self._pieces[end:after])
            if after == end + 1 or count != len(marks):
                return end
            self._marks += marks
            end = after
        return end

    def _row_end(self, start: int) -> int:
        """The place after the bracket that closes the one here; this place where there is none."""
        depth = 0
        for place in range(start, len(self._pieces)):
            depth += (self._pieces[place].text == "(") - (self._pieces[place].text == ")")
            if depth == 0:
                return place + 1 if place > start else start
        return start


class _OwnThread(logging.Filter):
    """Lets pass what other threads log."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread != self._thread


@contextmanager
def nothing_logged() -> Iterator[None]:
    """SQLGlot logs nothing of what this thread does meanwhile: its warnings repeat the statement."""
    logger, own = logging.getLogger("sqlglot"), _OwnThread()
    logger.addFilter(own)
    try:
        yield
    finally:
        logger.removeFilter(own)


def parsed(text: str, dialect: DialectName) -> exp.Expr:
    """The one statement in this text.

    Raises:
        Unreadable: there is none, or more, or one that the parser does not know.
        Exception: whatever else the parser comes upon.
    """
    trees = sqlglot.parse(text, dialect=GRAMMARS[dialect], error_level=ErrorLevel.IMMEDIATE)
    if len(trees) != 1 or not isinstance(trees[0], exp.Query | exp.Insert | exp.Update | exp.Delete):
        raise Unreadable
    return trees[0]


def mark_of(node: object) -> int | None:
    """The number of the mark that this node is; None where it is something else."""
    if not isinstance(node, exp.Literal) or not node.is_string:
        return None
    match = MARKED.fullmatch(node.name)
    return int(match[1]) if match else None

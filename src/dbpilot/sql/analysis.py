"""The border to statements of somebody else's application: whatever they are, an answer comes, or None."""

from collections.abc import Mapping

from dbpilot.sql.blocks import Names
from dbpilot.sql.predicates import DialectName, Predicates
from dbpilot.sql.reading import Unreadable, marked, nothing_logged, parsed, pieces_of
from dbpilot.sql.uses import Reader

Columns = Mapping[str, Mapping[str, str]]
Target = tuple[str, str] | None


def analysed(statement: str, dialect: DialectName, columns: Columns, schema: str | None) -> Predicates | None:
    """See :func:`dbpilot.sql.predicates.predicates_of`."""
    try:
        with nothing_logged():
            tree = parsed(marked(statement, dialect).text, dialect)
            return Reader(tree, Names(dialect, columns, schema)).predicates()
    except Exception:  # noqa: BLE001 - the parser raises what it likes, a RecursionError among them
        return None


def compared(statement: str, dialect: DialectName, columns: Columns, schema: str | None) -> tuple[Target, ...]:
    """See :func:`dbpilot.sql.predicates.placeholders_of`."""
    try:
        found = marked(statement, dialect)
    except Unreadable:
        return (None,) * _count(statement, dialect)
    try:
        with nothing_logged():
            tree = parsed(found.text, dialect)
            targets = Reader(tree, Names(dialect, columns, schema)).targets()
    except Exception:  # noqa: BLE001 - as above
        targets = {}
    return tuple(targets.get(mark) for mark in found.marks)


def _count(statement: str, dialect: DialectName) -> int:
    try:
        return sum(piece.kind == "placeholder" for piece in pieces_of(statement, dialect))
    except Unreadable:
        return 0

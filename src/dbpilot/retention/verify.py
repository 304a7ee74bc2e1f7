"""An archive is read again, and compared with what the journal says was put there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dbpilot.retention import missing
from dbpilot.retention.conditions import one_of
from dbpilot.retention.digest import Digest, digest_of
from dbpilot.retention.journal import Journal
from dbpilot.retention.live import Live
from dbpilot.retention.portable import Portable
from dbpilot.retention.scope import chunks
from dbpilot.retention.session import Session
from dbpilot.retention.targets import ArchiveTarget


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What an archive was found to hold."""

    rule: str
    archive: str
    expected: int
    """Rows that were put there, less those that were restored."""
    found: int
    in_both: int
    """Keys that are live as well."""
    content_checked: bool
    """Whether values were compared too: not in a table beside, whose rows never left the database, and not where the
    columns changed since."""
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """The archive holds what it should."""
        return not self.problems


def verify_beside(session: Session, rule: str, live: Live, archive: sa.Table) -> VerifyResult:
    """The rows of an archive beside the live table are counted, those of all rules that share it."""
    pairs = [archive.c[name] == column for name, column in zip(live.key_names, live.key, strict=True)]
    with session.reading() as connection:
        journal = Journal(connection)
        expected = journal.expected(f"beside:{archive.name}").digest.rows if journal.exists else 0
        found = connection.scalar(sa.select(sa.func.count()).select_from(archive)) or 0
        both = connection.scalar(sa.select(sa.func.count()).select_from(archive.join(live.table, sa.and_(*pairs)))) or 0
    problems = _counted(expected, found, both)
    return VerifyResult(rule, archive.name, expected, found, both, content_checked=False, problems=tuple(problems))


def verify_elsewhere(session: Session, rule: str, target: ArchiveTarget, portable: Portable) -> VerifyResult:
    """Every archived row of the rule is read, and its content added up.

    Raises:
        RetentionError: the archive cannot be read.
    """
    with session.reading() as connection:
        journal = Journal(connection)
        expected = journal.expected(target.name, rule) if journal.exists else None
    wanted = Digest(0, 0) if expected is None else expected.digest
    columns = expected.columns if expected is not None else ()
    comparable = columns == portable.names
    found, both = Digest(0, 0), 0
    for rows in target.rows(rule, portable.table, None, None, None):
        found += digest_of(rows, columns) if comparable else Digest(len(rows), 0)
        both += _live(session, portable.live, rows)
    problems = _counted(wanted.rows, found.rows, both)
    if found.rows < wanted.rows:
        with session.reading() as connection:
            lost = missing.missing(connection, rule, target, portable, missing.Asked())
        problems += [f"gone as a whole: {', '.join(lost.places)}"] if lost.places else []
    if comparable and found.rows == wanted.rows and found != wanted:
        problems.append("its rows hold other values than were put there")
    return VerifyResult(
        rule, target.name, wanted.rows, found.rows, both, content_checked=comparable, problems=tuple(problems)
    )


def _live(session: Session, live: Live, rows: Sequence[Mapping[str, Any]]) -> int:
    """How many of these rows are live too."""
    keys = [tuple(row[name] for name in live.key_names) for row in rows]
    with session.reading() as connection:
        return sum(_count(connection, live, part) for part in chunks(keys, len(live.key)))


def _count(connection: sa.Connection, live: Live, keys: Sequence[Any]) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(live.table).where(one_of(live.key, keys))) or 0


def _counted(expected: int, found: int, both: int) -> list[str]:
    problems = []
    if found < expected:
        problems.append(f"{expected - found} of {expected} rows are missing")
    if found > expected:
        problems.append(f"it has {found - expected} rows that were not put there by these rules")
    if both:
        problems.append(f"{both} of its keys are live as well")
    return problems

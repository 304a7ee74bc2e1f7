"""The words that reading, checking and writing share."""

from dataclasses import dataclass

from app.errors import UnusableInput
from app.market.bulk_insert import Row


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was refused: where it stands (a line of text, or a row of Parquet; the first is 1), and why."""

    line: int
    reason: str


Checked = Row | BadRow


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of a file's rows."""

    imported: int = 0
    already_there: int = 0
    refused: int = 0


def ignored(bad: BadRow) -> None:
    """Nobody is told."""


class Refusal(ValueError):
    """Why one row cannot be taken."""


class UnusableFile(UnusableInput):
    """The file as a whole cannot be imported; says what to do."""


class StrictlyRefused(Exception):
    """A strict import met a bad row and changed nothing."""

    def __init__(self, bad: BadRow) -> None:
        super().__init__(bad.reason)
        self.bad = bad


class ImportStopped(Exception):
    """An import ended before its file did: ``cause`` says why, ``counts`` what is safely in the database."""

    def __init__(self, counts: Counts, cause: BaseException) -> None:
        super().__init__(counts, cause)
        self.counts = counts
        self.cause = cause

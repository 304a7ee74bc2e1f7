"""Where rows go that leave the live table for another system than its database."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeAlias

import sqlalchemy as sa

from dbpilot.errors import RetentionError
from dbpilot.retention.digest import Digest

Key: TypeAlias = tuple[Any, ...]
"""The values of a row's key columns, in the key's order."""


@dataclass(frozen=True, slots=True)
class BatchKey:
    """Names one batch of one rule for ever: writing it again writes the same thing."""

    rule: str
    number: int
    first_key: Key
    last_key: Key
    month: str
    """The month of the oldest row's time column, ``2024-03``; of the run where a rule has no time column."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a batch consists of, in the two forms in which it is quickly compared."""

    columns: Sequence[Sequence[Any]]
    """The values, column by column, in the table's order."""
    fingerprints: Digest | None
    """What the database that the rows come from made of each, added up; None where it made nothing of one."""


class KeysTakenError(RetentionError):
    """The archive has rows of these keys already, from other batches; nothing of this one was written."""

    def __init__(self, name: str, keys: Collection[Key]) -> None:
        super().__init__(f"{name} has other rows of {len(keys)} of these keys; restore or remove them there first")
        self.keys = tuple(keys)


class ArchiveTarget(Protocol):
    """An archive in another system. A table beside needs none of this: one transaction moves its rows.

    Values are Python's, JSON is text.
    """

    name: str
    """Shown in reports and kept in the journal, never with a password."""

    def differences(self, table: sa.Table) -> list[str]:
        """What has to be changed at the target before rows of this table fit, as DDL or in words."""

    def prepare(self, table: sa.Table) -> None:
        """Rows of this table fit; doing it twice is doing it once."""

    def write(self, batch: BatchKey, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """The batch consists of exactly these rows, and survives whatever comes; replaces an earlier writing of it."""

    def holds(self, batch: BatchKey, table: sa.Table, written: Written) -> bool:
        """The medium was asked, and has exactly these rows of the batch; False as well when that cannot be told so."""

    def read_back(self, batch: BatchKey, table: sa.Table) -> Digest | None:
        """What the medium holds of this batch; None when it is not there, or not whole."""

    def forget(self, batch: BatchKey, table: sa.Table) -> None:
        """Nothing is left of a batch that was never finished."""

    def rows(
        self, rule: str, table: sa.Table, since: datetime | None, until: datetime | None, time_column: str | None
    ) -> Iterator[Sequence[Mapping[str, Any]]]:
        """The archived rows of a rule in chunks that fit into memory; ``until`` is excluded."""

    def count(self, rule: str, table: sa.Table) -> int:
        """How many rows of a rule the archive has."""

    def absent(self, batches: Sequence[BatchKey], table: sa.Table) -> dict[int, str]:
        """Those of these batches, by their numbers, of which nothing is there, each with the place where it was."""

    def remove(self, rule: str, table: sa.Table, keys: Collection[Key]) -> int:
        """Rows that were restored have left the archive; returns how many did."""

    def close(self) -> None:
        """Nothing is held open."""

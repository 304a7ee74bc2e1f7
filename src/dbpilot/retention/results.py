"""What became of a cleaning: told while it goes on, and when it is over."""

from dataclasses import dataclass
from datetime import datetime

from dbpilot.retention.policy import Kind


@dataclass(frozen=True, slots=True)
class CleanupProgress:
    """How far one rule is, after a batch."""

    rule: str
    planned: int
    deleted: int
    rows_per_s: float
    left_s: float | None
    """Seconds until it is done, if it goes on like this; None when nothing can be said."""
    batch: int
    """Rows of the next batch, at most."""
    waiting_for: str | None = None
    """Why it waits now."""


@dataclass(frozen=True, slots=True)
class CleanupResult:
    """What one rule did, or in a dry run would do."""

    rule: str
    table: str
    kind: Kind
    target: str
    dry_run: bool
    planned: int
    copied: int = 0
    verified: int = 0
    """Rows that the archive was seen to hold before they were deleted."""
    deleted: int = 0
    left: int = 0
    """Rows that were to go and stayed, because they changed meanwhile or the archive has others of their key."""
    why_left: tuple[str, ...] = ()
    held: int = 0
    bytes: int = 0
    """An estimate, from a sample of the rows."""
    batches: int = 0
    longest_s: float = 0.0
    """The longest batch."""
    paused_s: float = 0.0
    seconds: float = 0.0
    recovered: int = 0
    """Batches of an earlier run or restore that died, which were put right first."""
    recovered_from: datetime | None = None
    """When the first of them was begun."""
    error: str | None = None
    stopped: str | None = None
    """Why it ended before its end, and how to go on."""
    differences: tuple[str, ...] = ()
    """What was done at the archive, or would be."""

    @property
    def rows_per_s(self) -> float:
        """Rows deleted per second of work, pauses left out."""
        working_s = self.seconds - self.paused_s
        return self.deleted / working_s if working_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class CleanupFinished:
    """A cleaning is over; this is what is notified."""

    dry_run: bool
    started: datetime
    ended: datetime
    results: tuple[CleanupResult, ...]

    @property
    def ok(self) -> bool:
        """Everything that was planned is done."""
        return not any(result.error or result.stopped for result in self.results)

    @property
    def deleted(self) -> int:
        """Rows that left their tables."""
        return sum(result.deleted for result in self.results)

    @property
    def planned(self) -> int:
        """Rows that were to leave their tables."""
        return sum(result.planned for result in self.results)

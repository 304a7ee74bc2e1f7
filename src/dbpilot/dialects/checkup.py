"""What may be off on a database: questions, and what is said when the answer is not the one hoped for."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Literal

from sqlalchemy import Connection, TextClause

from dbpilot.clock import Clock

Severity = Literal["red", "amber", "note"]
"""Somebody is needed now; something should be done; good to know."""

SKEW_S: Final = 2.0
"""Two clocks further apart put what one event did into windows that another did not."""
LONG_TRANSACTION_S: Final = 300
"""A transaction of five minutes keeps old rows of every table from being cleaned up."""
NEARLY_USED_UP: Final = 0.75
"""The share of a key's numbers from which on it is time to widen it: that takes a while on a large table."""
SOON_D: Final = 90


@dataclass(frozen=True, slots=True)
class Ailment:
    """Something that is off, what that costs, and what to paste where."""

    severity: Severity
    what: str
    why: str
    fix: str


@dataclass(frozen=True, slots=True)
class Patient:
    """A connection to look through, and the clock of who looks."""

    connection: Connection
    clock: Clock

    def ask(self, question: TextClause, **values: Any) -> Any:
        """The first row of the answer."""
        return self.connection.execute(question, values).one()

    def quoted(self, name: str) -> str:
        """The name as SQL has it, for statements that somebody pastes."""
        return self.connection.dialect.identifier_preparer.quote(name)

    @property
    def version(self) -> tuple[int, ...]:
        """The server's, as far as it is made of numbers."""
        return tuple(part for part in self.connection.dialect.server_version_info or () if isinstance(part, int))


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is looked at."""

    name: str
    hope: str
    """In a sentence: what is true where all is well."""
    look: Callable[[Patient], Iterable[Ailment]]
    """What is off, if anything; raises SQLAlchemyError where the account may not ask."""


def support_ailment(product: str, version: str, ends: date | None, today: date, newer: str) -> Iterable[Ailment]:
    """What is said of a version whose support ends on that day; nothing where the day is not known, or far."""
    if ends is None or (ends - today).days > SOON_D:
        return
    is_over = ends <= today
    ended = f"{'has had no support since' if is_over else 'will be supported only until'} {ends:%d %B %Y}"
    yield Ailment(
        "red" if is_over else "amber",
        f"{product} {version} {ended}",
        "security holes and data corruption that are found after that are not mended",
        f"upgrade to {product} {newer}",
    )


def skew_ailment(theirs_s: float, before_s: float, after_s: float) -> Iterable[Ailment]:
    """What is said when the server's clock, read between these two instants of ours, tells another time."""
    skew_s = max(before_s - theirs_s, theirs_s - after_s)
    if skew_s > SKEW_S:
        yield Ailment(
            "amber",
            f"the clocks of this machine and of the database are {skew_s:.0f} s apart",
            "rows are archived too early or too late, and events of one second are shown at two",
            "on both machines: timedatectl set-ntp true",
        )


def bytes_told(size: float) -> str:
    """How many bytes, for a sentence."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"


def some(names: Iterable[str], most: int = 5) -> str:
    """The first of the names, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more

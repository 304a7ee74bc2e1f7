"""What is kept for how long, and where it goes then."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from pydantic import SecretStr
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from dbpilot.errors import ConfigError

BESIDE: Final = "beside"
"""The target that is a table in the same database as the live one."""
SERVERS: Final = ("mysql", "mariadb", "postgresql", "sqlite")
MIN_BATCH: Final = 100
MAX_BATCH: Final = 10_000
"""Between how many rows a batch may be; beyond 5,000 only the lock grows."""
NAME_LENGTH: Final = 100

Kind = Literal["purge", "beside", "server", "files"]


@dataclass(frozen=True, slots=True)
class Rule:
    """Which rows leave a table, when, and for where.

    Due is what is older than ``keep`` by ``time_column``, or what repeats an earlier row in the ``duplicates`` columns,
    or both where both are given; and of these only what is as ``where`` says.

    Raises:
        ConfigError: the rule makes no sense; says why.
    """

    name: str
    table: str
    time_column: str | None = None
    keep: timedelta = timedelta(0)
    where: Mapping[str, Any] = field(default_factory=dict)
    """Column -> value, or list of values, one of which it has; None is NULL."""
    duplicates: tuple[str, ...] = ()
    """Rows that have the same in all of these columns are one too many; NULL is like nothing."""
    keep_which: Literal["first", "last"] = "first"
    """Which of them stays, in the order of the key."""
    target: str | SecretStr | None = BESIDE
    """``beside``, the SQLAlchemy URL of another database, a folder or an fsspec URL for Parquet files."""
    purge: bool = False
    """Rows are deleted and kept nowhere; ``target`` must be None then, so that nobody says so by mistake."""
    archive_table: str | None = None
    """The archive's name where it is a table; by default the live table's and ``_archive``, or ``_duplicates``."""
    batch: int = 1000
    """Rows of the first batch; then as many as ``batch_s`` allows."""
    batch_s: float = 0.5
    after: tuple[str, ...] = ()
    """Rules that must have run before; that children go before their parents needs no saying."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", dict(self.where))
        object.__setattr__(self, "duplicates", tuple(self.duplicates))
        object.__setattr__(self, "after", tuple(self.after))
        if isinstance(self.target, str) and "://" in self.target:
            object.__setattr__(self, "target", SecretStr(self.target))
        for problem in _problems(self):
            raise ConfigError(f"retention rule {self.name!r}: {problem}")

    @property
    def place(self) -> str:
        """The target as it was written, with its password; empty for none."""
        return self.target.get_secret_value() if isinstance(self.target, SecretStr) else self.target or ""

    @property
    def kind(self) -> Kind:
        """What becomes of the rows."""
        if self.target is None:
            return "purge"
        if self.place == BESIDE:
            return "beside"
        return "server" if _is_server(self.place) else "files"

    @property
    def archive(self) -> str:
        """The name of the table that the rows go to, where it is a table."""
        return self.archive_table or self.table + ("_duplicates" if self.duplicates else "_archive")

    def cutoff(self, now: datetime) -> datetime:
        """What is older than this is due."""
        return now - self.keep


def _problems(rule: Rule) -> list[str]:
    """What makes no sense about a rule, the plainest first."""
    laws = [
        (bool(rule.name) and len(rule.name) <= NAME_LENGTH, f"its name must have 1 to {NAME_LENGTH} characters"),
        (rule.name.isprintable() and not set(rule.name) & set('/\\="'), "its name must not contain / \\ = or quotes"),
        (bool(rule.table), "it names no table"),
        (rule.keep >= timedelta(0), "keep is negative, so it would take what is not there yet"),
        (
            bool(rule.time_column or rule.duplicates),
            "name the time_column that tells a row's age, or the columns that tell duplicates",
        ),
        (bool(rule.time_column) or not rule.keep, "keep means nothing without a time_column"),
        (
            not rule.time_column or bool(rule.keep) or bool(rule.duplicates),
            "keep is zero, which would take every row up to now; say how long rows are kept",
        ),
        (len(set(rule.duplicates)) == len(rule.duplicates), "duplicates names a column twice"),
        (rule.keep_which in ("first", "last"), 'keep_which is "first" or "last"'),
        (1 <= rule.batch <= MAX_BATCH, f"batch must be between 1 and {MAX_BATCH:,} rows"),
        (rule.batch_s > 0, "batch_s must be more than no time at all"),
        (
            rule.target is not None or rule.purge,
            "without a target its rows would be deleted for ever; say purge=True if that is meant",
        ),
        (rule.target is None or not rule.purge, "it has a target and purge=True; say purge=True with target=None only"),
        (rule.target is None or bool(rule.place), "its target is empty"),
        (rule.archive != rule.table, "its archive would be the live table itself"),
        (rule.name not in rule.after, "it cannot run after itself"),
    ]
    return [problem for holds, problem in laws if not holds]


def _is_server(place: str) -> bool:
    try:
        return make_url(place).get_backend_name() in SERVERS
    except ArgumentError:
        return False

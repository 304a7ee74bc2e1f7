"""How the pilot behaves; frozen once read.

Every setting has a default, can be given in code, and is read from the environment by :meth:`PilotConfig.from_env`:
``DBPILOT_QUERIES__SLOW_S=0.5`` sets ``queries.slow_s``.
"""

import json
import os
from difflib import get_close_matches
from pathlib import Path
from secrets import token_urlsafe
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from dbpilot.errors import ConfigError

WRITTEN_AS_JSON: Final = (
    "__KEYS",
    "__URLS",
    "__MUTED",
    "__SLOW_S_BY_PATTERN",
    "__REPLICAS",
    "QUERIES",
    "POOL",
    "RETENTION",
    "INDEXES",
    "HISTORY",
    "ALERTS",
    "WEB",
)
MAX_KEPT_D: Final = 3660
MAX_KEPT_H: Final = 24 * MAX_KEPT_D


PoolMode = Literal["auto", "adaptive", "advise", "off"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class QueriesConfig(_Section):
    """Watching statements."""

    slow_s: float = Field(default=1.0, gt=0)
    """From this duration on a statement is slow, and remembered one by one."""

    warning_s: float = Field(default=2.0, gt=0)
    critical_s: float = Field(default=5.0, gt=0)

    slow_s_by_pattern: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Other thresholds for some patterns, by pattern id, in seconds."""

    window_s: int = Field(default=10, ge=1, le=60)
    """Statements are counted per pattern and per window of this length, which divides a minute."""

    max_patterns: int = Field(default=1000, ge=1)
    """Patterns told apart within one window and in the cache; the rest is counted as one pattern, "other"."""

    max_pending: int = Field(default=20_000, ge=1)
    """Statements waiting for the worker, per thread; more are dropped and counted as dropped."""

    drain_s: float = Field(default=0.25, gt=0)
    """How often the worker empties the threads' buffers."""

    fetch_timing: bool = True
    """Whether fetching rows is timed as well. Without it a statement costs less to watch, and on SQLite, which does
    most of its work while rows are fetched, the figures say little."""

    sample_every: int = Field(default=64, ge=1)
    """Of so many statements one is asked for the line of code it comes from; slow and failed ones always are."""

    n_plus_one: int = Field(default=10, ge=2)
    """From so many executions of one SELECT in one request on, it is reported."""

    requests_kept: int = Field(default=1000, ge=0)
    """Receipts of requests kept in memory, the latest ones."""

    explain: bool = True
    """Whether the database is asked for the plan of slow SELECTs."""

    explain_per_minute: int = Field(default=6, ge=1)
    explain_timeout_s: float = Field(default=2.0, gt=0)

    comment: Literal["off", "route", "trace"] = "off"
    """Whether statements carry the route of their request, or that and its trace, to the server: as a comment in
    sqlcommenter's format. A trace makes each text another one, which spoils prepared statements."""

    @field_validator("window_s")
    @classmethod
    def _divides_a_minute(cls, window_s: int) -> int:
        if 60 % window_s:
            raise ValueError("must divide 60, so that windows add up to minutes")
        return window_s

    @property
    def watch_s(self) -> float:
        """The duration from which on a statement may be slow, whichever its pattern."""
        return min([self.slow_s, *self.slow_s_by_pattern.values()])


class PoolConfig(_Section):
    """Sizing the connection pool."""

    mode: PoolMode = "advise"
    """Whether the pool is resized by the two thresholds below at every review, or "adaptive": within seconds, by what
    is asked of it; whether somebody is only told what the thresholds would do; or whether it is only looked at."""

    min_size: int = Field(default=5, ge=1)
    max_size: int = Field(default=20, ge=1)
    """Between how many connections the pool's size may lie; its overflow comes on top and stays as it is."""

    grow_at: float = Field(default=0.8, gt=0)
    shrink_at: float = Field(default=0.3, ge=0)
    """The share of the size that was in use, on the average between two reviews, from which on the pool grows, and
    down to which it shrinks."""

    review_s: float = Field(default=300, gt=0)
    """The time between two reviews."""

    sample_s: float = Field(default=1, gt=0, le=10)
    """How often the pool is looked at."""

    long_hold_s: float = Field(default=60, gt=0)
    """A connection that is held for so long is reported, with its holder."""

    slow_connect_s: float = Field(default=1.0, gt=0)
    """Somebody is warned when opening a connection takes so long."""

    timezone: str | None = None
    """Whose clock the day's demand follows, such as ``Asia/Seoul``: a market opens by it, summer and winter. None for
    the machine's."""

    warn_at: float = Field(default=0.9, gt=0, le=1)
    """The share of the limit in use from which on somebody is warned."""

    budget: Literal["server"] | Annotated[int, Field(ge=1)] | None = "server"
    """How many connections all processes that share the history may have open together, where their pools are resized:
    as many as the server allows less the reserve and what others use, so many, or None for no common bound."""

    reserve: float = Field(default=0.1, ge=0, lt=1)
    """The share of the server's connections that is left to others."""

    @property
    def resizes(self) -> bool:
        """Whether anything is done to the pool."""
        return self.mode in ("auto", "adaptive")

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, timezone: str | None) -> str | None:
        return None if timezone is None else _known_zone(timezone)

    @model_validator(mode="after")
    def _leaves_room(self) -> Self:
        if self.min_size > self.max_size:
            raise ValueError(f"min_size {self.min_size} is more than max_size {self.max_size}")
        if self.shrink_at >= self.grow_at:
            raise ValueError(f"shrink_at {self.shrink_at:g} is not below grow_at {self.grow_at:g}")
        return self


class RetentionConfig(_Section):
    """When the rules of retention run, and how gently; the rules themselves are given in code."""

    schedule: str | None = None
    """A cron line: ``0 2 * * 0`` is every Sunday at two. None for never by itself."""

    timezone: str = "Asia/Seoul"
    """Whose clock the schedule follows."""

    grace_s: float = Field(default=3600, gt=0)
    """How late a run may begin that was missed because nothing ran; what is missed by more waits for the next time."""

    jitter_s: float = Field(default=0, ge=0)
    """Runs begin up to this much later, so that not all applications on one server begin at once."""

    window_s: float | None = Field(default=None, gt=0)
    """A run ends after so long, and goes on the next time; None for no end."""

    max_lag_s: float | None = Field(default=1.0, gt=0)
    max_running: int | None = Field(default=25, ge=1)
    max_lock_waits: int | None = Field(default=5, ge=1)
    max_p95_s: float | None = Field(default=None, gt=0)
    """A run waits while a replica is further behind, more statements run or wait for locks, or the application's p95
    over the last seconds is higher; None for not minding."""

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, timezone: str) -> str:
        return _known_zone(timezone)


class IndexesConfig(_Section):
    """Advice on indexes, and following it."""

    enabled: bool = True
    """Whether advice is made by itself; on demand it always is."""

    every_s: float = Field(default=3600, ge=60)
    """How often advice is made anew."""

    workload_hours: float = Field(default=24, gt=0, le=MAX_KEPT_H)
    """The statements of so many hours are looked at."""

    statements: int = Field(default=200, ge=1, le=2000)
    """As many patterns are looked at, those that took most time."""

    budget_mb: float | None = Field(default=None, gt=0)
    """How large all new indexes may be together, in MiB; None for no bound."""

    explains: int = Field(default=500, ge=10)
    """About how often the optimizer is asked for one advice."""

    unused_days: float = Field(default=30, gt=0)
    """An index that nobody read is said to be unused after so many days in which uses were counted."""

    replicas: tuple[SecretStr, ...] = ()
    """Replicas whose reads count as uses, too, as SQLAlchemy writes their addresses."""

    apply: bool = False
    """Whether indexes may be created and dropped at all; each time it still has to be asked for."""

    max_lock_wait_s: float = Field(default=60, ge=0)
    """Others wait at most so long behind the last attempts at a change, where statements that take seconds use the
    table all the time."""

    verify_s: float = Field(default=900, gt=0)
    """A new index has so long to keep its promise."""

    verify_calls: int = Field(default=20, ge=1)
    """So many executions of a statement say something about how long it takes."""

    slower: float = Field(default=0.1, gt=0)
    """By which share a statement may take longer than before, beyond chance, until the change is undone."""

    trial_days: float = Field(default=7, gt=0)
    """So long an index is only ignored before it may be dropped, where the database can ignore one."""


class HistoryConfig(_Section):
    """Remembering, in windows of four lengths; each is forgotten at an age of its own."""

    url: SecretStr = SecretStr("sqlite:///var/dbpilot.sqlite3")
    """Where the history is kept: the SQLAlchemy URL of SQLite, MariaDB/MySQL or PostgreSQL."""

    keep_windows_hours: float = Field(default=3, gt=0, le=MAX_KEPT_H)
    keep_minutes_hours: float = Field(default=48, gt=0, le=MAX_KEPT_H)
    keep_hours_days: float = Field(default=35, gt=0, le=MAX_KEPT_D)
    keep_days_days: float = Field(default=400, gt=0, le=MAX_KEPT_D)
    """How long what was counted is kept per window, per minute, per hour and per day; the pools' minutes as hours."""

    keep_events_days: float = Field(default=14, gt=0, le=MAX_KEPT_D)
    """How long slow statements, receipts of requests and alerts are kept."""


class AlertsConfig(_Section):
    """When somebody is told, and how."""

    urls: tuple[SecretStr, ...] = ()
    """Where alerts go, as Apprise writes it: ``tgram://token/chat``, ``slack://...``, ``mailto://...``,
    ``json://host/path``. Without any, alerts are only shown."""

    title: str = "dbpilot"
    """What a message's title begins with: the application's name."""

    slow: bool = True
    """Whether statements of ``queries.warning_s`` and ``queries.critical_s`` alert."""

    error_rate: float = Field(default=0.05, gt=0, le=1)
    """The share of failed executions of one pattern in one minute."""

    min_calls: int = Field(default=20, ge=1)
    """Fewer executions in a minute say nothing about a rate, and nothing about a regression."""

    new_pattern_share: float = Field(default=0.1, gt=0, le=1)
    """A pattern that was never seen before alerts once it takes this share of a minute's database time; only after a
    day of history."""

    regression_factor: float = Field(default=2.0, gt=1)
    """How many times its own usual p95 a pattern has to take, at least ``regression_min_s`` more."""

    regression_min_s: float = Field(default=0.05, ge=0)

    recover_s: float = Field(default=120, ge=0)
    """An alert ends after so long without cause."""

    cooldown_s: float = Field(default=900, ge=0)
    """The same alert is not sent again for so long."""

    muted: tuple[str, ...] = ()
    """Pattern ids and kinds of alerts that nobody wants to hear of."""


class WebConfig(_Section):
    """Who may ask over HTTP, and how much. Without any key only this machine may, and it may do everything."""

    keys: tuple[SecretStr, ...] = ()
    """Hashes of keys with a name and a role, as ``dbpilot key new`` prints them; the keys themselves are nowhere."""

    keys_file: Path | None = None
    """More of them, one a line; read once, at the start."""

    secret: SecretStr = Field(default_factory=lambda: SecretStr(token_urlsafe(32)), min_length=32)
    """What the dashboard's sessions are signed with. Without it they end with the process, and one process does not
    know another's: several workers need one that they share."""

    session_hours: float = Field(default=12, gt=0, le=24 * 30)
    """After so long a session of the dashboard ends, and the key is asked for again."""

    expensive_per_minute: int = Field(default=60, ge=1)
    """How often one caller may ask for what is expensive: trying, reviewing, verifying, the server's own figures."""


class PilotConfig(_Section):
    """Everything that can be set about the pilot."""

    queries: QueriesConfig = QueriesConfig()
    pool: PoolConfig = PoolConfig()
    retention: RetentionConfig = RetentionConfig()
    indexes: IndexesConfig = IndexesConfig()
    history: HistoryConfig = HistoryConfig()
    alerts: AlertsConfig = AlertsConfig()
    web: WebConfig = WebConfig()

    @classmethod
    def from_env(cls, prefix: str = "DBPILOT_") -> Self:
        """The defaults, overridden by what the environment says.

        Raises:
            ConfigError: a variable has a value that makes no sense, or names no setting; says which.
        """

        class Environment(BaseSettings, PilotConfig):
            model_config = SettingsConfigDict(
                env_prefix=prefix,
                env_nested_delimiter="__",
                env_parse_none_str="null",  # as in JSON
                frozen=True,
                extra="forbid",
            )

        _refuse_unknown(prefix)
        try:
            read = Environment()
        except SettingsError:
            raise ConfigError(_unreadable(prefix)) from None
        except ValidationError as error:
            raise ConfigError("; ".join(_complaint(prefix, problem) for problem in error.errors())) from None
        return cls(**{name: getattr(read, name) for name in PilotConfig.model_fields})


def _known_zone(timezone: str) -> str:
    try:
        ZoneInfo(timezone)
    except (ValueError, OSError, ZoneInfoNotFoundError):  # no zone, no such zone, a folder of zones
        near = get_close_matches(timezone, available_timezones(), 3)
        said = f"no time zone is called {timezone}; did you mean {' or '.join(near) or 'Asia/Seoul'}?"
        raise ValueError(said) from None
    return timezone


def _refuse_unknown(prefix: str) -> None:
    """Returns only when every variable written like a setting is one: a misspelt one would change nothing, silently."""
    sections = {name: field.annotation for name, field in PilotConfig.model_fields.items()}
    known = {f"{prefix}{name}".upper() for name in sections} | {
        f"{prefix}{name}__{setting}".upper()
        for name, section in sections.items()
        for setting in getattr(section, "model_fields", {})
    }
    for name in os.environ:
        if name.upper().startswith(prefix.upper()) and name.upper() not in known:
            near = get_close_matches(name.upper(), known, 3) or sorted(known)
            raise ConfigError(f"{name} is no setting; did you mean {' or '.join(near)}?")


def _unreadable(prefix: str) -> str:
    """Which variables are no JSON, though lists and tables are written as JSON."""
    found = []
    for name, value in os.environ.items():
        if name.upper().startswith(prefix.upper()) and name.upper().endswith(WRITTEN_AS_JSON):
            try:
                json.loads(value)
            except ValueError:
                found.append(name)
    which = ", ".join(found) or f"a variable that begins with {prefix}"
    return f'{which}: lists and tables are written as JSON, for example ["a", "b"] or {{"a": 1}}'


def _complaint(prefix: str, problem: object) -> str:
    where, what = problem["loc"], problem["msg"]  # type: ignore[index]  # pydantic's ErrorDetails, a TypedDict
    setting = where[:2]  # what follows is a place inside of its value, or one of several types that it may have
    return f"{prefix}{'__'.join(str(part) for part in setting).upper()}: {what.removeprefix('Value error, ')}"

"""How the pilot behaves; frozen once read.

Every setting has a default, can be given in code, and is read from the environment by :meth:`PilotConfig.from_env`:
``DBPILOT_QUERIES__SLOW_S=0.5`` sets ``queries.slow_s``.
"""

import os
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from dbpilot.errors import ConfigError


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class QueriesConfig(_Section):
    """Watching statements."""

    slow_s: float = Field(default=1.0, gt=0)
    """From this duration on a statement is slow, and remembered one by one."""

    warning_s: float = Field(default=2.0, gt=0)
    critical_s: float = Field(default=5.0, gt=0)

    window_s: int = Field(default=10, ge=1, le=3600)
    """Statements are counted per pattern and per window of this length."""

    max_patterns: int = Field(default=1000, ge=1)
    """Patterns told apart within one window and in the cache; the rest is counted as one pattern, "other"."""

    max_pending: int = Field(default=20_000, ge=1)
    """Statements waiting for the worker, per thread; more are dropped and counted as dropped."""

    drain_s: float = Field(default=0.25, gt=0)
    """How often the worker empties the threads' buffers."""


class HistoryConfig(_Section):
    """Remembering."""

    url: SecretStr = SecretStr("sqlite:///var/dbpilot.sqlite3")
    """Where the history is kept: the SQLAlchemy URL of SQLite, MariaDB/MySQL or PostgreSQL."""

    keep_hours: float = Field(default=48, gt=0, le=24 * 366 * 10)
    """Older windows and slow statements are forgotten."""


class PilotConfig(_Section):
    """Everything that can be set about the pilot."""

    queries: QueriesConfig = QueriesConfig()
    history: HistoryConfig = HistoryConfig()

    @classmethod
    def from_env(cls, prefix: str = "DBPILOT_") -> Self:
        """The defaults, overridden by what the environment says.

        Raises:
            ConfigError: a variable has a value that makes no sense, or names no setting; says which.
        """

        class Environment(BaseSettings, PilotConfig):
            model_config = SettingsConfigDict(env_prefix=prefix, env_nested_delimiter="__", frozen=True, extra="forbid")

        _refuse_unknown(prefix)
        try:
            read = Environment()
        except SettingsError as error:
            raise ConfigError(f"{prefix}...: {error}") from None
        except ValidationError as error:
            raise ConfigError("; ".join(_complaint(prefix, problem) for problem in error.errors())) from None
        return cls(queries=read.queries, history=read.history)


def _refuse_unknown(prefix: str) -> None:
    """Returns only when every variable written like a setting is one: a misspelt one would change nothing, silently."""
    sections = {name: field.annotation for name, field in PilotConfig.model_fields.items()}
    known = {f"{prefix}{name}".upper() for name in sections} | {
        f"{prefix}{name}__{setting}".upper()
        for name, section in sections.items()
        for setting in getattr(section, "model_fields", {})
    }
    for name in os.environ:
        if name.upper().startswith(prefix.upper()) and "__" in name and name.upper() not in known:
            raise ConfigError(f"{name} is no setting; there are {', '.join(sorted(known))}")


def _complaint(prefix: str, problem: object) -> str:
    where, what = problem["loc"], problem["msg"]  # type: ignore[index]  # pydantic's ErrorDetails, a TypedDict
    return f"{prefix}{'__'.join(str(part) for part in where).upper()}: {what}"

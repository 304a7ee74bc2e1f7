"""The questions that dbpilot asks about a database."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine

from dbpilot.sql.syntax import Syntax


@dataclass(frozen=True, slots=True)
class Identity:
    """Which product answers, and in which version; the version is None until a first connection was made."""

    product: str
    version: str | None


@dataclass(frozen=True, slots=True)
class Dialect:
    """One kind of database."""

    syntax: Syntax
    """How its SQL is spelled."""

    product: Callable[[Engine], str]
    """The product's name, as far as the driver tells."""

    error_code: Callable[[BaseException], str | None]
    """The server's own code of a driver error (SQLSTATE, error number, ...); None when the driver gives none."""

    def identity(self, engine: Engine) -> Identity:
        """What answers behind this engine, from what SQLAlchemy learned at its first connection."""
        version = getattr(engine.dialect, "server_version_info", None)
        return Identity(self.product(engine), ".".join(str(part) for part in version) if version else None)

    def error_class(self, error: BaseException) -> str:
        """The error's class, and its code where there is one: ``IntegrityError 1062``. Never its message, which
        repeats values."""
        code = self.error_code(error)
        return f"{type(error).__name__} {code}" if code else type(error).__name__

"""The server's optimizer is asked for plans, on a connection of one's own, and nothing is executed."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from sqlalchemy import Connection, CursorResult, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from dbpilot.dialects.postgresql.explain import is_open, may_ask
from dbpilot.dialects.whatif import Query
from dbpilot.errors import WatchedDatabaseError
from dbpilot.unsupported import Unsupported

PLAN_TIMEOUT_S: Final = 5.0
LOCK_TIMEOUT_S: Final = 1.0
MS_PER_S: Final = 1000
GENERIC_PLAN: Final = (16,)
"""Since this version EXPLAIN plans what has placeholders without their values."""

PREPARED: Final = "dbpilot_what_if"
SETTINGS: Final = {
    "statement_timeout": str(round(PLAN_TIMEOUT_S * MS_PER_S)),
    "lock_timeout": str(round(LOCK_TIMEOUT_S * MS_PER_S)),
    "plan_cache_mode": "force_generic_plan",
}
"""The connection's own: nobody waits for long, and a value that is missing is not taken for NULL."""

SET: Final = text("SELECT set_config(:name, :value, false)")
OPEN_VALUES: Final = text("SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = :name")
TYPED_PLACEHOLDER: Final = re.compile(
    r"\b(date|time|timetz|timestamp|timestamptz|interval)\s+(\$\d+)(?!\w)", re.IGNORECASE
)

UNPLANNED: Final = {
    "42501": ("this user may not read a table that it names", "GRANT SELECT on it to the user of the what-if"),
    "42P18": ("the types of its values are not known without values", "ask with the values of a real execution"),
    "42P08": ("the types of its values are not known without values", "ask with the values of a real execution"),
    "57014": (f"its plan took longer than {PLAN_TIMEOUT_S:g} s", "ask when the server is less busy"),
    "55P03": ("somebody changes a table that it names", "ask again when that is done"),
    "42601": ("the server cannot read it", "ask about the statement as the application sends it, with its values"),
    "42P01": ("a table that it names is not there", "ask on the database, and with the search_path, it is meant for"),
}
OTHER_FIX: Final = "ask about the statement as the application sends it, with the values of a real execution"


@contextmanager
def translated() -> Iterator[None]:
    """What the driver or the network raises is the error that callers know."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        raise WatchedDatabaseError(f"the watched database: {kind(error)}") from None


def kind(error: BaseException) -> str:
    """The error's class and code, never its words, which repeat values."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(filter(None, (type(original).__name__, _state(error))))


def _state(error: BaseException) -> str:
    return str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")


def raise_if_lost(error: DBAPIError) -> None:
    """Returns where the server only refused."""
    if error.connection_invalidated:
        raise WatchedDatabaseError(f"the watched database: {kind(error)}") from None


class Optimizer:
    """Asks one server, each time in a transaction of its own: a longer one would keep its locks, and hold up those who
    change a table."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.calls = 0
        self._refused: dict[str, Unsupported | None] = {}
        """The same statements are asked about again and again."""
        for name, value in SETTINGS.items():
            self.set(name, value)

    def set(self, name: str, value: str) -> None:
        """The setting has this value on this connection."""
        self.connection.execute(SET, {"name": name, "value": value})

    def check(self) -> None:
        """Returns where the connection is still the one that was prepared.

        Raises:
            WatchedDatabaseError: it was lost.
        """
        if self.connection.invalidated:
            raise WatchedDatabaseError("the watched database: the connection of the what-if was lost; open another")

    def plan(self, query: Query, options: str = "FORMAT JSON") -> Any:
        """What EXPLAIN answers, or Unsupported where the server does not plan it."""
        refused = self._why_not(query.statement)
        if refused is not None:
            return refused
        self.calls += 1
        try:
            answer = self._asked(query, options)
        except DBAPIError as error:
            raise_if_lost(error)
            reason, fix = UNPLANNED.get(_state(error), ("the server does not plan it", OTHER_FIX))
            return Unsupported(f"{reason} ({kind(error)})", fix)
        except (SQLAlchemyError, OSError) as error:
            raise WatchedDatabaseError(f"the watched database: {kind(error)}") from None
        return json.loads(answer) if isinstance(answer, str) else answer

    def _why_not(self, statement: str) -> Unsupported | None:
        if statement not in self._refused:
            self._refused[statement] = may_ask(statement)
        return self._refused[statement]

    def _asked(self, query: Query, options: str) -> Any:
        if query.parameters is not None:
            explain = f"EXPLAIN ({options}) {query.statement}"
            return self.connection.exec_driver_sql(explain, query.parameters).scalar_one()
        if not is_open(query.statement):
            return self.say(f"EXPLAIN ({options}) {query.statement}").scalar_one()
        statement = TYPED_PLACEHOLDER.sub(r"(\2)::\1", query.statement)
        if (self.connection.dialect.server_version_info or ()) >= GENERIC_PLAN:
            return self.say(f"EXPLAIN (GENERIC_PLAN, {options}) {statement}").scalar_one()
        return self._generic_plan(statement, options)

    def _generic_plan(self, statement: str, options: str) -> Any:
        """Prepared anew each time: the server would keep the plan of a statement while hypothetical indexes change."""
        name = f"{PREPARED}_{self.calls}"
        self.say(f"PREPARE {name} AS {statement}")
        try:
            count = self.connection.execute(OPEN_VALUES, {"name": name}).scalar_one()
            nulls = ", ".join(["NULL"] * count)
            return self.say(f"EXPLAIN ({options}) EXECUTE {name} ({nulls})").scalar_one()
        finally:
            with suppress(DBAPIError):  # in a transaction that has failed, or on a connection that was lost
                if not self.connection.invalidated:
                    self.say(f"DEALLOCATE {name}")

    def say(self, statement: str) -> CursorResult[Any]:
        """The driver takes it as it is: its per cent signs and dollars are no placeholders of the driver."""
        return self.connection.exec_driver_sql(statement, execution_options={"no_parameters": True})

"""Asks the database for the plans of slow statements: rarely, elsewhere, and only where that is safe.

A plain EXPLAIN does not execute a SELECT; anything else is not explained, for no database promises as much for it.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from queue import Empty, Full, Queue
from threading import Event as Flag
from threading import Thread
from typing import Any, Final

from dbpilot.clock import Clock
from dbpilot.config import QueriesConfig
from dbpilot.dialects import Dialect
from dbpilot.dialects.connections import OwnConnections
from dbpilot.dialects.plan import Plan
from dbpilot.errors import WatchedDatabaseError
from dbpilot.sql.fingerprint import operation_of, pattern_tokens
from dbpilot.sql.syntax import Syntax
from dbpilot.unsupported import Unsupported

log = logging.getLogger(__name__)

PLAN: Final = "plan"
MAX_WAITING: Final = 20
MAX_REMEMBERED: Final = 1000
EVERY_S: Final = 300.0
"""One pattern is explained again after so long: its plan may have changed."""
STOP_S: Final = 2.0
NOT_READING: Final = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "INTO", "FOR", "LOCK", "CALL", ";"})

OnPlan = Callable[[str, Plan], None]


def may_explain(statement: str, syntax: Syntax) -> bool:
    """Whether the statement only reads, beyond doubt."""
    tokens = pattern_tokens(statement, syntax)
    return operation_of(tokens) == "SELECT" and not NOT_READING & {token.upper() for token in tokens}


class PlanDesk:
    """Takes slow statements from :meth:`start` to :meth:`stop`, and tells their plans."""

    def __init__(
        self, own: OwnConnections, dialect: Dialect, config: QueriesConfig, clock: Clock, on_plan: OnPlan
    ) -> None:
        self._own = own
        self._dialect = dialect
        self._config = config
        self._clock = clock
        self._on_plan = on_plan
        self._waiting: Queue[tuple[str, str, Any]] = Queue(MAX_WAITING)
        self._asked_at: OrderedDict[str, float] = OrderedDict()
        self._recent: list[float] = []
        self._stopping = Flag()
        self._thread: Thread | None = None
        self.failures = 0
        self.unsupported: Unsupported | None = None
        """Why this database gives no plans."""

    def start(self) -> None:
        """The thread runs, unless plans are not wanted."""
        if self._config.explain:
            self._stopping = Flag()
            thread = Thread(target=self._run, args=(self._stopping,), name="dbpilot-plans", daemon=True)
            thread.start()
            self._thread = thread  # one that could not be started is not waited for

    def stop(self) -> None:
        """No more plans are asked for; one that the database does not give soon is not waited for."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_S)
            self._thread = None

    def ask(self, pattern_id: str, statement: str, parameters: Any) -> None:
        """The plan is asked for soon, if this pattern's turn has come; returns at once."""
        now = self._clock.ticks()
        self._recent = [at for at in self._recent if now - at < 60]
        asked_at = self._asked_at.get(pattern_id, float("-inf"))
        if self._thread is None or self.unsupported or now - asked_at < EVERY_S:
            return
        if len(self._recent) >= self._config.explain_per_minute or not may_explain(statement, self._dialect.syntax):
            return
        try:
            self._waiting.put_nowait((pattern_id, statement, parameters))
        except Full:
            return
        self._recent.append(now)
        self._asked_at[pattern_id] = now
        self._asked_at.move_to_end(pattern_id)
        while len(self._asked_at) > MAX_REMEMBERED:
            self._asked_at.popitem(last=False)

    def _run(self, stopping: Flag) -> None:
        while not stopping.is_set():
            try:
                pattern_id, statement, parameters = self._waiting.get(timeout=0.2)
            except Empty:
                continue
            try:
                self._explain(pattern_id, statement, parameters)
            except WatchedDatabaseError:
                self.failures += 1
            except Exception as error:  # noqa: BLE001 - the border to drivers and their surprises
                self.failures += 1
                log.warning("dbpilot could not read a plan: %s", type(error).__name__)

    def _explain(self, pattern_id: str, statement: str, parameters: Any) -> None:
        explain = self._dialect.explain
        root = self._own.run(
            lambda connection: explain(connection, statement, parameters), self._config.explain_timeout_s
        )
        if isinstance(root, Unsupported):
            self.unsupported = root
        else:
            self._on_plan(pattern_id, Plan(root))

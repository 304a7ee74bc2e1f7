"""What Finstage keeps, and for how long; everything older is archived beside its table, and only then deleted."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from sqlalchemy import Engine

from app.common.infra.database.config import database_config
from dbpilot import Autopilot, PilotConfig
from dbpilot.history.store import MemoryStore
from dbpilot.retention import CleanupResult, Hold, Plan, RestoreResult, VerifyResult
from dbpilot.retention import Rule as CleanupRule
from dbpilot.retention.schedule import CleanupSchedule

__all__ = ["RULES", "CleanupResult", "CleanupRule", "DataCleanupManager", "run_database_cleanup"]

HALF_A_YEAR: Final = timedelta(days=183)

RULES: Final = (
    CleanupRule("duplicate contents", "contents", duplicates=("content_hash",)),
    CleanupRule("contents", "contents", "published_at", timedelta(days=365)),
    CleanupRule("signal_outcomes", "signal_outcomes", "evaluated_at", HALF_A_YEAR),
    CleanupRule("technical_signals", "technical_signals", "triggered_at", HALF_A_YEAR),
    CleanupRule("daily_prices", "daily_prices", "date", timedelta(days=5 * 365 + 1)),
)
"""Outcomes go before the signals that they belong to; a signal stays as long as one of its outcomes does."""


class DataCleanupManager:
    """Cleans one database by these rules. The event loop stays free: all work is done by threads."""

    def __init__(self, engine: Engine, rules: Sequence[CleanupRule] = RULES, pilot: Autopilot | None = None) -> None:
        """``pilot`` is the one that watches this engine already; for Finstage's own engine it is found."""
        self.rules = tuple(rules)
        self._pilot = pilot or _pilot_of(engine, self.rules)

    async def plan(self, table_name: str | None = None) -> Plan:
        """What a run would do now; nothing is changed.

        Raises:
            dbpilot.PilotError: the rules cannot be run on this database; says why.
        """
        return await asyncio.to_thread(self._pilot.cleaning.plan, table_name)

    async def run(self, table_name: str | None = None, dry_run: bool = True) -> list[CleanupResult]:
        """What each rule did, or in a dry run would do.

        A run on Finstage's own engine is remembered in the history; somebody is told where ``DBPILOT_ALERTS__URLS``
        says whom.

        Raises:
            dbpilot.PilotError: the run could not begin; says why.
        """
        return await asyncio.to_thread(self._run, table_name, dry_run)

    async def schedule_cleanup(self, cron: str, timezone: str = "Asia/Seoul") -> CleanupSchedule:
        """The rules run at these times from now on, by one of all processes that share the database.

        Returns at once: the handle tells ``next_run``, is ended by ``cancel()``, and can be awaited.

        Raises:
            dbpilot.ConfigError: the cron line or the zone has no meaning.
        """
        self._pilot.start()  # it remembers the runs, until the program ends
        return await asyncio.to_thread(self._pilot.cleaning.schedule, cron, timezone)

    async def restore(self, rule: str) -> RestoreResult:
        """Everything that a rule archived is live again, but what is live already."""
        return await asyncio.to_thread(self._pilot.cleaning.restore, rule)

    async def verify(self, rule: str) -> VerifyResult:
        """The archive of a rule was compared with what was put there."""
        return await asyncio.to_thread(self._pilot.cleaning.verify, rule)

    async def hold(self, table_name: str, reason: str) -> Hold:
        """A table stays as it is, whatever the rules say, until the hold is released."""
        return await asyncio.to_thread(self._pilot.cleaning.hold, table_name, None, reason)

    def _run(self, table_name: str | None, dry_run: bool) -> list[CleanupResult]:
        with _running(self._pilot):
            return list(self._pilot.cleaning.run(table_name, dry_run=dry_run, by="run_database_cleanup").results)


async def run_database_cleanup(
    engine: Engine, table_name: str | None = None, dry_run: bool = True
) -> list[CleanupResult]:
    """Finstage's rules are run on this database, or on one of its tables; a dry run, the default, changes nothing."""
    return await DataCleanupManager(engine).run(table_name, dry_run)


def _pilot_of(engine: Engine, rules: Sequence[CleanupRule]) -> Autopilot:
    if engine is database_config.engine and tuple(rules) == RULES:
        # Here and not above: it takes the rules from this file.
        from app.common.infra.database.monitoring.query_monitor import query_monitor

        return query_monitor.pilot
    return Autopilot(engine, PilotConfig.from_env(), store=MemoryStore(), retention=rules)


@contextmanager
def _running(pilot: Autopilot) -> Iterator[None]:
    """The pilot runs inside, so that what is done is remembered."""
    if pilot.is_running:
        yield
        return
    with pilot:
        yield

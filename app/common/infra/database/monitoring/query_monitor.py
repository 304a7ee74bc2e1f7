"""How Finstage watches its queries: the thresholds it was asked for, on the application's engine."""

from typing import Final, Self

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from app.common.infra.database.config.database_config import engine
from app.common.infra.database.maintenance.data_cleanup import RULES
from app.common.infra.database.optimization.connection_pool_manager import ConnectionPoolConfig
from app.common.infra.database.optimization.index_optimizer import RECOMMENDED
from app.settings import Settings
from dbpilot import Alert, Autopilot, PilotConfig, QueryStats, SlowQueryRecord
from dbpilot.pool import PoolReading

POLICY: Final = {"slow_s": 1.0, "warning_s": 2.0, "critical_s": 5.0}
"""Seconds from which a statement is slow, deserves a WARNING, and is CRITICAL."""


def pilot_config() -> PilotConfig:
    """Finstage's policy; what ``DBPILOT_*`` variables say goes before it."""
    configured = PilotConfig.from_env()
    history = Settings().var / "dbpilot.sqlite3"
    queries = {**POLICY, **configured.queries.model_dump(exclude_unset=True)}
    kept = {"url": f"sqlite:///{history}", **configured.history.model_dump(exclude_unset=True)}
    pool = {**ConnectionPoolConfig().settings(), **configured.pool.model_dump(exclude_unset=True)}
    ours = {"queries": queries, "pool": pool, "history": kept}
    return PilotConfig.model_validate({**configured.model_dump(exclude_unset=True), **ours})


class QueryMonitor:
    """Watches the statements of one engine from :meth:`start` to :meth:`stop`, or inside a ``with`` block."""

    def __init__(self, engine: Engine | AsyncEngine, config: PilotConfig | None = None) -> None:
        self.pilot = Autopilot(engine, config or pilot_config(), retention=RULES, indexes=RECOMMENDED)

    def start(self) -> None:
        """Statements are watched."""
        self.pilot.start()

    def stop(self) -> None:
        """Nothing is watched any more; what was seen is in the history."""
        self.pilot.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def get_query_stats(self, limit: int = 50) -> list[QueryStats]:
        """The slowest patterns of the last hour, slowest first."""
        return self.pilot.query_stats(hours=1, limit=limit).patterns

    def get_slow_queries(self, hours: float = 24, limit: int = 100) -> list[SlowQueryRecord]:
        """The statements of one second and more in the last hours, latest first."""
        return self.pilot.slow_queries(hours, limit).queries

    def get_alerts(self, hours: float = 24, limit: int = 100) -> list[Alert]:
        """Alerts of the last hours, the latest first: WARNING from two seconds, CRITICAL from five, and more."""
        return self.pilot.alerts(hours, limit).alerts

    def get_connection_stats(self) -> PoolReading:
        """Connections in use, and how many were made, closed and refused."""
        return self.pilot.connections()


query_monitor = QueryMonitor(engine)

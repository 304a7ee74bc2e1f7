"""How many connections Finstage keeps: the policy it was asked for, and the pool that follows it while it runs."""

from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import Engine

from dbpilot import Autopilot, PilotConfig
from dbpilot.config import PoolConfig
from dbpilot.history.store import MemoryStore
from dbpilot.pool.controller import resized
from dbpilot.reports.pool import PoolHistory, PoolReport, PoolReview


@dataclass(frozen=True)
class ConnectionPoolConfig:
    """The policy; connections are counted, thresholds are shares of the pool's size, the interval is in seconds."""

    min_pool_size: int = 5
    max_pool_size: int = 20
    max_overflow: int = 30
    """Connections beyond the size, for as long as they are needed."""
    utilization_threshold_high: float = 0.8
    """From this share in use on the pool grows."""
    utilization_threshold_low: float = 0.3
    """Down to this share it shrinks."""
    adjustment_interval: float = 300
    """Between two reviews."""

    def settings(self) -> dict[str, Any]:
        """The policy as dbpilot's settings."""
        return {
            "mode": "auto",
            "min_size": self.min_pool_size,
            "max_size": self.max_pool_size,
            "grow_at": self.utilization_threshold_high,
            "shrink_at": self.utilization_threshold_low,
            "review_s": self.adjustment_interval,
        }


class ConnectionPoolManager:
    """Reviews the pool of one engine, on demand or, once its pilot runs, at every interval."""

    def __init__(
        self, engine: Engine, config: ConnectionPoolConfig | None = None, pilot: Autopilot | None = None
    ) -> None:
        """``pilot`` is the one that watches this engine already; without it the manager has one of its own.

        Raises:
            ValueError: the policy contradicts itself.
        """
        self.config = config or ConnectionPoolConfig()
        self._limits = PoolConfig.model_validate(self.config.settings())
        self._pilot = pilot or Autopilot(engine, PilotConfig(pool=self._limits), store=MemoryStore())

    def decide(self, utilization: float, size: int) -> int:
        """The size that the policy asks for when this share of ``size`` connections is in use."""
        return resized(utilization, size, self._limits)

    def start(self) -> None:
        """The pool is looked at every second, and reviewed at every interval."""
        self._pilot.start()

    def stop(self) -> None:
        """The pool keeps the size it has."""
        self._pilot.stop()

    def status(self) -> PoolReport:
        """The pool as it is now, why it has this size, and who holds its connections."""
        return self._pilot.pool()

    def metrics(self, hours: float = 24) -> PoolHistory:
        """How the pool was in the last hours."""
        return self._pilot.pool_history(hours)

    def optimize(self) -> PoolReview:
        """The pool is reviewed now, and resized if that comes to another size.

        Raises:
            dbpilot.PilotError: this engine's pool cannot be resized; says why.
        """
        return self._pilot.review_pool()


_managers: Final[WeakKeyDictionary[Engine, ConnectionPoolManager]] = WeakKeyDictionary()


def initialize_pool_manager(engine: Engine, config: ConnectionPoolConfig | None = None) -> ConnectionPoolManager:
    """The engine has a manager with this policy; for Finstage's own engine it is that of the pilot which watches it."""
    # Here and not above: both take the policy from this file.
    from app.common.infra.database.config import database_config
    from app.common.infra.database.monitoring.query_monitor import query_monitor

    pilot = query_monitor.pilot if engine is database_config.engine and config is None else None
    _managers[engine] = ConnectionPoolManager(engine, config, pilot)
    return _managers[engine]


def get_pool_manager(engine: Engine | None = None) -> ConnectionPoolManager:
    """The manager of this engine, Finstage's own if none is given."""
    if engine is None:
        from app.common.infra.database.config.database_config import engine as own

        engine = own
    return _managers.get(engine) or initialize_pool_manager(engine)

"""A database that looks after itself, for Python backends on SQLAlchemy.

from dbpilot import Autopilot

with Autopilot(engine) as pilot:
    ...
    print(pilot.performance_summary(hours=1))
"""

from dbpilot.config import PilotConfig
from dbpilot.errors import ConfigError, PilotError, StoreError
from dbpilot.pilot import Autopilot
from dbpilot.reports import PerformanceSummary, QueryStats, QueryStatsReport, SlowQueryRecord, SlowQueryReport

__all__ = [
    "Autopilot",
    "ConfigError",
    "PerformanceSummary",
    "PilotConfig",
    "PilotError",
    "QueryStats",
    "QueryStatsReport",
    "SlowQueryRecord",
    "SlowQueryReport",
    "StoreError",
]

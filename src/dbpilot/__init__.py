"""A database that looks after itself, for Python backends on SQLAlchemy.

from dbpilot import Autopilot

with Autopilot(engine) as pilot:
    ...
    print(pilot.performance_summary(hours=1))
"""

from dbpilot.alerts import Alert
from dbpilot.config import PilotConfig
from dbpilot.errors import ConfigError, PilotError, StoreError
from dbpilot.pilot import Autopilot
from dbpilot.queries.request import unit_of_work
from dbpilot.reports.queries import QueryStats, QueryStatsReport
from dbpilot.reports.requests import Receipt, Repetition
from dbpilot.reports.slow import SlowQueryRecord, SlowQueryReport
from dbpilot.reports.summary import PerformanceSummary

__all__ = [
    "Alert",
    "Autopilot",
    "ConfigError",
    "PerformanceSummary",
    "PilotConfig",
    "PilotError",
    "QueryStats",
    "QueryStatsReport",
    "Receipt",
    "Repetition",
    "SlowQueryRecord",
    "SlowQueryReport",
    "StoreError",
    "unit_of_work",
]

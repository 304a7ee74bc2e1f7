"""A database that looks after itself, for Python backends on SQLAlchemy.

from dbpilot import Autopilot

with Autopilot(engine) as pilot:
    ...
    print(pilot.performance_summary(hours=1))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
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

_HOMES: Final = {
    "dbpilot.alerts": ("Alert",),
    "dbpilot.config": ("PilotConfig",),
    "dbpilot.errors": ("ConfigError", "PilotError", "StoreError"),
    "dbpilot.pilot": ("Autopilot",),
    "dbpilot.queries.request": ("unit_of_work",),
    "dbpilot.reports.queries": ("QueryStats", "QueryStatsReport"),
    "dbpilot.reports.requests": ("Receipt", "Repetition"),
    "dbpilot.reports.slow": ("SlowQueryRecord", "SlowQueryReport"),
    "dbpilot.reports.summary": ("PerformanceSummary",),
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """What is named is imported when it is: pytest loads a part of dbpilot at every start, and needs none of it."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'dbpilot' has no attribute '{name}'")
    found = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
    return found

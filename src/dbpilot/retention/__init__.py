"""Tidying: what is old, or there twice, is archived and then deleted; no row is ever in neither place."""

from dbpilot.retention.archiver import Manners
from dbpilot.retention.gentle import Limits, Signs
from dbpilot.retention.holds import Hold
from dbpilot.retention.planner import Plan, Step
from dbpilot.retention.policy import Rule
from dbpilot.retention.restore import Conflict, RestorePlan, RestoreResult
from dbpilot.retention.results import CleanupFinished, CleanupProgress, CleanupResult
from dbpilot.retention.retention import Retention
from dbpilot.retention.verify import VerifyResult

__all__ = [
    "CleanupFinished",
    "CleanupProgress",
    "CleanupResult",
    "Conflict",
    "Hold",
    "Limits",
    "Manners",
    "Plan",
    "RestorePlan",
    "RestoreResult",
    "Retention",
    "Rule",
    "Signs",
    "Step",
    "VerifyResult",
]

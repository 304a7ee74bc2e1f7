"""What the pilot did, or was asked to do: who, what, why, and how to undo it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from dbpilot.history.store import Event

ACTIVITY: Final = "activity"
"""Events of this kind are lines of the activity log, whichever part wrote them."""


@dataclass(frozen=True, slots=True)
class Activity:
    """One thing that was done."""

    at: datetime
    subject: str
    """The part that did it: ``pool``, ``cleanup`` or ``indexes``."""
    who: str
    what: str
    why: str
    undo: str
    process: str | None
    """``host:process id``, where it is known."""


@dataclass(frozen=True, slots=True)
class ActivityReport:
    """What was done between ``since`` and ``until``, by all processes, the latest first."""

    since: datetime
    until: datetime
    activities: list[Activity]
    history_error: str | None


def activity_of(event: Event) -> Activity:
    """The event as a report line."""
    body = event.body
    return Activity(
        at=event.at,
        subject=event.key,
        who=body["who"],
        what=body["what"],
        why=body["why"],
        undo=body["undo"],
        process=body.get("process"),
    )

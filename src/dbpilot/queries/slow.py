"""What is remembered of one slow execution: everything but its values."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from dbpilot.history.store import Event, Pattern
from dbpilot.queries.recorder import Execution

SLOW: Final = "slow"
MAX_PARAMETERS: Final = 50


def slow_event(pattern: Pattern, execution: Execution, at: datetime) -> Event:
    """A slow execution that ended ``at`` as the history keeps it."""
    detail, request = execution.detail, execution.request
    frame = detail.frame if detail else None
    body = {
        "rows": max(execution.rows, 0),
        "execute_s": execution.execute_s,
        "fetch_s": execution.fetch_s,
        "wait_s": detail.wait_s if detail else 0.0,
        "error": detail.error if detail else None,
        "callsite": frame.callsite if frame else None,
        "function": frame.function if frame else None,
        "route": request.route if request else None,
        "request_id": request.id if request else None,
        "trace_id": request.trace_id if request else None,
        "parameters": redacted(detail.sent[1]) if detail and detail.sent else None,
    }
    return Event(SLOW, at, pattern.id, execution.duration_s, body, pattern_id=pattern.id)


def redacted(parameters: Any) -> Any:
    """Types and lengths in the place of values: ``{"symbol": "str(4)", "days": "int"}``.

    Of rows sent together, the first, and how many there were.
    """
    if isinstance(parameters, Mapping):
        return {str(name): _kind(value) for name, value in list(parameters.items())[:MAX_PARAMETERS]}
    if not isinstance(parameters, Sequence) or isinstance(parameters, (str, bytes)):
        return None if parameters is None else _kind(parameters)
    if parameters and isinstance(parameters[0], (Mapping, list, tuple)):
        return {"rows": len(parameters), "first": redacted(parameters[0])}
    return [_kind(value) for value in parameters[:MAX_PARAMETERS]]


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"{name}({len(value)})" if isinstance(value, (str, bytes, list, tuple, dict, set)) else name

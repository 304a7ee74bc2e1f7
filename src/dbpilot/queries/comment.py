"""Tells the server where a statement comes from, in a comment in sqlcommenter's format.

Specification: https://google.github.io/sqlcommenter/spec/ - pairs ``key='value'`` sorted by key, both URL-encoded. The
route has few values. A trace id makes every text another one, which spoils the prepared statements that drivers and
servers keep; so it is sent only when asked for.
"""

from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import quote

from dbpilot.queries.request import CURRENT, Request

Comment = Literal["off", "route", "trace"]
PERCENT_IS_A_PLACEHOLDER = frozenset({"format", "pyformat"})


def commented(what: Comment, paramstyle: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Wraps a dialect's way to the driver so that statements of requests carry a comment."""
    if what == "off":
        return lambda execute: execute

    def wrap(execute: Callable[..., None]) -> Callable[..., None]:
        def with_comment(cursor: Any, statement: str, *parameters_and_context: Any) -> None:
            request = CURRENT.get()
            comment = _safely(request, what) if request is not None else ""
            if comment:
                has_parameters = len(parameters_and_context) > 1
                if has_parameters and paramstyle in PERCENT_IS_A_PLACEHOLDER:
                    comment = comment.replace("%", "%%")
                statement = f"{statement.rstrip().rstrip(';')} {comment}"
            execute(cursor, statement, *parameters_and_context)

        return with_comment

    return wrap


def _safely(request: Request, what: Comment) -> str:
    try:
        return comment_of(request, what)
    except Exception:  # noqa: BLE001 - the border to the application: its statement goes without a comment then
        return ""


def comment_of(request: Request, what: Comment) -> str:
    """The comment, or nothing for a request without a name."""
    route = request.route
    pairs = {"route": route} if route else {}
    if what == "trace" and request.traceparent:
        pairs["traceparent"] = request.traceparent
    inside = ",".join(f"{key}='{quote(value, safe='')}'" for key, value in sorted(pairs.items()))
    return f"/*{inside}*/" if inside else ""

"""What all routes of the API have in common: what a refusal looks like, what is sent once, and the headers."""

import re
from collections.abc import Callable, Coroutine
from hashlib import blake2b
from http import HTTPStatus
from typing import Any, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from dbpilot.errors import ConfigError, NotThereError, PilotError, RefusedError

PROBLEM_JSON: Final = "application/problem+json"
KINDS: Final = {
    400: "invalid-request",
    401: "no-key",
    403: "not-permitted",
    404: "not-there",
    405: "method-not-allowed",
    409: "refused",
    413: "too-large",
    422: "invalid-request",
    429: "too-many-requests",
    503: "database-unavailable",
}
"""``type`` of a problem, by its status."""
STATUS_OF: Final = ((NotThereError, 404), (RefusedError, 409), (ConfigError, 422), (PilotError, 503))

UNCHANGED: Final[dict[int | str, dict[str, Any]]] = {
    304: {"description": "Nothing has changed since the answer whose ETag came as If-None-Match."}
}
ASKED_AT: Final = re.compile(rb'^\{"since":"[^"]*","until":"[^"]*"')
"""When it was asked for: every answer says another instant, though nothing else has changed."""
HEADERS: Final = {
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""For answers that are data, which no page shows in a frame and no browser takes for something else."""


class InvalidField(BaseModel):
    """What is wrong with one part of a request."""

    loc: list[str | int]
    """``["query", "limit"]``, ``["body", "ids", 0]``"""
    msg: str
    type: str


class Problem(BaseModel):
    """Why there is no answer (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[InvalidField] | None = None
    """Where the request is wrong, if it is."""


class ApiRoute(APIRoute):
    """A route whose refusals are problems, in whichever application; unchanged answers are not sent twice."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if "GET" in (options.get("methods") or ()):
            options["responses"] = {**UNCHANGED, **(options.get("responses") or {})}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                response = await handle(request)
            except HTTPException as refused:
                response = _refusal(refused)
            except RequestValidationError as error:
                response = _problem_response(_invalid(error))
            except PilotError as error:
                response = _problem_response(_problem(_status_of(error), str(error)))
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
            return _sent_once(request, response)

        return answer

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().handle(scope, receive, send)
        except HTTPException as refused:  # the path is right and the method is not
            await _refusal(refused)(scope, receive, send)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route that answers with problems of these statuses."""
    schema = _plain_schema()
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {PROBLEM_JSON: {"schema": schema}}}
        for status in statuses
    }


def _status_of(error: PilotError) -> int:
    return next(status for kind, status in STATUS_OF if isinstance(error, kind))


def _problem(status: int, detail: str) -> Problem:
    return Problem(type=KINDS.get(status, "about:blank"), title=HTTPStatus(status).phrase, status=status, detail=detail)


def _invalid(error: RequestValidationError) -> Problem:
    """The problem, without what was sent: it may be a value of the application."""
    fields = [InvalidField.model_validate(one) for one in error.errors()]
    where = "; ".join(f"{'.'.join(map(str, field.loc))}: {field.msg}" for field in fields)
    return _problem(422, where).model_copy(update={"errors": fields})


def _refusal(refused: HTTPException) -> Response:
    headers = dict(refused.headers or {})
    if refused.status_code < 400:  # it leads elsewhere
        return Response(status_code=refused.status_code, headers=headers)
    return _problem_response(_problem(refused.status_code, str(refused.detail)), headers)


def _problem_response(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(problem.model_dump(exclude_none=True), problem.status, headers, media_type=PROBLEM_JSON)


def _sent_once(request: Request, response: Response) -> Response:
    """The response with an ETag; without its body where the caller has that already."""
    is_list = response.headers.get("content-type") == "application/json"
    if request.method != "GET" or response.status_code != 200 or not is_list:
        return response
    tag = f'W/"{blake2b(ASKED_AT.sub(b"", bytes(response.body)), digest_size=16).hexdigest()}"'
    response.headers["ETag"] = tag
    if tag not in [known.strip() for known in request.headers.get("if-none-match", "").split(",")]:
        return response
    kept = {name: value for name, value in response.headers.items() if name not in ("content-length", "content-type")}
    return Response(status_code=304, headers=kept)


def _plain_schema() -> dict[str, Any]:
    """The schema of a problem with nothing to look up elsewhere: it stands in the middle of the host's document."""
    schema = Problem.model_json_schema()
    field = schema.pop("$defs")["InvalidField"]
    [listed, _] = schema["properties"]["errors"]["anyOf"]
    schema["properties"]["errors"] = {**listed, "items": field}
    return schema

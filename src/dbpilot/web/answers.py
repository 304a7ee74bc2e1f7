"""What all routes of the API have in common: what a refusal looks like, what is sent once, and the headers."""

import re
from collections.abc import Awaitable, Callable, Coroutine
from hashlib import blake2b
from http import HTTPStatus
from typing import Any, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Message, Receive, Scope, Send

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
MAX_SENT: Final = 64 * 1024
"""Bytes of a request's body; it is read before anybody is asked who he is."""
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
        self._end = None if "{" in path else path

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if self._end is not None and not scope["path"].endswith(self._end):
            return Match.NONE, {}  # said at once: an application looks through all of its routes for each request
        return super().matches(scope)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def make(request: Request) -> Response:
            try:
                response = await handle(request)
            except HTTPException as refused:
                response = refusal(refused)
            except RequestValidationError as error:
                response = _problem_response(_invalid(error))
            except PilotError as error:
                response = _problem_response(_problem(_status_of(error), str(error)))
            return _tagged(request, _as_data(response))

        async def answer(request: Request) -> Response:
            return await self.made(request, make)

        return answer

    async def made(self, request: Request, make: Callable[[Request], Awaitable[Response]]) -> Response:
        """What is sent for this request."""
        return unless_known(request, await make(request))

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().handle(scope, bounded(receive), send)
        except HTTPException as refused:  # the path is right and the method is not
            await refusal(refused)(scope, receive, send)


def bounded(receive: Receive) -> Receive:
    """What the caller sends, as long as it is not too much: that is refused."""
    sent = 0

    async def counted() -> Message:
        nonlocal sent
        message = await receive()
        sent += len(message.get("body", b""))
        if sent > MAX_SENT:
            raise HTTPException(413, "more than 64 KiB were sent")
        return message

    return counted


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


def refused_to(request: Request, refused: HTTPException) -> Response:
    """What a route answers that does so."""
    return unless_known(request, _as_data(refusal(refused)))


def _as_data(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def refusal(refused: HTTPException) -> Response:
    """The problem that says why there is no answer, or the answer that leads elsewhere."""
    headers = dict(refused.headers or {})
    if refused.status_code < 400:  # it leads elsewhere
        return Response(status_code=refused.status_code, headers=headers)
    return _problem_response(_problem(refused.status_code, str(refused.detail)), headers)


def _problem_response(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(problem.model_dump(exclude_none=True), problem.status, headers, media_type=PROBLEM_JSON)


def _tagged(request: Request, response: Response) -> Response:
    """The response with an ETag, where it is a list or a report."""
    is_list = response.headers.get("content-type") == "application/json"
    if request.method == "GET" and response.status_code == 200 and is_list:
        digest = blake2b(ASKED_AT.sub(b"", bytes(response.body)), digest_size=16).hexdigest()
        response.headers["ETag"] = f'W/"{digest}"'
    return response


def unless_known(request: Request, response: Response) -> Response:
    """The response; without its body where the caller has that already."""
    known = request.headers.get("if-none-match")
    tag = response.headers.get("etag") if known else None
    if known is None or tag is None or tag not in [one.strip() for one in known.split(",")]:
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

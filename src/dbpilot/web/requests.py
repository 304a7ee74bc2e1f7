"""Says for every statement in which request it ran: an ASGI middleware, for FastAPI, Starlette and the like.

It sits outermost, costs a few microseconds per request, and puts the request's id into the answer as ``X-Request-ID``,
so that its receipt can be asked for.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from dbpilot.queries.request import CURRENT, Request

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class RequestsMiddleware:
    """``app.add_middleware(RequestsMiddleware)``; an ``X-Request-ID`` and a W3C ``traceparent`` that come are kept."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request = Request.from_asgi(scope)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"x-request-id"]
                message["headers"] = [*headers, (b"x-request-id", request.id.encode())]
            await send(message)

        token = CURRENT.set(request)
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            CURRENT.reset(token)
            request.ended()

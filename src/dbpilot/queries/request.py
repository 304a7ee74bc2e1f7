"""The request, job or other unit of the application's work in which a statement runs.

The one that a thread or task works for is kept in a context variable: it goes along into tasks that are spawned,
background tasks and thread pools that copy the context, as those of asyncio, anyio and FastAPI do.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final
from uuid import uuid4

FIRST_SAMPLE: Final = 8
"""The first statement of a request that is asked for its line of code; after it ever fewer are."""
ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[0-9a-f-]*)?"
)


class Request:
    """One unit of work, for as long as anything runs in it."""

    __slots__ = ("_root", "_scope", "id", "name", "next_sample", "statements", "traceparent")

    def __init__(self, name: str = "", id_: str | None = None, traceparent: str | None = None) -> None:
        """``id_`` may come from outside, and is replaced where it could not be a name in a URL; a ``traceparent`` that
        is none is left out."""
        self.id = id_ if id_ and ID.fullmatch(id_) else uuid4().hex
        self.name = str(name).encode("utf-8", "replace").decode()  # whatever it is, a history can store it
        self.traceparent = traceparent if traceparent and TRACEPARENT.fullmatch(traceparent) else None
        self.statements = 0
        """How many ran in it; whoever watches them counts."""
        self.next_sample = FIRST_SAMPLE
        self._scope: Any = None
        self._root = ""

    @classmethod
    def from_asgi(cls, scope: Any) -> "Request":
        """The request of an ASGI scope, with its id and trace where the headers carry them."""
        headers = {name: value.decode("latin-1") for name, value in scope.get("headers", ()) if name in HEADERS}
        request = cls("", headers.get(b"x-request-id"), headers.get(b"traceparent"))
        request._scope = scope
        request._root = str(scope.get("root_path", ""))
        return request

    @property
    def trace_id(self) -> str | None:
        """Thirty-two hexadecimal digits, the same in every service that the trace passes."""
        return self.traceparent.split("-")[1] if self.traceparent else None

    @property
    def route(self) -> str:
        """Its method and the route's template, ``GET /orders/{id}``; never the path, which holds values.

        Known once the framework has found the route.
        """
        scope = self._scope
        if scope is not None:
            path = getattr(scope.get("route"), "path", None)
            if path is None:
                return str(scope.get("method", "")) or "(no route)"
            # Applications mounted inside extend the root by what was asked for, values and all: that of the beginning.
            self.name = f"{scope.get('method', '')} {self._root}{path}".strip()
        return self.name

    def ended(self) -> None:
        """The framework's own objects are let go; tasks that the request spawned may go on."""
        self.name = self.route
        self._scope = None

    def sampled(self) -> None:
        """A statement was asked where it comes from; the next one is ``next_sample``."""
        self.next_sample = self.statements + self.statements // 2 + 1  # odd and even in turn: two may alternate


HEADERS: Final = frozenset({b"x-request-id", b"traceparent"})
CURRENT: Final[ContextVar[Request | None]] = ContextVar("dbpilot_request", default=None)
OURS: Final = Request()
"""What dbpilot works for where it has to ask on a connection of the application: nobody records what runs in it."""


@contextmanager
def unit_of_work(name: str) -> Iterator[Request]:
    """Statements inside belong to this job; ``name`` says which kind of job, without values of this one."""
    request = Request(name)
    token = CURRENT.set(request)
    try:
        yield request
    finally:
        CURRENT.reset(token)


@contextmanager
def unrecorded() -> Iterator[None]:
    """Statements inside are dbpilot's own, on whichever connection."""
    token = CURRENT.set(OURS)
    try:
        yield
    finally:
        CURRENT.reset(token)

"""Answers that many ask for are made for one of them: whoever asks how the application's database is must not be what
keeps the application waiting.

Making answers may take a small share of a core, and has few threads of its own: the application's are the
application's. While it takes less, which is so while people and a few programs ask, every answer is made anew. Beyond
that the same question gets the answer that was made a moment ago, with its ``Age``. A question that nobody asked
lately is always answered anew, and so is everything after somebody changed something.

:class:`SharingMiddleware` gives such an answer before the application looks through its routes, which takes longer than
the answer.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial, wraps
from inspect import iscoroutinefunction
from threading import Lock
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

from anyio import CapacityLimiter, to_thread
from fastapi import Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from dbpilot.clock import SYSTEM, Clock
from dbpilot.web.answers import ApiRoute, refusal, unless_known
from dbpilot.web.keys import Role

SHARE: Final = 0.01
"""Of a core, for making answers; what was not used before is saved up."""
SAVED_S: Final = 1.0
MAX_AGE_S: Final = 5.0
"""An answer that is older is made anew, whatever that takes: for one of those who ask, while the others get the old
one."""
MAX_KNOWN: Final = 200
MAX_BODY: Final = 2_000_000
"""Bytes; a larger answer is not kept."""
THREADS: Final = 4
LEARNT: Final = "dbpilot.shared_answers"
"""Where a request carries whose answers the middleware looks through first."""
ASKED: Final = "dbpilot.asked"
"""Where it carries whose answers were looked through."""

Question: TypeAlias = tuple[str, bytes, bytes, bytes]
"""Path, query, which kinds of answers are accepted, and of which host."""


@dataclass(slots=True)
class Made:
    """An answer, for whom it was made, and when."""

    response: Response
    role: Role
    at_s: float
    being_renewed: bool = False


@dataclass(slots=True)
class Making:
    """An answer that is being made, for those who wait for it."""

    made: "asyncio.Future[Made | None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def is_here(self) -> bool:
        """Whether who asks now can wait for it."""
        return self.made.get_loop() is asyncio.get_running_loop()

    def end(self, made: Made | None) -> None:
        """Nobody waits any more."""
        with suppress(RuntimeError):  # the loop has ended, and so have those who waited
            if not self.made.done():
                self.made.set_result(made)


class SharedAnswers:
    """The latest answers of one router."""

    def __init__(
        self,
        admits: Callable[[Request], Awaitable[None]],
        clock: Clock = SYSTEM,
        worked_s: Callable[[], float] = time.thread_time,
    ) -> None:
        """``admits`` raises for a request that may not be answered; ``worked_s`` says how long this thread worked."""
        self.admits = admits
        self._clock = clock
        self._worked_s = worked_s
        self._lock = Lock()
        self._known: OrderedDict[Question, Made] = OrderedDict()
        self._making: dict[Question, Making] = {}
        self._changes = 0
        """How often somebody changed something: what was begun before that is not kept."""
        self._left_s = SAVED_S
        self._counted_at_s = clock.ticks()
        self._threads: WeakKeyDictionary[asyncio.AbstractEventLoop, CapacityLimiter] = WeakKeyDictionary()

    def route(self) -> type[ApiRoute]:
        """The class of routes whose answers are shared."""
        answers = self

        class SharedRoute(ApiRoute):
            def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
                super().__init__(path, answers.apart(endpoint), **options)

            async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
                answers.let_know(scope)
                if not await answers.answered(scope, receive, send):
                    await super().handle(scope, receive, send)

            async def made(self, request: Request, make: Callable[[Request], Awaitable[Response]]) -> Response:
                return await answers.made(request, make)

        return SharedRoute

    def apart(self, endpoint: Callable[..., Any]) -> Callable[..., Any]:
        """The endpoint in a thread of ours; what it works there is counted."""
        if iscoroutinefunction(endpoint):
            return endpoint

        def counted(*args: Any, **given: Any) -> Any:
            before_s = self._worked_s()
            try:
                return endpoint(*args, **given)
            finally:
                self._spend(self._worked_s() - before_s)

        @wraps(endpoint)
        async def in_a_thread(*args: Any, **given: Any) -> Any:
            return await to_thread.run_sync(partial(counted, *args, **given), limiter=self._limiter())

        return in_a_thread

    async def answered(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Whether the question got an answer that was made before; it is looked for once."""
        if scope["method"] != "GET" or scope.get(ASKED) is self:
            return False
        scope[ASKED] = self
        made = await self.usable(scope)
        return made is not None and await self.tell(made, scope, receive, send)

    def let_know(self, scope: Scope) -> None:
        """The middleware that the request came through, if any, asks here first from now on."""
        learnt: list[SharedAnswers] | None = scope.get(LEARNT)
        if learnt is not None and self not in learnt:
            learnt.append(self)

    def know(self, question: Question) -> bool:
        """Whether there is an answer, or will be in a moment."""
        return question in self._known or question in self._making

    async def usable(self, scope: Scope) -> Made | None:
        """The answer that may be given to this question once more; None where it has to be made."""
        question = _question(scope)
        with self._lock:
            is_dear, made, making = self._left() <= 0, self._known.get(question), self._making.get(question)
            if made is not None and (made.being_renewed or (is_dear and self._age_s(made) < MAX_AGE_S)):
                return made
            if made is not None:
                made.being_renewed = True
                return None
        return await asyncio.shield(making.made) if making is not None and is_dear and making.is_here else None

    async def tell(self, made: Made, scope: Scope, receive: Receive, send: Send) -> bool:
        """Whether this answer was given; it is not for callers who may see less than the one it was made for."""
        request = Request(scope, receive)
        try:
            await self.admits(request)
        except HTTPException as refused:
            await refusal(refused)(scope, receive, send)
            return True
        if _role_of(request) < made.role:
            return False
        response = unless_known(request, made.response)
        age = (b"age", b"%d" % self._age_s(made))
        start: dict[str, Any] = {"type": "http.response.start", "status": response.status_code}
        await send({**start, "headers": [*response.raw_headers, age]})
        await send({"type": "http.response.body", "body": response.body})
        return True

    async def made(self, request: Request, make: Callable[[Request], Awaitable[Response]]) -> Response:
        """A new answer, which the next ones get as well."""
        if request.method != "GET":
            try:
                return await make(request)
            finally:
                self._forget()
        question, made, changes = _question(request.scope), None, self._changes
        making = self._making.setdefault(question, Making())
        try:
            response = await make(request)
            if response.status_code == 200 and len(response.body) <= MAX_BODY:
                made = Made(response, _role_of(request), self._clock.ticks())
            return unless_known(request, response)
        finally:
            self._keep(question, made, changes)
            making.end(made)

    def _keep(self, question: Question, made: Made | None, changes: int) -> None:
        with self._lock:
            self._making.pop(question, None)
            self._known.pop(question, None)
            if made is not None and changes == self._changes:
                self._known[question] = made
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)

    def _forget(self) -> None:
        with self._lock:
            self._changes += 1
            self._known.clear()
            self._making.clear()

    def _spend(self, worked_s: float) -> None:
        with self._lock:
            self._left_s = max(self._left() - worked_s, -SAVED_S)

    def _left(self) -> float:
        """Seconds of work that may be spent now."""
        now_s = self._clock.ticks()
        self._left_s = min(SAVED_S, self._left_s + (now_s - self._counted_at_s) * SHARE)
        self._counted_at_s = now_s
        return self._left_s

    def _age_s(self, made: Made) -> float:
        return self._clock.ticks() - made.at_s

    def _limiter(self) -> CapacityLimiter:
        loop = asyncio.get_running_loop()
        if loop not in self._threads:
            self._threads[loop] = CapacityLimiter(THREADS)
        return self._threads[loop]


class SharingMiddleware:
    """``app.add_middleware(SharingMiddleware)``, before all others: the first one added is the innermost.

    So whatever the application's other middlewares do with a request is done, and only its routes are not looked
    through. Whose answers may be given it learns from the requests that get as far as those routes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._learnt: list[SharedAnswers] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            question = _question(scope)
            for answers in self._learnt:
                if answers.know(question) and await answers.answered(scope, receive, send):
                    return
            scope[LEARNT] = self._learnt
        await self._app(scope, receive, send)


def _question(scope: Scope) -> Question:
    headers = {name: value for name, value in scope["headers"] if name in (b"accept", b"host")}
    return scope["path"], scope["query_string"], headers.get(b"accept", b""), headers.get(b"host", b"")


def _role_of(request: Request) -> Role:
    """What the request's caller may see; the least where anybody may ask."""
    known = getattr(request.state, "dbpilot", None)
    role: Role = Role.METRICS if known is None else known.caller.role
    return role

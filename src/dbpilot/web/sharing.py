"""Answers that many ask for are made for one of them: whoever asks how the application's database is must not be what
keeps the application waiting.

Making answers may take a small share of a core, for all routers of a pilot together, and has few threads of its own:
the application's are the application's. While it takes less, which is so while people and a few programs ask, every
answer is made anew. Beyond that the same question gets the answer that was made a moment ago, with its ``Age``, once
everything was asked that the route depends on. A question that nobody asked lately is always answered anew, and so is
everything after somebody changed something.

:class:`SharingMiddleware` gives such an answer before the application looks through its routes, which takes longer than
the answer.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial, wraps
from inspect import iscoroutinefunction
from threading import Lock
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

from anyio import CapacityLimiter, to_thread
from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from dbpilot.clock import SYSTEM, Clock
from dbpilot.web.answers import ApiRoute, unless_known
from dbpilot.web.keys import Role

SHARE: Final = 0.01
"""Of a core, for making answers; what was not used before is saved up."""
SAVED_S: Final = 0.5
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
ANSWERED: Final[ContextVar[Request]] = ContextVar("dbpilot_answered")
MAKING: Final = "dbpilot.making"
"""Where it carries the answer that is made for it."""

Question: TypeAlias = tuple[str, bytes, bytes, bytes]
"""Path, query, which kinds of answers are accepted, and of which host."""


@dataclass(slots=True)
class Made:
    """An answer, for whom it was made, and when."""

    response: Response
    role: Role
    at_s: float
    renewed_at_s: float = -math.inf
    """When somebody began to make it anew."""


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


class Budget:
    """How long may be worked at answers, whichever router gives them."""

    def __init__(self, clock: Clock = SYSTEM, worked_s: Callable[[], float] = time.thread_time) -> None:
        """``worked_s`` says how long this thread worked."""
        self.clock = clock
        self.worked_s = worked_s
        self._lock = Lock()
        self._left_s = SAVED_S
        self._counted_at_s = clock.ticks()

    @staticmethod
    def of(pilot: object) -> "Budget":
        """The one of this pilot."""
        return _BUDGETS.setdefault(pilot, Budget())

    @property
    def is_spent(self) -> bool:
        """Whether an answer is too dear to be made anew now."""
        with self._lock:
            return self._left() <= 0

    def spend(self, worked_s: float) -> None:
        """So much was worked."""
        with self._lock:
            self._left_s = max(self._left() - worked_s, -SAVED_S)

    def _left(self) -> float:
        now_s = self.clock.ticks()
        self._left_s = min(SAVED_S, self._left_s + (now_s - self._counted_at_s) * SHARE)
        self._counted_at_s = now_s
        return self._left_s


_BUDGETS: Final[WeakKeyDictionary[object, Budget]] = WeakKeyDictionary()


class Counted:
    """``await Counted(work, budget)``: the work itself; ``worked_s`` is what its steps took of the loop's thread."""

    def __init__(self, work: Awaitable[Response], budget: Budget) -> None:
        self._work = work
        self._now_s = budget.worked_s
        self.worked_s = 0.0

    def __await__(self) -> Generator[Any, Any, Response]:
        steps = self._work.__await__()
        step, given = steps.send, None
        while True:
            before_s = self._now_s()
            try:
                waits_for = step(given)
            except StopIteration as ended:
                response: Response = ended.value
                return response
            finally:
                self.worked_s += self._now_s() - before_s
            try:
                step, given = steps.send, (yield waits_for)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the work's
                step, given = steps.throw, error


class SharedAnswers:
    """The latest answers of one router."""

    def __init__(self, admits: Callable[[Request], Awaitable[None]], budget: Budget) -> None:
        """``admits`` raises for a request that may not be answered."""
        self.admits = admits
        self._budget = budget
        self._clock = budget.clock
        self._lock = Lock()
        self._known: OrderedDict[Question, Made] = OrderedDict()
        self._making: dict[Question, Making] = {}
        self._changes = 0
        """How often somebody changed something: what was begun before that is not kept."""
        self._threads: WeakKeyDictionary[asyncio.AbstractEventLoop, CapacityLimiter] = WeakKeyDictionary()

    def route(self) -> type[ApiRoute]:
        """The class of routes whose answers are shared."""
        answers = self

        class SharedRoute(ApiRoute):
            def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
                super().__init__(path, answers.shared(endpoint), **options)

            async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
                answers.let_know(scope)
                await super().handle(scope, receive, send)

            async def made(self, request: Request, make: Callable[[Request], Awaitable[Response]]) -> Response:
                return await answers.made(request, make)

        return SharedRoute

    def shared(self, endpoint: Callable[..., Any]) -> Callable[..., Any]:
        """The endpoint, which is reached when nobody refused; it gives the answer of a moment ago, or a new one."""
        make = endpoint if iscoroutinefunction(endpoint) else self._apart(endpoint)

        @wraps(endpoint)
        async def given(*args: Any, **values: Any) -> Any:
            request = ANSWERED.get()
            made = await self._usable(request.scope) if request.method == "GET" else None
            if made is not None and _role_of(request) >= made.role:
                return self._again(made)
            if request.method == "GET":
                request.scope[MAKING] = self._making.setdefault(_question(request.scope), Making())
            return await make(*args, **values)

        return given

    def _apart(self, endpoint: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        """The endpoint in a thread of ours; what it works there is counted."""

        def counted(*args: Any, **values: Any) -> Any:
            before_s = self._budget.worked_s()
            try:
                return endpoint(*args, **values)
            finally:
                self._budget.spend(self._budget.worked_s() - before_s)

        async def in_a_thread(*args: Any, **values: Any) -> Any:
            return await to_thread.run_sync(partial(counted, *args, **values), limiter=self._limiter())

        return in_a_thread

    async def answered(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Whether the question got an answer that was made before."""
        made = await self._usable(scope) if scope["method"] == "GET" else None
        request = Request(scope, receive)
        try:
            if made is None or not await self._may_see(request, made):
                return False
        except Exception:  # noqa: BLE001 - the route asks again, and there the application answers what is raised
            return False
        await unless_known(request, self._again(made))(scope, receive, send)
        return True

    async def _may_see(self, request: Request, made: Made) -> bool:
        await self.admits(request)
        return _role_of(request) >= made.role

    def let_know(self, scope: Scope) -> None:
        """The middleware that the request came through, if any, asks here first from now on."""
        app, learnt = scope.get(LEARNT, (None, []))
        if app is not None and app is scope.get("app") and self not in learnt:  # not one that is mounted inside
            learnt.append(self)

    def know(self, question: Question) -> bool:
        """Whether there is an answer, or will be in a moment."""
        return question in self._known or question in self._making

    async def _usable(self, scope: Scope) -> Made | None:
        """The answer that may be given to this question once more; None where it has to be made, and where it was
        looked for already."""
        if scope.get(ASKED) is self:
            return None
        scope[ASKED], question = self, _question(scope)
        is_dear = self._budget.is_spent
        with self._lock:
            made, making = self._known.get(question), self._making.get(question)
            if made is not None:
                now_s = self._clock.ticks()
                is_young = is_dear and now_s - made.at_s < MAX_AGE_S
                if is_young or now_s - made.renewed_at_s < MAX_AGE_S:
                    return made
                made.renewed_at_s = now_s
                return None
        return await asyncio.shield(making.made) if making is not None and is_dear and making.is_here else None

    def _again(self, made: Made) -> Response:
        response = Response(made.response.body, made.response.status_code)
        age = (b"age", b"%d" % (self._clock.ticks() - made.at_s))
        response.raw_headers = [*made.response.raw_headers, age]
        return response

    async def made(self, request: Request, make: Callable[[Request], Awaitable[Response]]) -> Response:
        """The answer; a new one the next ones get as well."""
        token, changes, work = ANSWERED.set(request), self._changes, Counted(make(request), self._budget)
        made: Made | None = None
        try:
            response = await work
            if _is_for_others(response):
                made = Made(response, _role_of(request), self._clock.ticks())
            return unless_known(request, response)
        finally:
            ANSWERED.reset(token)
            if request.method != "GET":
                self._forget()
            elif MAKING in request.scope:
                self._budget.spend(work.worked_s)
                self._keep(request, made, changes)

    def _keep(self, request: Request, made: Made | None, changes: int) -> None:
        """What was made for the request is for others, unless something was changed meanwhile; or nothing was made."""
        question, making = _question(request.scope), request.scope.pop(MAKING)
        with self._lock:
            self._making.pop(question, None)
            self._known.pop(question, None)
            if made is not None and changes == self._changes:
                self._known[question] = made
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        making.end(made)

    def _forget(self) -> None:
        with self._lock:
            self._changes += 1
            self._known.clear()
            self._making.clear()

    def _limiter(self) -> CapacityLimiter:
        loop = asyncio.get_running_loop()
        if loop not in self._threads:
            self._threads[loop] = CapacityLimiter(THREADS)
        return self._threads[loop]


class SharingMiddleware:
    """``app.add_middleware(SharingMiddleware)``, before all others: the first one added is the innermost.

    So whatever the application's other middlewares do with a request is done, and only its routes are not looked
    through. Whose answers may be given it learns from the requests that get as far as those routes. Who may see them is
    asked of the keys or of ``authorize``, and of nothing else: it is not for an application that includes the router
    with dependencies of its own.
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
            scope[LEARNT] = scope.get("app"), self._learnt
        await self._app(scope, receive, send)


def _question(scope: Scope) -> Question:
    headers = {name: value for name, value in reversed(scope["headers"]) if name in (b"accept", b"host")}
    return scope["path"], scope["query_string"], headers.get(b"accept", b""), headers.get(b"host", b"")


def _is_for_others(response: Response) -> bool:
    is_whole = response.status_code == 200 and len(response.body) <= MAX_BODY
    return is_whole and "set-cookie" not in response.headers


def _role_of(request: Request) -> Role:
    """What the request's caller may see; the least where anybody may ask."""
    known = getattr(request.state, "dbpilot", None)
    role: Role = Role.METRICS if known is None else known.caller.role
    return role

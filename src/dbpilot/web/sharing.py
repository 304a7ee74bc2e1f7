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
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from dbpilot.clock import SYSTEM, Clock
from dbpilot.web.answers import ApiRoute, refused_to, unless_known
from dbpilot.web.keys import Role

SHARE: Final = 0.01
"""Of a core, for making answers; what was not used before is saved up."""
SAVED_S: Final = 0.5
MAX_AGE_S: Final = 5.0
"""An answer that is older is made anew, whatever that takes: for one of those who ask, while the others get the old
one."""
MAX_OLD_S: Final = 2 * MAX_AGE_S
"""Nobody gets one that is older than this."""
MAX_KNOWN: Final = 200
MAX_BODY: Final = 2_000_000
"""Bytes; a larger answer is not kept."""
MAX_BYTES: Final = 20_000_000
"""Of all that a router keeps."""
THREADS: Final = 4
LEARNT: Final = "dbpilot.shared_answers"
"""Where a request carries whose answers the middleware looks through first."""
ANSWERED: Final[ContextVar[Request]] = ContextVar("dbpilot_answered")
MAKING: Final = "dbpilot.making"
"""Where it carries the answer that is made for it."""

Question: TypeAlias = tuple[str, bytes, bytes, bytes]
"""Path, query, which kinds of answers are accepted, and of which host."""


@dataclass(frozen=True, slots=True)
class Made:
    """An answer as it was when it was made, for whom, when, and after how many changes."""

    body: bytes
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    role: Role
    at_s: float
    changes: int


@dataclass(slots=True)
class Making:
    """An answer that is being made, for those who wait for it."""

    changes: int
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
    """How long may be worked at answers, whichever router of a pilot gives them; and how often something was changed
    there, which no answer from before is given after."""

    def __init__(self, clock: Clock = SYSTEM, worked_s: Callable[[], float] = time.thread_time) -> None:
        """``worked_s`` says how long this thread worked."""
        self.clock = clock
        self.worked_s = worked_s
        self.changes = 0
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

    def changed(self) -> None:
        """Something is another way now."""
        with self._lock:
            self.changes += 1

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


@dataclass(frozen=True, slots=True)
class _Threads:
    """Those of one event loop."""

    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(THREADS))
    """Who has one has a thread."""
    limiter: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(THREADS))


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
        self._threads: WeakKeyDictionary[asyncio.AbstractEventLoop, _Threads] = WeakKeyDictionary()

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
            if request.method == "GET":
                made = await self._waited(request)
                if made is not None:
                    return self._again(made)
                request.scope[MAKING] = self._begun(_question(request.scope))
            return await make(*args, **values)

        return given

    async def _waited(self, request: Request) -> Made | None:
        """An answer for this request, somebody else's if need be; None where it has to be made."""
        question, role = _question(request.scope), _role_of(request)
        while (found := self._look(question)) is not None:
            made = await asyncio.shield(found.made) if isinstance(found, Making) else found
            if made is not None:
                return made if role >= made.role else None
        return None

    def _begun(self, question: Question) -> Making:
        with self._lock:
            making = self._making.get(question)
            if making is None or making.changes != self._budget.changes:
                self._making[question] = making = Making(self._budget.changes)
            return making

    def _apart(self, endpoint: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        """The endpoint in a thread of ours; what it works there is counted."""

        def counted(*args: Any, **values: Any) -> Any:
            before_s = self._budget.worked_s()
            try:
                return endpoint(*args, **values)
            finally:
                self._budget.spend(self._budget.worked_s() - before_s)

        async def in_a_thread(*args: Any, **values: Any) -> Any:
            threads, request = self._of_this_loop(), ANSWERED.get()
            async with threads.turns:
                made = self._young(_question(request.scope)) if MAKING in request.scope else None
                if made is not None and _role_of(request) >= made.role:  # it was made while this one waited
                    self._end(request, made)
                    return self._again(made)
                return await to_thread.run_sync(partial(counted, *args, **values), limiter=threads.limiter)

        return in_a_thread

    async def answered(self, question: Question, scope: Scope, receive: Receive, send: Send) -> bool:
        """Whether the question got an answer that was made before, or was refused one."""
        found = self._look(question) if scope["method"] == "GET" else None
        if found is None:
            return False
        request = Request(scope, receive)
        try:
            await self.admits(request)
        except HTTPException as refused:
            await refused_to(request, refused)(scope, receive, send)
            return True
        except Exception:  # noqa: BLE001 - the route asks again, and there the application answers what is raised
            return False
        made = await self._waited(request)
        if made is None:
            return False
        await unless_known(request, self._again(made))(scope, receive, send)
        return True

    def let_know(self, scope: Scope) -> None:
        """The middleware that the request came through, if any, asks here first from now on."""
        app, learnt = scope.get(LEARNT, (None, []))
        if app is not None and app is scope.get("app") and self not in learnt:  # not one that is mounted inside
            learnt.append(self)

    def _look(self, question: Question) -> Made | Making | None:
        """The answer that may be given to this question once more, or that will be; None where it has to be made."""
        if not (question in self._known or question in self._making) or not self._budget.is_spent:
            return None
        made = self._young(question, MAX_OLD_S)
        making = self._making.get(question)
        is_made = making is not None and making.changes == self._budget.changes and making.is_here
        if made is not None and (is_made or self._clock.ticks() - made.at_s < MAX_AGE_S):
            return made
        return making if is_made else None

    def _young(self, question: Question, than_s: float = MAX_AGE_S) -> Made | None:
        """The answer, where making one is too dear now and this one is young enough."""
        made = self._known.get(question)
        if made is None or made.changes != self._budget.changes or not self._budget.is_spent:
            return None
        return made if self._clock.ticks() - made.at_s < than_s else None

    def _again(self, made: Made) -> Response:
        response = Response(made.body, made.status)
        response.raw_headers = [*made.headers, (b"age", b"%d" % (self._clock.ticks() - made.at_s))]
        return response

    async def made(self, request: Request, make: Callable[[Request], Awaitable[Response]]) -> Response:
        """The answer; a new one the next ones get as well."""
        token, work = ANSWERED.set(request), Counted(make(request), self._budget)
        response: Response | None = None
        try:
            response = await work
            return unless_known(request, response)
        finally:
            ANSWERED.reset(token)
            if MAKING in request.scope:
                self._budget.spend(work.worked_s)
                self._end(request, None if response is None else self._as_it_is(request, response))
            elif request.method != "GET" and (response is None or not 400 <= response.status_code < 500):
                self._budget.changed()  # or may have
                with self._lock:
                    self._known.clear()

    def _as_it_is(self, request: Request, response: Response) -> Made | None:
        """The answer for others; None if it is for one alone, or too long."""
        if len(response.body) > MAX_BODY or "set-cookie" in response.headers:
            return None
        headers, changes = tuple(response.raw_headers), request.scope[MAKING].changes
        body = bytes(response.body)
        return Made(body, response.status_code, headers, _role_of(request), self._clock.ticks(), changes)

    def _end(self, request: Request, made: Made | None) -> None:
        """What was made for the request is for those who wait for it; and for others, if it is what was asked for."""
        question, making = _question(request.scope), request.scope.pop(MAKING)
        with self._lock:
            if self._making.get(question) is making:
                del self._making[question]
            if made is not None and made.status == 200 and made.changes == self._budget.changes:
                self._known[question] = made
                self._known.move_to_end(question)
            self._tidy()
        making.end(made)

    def _tidy(self) -> None:
        """What nobody would get any more, or is too much, is not kept."""
        kept, now_s = sum(len(made.body) for made in self._known.values()), self._clock.ticks()
        while self._known:
            oldest = next(iter(self._known.values()))
            if kept <= MAX_BYTES and len(self._known) <= MAX_KNOWN and now_s - oldest.at_s < MAX_OLD_S:
                break
            kept -= len(oldest.body)
            self._known.popitem(last=False)

    def _of_this_loop(self) -> _Threads:
        loop = asyncio.get_running_loop()
        if loop not in self._threads:
            self._threads[loop] = _Threads()
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
                if await answers.answered(question, scope, receive, send):
                    return
            scope[LEARNT] = scope.get("app"), self._learnt
        await self._app(scope, receive, send)


def _question(scope: Scope) -> Question:
    headers = {name: value for name, value in reversed(scope["headers"]) if name in (b"accept", b"host")}
    return scope["path"], scope["query_string"], headers.get(b"accept", b""), headers.get(b"host", b"")


def _role_of(request: Request) -> Role:
    """What the request's caller may see; the least where anybody may ask."""
    known = getattr(request.state, "dbpilot", None)
    role: Role = Role.METRICS if known is None else known.caller.role
    return role

"""Who may ask what: keys with roles, sessions of the dashboard, this machine, or whatever the host application says.

``Access(pilot.config.web, authorize)`` is made once per router; its :meth:`Access.looks` is a dependency of the whole
router, which finds out who asks. After it these work in every route of the router:

- ``Depends(requires("operator"))`` admits callers of this role, and returns the :class:`Caller`, whose ``name`` is
  what activity says;
- ``Depends(expensive)`` keeps one caller from asking for too much;
- ``csrf_token(request)`` is what a form sends back as the field ``csrf_token``, and a script as ``X-CSRF-Token``;
- ``caller_of(request)`` says who asks, and what pages may offer: ``caller_of(request).role >= Role.OPERATOR``.

For pages there is :meth:`Access.shows`: who is not known is sent to the page that is called ``LOGIN_PAGE``, which the
router without it serves; ``make_login(access)`` takes what that page's form sends.
"""

import hashlib
import hmac
import logging
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from inspect import isawaitable
from secrets import token_urlsafe
from typing import Annotated, Final, Literal, TypeAlias
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from dbpilot.clock import SYSTEM, Clock
from dbpilot.config import WebConfig
from dbpilot.web.answers import ApiRoute
from dbpilot.web.keys import KeyHash, RoleName, is_loopback, keyring_of
from dbpilot.web.keys import Role as Role
from dbpilot.web.limits import Limits

log = logging.getLogger(__name__)

COOKIE: Final = "dbpilot_session"
CSRF_FIELD: Final = "csrf_token"
CSRF_HEADER: Final = "x-csrf-token"
LOGIN_PAGE: Final = "dbpilot_login_page"
"""What the route of ``GET /login`` is called."""
TRIES_PER_MINUTE: Final = 10
"""Keys that one address may have compared; each costs 50 ms of a core. What names no key costs nothing."""

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
THROUGH_A_PROXY: Final = frozenset(
    {
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-real-ip",
        b"forwarded",
        b"via",
        b"cf-connecting-ip",
        b"true-client-ip",
    }
)
"""One of these says that the caller is elsewhere, whatever the connection's address is."""

BEARER: Final = HTTPBearer(
    scheme_name="key", description="A key that `dbpilot key new` printed.", auto_error=False, bearerFormat="dbpilot_..."
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    name: str
    """What activity says: a key's name, ``this machine``, or what the host application calls them."""
    role: Role
    by: Literal["machine", "key", "session", "host"] = "host"


Found: TypeAlias = Role | Caller | None
Authorize: TypeAlias = Callable[[Request], Found | Awaitable[Found]]
"""What a host application may hand in: the role of whoever sends this request, or who that is; None for nobody."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What a request carries once it was looked at."""

    caller: Caller
    address: str
    token: str
    """What a form has to send back; empty where none is asked for."""
    limits: Limits


@dataclass(frozen=True, slots=True)
class _Session:
    key: KeyHash
    nonce: str


class Access:
    """Finds out who asks."""

    def __init__(self, config: WebConfig, authorize: Authorize | None = None, clock: Clock = SYSTEM) -> None:
        """Reads the keys.

        Raises:
            ConfigError: a line is no key's, or their file cannot be read.
        """
        self._keys = keyring_of(config)
        self._authorize = authorize
        self._clock = clock
        self._secret = config.secret.get_secret_value().encode()
        self._session_for = timedelta(hours=config.session_hours)
        self._expensive = Limits(config.expensive_per_minute, clock)
        self._tries = Limits(TRIES_PER_MINUTE, clock)

    @property
    def asks_for_keys(self) -> bool:
        """Whether there is anything to log in with."""
        return self._authorize is None and bool(self._keys)

    async def looks(self, request: Request, _documented: Annotated[object, Depends(BEARER)] = None) -> None:
        """Who asks is known, and may look.

        Raises:
            HTTPException: 401 where a key is missing or wrong, 403 where it does not suffice, or where another site
                asks, 429 after too many wrong keys.
        """
        await self._admit(request, Role.VIEWER)

    async def scrapes(self, request: Request) -> None:
        """Who asks may read metrics: a key of any role, or somebody on this machine.

        Raises:
            HTTPException: as :meth:`looks`.
        """
        if self._authorize is None and _is_here(request) and "authorization" not in request.headers:
            return
        await self._admit(request, Role.METRICS)

    async def shows(self, request: Request) -> None:
        """As :meth:`looks`, for pages: who is not known is sent to the login page.

        Raises:
            HTTPException: 303 to the login page; 403 and 429 as in :meth:`looks`.
        """
        try:
            await self._admit(request, Role.VIEWER)
        except HTTPException as refused:
            if refused.status_code != 401 or not self.asks_for_keys:
                raise
            raise HTTPException(303, "log in first", {"Location": _login_page(request)}) from None

    async def log_in(self, request: Request, key: str) -> Callable[[Response], None] | None:
        """What puts the session into a response, where the key opens; None where it does not.

        Raises:
            HTTPException: 403 where another site asks, 429 after too many wrong keys.
        """
        _refuse_other_sites(request)
        found = await self._opened(key.strip(), request)
        if found is None or found.role < Role.VIEWER:
            return None
        value = self._session_of(found)

        def remember(response: Response) -> None:
            response.set_cookie(
                COOKIE,
                value,
                max_age=int(self._session_for.total_seconds()),
                httponly=True,
                samesite="strict",
                secure=request.url.scheme == "https",
            )

        return remember

    async def _admit(self, request: Request, least: Role) -> None:
        caller, session = await self._caller(request)
        token = self._token_of(session) if session else ""
        request.state.dbpilot = _Known(caller, _address(request), token, self._expensive)
        if request.method not in SAFE:
            _refuse_other_sites(request)
            if session is not None:
                await _refuse_without(token, request)
        admitted(caller, least)

    async def _caller(self, request: Request) -> tuple[Caller, _Session | None]:
        if self._authorize is not None:
            return await self._by_host(self._authorize, request), None
        if not self._keys:
            return _by_machine(request), None
        key = _bearer(request)
        if key is not None:
            found = await self._opened(key, request)
            if found is None:
                raise _no_key("this key is not configured here")
            return Caller(found.name, found.role, "key"), None
        session = self._session(request.cookies.get(COOKIE, ""))
        if session is None:
            raise _no_key("a key is needed: send it as Authorization: Bearer KEY; `dbpilot key new` makes one")
        return Caller(session.key.name, session.key.role, "session"), session

    async def _by_host(self, authorize: Authorize, request: Request) -> Caller:
        found = await run_in_threadpool(authorize, request)  # it may ask a database
        if isawaitable(found):
            found = await found
        if found is None:
            raise _no_key("the application does not know who asks")
        return found if isinstance(found, Caller) else Caller("the application's user", found)

    async def _opened(self, key: str, request: Request) -> KeyHash | None:
        said = self._keys.named_by(key)
        if said is None or self._keys.is_known(key, said):
            return said
        _refuse_over(self._tries, _address(request))
        if await run_in_threadpool(self._keys.opens, key, said):
            return said
        log.warning("a wrong key of %s was sent from %s", said.name, _address(request))
        return None

    def _session_of(self, key: KeyHash) -> str:
        until = int((self._clock.now() + self._session_for).timestamp())
        body = f"{key.id}.{until}.{token_urlsafe(16)}"
        return f"{body}.{self._signed('session', body, key)}"

    def _session(self, cookie: str) -> _Session | None:
        """Whose session this is; None for none that was signed here, whose time is over, or whose key is gone."""
        body, _, signature = cookie.rpartition(".")
        id_, _, rest = body.partition(".")
        until, _, nonce = rest.partition(".")
        key = self._keys.by_id(id_)
        if key is None or not _equal(signature, self._signed("session", body, key)):
            return None
        return _Session(key, nonce) if self._clock.now().timestamp() < int(until) else None

    def _token_of(self, session: _Session) -> str:
        return self._signed("csrf", session.nonce, session.key)

    def _signed(self, what: str, body: str, key: KeyHash) -> str:
        """The signature; the key's hash is part of it, so that nothing outlives a key that was made anew."""
        signed = f"{what}|{body}|".encode() + key.digest
        return urlsafe_b64encode(hmac.new(self._secret, signed, hashlib.sha256).digest()).decode().rstrip("=")


def requires(role: RoleName) -> Callable[[Request], Caller]:
    """A dependency that admits callers of this role or a higher one, and returns who asks."""
    least = Role.named(role)

    def caller_with_role(request: Request) -> Caller:
        return admitted(caller_of(request), least)

    return caller_with_role


Operator = Annotated[Caller, Depends(requires("operator"))]
Admin = Annotated[Caller, Depends(requires("admin"))]
"""Who asks, where only these may: a parameter of a route."""


def admitted(caller: Caller, least: Role) -> Caller:
    """The caller, who has this role or a higher one.

    Raises:
        HTTPException: 403.
    """
    if caller.role < least:
        raise HTTPException(403, f"this needs the role {least.title}; {caller.name} is {caller.role.title}")
    return caller


def caller_of(request: Request) -> Caller:
    """Who asks, in a route whose router finds that out."""
    return _known(request).caller


def csrf_token(request: Request) -> str:
    """What the forms of a page have to send back as ``csrf_token``; empty where there is no session to protect."""
    return _known(request).token


def expensive(request: Request) -> None:
    """Returns only while this caller has not asked for too much.

    Raises:
        HTTPException: 429, with ``Retry-After``.
    """
    known = _known(request)
    _refuse_over(known.limits, known.caller.name if known.caller.by in ("key", "session") else known.address)


def make_login(access: Access, route: type[APIRoute] = ApiRoute) -> APIRouter:
    """A router that takes what the login page's form sends, and ends sessions; it is open to everybody. ``route`` says
    what a refusal looks like."""
    router = APIRouter(include_in_schema=False, route_class=route)

    @router.post("/login")
    async def log_in(request: Request) -> Response:
        """Begins a session and goes on to the page that was wanted; to the login page again after a wrong key."""
        form = await _form(request)
        remember = await access.log_in(request, form.get("key", ""))
        if remember is None:
            return RedirectResponse(_login_page(request, form.get("next", ""), "wrong=1"), 303)
        response = RedirectResponse(_own_path(form.get("next", ""), request), 303)
        remember(response)
        return response

    @router.post("/logout")
    async def log_out(request: Request) -> Response:
        """The session is forgotten by the browser."""
        _refuse_other_sites(request)
        response = RedirectResponse(_login_page(request, ""), 303)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    return router


def _known(request: Request) -> _Known:
    known: _Known = request.state.dbpilot
    return known


def _by_machine(request: Request) -> Caller:
    """Who asks, where no key is configured.

    Raises:
        HTTPException: 403: it is not somebody on this machine.
    """
    if not _is_here(request):
        raise HTTPException(
            403,
            "no key is configured, and without one only callers on the same machine are answered; run `dbpilot key new "
            "--role admin` there and set the line that it prints, DBPILOT_WEB__KEYS",
        )
    return Caller("this machine", Role.ADMIN, "machine")


def _is_here(request: Request) -> bool:
    """Whether a program on this machine asks for itself.

    A page elsewhere whose name was made to lead here lets the browser ask under that name: so must the name be ours.
    """
    address = _address(request)
    if any(name in THROUGH_A_PROXY for name, _ in request.scope["headers"]):
        return False
    if address == "testclient":  # Starlette's, which never crosses a network
        return True
    return is_loopback(address) and is_loopback(_host_name(request.headers.get("host", "")))


@lru_cache(maxsize=256)
def _host_name(authority: str) -> str:
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:  # no name that a program would send
        return ""


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _bearer(request: Request) -> str | None:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def _no_key(why: str) -> HTTPException:
    return HTTPException(401, why, {"WWW-Authenticate": 'Bearer realm="dbpilot"'})


def _refuse_over(limits: Limits, who: str) -> None:
    wait_s = limits.take(who)
    if wait_s:
        raise HTTPException(429, f"too often; again in {wait_s} s", {"Retry-After": str(wait_s)})


def _refuse_other_sites(request: Request) -> None:
    """Returns only where no page of another site asks; programs that are no browser say nothing of sites.

    A browser says which with ``Sec-Fetch-Site``, which pages cannot change, on https and on this machine; else with
    ``Origin``.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        ours = site in ("same-origin", "none")
    else:
        ours = origin is None or origin.partition("://")[2] == request.headers.get("host")
    if not ours:
        raise HTTPException(403, "a page of another site asked for this")


async def _refuse_without(token: str, request: Request) -> None:
    """Returns only where a page of ours sends the session's token: a cookie alone is sent by any page's form."""
    sent = request.headers.get(CSRF_HEADER) or (await _form(request)).get(CSRF_FIELD, "")
    if not _equal(sent, token):
        raise HTTPException(403, f"the form is out of date; load the page again ({CSRF_FIELD} or {CSRF_HEADER})")


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form that was sent as browsers do; the last one of a name."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return {}
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
    except RuntimeError:  # the route itself takes a form, and FastAPI has read it
        return {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    return {name: values[-1] for name, values in parse_qs(body.decode(errors="replace")).items()}


def _login_page(request: Request, wanted: str | None = None, more: str = "") -> str:
    """Where one logs in, and then goes on to the page that was wanted."""
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    query = f"next={quote(_own_path(here if wanted is None else wanted, request), safe='/')}"
    return f"{request.url_for(LOGIN_PAGE).path}?{query}{'&' if more else ''}{more}"


def _own_path(wanted: str, request: Request) -> str:
    """The path of this application that is wanted; that of the dashboard where it leads elsewhere, or back here."""
    login = request.url_for(LOGIN_PAGE).path
    leads_away = not wanted.startswith("/") or wanted.startswith(("//", "/\\", login)) or not wanted.isprintable()
    return login.removesuffix("/login") or "/" if leads_away else wanted


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())

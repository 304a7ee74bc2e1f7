"""What all routes have in common: who may ask, and what a refusal looks like."""

from collections.abc import Callable
from ipaddress import ip_address
from typing import TypeVar

from fastapi import HTTPException, Request

from dbpilot.errors import ConfigError, NotThereError, PilotError, RefusedError

Answer = TypeVar("Answer")


def only_from_here(request: Request) -> None:
    """Returns only for callers on this machine: nobody else has a role yet.

    Raises:
        HTTPException: 403.
    """
    host = request.client.host if request.client else ""
    try:
        here = ip_address(host).is_loopback
    except ValueError:  # a socket's path, or a test's name
        here = host in ("", "testclient")
    if not here or "x-forwarded-for" in request.headers:
        raise HTTPException(403, "this changes the database, and is answered to callers on this machine only")


def said(ask: Callable[[], Answer]) -> Answer:
    """The answer, or the reason why there is none as an HTTP error."""
    try:
        return ask()
    except NotThereError as error:
        raise HTTPException(404, str(error)) from None
    except RefusedError as error:
        raise HTTPException(409, str(error)) from None
    except ConfigError as error:
        raise HTTPException(422, str(error)) from None
    except PilotError as error:
        raise HTTPException(503, str(error)) from None

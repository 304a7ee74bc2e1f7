"""Errors as RFC 9457 problem details: what the API answers when it cannot do what was asked."""

import logging
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi_problem.error import NotFoundProblem, Problem, ServerProblem
from fastapi_problem.handler import ExceptionHandler, add_exception_handler, new_exception_handler
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

logger = logging.getLogger(__name__)

RETRY_AFTER_S: Final = 5

DATABASE_ERRORS: Final = (OperationalError, InterfaceError, PoolTimeoutError)
"""What drivers raise for troubles that lie with the database and its connection, not with the statement."""


class UnknownSymbol(NotFoundProblem):
    """No prices, news or signals are kept under this symbol."""

    type_ = "unknown-symbol"
    title = "Unknown symbol."

    def __init__(self, symbol: str) -> None:
        super().__init__(
            f"There is no symbol {symbol!r}; GET /api/market/symbols lists those there are.", symbol=symbol
        )


class DatabaseUnavailable(ServerProblem):
    """The database cannot be reached, or cannot do what it is asked at the moment."""

    type_ = "database-unavailable"
    title = "The database is not available."
    status = HTTPStatus.SERVICE_UNAVAILABLE.value

    def __init__(self) -> None:
        super().__init__(
            "Try again in a moment. If it stays so, see whether the database that DATABASE_URL names can be used.",
            headers={"Retry-After": str(RETRY_AFTER_S)},
        )


class Unexpected(ServerProblem):
    """A defect of the program; what it was is in the log, not in the answer."""

    type_ = "unexpected-error"
    title = "Something went wrong here."

    def __init__(self, _message: str = "") -> None:
        super().__init__("The request was not at fault. The server's log says more.")


def invalid_parameter(name: str, value: object, message: str) -> RequestValidationError:
    """What to raise about a query parameter, in the same form as everything that validation finds."""
    return RequestValidationError([{"type": "value_error", "loc": ("query", name), "msg": message, "input": value}])


def add_problem_details(app: FastAPI) -> None:
    """Every error of the app is answered, and documented, as a problem."""
    for error in DATABASE_ERRORS:
        app.add_exception_handler(error, _handler)
    add_exception_handler(app, _handler, generic_swagger_defaults=False)


def documented(*problems: Problem) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route that answers with these problems."""
    return {problem.status: _handler.generate_swagger_response(problem) for problem in problems}


def _database_unavailable(_handler: ExceptionHandler, request: Request, error: Exception) -> Problem:
    # The driver's own words: they name host and user, never the password. Neither goes into the answer.
    logger.error("%s %s: the database is not available: %s", request.method, request.url.path, _words(error))
    return DatabaseUnavailable()


def _words(error: Exception) -> object:
    return getattr(error, "orig", None) or error


_handler = new_exception_handler(
    unhandled_wrappers={"default": Unexpected},
    handlers=dict.fromkeys(DATABASE_ERRORS, _database_unavailable),
)

FAILURES: Final = documented(DatabaseUnavailable(), Unexpected())
"""The ``responses`` of every route that asks the database."""

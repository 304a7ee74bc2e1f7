"""Tests that fail when they ask too much of the database: a marker and a fixture for pytest.

Loaded by pytest where dbpilot is installed; what it needs is imported by the first test that uses it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from dbpilot.testing.budget import Budget, Spent

MARKER: Final = "queries"
MEANING: Final = (
    "queries(max=None, n_plus_one=False, full_scan_rows=1000): the test fails when it runs more statements than max, "
    "repeats a SELECT for each row of another (unless n_plus_one), or reads a table of so many rows whole."
)

WatchesDatabase: TypeAlias = "Callable[..., AbstractContextManager[Spent]]"


def pytest_configure(config: pytest.Config) -> None:
    """The marker is known."""
    config.addinivalue_line("markers", MEANING)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """A marked test that would pass fails when it went over its budget; fixtures are not counted."""
    marker = item.get_closest_marker(MARKER)
    if marker is None:
        return (yield)
    from dbpilot.testing.budget import watching

    budget = _budget(marker.args, marker.kwargs)
    with watching(None, budget.full_scan_rows) as spent:
        result = yield
    _judge(spent, budget)
    return result


@pytest.fixture
def database_budget() -> WatchesDatabase:
    """Watches one engine, sync or async, or all of them, in a block: ``with database_budget(engine, max=5) as spent:``.

    The block fails the test at its end when it went over the budget. ``spent.count`` and ``spent.queries`` tell what
    ran.
    """

    @contextmanager
    def watched(engine: Engine | AsyncEngine | None = None, **allowed: Any) -> Iterator[Spent]:
        from dbpilot.testing.budget import watching

        budget = _budget((), allowed)
        with watching(engine, budget.full_scan_rows) as spent:
            yield spent
        _judge(spent, budget)

    return watched


def _budget(positional: tuple[Any, ...], named: Mapping[str, Any]) -> Budget:
    """What the marker allows; one that says something else is a mistake in the test, and told as such."""
    from dbpilot.testing.budget import Budget

    try:
        if positional:
            raise TypeError("name what is meant, such as max=5")
        return Budget(**named)
    except TypeError as error:
        raise pytest.UsageError(f"{error}; the marker is {MEANING}") from None


def _judge(spent: Spent, budget: Budget) -> None:
    complaints = spent.complaints(budget)
    if complaints:
        pytest.fail("over the budget of the database\n" + "\n".join(complaints), pytrace=False)

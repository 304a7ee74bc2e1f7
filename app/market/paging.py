"""Pages of long lists, by keyset: a page costs the same however deep it lies, and rows that arrive move nothing."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Generic, NamedTuple, TypeVar

from fastapi import Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, TypeAdapter
from sqlalchemy import ColumnElement, Row, or_
from sqlalchemy.orm import InstrumentedAttribute

from app.problems import invalid_parameter

LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 1000
ROW_ID_MAX: Final = 2**63 - 1
"""The largest number that a key column holds; a forged cursor must not reach the database with more."""

Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="How many items a page has at most")]

Item = TypeVar("Item")
Key = TypeVar("Key")


class Page(BaseModel, Generic[Item]):
    """Part of a list."""

    items: list[Item]
    next: str | None = Field(
        description="Give it as `cursor` to get the following page; null on the last page",
        examples=["WyIyMDEzLTAyLTI4Il0"],
    )


def _in_utc(instant: datetime) -> datetime:
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError("the instant lies outside the calendar") from None


Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class Moment(NamedTuple):
    """Where a row stands in a list that is newest first; the id orders rows of one instant."""

    at: Instant
    id: Annotated[int, Field(ge=0, le=ROW_ID_MAX)]


def earlier(
    at: InstrumentedAttribute[datetime], row_id: InstrumentedAttribute[int], key: Moment
) -> ColumnElement[bool]:
    """Rows that come after ``key`` in a list that is newest first.

    Said as a range and a remainder, because MariaDB walks no index for ``(at, id) < (x, y)``.
    """
    return (at <= key.at) & or_(at < key.at, row_id < key.id)


class Keyset(Generic[Key, Item]):
    """A FastAPI dependency that reads ``cursor`` as a key, and the maker of the pages that carry such cursors."""

    def __init__(self, key: type[Key], page: type[Page[Item]]) -> None:
        self._keys = TypeAdapter(key)
        self._page = page

    def __call__(
        self,
        cursor: Annotated[str | None, Query(description="`next` of the page before; leave it out to begin")] = None,
    ) -> Key | None:
        """The key in the cursor; None without one.

        Raises:
            RequestValidationError: the cursor was not made by :meth:`page`.
        """
        if cursor is None:
            return None
        try:
            return self._keys.validate_json(urlsafe_b64decode(cursor.encode() + b"=="))
        except ValueError:
            raise invalid_parameter("cursor", cursor, "is not the `next` of a page of this list") from None

    def page(self, rows: Sequence[Row[Any]], limit: int, key_of: Callable[[Row[Any]], Key]) -> Page[Item]:
        """The page made of the first ``limit`` rows; one row more than that says that there is a next page."""
        shown = rows[:limit]
        following = self._cursor(key_of(shown[-1])) if len(rows) > limit else None
        return self._page.model_validate({"items": shown, "next": following}, from_attributes=True)

    def _cursor(self, key: Key) -> str:
        return urlsafe_b64encode(self._keys.dump_json(key)).rstrip(b"=").decode()

"""News about a symbol."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from sqlalchemy import select

from app.market.models import Content
from app.market.paging import LIMIT_DEFAULT, Keyset, Limit, Moment, Page, earlier
from app.market.requests import Db, SymbolInPath
from app.problems import FAILURES, UnknownSymbol, documented

router = APIRouter(prefix="/api/market", tags=["news"], responses=FAILURES)


class News(BaseModel):
    """A piece of news, without the page it was taken from."""

    id: int
    title: str = Field(examples=["Shares close at a record"])
    summary: str | None
    url: str | None = Field(examples=["https://news.example/2013/02/28/record"])
    source: str = Field(examples=["news.example"])
    published_at: datetime = Field(examples=["2013-02-28T21:05:00Z"])
    crawled_at: datetime = Field(examples=["2013-02-28T21:06:30Z"])


_COLUMNS = tuple(getattr(Content, name) for name in News.model_fields)
_NEWEST_FIRST = Keyset(Moment, Page[News])


@router.get("/news/{symbol}", responses=documented(UnknownSymbol("XYZ")))
def news(
    db: Db,
    symbol: SymbolInPath,
    after: Annotated[Moment | None, Depends(_NEWEST_FIRST)],
    limit: Limit = LIMIT_DEFAULT,
) -> Page[News]:
    """The news about a symbol, newest first."""
    query = (
        select(*_COLUMNS)
        .where(Content.symbol == symbol)
        .order_by(Content.published_at.desc(), Content.id.desc())
        .limit(limit + 1)
    )
    if after:
        query = query.where(earlier(Content.published_at, Content.id, after))
    return _NEWEST_FIRST.page(db.execute(query).all(), limit, lambda row: Moment(row.published_at, row.id))

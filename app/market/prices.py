"""Daily prices: by symbol and range, and as the adjusted series that everything is computed from."""

from dataclasses import dataclass
from datetime import date
from typing import Annotated, NamedTuple

import numpy as np
from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from sqlalchemy import Connection, Float, func, select, type_coerce
from sqlalchemy.orm import Session

from app.market.indicators import Series
from app.market.models import DailyPrice
from app.market.paging import LIMIT_DEFAULT, Keyset, Limit, Page
from app.market.requests import DaysInQuery, Db, SymbolInPath
from app.problems import FAILURES, UnknownSymbol, documented

PRICE_DECIMALS = 6

router = APIRouter(prefix="/api/market", tags=["prices"], responses=FAILURES)


class Price(BaseModel):
    """One trading day; amounts have up to six decimals."""

    date: date
    open: float = Field(examples=[74.06])
    high: float = Field(examples=[75.15])
    low: float = Field(examples=[73.8])
    close: float = Field(description="As traded; a split leaves a cliff in it", examples=[75.09])
    adj_close: float | None = Field(
        description="Corrected for splits and dividends; null when the source gave none", examples=[9.85]
    )
    volume: int = Field(examples=[135480400])


class _Day(NamedTuple):
    date: date


_BY_DATE = Keyset(_Day, Page[Price])
_COLUMNS = tuple(getattr(DailyPrice, name) for name in Price.model_fields)


@router.get("/prices/{symbol}", responses=documented(UnknownSymbol("XYZ")))
def prices(
    db: Db,
    symbol: SymbolInPath,
    days: DaysInQuery,
    after: Annotated[_Day | None, Depends(_BY_DATE)],
    limit: Limit = LIMIT_DEFAULT,
) -> Page[Price]:
    """The daily prices of a symbol, oldest first."""
    query = select(*_COLUMNS).where(DailyPrice.symbol == symbol).order_by(DailyPrice.date).limit(limit + 1)
    if days.start:
        query = query.where(DailyPrice.date >= days.start)
    if days.end:
        query = query.where(DailyPrice.date <= days.end)
    if after:
        query = query.where(DailyPrice.date > after.date)
    return _BY_DATE.page(db.execute(query).all(), limit, lambda row: _Day(row.date))


@dataclass(frozen=True)
class AdjustedCloses:
    """A symbol's trading days and its closes on them, corrected for splits and dividends where the source says so."""

    dates: list[date]
    closes: Series


def adjusted_closes(connection: Connection | Session, symbol: str, end: date | None = None) -> AdjustedCloses:
    """All adjusted closes up to ``end``, oldest first; as traded on days without an adjusted one."""
    close = type_coerce(func.coalesce(DailyPrice.adj_close, DailyPrice.close), Float)
    query = select(DailyPrice.date, close).where(DailyPrice.symbol == symbol).order_by(DailyPrice.date)
    if end:
        query = query.where(DailyPrice.date <= end)
    rows = connection.execute(query).all()
    closes = np.fromiter((close for _, close in rows), dtype=np.float64, count=len(rows))
    # SQLite keeps every digit it is given; the others round to the column.
    return AdjustedCloses([session for session, _ in rows], np.round(closes, PRICE_DECIMALS))

"""Which symbols there are."""

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy import select

from app.market.models import Symbol
from app.market.requests import Db
from app.problems import FAILURES

router = APIRouter(prefix="/api/market", tags=["symbols"], responses=FAILURES)


class ListedSymbol(BaseModel):
    """A traded instrument."""

    symbol: str = Field(examples=["AAPL"])
    name: str | None = Field(examples=["Apple Inc."])


class Symbols(BaseModel):
    """All symbols, in one piece."""

    items: list[ListedSymbol]


@router.get("/symbols")
def symbols(db: Db) -> Symbols:
    """All symbols with their names, in alphabetical order."""
    rows = db.execute(select(Symbol.symbol, Symbol.name))
    # Sorted here: each database has its own idea of where a dot or a digit stands in the alphabet.
    return Symbols(items=[ListedSymbol(symbol=symbol, name=name) for symbol, name in sorted(rows)])

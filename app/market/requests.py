"""What requests say, checked: the session they use, the symbol they name, the days they ask for."""

from dataclasses import dataclass
from datetime import date
from typing import Annotated

from fastapi import Depends, Path, Query
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.common.infra.database.config.database_config import get_db
from app.market.models import SYMBOL_LENGTH, Symbol
from app.problems import UnknownSymbol, invalid_parameter

Db = Annotated[Session, Depends(get_db)]


@dataclass(frozen=True)
class Days:
    """A range of days, both ends included; None where it is open."""

    start: date | None
    end: date | None


def known_symbol(db: Session, asked: str) -> str:
    """The symbol as it is stored; lower case is forgiven.

    Raises:
        UnknownSymbol: there is none of this name.
    """
    name = asked.upper()
    if len(name) > SYMBOL_LENGTH or not name.isprintable():  # PostgreSQL refuses a text with NUL
        raise UnknownSymbol(asked)
    # MariaDB finds 'É' when asked for 'E'; every database gives the same answer when the name is compared here.
    if db.scalar(select(Symbol.symbol).where(Symbol.symbol == name)) != name:
        raise UnknownSymbol(asked)
    return name


def _symbol_in_path(
    db: Db, symbol: Annotated[str, Path(description="A symbol of GET /api/market/symbols", examples=["AAPL"])]
) -> str:
    return known_symbol(db, symbol)


def _symbol_in_query(
    db: Db, symbol: Annotated[str | None, Query(description="Only of this symbol", examples=["AAPL"])] = None
) -> str | None:
    return None if symbol is None else known_symbol(db, symbol)


def _days(
    start: Annotated[date | None, Query(description="First day", examples=["2012-01-01"])] = None,
    end: Annotated[date | None, Query(description="Last day, included", examples=["2012-12-31"])] = None,
) -> Days:
    if start and end and start > end:
        raise invalid_parameter("start", start, f"lies after end, {end}")
    return Days(start, end)


SymbolInPath = Annotated[str, Depends(_symbol_in_path)]
SymbolInQuery = Annotated[str | None, Depends(_symbol_in_query)]
DaysInQuery = Annotated[Days, Depends(_days)]

"""Technical signals, and how well each kind of them has done."""

from collections.abc import Iterator
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from sqlalchemy import ColumnElement, Row, Select, case, func, select

from app.market.indicators import SIGNAL_TYPES, TIMEFRAME, Direction
from app.market.models import SignalOutcome, TechnicalSignal
from app.market.paging import LIMIT_DEFAULT, Keyset, Limit, Moment, Page, earlier
from app.market.requests import Days, DaysInQuery, Db, SymbolInQuery
from app.problems import FAILURES, UnknownSymbol, documented

FRACTION_DECIMALS = 6

router = APIRouter(prefix="/api/market", tags=["signals"], responses={**FAILURES, **documented(UnknownSymbol("XYZ"))})


def _known_type(name: str) -> str:
    if name not in SIGNAL_TYPES:
        raise PydanticCustomError("unknown_signal_type", "is none of {known}", {"known": ", ".join(SIGNAL_TYPES)})
    return name


SignalTypeName = Annotated[
    str, AfterValidator(_known_type), WithJsonSchema({"type": "string", "enum": list(SIGNAL_TYPES)})
]
SignalTypeInQuery = Annotated[SignalTypeName | None, Query(description="Only of this type", examples=["golden_cross"])]
# Lower case only: MariaDB takes 1D for 1d where the other databases do not.
TimeframeInQuery = Annotated[
    str | None,
    Query(
        description="Only of this timeframe; signals of daily prices have `1d`",
        pattern="^[0-9]+[a-z]+$",
        max_length=8,
        examples=[TIMEFRAME],
    ),
]


class Signal(BaseModel):
    """A condition that became true on the close of a day."""

    id: int
    symbol: str = Field(examples=["AAPL"])
    signal_type: str = Field(examples=["golden_cross"])
    timeframe: str = Field(examples=[TIMEFRAME])
    triggered_at: datetime = Field(description="The trading day, as its midnight in UTC")
    price: float = Field(description="The adjusted close of that day", examples=[47.24])
    indicator_value: float | None = Field(description="What the price was compared with, or the RSI", examples=[45.91])


_COLUMNS = tuple(getattr(TechnicalSignal, name) for name in Signal.model_fields)
_NEWEST_FIRST = Keyset(Moment, Page[Signal])


@router.get("/signals")
def signals(
    db: Db,
    symbol: SymbolInQuery,
    days: DaysInQuery,
    after: Annotated[Moment | None, Depends(_NEWEST_FIRST)],
    signal_type: SignalTypeInQuery = None,
    timeframe: TimeframeInQuery = None,
    limit: Limit = LIMIT_DEFAULT,
) -> Page[Signal]:
    """Signals, newest first."""
    query = (
        select(*_COLUMNS)
        .where(*_of(symbol, signal_type, timeframe), *_within(days))
        .order_by(TechnicalSignal.triggered_at.desc(), TechnicalSignal.id.desc())
        .limit(limit + 1)
    )
    if after:
        query = query.where(earlier(TechnicalSignal.triggered_at, TechnicalSignal.id, after))
    return _NEWEST_FIRST.page(db.execute(query).all(), limit, lambda row: Moment(row.triggered_at, row.id))


def _of(symbol: str | None, signal_type: str | None, timeframe: str | None) -> Iterator[ColumnElement[bool]]:
    if symbol is not None:
        yield TechnicalSignal.symbol == symbol
    if signal_type is not None:
        yield TechnicalSignal.signal_type == signal_type
    if timeframe is not None:
        yield TechnicalSignal.timeframe == timeframe


def _within(days: Days) -> Iterator[ColumnElement[bool]]:
    if days.start:
        yield TechnicalSignal.triggered_at >= datetime.combine(days.start, time.min, UTC)
    if days.end:
        yield TechnicalSignal.triggered_at <= datetime.combine(days.end, time.max, UTC)


class Performance(BaseModel):
    """How the signals of one type turned out."""

    signal_type: str = Field(examples=["golden_cross"])
    expects: Literal["rise", "fall"] | None = Field(description="Null for a type that this version does not know")
    signals: int = Field(description="How many there are", examples=[23])
    evaluated: int = Field(description="Of how many a month (21 trading days) has passed", examples=[22])
    success_rate: float | None = Field(
        description="Of those evaluated, the part after which the price moved as expected", examples=[0.590909]
    )
    mean_return_1d: float | None = Field(description="Mean change after 1 trading day; 0.01 is one percent")
    mean_return_1w: float | None = Field(description="after 5 trading days")
    mean_return_1m: float | None = Field(description="after 21 trading days")


class Performances(BaseModel):
    """One entry per signal type that has signals, by name."""

    items: list[Performance]


@router.get("/signals/performance")
def performance(db: Db, symbol: SymbolInQuery, timeframe: TimeframeInQuery = None) -> Performances:
    """Success rate and mean returns of each signal type."""
    rows = db.execute(_performance_query(symbol, timeframe)).all()
    return Performances(items=sorted((_performance(row) for row in rows), key=lambda entry: entry.signal_type))


def _performance_query(symbol: str | None, timeframe: str | None) -> Select[*tuple[Any, ...]]:
    # Sums and counts rather than averages: a sum of decimals is exact on every database, an average is rounded by each
    # in its own way.
    return (
        select(
            TechnicalSignal.signal_type,
            func.count().label("signals"),
            func.count(SignalOutcome.success).label("evaluated"),
            func.count(case((SignalOutcome.success.is_(True), 1))).label("successes"),
            func.sum(SignalOutcome.return_1d).label("sum_1d"),
            func.count(SignalOutcome.return_1d).label("count_1d"),
            func.sum(SignalOutcome.return_1w).label("sum_1w"),
            func.count(SignalOutcome.return_1w).label("count_1w"),
            func.sum(SignalOutcome.return_1m).label("sum_1m"),
            func.count(SignalOutcome.return_1m).label("count_1m"),
        )
        .outerjoin(SignalOutcome, SignalOutcome.signal_id == TechnicalSignal.id)
        .where(*_of(symbol, None, timeframe))
        .group_by(TechnicalSignal.signal_type)
    )


def _performance(row: Row[*tuple[Any, ...]]) -> Performance:
    return Performance(
        signal_type=row.signal_type,
        expects=_expects(row.signal_type),
        signals=row.signals,
        evaluated=row.evaluated,
        success_rate=_ratio(Decimal(row.successes), row.evaluated),
        mean_return_1d=_ratio(row.sum_1d, row.count_1d),
        mean_return_1w=_ratio(row.sum_1w, row.count_1w),
        mean_return_1m=_ratio(row.sum_1m, row.count_1m),
    )


def _ratio(part: Decimal | None, whole: int) -> float | None:
    return float(round(part / whole, FRACTION_DECIMALS)) if part is not None and whole else None


def _expects(signal_type: str) -> Literal["rise", "fall"] | None:
    kind = SIGNAL_TYPES.get(signal_type)
    if kind is None:
        return None
    return "rise" if kind.direction is Direction.RISE else "fall"

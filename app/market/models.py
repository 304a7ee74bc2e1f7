"""The tables of Finstage, as they stand after the last migration.

Amounts are exact decimals, instants are aware and in UTC. A session date labels daily data: the signals of a trading
day are stamped with its midnight in UTC.
"""

import warnings
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import SAWarning
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator, TypeEngine

from app.common.infra.database.config.database_config import Base

# SQLite keeps a decimal as a double: 15 digits, which a price with 6 decimals stays under. The driver's warning about
# that would greet every start.
warnings.filterwarnings("ignore", message="Dialect sqlite.* does .*not.* support Decimal", category=SAWarning)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware instant in UTC, to the microsecond, on every database.

    A naive value is refused: guessing its zone is how hours get lost.
    """

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; give an aware datetime")
        utc = value.astimezone(UTC)
        return utc if dialect.name == "postgresql" else utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - theirs
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Key = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts up only an INTEGER key
Price = Numeric(18, 6)
Ratio = Numeric(12, 6)
Html = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")  # TEXT ends at 64 KiB there
SYMBOL_LENGTH = 16


class Symbol(Base):
    """A traded instrument."""

    __tablename__ = "symbols"

    symbol: Mapped[str] = mapped_column(String(SYMBOL_LENGTH), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(200))


class DailyPrice(Base):
    """One trading day of one symbol; prices as traded, ``adj_close`` corrected for splits and dividends."""

    __tablename__ = "daily_prices"
    __table_args__ = (UniqueConstraint("symbol", "date", name="uq_daily_prices_symbol_date"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    symbol: Mapped[str] = mapped_column(String(SYMBOL_LENGTH))
    date: Mapped[date] = mapped_column(Date)
    open: Mapped[Decimal] = mapped_column(Price)
    high: Mapped[Decimal] = mapped_column(Price)
    low: Mapped[Decimal] = mapped_column(Price)
    close: Mapped[Decimal] = mapped_column(Price)
    adj_close: Mapped[Decimal | None] = mapped_column(Price)
    volume: Mapped[int] = mapped_column(BigInteger)


class Content(Base):
    """A piece of news about one symbol; ``content_hash`` tells two crawls of the same piece."""

    __tablename__ = "contents"
    __table_args__ = (
        UniqueConstraint("content_hash", name="uq_contents_content_hash"),
        Index("idx_contents_symbol_published_at", "symbol", "published_at"),
        Index("idx_contents_source_crawled_at", "source", "crawled_at"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    symbol: Mapped[str] = mapped_column(String(SYMBOL_LENGTH))
    title: Mapped[str] = mapped_column(String(500))
    summary: Mapped[str | None] = mapped_column(Text)
    url: Mapped[str | None] = mapped_column(String(2048))
    source: Mapped[str] = mapped_column(String(100))
    html: Mapped[str | None] = mapped_column(Html)
    published_at: Mapped[datetime] = mapped_column(UtcDateTime)
    crawled_at: Mapped[datetime] = mapped_column(UtcDateTime)
    content_hash: Mapped[str] = mapped_column(String(64))


class TechnicalSignal(Base):
    """A trading signal: on this day, by these prices, this condition became true."""

    __tablename__ = "technical_signals"
    __table_args__ = (
        UniqueConstraint("symbol", "signal_type", "timeframe", "triggered_at", name="uq_technical_signals"),
        Index("idx_symbol_triggered_at", "symbol", "triggered_at"),
        Index("idx_signal_type", "signal_type"),
        Index("idx_timeframe", "timeframe"),
        Index("idx_triggered_at", "triggered_at"),
        Index("idx_symbol_signal_timeframe", "symbol", "signal_type", "timeframe"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    symbol: Mapped[str] = mapped_column(String(SYMBOL_LENGTH))
    signal_type: Mapped[str] = mapped_column(String(40))
    timeframe: Mapped[str] = mapped_column(String(8))
    triggered_at: Mapped[datetime] = mapped_column(UtcDateTime)
    price: Mapped[Decimal] = mapped_column(Price)
    indicator_value: Mapped[Decimal | None] = mapped_column(Price)


class SignalOutcome(Base):
    """What the prices did after a signal, as fractions (0.05 is five percent).

    The horizons count trading days: 1, 5 and 21. A return is null until its horizon has passed. ``success`` says that
    the price moved in the signal's direction over the longest horizon; ``evaluated_at`` is the last session used.
    """

    __tablename__ = "signal_outcomes"
    __table_args__ = (
        UniqueConstraint("signal_id", name="uq_signal_outcomes_signal_id"),
        Index("idx_signal_outcomes_evaluated_at", "evaluated_at"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    # No cascade: an outcome may vanish only when somebody archived it on purpose.
    signal_id: Mapped[int] = mapped_column(ForeignKey("technical_signals.id", name="fk_signal_outcomes_signal_id"))
    return_1d: Mapped[Decimal | None] = mapped_column(Ratio)
    return_1w: Mapped[Decimal | None] = mapped_column(Ratio)
    return_1m: Mapped[Decimal | None] = mapped_column(Ratio)
    success: Mapped[bool | None] = mapped_column(Boolean)
    max_return: Mapped[Decimal | None] = mapped_column(Ratio)
    max_drawdown: Mapped[Decimal | None] = mapped_column(Ratio)
    evaluated_at: Mapped[datetime] = mapped_column(UtcDateTime)

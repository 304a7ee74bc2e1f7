"""The tables as they were found: one plain index each, and nothing that keeps rows unique."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from app.migrations import steps

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Written out rather than taken from the models: what this step made must not change with them.
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
HTML = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
SYMBOL = sa.String(16)
PRICE = sa.Numeric(18, 6)
RATIO = sa.Numeric(12, 6)

# A server's own defaults may be latin1, or may take "aapl" for "AAPL": the other databases do neither.
OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
OPTIONS |= {key.replace("mysql", "mariadb"): value for key, value in OPTIONS.items()}


def _required(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _tables() -> list[sa.Table]:
    """The five tables, each after those it refers to."""
    known = sa.MetaData()
    return [_symbols(known), _daily_prices(known), _contents(known), _technical_signals(known), _signal_outcomes(known)]


def _symbols(known: sa.MetaData) -> sa.Table:
    return sa.Table(
        "symbols",
        known,
        sa.Column("symbol", SYMBOL, primary_key=True),
        sa.Column("name", sa.String(200)),
        **OPTIONS,
    )


def _daily_prices(known: sa.MetaData) -> sa.Table:
    return sa.Table(
        "daily_prices",
        known,
        sa.Column("id", KEY, primary_key=True),
        _required("symbol", SYMBOL),
        _required("date", sa.Date()),
        *(_required(name, PRICE) for name in ("open", "high", "low", "close")),
        sa.Column("adj_close", PRICE),
        _required("volume", sa.BigInteger()),
        sa.Index("idx_daily_prices_symbol", "symbol"),
        **OPTIONS,
    )


def _contents(known: sa.MetaData) -> sa.Table:
    return sa.Table(
        "contents",
        known,
        sa.Column("id", KEY, primary_key=True),
        _required("symbol", SYMBOL),
        _required("title", sa.String(500)),
        sa.Column("summary", sa.Text()),
        sa.Column("url", sa.String(2048)),
        _required("source", sa.String(100)),
        sa.Column("html", HTML),
        _required("published_at", INSTANT),
        _required("crawled_at", INSTANT),
        _required("content_hash", sa.String(64)),
        sa.Index("idx_contents_symbol", "symbol"),
        **OPTIONS,
    )


def _technical_signals(known: sa.MetaData) -> sa.Table:
    return sa.Table(
        "technical_signals",
        known,
        sa.Column("id", KEY, primary_key=True),
        _required("symbol", SYMBOL),
        _required("signal_type", sa.String(40)),
        _required("timeframe", sa.String(8)),
        _required("triggered_at", INSTANT),
        _required("price", PRICE),
        sa.Column("indicator_value", PRICE),
        sa.Index("idx_symbol_triggered_at", "symbol", "triggered_at"),
        **OPTIONS,
    )


def _signal_outcomes(known: sa.MetaData) -> sa.Table:
    return sa.Table(
        "signal_outcomes",
        known,
        sa.Column("id", KEY, primary_key=True),
        _required("signal_id", KEY),
        *(sa.Column(name, RATIO) for name in ("return_1d", "return_1w", "return_1m")),
        sa.Column("success", sa.Boolean()),
        *(sa.Column(name, RATIO) for name in ("max_return", "max_drawdown")),
        _required("evaluated_at", INSTANT),
        sa.ForeignKeyConstraint(["signal_id"], ["technical_signals.id"], name="fk_signal_outcomes_signal_id"),
        sa.Index("idx_signal_outcomes_signal_id", "signal_id"),
        **OPTIONS,
    )


def upgrade() -> None:
    """The five tables exist."""
    steps.create_missing(_tables())


def downgrade() -> None:
    """The five tables are gone, with all their rows."""
    for table in reversed(_tables()):
        table.drop(op.get_bind(), checkfirst=True)

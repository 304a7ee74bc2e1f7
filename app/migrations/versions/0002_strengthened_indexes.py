"""Indexes for the questions that are asked, and uniqueness where a repeat would be an error."""

from app.migrations import steps
from app.migrations.steps import IndexChange

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

CHANGES = (
    IndexChange(
        "daily_prices",
        uniques={"uq_daily_prices_symbol_date": ("symbol", "date")},
        superseded={"idx_daily_prices_symbol": ("symbol",)},
    ),
    IndexChange(
        "contents",
        uniques={"uq_contents_content_hash": ("content_hash",)},
        indexes={
            "idx_contents_symbol_published_at": ("symbol", "published_at"),
            "idx_contents_source_crawled_at": ("source", "crawled_at"),
        },
        superseded={"idx_contents_symbol": ("symbol",)},
    ),
    IndexChange(
        "technical_signals",
        uniques={"uq_technical_signals": ("symbol", "signal_type", "timeframe", "triggered_at")},
        indexes={
            "idx_signal_type": ("signal_type",),
            "idx_timeframe": ("timeframe",),
            "idx_triggered_at": ("triggered_at",),
            "idx_symbol_signal_timeframe": ("symbol", "signal_type", "timeframe"),
        },
    ),
    IndexChange(
        "signal_outcomes",
        uniques={"uq_signal_outcomes_signal_id": ("signal_id",)},
        indexes={"idx_signal_outcomes_evaluated_at": ("evaluated_at",)},
        superseded={"idx_signal_outcomes_signal_id": ("signal_id",)},
    ),
)


def upgrade() -> None:
    """Every index and unique constraint of the models is there, and none besides."""
    steps.apply(CHANGES)


def downgrade() -> None:
    """The plain indexes of the step before are back, alone."""
    steps.revert(CHANGES)

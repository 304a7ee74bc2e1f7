"""Which indexes Finstage was asked to have; whether they are there, and what its workload really wants."""

from typing import Final

from sqlalchemy import Engine

from dbpilot import Autopilot, PilotConfig
from dbpilot.history.store import MemoryStore
from dbpilot.indexes import Recommended
from dbpilot.reports.indexes import IndexReport, IndexSql

RECOMMENDED: Final = (
    Recommended("contents", ("symbol", "published_at")),
    Recommended("contents", ("content_hash",), unique=True),
    Recommended("contents", ("source", "crawled_at")),
    Recommended("technical_signals", ("symbol", "triggered_at")),
    Recommended("technical_signals", ("signal_type",)),
    Recommended("technical_signals", ("symbol", "signal_type", "timeframe")),
    Recommended("daily_prices", ("symbol", "date"), unique=True),
    Recommended("daily_prices", ("symbol",)),
)
"""The last one begins the unique one, which serves in its place: it is said to, rather than made."""
PATIENCE_S: Final = 120.0


class IndexOptimizer:
    """Analyses the indexes of one database; nothing is changed."""

    def __init__(self, engine: Engine, pilot: Autopilot | None = None) -> None:
        """``pilot`` is the one that watches this engine already, and knows its workload; for Finstage's own engine it
        is found."""
        self._pilot = pilot or _pilot_of(engine)

    def analyze(self) -> IndexReport:
        """Every table with its score, its indexes, and what could be done about them.

        Where nothing was watched there is no evidence of a workload: then a score is None rather than 100.
        """
        return self._pilot.indexes(PATIENCE_S)

    def optimization_sql(self, table_name: str | None = None) -> IndexSql:
        """SQL to create what is missing, and for review to drop what is not needed, of one table or of all.

        Raises:
            dbpilot.PilotError: there is no such table, or the database cannot be analysed; says why.
        """
        return self._pilot.indexing.sql(table_name, PATIENCE_S)


def analyze_database_indexes(engine: Engine) -> IndexReport:
    """Every table of this database with its score, its indexes, and what could be done about them."""
    return IndexOptimizer(engine).analyze()


def generate_index_optimization_sql(engine: Engine, table_name: str | None = None) -> IndexSql:
    """SQL to create what is missing, and for review to drop what is not needed, of one table or of all.

    Raises:
        dbpilot.PilotError: there is no such table, or the database cannot be analysed; says why.
    """
    return IndexOptimizer(engine).optimization_sql(table_name)


def _pilot_of(engine: Engine) -> Autopilot:
    # Here and not above: both take what they know from this file.
    from app.common.infra.database.config import database_config
    from app.common.infra.database.monitoring.query_monitor import query_monitor

    if engine is database_config.engine:
        return query_monitor.pilot
    return Autopilot(engine, PilotConfig.from_env(), store=MemoryStore(), indexes=RECOMMENDED)

"""The history's tables, as they stand after the last migration."""

from typing import Final

from sqlalchemy import JSON, BigInteger, Column, Double, LargeBinary, MetaData, String, Table, Text
from sqlalchemy.dialects import mysql

metadata = MetaData()
PLACE_LENGTH: Final = 255
LongText = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")  # TEXT ends at 64 KiB there

# Instants are seconds since 1970 in UTC: the same number, and the same order, on every database.
patterns = Table(
    "dbpilot_patterns",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("text", LongText, nullable=False),
    Column("operation", String(16), nullable=False),
    Column("tables", JSON, nullable=False),
)

windows = Table(
    "dbpilot_windows",
    metadata,
    Column("start_s", BigInteger, primary_key=True, autoincrement=False),
    Column("process", String(32), primary_key=True),
    # Counted within the process: a clock set back, or a pilot started again, may bring the same window twice.
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("database", String(PLACE_LENGTH), nullable=False),
    Column("pattern_id", String(32), nullable=False),
    Column("calls", BigInteger, nullable=False),
    Column("slow", BigInteger, nullable=False),
    Column("row_count", BigInteger, nullable=False),
    Column("total_s", Double, nullable=False),
    Column("fetch_s", Double, nullable=False),
    Column("min_s", Double, nullable=False),
    Column("max_s", Double, nullable=False),
    Column("last_seen_s", Double, nullable=False),
    Column("errors", JSON, nullable=False),
    Column("histogram", LargeBinary, nullable=False),
)

slow_queries = Table(
    "dbpilot_slow_queries",
    metadata,
    Column("at_s", Double, primary_key=True),
    Column("process", String(32), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("database", String(PLACE_LENGTH), nullable=False),
    Column("pattern_id", String(32), nullable=False),
    Column("duration_s", Double, nullable=False),
    Column("row_count", BigInteger, nullable=False),
    Column("error", String(200)),
)

"""Patterns, windows and slow statements."""

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None


def upgrade(operations: Operations) -> None:
    """The three tables exist; running it after a half-done run is fine."""
    operations.create_table(
        "dbpilot_patterns",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("text", sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb"), nullable=False),
        sa.Column("operation", sa.String(16), nullable=False),
        sa.Column("tables", sa.JSON, nullable=False),
        if_not_exists=True,
        mysql_charset="utf8mb4",
        mariadb_charset="utf8mb4",
    )
    operations.create_table(
        "dbpilot_windows",
        sa.Column("start_s", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("process", sa.String(32), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("database", sa.String(255), nullable=False),
        sa.Column("pattern_id", sa.String(32), nullable=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("slow", sa.BigInteger, nullable=False),
        sa.Column("row_count", sa.BigInteger, nullable=False),
        sa.Column("total_s", sa.Double, nullable=False),
        sa.Column("fetch_s", sa.Double, nullable=False),
        sa.Column("min_s", sa.Double, nullable=False),
        sa.Column("max_s", sa.Double, nullable=False),
        sa.Column("last_seen_s", sa.Double, nullable=False),
        sa.Column("errors", sa.JSON, nullable=False),
        sa.Column("histogram", sa.LargeBinary, nullable=False),
        if_not_exists=True,
        mysql_charset="utf8mb4",
        mariadb_charset="utf8mb4",
    )
    operations.create_table(
        "dbpilot_slow_queries",
        sa.Column("at_s", sa.Double, primary_key=True),
        sa.Column("process", sa.String(32), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("database", sa.String(255), nullable=False),
        sa.Column("pattern_id", sa.String(32), nullable=False),
        sa.Column("duration_s", sa.Double, nullable=False),
        sa.Column("row_count", sa.BigInteger, nullable=False),
        sa.Column("error", sa.String(200)),
        if_not_exists=True,
        mysql_charset="utf8mb4",
        mariadb_charset="utf8mb4",
    )

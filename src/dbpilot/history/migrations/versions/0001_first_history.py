"""Patterns, windows and their sums, events, claims."""

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None

UTF8 = {"mysql_charset": "utf8mb4", "mariadb_charset": "utf8mb4"}
LONG_BLOB = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
# Names differ in case; MariaDB and MySQL compare without it unless they are told.
NAME = {n: sa.String(n).with_variant(mysql.VARCHAR(n, collation="utf8mb4_bin"), "mysql", "mariadb") for n in (128, 255)}
INDEXES = (
    ("dbpilot_patterns_last_seen", "dbpilot_patterns", ["last_seen_s"]),
    ("dbpilot_windows_start", "dbpilot_windows", ["database", "start_s"]),
    ("dbpilot_windows_folded", "dbpilot_windows", ["database", "folded", "start_s"]),
    ("dbpilot_events_kind", "dbpilot_events", ["database", "kind", "at_s"]),
    ("dbpilot_events_key", "dbpilot_events", ["database", "kind", "key"]),
)


def upgrade(operations: Operations) -> None:
    """The tables exist; running it after a half-done run is fine."""
    operations.create_table(
        "dbpilot_patterns",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("text", sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb"), nullable=False),
        sa.Column("operation", sa.String(16), nullable=False),
        sa.Column("tables", sa.JSON, nullable=False),
        sa.Column("sources", sa.JSON, nullable=False),
        sa.Column("last_seen_s", sa.BigInteger, nullable=False),
        if_not_exists=True,
        **UTF8,
    )
    operations.create_table(
        "dbpilot_windows",
        sa.Column("batch", sa.String(32), primary_key=True),
        sa.Column("start_s", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("database", NAME[255], nullable=False),
        sa.Column("folded", sa.Boolean, nullable=False),
        sa.Column("data", LONG_BLOB, nullable=False),
        if_not_exists=True,
        **UTF8,
    )
    operations.create_table(
        "dbpilot_sums",
        sa.Column("database", NAME[255], primary_key=True),
        sa.Column("length_s", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("start_s", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("data", LONG_BLOB, nullable=False),
        if_not_exists=True,
        **UTF8,
    )
    operations.create_table(
        "dbpilot_events",
        sa.Column("batch", sa.String(32), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("database", NAME[255], nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("key", NAME[128], nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("pattern_id", sa.String(32)),
        sa.Column("body", sa.JSON, nullable=False),
        if_not_exists=True,
        **UTF8,
    )
    operations.create_table(
        "dbpilot_claims",
        sa.Column("database", NAME[255], primary_key=True),
        sa.Column("key", NAME[128], primary_key=True),
        sa.Column("holder", sa.String(32), nullable=False),
        sa.Column("until_s", sa.Double, nullable=False),
        if_not_exists=True,
        **UTF8,
    )
    existing = sa.inspect(operations.get_bind())
    for name, table, columns in INDEXES:
        if name not in {index["name"] for index in existing.get_indexes(table)}:
            operations.create_index(name, table, columns)

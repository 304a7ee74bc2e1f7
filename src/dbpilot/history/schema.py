"""The history's tables, as they stand after the last migration."""

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects import mysql

metadata = MetaData()
PLACE_LENGTH: Final = 255
KEY_LENGTH: Final = 128
LongText = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")  # TEXT ends at 64 KiB there
LongBlob = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")


def _name(length: int) -> String:
    """The type of what names something: upper and lower case differ, on MariaDB and MySQL only when they are told."""
    return String(length).with_variant(mysql.VARCHAR(length, collation="utf8mb4_bin"), "mysql", "mariadb")


# Instants are seconds since 1970 in UTC: the same number, and the same order, on every database.
patterns = Table(
    "dbpilot_patterns",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("text", LongText, nullable=False),
    Column("operation", String(16), nullable=False),
    Column("tables", JSON, nullable=False),
    Column("sources", JSON, nullable=False),
    Column("last_seen_s", BigInteger, nullable=False),
    Index("dbpilot_patterns_last_seen", "last_seen_s"),
)

# What one process counted in one window, all patterns in one block.
windows = Table(
    "dbpilot_windows",
    metadata,
    Column("batch", String(32), primary_key=True),
    Column("start_s", BigInteger, primary_key=True, autoincrement=False),
    Column("database", _name(PLACE_LENGTH), nullable=False),
    # Whether it is part of the sums below.
    Column("folded", Boolean, nullable=False),
    Column("data", LongBlob, nullable=False),
    Index("dbpilot_windows_start", "database", "start_s"),
    Index("dbpilot_windows_folded", "database", "folded", "start_s"),
)

# The same added up over all processes, for a minute, an hour, a day.
sums = Table(
    "dbpilot_sums",
    metadata,
    Column("database", _name(PLACE_LENGTH), primary_key=True),
    Column("length_s", Integer, primary_key=True, autoincrement=False),
    Column("start_s", BigInteger, primary_key=True, autoincrement=False),
    Column("data", LongBlob, nullable=False),
)

events = Table(
    "dbpilot_events",
    metadata,
    Column("batch", String(32), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("database", _name(PLACE_LENGTH), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("at_s", Double, nullable=False),
    Column("key", _name(KEY_LENGTH), nullable=False),
    Column("value", Double, nullable=False),
    Column("pattern_id", String(32)),
    Column("body", JSON, nullable=False),
    Index("dbpilot_events_kind", "database", "kind", "at_s"),
    Index("dbpilot_events_key", "database", "kind", "key"),
)

# Who alone may act on something, and until when.
claims = Table(
    "dbpilot_claims",
    metadata,
    Column("database", _name(PLACE_LENGTH), primary_key=True),
    Column("key", _name(KEY_LENGTH), primary_key=True),
    Column("holder", String(32), nullable=False),
    Column("until_s", Double, nullable=False),
)

# One row for each database server whose connections are shared; who changes a lease holds it locked.
servers = Table(
    "dbpilot_servers",
    metadata,
    Column("server", _name(PLACE_LENGTH), primary_key=True),
    Column("exchanges", BigInteger, nullable=False),
)

# How many connections to a server each process may have open.
leases = Table(
    "dbpilot_leases",
    metadata,
    Column("server", _name(PLACE_LENGTH), primary_key=True),
    Column("process", String(32), primary_key=True),
    Column("connections", Integer, nullable=False),
    Column("open", Integer, nullable=False),
    Column("wanted", Integer, nullable=False),
    Column("limit", Integer, nullable=False),
    Column("budget", Integer, nullable=False),
    Column("beat", BigInteger, nullable=False),
)

"""Leases: how many connections each process may have open."""

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"

UTF8 = {"mysql_charset": "utf8mb4", "mariadb_charset": "utf8mb4"}
# Names differ in case; MariaDB and MySQL compare without it unless they are told.
NAME = sa.String(255).with_variant(mysql.VARCHAR(255, collation="utf8mb4_bin"), "mysql", "mariadb")


def upgrade(operations: Operations) -> None:
    """The tables exist; running it after a half-done run is fine."""
    operations.create_table(
        "dbpilot_servers",
        sa.Column("server", NAME, primary_key=True),
        sa.Column("exchanges", sa.BigInteger, nullable=False),
        if_not_exists=True,
        **UTF8,
    )
    operations.create_table(
        "dbpilot_leases",
        sa.Column("server", NAME, primary_key=True),
        sa.Column("process", sa.String(32), primary_key=True),
        sa.Column("connections", sa.Integer, nullable=False),
        sa.Column("open", sa.Integer, nullable=False),
        sa.Column("wanted", sa.Integer, nullable=False),
        sa.Column("limit", sa.Integer, nullable=False),
        sa.Column("budget", sa.Integer, nullable=False),
        sa.Column("beat", sa.BigInteger, nullable=False),
        if_not_exists=True,
        **UTF8,
    )

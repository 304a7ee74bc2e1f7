"""The statements that make indexes; those that build while the application writes are in ``dialects``."""

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.schema import CreateIndex, DropIndex

from dbpilot.dialects.catalog import Catalog
from dbpilot.dialects.ddl import index_of, named, written
from dbpilot.dialects.whatif import NewIndex


def create_of(index: NewIndex, name: str, catalog: Catalog) -> str:
    """``CREATE INDEX`` for this catalogue's database, to be sent as it is, without parameters."""
    return written(_dialect(catalog), CreateIndex(index_of(index, name, _schema(catalog))))


def drop_of(name: str, table: str, catalog: Catalog) -> str:
    """``DROP INDEX``, which undoes it."""
    return written(_dialect(catalog), DropIndex(named(table, name, _schema(catalog))))


def _schema(catalog: Catalog) -> str | None:
    """Named where a connection may look elsewhere first."""
    return catalog.schema if catalog.dialect == "postgresql" else None


def _dialect(catalog: Catalog) -> sa.Dialect:
    """No driver's: its own style of parameters would change what percent signs are."""
    known = {"postgresql": postgresql.base.PGDialect, "sqlite": sqlite.base.SQLiteDialect}
    made: type[sa.Dialect] = known.get(catalog.dialect, mysql.base.MySQLDialect)
    return made()

"""PostgreSQL."""

from operator import attrgetter
from typing import Final

from sqlalchemy import Connection, Engine, MetaData, Table, func, select, text

from dbpilot.dialects.base import LOCKED, NO_SPACE, NOT_ALLOWED, READ_ONLY, Capacity, Dialect, ServerStatement
from dbpilot.dialects.postgresql.catalog import catalog, sampled
from dbpilot.dialects.postgresql.checkup import CHECKS
from dbpilot.dialects.postgresql.ddl import DDL
from dbpilot.dialects.postgresql.explain import explain
from dbpilot.dialects.postgresql.whatif import open_what_if
from dbpilot.sql.fingerprint import fingerprint
from dbpilot.sql.syntax import POSTGRESQL
from dbpilot.unsupported import Unsupported

MS_PER_S: Final = 1e3
EXTENSION: Final = "pg_stat_statements"
HIDDEN: Final = "<insufficient privilege>"
SCHEMA_OF_EXTENSION: Final = text(
    "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = :name"
)
REASONS: Final = {"42501": NOT_ALLOWED, "25006": READ_ONLY, "53100": NO_SPACE, "55P03": LOCKED}
LOADED: Final = text("SELECT EXISTS (SELECT FROM pg_settings WHERE name = :setting)")
"""A library's own settings are there once it is loaded, and unlike shared_preload_libraries anybody may see them."""

BOUNDS: Final = text(
    """WITH clients AS (
        SELECT datid, usesysid FROM pg_stat_activity
        WHERE datid IS NOT NULL AND pid <> pg_backend_pid() AND coalesce(backend_type, :client) = :client
    )
    SELECT current_setting('max_connections')::int,
        current_setting('superuser_reserved_connections')::int
            + coalesce(current_setting('reserved_connections', true)::int, 0),
        (SELECT count(*) FROM clients)
    UNION ALL
    SELECT datconnlimit, 0, (SELECT count(*) FROM clients WHERE datid = pg_database.oid)
        FROM pg_database WHERE datname = current_database() AND datconnlimit >= 0
    UNION ALL
    SELECT rolconnlimit, 0, (SELECT count(*) FROM clients WHERE usesysid = pg_roles.oid)
        FROM pg_roles WHERE rolname = current_user AND rolconnlimit >= 0"""
)


def _product(_engine: Engine) -> str:
    return "PostgreSQL"


def _error_code(error: BaseException) -> str | None:
    """The SQLSTATE, which every driver keeps under the same name."""
    state = getattr(error, "sqlstate", None)
    return str(state) if state else None


def _server_statements(connection: Connection, most: int) -> list[ServerStatement] | Unsupported:
    schema = connection.execute(SCHEMA_OF_EXTENSION, {"name": EXTENSION}).scalar()
    if not connection.execute(LOADED, {"setting": f"{EXTENSION}.max"}).scalar():
        return Unsupported(
            f"{EXTENSION} is not loaded",
            f"put shared_preload_libraries = '{EXTENSION}' into postgresql.conf, restart the server, and run "
            f"CREATE EXTENSION {EXTENSION}",
        )
    if schema is None:
        return Unsupported(f"{EXTENSION} is not installed in this database", f"CREATE EXTENSION {EXTENSION}")
    view = Table(EXTENSION, MetaData(), schema=schema, autoload_with=connection).c
    own = (
        view.dbid
        == select(text("oid"))
        .select_from(text("pg_database"))
        .where(text("datname = current_database()"))
        .scalar_subquery()
    )
    columns = (view.queryid, view.query, func.sum(view.calls), func.sum(view.total_exec_time), func.sum(view.rows))
    query = select(*columns).where(own).group_by(view.queryid, view.query)
    found = []
    for digest, written, calls, ms, rows in connection.execute(query.order_by(columns[3].desc()).limit(most)):
        if written == HIDDEN:
            return Unsupported("this user may not read other users' statements", "GRANT pg_read_all_stats TO that user")
        print_ = fingerprint(written, POSTGRESQL)
        figures = (int(calls), float(ms) / MS_PER_S, int(rows))
        found.append(ServerStatement(str(digest), print_.id, print_.text, *figures, None, None))
    return found


def _capacity(connection: Connection) -> Capacity:
    """The bound of the server, of the database or of the role: that which is nearest."""
    found = connection.execute(BOUNDS, {"client": "client backend"})
    return min((Capacity(*row) for row in found), key=attrgetter("free"))


DIALECT: Final = Dialect(
    syntax=POSTGRESQL,
    product=_product,
    error_code=_error_code,
    reasons=REASONS,
    explain=explain,
    server_statements=_server_statements,
    capacity=_capacity,
    catalog=catalog,
    sampled=sampled,
    ddl=DDL,
    what_if=open_what_if,
    checks=CHECKS,
)

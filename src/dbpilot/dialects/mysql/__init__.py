"""MariaDB and MySQL."""

from operator import attrgetter
from typing import Final

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from dbpilot.dialects.base import LOCKED, NO_SPACE, NOT_ALLOWED, READ_ONLY, Capacity, Dialect, ServerStatement
from dbpilot.dialects.mysql.catalog import catalog, sampled
from dbpilot.dialects.mysql.checkup import CHECKS
from dbpilot.dialects.mysql.ddl import DDL
from dbpilot.dialects.mysql.explain import explain
from dbpilot.dialects.mysql.scratch import DENIED, number_of
from dbpilot.dialects.mysql.whatif import open_what_if
from dbpilot.sql.fingerprint import fingerprint
from dbpilot.sql.syntax import MYSQL
from dbpilot.unsupported import Unsupported

PICOSECONDS_PER_S: Final = 1e12
DIGESTS: Final = text(
    """SELECT DIGEST, DIGEST_TEXT, COUNT_STAR, SUM_TIMER_WAIT, SUM_ROWS_SENT + SUM_ROWS_AFFECTED, SUM_ROWS_EXAMINED,
    SUM_ERRORS FROM performance_schema.events_statements_summary_by_digest
    WHERE SCHEMA_NAME = DATABASE() AND DIGEST_TEXT IS NOT NULL ORDER BY SUM_TIMER_WAIT DESC LIMIT :most"""
)
LIMITS: Final = text("SELECT @@GLOBAL.max_connections, @@SESSION.max_user_connections")
CONNECTED: Final = text("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
CONNECTED_AS_ME: Final = text(
    "SELECT count(*) FROM information_schema.processlist WHERE user = SUBSTRING_INDEX(CURRENT_USER(), '@', 1)"
)
REASONS: Final = {
    **dict.fromkeys(map(str, DENIED), NOT_ALLOWED),
    **dict.fromkeys(("1290", "1792", "1836"), READ_ONLY),
    **dict.fromkeys(("1021", "1114"), NO_SPACE),
    "1205": LOCKED,
}
CONSUMER: Final = text("SELECT ENABLED FROM performance_schema.setup_consumers WHERE NAME = 'statements_digest'")


def _product(engine: Engine) -> str:
    return "MariaDB" if getattr(engine.dialect, "is_mariadb", False) else "MySQL"


def _error_code(error: BaseException) -> str | None:
    """The drivers put the server's error number first."""
    number = error.args[0] if error.args else None
    return str(number) if isinstance(number, int) else None


def _server_statements(connection: Connection, most: int) -> list[ServerStatement] | Unsupported:
    if not int(connection.execute(text("SELECT @@performance_schema")).scalar_one()):
        return Unsupported(
            "performance_schema is off", "put performance_schema=ON under [mysqld] in my.cnf and restart the server"
        )
    try:
        return _counted(connection, most)
    except DBAPIError as error:
        if number_of(error) not in DENIED:
            raise
        return Unsupported(
            "this user may not read performance_schema", "GRANT SELECT ON performance_schema.* TO that user"
        )


def _counted(connection: Connection, most: int) -> list[ServerStatement] | Unsupported:
    if connection.execute(CONSUMER).scalar() != "YES":
        return Unsupported(
            "the server counts no digests of statements",
            "UPDATE performance_schema.setup_consumers SET ENABLED = 'YES' WHERE NAME = 'statements_digest'",
        )
    found = []
    for digest, written, calls, picoseconds, rows, examined, errors in connection.execute(DIGESTS, {"most": most}):
        print_ = fingerprint(written, MYSQL)
        total_s = float(picoseconds) / PICOSECONDS_PER_S
        figures = (int(calls), total_s, int(rows), int(examined), int(errors))
        found.append(ServerStatement(digest, print_.id, print_.text, *figures))
    return found


def _capacity(connection: Connection) -> Capacity:
    """The server's own bound or the account's, 0 for none; beyond the server's own, administrators have one more."""
    most, most_of_mine = connection.execute(LIMITS).one()
    connected = connection.execute(CONNECTED).one()[1]
    bounds = [Capacity(int(most), 0, int(connected) - 1)]
    if int(most_of_mine):
        bounds.append(Capacity(int(most_of_mine), 0, connection.execute(CONNECTED_AS_ME).scalar_one() - 1))
    return min(bounds, key=attrgetter("free"))


DIALECT: Final = Dialect(
    syntax=MYSQL,
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

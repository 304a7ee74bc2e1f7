"""What may be off on a MariaDB or MySQL server, and in one of its databases."""

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from dbpilot.dialects.checkup import (
    LONG_TRANSACTION_S,
    NEARLY_USED_UP,
    Ailment,
    Check,
    Patient,
    bytes_told,
    skew_ailment,
    some,
    support_ailment,
)
from dbpilot.dialects.mysql.scratch import DENIED, PREFIX, number_of

MARIADB_ENDS: Final[Mapping[tuple[int, int], date]] = {
    (10, 3): date(2023, 5, 25),
    (10, 4): date(2024, 6, 18),
    (10, 5): date(2025, 6, 24),
    (10, 6): date(2026, 7, 6),
    (10, 11): date(2028, 2, 16),
    (11, 4): date(2029, 5, 29),
    (11, 8): date(2030, 6, 4),
}
"""Those that are maintained for long (https://mariadb.org/about/#maintenance-policy); of others nothing is said."""
MYSQL_ENDS: Final[Mapping[tuple[int, int], date]] = {
    (5, 6): date(2021, 2, 5),
    (5, 7): date(2023, 10, 25),
    (8, 0): date(2026, 4, 30),
    (8, 4): date(2032, 4, 30),
}
"""https://endoflife.date/mysql"""
SMALL_POOL: Final = 128 * 2**20
"""What both come with."""
SIGNED_MAX: Final[Mapping[str, int]] = {
    "tinyint": 127,
    "smallint": 32_767,
    "mediumint": 8_388_607,
    "int": 2_147_483_647,
    "bigint": 9_223_372_036_854_775_807,
}
CREATING: Final = frozenset({"INDEX", "ALTER", "CREATE"})
"""An index is made unseen and then shown, which is ALTER; what is done is written into a table."""
CLEANING: Final = frozenset({"SELECT", "INSERT", "DELETE", "CREATE"})
TRYING: Final = ("SELECT", "INSERT", "CREATE", "DROP", "ALTER", "INDEX")
"""Other indexes are tried in a schema of their own."""
STATISTICS: Final = ("SELECT", "INSERT", "DELETE")
STATISTICS_TABLES: Final = ("innodb_table_stats", "innodb_index_stats")

VERSION: Final = text("SELECT @@GLOBAL.version")
CLOCK: Final = text("SELECT unix_timestamp(sysdate(6))")
PERFORMANCE_SCHEMA: Final = text("SELECT @@GLOBAL.performance_schema")
USERSTAT: Final = text("SELECT @@GLOBAL.userstat")
CONSUMER: Final = text("SELECT ENABLED FROM performance_schema.setup_consumers WHERE NAME = 'statements_digest'")
SIZES: Final = text(
    "SELECT @@GLOBAL.innodb_buffer_pool_size, (SELECT sum(data_length + index_length) "
    "FROM information_schema.tables WHERE engine = 'InnoDB' AND table_schema = DATABASE())"
)
SHADOW: Final = f"{PREFIX}00000000_00000000"
OLD_TEXT: Final = text(
    "SELECT DISTINCT table_name FROM information_schema.columns "
    "WHERE table_schema = DATABASE() AND character_set_name IN ('utf8', 'utf8mb3') ORDER BY table_name"
)
DATABASE: Final = text(
    "SELECT schema_name, default_character_set_name FROM information_schema.schemata WHERE schema_name = DATABASE()"
)
MARIADB_TIMEOUT: Final = text("SELECT @@GLOBAL.max_statement_time")
MYSQL_TIMEOUT: Final = text("SELECT @@GLOBAL.max_execution_time")
MODE: Final = text("SELECT @@GLOBAL.sql_mode")
DURABLE: Final = text("SELECT @@GLOBAL.innodb_flush_log_at_trx_commit")
OPEN: Final = text(
    "SELECT trx_mysql_thread_id, trx_state, timestampdiff(SECOND, trx_started, now()) "
    "FROM information_schema.innodb_trx WHERE trx_started < now() - INTERVAL :age SECOND "
    "AND trx_mysql_thread_id NOT IN (0, connection_id()) ORDER BY trx_started LIMIT 20"
)
ENGINES: Final = text(
    "SELECT table_name, engine FROM information_schema.tables WHERE table_schema = DATABASE() "
    "AND table_type = 'BASE TABLE' AND engine IN ('MyISAM', 'Aria', 'MEMORY', 'CSV') ORDER BY table_name"
)
COUNTERS: Final = text(
    "SELECT t.table_name, c.column_name, c.column_type, c.data_type, t.auto_increment FROM information_schema.tables t "
    "JOIN information_schema.columns c ON c.table_schema = t.table_schema AND c.table_name = t.table_name "
    "WHERE t.table_schema = DATABASE() AND c.extra LIKE '%auto_increment%' AND t.auto_increment IS NOT NULL"
)
ALL_RIGHTS: Final = text(
    "SELECT table_schema, NULL, privilege_type FROM information_schema.schema_privileges WHERE grantee = :grantee "
    "UNION ALL SELECT table_schema, table_name, privilege_type FROM information_schema.table_privileges "
    "WHERE grantee = :grantee"
)
ACCOUNT: Final = text("SELECT CURRENT_USER(), CURRENT_ROLE(), DATABASE()")
USERS_RIGHTS: Final = text("SELECT privilege_type FROM information_schema.user_privileges WHERE grantee = :grantee")
DATABASE_RIGHTS: Final = text(
    "SELECT privilege_type FROM information_schema.schema_privileges "
    "WHERE grantee = :grantee AND DATABASE() LIKE table_schema"
)


def _is_mariadb(patient: Patient) -> bool:
    return bool(getattr(patient.connection.dialect, "is_mariadb", False))


def _version(patient: Patient) -> Iterator[Ailment]:
    said = str(patient.ask(VERSION)[0])
    version = said.partition("-")[0]
    major, minor = (int(part) for part in version.split(".")[:2])
    today = patient.clock.now().date()
    if _is_mariadb(patient):
        yield from support_ailment("MariaDB", version, MARIADB_ENDS.get((major, minor)), today, "11.4 or 11.8")
    else:
        yield from support_ailment("MySQL", version, MYSQL_ENDS.get((major, minor)), today, "8.4")


def _clock(patient: Patient) -> Iterator[Ailment]:
    before = patient.clock.now()
    theirs = float(patient.ask(CLOCK)[0])
    yield from skew_ailment(theirs, before.timestamp(), patient.clock.now().timestamp())


def _statements(patient: Patient) -> Iterator[Ailment]:
    why = "load from other programs is not seen, and `dbpilot serve` has nothing to show"
    if not int(patient.ask(PERFORMANCE_SCHEMA)[0]):
        fix = "put performance_schema=ON under [mysqld] in my.cnf, and restart the server"
        yield Ailment("amber", "performance_schema is off", why, fix)
        return
    try:
        counts = patient.connection.execute(CONSUMER).scalar() == "YES"
    except DBAPIError as error:
        if number_of(error) not in DENIED:
            raise
        who = _grantee(patient.ask(ACCOUNT)[0])
        fix = f"GRANT SELECT ON performance_schema.* TO {who};"
        yield Ailment("amber", f"{who} may not read performance_schema", why, fix)
        return
    if not counts:
        fix = "UPDATE performance_schema.setup_consumers SET ENABLED = 'YES' WHERE NAME = 'statements_digest';"
        yield Ailment("amber", "the server counts no digests of statements", why, fix)


def _userstat(patient: Patient) -> Iterator[Ailment]:
    if _is_mariadb(patient) and not int(patient.ask(USERSTAT)[0]):
        yield Ailment(
            "amber",
            "userstat is off",
            "nobody knows which indexes are used, so none is said to be unused",
            "SET GLOBAL userstat = ON; and userstat=ON under [mysqld] in my.cnf, so that it stays",
        )


def _memory(patient: Patient) -> Iterator[Ailment]:
    pool, data = patient.ask(SIZES)
    if pool <= SMALL_POOL and float(data or 0) > pool:
        yield Ailment(
            "amber",
            f"innodb_buffer_pool_size is {bytes_told(pool)}, and this database has {bytes_told(float(data))}",
            "most reads go to the disk",
            "SET GLOBAL innodb_buffer_pool_size = 2147483648; and the same in my.cnf (half of the machine's memory or"
            " more, where nothing else runs)",
        )


def _text(patient: Patient) -> Iterator[Ailment]:
    names = list(patient.connection.scalars(OLD_TEXT))
    fixes = [f"ALTER TABLE {patient.quoted(name)} CONVERT TO CHARACTER SET utf8mb4;" for name in names]
    name, default = patient.ask(DATABASE)
    if default in ("utf8", "utf8mb3"):
        fixes.append(f"ALTER DATABASE {patient.quoted(name)} CHARACTER SET utf8mb4;")
    if fixes:
        which = some(names) or "new tables"
        why = "emoji and rare characters are refused or cut, and joins with utf8mb4 columns use no index"
        yield Ailment("amber", f"texts are stored as utf8mb3 in {which}", why, "\n".join(fixes))


def _timeouts(patient: Patient) -> Iterator[Ailment]:
    is_mariadb = _is_mariadb(patient)
    if not float(patient.ask(MARIADB_TIMEOUT if is_mariadb else MYSQL_TIMEOUT)[0]):
        setting = "max_statement_time = 30" if is_mariadb else "max_execution_time = 30000"
        yield Ailment(
            "amber",
            f"statements have no {setting.split()[0]}",
            "one statement may run, and hold its connection, for hours",
            f'create_engine(url, connect_args={{"init_command": "SET SESSION {setting}"}}), or SET GLOBAL {setting};',
        )


def _driver(patient: Patient) -> Iterator[Ailment]:
    driver = patient.connection.connection.dbapi_connection
    if patient.connection.dialect.driver == "pymysql" and getattr(driver, "_read_timeout", 0) is None:
        yield Ailment(
            "amber",
            "the engine waits for an answer as long as the network lets it",
            "requests hang for minutes when the server's machine is gone",
            "add to the engine's URL: ?connect_timeout=5&read_timeout=60&write_timeout=60",
        )


def _mode(patient: Patient) -> Iterator[Ailment]:
    if "STRICT_" not in str(patient.ask(MODE)[0]):
        yield Ailment(
            "amber",
            "sql_mode is not strict",
            "values that do not fit are cut and stored",
            "SET GLOBAL sql_mode = CONCAT(@@GLOBAL.sql_mode, ',STRICT_TRANS_TABLES'); and the same in my.cnf",
        )


def _durable(patient: Patient) -> Iterator[Ailment]:
    if int(patient.ask(DURABLE)[0]) != 1:
        yield Ailment(
            "note",
            "innodb_flush_log_at_trx_commit is not 1",
            "a power failure takes the last second of what was committed",
            "SET GLOBAL innodb_flush_log_at_trx_commit = 1;",
        )


def _transactions(patient: Patient) -> Iterator[Ailment]:
    for thread, state, age_s in patient.connection.execute(OPEN, {"age": LONG_TRANSACTION_S}):
        what = f"the transaction of connection {thread} is open for {age_s:,} s ({state.lower()})"
        why = "old versions of rows pile up until its end, and its locks are held"
        yield Ailment("amber", what, why, f"KILL {thread};")


def _engines(patient: Patient) -> Iterator[Ailment]:
    found = list(patient.connection.execute(ENGINES))
    if found:
        what = f"not in InnoDB: {some(f'{name} ({engine})' for name, engine in found)}"
        why = "no transactions, no foreign keys, and one writer at a time"
        fixes = "\n".join(f"ALTER TABLE {patient.quoted(name)} ENGINE = InnoDB;" for name, _ in found)
        yield Ailment("amber", what, why, fixes)


def _counters(patient: Patient) -> Iterator[Ailment]:
    for table, column, written, kind, upcoming in patient.connection.execute(COUNTERS):
        most = SIGNED_MAX[kind] * (2 if "unsigned" in written else 1)
        if upcoming > NEARLY_USED_UP * most:
            yield Ailment(
                "red" if upcoming > 0.9 * most else "amber",
                f"{upcoming / most:.0%} of the numbers of {table}.{column} are used up",
                "when they are, nothing can be inserted",
                f"ALTER TABLE {patient.quoted(table)} MODIFY {patient.quoted(column)} bigint unsigned "
                "NOT NULL AUTO_INCREMENT; (and the columns that refer to it)",
            )


def _grantee(account: str) -> str:
    """The account as it is written after TO."""
    user, _, host = account.rpartition("@")
    return f"'{user}'@'{host}'"


def _rights(patient: Patient) -> Iterator[Ailment]:
    account, role, database = patient.ask(ACCOUNT)
    grantee = _grantee(account)
    if role is not None and role != "NONE":  # what roles may do stands elsewhere
        return
    asked = {"grantee": grantee}
    has = {*patient.connection.scalars(USERS_RIGHTS, asked), *patient.connection.scalars(DATABASE_RIGHTS, asked)}
    on = f"ON {patient.quoted(database)}.* TO {grantee};"
    for needed, why in ((CREATING, "indexes are advised, and cannot be made"), (CLEANING, "retention is refused")):
        missing = ", ".join(sorted(needed - has))
        if missing:
            yield Ailment(
                "note", f"{grantee} has no right to {missing} on all of {database}", why, f"GRANT {missing} {on}"
            )
    yield from _advice_rights(patient, grantee)
    if "PROCESS" not in has:
        why = "long transactions, and who waits for whom, are not seen"
        yield Ailment("note", f"{grantee} has no right to PROCESS", why, f"GRANT PROCESS ON *.* TO {grantee};")


def _advice_rights(patient: Patient, grantee: str) -> Iterator[Ailment]:
    """What index advice needs beyond the application's own database."""
    everywhere = set(patient.connection.scalars(USERS_RIGHTS, {"grantee": grantee}))
    granted = [tuple(row) for row in patient.connection.execute(ALL_RIGHTS, {"grantee": grantee})]
    shadow = {right for schema, table, right in granted if table is None and _covers(schema, SHADOW)}
    if not everywhere | shadow >= set(TRYING):
        yield Ailment(
            "note",
            f"{grantee} may not make the schema in which other indexes are tried",
            "no new index is advised, as nothing can be judged",
            rf"GRANT {', '.join(TRYING)} ON `dbpilot\_shadow\_%`.* TO {grantee};",
        )
    fixes = []
    for name in STATISTICS_TABLES:
        its = {right for schema, table, right in granted if schema == "mysql" and table in (None, name)}
        if not everywhere | its >= set(STATISTICS):
            fixes.append(f"GRANT {', '.join(STATISTICS)} ON mysql.{name} TO {grantee};")
    if fixes:
        yield Ailment(
            "note",
            f"{grantee} may not read and write InnoDB's statistics",
            "to judge indexes, whole tables have to be copied, where samples would do",
            "\n".join(fixes),
        )


def _covers(pattern: str, name: str) -> bool:
    """Whether a grant on the schemas of this pattern is one on this schema."""
    parts = re.split(r"(\\.|[%_])", pattern)
    meant = "".join(
        re.escape(part[1:]) if part.startswith("\\") else {"%": ".*", "_": "."}.get(part) or re.escape(part)
        for part in parts
    )
    return re.fullmatch(meant, name) is not None


CHECKS: Final = (
    Check("version", "the server's version is supported", _version),
    Check("clock", "both clocks tell the same time", _clock),
    Check("statements", "the server counts statements", _statements),
    Check("index uses", "the server counts uses of indexes", _userstat),
    Check("memory", "the server's memory is worth its data", _memory),
    Check("texts", "texts hold every character", _text),
    Check("timeouts", "no statement runs for ever", _timeouts),
    Check("driver", "a server that is gone is noticed", _driver),
    Check("strictness", "values that do not fit are refused", _mode),
    Check("durability", "what was committed survives a power failure", _durable),
    Check("engines", "every table has transactions", _engines),
    Check("transactions", "no transaction is open for long", _transactions),
    Check("keys", "keys have numbers left", _counters),
    Check("rights", "this account may do what advice and retention need", _rights),
)

"""What may be off on a PostgreSQL server, and in one of its databases."""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, Final

from sqlalchemy import text

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

ENDS: Final[Mapping[int, date]] = {
    10: date(2022, 11, 10),
    11: date(2023, 11, 9),
    12: date(2024, 11, 21),
    13: date(2025, 11, 13),
    14: date(2026, 11, 12),
    15: date(2027, 11, 11),
    16: date(2028, 11, 9),
    17: date(2029, 11, 8),
    18: date(2030, 11, 14),
}
"""The last release of each version (https://www.postgresql.org/support/versioning/)."""
NEWER: Final = "17 or 18"
SMALL_CACHE: Final = 128 * 2**20
"""What PostgreSQL comes with."""
WRAPAROUND: Final = 1_000_000_000
"""Transactions: half of those that there are; vacuuming should have begun at 200 million."""
KEPT_BYTES: Final = 2**30

VERSION: Final = text("SELECT current_setting('server_version')")
CLOCK: Final = text("SELECT extract(epoch FROM clock_timestamp())")
EXTENSIONS: Final = text(
    "SELECT EXISTS (SELECT FROM pg_settings WHERE name = 'pg_stat_statements.max'), "
    "(SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'), "  # NULL for who may not see it
    "current_setting('server_version_num')::int / 10000, "
    "EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_stat_statements'), "
    "EXISTS (SELECT FROM pg_extension WHERE extname = 'hypopg'), "
    "EXISTS (SELECT FROM pg_available_extensions WHERE name = 'hypopg'), "
    "pg_has_role('pg_read_all_stats', 'USAGE')"
)
SETTINGS: Final = text(
    "SELECT name, setting FROM pg_settings WHERE name IN "
    "('autovacuum', 'fsync', 'full_page_writes', 'track_counts', 'track_activities')"
)
SIZES: Final = text(
    "SELECT (SELECT setting::bigint * 8192 FROM pg_settings WHERE name = 'shared_buffers'), "
    "pg_database_size(current_database())"
)
TIMEOUTS: Final = text(
    "SELECT name, reset_val, current_user FROM pg_settings "
    "WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'lock_timeout') ORDER BY name"
)
OPEN: Final = text(
    "SELECT pid, coalesce(nullif(application_name, ''), 'an unnamed program'), state, "
    "extract(epoch FROM clock_timestamp() - xact_start) FROM pg_stat_activity "
    "WHERE datname = current_database() AND xact_start < clock_timestamp() - make_interval(secs => :age) "
    "AND backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 20"
)
PREPARED: Final = text(
    "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() "
    "AND prepared < clock_timestamp() - make_interval(secs => :age)"
)
AGE: Final = text("SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()")
DEAD: Final = text(
    "SELECT relname, n_dead_tup, n_live_tup FROM pg_stat_user_tables WHERE schemaname = current_schema() "
    "AND n_dead_tup > 10000 AND n_dead_tup > 0.2 * n_live_tup ORDER BY n_dead_tup DESC LIMIT 10"
)
SEQUENCES: Final = text(
    "SELECT sequencename, last_value / max_value::float FROM pg_sequences WHERE schemaname = current_schema() "
    "AND last_value > :share * max_value AND NOT cycle ORDER BY 2 DESC LIMIT 10"
)
SLOTS: Final = text(
    "SELECT slot_name, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) FROM pg_replication_slots "
    "WHERE NOT active AND NOT pg_is_in_recovery() AND pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) > :bytes"
)
RIGHTS: Final = text(
    "SELECT current_user, current_schema(), has_schema_privilege(current_schema(), 'CREATE'), "
    "array_agg(name ORDER BY name) FILTER (WHERE NOT owns), array_agg(name ORDER BY name) FILTER (WHERE NOT deletes) "
    "FROM (SELECT relname::text AS name, pg_has_role(relowner, 'USAGE') AS owns, "
    "has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'DELETE') AS deletes FROM pg_class "
    "WHERE relnamespace = to_regnamespace(quote_ident(current_schema())) AND relkind IN ('r', 'p')) AS tables"
)
COLLATIONS: Final = text(
    "SELECT datcollversion, pg_database_collation_actual_version(oid), datname FROM pg_database "
    "WHERE datname = current_database()"
)


def _version(patient: Patient) -> Iterator[Ailment]:
    version = str(patient.ask(VERSION)[0]).split()[0]
    ends = ENDS.get(int(version.partition(".")[0]))
    yield from support_ailment("PostgreSQL", version, ends, patient.clock.now().date(), NEWER)


def _clock(patient: Patient) -> Iterator[Ailment]:
    before = patient.clock.now()
    theirs = float(patient.ask(CLOCK)[0])
    yield from skew_ailment(theirs, before.timestamp(), patient.clock.now().timestamp())


def _statements(patient: Patient) -> Iterator[Ailment]:
    is_loaded, libraries, _, made, _, _, may_read = patient.ask(EXTENSIONS)
    why = "load from other programs is not seen, and `dbpilot serve` has nothing to show"
    if not is_loaded:
        fix = f"{_preloading(libraries)}; restart the server; CREATE EXTENSION pg_stat_statements;"
        yield Ailment("amber", "pg_stat_statements is not loaded", why, fix)
    elif not made:
        fix = "CREATE EXTENSION pg_stat_statements;"
        yield Ailment("amber", "pg_stat_statements is not installed in this database", why, fix)
    elif not may_read:
        user = patient.quoted(patient.ask(RIGHTS)[0])
        fix = f"GRANT pg_read_all_stats TO {user};"
        yield Ailment("amber", f"{user} may not read the statements of other users", why, fix)


def _preloading(libraries: str | None) -> str:
    """How pg_stat_statements comes to the libraries that are loaded already; None where they are not known."""
    if libraries is None:
        return "add pg_stat_statements to shared_preload_libraries in postgresql.conf"
    return f"ALTER SYSTEM SET shared_preload_libraries = {', '.join(filter(None, [libraries, 'pg_stat_statements']))}"


def _hypopg(patient: Patient) -> Iterator[Ailment]:
    _, _, major, _, made, available, _ = patient.ask(EXTENSIONS)
    if not made:
        install = "" if available else f"apt-get install postgresql-{major}-hypopg, then in this database: "
        yield Ailment(
            "amber",
            "HypoPG is not installed in this database",
            "advice on indexes rests on copies of the statistics, or on a model, rather than on the optimizer's answer",
            f"{install}CREATE EXTENSION hypopg;",
        )


def _settings(patient: Patient) -> Iterator[Ailment]:
    off = {name for name, value in patient.connection.execute(SETTINGS) if value == "off"}
    harm = {
        "autovacuum": "tables only grow, statistics grow old, and in the end the server refuses to write",
        "fsync": "a power failure may destroy the database",
        "full_page_writes": "a power failure may destroy the database",
        "track_counts": "nobody knows which indexes are used, and autovacuum does not run",
        "track_activities": "nobody sees what runs",
    }
    for name in sorted(off):
        fix = f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();"
        yield Ailment("red" if name != "track_activities" else "amber", f"{name} is off", harm[name], fix)


def _memory(patient: Patient) -> Iterator[Ailment]:
    cache, size = patient.ask(SIZES)
    if cache <= SMALL_CACHE and size > 4 * cache:
        yield Ailment(
            "amber",
            f"shared_buffers is {bytes_told(cache)}, and this database has {bytes_told(size)}",
            "most reads leave the server's own memory",
            "ALTER SYSTEM SET shared_buffers = '2GB'; restart the server (a quarter of the machine's memory is usual)",
        )


def _timeouts(patient: Patient) -> Iterator[Ailment]:
    harm = {
        "statement_timeout": ("30s", "one statement may run, and hold its connection, for hours"),
        "idle_in_transaction_session_timeout": ("60s", "a program that hangs in a transaction holds locks for ever"),
        "lock_timeout": ("10s", "statements queue behind a lock for as long as somebody holds it"),
    }
    for name, value, user in patient.connection.execute(TIMEOUTS):
        if value == "0":
            sensible, why = harm[name]
            severity = "note" if name == "lock_timeout" else "amber"
            fix = f"ALTER ROLE {patient.quoted(user)} SET {name} = '{sensible}';"
            yield Ailment(severity, f"connections of {user} have no {name}", why, fix)  # type: ignore[arg-type]  # one of Severity


def _driver(patient: Patient) -> Iterator[Ailment]:
    info: Any = getattr(patient.connection.connection.dbapi_connection, "info", None)
    told = info.get_parameters() if hasattr(info, "get_parameters") else None  # psycopg's
    if told is not None and "connect_timeout" not in told:
        yield Ailment(
            "amber",
            "the engine waits for a connection as long as the network lets it",
            "requests hang for minutes when the server's machine is gone",
            "add to the engine's URL: ?connect_timeout=5&tcp_user_timeout=30000",
        )


def _transactions(patient: Patient) -> Iterator[Ailment]:
    why = "no old row of any table is cleaned up before its end, and its locks are held"
    for pid, program, state, age_s in patient.connection.execute(OPEN, {"age": LONG_TRANSACTION_S}):
        what = f"a transaction of {program} is open for {float(age_s):,.0f} s ({state})"
        yield Ailment("amber", what, why, f"SELECT pg_terminate_backend({pid});")
    for (gid,) in patient.connection.execute(PREPARED, {"age": LONG_TRANSACTION_S}):
        literal = "'" + gid.replace("'", "''") + "'"
        yield Ailment("red", f"a prepared transaction, {gid}, was forgotten", why, f"ROLLBACK PREPARED {literal};")


def _vacuum(patient: Patient) -> Iterator[Ailment]:
    age = patient.ask(AGE)[0]
    if age > WRAPAROUND:
        yield Ailment(
            "red", f"{age:,} transactions have not been vacuumed", "the server will refuse to write", "VACUUM;"
        )
    for name, dead, live in patient.connection.execute(DEAD):
        table = patient.quoted(name)
        what = f"{table} has {dead:,} dead rows beside {live:,} live ones"
        yield Ailment("amber", what, "they are read, and take room", f"VACUUM (ANALYZE) {table};")


def _sequences(patient: Patient) -> Iterator[Ailment]:
    for name, share in patient.connection.execute(SEQUENCES, {"share": NEARLY_USED_UP}):
        yield Ailment(
            "red" if share > 0.9 else "amber",
            f"{share:.0%} of the numbers of {name} are used up",
            "when they are, nothing can be inserted",
            f"ALTER SEQUENCE {patient.quoted(name)} AS bigint; and its column: ALTER TABLE ... ALTER ... TYPE bigint;",
        )


def _slots(patient: Patient) -> Iterator[Ailment]:
    for name, kept in patient.connection.execute(SLOTS, {"bytes": KEPT_BYTES}):
        literal = "'" + name.replace("'", "''") + "'"
        what = f"the replication slot {name} has no reader, and keeps {bytes_told(float(kept))} of the log"
        yield Ailment("red", what, "the disk fills up", f"SELECT pg_drop_replication_slot({literal});")


def _rights(patient: Patient) -> Iterator[Ailment]:
    name, schema, creates, not_owned, not_deleted = patient.ask(RIGHTS)
    user, where = patient.quoted(name), patient.quoted(schema or "public")
    if not creates or not_owned:
        which = f"owns not: {some(not_owned)}" if not_owned else f"may create nothing in {where}"
        yield Ailment(
            "note",
            f"{user} {which}",
            "indexes are advised, and cannot be made by dbpilot",
            f"name an owner of the tables in --url, or: GRANT CREATE ON SCHEMA {where} TO {user};",
        )
    if not_deleted:
        yield Ailment(
            "note",
            f"{user} may not read and delete in {some(not_deleted)}",
            "rules of retention on these tables are refused",
            f"GRANT SELECT, DELETE ON {', '.join(map(patient.quoted, not_deleted))} TO {user};",
        )


def _collation(patient: Patient) -> Iterator[Ailment]:
    if patient.version < (15,):
        return
    made_with, actual, name = patient.ask(COLLATIONS)
    if made_with is not None and actual is not None and made_with != actual:
        database = patient.quoted(name)
        yield Ailment(
            "red",
            f"texts were sorted by version {made_with} of the collation, and are compared by {actual} now",
            "indexes on texts may miss rows, and unique ones let duplicates in",
            f"REINDEX DATABASE {database}; ALTER DATABASE {database} REFRESH COLLATION VERSION;",
        )


CHECKS: Final = (
    Check("version", "the server's version is supported", _version),
    Check("settings", "the server keeps itself, and what is written, safe", _settings),
    Check("clock", "both clocks tell the same time", _clock),
    Check("statements", "the server counts statements", _statements),
    Check("what-if", "the optimizer can be asked about indexes that are not there", _hypopg),
    Check("memory", "the server's memory is worth its data", _memory),
    Check("timeouts", "no statement and no transaction waits for ever", _timeouts),
    Check("driver", "a server that is gone is noticed", _driver),
    Check("transactions", "no transaction is open for long", _transactions),
    Check("vacuum", "dead rows are cleaned up", _vacuum),
    Check("keys", "keys have numbers left", _sequences),
    Check("replication", "no replication slot keeps the log for nobody", _slots),
    Check("collation", "texts are sorted as their indexes were made", _collation),
    Check("rights", "this account may do what advice and retention need", _rights),
)

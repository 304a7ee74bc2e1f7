"""What is off with a database, with what dbpilot knows of it, and with the history: each with the fix to paste."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import Engine
from sqlalchemy.engine import Dialect as SqlDialect
from sqlalchemy.exc import SQLAlchemyError

from dbpilot.clock import Clock
from dbpilot.dialects import Dialect
from dbpilot.dialects.base import Capacity, Identity
from dbpilot.dialects.catalog import MIN_ROWS, Catalog, Table
from dbpilot.dialects.checkup import Ailment, Check, Patient, some
from dbpilot.dialects.connections import OwnConnections
from dbpilot.errors import StoreError, WatchedDatabaseError
from dbpilot.history.sql_store import place
from dbpilot.unsupported import Unsupported

ANSWER_S: Final = 10.0
NEARLY_FULL: Final = 0.85
"""The share of the server's connections in use from which on a small rush finds none."""

State = Literal["ok", "red", "amber", "note", "unknown"]

ORDER: Final[tuple[State, ...]] = ("red", "amber", "unknown", "note", "ok")
"""What is unknown is better than what should be done, and worse than all else."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What was looked at, and what came out."""

    check: str
    hope: str
    """In a sentence: what is true where all is well."""
    state: State
    found: tuple[Ailment, ...] = ()
    reason: str | None = None
    """Why it is unknown."""


@dataclass(frozen=True, slots=True)
class Checkup:
    """All that was looked at, what is worst first."""

    at: datetime
    database: Identity
    place: str
    checks: tuple[Examined, ...]

    @property
    def findings(self) -> tuple[Ailment, ...]:
        """What asks for somebody; notes do not."""
        return tuple(one for check in self.checks for one in check.found if one.severity != "note")

    @property
    def state(self) -> State:
        """The worst of all."""
        return worst(one.state for one in self.checks)


def worst(states: Iterable[State]) -> State:
    """The worst of these."""
    return min(states, key=ORDER.index, default="ok")


def checkup(
    engine: Engine,
    dialect: Dialect,
    own: OwnConnections,
    clock: Clock,
    history: Callable[[], Iterable[Ailment]] | None = None,
) -> Checkup:
    """The database was looked at through connections of our own, and nothing in it was changed; ``history`` tells what
    is off with that, and may raise a StoreError."""
    try:
        found = own.run(lambda connection: _through(Patient(connection, clock), dialect), ANSWER_S)
    except WatchedDatabaseError as error:
        found = [Examined("connection", "the database can be reached", "red", (_unreachable(str(error)),))]
    if isinstance(found, Unsupported):
        found = [Examined("connection", "the database can be looked at", "unknown", (), f"{found.reason}: {found.fix}")]
    checks = [*found, *([] if history is None else [_history(history)])]
    ranked = sorted(checks, key=lambda one: ORDER.index(one.state))
    return Checkup(clock.now(), dialect.identity(engine), place(engine.url), tuple(ranked))


def _unreachable(said: str) -> Ailment:
    fix = "is it running, and are its address, user and password right?"
    return Ailment("red", f"the database cannot be reached ({said})", "nothing can be asked or stored", fix)


def _history(ask: Callable[[], Iterable[Ailment]]) -> Examined:
    try:
        return _examined("history", "what is seen is remembered", ask())
    except StoreError as error:
        what = Ailment("red", str(error), "what is seen is lost when the process ends", "set DBPILOT_HISTORY__URL")
        return _examined("history", "what is seen is remembered", [what])


def history_ailments(lost: int, dropped: int, error: str | None) -> list[Ailment]:
    """What is said of a pilot that could not remember everything."""
    found = []
    if error is not None:
        fix = "see that DBPILOT_HISTORY__URL names a database that is there and may be written"
        found.append(Ailment("red", error, "what is seen waits in memory, for an hour at most", fix))
    if lost:
        why = "the figures of that time are too low"
        found.append(Ailment("amber", f"{lost} windows never reached the history", why, "give it a faster database"))
    if dropped:
        why = "the figures are too low"
        fix = "raise DBPILOT_QUERIES__MAX_PENDING, or spread the load over more processes"
        found.append(Ailment("amber", f"{dropped:,} statements came faster than they were counted", why, fix))
    return found


def _through(patient: Patient, dialect: Dialect) -> list[Examined]:
    catalog_checks = _catalog_checks(dialect)
    return [_looked(check, patient) for check in (*dialect.checks, *_server_checks(dialect), *catalog_checks)]


def _looked(check: Check, patient: Patient) -> Examined:
    """What one check found; one that fails takes no other along."""
    try:
        with patient.connection.begin_nested():
            return _examined(check.name, check.hope, tuple(check.look(patient)))
    except SQLAlchemyError as error:
        original = getattr(error, "orig", None) or error
        reason = f"this account may not ask, or the server does not know the question ({type(original).__name__})"
        return Examined(check.name, check.hope, "unknown", (), reason)


def _examined(name: str, hope: str, found: Iterable[Ailment]) -> Examined:
    ranked = tuple(sorted(found, key=lambda one: ORDER.index(one.severity)))
    return Examined(name, hope, worst(one.severity for one in ranked), ranked)


def _server_checks(dialect: Dialect) -> Sequence[Check]:
    capacity = dialect.capacity
    if isinstance(capacity, Unsupported):
        return ()

    def look(patient: Patient) -> Iterator[Ailment]:
        room = capacity(patient.connection)
        return full_connections(room) if isinstance(room, Capacity) else iter(())

    return (Check("connections", "the server has connections left", look),)


def full_connections(room: Capacity) -> Iterator[Ailment]:
    """What is said when hardly any connection is left."""
    usable = room.max_connections - room.reserved
    if usable and room.in_use >= NEARLY_FULL * usable:
        yield Ailment(
            "red",
            f"{room.in_use} of the {usable} connections that this account may have are in use",
            "the next ones are refused",
            "close what is idle, bound the pools (DBPILOT_POOL__MODE=adaptive shares what there is), or raise "
            "max_connections",
        )


def _catalog_checks(dialect: Dialect) -> Sequence[Check]:
    read: list[Catalog] = []

    def of(question: Callable[[Catalog, SqlDialect], Iterable[Ailment]]) -> Callable[[Patient], Iterable[Ailment]]:
        def look(patient: Patient) -> Iterable[Ailment]:
            if not read:
                read.append(dialect.catalog(patient.connection))
            return question(read[0], patient.connection.dialect)

        return look

    return (
        Check("primary keys", "every table has a primary key", of(without_key)),
        Check("statistics", "the optimizer knows what is in the tables", of(without_statistics)),
        Check("indexes", "no index is broken", of(broken_indexes)),
    )


def without_key(catalog: Catalog, dialect: SqlDialect) -> Iterator[Ailment]:
    """Tables whose rows nothing tells apart; SQLite's rows have a number anyway."""
    if catalog.dialect == "sqlite":
        return
    names = [table.name for table in catalog.tables.values() if not table.primary_key]
    for name in names:
        quoted = dialect.identifier_preparer.quote(name)
        kind = "bigint GENERATED ALWAYS AS IDENTITY" if catalog.dialect == "postgresql" else "bigint AUTO_INCREMENT"
        yield Ailment(
            "amber",
            f"{name} has no primary key",
            "its rows cannot be archived, and are replicated and changed slowly",
            f"ALTER TABLE {quoted} ADD PRIMARY KEY (...); or, where no column tells rows apart: "
            f"ALTER TABLE {quoted} ADD COLUMN id {kind} PRIMARY KEY;",
        )


def without_statistics(catalog: Catalog, dialect: SqlDialect) -> Iterator[Ailment]:
    """Tables of some size about which the optimizer has to guess."""
    names = [table.name for table in catalog.tables.values() if not table.analyzed and table.rows >= MIN_ROWS]
    if names:
        quoted = map(dialect.identifier_preparer.quote, names)
        verb = "ANALYZE TABLE" if catalog.dialect in ("mysql", "mariadb") else "ANALYZE"
        why = "the optimizer guesses, and may choose a bad plan"
        fix = "\n".join(f"{verb} {name};" for name in quoted)
        yield Ailment("amber", f"no statistics were ever collected of {some(names)}", why, fix)


def broken_indexes(catalog: Catalog, dialect: SqlDialect) -> Iterator[Ailment]:
    """Indexes whose build failed."""
    for table in catalog.tables.values():
        yield from (_broken(table, index.name, dialect) for index in table.indexes if not index.valid)


def _broken(table: Table, name: str, dialect: SqlDialect) -> Ailment:
    return Ailment(
        "red",
        f"the index {name} of {table.name} is not valid: its build failed, or goes on",
        "it is written with every row, and serves no question",
        f"REINDEX INDEX CONCURRENTLY {dialect.identifier_preparer.quote(name)};",
    )

"""MariaDB's and MySQL's what-if: the server's own optimizer is asked about a shadow that has the indexes.

Neither server knows hypothetical indexes. In the shadow all of them are real, on a sample of the rows; those that are
not asked about are ruled out where the statement names the table, which costs nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from dbpilot.dialects.catalog import Catalog
from dbpilot.dialects.mysql.answer import Names, Planned, planned
from dbpilot.dialects.mysql.explain import EXPLAIN, read
from dbpilot.dialects.mysql.scratch import scratch_schema
from dbpilot.dialects.mysql.shadow import LOCK_WAIT_S, Copy, Copying, Shadow
from dbpilot.dialects.mysql.size import built_bytes
from dbpilot.dialects.mysql.statement import Statement
from dbpilot.dialects.mysql.statement import read as read_statement
from dbpilot.dialects.whatif import Cost, Grade, NewIndex, Query, WhatIf
from dbpilot.errors import RefusedError, WatchedDatabaseError
from dbpilot.unsupported import Unsupported

TRACE_BYTES: Final = 64_000_000
MARGIN: Final = 1.25
"""A plan by what was counted in a sample is kept if it is not worse by more than this: the count is rough, and an index
that is kept wrongly is found out when it is measured, one that is left out wrongly is not."""
TRACE: Final = text("SELECT TRACE, MISSING_BYTES_BEYOND_MAX_MEM_SIZE FROM information_schema.OPTIMIZER_TRACE")
UNREADABLE: Final = Unsupported(
    "what the server tells of its plan cannot be read: it is too long, or no JSON",
    "ask about a statement of fewer tables, or with other values",
)
SETTINGS: Final = (
    f"lock_wait_timeout = {LOCK_WAIT_S}",
    f"innodb_lock_wait_timeout = {LOCK_WAIT_S}",
    "unique_checks = 0",
    "foreign_key_checks = 0",
    "optimizer_trace = 'enabled=on'",
    f"optimizer_trace_max_mem_size = {TRACE_BYTES}",
)
MARIADB_SETTINGS: Final = ("check_constraint_checks = 0", "optimizer_switch = 'subquery_cache=on'")
"""A cache is how MariaDB shows which subqueries are answered anew for every row."""


@contextmanager
def open_what_if(engine: Engine, catalog: Catalog, copying: Copying | None = None) -> Iterator[WhatIf]:
    """The optimizer can be asked until the block ends; see :class:`OpensWhatIf`. ``copying`` bounds what is read."""
    how = copying or Copying()
    with ExitStack() as stack:
        with _translated():
            connection = stack.enter_context(engine.connect().execution_options(isolation_level="AUTOCOMMIT"))
            connection.detach()  # its settings are nobody else's, and the lock goes when it is closed
            schema = catalog.schema or str(connection.execute(text("SELECT DATABASE()")).scalar_one())
            is_replicated = _set_up(connection, how)
            name = stack.enter_context(scratch_schema(connection, how.left_behind_s))
            shadow = Shadow(connection, schema, name, how)
            connection.exec_driver_sql(f"USE {shadow.quote(shadow.name)}").close()
        yield ShadowIndexes(connection, catalog, schema, shadow, how, is_replicated=is_replicated)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        raise WatchedDatabaseError(f"the watched database: {_kind(error)}") from None


def _kind(error: BaseException) -> str:
    """The error's class and number, never its words, which repeat values."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    number = original.args[0] if original.args and isinstance(original.args[0], int) else None
    return " ".join(str(part) for part in (type(original).__name__, number) if part)


def _set_up(connection: Connection, how: Copying) -> bool:
    """The connection is as a what-if wants it; returns whether replicas see the shadow.

    Raises:
        RefusedError: a cluster would be held up.
    """
    is_mariadb = bool(getattr(connection.dialect, "is_mariadb", False))
    # So that to copy rows takes no lock on the application's.
    connection.execute(text("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"))
    limit = "max_statement_time = :s" if is_mariadb else "max_execution_time = :ms"
    bound = text(f"SET SESSION {limit}")
    values = {"s": how.statement_s, "ms": round(how.statement_s * 1000)}
    connection.execute(bound, {name: values[name] for name in bound.compile().params})
    for setting in (*SETTINGS, *(MARIADB_SETTINGS if is_mariadb else ())):
        connection.execute(text(f"SET SESSION {setting}"))
    if connection.execute(text("SHOW VARIABLES LIKE 'wsrep_on'")).one_or_none() == ("wsrep_on", "ON"):
        _leave_cluster(connection)
    return bool(connection.execute(text("SELECT @@log_bin")).scalar_one()) and not _is_set(
        connection, "sql_log_bin = 0"
    )


def _leave_cluster(connection: Connection) -> None:
    if not _is_set(connection, "wsrep_on = 0"):
        raise RefusedError(
            "a Galera cluster would make the shadow on all servers, and wait for all of them: give the user the right "
            "to SET SESSION wsrep_on, or ask an asynchronous replica"
        )


def _is_set(connection: Connection, setting: str) -> bool:
    """Whether this user may set that."""
    try:
        connection.execute(text(f"SET SESSION {setting}"))
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return False
    return True


@dataclass(slots=True)
class _Asked:
    """A statement, and what was found out about it."""

    parameters: Any = field(repr=False)
    """Those that it was given with."""
    statement: Statement
    plans: dict[tuple[Names, Names], Planned | Unsupported] = field(default_factory=dict)
    """By the new indexes that it could use, and the present ones that it could not."""


class ShadowIndexes:
    """The optimizer of MariaDB or MySQL, asked about a shadow."""

    grade: Grade = "what-if"

    def __init__(
        self,
        connection: Connection,
        catalog: Catalog,
        schema: str,
        shadow: Shadow,
        how: Copying,
        *,
        is_replicated: bool,
    ) -> None:
        self._connection = connection
        self._catalog = catalog
        self._schema = schema
        self._shadow = shadow
        self._known: dict[str, _Asked] = {}
        self.calls = 0
        self.method = _method(shadow, how, is_replicated=is_replicated)

    def cost(self, query: Query, indexes: Iterable[NewIndex] = (), without: Iterable[str] = ()) -> Cost | Unsupported:
        """What the statement would cost; see :meth:`WhatIf.cost`."""
        if self._connection.invalidated or self._connection.closed:
            raise WatchedDatabaseError("the watched database: the connection of the what-if was lost; open another")
        asked = self._known_or_read(query)
        if isinstance(asked, Unsupported):
            return asked
        with _translated():
            copies = self._copies(asked.statement)
            if isinstance(copies, Unsupported):
                return copies
            wanted = [index for index in indexes if self._shadow.folded(index.table) in copies]
            return self._built(copies, wanted) or self._answered(asked, copies, wanted, frozenset(without))

    def _known_or_read(self, query: Query) -> _Asked | Unsupported:
        """What is known of the statement with these very values."""
        found = self._known.get(query.statement)
        if found is None or found.parameters is not query.parameters:
            statement = read_statement(query.statement, query.parameters, self._schema)
            if isinstance(statement, Unsupported):
                return statement
            found = self._known[query.statement] = _Asked(query.parameters, statement)
        return found

    def _copies(self, statement: Statement) -> Mapping[str, Copy] | Unsupported:
        """What there is in the shadow of the tables that the statement names, by the names that it gives them."""
        copies: dict[str, Copy] = {}
        for place in statement.places:
            copy = self._shadow.copy(place.table)
            if isinstance(copy, Unsupported):
                return copy
            copies[copy.name] = copy
            named = {column: value for (of, column), value in statement.fixed.items() if of in ("", place.alias)}
            self._shadow.fetch(copy, named)
        return copies

    def _built(self, copies: Mapping[str, Copy], wanted: Iterable[NewIndex]) -> Unsupported | None:
        """The shadow has all these indexes; otherwise, why it cannot."""
        for table, copy in copies.items():
            refused = self._shadow.build(
                copy, sorted((one for one in wanted if self._shadow.folded(one.table) == table), key=repr)
            )
            if refused is not None:
                return refused
        return None

    def _answered(
        self, asked: _Asked, copies: Mapping[str, Copy], wanted: Iterable[NewIndex], without: Names
    ) -> Cost | Unsupported:
        visible = frozenset(self._name(copies, index) for index in wanted)
        found = self._best(asked, copies, visible, without)
        if isinstance(found, Unsupported) or found.used or not visible:
            return found
        # That an index tells the optimizer of values is no merit of it where it is not read.
        plain = self._best(asked, copies, frozenset(), without)
        return plain if isinstance(plain, Unsupported) else replace(found, total=plain.total)

    def _name(self, copies: Mapping[str, Copy], index: NewIndex) -> str:
        copy = copies[self._shadow.folded(index.table)]
        return f"{copy.name}.{copy.built[index]}"

    def _best(self, asked: _Asked, copies: Mapping[str, Copy], visible: Names, without: Names) -> Cost | Unsupported:
        """The plan that the optimizer would choose if it knew how many rows there are in the whole tables."""
        key = visible, without
        if key not in asked.plans:
            asked.plans[key] = self._plan(asked.statement, copies, visible, without)
        found = asked.plans[key]
        if isinstance(found, Unsupported):
            return found
        if not found.doubtful:
            return found.cost
        other = self._best(asked, copies, visible - found.doubtful, without | (found.doubtful - visible))
        return found.cost if isinstance(other, Unsupported) or found.cost.total <= MARGIN * other.total else other

    def _plan(
        self, statement: Statement, copies: Mapping[str, Copy], visible: Names, without: Names
    ) -> Planned | Unsupported:
        def ruled_out(table: str) -> list[str]:
            copy = copies[self._shadow.folded(table)]
            new = [name for name in copy.built.values() if f"{copy.name}.{name}" not in visible]
            return new + [name for name in copy.present if f"{copy.name}.{name}" in without]

        said = statement.asked(self._shadow.name, ruled_out, self._shadow.quote)
        meant: dict[str, list[Copy]] = {}
        for place in statement.places:
            meant.setdefault(place.alias, []).append(copies[self._shadow.folded(place.table)])
        try:
            return planned(meant, *self._explained(said, statement.parameters), statement.most_rows)
        except (ValueError, LookupError, TypeError):  # nobody promises the form of a trace
            return UNREADABLE
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            return Unsupported(
                f"the server does not plan it ({_kind(error)})", "ask about it as the application sends it, with values"
            )

    def _explained(self, said: str, parameters: Any) -> tuple[Mapping[str, Any], str]:
        """The plan, and the trace of how it was found, which the next statement overwrites.

        Raises:
            ValueError: the server does not tell all of it.
        """
        self.calls += 1
        plain = {"no_parameters": True} if parameters is None else {}
        answer = self._connection.exec_driver_sql(EXPLAIN + said, parameters, execution_options=plain).scalar_one()
        trace, missing = self._connection.execute(TRACE).one_or_none() or ("", 0)
        if missing:
            raise ValueError
        return read(answer), trace

    def size_bytes(self, index: NewIndex) -> float:
        """How large the index would be, freshly built."""
        table = self._catalog.tables[index.table]
        with _translated():
            copy = self._shadow.copy(index.table)
            measured = {} if isinstance(copy, Unsupported) else self._shadow.measured(copy)
        return built_bytes(index, table, measured)


def _method(shadow: Shadow, how: Copying, *, is_replicated: bool) -> str:
    rows = how.rows if shadow.writes_statistics else how.rows_without_statistics
    said = [f"the server's own optimizer, asked about copies of the tables, of up to {rows:,} rows each"]
    if shadow.writes_statistics:
        said.append("with the statistics of the whole tables")
    else:
        said.append(
            "with statistics of the copies alone, for this user may not SELECT, INSERT and DELETE in "
            "mysql.innodb_table_stats and mysql.innodb_index_stats"
        )
    if is_replicated:
        said.append("which replicas make, too, for this user may not SET sql_log_bin")
    return ", ".join(said)

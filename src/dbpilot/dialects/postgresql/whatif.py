"""PostgreSQL's what-if: the server's own optimizer is asked, about indexes that are not there.

With the extension HypoPG they are the connection's own: nothing is written, no other session sees them, and they end
with it. Without it, a temporary copy of a part of each table stands in, see :mod:`dbpilot.dialects.postgresql.shadow`.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, text
from sqlalchemy.dialects.postgresql import ARRAY, OID
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex
from sqlalchemy.sql.functions import Function

from dbpilot.dialects.catalog import Catalog
from dbpilot.dialects.ddl import index_of, written
from dbpilot.dialects.plan import PlanNode
from dbpilot.dialects.postgresql.asking import Optimizer, kind, raise_if_lost, translated
from dbpilot.dialects.postgresql.explain import indexes_in, plan_in, renamed
from dbpilot.dialects.postgresql.shadow import open_shadow
from dbpilot.dialects.postgresql.size import IndexSizes
from dbpilot.dialects.whatif import Cost, Grade, NewIndex, Query, WhatIf
from dbpilot.unsupported import Unsupported

EXTENSION: Final = "hypopg"
FOUND: Final = text(
    """SELECT n.nspname, EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = n.oid AND p.proname = 'hypopg_hide_index')
    FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = :name"""
)
OFFERED: Final = text("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = :name)")
OID_OF: Final = text(
    """SELECT c.oid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = t.relnamespace
    WHERE n.nspname = coalesce(:schema, current_schema()) AND t.relname = :table AND c.relname = :name"""
)


@contextmanager
def open_what_if(engine: Engine, catalog: Catalog) -> Iterator[WhatIf]:
    """The optimizer can be asked until the block ends, on one connection of its own; see :class:`OpensWhatIf`."""
    with translated():
        plain = engine.connect()
    try:
        with translated():
            connection = plain.execution_options(isolation_level="AUTOCOMMIT")
            connection.detach()  # whatever pool it is from, nobody is given it with these settings
            what_if = _best(connection, catalog)
        yield what_if
    finally:
        with suppress(SQLAlchemyError, OSError):  # what is lost is closed
            plain.close()


def _best(connection: Connection, catalog: Catalog) -> WhatIf:
    optimizer = Optimizer(connection)
    extension = connection.execute(FOUND, {"name": EXTENSION}).one_or_none()
    if extension is None:
        return open_shadow(optimizer, catalog, _how_to_get_it(connection))
    return HypotheticalIndexes(optimizer, catalog, extension[0], hides=extension[1])


def _how_to_get_it(connection: Connection) -> str:
    create = f"CREATE EXTENSION {EXTENSION} in this database, as a superuser"
    if connection.execute(OFFERED, {"name": EXTENSION}).scalar_one():
        return create
    major = (connection.dialect.server_version_info or ("",))[0]
    return f"install HypoPG on the server (package postgresql-{major}-{EXTENSION}, no restart), then {create}"


class HypotheticalIndexes:
    """PostgreSQL's optimizer, told of indexes that are not there."""

    grade: Grade = "what-if"
    method = "PostgreSQL's own optimizer, asked about hypothetical indexes (HypoPG); its costs, not times"

    def __init__(self, optimizer: Optimizer, catalog: Catalog, schema: str, *, hides: bool) -> None:
        self._optimizer = optimizer
        self._connection = optimizer.connection
        self._catalog = catalog
        self._extension_schema = schema
        self._hides = hides
        self._shown: dict[NewIndex, tuple[int, str]] = {}
        """Their numbers and names in the server."""
        self._definitions: dict[NewIndex, str] = {}
        self._impossible: dict[NewIndex, Unsupported] = {}
        self._hidden: set[str] = set()
        self._sizes = IndexSizes(optimizer.connection, catalog)
        self.calls = 0
        optimizer.set("default_transaction_read_only", "on")

    def cost(self, query: Query, indexes: Iterable[NewIndex] = (), without: Iterable[str] = ()) -> Cost | Unsupported:
        """What the statement would cost; see :meth:`WhatIf.cost`."""
        self._optimizer.check()
        with translated():
            refused = self._show(indexes) or self._hide(frozenset(without))
        answer = refused or self._optimizer.plan(query)
        self.calls = self._optimizer.calls
        return answer if isinstance(answer, Unsupported) else self._cost_of(plan_in(answer))

    def size_bytes(self, index: NewIndex) -> float:
        """How large the index would be, freshly built; see :mod:`dbpilot.dialects.postgresql.btree`."""
        self._optimizer.check()
        with translated():
            return self._sizes.of(index)

    def _show(self, indexes: Iterable[NewIndex]) -> Unsupported | None:
        """Why these cannot be shown; None when they are, and no others."""
        wanted = dict.fromkeys(indexes)
        gone = [self._shown.pop(index)[0] for index in list(self._shown) if index not in wanted]
        if gone:
            numbers = sa.func.unnest(sa.cast(gone, ARRAY(OID))).column_valued("number")
            self._connection.execute(sa.select(self._function("hypopg_drop_index", numbers)))
        missing = [index for index in wanted if index not in self._shown]
        refused = next((self._impossible[index] for index in missing if index in self._impossible), None)
        return refused or (self._create(missing) if missing else None)

    def _create(self, indexes: Sequence[NewIndex]) -> Unsupported | None:
        """All at once; where one of them is impossible, one by one, to find out which."""
        try:
            self._shown.update(self._created(indexes))
        except DBAPIError as error:
            raise_if_lost(error)
            if len(indexes) > 1:
                return next(filter(None, map(self._create, ([index] for index in indexes))), None)
            reason = f"PostgreSQL would not make such an index on {indexes[0].table} ({kind(error)})"
            self._impossible[indexes[0]] = Unsupported(reason, "leave it out")
            return self._impossible[indexes[0]]
        return None

    def _created(self, indexes: Sequence[NewIndex]) -> dict[NewIndex, tuple[int, str]]:
        texts = sa.cast([self._definition(index) for index in indexes], ARRAY(sa.Text))
        asked = sa.func.unnest(texts).table_valued("text", with_ordinality="place").render_derived()
        made = self._function("hypopg_create_index", asked.c.text).table_valued("indexrelid", "indexname")
        found = sa.select(asked.c.place, made.c.indexrelid, made.c.indexname).join_from(asked, made, sa.true())
        return {indexes[place - 1]: (number, name) for place, number, name in self._connection.execute(found)}

    def _definition(self, index: NewIndex) -> str:
        """As HypoPG reads it: the name does not count."""
        if index not in self._definitions:
            described = index_of(index, "hypothetical", self._catalog.schema)
            self._definitions[index] = written(self._connection.dialect, CreateIndex(described))
        return self._definitions[index]

    def _hide(self, names: frozenset[str]) -> Unsupported | None:
        """Why these present indexes cannot be hidden; None when they are, and no others."""
        if names == self._hidden:
            return None
        if not self._hides:
            return Unsupported(
                "this version of HypoPG cannot hide an index that is there",
                "install HypoPG 1.4 or later, then ALTER EXTENSION hypopg UPDATE",
            )
        if self._hidden:
            self._call("hypopg_unhide_all_indexes")
            self._hidden.clear()
        for name in names:
            table, _, index = name.partition(".")
            values = {"schema": self._catalog.schema, "table": table, "name": index}
            number = self._connection.execute(OID_OF, values).scalar()
            if number is None:
                return Unsupported(f"there is no index {name}", "read the catalogue again")
            self._call("hypopg_hide_index", number)
            self._hidden.add(name)
        return None

    def _cost_of(self, root: PlanNode) -> Cost:
        new = {name: index for index, (_, name) in self._shown.items()}
        found = list(indexes_in(root))
        return Cost(
            total=root.cost or 0.0,
            used=frozenset(new[name] for _, name in found if name in new),
            used_names=frozenset(f"{table}.{name}" for table, name in found if name not in new),
            # HypoPG's names hold numbers, others at each time.
            root=renamed(root, {name: f"new ({', '.join(index.columns)})" for name, index in new.items()}),
        )

    def _call(self, name: str, *arguments: Any) -> None:
        self._connection.execute(sa.select(self._function(name, *arguments)))

    def _function(self, name: str, *arguments: Any) -> Function[Any]:
        return Function(name, *arguments, packagenames=(sa.quoted_name(self._extension_schema, quote=True),))

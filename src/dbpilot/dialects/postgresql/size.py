"""How large indexes would be that are not there."""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, text

from dbpilot.dialects.catalog import Catalog, Column, Table
from dbpilot.dialects.postgresql.btree import Entries, Group, Part, entry_bytes, shared, tree_bytes
from dbpilot.dialects.postgresql.keys import Keys, combinations, distinct_of, of_column
from dbpilot.dialects.whatif import NewIndex

DEDUPLICATES: Final = (13,)
"""Since this version rows with equal keys share entries."""
CLEAR: Final = 1.1
"""No sample is read where the extremes of what is likely differ by less."""
UNDERRATED: Final = 4
"""So many times more different values than ANALYZE found are not rare, where some are far more frequent than others."""
UNKNOWN_WIDTH: Final = 16.0
EXPRESSION: Final = Part(UNKNOWN_WIDTH, varies=True, alignment=1, equal_image=False)
"""Nothing is known of it."""

PHYSICAL: Final = text(
    """SELECT a.attname, a.attlen, CASE a.attalign WHEN 'c' THEN 1 WHEN 's' THEN 2 WHEN 'i' THEN 4 ELSE 8 END,
        coalesce(bool_or(f.proname = 'btequalimage' OR f.proname = 'btvarstrequalimage'
            AND coalesce(l.collisdeterministic, true)), false)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_collation l ON l.oid = a.attcollation
    LEFT JOIN pg_opclass o ON o.opcdefault AND o.opcmethod = (SELECT oid FROM pg_am WHERE amname = 'btree')
        AND (o.opcintype IN (t.oid, t.typbasetype) OR (t.typtype = 'e' AND o.opcintype = 'anyenum'::regtype)
            OR EXISTS (SELECT FROM pg_cast x WHERE x.castsource IN (t.oid, t.typbasetype)
                AND x.casttarget = o.opcintype AND x.castmethod = 'b'
                AND NOT EXISTS (SELECT FROM pg_opclass e WHERE e.opcdefault AND e.opcmethod = o.opcmethod
                    AND e.opcintype = t.oid)))
    LEFT JOIN pg_amproc p ON p.amprocfamily = o.opcfamily AND p.amprocnum = 4 AND p.amproclefttype = o.opcintype
    LEFT JOIN pg_proc f ON f.oid = p.amproc
    WHERE n.nspname = coalesce(:schema, current_schema()) AND c.relname = :table AND a.attnum > 0
        AND NOT a.attisdropped
    GROUP BY a.attname, a.attlen, a.attalign"""
)


class IndexSizes:
    """Sizes by what a build does with what the catalogue, and where that is not enough a sample, says of the rows."""

    def __init__(self, connection: Connection, catalog: Catalog) -> None:
        self._connection = connection
        self._catalog = catalog
        self._keys = Keys(connection, catalog.schema)
        self._parts: dict[str, Mapping[str, Part]] = {}
        self._sizes: dict[NewIndex, float] = {}
        self._deduplicates = (connection.dialect.server_version_info or DEDUPLICATES) >= DEDUPLICATES

    def of(self, index: NewIndex) -> float:
        """The index's size in bytes, freshly built."""
        if index not in self._sizes:
            self._sizes[index] = self._size(index)
        return self._sizes[index]

    def _size(self, index: NewIndex) -> float:
        table = self._catalog.tables[index.table]
        known = self._physical(table)
        keys = [known.get(key.column or "", EXPRESSION) for key in index.keys]
        carried = [known.get(name, EXPRESSION) for name in index.include]
        entry, pivot = entry_bytes([*keys, *carried]), entry_bytes(keys)
        if self._shares(index, keys):
            entries = self._shared([table.by_name[name] for name in index.columns], table, entry, pivot)
            return tree_bytes(entries, pivot, whole=False)
        whole = not any(part.varies or part.nulls for part in (*keys, *carried))
        return tree_bytes(Entries(table.rows, table.rows * entry, 0.0), pivot, whole=whole)

    def _shares(self, index: NewIndex, parts: Sequence[Part]) -> bool:
        """Whether rows with equal keys share entries."""
        if not self._deduplicates or index.unique or index.include:
            return False
        return all(key.is_plain for key in index.keys) and all(part.equal_image for part in parts)

    def _shared(self, columns: Sequence[Column], table: Table, entry: float, pivot: float) -> Entries:
        names = [column.name for column in columns]
        counted = self._keys.counted(table, names)
        if counted:
            return shared([_spread(counted, table.rows)], entry)
        few, many = _likely(columns, table.rows)
        sizes = [tree_bytes(shared(groups, entry), pivot, whole=False) for groups in (few, many)]
        clear = max(sizes) <= CLEAR * min(sizes)
        return shared((None if clear else self._keys.sampled(table, names)) or few, entry)

    def _physical(self, table: Table) -> Mapping[str, Part]:
        if table.name not in self._parts:
            found = self._connection.execute(PHYSICAL, {"schema": self._catalog.schema, "table": table.name}).all()
            self._parts[table.name] = {
                name: _part(table.by_name[name], length, alignment, equal_image=equal_image)
                for name, length, alignment, equal_image in found
                if name in table.by_name
            }
        return self._parts[table.name]


def _likely(columns: Sequence[Column], rows: float) -> tuple[list[Group], list[Group]]:
    """What the keys are by the statistics; and what they may be instead."""
    singles = [distinct_of(column, rows) for column in columns]
    if len(columns) == 1:
        by_statistics, distinct = list(of_column(columns[0], rows)), singles[0]
        return by_statistics, [_spread(min(UNDERRATED * distinct, rows), rows)] if rows > distinct else by_statistics
    return [_spread(combinations(singles, rows), rows)], [_spread(max(singles), rows)]


def _spread(keys: float, rows: float) -> Group:
    return Group(max(keys, 1.0), rows / max(keys, 1.0), spread=True)


def _part(column: Column, length: int, alignment: int, *, equal_image: bool) -> Part:
    """``length``: the type's, less than 0 where it has none."""
    varies = length < 0 and not column.type.startswith("character(")
    width = float(length) if length > 0 else column.width or UNKNOWN_WIDTH
    return Part(width, varies, alignment if length > 0 else 1, equal_image, column.nulls or 0.0)

"""What is in a PostgreSQL schema: from 12 on, in one round trip for each kind of fact.

A partitioned table is one table here, and its index one index: rows, sizes and uses are those of all partitions
together, and a partition, or its share of an index, is not told by itself. What belongs to an extension is left out.
"""

import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection, text

from dbpilot.dialects.catalog import (
    Catalog,
    Changes,
    Column,
    ConstraintKind,
    Family,
    ForeignKey,
    Index,
    Key,
    Table,
)
from dbpilot.dialects.reading import Line, grouped, version_of
from dbpilot.dialects.sampling import SEED, first_rows, learned, relation, unknown, values_of
from dbpilot.unsupported import Unsupported

ROW_OVERHEAD: Final = 28
"""Bytes of a row besides its values: 24 of header and 4 in the page's list; storage-page-layout in the manual."""
MAX_SCANNED_BYTES: Final = 16 * 1024**2
"""Read within some milliseconds, so that rows can be drawn one by one."""
GUESSED_WIDTH: Final = 32
"""Bytes, of a value whose width nobody knows: what the planner takes for a text."""
PAGE_OVERHEAD: Final = 40
"""Bytes of an index page that hold no entry: 24 of header, 16 of links to its neighbours."""
ENTRY_OVERHEAD: Final = 8
LINE_POINTER: Final = 4
ALIGNMENT: Final = 8
FILL: Final = 0.9
"""A B-tree's pages are filled so far when it is built, unless it is told otherwise."""
FAMILIES: Final[Mapping[str, Family]] = {
    **dict.fromkeys(("int2", "int4", "int8", "oid"), "integer"),
    **dict.fromkeys(("numeric", "money"), "decimal"),
    **dict.fromkeys(("float4", "float8"), "float"),
    "bool": "boolean",
    "bytea": "binary",
    "date": "date",
    **dict.fromkeys(("time", "timetz"), "time"),
    **dict.fromkeys(("timestamp", "timestamptz"), "datetime"),
    "uuid": "uuid",
    **dict.fromkeys(("json", "jsonb"), "json"),
}
TEXTS: Final = ("S", "E")
"""Categories of types whose values are written as texts: strings and enumerations."""
CONSTRAINTS: Final[Mapping[str, ConstraintKind]] = {"p": "PRIMARY KEY", "u": "UNIQUE", "x": "EXCLUDE"}
ACTIONS: Final = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}
DESCENDING: Final = 1
NULLS_FIRST: Final = 2
"""Bits of an index's column: pg_index.indoption."""
NOT_COUNTED: Final = Unsupported(
    "track_counts is off", "ALTER SYSTEM SET track_counts = on, and SELECT pg_reload_conf()"
)
ON_ONLY: Final = re.compile(r"(?<= ON )ONLY ")

HERE: Final = text(
    """WITH here AS (SELECT coalesce(CAST(:schema AS text), current_schema()::text) AS schema),
    held AS (
        SELECT DISTINCT l.relation AS oid FROM pg_locks l JOIN pg_database d ON d.oid = l.database
        WHERE d.datname = current_database() AND l.mode = 'AccessExclusiveLock' AND l.pid <> pg_backend_pid()
    )
    SELECT here.schema, ARRAY(SELECT oid::bigint FROM held WHERE oid IS NOT NULL) AS locked,
        (SELECT count(*) FROM pg_class c JOIN held USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = here.schema AND c.relkind IN ('r', 'p') AND NOT c.relispartition) AS altered,
        current_setting('track_counts')::bool AS counted, s.stats_reset AS since,
        current_setting('block_size')::int AS page,
        CASE WHEN to_jsonb(d) ->> 'datlocprovider' = 'b' THEN 'C'
            ELSE coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', d.datcollate::text)
            END AS collation,
        set_config('DateStyle', 'ISO', true), set_config('jit', 'off', true)
    FROM here CROSS JOIN pg_database d LEFT JOIN pg_stat_database s ON s.datid = d.oid
    WHERE d.datname = current_database()"""
)
"""The columns for locales differ from version to version; code points are what 17's builtin provider sorts by. What it
sets is for this transaction: how dates are written, and that these queries are not compiled, which takes longer than
they do."""
WANTED: Final = """wanted AS (
        SELECT c.oid, c.relname::text AS name, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = CAST(:schema AS text) AND c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND c.oid <> ALL(CAST(:locked AS oid[]))
            AND (CAST(:tables AS text[]) IS NULL OR c.relname::text = ANY(CAST(:tables AS text[])))
            AND NOT EXISTS (SELECT FROM pg_depend e
                WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
    )"""
SIZES: Final = """sizes AS (
        SELECT p.root, p.oid, c.reltuples, c.relpages,
            CASE WHEN p.oid <> ALL(CAST(:locked AS oid[])) THEN pg_relation_size(p.oid)
                ELSE c.relpages * current_setting('block_size')::bigint END AS bytes
        FROM parts p JOIN pg_class c ON c.oid = p.oid
    )"""
"""To ask for a size, or for a definition, is to wait for whoever alters the table, and that may take long: such a table
is left out, and of such a part of one the last known size is told."""
TABLES: Final = text(
    f"""WITH RECURSIVE {WANTED}, parts(root, oid) AS (
        SELECT oid, oid FROM wanted UNION ALL
        SELECT p.root, i.inhrelid FROM parts p JOIN pg_inherits i ON i.inhparent = p.oid
            JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition
    ), {SIZES}
    SELECT w.oid::bigint, w.name, sum(s.bytes)::bigint AS bytes, bool_and(s.reltuples >= 0) AS estimated,
        sum(CASE WHEN s.bytes = 0 THEN 0 WHEN s.reltuples >= 0 AND s.relpages > 0 THEN
            s.reltuples / s.relpages * (s.bytes / current_setting('block_size')::float8) END) AS rows,
        bool_or(s.bytes > 0 AND (s.reltuples < 0 OR s.relpages = 0)) AS partly,
        sum(pg_stat_get_numscans(s.oid))::bigint AS scans,
        sum(pg_stat_get_tuples_inserted(s.oid))::bigint AS inserted,
        sum(pg_stat_get_tuples_updated(s.oid))::bigint AS updated,
        sum(pg_stat_get_tuples_deleted(s.oid))::bigint AS deleted,
        has_any_column_privilege(w.oid, 'SELECT') AND NOT row_security_active(w.oid) AS readable,
        count(*) FILTER (WHERE s.oid <> w.oid AND EXISTS (
            SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
            WHERE i.indrelid = s.oid AND NOT c.relispartition)) AS apart
    FROM wanted w JOIN sizes s ON s.root = w.oid GROUP BY w.oid, w.name ORDER BY w.name"""  # noqa: S608 - of our own texts
)
COLUMNS: Final = text(
    f"""WITH {WANTED}
    SELECT w.oid::bigint, a.attnum AS number, a.attname::text AS name,
        format_type(a.atttypid, a.atttypmod) AS type, b.typname::text AS base, b.typcategory::text AS category,
        a.attlen AS length, a.attnotnull OR t.typnotnull AS required, co.collname::text AS collation,
        co.collisdeterministic AS deterministic, a.attgenerated <> '' AS generated, s.avg_width, s.null_frac::float8,
        s.n_distinct::float8, s.correlation::float8,
        CASE WHEN b.typcategory IN ('B', 'D', 'E', 'N', 'S') OR b.typname = 'uuid'
            THEN s.most_common_vals::text::text[] END AS common, s.most_common_freqs::float8[] AS shares,
        CASE WHEN b.typcategory IN ('B', 'D', 'E', 'N', 'S') OR b.typname = 'uuid'
            THEN s.histogram_bounds::text::text[] END AS bounds
    FROM wanted w JOIN pg_attribute a ON a.attrelid = w.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
    JOIN pg_type b ON b.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END
    LEFT JOIN pg_collation co ON co.oid = a.attcollation
    LEFT JOIN pg_stats s ON s.schemaname = CAST(:schema AS text) AND s.tablename = w.name AND s.attname = a.attname
        AND s.inherited = (w.relkind = 'p')
    ORDER BY w.oid, a.attnum"""  # noqa: S608 - of our own texts
)
INDEXES: Final = text(
    f"""WITH RECURSIVE {WANTED}, own AS (
        SELECT i.*, w.name AS table_name, w.relkind, to_jsonb(i) ->> 'indnullsnotdistinct' AS same_nulls
        FROM pg_index i JOIN wanted w ON w.oid = i.indrelid
    ), parts(root, oid) AS (
        SELECT indexrelid, indexrelid FROM own UNION ALL
        SELECT p.root, i.inhrelid FROM parts p JOIN pg_inherits i ON i.inhparent = p.oid
    ), {SIZES}, figures AS (
        SELECT z.root, sum(z.bytes)::bigint AS bytes, sum(s.idx_scan)::bigint AS uses,
            sum(s.idx_tup_read)::bigint AS rows_read,
            max((to_jsonb(s) ->> 'last_idx_scan')::timestamptz) AS last_used
        FROM sizes z LEFT JOIN pg_stat_all_indexes s ON s.indexrelid = z.oid GROUP BY z.root
    )
    SELECT o.indrelid::bigint AS of_table, o.indexrelid::bigint AS oid, c.relname::text AS name,
        am.amname::text AS method, o.indisunique AS is_unique, o.indisvalid AND o.indisready AND o.indislive AS valid,
        coalesce(o.same_nulls, 'false') <> 'true' AS nulls_distinct, k.contype::text AS constrains,
        pg_get_expr(o.indpred, o.indrelid, true) AS condition, pg_get_indexdef(o.indexrelid) AS definition,
        o.relkind = 'p' AS partitioned,
        'ALTER TABLE ' || quote_ident(CAST(:schema AS text)) || '.' || quote_ident(o.table_name)
            || ' ADD CONSTRAINT ' || quote_ident(k.conname) || ' ' || pg_get_constraintdef(k.oid) AS adds_constraint,
        f.bytes, f.uses, f.rows_read, f.last_used, o.indisreplident AS is_identity,
        ARRAY(SELECT 'foreign key ' || r.conname || ' of ' || t.relname FROM pg_constraint r
            JOIN pg_class t ON t.oid = r.conrelid
            WHERE r.conindid = o.indexrelid AND r.contype = 'f' AND r.conparentid = 0 ORDER BY 1) AS referred_by,
        (SELECT split_part(x, '=', 2)::int FROM unnest(c.reloptions) x WHERE x LIKE 'fillfactor=%') AS fill
    FROM own o JOIN pg_class c ON c.oid = o.indexrelid JOIN pg_am am ON am.oid = c.relam
    JOIN figures f ON f.root = o.indexrelid
    LEFT JOIN pg_constraint k ON k.conindid = o.indexrelid AND k.conrelid = o.indrelid AND k.contype IN ('p', 'u', 'x')
    ORDER BY c.relname"""  # noqa: S608 - of our own texts
)
"""What differs from version to version (NULLS NOT DISTINCT, the time of the last use) is taken from a row as JSON."""
KEYS: Final = text(
    f"""WITH {WANTED}
    SELECT i.indexrelid::bigint AS of_index, k.n <= i.indnkeyatts AS is_key, a.attname::text AS name,
        CASE WHEN i.indkey[k.n - 1] = 0 THEN pg_get_indexdef(i.indexrelid, k.n, true) END AS expression,
        coalesce(i.indoption[k.n - 1], 0)::int AS option,
        CASE WHEN NOT o.opcdefault OR ka.attoptions IS NOT NULL
                OR (a.atttypid = 'bpchar'::regtype AND o.opcintype = 'text'::regtype)
            THEN o.opcname::text || coalesce('(' || array_to_string(ka.attoptions, ', ') || ')', '') END AS opclass,
        co.collname::text AS collation, e.n_distinct::float8
    FROM wanted w JOIN pg_index i ON i.indrelid = w.oid JOIN pg_class ic ON ic.oid = i.indexrelid
    CROSS JOIN LATERAL generate_series(1, i.indnatts::int) AS k(n)
    LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.n - 1] AND i.indkey[k.n - 1] <> 0
    LEFT JOIN pg_attribute ka ON ka.attrelid = i.indexrelid AND ka.attnum = k.n
    LEFT JOIN pg_opclass o ON o.oid = i.indclass[k.n - 1] AND k.n <= i.indnkeyatts
    LEFT JOIN pg_collation co ON co.oid = i.indcollation[k.n - 1] AND k.n <= i.indnkeyatts
        AND co.oid <> coalesce(a.attcollation, 100)
    LEFT JOIN pg_stats e ON i.indkey[k.n - 1] = 0 AND e.schemaname = CAST(:schema AS text)
        AND e.tablename = ic.relname AND e.attname = ka.attname AND NOT e.inherited
    ORDER BY i.indexrelid, k.n"""  # noqa: S608 - of our own texts
)
"""Of an expression the database keeps statistics by the index's name. 100 is the default collation's OID."""
TOGETHER: Final = text(
    f"""WITH {WANTED} SELECT w.oid::bigint, e.n_distinct::text AS n_distinct FROM wanted w JOIN pg_stats_ext e
        ON e.schemaname = CAST(:schema AS text) AND e.tablename = w.name AND e.n_distinct IS NOT NULL"""  # noqa: S608 - of our own texts
)
FOREIGN_KEYS: Final = text(
    f"""WITH {WANTED}
    SELECT w.oid::bigint, k.conname::text AS name, w.name AS of_table,
        ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(n, place)
            JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.place) AS columns,
        CASE WHEN n.nspname <> CAST(:schema AS text) THEN n.nspname || '.' ELSE '' END || r.relname AS referred,
        ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(n, place)
            JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.place) AS referred_columns,
        k.confdeltype::text AS on_delete, k.confupdtype::text AS on_update
    FROM wanted w JOIN pg_constraint k ON k.conrelid = w.oid AND k.contype = 'f' AND k.conparentid = 0
    JOIN pg_class r ON r.oid = k.confrelid JOIN pg_namespace n ON n.oid = r.relnamespace
    ORDER BY w.name, k.conname"""  # noqa: S608 - of our own texts
)
"""A key to a partitioned table has a twin for each partition, which tells nothing new."""

Oid = int
Rows = Sequence[Line]
Together = Mapping[frozenset[str], float]
"""How many different values some columns have together; where negative, as a share of the rows."""


def catalog(connection: Connection, schema: str | None = None, tables: Collection[str] | None = None) -> Catalog:
    """See :class:`dbpilot.dialects.catalog.ReadsCatalog`; for the rest of the transaction dates are written as ISO."""
    here = connection.execute(HERE, {"schema": schema}).one()
    asked = {"schema": here.schema, "tables": list(tables) if tables is not None else None, "locked": here.locked}
    columns, keys, foreign, indexes, together = (
        grouped(connection.execute(query, asked).all()) for query in (COLUMNS, KEYS, FOREIGN_KEYS, INDEXES, TOGETHER)
    )
    found = connection.execute(TABLES, asked).all()
    made = [
        _table(
            row,
            tuple(_column(part, here.collation) for part in columns[row.oid]),
            [_Build(part, keys[part.oid]) for part in indexes[row.oid]],
            tuple(_foreign_key(part) for part in foreign[row.oid]),
            _Known(_together(together[row.oid], columns[row.oid]), here.page, here.counted),
        )
        for row in found
    ]
    return Catalog(
        dialect="postgresql",
        version=version_of(connection),
        schema=here.schema,
        tables={table.name: table for table in made},
        uses_since=here.since.astimezone(UTC) if here.since else None,
        uses_unknown=None if here.counted else NOT_COUNTED,
        notes=tuple(_notes(found, here.altered)),
    )


def sampled(
    connection: Connection, table: Table, rows: int = 10_000, schema: str | None = None
) -> Mapping[str, Column]:
    """See :class:`dbpilot.dialects.catalog.SamplesTable`.

    Rows are drawn at random; of a table larger than :data:`MAX_SCANNED_BYTES` whole pages are, whose rows may be alike.
    """
    columns = unknown(table)
    if not columns:
        return table.by_name
    source: sa.FromClause = relation(table, schema)
    if part := rows < table.rows:
        small = table.size_bytes is not None and table.size_bytes <= MAX_SCANNED_BYTES
        percent = min(100.0, 100.0 * rows / table.rows)
        drawn = sa.func.bernoulli(percent) if small else sa.func.system(percent)
        source = source.tablesample(drawn, seed=sa.literal(SEED))
    # Chance may draw more than were asked for, and to leave out the last of them would leave out the end of the table.
    read, complete = first_rows(connection, sa.select(*values_of(columns, source)), 2 * rows if part else rows)
    return learned(table, columns, read, all_rows=complete and not part)


@dataclass(frozen=True, slots=True)
class _Known:
    """What else is known when a table is put together."""

    together: Together
    page: int
    counted: bool


@dataclass(frozen=True, slots=True)
class _Build:
    """The rows that tell of one index, and of its columns in order."""

    row: Line
    keys: Rows


def _table(
    row: Line, columns: Sequence[Column], builds: Sequence[_Build], foreign: tuple[ForeignKey, ...], known: _Known
) -> Table:
    rows = _rows(row, columns)
    by_name = {column.name: _counted(column, rows) for column in columns}
    indexes = tuple(_index(row.name, build, rows, by_name, known) for build in builds)
    return Table(
        name=row.name,
        columns=tuple(by_name.values()),
        indexes=indexes,
        foreign_keys=foreign,
        rows=rows,
        size_bytes=row.bytes,
        index_bytes=sum(index.size_bytes or 0 for index in indexes),
        changes=Changes(row.inserted, row.updated, row.deleted) if known.counted else None,
        full_scans=row.scans if known.counted else None,
        analyzed=not row.bytes or (row.estimated and (not row.readable or any(c.nulls is not None for c in columns))),
    )


def _rows(row: Line, columns: Sequence[Column]) -> float:
    """As the planner estimates them: as dense as at the last ANALYZE; and without one, by the width of a row."""
    if row.rows is not None and not row.partly:
        return float(row.rows)
    guessed = row.bytes / (ROW_OVERHEAD + sum(column.width or GUESSED_WIDTH for column in columns))
    return float(max(row.rows or 0, guessed))


def _counted(column: Column, rows: float) -> Column:
    """With the number of different values, which the database tells as a share of the rows where it is negative."""
    if column.distinct is None:
        return column
    return replace(column, distinct=_absolute(column.distinct, rows))


def _absolute(distinct: float, rows: float) -> float:
    return -distinct * rows if distinct < 0 else distinct


def _column(row: Line, default_collation: str) -> Column:
    family = FAMILIES.get(row.base, "text" if row.category in TEXTS else "other")
    value = VALUES.get(family)
    return Column(
        name=row.name,
        type=row.type,
        family=family,
        nullable=not row.required,
        width=float(row.length) if row.length > 0 else row.avg_width and float(row.avg_width),
        distinct=row.n_distinct or None,
        nulls=row.null_frac,
        correlation=row.correlation,
        collation=default_collation if row.collation == "default" else row.collation,
        case_insensitive=row.base == "citext" or row.deterministic is False,
        generated=row.generated,
        common=tuple(zip(_values(value, row.common), row.shares or (), strict=False)),
        bounds=_values(value, row.bounds),
    )


def _values(value: Callable[[str], Any] | None, texts: Sequence[str] | None) -> tuple[Any, ...]:
    """None of them where one cannot be told in Python: a date before our era, or an infinite one."""
    if value is None or not texts:
        return ()
    try:
        return tuple(map(value, texts))
    except (ValueError, ArithmeticError):
        return ()


VALUES: Final[Mapping[Family, Callable[[str], Any]]] = {
    "integer": int,
    "decimal": Decimal,
    "float": float,
    "boolean": lambda written: written == "t",
    "text": str,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "datetime": datetime.fromisoformat,
    "uuid": UUID,
}


def _index(table: str, build: _Build, rows: float, columns: Mapping[str, Column], known: _Known) -> Index:
    row, parts = build.row, [part for part in build.keys if part.is_key]
    keys = tuple(_key(part) for part in parts)
    made = ON_ONLY.sub("", row.definition, count=1) if row.partitioned else row.definition
    distinct = _distinct(keys, parts[0].n_distinct, rows, columns, known.together)
    index = Index(
        name=row.name,
        table=table,
        keys=keys,
        include=tuple(part.name for part in build.keys if not part.is_key),
        unique=row.is_unique,
        constraint=CONSTRAINTS.get(row.constrains),
        method=row.method,
        where=row.condition,
        valid=row.valid,
        nulls_distinct=row.nulls_distinct,
        size_bytes=row.bytes,
        distinct=(*distinct[:-1], rows or None) if row.is_unique and not row.condition else distinct,
        uses=row.uses if known.counted else None,
        last_used=row.last_used.astimezone(UTC) if row.last_used else None,
        rows_read=row.rows_read if known.counted else None,
        needed_by=(*(["the table's replica identity"] if row.is_identity else []), *row.referred_by),
        definition=row.adds_constraint or made,
    )
    return replace(index, bloat_bytes=_bloat(index, rows, columns, known.page, row.fill))


def _key(part: Line) -> Key:
    descending, nulls_first = bool(part.option & DESCENDING), bool(part.option & NULLS_FIRST)
    return Key(
        column=part.name,
        expression=part.expression,
        descending=descending,
        nulls_first=None if nulls_first is descending else nulls_first,
        collation=part.collation,
        opclass=part.opclass,
    )


def _distinct(
    keys: Sequence[Key], of_expression: float | None, rows: float, columns: Mapping[str, Column], together: Together
) -> tuple[float | None, ...]:
    """Of the first key what is known of its column, or of it as an expression; of several what extended statistics
    tell.
    """
    column = columns.get(keys[0].column or "")
    first = column.distinct if column is not None else _absolute(of_expression or 0, rows) or None
    names = [key.column or "" for key in keys]
    return (first, *(together.get(frozenset(names[:end])) for end in range(2, len(names) + 1)))


def _bloat(index: Index, rows: float, columns: Mapping[str, Column], page: int, fill: int | None) -> int | None:
    """How much larger a B-tree is than one built anew would be, were each entry to stand by itself.

    Equal entries share space since version 13, so it may be more: this much at least.
    """
    held = [columns.get(name) for name in (*index.columns, *index.include)]
    widths = [column.width for column in held if column is not None and column.width is not None]
    if index.method != "btree" or index.where or index.size_bytes is None or len(widths) < len(held) or not rows:
        return None
    entry = LINE_POINTER + ALIGNMENT * math.ceil((ENTRY_OVERHEAD + sum(widths)) / ALIGNMENT)
    on_a_page = max(1, int((page - PAGE_OVERHEAD) * (fill / 100 if fill else FILL) / entry))
    leaves = math.ceil(rows / on_a_page)
    inner = math.ceil(leaves / on_a_page) + 1  # and the page that tells where the root is
    return max(0, index.size_bytes - (leaves + inner) * page)


def _together(statistics: Rows, columns: Rows) -> Together:
    """Extended statistics, which name columns by number: ``{"1, 3": 120}``."""
    names = {str(column.number): column.name for column in columns}
    found: dict[frozenset[str], float] = {}
    for row in statistics:
        for numbers, distinct in json.loads(row.n_distinct).items():
            with suppress(KeyError):  # an expression has a number below 0, and no name
                found[frozenset(names[number] for number in numbers.split(", "))] = float(distinct)
    return found


def _foreign_key(row: Line) -> ForeignKey:
    return ForeignKey(
        row.name,
        row.of_table,
        tuple(row.columns),
        row.referred,
        tuple(row.referred_columns),
        ACTIONS[row.on_delete],
        ACTIONS[row.on_update],
    )


def _notes(found: Rows, altered: int) -> Iterator[Unsupported]:
    if altered:
        yield Unsupported(f"{altered} tables are being altered, and left out", "ask again when that is done")
    hidden = sum(not row.readable for row in found)
    if hidden:
        yield Unsupported(
            f"this user may not read {hidden} of the tables, and is not told the statistics of their columns",
            "GRANT pg_read_all_data TO that user (14 and later), or GRANT SELECT ON those tables",
        )
    apart = sum(row.apart for row in found)
    if apart:
        yield Unsupported(
            f"{apart} indexes belong to single partitions, and are not told",
            "make the index on the partitioned table, and attach those of its partitions",
        )

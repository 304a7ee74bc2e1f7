"""What is in a MariaDB or MySQL database, in one round trip for each kind of fact.

Sizes, and how many different values an index holds, are in tables of the server's own that a user may not be allowed
to read: then a note tells the GRANT. What MySQL does otherwise than MariaDB is written by its manual.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam, text

from dbpilot.dialects.catalog import Catalog, Column, ConstraintKind, Family, ForeignKey, Index, Key, Table
from dbpilot.dialects.mysql.counts import Counts, Place, counts_in, perhaps
from dbpilot.dialects.mysql.histograms import NOTHING, Statistics, of_mariadb, of_mysql
from dbpilot.dialects.reading import Line, grouped, version_of
from dbpilot.dialects.sampling import first_rows, learned, relation, rows_by_key, unknown, values_of
from dbpilot.sql.predicates import DialectName
from dbpilot.unsupported import Unsupported

PRIMARY: Final = "PRIMARY"
FAMILIES: Final[Mapping[str, Family]] = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint", "year"), "integer"),
    "decimal": "decimal",
    **dict.fromkeys(("float", "double"), "float"),
    **dict.fromkeys(("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"), "text"),
    **dict.fromkeys(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "bit"), "binary"),
    "date": "date",
    "time": "time",
    **dict.fromkeys(("datetime", "timestamp"), "datetime"),
    "uuid": "uuid",
    "json": "json",
}
WIDTHS: Final[Mapping[str, float]] = {
    "tinyint": 1,
    "smallint": 2,
    "mediumint": 3,
    "int": 4,
    "bigint": 8,
    "year": 1,
    "float": 4,
    "double": 8,
    "date": 3,
    "time": 3,
    "datetime": 5,
    "timestamp": 4,
    "uuid": 16,
    "inet6": 16,
    "enum": 2,
}
"""Bytes, without fractions of a second: "Data Type Storage Requirements" in the manual."""
DIGIT_BYTES: Final = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
"""Of so many decimal digits; each nine of them take four bytes."""
METHODS: Final[Mapping[str, str]] = {"rtree": "spatial"}
WITHOUT_LENGTH: Final = ("SPATIAL", "FULLTEXT", "RTREE")
HIDDEN: Final = {"mariadb": " IGNORED", "mysql": " INVISIBLE"}
COUNTED_ENGINES: Final = ("MyISAM", "Aria", "MEMORY")
"""Those that know how many rows they have."""
DISTINCT: Final = re.compile(r"n_diff_pfx(\d+)")
PARTITION: Final = re.compile(r"#p#.*", re.IGNORECASE)
TABLE_TYPES: Final = ("BASE TABLE", "SYSTEM VERSIONED")
BY_TABLE: Final = attrgetter("TABLE_NAME")

VARIABLES: Final = text(
    """SHOW GLOBAL VARIABLES WHERE Variable_name IN
    ('innodb_page_size', 'lower_case_table_names', 'performance_schema', 'userstat')"""
)
TABLES: Final = """SELECT TABLE_NAME, ENGINE, TABLE_ROWS, DATA_LENGTH, INDEX_LENGTH, TABLE_TYPE
    FROM information_schema.TABLES WHERE TABLE_SCHEMA = :schema"""
COLUMNS: Final = """SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, DATA_TYPE, IS_NULLABLE, COLLATION_NAME,
    GENERATION_EXPRESSION, NUMERIC_PRECISION, NUMERIC_SCALE, DATETIME_PRECISION, CHARACTER_OCTET_LENGTH
    FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = :schema"""
INDEXES: Final = "SELECT * FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = :schema"
"""Whatever columns this version has: IGNORED is MariaDB's, IS_VISIBLE and EXPRESSION are MySQL's. In the server's own
order, which tells the index that the rows are kept in."""
KEY_USAGE: Final = """SELECT TABLE_NAME, CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME,
    REFERENCED_COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE
    WHERE TABLE_SCHEMA = :schema AND REFERENCED_TABLE_NAME IS NOT NULL"""
RULES: Final = """SELECT TABLE_NAME, CONSTRAINT_NAME, DELETE_RULE, UPDATE_RULE
    FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = :schema"""
PERSISTENT: Final = text(
    "SELECT table_name, index_name, stat_name, stat_value FROM mysql.innodb_index_stats WHERE database_name = :schema"
)
COLUMN_STATS: Final = text(
    """SELECT table_name, column_name, min_value, max_value, nulls_ratio, avg_length, avg_frequency,
    hist_type, CASE WHEN hist_type = 'JSON_HB' THEN histogram ELSE decode_histogram(hist_type, histogram) END
    FROM mysql.column_stats WHERE db_name = :schema"""
)
HISTOGRAMS: Final = text(
    "SELECT TABLE_NAME, COLUMN_NAME, HISTOGRAM FROM information_schema.COLUMN_STATISTICS WHERE SCHEMA_NAME = :schema"
)

Rows = Sequence[Line]


def catalog(connection: Connection, schema: str | None = None, tables: Collection[str] | None = None) -> Catalog:
    """See :class:`dbpilot.dialects.catalog.ReadsCatalog`; a schema is a database."""
    read: str = schema or connection.execute(text("SELECT DATABASE()")).scalar_one()
    database = _Database(connection, read, tables)
    columns, keys, rules, used = (
        grouped(database.listed(query, order), BY_TABLE)
        for query, order in (
            (COLUMNS, "ORDINAL_POSITION"),
            (INDEXES, None),
            (RULES, "CONSTRAINT_NAME"),
            (KEY_USAGE, "CONSTRAINT_NAME, ORDINAL_POSITION"),
        )
    )
    facts = database.facts()
    made = [
        _table(_Told(row, columns[name], keys[name], tuple(_foreign_keys(read, used[name], rules[name]))), facts)
        for row in database.listed(TABLES, "TABLE_NAME")
        if row.TABLE_TYPE in TABLE_TYPES and (name := row.TABLE_NAME)
    ]
    return Catalog(
        dialect=facts.product,
        version=version_of(connection),
        schema=read,
        tables={table.name: table for table in made},
        uses_since=facts.counts.since,
        uses_unknown=facts.counts.unknown,
        notes=(*database.notes, *facts.counts.notes),
    )


def sampled(
    connection: Connection, table: Table, rows: int = 10_000, schema: str | None = None
) -> Mapping[str, Column]:
    """See :class:`dbpilot.dialects.catalog.SamplesTable`; rows are found by primary keys drawn at random.

    Where the primary key does not begin with an integer, it is the first rows of the table.
    """
    columns = unknown(table)
    if not columns:
        return table.by_name
    source = relation(table, schema)
    query = sa.select(*values_of(columns, source))
    key = table.by_name[table.primary_key[0]] if table.primary_key else None
    if key is not None and key.family == "integer":
        read, complete = rows_by_key(connection, query, source.c[key.name], rows)
    else:
        read, complete = first_rows(connection, query, rows)
    return learned(table, columns, read, all_rows=complete)


@dataclass(frozen=True, slots=True)
class _Told:
    """What the information_schema tells of one table."""

    row: Line
    columns: Rows
    keys: Rows
    foreign_keys: tuple[ForeignKey, ...]


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the server keeps and counts of the whole database."""

    product: DialectName
    kept: "_Kept"
    statistics: Mapping[Place, Line]
    counts: Counts
    quote: Callable[[str], str]


class _Database:
    """Asks a server about one database, and notes what it may not ask."""

    def __init__(self, connection: Connection, schema: str, tables: Collection[str] | None) -> None:
        self._connection = connection
        self._schema = schema
        self._tables = tables
        self.notes: list[Unsupported] = []

    def listed(self, query: str, order: str | None) -> Rows:
        """Rows of the information_schema about this database, or about the tables that were named."""
        asked: dict[str, Any] = {"schema": self._schema}
        ordered = f" ORDER BY {order}" if order is not None else ""
        if self._tables is None:
            return self._connection.execute(text(query + ordered), asked).all()
        some = text(f"{query} AND TABLE_NAME IN :tables{ordered}").bindparams(bindparam("tables", expanding=True))
        return self._connection.execute(some, {**asked, "tables": list(self._tables)}).all()

    def facts(self) -> _Facts:
        """What is not about one table, and asked for once."""
        variables = {row[0]: row[1] for row in self._connection.execute(VARIABLES)}
        product: DialectName = "mariadb" if getattr(self._connection.dialect, "is_mariadb", False) else "mysql"
        kept = self._kept(PERSISTENT, "mysql.innodb_index_stats", "the sizes of indexes are")
        if product == "mysql":
            statistics = perhaps(self._connection, HISTOGRAMS, {"schema": self._schema})
        else:
            statistics = self._kept(COLUMN_STATS, "mysql.column_stats", "statistics of columns are")
        folded = variables.get("lower_case_table_names", "0") != "0"
        return _Facts(
            product,
            _Kept(kept or (), int(variables.get("innodb_page_size", 0)), str.lower if folded else str),
            {(row[0], row[1]): row for row in statistics or ()},
            counts_in(self._connection, self._schema, variables),
            self._connection.dialect.identifier_preparer.quote_identifier,
        )

    def _kept(self, query: sa.TextClause, where: str, what: str) -> Rows | None:
        rows = perhaps(self._connection, query, {"schema": self._schema})
        if rows is None:
            reason = f"this user may not read {where}, where {what}"
            self.notes.append(Unsupported(reason, f"GRANT SELECT ON {where} TO that user"))
        return rows


class _Kept:
    """InnoDB's persistent statistics of indexes; the sizes of partitions are added up."""

    def __init__(self, rows: Rows, page: int, stored_as: Callable[[str], str]) -> None:
        """``stored_as``: how the server writes the name of a table there."""
        self._page = page
        self._stored_as = stored_as
        self._found: defaultdict[Place, list[tuple[str, float, bool]]] = defaultdict(list)
        for table, index, name, value in rows:
            whole = PARTITION.sub("", table)
            self._found[whole, index].append((name, float(value), whole != table))

    def _of(self, place: Place) -> Sequence[tuple[str, float, bool]]:
        return self._found.get((self._stored_as(place[0]), place[1]), ())

    def size_bytes(self, place: Place) -> int | None:
        """Of an index; None where it is not kept."""
        pages = [value for name, value, _ in self._of(place) if name == "size"]
        return int(sum(pages)) * self._page if pages else None

    def distinct(self, place: Place) -> Mapping[int, float]:
        """By the number of first columns; of a partitioned table nobody knows how many values its parts share."""
        matches = ((DISTINCT.fullmatch(name), value) for name, value, is_part in self._of(place) if not is_part)
        return {int(match[1]): value for match, value in matches if match and value}


def _foreign_keys(schema: str, parts: Rows, rules: Rows) -> list[ForeignKey]:
    by_name = grouped(parts, attrgetter("CONSTRAINT_NAME"))
    actions = {row.CONSTRAINT_NAME: (row.DELETE_RULE, row.UPDATE_RULE) for row in rules}
    return [
        ForeignKey(
            name,
            rows[0].TABLE_NAME,
            tuple(row.COLUMN_NAME for row in rows),
            _referred(schema, rows[0]),
            tuple(row.REFERENCED_COLUMN_NAME for row in rows),
            *actions.get(name, ()),
        )
        for name, rows in by_name.items()
    ]


def _referred(schema: str, row: Line) -> str:
    here = schema == row.REFERENCED_TABLE_SCHEMA
    return str(row.REFERENCED_TABLE_NAME if here else f"{row.REFERENCED_TABLE_SCHEMA}.{row.REFERENCED_TABLE_NAME}")


def _table(told: _Told, facts: _Facts) -> Table:
    name, rows = told.row.TABLE_NAME, float(told.row.TABLE_ROWS or 0)
    parts = grouped(told.keys, attrgetter("INDEX_NAME"))
    required = {column.COLUMN_NAME for column in told.columns if column.IS_NULLABLE == "NO"}
    indexes = _clustered([_index(told, keys, rows, facts) for keys in parts.values()], told.row.ENGINE, required)
    leading = {
        index.columns[0]: index.distinct[0] for index in indexes if index.method == "btree" and index.keys[0].is_plain
    }
    return Table(
        name=name,
        columns=tuple(
            _column(column, leading.get(column.COLUMN_NAME), facts.statistics.get((name, column.COLUMN_NAME)), rows)
            for column in told.columns
        ),
        indexes=tuple(indexes),
        foreign_keys=told.foreign_keys,
        rows=rows,
        rows_exact=told.row.ENGINE in COUNTED_ENGINES,
        size_bytes=told.row.DATA_LENGTH,
        index_bytes=told.row.INDEX_LENGTH,
        changes=facts.counts.changes_of(name),
        analyzed=not rows or not indexes or any(index.distinct[0] for index in indexes),
    )


def _clustered(indexes: Sequence[Index], engine: str | None, required: Collection[str]) -> list[Index]:
    """InnoDB keeps the rows in the primary key, or in the first unique index of columns that are all required."""
    candidates = [index for index in indexes if index.constraint == "PRIMARY KEY"] + [
        index
        for index in indexes
        if index.unique and all(key.is_plain and key.column in required for key in index.keys)
    ]
    chosen = candidates[:1] if engine == "InnoDB" else []
    return [replace(index, clustered=index in chosen) for index in indexes]


def _column(row: Line, distinct: float | None, kept: Line | None, rows: float) -> Column:
    family, collation = _family(row), row.COLLATION_NAME
    told = _statistics(family, kept, rows)
    return Column(
        name=row.COLUMN_NAME,
        type=row.COLUMN_TYPE,
        family=family,
        nullable=row.IS_NULLABLE == "YES",
        width=_width(row) or told.width,
        distinct=distinct or told.distinct,
        nulls=0.0 if row.IS_NULLABLE == "NO" else told.nulls,
        collation=collation,
        case_insensitive=bool(collation) and "_ci" in collation,
        generated=bool(row.GENERATION_EXPRESSION),
        common=told.common,
        bounds=told.bounds,
    )


def _statistics(family: Family, kept: Line | None, rows: float) -> Statistics:
    if kept is None:
        return NOTHING
    if "HISTOGRAM" in kept._fields:
        return of_mysql(family, kept.HISTOGRAM)
    found = of_mariadb(family, kept[2:])
    return replace(found, distinct=max(1.0, -found.distinct * rows) if found.distinct else None)


def _family(row: Line) -> Family:
    if row.COLUMN_TYPE.lower() == "tinyint(1)":
        return "boolean"
    return FAMILIES.get(row.DATA_TYPE.lower(), "other")


def _width(row: Line) -> float | None:
    kind = row.DATA_TYPE.lower()
    if kind == "decimal":
        scale = int(row.NUMERIC_SCALE or 0)
        digits = (int(row.NUMERIC_PRECISION) - scale, scale)
        return sum(part // 9 * 4.0 + DIGIT_BYTES[part % 9] for part in digits)
    if kind == "binary":
        return float(row.CHARACTER_OCTET_LENGTH)
    return WIDTHS[kind] + float((int(row.DATETIME_PRECISION or 0) + 1) // 2) if kind in WIDTHS else None


def _index(told: _Told, parts: Rows, rows: float, facts: _Facts) -> Index:
    parts = sorted(parts, key=attrgetter("SEQ_IN_INDEX"))
    first = parts[0]
    name, place, unique = first.INDEX_NAME, (first.TABLE_NAME, first.INDEX_NAME), not int(first.NON_UNIQUE)
    constraint: ConstraintKind | None = "PRIMARY KEY" if name == PRIMARY else "UNIQUE" if unique else None
    index = Index(
        name=name,
        table=first.TABLE_NAME,
        keys=tuple(_key(part) for part in parts),
        unique=unique,
        constraint=constraint,
        method=METHODS.get(first.INDEX_TYPE.lower(), first.INDEX_TYPE.lower()),
        ignored=_fact(first, "IGNORED") == "YES" or _fact(first, "IS_VISIBLE") == "NO",
        size_bytes=facts.kept.size_bytes(place),
        distinct=_distinct(parts, facts.kept.distinct(place), rows if unique else None),
        uses=facts.counts.uses_of(place),
        rows_read=facts.counts.rows_of(place),
    )
    return replace(index, definition=_definition(index, told.row.ENGINE, facts))


def _distinct(parts: Rows, kept: Mapping[int, float], unique: float | None) -> tuple[float | None, ...]:
    """As InnoDB keeps it, or else as the server tells the optimizer."""
    found = [kept.get(number, _number(part.CARDINALITY)) for number, part in enumerate(parts, 1)]
    return (*found[:-1], unique or found[-1])


def _number(cardinality: int | None) -> float | None:
    return float(cardinality) if cardinality else None


def _fact(row: Line, name: str) -> Any:
    """What this version tells; None where another one would."""
    return row._mapping.get(name)


def _key(part: Line) -> Key:
    expression = _fact(part, "EXPRESSION")
    return Key(
        column=part.COLUMN_NAME if expression is None else None,
        expression=expression,
        descending=part.COLLATION == "D",
        length=int(part.SUB_PART) if part.SUB_PART and part.INDEX_TYPE not in WITHOUT_LENGTH else None,
    )


def _definition(index: Index, engine: str | None, facts: _Facts) -> str | None:
    keys, table = ", ".join(_written(key, facts.quote) for key in index.keys), facts.quote(index.table)
    if index.constraint == "PRIMARY KEY":
        return f"ALTER TABLE {table} ADD PRIMARY KEY ({keys})"
    if index.method == "fulltext" and facts.product == "mysql":
        return None  # it may be by a parser of its own (ngram), which no table of the server's tells
    kind = "UNIQUE " if index.unique else f"{index.method.upper()} " if index.method in ("fulltext", "spatial") else ""
    using = f" USING {index.method.upper()}" if engine == "MEMORY" else ""
    hidden = HIDDEN[facts.product] if index.ignored else ""
    return f"CREATE {kind}INDEX {facts.quote(index.name)} ON {table} ({keys}){using}{hidden}"


def _written(key: Key, quote: Callable[[str], str]) -> str:
    held = f"({key.expression})" if key.column is None else quote(key.column)
    length = f"({key.length})" if key.length is not None else ""
    return f"{held}{length}{' DESC' if key.descending else ''}"

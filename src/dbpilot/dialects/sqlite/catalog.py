"""What is in a SQLite file, or in one that is attached.

SQLite keeps neither sizes nor counts of rows, and what it tells of them it finds by reading the whole file: so that is
asked of files up to :data:`MAX_READ_BYTES` only. Whether an index is used, only plans of statements tell.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy import Connection, func, quoted_name, true

from dbpilot.dialects.catalog import Catalog, Column, ConstraintKind, Family, ForeignKey, Index, Key, Table
from dbpilot.dialects.reading import Line, grouped, version_of
from dbpilot.dialects.sampling import first_rows, learned, relation, rows_by_key, unknown, values_of
from dbpilot.sql.syntax import BACKTICK, BLOCK_COMMENT, BRACKET, DOUBLE, SINGLE
from dbpilot.unsupported import Unsupported

MAIN: Final = "main"
MAX_READ_BYTES: Final = 256 * 1024**2
"""Read within about a second."""
ROWID_KEY: Final = "INTEGER PRIMARY KEY"
"""What plans call the key that the table itself is ordered by, which is no index and has no name."""
ROWID_NAMES: Final = ("rowid", "_rowid_", "oid")
OF: Final = "of"
"""What the name of the table or index is labelled that a pragma was asked of, for that tells names, too."""
MIN_ROW_BYTES: Final = 8
"""Hardly a row is smaller."""
NO_ROWID: Final = re.compile(r"\bWITHOUT\s+ROWID\b(?=[^)]*\Z)", re.IGNORECASE)
TABLE_LIST_SINCE: Final = (3, 37)
FAMILIES: Final[tuple[tuple[str, Family], ...]] = (
    ("BOOL", "boolean"),
    ("DATETIME", "datetime"),
    ("TIMESTAMP", "datetime"),
    ("DATE", "date"),
    ("TIME", "time"),
    ("UUID", "uuid"),
    ("JSON", "json"),
    ("INT", "integer"),
    ("CHAR", "text"),
    ("CLOB", "text"),
    ("TEXT", "text"),
    ("BLOB", "binary"),
    ("REAL", "float"),
    ("FLOA", "float"),
    ("DOUB", "float"),
    ("NUMERIC", "decimal"),
    ("DECIMAL", "decimal"),
)
"""Parts of a declared type, the first that is found decides; a column may be declared to be anything."""
CONSTRAINTS: Final[Mapping[str, ConstraintKind]] = {"pk": "PRIMARY KEY", "u": "UNIQUE"}
TOKEN: Final = re.compile(
    rf"--[^\n]*|{BLOCK_COMMENT}|{SINGLE}|{DOUBLE}|{BACKTICK}|{BRACKET}|[^\W\d][\w$]*|\S", re.DOTALL
)
QUOTES: Final = {'"': '"', "`": "`", "[": "]", "'": "'"}
DIRECTION: Final = re.compile(r"\s+(?:ASC|DESC)\s*\Z", re.IGNORECASE)
COLLATE: Final = re.compile(rf"\s+COLLATE\s+(?:{DOUBLE}|{BACKTICK}|{BRACKET}|[\w$]+)\s*\Z", re.IGNORECASE)
WHERE: Final = re.compile(r"\s*WHERE\b\s*(.*?)\s*;?\s*\Z", re.IGNORECASE | re.DOTALL)

USES_UNKNOWN: Final = Unsupported(
    "SQLite counts no uses of indexes", "watch the application: the plans of its statements tell which they use"
)


def catalog(connection: Connection, schema: str | None = None, tables: Collection[str] | None = None) -> Catalog:
    """See :class:`dbpilot.dialects.catalog.ReadsCatalog`; ``schema`` is the name of an attached file."""
    file = _File(connection, schema or MAIN)
    wanted = [name for name in file.tables if tables is None or name in tables]
    made = {name: _table(file, name) for name in wanted}
    return Catalog(
        dialect="sqlite",
        version=version_of(connection),
        schema=schema,
        tables=made,
        uses_unknown=USES_UNKNOWN,
        notes=tuple(_notes(file)),
    )


def sampled(
    connection: Connection, table: Table, rows: int = 10_000, schema: str | None = None
) -> Mapping[str, Column]:
    """See :class:`dbpilot.dialects.catalog.SamplesTable`; rows are found by rowids drawn at random.

    Of a table without rowids it is the first ones.
    """
    columns = unknown(table)
    if not columns:
        return table.by_name
    source = relation(table, schema)
    query = sa.select(*values_of(columns, source))
    rowid = next((name for name in ROWID_NAMES if name not in {column.lower() for column in table.by_name}), None)
    if table.without_rowid or rowid is None:
        read, complete = first_rows(connection, query, rows)
    else:
        key: sa.ColumnElement[Any] = sa.literal_column(rowid, sa.Integer)
        read, complete = rows_by_key(connection, query, key, rows)
    return learned(table, columns, read, all_rows=complete)


@dataclass(frozen=True)
class _File:
    """What the file tells, each kind of fact asked for once."""

    connection: Connection
    schema: str
    notes: list[Unsupported] = field(default_factory=list)

    @cached_property
    def _master(self) -> sa.TableClause:
        columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in ("type", "name", "tbl_name", "sql")]
        return sa.table("sqlite_master", *columns, schema=quoted_name(self.schema, quote=True))

    def _of_each_table(self, pragma: str, *columns: str) -> defaultdict[str, list[Line]]:
        """What a pragma tells, by table."""
        made = self._master.c
        told = getattr(func, pragma)(made.name, self.schema).table_valued(*columns)
        query = sa.select(made.name.label(OF), told).select_from(self._master.join(told, true()))
        return grouped(
            self.connection.execute(query.where(made.type == "table", made.sql.not_ilike("CREATE VIRTUAL%")))
        )

    @cached_property
    def tables(self) -> Mapping[str, str]:
        """The statements that made the tables, by name; without virtual ones and what belongs to them."""
        made = self._master.c
        own = made.name.not_like("sqlite\\_%", escape="\\")
        query = sa.select(made.name, made.sql).where(made.type == "table", own).order_by(made.name)
        return {name: sql for name, sql in self.connection.execute(query) if self._kinds.get(name, "table") == "table"}

    @cached_property
    def _kinds(self) -> Mapping[str, str]:
        """What each is, where it is known: ``table``, ``virtual`` or ``shadow``."""
        if (self.connection.dialect.server_version_info or ()) < TABLE_LIST_SINCE:
            made = self._master.c
            virtual = sa.select(made.name).where(made.sql.ilike("CREATE VIRTUAL%"))
            return dict.fromkeys(self.connection.scalars(virtual), "virtual")
        listed = func.pragma_table_list().table_valued("schema", "name", "type")
        query = sa.select(listed.c.name, listed.c.type).where(listed.c.schema == self.schema)
        return {row[0]: row[1] for row in self.connection.execute(query)}

    @cached_property
    def columns(self) -> Mapping[str, Sequence[Line]]:
        """Of each table: name, declared type, NOT NULL, place in the primary key, kind."""
        return self._of_each_table("pragma_table_xinfo", "name", "type", "notnull", "pk", "hidden")

    @cached_property
    def indexes(self) -> Mapping[str, Sequence[Line]]:
        """Of each table: name, whether unique, what it is for, whether partial."""
        return self._of_each_table("pragma_index_list", "name", "unique", "origin", "partial")

    @cached_property
    def keys(self) -> Mapping[str, Sequence[Line]]:
        """Of each index: place, column's number, column, descending, collation."""
        made = self._master.c
        listed = func.pragma_index_list(made.name, self.schema).table_valued("name")
        told = func.pragma_index_xinfo(listed.c.name, self.schema).table_valued(
            "seqno", "cid", "name", "desc", "coll", "key"
        )
        query = sa.select(listed.c.name.label(OF), told).select_from(
            self._master.join(listed, true()).join(told, true())
        )
        plain = query.where(made.type == "table", made.sql.not_ilike("CREATE VIRTUAL%"), told.c.key == 1)
        return grouped(self.connection.execute(plain))

    @cached_property
    def index_sql(self) -> Mapping[str, str]:
        """The statements that made indexes; those of constraints have none."""
        made = self._master.c
        query = sa.select(made.name, made.sql).where(made.type == "index", made.sql.is_not(None))
        return {row[0]: row[1] for row in self.connection.execute(query)}

    @cached_property
    def foreign_keys(self) -> Mapping[str, Sequence[Line]]:
        """Of each table: number, place, table, columns here and there, what happens."""
        return self._of_each_table(
            "pragma_foreign_key_list", "id", "seq", "table", "from", "to", "on_update", "on_delete"
        )

    @cached_property
    def size_bytes(self) -> int:
        """Of the whole file."""
        pages = sa.select(func.pragma_page_count(self.schema).table_valued("page_count").c.page_count)
        size = sa.select(func.pragma_page_size(self.schema).table_valued("page_size").c.page_size)
        return int(self.connection.execute(pages).scalar_one() * self.connection.execute(size).scalar_one())

    @cached_property
    def sizes(self) -> Mapping[str, tuple[int, int]]:
        """Bytes of each table and index, and how many of them are unused."""
        compiled = self.connection.execute(sa.select(func.sqlite_compileoption_used("ENABLE_DBSTAT_VTAB"))).scalar()
        if not compiled or self.size_bytes > MAX_READ_BYTES:
            return {}
        stat = sa.table("dbstat", *(sa.column(name) for name in ("name", "pgsize", "unused", "schema", "aggregate"))).c
        query = sa.select(stat.name, stat.pgsize, stat.unused).where(stat.schema == self.schema, stat.aggregate == 1)
        return {name: (size, unused) for name, size, unused in self.connection.execute(query)}

    @cached_property
    def statistics(self) -> Mapping[str, Mapping[str | None, str]]:
        """What ANALYZE wrote: by table, and by index."""
        made = self._master.c
        found: defaultdict[str, dict[str | None, str]] = defaultdict(dict)
        if self.connection.execute(sa.select(made.name).where(made.name == "sqlite_stat1")).scalar() is None:
            return found
        names: list[sa.ColumnClause[Any]] = [sa.column(name) for name in ("tbl", "idx", "stat")]
        stat = sa.table("sqlite_stat1", *names, schema=quoted_name(self.schema, quote=True))
        for table, index, written in self.connection.execute(sa.select(stat)):
            if written:
                found[table][index] = written
        return found

    def rows(self, table: str, *, rowids: bool) -> tuple[float, bool]:
        """How many rows there are, and whether they were counted."""
        if self.statistics[table]:
            return max(float(written.split()[0]) for written in self.statistics[table].values()), False
        source = sa.table(quoted_name(table, quote=True), schema=quoted_name(self.schema, quote=True))
        if self.size_bytes <= MAX_READ_BYTES:
            return float(self.connection.execute(sa.select(func.count()).select_from(source)).scalar_one()), True
        if not rowids:
            return self.size_bytes / MIN_ROW_BYTES / len(self.tables), False
        rowid: sa.ColumnElement[int] = sa.literal_column("_rowid_", sa.Integer)
        low, high = self.connection.execute(sa.select(func.min(rowid), func.max(rowid)).select_from(source)).one()
        return 0.0 if low is None else min(high - low + 1.0, self.size_bytes / MIN_ROW_BYTES), False


def _notes(file: _File) -> Iterator[Unsupported]:
    if file.size_bytes > MAX_READ_BYTES:
        limit = MAX_READ_BYTES // 1024**2
        yield Unsupported(
            f"the file is larger than {limit} MiB: sizes are not told, and rows of tables without statistics are "
            "guessed by their lowest and highest rowid",
            "run ANALYZE on a copy, and keep its sqlite_stat1; sqlite3_analyzer tells sizes",
        )
    elif not file.sizes:
        yield Unsupported(
            "this SQLite was compiled without dbstat, and does not tell sizes",
            "use one that was compiled with SQLITE_ENABLE_DBSTAT_VTAB",
        )
    if not all(file.statistics[name] for name in file.tables):
        yield Unsupported("some tables have no statistics", "run ANALYZE, or PRAGMA optimize before closing")


def _table(file: _File, name: str) -> Table:
    without_rowid = bool(NO_ROWID.search(file.tables[name]))
    listed = file.indexes[name]
    key = [row.name for row in sorted(file.columns[name], key=lambda row: row.pk) if row.pk]
    is_rowid = bool(key) and not any(row.origin == "pk" for row in listed)
    rows, exact = file.rows(name, rowids=not without_rowid)
    collations = _collations(file.tables[name])
    size, _ = file.sizes.get(name, (None, 0))
    indexes = [_index(file, name, row, rows, collations) for row in listed]
    if is_rowid:
        indexes.append(
            Index(ROWID_KEY, name, (Key(key[0]),), unique=True, constraint="PRIMARY KEY", distinct=(rows or None,))
        )
    clustered = [
        replace(index, clustered=True, size_bytes=size)
        if index.constraint == "PRIMARY KEY" and (is_rowid or without_rowid)
        else index
        for index in indexes
    ]
    distinct = {index.columns[0]: index.distinct[0] for index in reversed(indexes) if _tells_column(index)}
    return Table(
        name=name,
        columns=tuple(
            _column(row, collations, distinct.get(row.name), is_key=bool(row.pk) and (is_rowid or without_rowid))
            for row in file.columns[name]
        ),
        indexes=tuple(sorted(clustered, key=lambda index: index.name)),
        foreign_keys=tuple(_foreign_keys(file, name)),
        rows=rows,
        rows_exact=exact,
        size_bytes=size,
        index_bytes=_sum(index.size_bytes for index in clustered if not index.clustered),
        analyzed=bool(file.statistics[name]) or (exact and not rows),
        without_rowid=without_rowid,
    )


def _sum(sizes: Iterator[int | None]) -> int | None:
    found = list(sizes)
    return None if None in found else sum(cast("list[int]", found))


def _tells_column(index: Index) -> bool:
    return index.where is None and index.keys[0].is_plain and index.distinct[:1] not in ((), (None,))


def _column(row: Line, collations: Mapping[str, str], distinct: float | None, *, is_key: bool) -> Column:
    declared = row.type.upper()
    family: Family = next((family for part, family in FAMILIES if part in declared), "other" if declared else "binary")
    collation = collations.get(row.name.lower(), "BINARY")
    return Column(
        name=row.name,
        type=row.type,
        family=family,
        nullable=not row.notnull and not is_key,
        distinct=distinct,
        collation=collation if family == "text" else None,
        case_insensitive=collation == "NOCASE",
        generated=row.hidden in (2, 3),
    )


def _index(file: _File, table: str, row: Line, rows: float, collations: Mapping[str, str]) -> Index:
    sql = file.index_sql.get(row.name)
    parts, rest = split(sql) if sql else ((), "")
    keys = tuple(
        _key(part, parts[place] if parts else "", collations) for place, part in enumerate(file.keys[row.name])
    )
    size, unused = file.sizes.get(row.name, (None, None))
    where = WHERE.match(rest)
    return Index(
        name=row.name,
        table=table,
        keys=keys,
        unique=bool(row.unique),
        constraint=CONSTRAINTS.get(row.origin),
        where=where[1] if row.partial and where else None,
        size_bytes=size,
        bloat_bytes=unused,
        distinct=_distinct(file.statistics[table].get(row.name), len(keys), None if row.partial else rows, row.unique),
        definition=sql,
    )


def _distinct(written: str | None, keys: int, rows: float | None, unique: int) -> tuple[float | None, ...]:
    """From ``rows, rows of one value of the first key, of the first two, ...``."""
    figures = [float(part) for part in (written or "").split() if part.isdecimal()]
    found: list[float | None] = [figures[0] / max(figure, 1.0) for figure in figures[1 : keys + 1]]
    found += [None] * (keys - len(found))
    return (*found[:-1], rows or None) if unique and rows is not None else tuple(found)


def _key(row: Line, written: str, collations: Mapping[str, str]) -> Key:
    own = collations.get((row.name or "").lower(), "BINARY")
    return Key(
        column=row.name,
        expression=COLLATE.sub("", DIRECTION.sub("", written)) if row.name is None else None,
        descending=bool(row.desc),
        collation=row.coll.upper() if row.coll.upper() != own else None,
    )


def _foreign_keys(file: _File, table: str) -> Iterator[ForeignKey]:
    found: defaultdict[int, list[Line]] = defaultdict(list)
    for row in file.foreign_keys[table]:
        found[row.id].append(row)
    for number in sorted(found, reverse=True):  # SQLite numbers them from the last one
        rows = sorted(found[number], key=lambda row: row.seq)
        first = rows[0]
        referred = next((name for name in file.tables if name.lower() == first.table.lower()), first.table)
        key = [row.name for row in sorted(file.columns[referred], key=lambda row: row.pk) if row.pk]
        there = tuple(row.to for row in rows)
        columns = tuple(getattr(row, "from") for row in rows)
        yield ForeignKey(
            None, table, columns, referred, tuple(key) if None in there else there, first.on_delete, first.on_update
        )


def _collations(sql: str) -> Mapping[str, str]:
    """Which collation the columns of a CREATE TABLE are declared with, in capitals, by their names in small letters."""
    found = {}
    for part in split(sql)[0]:
        depth, tokens = 0, []
        for token in _tokens(part):
            depth += (token == "(") - (token == ")")
            if not depth:
                tokens.append(token)
        places = [place for place, token in enumerate(tokens[:-1]) if token.upper() == "COLLATE" and place]
        if places:
            found[_bare(tokens[0]).lower()] = _bare(tokens[places[-1] + 1]).upper()
    return found


def _bare(name: str) -> str:
    end = QUOTES.get(name[:1])
    return name[1:-1].replace(end * 2, end) if end and name.endswith(end) else name


def _tokens(sql: str) -> Iterator[str]:
    return (match[0] for match in TOKEN.finditer(sql) if not match[0].startswith(("--", "/*")))


def split(sql: str) -> tuple[tuple[str, ...], str]:
    """The parts between commas of a statement's first brackets, and what follows these."""
    depth, start, parts = 0, 0, []
    for match in TOKEN.finditer(sql):
        token = match[0]
        if token == "(":
            depth += 1
            start = match.end() if depth == 1 else start
        elif depth == 1 and token in (",", ")"):
            parts.append(sql[start : match.start()].strip())
            start = match.end()
        if token == ")":
            depth -= 1
            if not depth:
                return tuple(parts), sql[match.end() :]
    return tuple(parts), ""

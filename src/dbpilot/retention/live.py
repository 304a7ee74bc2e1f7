"""The live tables, as the database describes them, and the tables that their rows are archived in."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.engine.interfaces import ReflectedForeignKeyConstraint
from sqlalchemy.exc import SAWarning

from dbpilot.errors import RefusedError

MADE_BY_US: Final = ("dbpilot_archive_journal", "dbpilot_holds", "dbpilot_locks")
TAKING: Final = ("CASCADE", "SET NULL", "SET DEFAULT")
"""What a foreign key may do to the children of a row that is deleted, other than refusing."""

Moment = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")

# A hidden index of MariaDB's, which SQLAlchemy does not know yet: whatever is cleaned, such an index is not used.
warnings.filterwarnings("ignore", "Unknown schema content: .* IGNORED", SAWarning)


@dataclass(frozen=True, slots=True)
class Child:
    """A table whose rows point at a live table's."""

    table: sa.Table
    columns: tuple[str, ...]
    parent_columns: tuple[str, ...]
    takes: str | None
    """What the database does to these rows when their parent goes; None when it refuses."""

    def of(self, parent: sa.Table, child: sa.FromClause) -> sa.ColumnElement[bool]:
        """The child's row points at the parent's."""
        pairs = zip(self.columns, self.parent_columns, strict=True)
        return sa.and_(*(child.c[own] == parent.c[theirs] for own, theirs in pairs))


@dataclass(frozen=True, slots=True)
class Live:
    """A live table."""

    table: sa.Table
    key_names: tuple[str, ...]
    children: tuple[Child, ...]

    @property
    def key(self) -> tuple[sa.Column[Any], ...]:
        """The columns that tell its rows apart."""
        return tuple(self.table.c[name] for name in self.key_names)

    @property
    def refers_to_itself(self) -> bool:
        """Rows may be children of rows of the same table."""
        return any(child.table.name == self.table.name for child in self.children)


class Catalogue:
    """Describes tables of one database, each once."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._inspector = sa.inspect(connection)
        self._metadata = sa.MetaData()
        self._foreign_keys: dict[str, list[ReflectedForeignKeyConstraint]] | None = None

    def names(self) -> list[str]:
        """The tables that there are."""
        return self._inspector.get_table_names()

    def table(self, name: str) -> sa.Table | None:
        """The table of this name, if there is one."""
        if not self._inspector.has_table(name):
            return None
        return reflected(self._connection, name, self._metadata)

    def live(self, name: str) -> Live:
        """The live table of this name.

        Raises:
            RefusedError: there is none, or nothing tells its rows apart.
        """
        table = self.table(name) if name in self.names() else None
        if table is None:
            known = ", ".join(sorted(set(self.names()) - set(MADE_BY_US))) or "none"
            raise RefusedError(f"there is no table {name!r}; there are: {known}")
        return Live(table, self._key_of(table), tuple(self._children_of(name)))

    def _key_of(self, table: sa.Table) -> tuple[str, ...]:
        """The primary key, or else the shortest unique key without NULLs."""
        unique = [each["column_names"] for each in self._inspector.get_unique_constraints(table.name)]
        unique += [
            [name for name in each["column_names"] if name]
            for each in self._inspector.get_indexes(table.name)
            if each["unique"] and None not in each["column_names"] and not _is_partial(each)
        ]
        candidates = [[column.name for column in table.primary_key], *sorted(unique, key=len)]
        for names in candidates:
            if names and all(_tells_apart(table.c[name]) for name in names):
                return tuple(names)
        raise RefusedError(
            f"{table.name} has no key that tells its rows apart: add a primary key, or a unique key of columns that "
            "are NOT NULL and no floats"
        )

    def _children_of(self, name: str) -> list[Child]:
        found = []
        for child, keys in self._all_foreign_keys().items():
            for key in keys:
                if key["referred_table"] == name:
                    table = reflected(self._connection, child, self._metadata)
                    takes = (key.get("options") or {}).get("ondelete", "NO ACTION").upper()
                    found.append(
                        Child(
                            table,
                            tuple(key["constrained_columns"]),
                            # SQLite's foreign keys may leave out that they mean the primary key.
                            tuple(key["referred_columns"]) or self._primary_key(name),
                            takes if takes in TAKING else None,
                        )
                    )
        return found

    def _primary_key(self, name: str) -> tuple[str, ...]:
        return tuple(self._inspector.get_pk_constraint(name)["constrained_columns"])

    def _all_foreign_keys(self) -> dict[str, list[ReflectedForeignKeyConstraint]]:
        if self._foreign_keys is None:
            found = self._inspector.get_multi_foreign_keys()
            self._foreign_keys = {table: list(keys) for (_, table), keys in found.items()}
            if self._connection.dialect.name == "sqlite":
                for table, keys in self._foreign_keys.items():
                    self._read_deletions(table, keys)
        return self._foreign_keys

    def _read_deletions(self, table: str, keys: Sequence[ReflectedForeignKeyConstraint]) -> None:
        """What SQLite does to rows whose parent goes; SQLAlchemy reads it only of keys that are written by themselves,
        not of those in a column's own line."""
        quoted = self._connection.dialect.identifier_preparer.quote_identifier(table)
        columns: dict[int, list[str]] = {}
        deletions: dict[int, str] = {}
        for row in self._connection.exec_driver_sql(f"PRAGMA foreign_key_list({quoted})").mappings():
            columns.setdefault(row["id"], []).append(row["from"])
            deletions[row["id"]] = row["on_delete"]
        by_columns = {tuple(names): deletions[number] for number, names in columns.items()}
        for key in keys:
            deletion = by_columns.get(tuple(key["constrained_columns"]))
            if deletion is not None:
                key.setdefault("options", {})["ondelete"] = deletion


def reflected(connection: sa.Connection, name: str, metadata: sa.MetaData | None = None) -> sa.Table:
    """The table of this name as the database describes it, without the tables that it points at."""
    return sa.Table(name, metadata or sa.MetaData(), autoload_with=connection, resolve_fks=False)


def _is_partial(index: Any) -> bool:
    """It covers only rows that are as its condition says."""
    options = index.get("dialect_options", {})
    return any(name.endswith("_where") and value is not None for name, value in options.items())


def _tells_apart(column: sa.Column[Any]) -> bool:
    """NULLs are like nothing, and a float may be another number once it was written down."""
    return not isinstance(column.type, sa.Float) and (column.primary_key or not column.nullable)


def plain_names(columns: Iterable[sa.ColumnElement[Any]]) -> list[str]:
    """The columns' names as Python's own texts: the collector follows a dict with keys of a class of SQLAlchemy's, and
    a dict for each row of a batch would have it go through the whole application's objects again and again."""
    return [str(column.key) for column in columns]


def stamp_name(table: sa.Table) -> str:
    """The archive's column that tells when a row was archived: beside a column of that name it has another."""
    return "dbpilot_archived_at" if "archived_at" in table.c else "archived_at"


def archive_columns(table: sa.Table, key_names: Sequence[str]) -> list[sa.Column[Any]]:
    """The columns of an archive of this table: the same values, nothing that makes or checks them, and a stamp.

    All but the key may be NULL, so that a column that the live table loses later is no trouble.
    """
    columns = [
        sa.Column(column.name, plain(column.type), nullable=column.name not in key_names, autoincrement=False)
        for column in table.columns
    ]
    return [*columns, sa.Column(stamp_name(table), Moment, nullable=True)]


def plain(type_: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    """The type, as one that is there already: nobody creates a PostgreSQL ENUM or DOMAIN again."""
    copy = type_.copy() if isinstance(type_, sa.types.SchemaType) else type_
    if hasattr(copy, "create_type"):
        copy.create_type = False
    return copy


def archive_table(live: Live, name: str) -> sa.Table:
    """The table beside the live one that its rows go to, as it would be made today: with no index but its key."""
    options = {
        option: value
        for option, value in live.table.dialect_kwargs.items()
        if option.partition("_")[2] in ("engine", "default charset", "charset", "collate", "row_format")
    }
    key = sa.PrimaryKeyConstraint(*live.key_names)
    return sa.Table(name, sa.MetaData(), *archive_columns(live.table, live.key_names), key, **options)

"""What may be changed: an index made or taken away, if its table is still what it was when that was planned."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

from dbpilot.dialects.catalog import Catalog, Index, Key, Table
from dbpilot.dialects.whatif import Grade, NewIndex

Act = Literal["create", "drop"]


@dataclass(frozen=True, slots=True)
class Promise:
    """What a change is to do to the statements of one pattern."""

    pattern_id: str
    ratio: float
    """Their time afterwards as a multiple of that before: 0.2 for a fifth; 1 for those that are only to be as before;
    above 1 for those that are known to pay, as an INSERT does."""
    mean_s: float | None = None
    """How long one of them took when this was promised."""


@dataclass(frozen=True, slots=True)
class Change:
    """An index that is to be made, or to be taken away."""

    act: Act
    table: str
    name: str
    """The index's."""
    why: str
    index: NewIndex | None = None
    """Of one that is to be made."""
    promises: tuple[Promise, ...] = ()
    """Every pattern that touches the table and is watched; those with a ratio below 1 are what it is made for."""
    grade: Grade = "estimate"
    """How the promises are known."""
    size_bytes: float | None = None
    """How large the new index is thought to be."""
    served_by: str | None = None
    """The index that serves in the place of one that goes: if that one is taken back, this one comes back before."""


def create(
    index: NewIndex,
    name: str,
    why: str,
    *,
    promises: tuple[Promise, ...] = (),
    grade: Grade = "estimate",
    size_bytes: float | None = None,
) -> Change:
    """This index is to be made under this name."""
    return Change("create", index.table, name, why, index, promises, grade, size_bytes)


def drop(index: Index, why: str, *, promises: tuple[Promise, ...] = (), served_by: str | None = None) -> Change:
    """This index is to be taken away."""
    return Change("drop", index.table, index.name, why, None, promises, served_by=served_by)


def fingerprint(table: Table, changes: Iterable[Change]) -> str:
    """Sixteen digits that name the table as it will be when all these changes have been made.

    So they stay the same while the changes are made one after another, and are others as soon as somebody else changes
    a column, a foreign key or an index.
    """
    mine = [change for change in changes if change.table == table.name]
    gone = {change.name for change in mine if change.act == "drop"}
    stay = {shape(index) for index in table.indexes if index.name not in gone}
    made = {shape(change.index) for change in mine if change.index is not None}
    columns = [(column.name, column.type, column.nullable) for column in table.columns]
    keys = sorted((key.columns, key.referred_table, key.referred_columns) for key in table.foreign_keys)
    seen = repr((columns, keys, sorted(map(repr, stay | made))))
    return blake2b(seen.encode(), digest_size=8).hexdigest()


def shape(index: Index | NewIndex) -> tuple[Any, ...]:
    """All that makes one index do what another does; not its name."""
    own = (index.where, index.method, index.nulls_distinct) if isinstance(index, Index) else (None, "btree", True)
    return index.keys, frozenset(index.include), index.unique, *own


def same(index: Index | None, new: NewIndex) -> bool:
    """Whether the index is the one that was to be made; of expressions, which databases write anew in their own way, it
    is enough that they stand in the same places."""
    if index is None or (index.table, index.unique, index.where) != (new.table, new.unique, None):
        return False
    return set(index.include) == set(new.include) and list(map(_plain, index.keys)) == list(map(_plain, new.keys))


def _plain(key: Key) -> tuple[Any, ...]:
    return key.column, key.column is None, key.descending, key.length, key.collation, key.opclass


def equal_one(table: Table, new: NewIndex) -> Index | None:
    """An index of the table that does already what the new one would; one that is hidden or broken does not."""
    usable = (index for index in table.indexes if index.valid and not index.ignored)
    return next((index for index in usable if shape(index) == shape(new)), None)


def why_kept(index: Index, catalog: Catalog) -> str | None:
    """Why this index must not go, in a sentence; None where it may."""
    if index.constraint is not None:
        return f"{index.name} keeps a {index.constraint} of {index.table} true"
    if index.unique or index.clustered:
        return (
            f"{index.name} keeps rows of {index.table} apart" if index.unique else f"{index.name} is the table itself"
        )
    table = catalog.tables[index.table]
    others = [other for other in table.indexes if other.name != index.name and other.valid and not other.ignored]
    needed = [(key.columns, f"to {key.referred_table}") for key in table.foreign_keys]
    needed += [(key.referred_columns, f"from {key.table}") for key in catalog.referring.get(index.table, ())]
    for columns, where in needed:
        if _serves(index, columns) and not any(_serves(other, columns) for other in others):
            return f"{index.name} is the only index for the foreign key {where} on {', '.join(columns)}"
    return None


def _serves(index: Index, columns: tuple[str, ...]) -> bool:
    return index.where is None and set(index.columns[: len(columns)]) == set(columns)

"""What is amiss with the indexes that there are, and with the tables and conditions that they should serve.

Nothing is asked of the database: all is concluded from a catalogue, and from a workload where one is known. What looks
needless and must stay is said as well, with the reason: see :attr:`Finding.kept_because`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from dbpilot.dialects.catalog import MIN_ROWS, Catalog, Column, ForeignKey, Index, Key, Table
from dbpilot.dialects.whatif import NewIndex
from dbpilot.indexes.redundancy import MYSQLS, Kept, Redundant, hinted, redundancies, uses_of
from dbpilot.indexes.workload import Workload
from dbpilot.sql.predicates import Defeat
from dbpilot.unsupported import Unsupported

Kind = Literal[
    "duplicate",
    "prefix",
    "unused",
    "ignored",
    "invalid",
    "bloat",
    "foreign key",
    "primary key",
    "write share",
    "type",
    "condition",
]
Risk = Literal["safe", "look first"]

BLOATED: Final = 0.5
BLOATED_BYTES: Final = 16 * 2**20
"""An index is built anew when so much of it is empty; less is filled again soon enough."""
MANY_INDEXES: Final = 5
WRITES_PER_READ: Final = 3.0
"""A table with so many secondary indexes, and so many rows written for each read of one, pays too much for them."""
NUMBERS: Final = ("integer", "decimal", "float")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is amiss, or looks so."""

    kind: Kind
    table: str
    reason: str
    """In one sentence."""
    risk: Risk = "look first"
    indexes: tuple[str, ...] = ()
    """The index that it is about, and then others."""
    covered_by: str | None = None
    """The index that serves in its place."""
    frees_bytes: int | None = None
    kept_because: str | None = None
    """Why nothing is proposed though it looks needless; None for a finding that something should be done about."""
    evidence: tuple[str, ...] = ()
    drop: str | None = None
    """The index that should go."""
    create: NewIndex | None = None
    rebuild: str | None = None
    """The index that should be built anew."""
    waits_for: NewIndex | None = None
    """The index that has to be made before this is done."""
    rewrite: str | None = None
    """What to write in a statement's, or a column's, place."""
    statements: tuple[str, ...] = ()
    """The patterns, by id, that it is about."""

    @property
    def is_proposal(self) -> bool:
        """Whether there is a statement that would put it right."""
        return self.kept_because is None and any((self.drop, self.create, self.rebuild))


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known beyond the catalogue; nothing, unless somebody says so."""

    uses_elsewhere: Mapping[str, int] | None = None
    """How often each index (``table.index``) was read on the replicas; None where there are none, or nobody asked."""
    seen_since: Mapping[str, datetime] | None = None
    """When each index (``table.index``) was first seen: one that is new, or not among them, is not called unused."""
    used_by: Mapping[str, tuple[str, ...]] | None = None
    """The patterns, by id, whose plans use each index (``table.index``)."""
    workload: Workload | None = None
    planned: tuple[NewIndex, ...] = ()
    """Indexes that are advised: what they make needless is said as well."""
    on_trial: frozenset[str] = frozenset()
    """Indexes (``table.index``) that were hidden to see whether they are missed; what becomes of them is decided."""


def audit(
    catalog: Catalog,
    now: datetime,
    unused_after: timedelta,
    observed: Observed = Observed(),
) -> tuple[Finding, ...]:
    """What is amiss, table by table. All proposals can be followed together: whatever serves in the place of an index
    that goes stays, and so does an index for every foreign key.

    ``unused_after``: the time for which nothing must have read an index that is called unused.
    """
    return tuple(
        finding
        for table in catalog.tables.values()
        for finding in _Audit(catalog, table, now, unused_after, observed).findings()
    )


def unknowns(catalog: Catalog, now: datetime, unused_after: timedelta) -> tuple[Unsupported, ...]:
    """Why nothing is said of unused indexes; empty where something could be."""
    if catalog.uses_unknown is not None:
        return (catalog.uses_unknown,)
    if catalog.uses_since is None:
        reason = "since when this database has counted how often indexes are read is not known"
        return (Unsupported(reason, f"keep watching: {_days(unused_after)} after an index was first seen it is known"),)
    counted, from_then = now - catalog.uses_since, catalog.uses_since + unused_after
    if counted < unused_after:
        reason = f"this database has counted how often indexes are read for {_days(counted)} only"
        return (Unsupported(reason, f"wait until {from_then:%Y-%m-%d}: {_days(unused_after)} tell"),)
    return ()


class _Audit:
    """Looks at one table."""

    def __init__(
        self, catalog: Catalog, table: Table, now: datetime, unused_after: timedelta, observed: Observed
    ) -> None:
        self._catalog = catalog
        self._table = table
        self._now = now
        self._unused_after = unused_after
        self._observed = observed
        self._like_mysql = catalog.dialect in MYSQLS
        self._named = hinted(observed.workload)
        self._staying = {index.name: index for index in table.indexes if index.valid}
        """Those that no finding lets go: what a foreign key needs has to be among them."""
        self._planned = [one for one in observed.planned if one.table == table.name]
        self._missing = tuple(self._foreign_keys())
        self._unread = self._unread_ones()

    def findings(self) -> Iterator[Finding]:
        """All of this table, what can be done first."""
        yield from self._invalid()
        yield from self._redundant()
        yield from self._missing
        yield from self._bloat()
        yield from self._no_primary_key()
        yield from self._write_share()
        yield from self._types()
        yield from self._conditions()

    def _invalid(self) -> Iterator[Finding]:
        for index in self._table.indexes:
            if not index.valid:
                kept = self._why_not_removed(index)
                yield Finding(
                    "invalid",
                    self._table.name,
                    f"{index.name} was never finished, or is being built at this moment: every write may pay for it.",
                    indexes=(index.name,),
                    frees_bytes=None if kept else index.size_bytes,
                    kept_because=kept,
                    evidence=() if kept else ("somebody may be building it now",),
                    drop=None if kept else index.name,
                )

    def _why_not_removed(self, index: Index) -> str | None:
        if index.constraint or index.needed_by:
            return f"{', '.join(index.needed_by) or 'a constraint'} rests on it: build it anew (REINDEX)"
        if index.is_used:  # a partitioned table's, which is not valid before each partition has its own
            return "it is read where partitions have their share of it: make the others, and attach them"
        return None

    def _redundant(self) -> Iterator[Finding]:
        planned = {_listed(one): one for one in self._planned}
        as_if = [_index(name, one) for name, one in planned.items()]
        workload = self._observed.workload
        for found in list(redundancies(self._catalog, self._table, workload, self._going(), as_if)):
            if isinstance(found, Redundant):
                self._staying.pop(found.index.name, None)
                self._unread.pop(found.index.name, None)
                yield self._redundant_one(found, planned.get(found.cover.name))
            elif found.index.name in self._staying:
                yield self._kept(found)
        yield from self._unread.values()

    def _going(self) -> frozenset[str]:
        """Those that may go as nothing reads them."""
        return frozenset(name for name, found in self._unread.items() if found.is_proposal)

    def _kept(self, kept: Kept) -> Finding:
        return Finding(
            "duplicate" if len(kept.index.keys) == len(kept.resembles.keys) else "prefix",
            self._table.name,
            f"{kept.index.name} looks as if {kept.resembles.name} served in its place, and does not.",
            indexes=(kept.index.name, kept.resembles.name),
            kept_because=kept.because,
        )

    def _redundant_one(self, found: Redundant, waits_for: NewIndex | None) -> Finding:
        index, cover, columns = found.index, found.cover, ", ".join(found.index.columns)
        reason = (
            f"{index.name} is the same index as {cover.name}: ({columns})."
            if found.is_duplicate
            else f"{index.name} ({columns}) is a prefix of {cover.name} ({', '.join(cover.columns)}), which serves it."
        )
        if waits_for:
            reason = f"{index.name} ({columns}) is needed no more once there is an index on {cover.name}."
        return Finding(
            "duplicate" if found.is_duplicate else "prefix",
            self._table.name,
            reason,
            "look first" if found.doubts else "safe",
            indexes=(index.name,) if waits_for else (index.name, cover.name),
            covered_by=None if waits_for else cover.name,
            frees_bytes=index.size_bytes,
            evidence=(*found.doubts, *self._read(index), *self._written()),
            drop=index.name,
            waits_for=waits_for,
        )

    def _unread_ones(self) -> dict[str, Finding]:
        """What is said of indexes that nothing reads: for nobody did for long, or nobody may; those that may go do not
        stay."""
        found: dict[str, Finding] = {}
        for index in list(self._staying.values()):
            unread = self._ignored(index) or self._unused(index)
            if unread:
                judged = self._judged(unread, index)
                if judged.is_proposal:
                    del self._staying[index.name]
                if judged.is_proposal or index.constraint is None:
                    found[index.name] = judged
        return found

    def _judged(self, unread: Finding, index: Index) -> Finding:
        """Whether it may go: now, or once one of the planned indexes is there, or not at all."""
        others = [other for other in self._staying.values() if other is not index]
        kept = self._why_it_stays(index, others)
        if kept is None:
            return unread
        for planned in self._planned:
            if self._why_it_stays(index, [*others, _index("", planned)]) is None:
                return replace(unread, waits_for=planned)
        return replace(unread, kept_because=kept, frees_bytes=None, drop=None)

    def _ignored(self, index: Index) -> Finding | None:
        if not index.ignored:
            return None
        if _key(index) in self._observed.on_trial:
            said = f"{index.name} is hidden from the optimizer, to see whether it is missed."
            why = "it is on trial, and dropped or shown again by itself when that is over"
            return Finding("ignored", self._table.name, said, indexes=(index.name,), kept_because=why)
        return Finding(
            "ignored",
            self._table.name,
            f"The optimizer is told to leave {index.name} alone, and every write still pays for it.",
            indexes=(index.name,),
            frees_bytes=index.size_bytes,
            evidence=self._written(),
            drop=index.name,
        )

    def _unused(self, index: Index) -> Finding | None:
        since = self._unread_since(index)
        if since is None or self._now - since < self._unused_after:
            return None
        where = "" if self._observed.uses_elsewhere is None else ", neither here nor on a replica"
        return Finding(
            "unused",
            self._table.name,
            f"Nothing has read {index.name} since {since:%Y-%m-%d}, for {_days(self._now - since)}{where}.",
            indexes=(index.name,),
            frees_bytes=index.size_bytes,
            evidence=(*self._written(), *self._not_known()),
            drop=index.name,
        )

    def _not_known(self) -> tuple[str, ...]:
        laws = (
            (self._observed.uses_elsewhere is None, "replicas count for themselves, and none was asked"),
            (self._observed.seen_since is None, "when it was made is not known: look whether it is older than that"),
        )
        return tuple(said for holds, said in laws if holds)

    def _unread_since(self, index: Index) -> datetime | None:
        """Since when nothing has read it, for certain; None where something did, or nobody can tell."""
        seen = (self._observed.seen_since or {}).get(_key(index))
        is_new = self._observed.seen_since is not None and seen is None
        counted = max((since for since in (self._catalog.uses_since, seen) if since), default=None)
        if index.is_used is None or counted is None or is_new:
            return None
        if index.last_used is not None:
            return max(index.last_used, counted)
        return None if index.is_used else counted

    def _why_it_stays(self, index: Index, others: list[Index]) -> str | None:
        """Why an index that nothing reads is needed all the same, with the others that there are."""
        laws: tuple[tuple[bool, str], ...] = (
            (index.clustered, "the rows of the table lie in it"),
            (index.unique or index.constraint is not None, "it keeps a rule, whether or not somebody reads it"),
            (bool(index.needed_by), f"{', '.join(index.needed_by)} rests on it"),
            (index.name.lower() in self._named, "a statement names it, and would fail without it"),
            (bool((self._observed.uses_elsewhere or {}).get(_key(index))), "a replica reads it"),
            (bool((self._observed.used_by or {}).get(_key(index))), "a statement that was watched would use it"),
            (self._table.rows < MIN_ROWS, "the table is so small that no index of it is read, and may grow"),
            (self._may_count_up(index, others), f"{index.columns[0]} may be AUTO_INCREMENT, which needs it"),
        )
        said = next((why for holds, why in laws if holds), None)
        return said or self._needed_by_a_foreign_key(index, others)

    def _may_count_up(self, index: Index, others: Iterable[Index]) -> bool:
        """MySQL demands an index that begins with the column; whether a column counts up a catalogue does not say."""
        first = self._table.by_name.get(index.columns[0])
        if not self._like_mysql or first is None or first.nullable or first.family not in NUMBERS:
            return False
        return not any(other.columns[0] == first.name for other in others)

    def _needed_by_a_foreign_key(self, index: Index, others: list[Index]) -> str | None:
        for key in self._table.foreign_keys:
            if self._serves(index, key.columns) and not any(self._serves(other, key.columns) for other in others):
                return f"the foreign key to {key.referred_table} is checked by it, which no database counts as a read"
        for key in self._catalog.referring.get(self._table.name, ()):
            columns = key.referred_columns
            if self._serves(index, columns) and not any(self._serves(other, columns) for other in others):
                return f"the foreign key from {key.table} rests on it"
        return None

    def _serves(self, index: Index, columns: tuple[str, ...]) -> bool:
        """Whether rows are found by the foreign key's columns with it; MySQL wants them in the same order."""
        first = index.columns[: len(columns)]
        found = first == columns if self._like_mysql else set(first) == set(columns) and len(first) == len(columns)
        return found and index.valid and index.method in ("btree", "hash") and self._holds_all(index, columns)

    def _holds_all(self, index: Index, columns: tuple[str, ...]) -> bool:
        """Whether every row that refers to another is in it, with its whole value."""
        whole = all(key.length is None for key in index.keys[: len(columns)])
        return whole and (index.where is None or index.where.lower().strip("()") == f"{columns[0].lower()} is not null")

    def _foreign_keys(self) -> Iterator[Finding]:
        """The longest first, as an index for it may serve another as well; what is wanted is planned from then on."""
        by_columns = {key.columns: key for key in reversed(self._table.foreign_keys)}
        if self._table.rows < MIN_ROWS:
            return
        for columns in sorted(by_columns, key=lambda columns: (-len(columns), columns)):
            if not self._is_served(columns):
                yield self._foreign_key(by_columns[columns])

    def _is_served(self, columns: tuple[str, ...]) -> bool:
        """Whether an index begins with the columns, or the primary key, which SQLite may have without an index."""
        in_key = set(self._table.primary_key[: len(columns)]) == set(columns)
        return in_key or any(self._serves(index, columns) for index in self._staying.values())

    def _foreign_key(self, key: ForeignKey) -> Finding:
        columns, parent = ", ".join(key.columns), self._catalog.tables.get(key.referred_table)
        quiet = parent is not None and parent.changes is not None and parent.changes.deleted == 0
        fitting = [one for one in self._planned if self._serves(_index("", one), key.columns)]
        wanted = fitting[0] if fitting else NewIndex(self._table.name, tuple(Key(column) for column in key.columns))
        if not fitting:
            self._planned.append(wanted)
        return Finding(
            "foreign key",
            self._table.name,
            f"No index begins with {columns}, which refer{'s' if len(key.columns) == 1 else ''} to"
            f" {key.referred_table}: each DELETE there, and each change of its key, reads all of {self._table.name}.",
            "look first" if quiet else "safe",
            evidence=(f"nothing was deleted from {key.referred_table} so far",) if quiet else (),
            create=wanted,
        )

    def _bloat(self) -> Iterator[Finding]:
        for index in self._staying.values():
            if index.bloat_bytes is None or not index.size_bytes:
                continue
            share = index.bloat_bytes / index.size_bytes
            if share >= BLOATED and index.bloat_bytes >= BLOATED_BYTES:
                yield Finding(
                    "bloat",
                    self._table.name,
                    f"About {share:.0%} of {index.name} is empty.",
                    "safe",
                    indexes=(index.name,),
                    frees_bytes=index.bloat_bytes,
                    evidence=("an estimate from statistics",),
                    rebuild=index.name,
                )

    def _no_primary_key(self) -> Iterator[Finding]:
        if not self._table.primary_key:
            yield Finding(
                "primary key",
                self._table.name,
                f"{self._table.name} has no primary key: a row cannot be named, and replication that goes by rows"
                " has to search for it.",
            )

    def _write_share(self) -> Iterator[Finding]:
        secondary = [index for index in self._staying.values() if not index.clustered and not index.constraint]
        reads, writes = self._reads(), self._writes()
        if reads is None or writes is None or len(secondary) < MANY_INDEXES or writes < WRITES_PER_READ * max(reads, 1):
            return
        least = sorted(secondary, key=lambda index: (index.uses or 0, -(index.size_bytes or 0)))
        yield Finding(
            "write share",
            self._table.name,
            f"{len(secondary)} indexes that keep no rule are written {writes:,} times for {reads:,} reads:"
            " each of them has to earn its keep.",
            indexes=tuple(index.name for index in least),
            evidence=tuple(said for index in least for said in self._read(index)),
        )

    def _reads(self) -> int | None:
        counted = [index.uses for index in self._table.indexes]
        known = [uses for uses in counted if uses is not None]
        return sum(known) if len(known) == len(counted) else None

    def _writes(self) -> int | None:
        changes = self._table.changes
        return None if changes is None else changes.inserted + changes.updated + changes.deleted

    def _types(self) -> Iterator[Finding]:
        """Columns that are compared though no index on either can be used for it."""
        for here, table, there, statement in dict.fromkeys(self._compared()):
            mine, others = self._table.by_name.get(here), _column(self._catalog, table, there)
            said = _mismatch(self._catalog.dialect, mine, others) if mine and others else None
            if said:
                yield Finding(
                    "type",
                    self._table.name,
                    f"{self._table.name}.{here} is compared with {table}.{there}, and {said}.",
                    rewrite=f"Give {here} and {there} the same type and collation.",
                    statements=(statement,) if statement else (),
                )

    def _compared(self) -> Iterator[tuple[str, str, str, str]]:
        """This table's column, the other table and column, and the pattern that compares them, if it is one."""
        for key in self._table.foreign_keys:
            for here, there in zip(key.columns, key.referred_columns, strict=False):
                yield here, key.referred_table, there, ""
        for statement, use in uses_of(self._observed.workload, self._table.name):
            for join in use.joins:
                if (self._table.name, join.column) <= (
                    join.other_table,
                    join.other_column,
                ):  # once, not from both sides
                    yield join.column, join.other_table, join.other_column, statement.id

    def _conditions(self) -> Iterator[Finding]:
        """Conditions of statements that no plain index serves, each once."""
        found: dict[Defeat, list[str]] = {}
        for statement, use in uses_of(self._observed.workload, self._table.name):
            for defeat in use.defeats:
                found.setdefault(defeat, []).append(statement.id)
        if self._table.rows >= MIN_ROWS:
            yield from (self._condition(*one) for one in found.items() if one[0].rewrite and not self._has(one[0]))

    def _condition(self, defeat: Defeat, statements: list[str]) -> Finding:
        return Finding(
            "condition",
            self._table.name,
            f"No index on {self._table.name}.{defeat.column} can serve {defeat.condition} ({defeat.trouble}).",
            rewrite=defeat.rewrite,
            statements=tuple(dict.fromkeys(statements)),
        )

    def _has(self, defeat: Defeat) -> bool:
        """Whether there is an index on the very expression."""
        return defeat.expression is not None and any(
            defeat.expression == index.columns[0] for index in self._staying.values()
        )

    def _read(self, index: Index) -> tuple[str, ...]:
        if index.uses is None:
            return ()
        since = self._catalog.uses_since
        return (f"{index.name} was read {index.uses:,} times" + (f" since {since:%Y-%m-%d}" if since else ""),)

    def _written(self) -> tuple[str, ...]:
        writes = self._writes()
        return (
            () if writes is None else (f"{self._table.name} was written {writes:,} times, each time with all indexes",)
        )


def _index(name: str, planned: NewIndex) -> Index:
    """As it would be in the catalogue."""
    return Index(name, planned.table, planned.keys, planned.include, unique=planned.unique)


def _listed(planned: NewIndex) -> str:
    return f"({', '.join(planned.columns)})"


def _key(index: Index) -> str:
    return f"{index.table}.{index.name}"


def _column(catalog: Catalog, table: str, column: str) -> Column | None:
    found = catalog.tables.get(table)
    return None if found is None else found.by_name.get(column)


def _mismatch(dialect: str, one: Column, other: Column) -> str | None:
    """Why an index on one is of no use when the two are compared, as far as their types tell."""
    families = {one.family, other.family}
    if "text" in families and families & {*NUMBERS, "date", "datetime"}:
        return f"one is {one.type} and the other {other.type}: one of them is converted row by row"
    if dialect == "postgresql" and len(families & set(NUMBERS)) == 2:
        return f"one is {one.type} and the other {other.type}: one of them is converted row by row"
    if dialect in MYSQLS and families == {"text"} and one.collation != other.collation:
        return f"their collations are {one.collation} and {other.collation}: one of them is converted row by row"
    return None


def _days(time: timedelta) -> str:
    days = time.days
    return f"{days} day{'' if days == 1 else 's'}"

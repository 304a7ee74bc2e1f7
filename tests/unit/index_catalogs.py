"""Catalogues made by hand, and drawn at random."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from dbpilot.dialects.catalog import Catalog, Column, Family, ForeignKey, Index, Key, Table
from dbpilot.indexes.audit import Finding

NOW = datetime(2026, 11, 26, tzinfo=UTC)
MONTH = timedelta(days=30)
LONG_AGO = NOW - timedelta(days=90)
EVERY_READ = 7


def column(name: str, family: Family = "integer", **more: Any) -> Column:
    return Column(name, more.pop("type", "int"), family, nullable=more.pop("nullable", True), **more)


def index(name: str, *columns: str, table: str = "t", **more: Any) -> Index:
    keys = more.pop("keys", None) or tuple(Key(one.rstrip("-"), descending=one.endswith("-")) for one in columns)
    return Index(name, table, keys, **{"uses": EVERY_READ, "size_bytes": 1 << 20, **more})


PRIMARY = index("PRIMARY", "id", unique=True, constraint="PRIMARY KEY", clustered=True)


def table(*indexes: Index, name: str = "t", primary: Index | None = PRIMARY, **more: Any) -> Table:
    columns = (column("id", nullable=False), *(column(letter) for letter in "abc"), column("s", "text", type="varchar"))
    own = [replace(one, table=name) for one in ([primary] if primary else []) + list(indexes)]
    return Table(name, more.pop("columns", columns), tuple(own), **{"rows": 10_000, **more})


def catalog(*tables: Table, dialect: str = "mariadb", **more: Any) -> Catalog:
    return Catalog(dialect, (10, 11), "shop", {one.name: one for one in tables}, **{"uses_since": LONG_AGO, **more})


KEYS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    """A table with indexes of every kind, and one that it refers to."""
    indexes = []
    for number in range(draw(st.integers(0, 6))):
        keys = tuple(
            Key(name, descending=draw(st.booleans()), length=draw(st.sampled_from([None, None, 5])))
            for name in draw(KEYS)
        )
        one = Index(
            f"i{number}",
            "t",
            keys,
            unique=draw(st.sampled_from([False, False, False, True])),
            valid=draw(st.sampled_from([True] * 5 + [False])),
            ignored=draw(st.sampled_from([False] * 5 + [True])),
            where=draw(st.sampled_from([None, None, None, "a > 1"])),
            uses=draw(st.sampled_from([0, 3, 3])),
            size_bytes=draw(st.sampled_from([None, 4096, 1 << 20, 100 << 20])),
            bloat_bytes=draw(st.sampled_from([None, None, 1 << 12])),
        )
        indexes.append(replace(one, constraint="UNIQUE") if one.unique and draw(st.booleans()) else one)
    refers = [ForeignKey(f"fk{name}", "t", (name,), "p", ("id",)) for name in draw(st.sets(st.sampled_from("abc")))]
    both = table(*indexes, foreign_keys=tuple(refers)), table(name="p")
    return catalog(*both, dialect=draw(st.sampled_from(["mariadb", "mysql", "postgresql", "sqlite"])))


def followed(before: Catalog, findings: Iterable[Finding]) -> Catalog:
    """The catalogue once the proposals are followed."""
    tables = dict(before.tables)
    for finding in findings:
        if not finding.is_proposal:
            continue
        old = tables[finding.table]
        kept = [one for one in old.indexes if one.name != finding.drop]
        if finding.create:
            keys = finding.create.keys
            name = f"new_{len(kept)}_{finding.create.columns}"
            kept.append(Index(name, old.name, keys, uses=EVERY_READ, size_bytes=1 << 20))
        kept = [replace(one, bloat_bytes=0) if one.name == finding.rebuild else one for one in kept]
        tables[finding.table] = replace(old, indexes=tuple(kept))
    return replace(before, tables=tables)

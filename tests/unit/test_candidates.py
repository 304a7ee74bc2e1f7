"""Which indexes are worth a question: in the right order, none that is there already, none that a database refuses."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import sqlalchemy as sa

from benchmarks import tpch
from dbpilot.dialects.catalog import Catalog, Column, Family, Index, Key, Table
from dbpilot.dialects.whatif import NewIndex
from dbpilot.indexes.candidates import MAX_IN_ALL, MAX_PER_TABLE, candidates, merged, name_of
from dbpilot.indexes.statements import create_of, drop_of
from dbpilot.indexes.widths import MAX_PAYLOAD_BYTES, bytes_of
from dbpilot.sql.predicates import Predicates, predicates_of
from tests import shop

PG, MY, LITE = "postgresql", "mariadb", "sqlite"
ALL = (PG, MY, LITE)
VERSIONS = {PG: (15, 4), MY: (10, 11, 6), LITE: (3, 40, 1)}

INTEGER = Column("", "integer", "integer", nullable=True, width=4, distinct=10_000)
TEXT = Column("", "varchar(40)", "text", nullable=True, width=12, distinct=5_000)
LONG = Column("", "text", "text", nullable=True, width=400, distinct=5_000)
MOMENT = Column("", "timestamp", "datetime", nullable=True, width=8, distinct=90_000)
FLAG = Column("", "boolean", "boolean", nullable=True, width=1, distinct=2)
JSON = Column("", "json", "json", nullable=True)


def catalog(dialect: str, *, columns: dict[str, Column] | None = None, indexes: Sequence[Index] = ()) -> Catalog:
    """One table ``t`` with these columns, and its primary key ``id``."""
    usual = {"a": INTEGER, "b": INTEGER, "c": INTEGER, "s": TEXT, "at": MOMENT, "long": LONG, "on": FLAG, "doc": JSON}
    kinds = {"id": replace(INTEGER, nullable=False), **usual, **(columns or {})}
    made = tuple(replace(column, name=name) for name, column in kinds.items())
    key = Index("pk", "t", (Key("id"),), unique=True, constraint="PRIMARY KEY", clustered=dialect != PG)
    table = Table("t", made, (key, *indexes), rows=100_000)
    other = replace(table, name="u", indexes=(replace(key, table="u"),))
    return Catalog(dialect, VERSIONS[dialect], None, {"t": table, "u": other})


def index(*columns: str | Key, **facts: Any) -> Index:
    """A present index of ``t``."""
    keys = tuple(column if isinstance(column, Key) else Key(column) for column in columns)
    return Index(facts.pop("name", "present"), "t", keys, **facts)


def asked(statement: str, known: Catalog) -> Predicates:
    found = predicates_of(statement, known.dialect, known.columns)
    assert found is not None
    return found


def found(statement: str, known: Catalog) -> list[str]:
    """The candidates on ``t`` in words, the most promising first."""
    return [told(one) for one in candidates([asked(statement, known)], known) if one.table == "t"]


def told(new: NewIndex) -> str:
    keys = [f"{key.column or f'({key.expression})'}{' desc' if key.descending else ''}" for key in new.keys]
    return ", ".join(keys) + (f" + {', '.join(new.include)}" if new.include else "")


def of_t(condition: str, known: Catalog) -> list[str]:
    """Where rows are wanted whole, so that nothing covers."""
    return found(f"SELECT * FROM t WHERE {condition}", known)


@pytest.mark.parametrize("dialect", ALL)
@pytest.mark.parametrize(
    ("condition", "first", "others"),
    [
        ("a = 1", "a", set()),
        ("at > '2024-01-01' AND a = 1", "a, at", {"a"}),
        ("s = 'x' AND a = 1", "a, s", {"a", "s"}),  # a has more different values
        ("a = 1 AND at > '2024-01-01' AND b < 3", "a, at", {"a", "a, b"}),
        ("a = 1 ORDER BY at", "a, at", {"a"}),
        ("a = 1 ORDER BY at DESC LIMIT 3", "a, at", {"a"}),  # an index is read backwards as well
        ("a = 1 ORDER BY a, at", "a, at", {"a"}),
        ("a = 1 AND b > 2 ORDER BY at", "a, b", {"a", "a, at"}),  # a range ends the order: both are tried
        ("a = 1 ORDER BY at DESC, b LIMIT 3", "a, at, b desc", {"a"}),
        ("a = 1 OR b = 2", "a", {"b"}),
        ("c = 1 AND (a = 1 OR b > 2)", "c", {"a", "b", "c, a", "c, b"}),
        ("doc = 'x'", None, set()),
        ('"on" = 1', None, set()),
        ("a <> 1 AND s LIKE '%x'", None, set()),
    ],
)
def test_columns_that_equal_come_before_a_range_or_an_order(
    dialect: str, condition: str, first: str | None, others: set[str]
) -> None:
    if dialect == MY:
        condition = condition.replace('"', "`")
    known = catalog(dialect)
    if dialect == MY and first is not None and "desc" in first:
        known = replace(known, version=(11, 4))
    proposed = of_t(condition, known)
    assert proposed[:1] == ([first] if first else [])
    assert set(proposed) == ({first, *others} if first else set())


def test_texts_that_may_be_too_long_are_left_out_where_they_could_not_be_written_any_more() -> None:
    assert of_t("long = 'x' AND a = 1", catalog(PG)) == ["a"]
    assert of_t("`long` = 'x' AND a = 1", catalog(MY)) == ["a, long", "a", "long"]
    assert of_t("long = 'x' AND a = 1", catalog(LITE)) == ["a, long", "a", "long"]


def test_mixed_directions_are_asked_for_where_the_database_keeps_them() -> None:
    statement = "a = 1 ORDER BY at DESC, b"
    assert "a, at, b desc" in of_t(statement, replace(catalog(MY), version=(10, 8)))
    assert of_t(statement, replace(catalog(MY), version=(10, 6))) == ["a"]
    assert "a, at, b desc" in of_t(statement, replace(catalog("mariadb"), dialect="mysql", version=(8, 0)))


def test_a_column_that_more_statements_share_comes_first() -> None:
    known = catalog(PG)
    one, other = asked("SELECT * FROM t WHERE a = 1 AND s = 'x'", known), asked("SELECT * FROM t WHERE s = 'y'", known)
    assert told(candidates([one], known)[0]) == "a, s"  # a has more different values
    assert "s, a" in map(told, candidates([one, other], known))
    assert "a, s" not in map(told, candidates([one, other], known))


def test_what_counts_more_is_asked_first() -> None:
    known = catalog(PG)
    two = [asked("SELECT * FROM t WHERE a = 1", known), asked("SELECT * FROM t WHERE b = 1", known)]
    assert told(candidates(two, known, [1, 10])[0]) == "b"
    assert told(candidates(two, known, [10, 1])[0]) == "a"


def test_a_join_is_tried_from_both_sides() -> None:
    for dialect in ALL:
        proposed = found("SELECT t.* FROM t JOIN u ON t.b = u.id WHERE t.a = 1", catalog(dialect))
        assert {"b", "b, a", "a, b", "a"} == set(proposed)


def test_columns_that_one_table_is_joined_by_are_tried_together() -> None:
    proposed = found("SELECT t.* FROM t JOIN u ON t.a = u.a AND t.b = u.b", catalog(PG))
    assert set(proposed) == {"a", "b", "a, b"}


def test_what_is_narrow_is_carried_along() -> None:
    statement = "SELECT b, at FROM t WHERE a = 1"
    assert found(statement, catalog(PG)) == ["a", "a + at, b"]
    assert found(statement, catalog(MY)) == found(statement, catalog(LITE)) == ["a", "a, at, b"]
    for wide in ("SELECT * FROM t", "SELECT long FROM t", "SELECT doc FROM t"):
        for dialect in ALL:
            assert found(f"{wide} WHERE a = 1", catalog(dialect)) == ["a"]


def test_rows_that_are_written_have_to_be_read_anyhow() -> None:
    for dialect in ALL:
        assert found("UPDATE t SET b = 2 WHERE a = 1", catalog(dialect)) == ["a"]
        assert found("DELETE FROM t WHERE a = 1", catalog(dialect)) == ["a"]


def test_a_column_that_is_updated_is_not_carried_along() -> None:
    known = catalog(PG)
    two = [asked("SELECT b FROM t WHERE a = 1", known), asked("UPDATE t SET b = 2 WHERE id = 1", known)]
    assert list(map(told, candidates(two, known))) == ["a"]


def test_the_key_that_every_index_ends_with_is_not_repeated() -> None:
    statement = "SELECT id FROM t WHERE a = 1 ORDER BY id LIMIT 3"
    assert found(statement, catalog(MY)) == found(statement, catalog(LITE)) == ["a"]
    assert set(found(statement, catalog(PG))) == {"a, id", "a", "a + id"}
    assert found("SELECT id FROM t WHERE a = 1 ORDER BY id DESC", catalog(LITE)) == ["a"]


PRESENT = [
    ("id = 5", [], []),
    ("id = 5 AND a = 1", [], []),
    ("a = 1", [index("a")], []),
    ("a = 1", [index("a", "b")], []),
    ("a = 1", [index("b", "a")], ["a"]),
    ("a = 1 AND b = 2", [index("b", "a")], []),
    ("a = 1 AND b > 2", [index("a", "b", "c")], []),
    ("a = 1 AND b > 2", [index("b", "a")], ["a, b", "a"]),
    ("a = 1 ORDER BY at DESC", [index("a", "at")], []),
    ("a = 1 ORDER BY at DESC", [index("a", Key("at", descending=True))], []),
    ("a = 1 ORDER BY at DESC, b DESC", [index("a", "at", Key("b", descending=True))], ["a, at, b"]),
    ("a = 1 AND b = 2", [index("a", unique=True)], []),  # one row at most
    ("a = 1", [index("a", valid=False)], ["a"]),
    ("a = 1", [index("a", ignored=True)], ["a"]),
    ("a = 1", [index("a", where="b > 5")], ["a"]),
    ("a = 1", [index("a", method="hash")], ["a"]),
    ("s = 'x'", [index(Key("s", length=5))], ["s"]),
    ("s = 'x'", [index(Key("s", collation="other"))], ["s"]),
    ("s = 'x'", [index(Key("s", opclass="text_pattern_ops"))], ["s"]),
]


@pytest.mark.parametrize("dialect", ALL)
@pytest.mark.parametrize(("condition", "present", "expected"), PRESENT)
def test_nothing_is_proposed_that_is_there(
    dialect: str, condition: str, present: list[Index], expected: list[str]
) -> None:
    known = catalog(dialect, indexes=present)
    if any(key.nulls_first is not None for one in present for key in one.keys):
        known = replace(known, version=(99,))
    assert of_t(condition, known) == expected


def test_an_index_that_carries_the_rest_is_there_too() -> None:
    statement = "SELECT b FROM t WHERE a = 1"
    assert found(statement, catalog(PG, indexes=[index("a", include=("b",))])) == []
    assert found(statement, catalog(PG, indexes=[index("a")])) == ["a + b"]
    assert found(statement, catalog(MY, indexes=[index("a", "b")])) == []


def test_few_values_are_worth_an_index_where_one_of_them_is_rare() -> None:
    states = replace(TEXT, distinct=2)
    even = catalog(PG, columns={"s": replace(states, common=(("new", 0.5), ("done", 0.5)))})
    queue = catalog(PG, columns={"s": replace(states, common=(("done", 0.99), ("new", 0.01)))})
    assert of_t("s = 'new'", even) == []
    assert of_t("s = 'new'", queue) == ["s"]
    assert of_t("s = 'new' AND a = 1", even)[:1] == ["a, s"]


def test_small_tables_are_left_alone() -> None:
    known = catalog(PG)
    known = replace(known, tables={"t": replace(known.tables["t"], rows=999)})
    assert of_t("a = 1", known) == []


def test_the_beginnings_of_texts_get_the_order_that_they_need() -> None:
    (german,) = (replace(TEXT, collation="de_DE.utf8"),)
    for dialect, column, expected in [
        (PG, german, Key("s", opclass="text_pattern_ops")),
        (PG, replace(german, type="character(9)"), Key("s", opclass="bpchar_pattern_ops")),
        (PG, replace(TEXT, collation="C"), Key("s")),
        (MY, TEXT, Key("s")),
        (LITE, replace(TEXT, collation="BINARY"), Key("s", collation="NOCASE")),
        (LITE, replace(TEXT, collation="NOCASE", case_insensitive=True), Key("s")),
    ]:
        known = catalog(dialect, columns={"s": column})
        made = candidates([asked("SELECT * FROM t WHERE s LIKE 'x%'", known)], known)
        assert [one.keys for one in made] == [(expected,)]


def test_an_expression_is_proposed_where_the_database_has_such_indexes() -> None:
    statement = "lower(s) = 'x' AND a = 1"
    assert set(of_t(statement, catalog(PG))) == {"a", "a, (lower(s))", "(lower(s))"}
    assert set(of_t(statement, catalog(LITE))) == {"a", "a, (lower(s))", "(lower(s))"}
    assert of_t(statement, catalog(MY)) == ["a"]
    present = index(Key(None, "lower((s)::text)"))
    assert "(lower(s))" not in of_t(statement, catalog(PG, indexes=[present]))


def test_mariadb_holds_the_beginnings_of_long_texts_only() -> None:
    (made,) = candidates([asked("SELECT * FROM t WHERE `long` = 'x'", catalog(MY))], catalog(MY))
    assert made.keys == (Key("long", length=32),)
    wide = {name: replace(TEXT, type="varchar(700)") for name in ("p", "q")}
    known = catalog(MY, columns=wide)
    keys = [one.keys for one in candidates([asked("SELECT * FROM t WHERE p = 'x' AND q = 'y'", known)], known)]
    assert keys
    assert all(len(one) == 1 for one in keys)  # two of them are more than the 3072 bytes that InnoDB takes


def test_what_two_of_the_same_key_carry_is_carried_by_one() -> None:
    one, other = NewIndex("t", (Key("a"),), ("b",)), NewIndex("t", (Key("a"),), ("c",))
    plain = NewIndex("t", (Key("a"),))
    both = NewIndex("t", (Key("a"),), ("b", "c"))
    assert merged([one, other]) == (one, other, both)
    assert merged([plain, one, one]) == (plain, one)
    assert merged([one, replace(other, table="u")]) == (one, replace(other, table="u"))


# Over many statements.

FAMILIES: list[tuple[type[sa.types.TypeEngine[Any]], Family]] = [
    (sa.Boolean, "boolean"), (sa.JSON, "json"), (sa.Integer, "integer"), (sa.Numeric, "decimal"), (sa.String, "text"),
    (sa.DateTime, "datetime"), (sa.Date, "date"),
]  # fmt: skip


def of_metadata(metadata: sa.MetaData, dialect: str) -> Catalog:
    """A catalogue of tables of SQLAlchemy's, each with a hundred thousand rows."""
    return Catalog(dialect, VERSIONS[dialect], None, {t.name: _table(t, dialect) for t in metadata.sorted_tables})


def _table(table: sa.Table, dialect: str) -> Table:
    made = shop.DIALECTS[dialect]
    columns = tuple(
        Column(
            column.name,
            column.type.compile(made).lower(),
            next(family for kind, family in FAMILIES if isinstance(column.type, kind)),
            nullable=bool(column.nullable),
            width=getattr(column.type, "length", None),
            distinct=1000,
        )
        for column in table.columns
    )
    primary = Index(
        "pk",
        table.name,
        tuple(Key(column.name) for column in table.primary_key),
        unique=True,
        constraint="PRIMARY KEY",
        clustered=dialect == MY or (dialect == LITE and len(table.primary_key) == 1),
    )
    unique = [
        Index(f"u_{column.name}", table.name, (Key(column.name),), unique=True, constraint="UNIQUE")
        for column in table.columns
        if column.unique
    ]
    return Table(table.name, columns, (primary, *unique), rows=100_000)


def workloads(dialect: str) -> list[tuple[Catalog, list[Predicates]]]:
    of_shop, of_tpch = of_metadata(shop.METADATA, dialect), of_metadata(tpch.METADATA, dialect)
    texts = dict.fromkeys(shop.compiled(statement, dialect) for statement in shop.statements())
    return [
        (of_shop, [asked(text, of_shop) for text in texts]),
        (of_tpch, [asked(text, of_tpch) for text in tpch.queries(dialect).values()]),
    ]


def covered(new: NewIndex, table: Table) -> bool:
    """Whether a present index begins with the new one's columns and has all that it carries."""
    columns = list(new.columns)
    return any(
        list(one.columns[: len(columns)]) == columns and set(new.include) <= {*one.columns, *one.include}
        for one in table.indexes
    )


@pytest.mark.parametrize("dialect", ALL)
def test_every_candidate_is_one_that_the_database_can_have_and_has_not(dialect: str) -> None:
    for known, predicates in workloads(dialect):
        together = merged(candidates(predicates, known), known)
        alone = [one for each in predicates for one in candidates([each], known)]
        assert 20 < len(together) <= MAX_IN_ALL
        assert len(set(together)) == len(together)
        for one in {*together, *alone}:
            table = known.tables[one.table]
            names = [*(key.column for key in one.keys if key.column), *one.include]
            assert set(names) <= table.by_name.keys()
            assert len(set(names)) == len(names)
            assert not covered(one, table)
            families = [table.by_name[name].family for name in names]
            assert "json" not in families
            assert families != ["boolean"]
            assert one.include == () or dialect == PG
            assert sum(bytes_of(table.by_name[name]) for name in one.include) <= MAX_PAYLOAD_BYTES
            if dialect != PG and table.indexes[0].clustered and not one.keys[-1].descending:
                assert names[-1:] != list(table.primary_key)


@pytest.mark.parametrize("dialect", ALL)
def test_no_candidate_does_the_same_as_another(dialect: str) -> None:
    for known, predicates in workloads(dialect):
        for one, other in combinations(merged(candidates(predicates, known), known), 2):
            same = one.table == other.table and one.keys == other.keys
            assert not (same and set(one.include) == set(other.include))


@pytest.mark.parametrize("dialect", ALL)
def test_once_a_candidate_is_there_it_is_proposed_no_more(dialect: str) -> None:
    for known, predicates in workloads(dialect):
        for each in predicates:
            for one in candidates([each], known):
                table = known.tables[one.table]
                present = Index("new", one.table, one.keys, one.include)
                after = {**known.tables, one.table: replace(table, indexes=(*table.indexes, present))}
                assert one not in candidates([each], replace(known, tables=after))


def test_the_number_of_candidates_is_bounded() -> None:
    columns = {f"c{number}": INTEGER for number in range(200)}
    known = catalog(PG, columns=columns)
    many = [asked(f"SELECT * FROM t WHERE {name} = 1 AND a > 5", known) for name in columns]
    assert len(candidates(many, known)) == MAX_PER_TABLE


# Names and statements.


@pytest.mark.parametrize("dialect", ALL)
def test_names_tell_what_they_name_and_differ(dialect: str) -> None:
    for known, predicates in workloads(dialect):
        together = merged(candidates(predicates, known), known)
        names = [name_of(one, known) for one in together]
        assert len({name.lower() for name in names}) == len(names)
        assert names == [name_of(one, known) for one in together]
        for name, one in zip(names, together, strict=True):
            assert name.startswith(f"ix_{one.table}_{one.keys[0].column or 'expr'}"[:50])
            assert len(name.encode()) <= (64 if dialect == MY else 63)


def test_a_name_is_never_one_that_is_taken() -> None:
    new = NewIndex("t", (Key("a"), Key("b")))
    free = catalog(PG)
    assert name_of(new, free) == "ix_t_a_b"
    taken = catalog(PG, indexes=[index("c", name="ix_t_a_b")])
    assert name_of(new, taken) == "ix_t_a_b_2"
    both = catalog(PG, indexes=[index("c", name="ix_t_a_b"), index("c", name="IX_t_a_b_2")])
    assert name_of(new, both) == "ix_t_a_b_3"
    ambiguous = catalog(PG, columns={"a_b": INTEGER})
    assert name_of(new, ambiguous) != name_of(NewIndex("t", (Key("a_b"),)), ambiguous)


def test_a_long_name_is_cut_between_characters() -> None:
    columns = {"가격" * 12: INTEGER}
    known = catalog(PG, columns=columns)
    name = name_of(NewIndex("t", (Key("가격" * 12),)), known)
    assert len(name.encode()) <= 63
    assert name.startswith("ix_t_가격가격")


def test_names_of_columns_are_quoted_in_statements() -> None:
    for dialect, quoted in [(PG, '"or""der"'), (MY, '`or"der`'), (LITE, '"or""der"')]:
        known = catalog(dialect, columns={'or"der': INTEGER})
        new = NewIndex("t", (Key('or"der'), Key("a", descending=True)))
        assert create_of(new, "n", known) == f"CREATE INDEX n ON t ({quoted}, a DESC)"
    assert drop_of("n", "t", catalog(MY)) == "DROP INDEX n ON t"
    assert drop_of("n", "t", replace(catalog(PG), schema="shop")) == "DROP INDEX shop.n"

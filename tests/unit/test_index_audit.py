"""What is said of indexes from a catalogue alone; what databases make of it is in tests/contract/test_redundancy.py."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings

from dbpilot.dialects.catalog import Catalog, Changes, ForeignKey, Index, Key
from dbpilot.dialects.whatif import NewIndex
from dbpilot.indexes.audit import Finding, Observed, audit, unknowns
from dbpilot.indexes.patterns import Recommended, check
from dbpilot.indexes.redundancy import hinted, normal
from dbpilot.indexes.workload import Statement, Workload
from dbpilot.sql.predicates import Defeat, Join, Predicates, Sort, TableUse
from dbpilot.unsupported import Unsupported
from tests.unit.index_catalogs import MONTH, NOW, PRIMARY, catalog, catalogs, column, followed, index, table

NOTHING = Observed()


def workload(*uses: TableUse, text: str = "SELECT 1") -> Workload:
    return Workload((Statement("p1", text, (), Predicates(uses), 100, 5.0),), "a test")


def found(*indexes: Index, observed: Observed = NOTHING, dialect: str = "mariadb", **more: Any) -> tuple[Finding, ...]:
    return audit(catalog(table(*indexes, **more), dialect=dialect), NOW, MONTH, observed)


def only(findings: Iterable[Finding], kind: str) -> Finding:
    [one] = [finding for finding in findings if finding.kind == kind]
    return one


def drops(findings: Iterable[Finding]) -> set[str | None]:
    return {finding.drop for finding in findings if finding.is_proposal and finding.drop}


# Redundant ones.


def test_a_prefix_names_what_serves_in_its_place_and_what_it_frees() -> None:
    one = only(found(index("x", "a", size_bytes=5 << 20), index("y", "a", "b", size_bytes=6 << 20)), "prefix")
    assert (one.drop, one.covered_by, one.frees_bytes) == ("x", "y", 5 << 20)
    assert one.reason == "x (a) is a prefix of y (a, b), which serves it."


def test_a_prefix_is_safe_to_drop_once_the_statements_are_known() -> None:
    indexes = (index("x", "a"), index("y", "a", "b"))
    assert only(found(*indexes), "prefix").risk == "look first"
    known = Observed(workload=workload(TableUse("t", "t", equal=("a",))))
    assert only(found(*indexes, observed=known), "prefix").risk == "safe"
    assert only(found(*indexes, dialect="postgresql", primary=None), "prefix").risk == "safe"


@pytest.mark.parametrize(
    "use",
    [
        TableUse("t", "t", equal=("a",), order=(Sort("id", descending=True),)),
        TableUse("t", "t", equal=("a",), ranges=("id",)),
        TableUse("t", "t", joins=(Join("a", "p", "id"),), group=("id",)),
    ],
    ids=["order", "keyset", "group"],
)
def test_a_prefix_stays_whose_rows_are_wanted_in_the_order_of_the_primary_key(use: TableUse) -> None:
    one = only(found(index("x", "a"), index("y", "a", "b"), observed=Observed(workload=workload(use))), "prefix")
    assert one.drop is None
    assert one.kept_because == "a statement needs its rows in the order of id, which y does not give"


def test_a_much_smaller_prefix_that_is_hot_is_looked_at_first() -> None:
    small, large = index("x", "a", size_bytes=1 << 20, uses=10_000), index("y", "a", "s", size_bytes=9 << 20)
    assert "much larger" in only(found(small, large, dialect="postgresql", primary=None), "prefix").evidence[0]
    counting = Observed(workload=workload(TableUse("t", "t", ranges=("a",), all=("a",))))
    assert only(found(small, large, observed=counting), "prefix").risk == "look first"
    finding = Observed(workload=workload(TableUse("t", "t", equal=("a",), all=("a", "c"))))
    assert only(found(small, large, observed=finding), "prefix").risk == "safe"


def test_of_two_equal_ones_the_ignored_the_larger_and_the_later_go() -> None:
    assert drops(found(index("x", "a", ignored=True), index("y", "a"))) == {"x"}
    assert drops(found(index("x", "a", size_bytes=2 << 20), index("y", "a"))) == {"x"}
    assert drops(found(index("x", "a"), index("y", "a"))) == {"y"}
    assert drops(found(index("x", "a", uses=1), index("y", "a", uses=2))) == {"x"}


def test_what_something_rests_on_stays_and_its_twin_goes() -> None:
    needed = index("y", "a", unique=True, needed_by=("foreign key fk of u",))
    findings = found(index("x", "a", unique=True), needed, dialect="postgresql", primary=None)
    assert drops(findings) == {"x"}


def test_names_that_differ_in_case_are_two_columns_on_postgresql_only() -> None:
    columns = (column("id"), column("a"), column("A"))
    indexes = (index("x", "a"), index("y", "A", "id"))
    assert drops(found(*indexes, columns=columns, dialect="postgresql")) == set()
    assert drops(found(*indexes, columns=columns)) == {"x"}


def test_an_index_that_is_read_is_not_dropped_for_one_that_is_not() -> None:
    findings = found(index("x", "a"), index("y", "a", "b", uses=0))
    assert drops(findings) == {"y"}
    assert only(findings, "unused").indexes == ("y",)


def test_of_two_equal_ones_the_one_that_nobody_reads_goes_as_a_duplicate() -> None:
    findings = found(index("x", "a", uses=0), index("y", "a"))
    assert [(one.kind, one.drop) for one in findings] == [("duplicate", "x")]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("SELECT * FROM t FORCE INDEX (x) WHERE a = ?", {"x"}),
        ("select * from t use key for order by (`X`, y) where a = ?", {"x", "y"}),
        ("SELECT * FROM t INDEXED BY x WHERE a = ?", {"x"}),
        ('SELECT * FROM t INDEXED BY "x y" WHERE a = ?', {"x y"}),
        ("SELECT * FROM t WHERE a = ?", set()),
    ],
)
def test_indexes_that_statements_name_are_known(text: str, names: set[str]) -> None:
    assert hinted(workload(text=text)) == names


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("lower(s)", 'LOWER( "s" )', True),
        ("(b > 30)", "b>30", True),
        ("`b` > 30", "[b] > 30", True),
        ("s = 'A b'", "s = 'a b'", False),
        ("s = 'A b'", "s  =  'A b'", True),
        ('s = "nothing"', "s = nothing", False),
        ("(a) + (b)", "a) + (b", False),
        ("a + b", "ab", False),
    ],
)
def test_an_expression_is_the_same_however_it_is_spaced_and_quoted(one: str, other: str, same: bool) -> None:
    assert (normal(one, "abs") == normal(other, "abs")) is same


# Those that nothing reads.


def unused(*indexes: Index, observed: Observed = NOTHING, **more: Any) -> set[str | None]:
    return drops(one for one in found(*indexes, observed=observed, **more) if one.kind == "unused")


def test_what_was_not_read_for_long_enough_is_unused() -> None:
    one = only(found(index("x", "a", uses=0)), "unused")
    assert one.reason == "Nothing has read x since 2026-08-28, for 90 days."
    assert one.risk == "look first"
    assert "replicas count for themselves, and none was asked" in one.evidence


def test_nothing_is_unused_before_the_time_is_over_or_where_nobody_counts() -> None:
    idle = table(index("x", "a", uses=0))
    for known in (catalog(idle, uses_since=NOW - timedelta(days=29)), catalog(idle, uses_since=None)):
        assert drops(audit(known, NOW, MONTH)) == set()
        assert len(unknowns(known, NOW, MONTH)) == 1
    said = Unsupported("userstat is off", "SET GLOBAL userstat = 1")
    uncounted = catalog(table(index("x", "a", uses=None)), uses_since=None, uses_unknown=said)
    assert drops(audit(uncounted, NOW, MONTH)) == set()
    assert unknowns(uncounted, NOW, MONTH) == (said,)
    assert unknowns(catalog(idle), NOW, MONTH) == ()


def test_rows_that_were_read_are_uses_where_only_rows_are_counted() -> None:
    assert unused(index("x", "a", uses=None, rows_read=0)) == {"x"}
    assert unused(index("x", "a", uses=None, rows_read=3)) == set()


def test_the_last_use_tells_more_than_the_count() -> None:
    assert unused(index("x", "a", uses=9, last_used=NOW - timedelta(days=31))) == {"x"}
    assert unused(index("x", "a", uses=9, last_used=NOW - timedelta(days=29))) == set()


def test_an_index_that_is_new_is_not_unused() -> None:
    new = Observed(seen_since={"t.x": NOW - timedelta(days=2)})
    assert unused(index("x", "a", uses=0), observed=new) == set()
    old = Observed(seen_since={"t.x": NOW - timedelta(days=40)})
    assert unused(index("x", "a", uses=0), observed=old) == {"x"}


@pytest.mark.parametrize(
    ("idle", "observed", "why"),
    [
        (index("x", "a", uses=0, unique=True), Observed(), "rule"),
        (index("x", "a", uses=0), Observed(uses_elsewhere={"t.x": 1}), "replica"),
        (index("x", "a", uses=0), Observed(used_by={"t.x": ("p1",)}), "watched"),
        (index("x", "a", uses=0), Observed(workload=workload(text="SELECT * FROM t FORCE INDEX (x)")), "names"),
        (index("x", "a", uses=0, needed_by=("the table's replica identity",)), Observed(), "replica identity"),
    ],
)
def test_what_nobody_reads_stays_where_it_is_needed_otherwise(idle: Index, observed: Observed, why: str) -> None:
    one = only(found(idle, observed=observed), "unused")
    assert one.drop is None
    assert why in (one.kept_because or "")


def test_a_constraints_index_is_not_even_mentioned() -> None:
    assert found(index("x", "a", uses=0, unique=True, constraint="UNIQUE")) == ()


def test_what_a_foreign_key_needs_stays_and_of_two_only_one() -> None:
    key = (ForeignKey("fk", "t", ("a",), "p", ("id",)),)
    one = only(found(index("x", "a", uses=0), foreign_keys=key), "unused")
    assert one.kept_because == "the foreign key to p is checked by it, which no database counts as a read"
    two = found(index("x", "a", "b", uses=0), index("y", "a", "c", uses=0), foreign_keys=key)
    assert drops(two) == {"x"}


def test_what_a_foreign_key_refers_to_stays() -> None:
    child = table(index("f", "a"), name="u", foreign_keys=(ForeignKey("fk", "u", ("a",), "t", ("b",)),))
    parent = table(index("x", "b", uses=0))
    one = only(audit(catalog(parent, child), NOW, MONTH), "unused")
    assert one.kept_because == "the foreign key from u rests on it"


def test_a_column_that_may_count_up_keeps_its_index_on_mysql() -> None:
    columns = (column("a", nullable=False), column("id", nullable=False))
    primary = index("PRIMARY", "a", "id", unique=True, constraint="PRIMARY KEY", clustered=True)
    idle = index("x", "id", uses=0)
    assert unused(idle, primary=primary, columns=columns) == set()
    assert unused(idle, primary=primary, columns=columns, dialect="postgresql") == {"x"}


def test_indexes_of_a_small_table_are_left_alone() -> None:
    assert unused(index("x", "a", uses=0), rows=999) == set()


def test_an_ignored_index_is_on_trial_or_forgotten() -> None:
    one = only(found(index("x", "a", ignored=True)), "ignored")
    assert (one.drop, one.risk) == ("x", "look first")
    tried = only(found(index("x", "a", ignored=True), observed=Observed(on_trial=frozenset({"t.x"}))), "ignored")
    assert not tried.is_proposal
    assert "on trial" in str(tried.kept_because)


def test_an_index_of_which_nobody_knows_the_age_is_looked_at_first() -> None:
    assert any("when it was made" in said for said in only(found(index("x", "a", uses=0)), "unused").evidence)
    assert unused(index("x", "a", uses=0), observed=Observed(seen_since={})) == set()


# What is missing or broken.


def test_what_an_advised_index_makes_needless_goes_after_it_is_made() -> None:
    advised = NewIndex("t", (Key("a"), Key("b")))
    one = only(found(index("x", "a"), observed=Observed(planned=(advised,))), "prefix")
    assert (one.drop, one.waits_for, one.covered_by) == ("x", advised, None)
    assert one.reason == "x (a) is needed no more once there is an index on (a, b)."


def test_an_advised_index_that_serves_a_foreign_key_is_enough() -> None:
    advised, key = NewIndex("t", (Key("a"), Key("b"))), (ForeignKey("fk", "t", ("a",), "p", ("id",)),)
    one = only(found(foreign_keys=key, observed=Observed(planned=(advised,)), dialect="sqlite"), "foreign key")
    assert one.create == advised


def test_a_foreign_key_without_an_index_wants_one() -> None:
    key = (ForeignKey("fk", "t", ("a", "b"), "p", ("k", "l")),)
    one = only(found(index("x", "c"), foreign_keys=key, dialect="postgresql"), "foreign key")
    assert one.create == NewIndex("t", (Key("a"), Key("b")))
    assert one.risk == "safe"


@pytest.mark.parametrize(
    ("serving", "dialect", "serves"),
    [
        (index("x", "a", "b", "c"), "postgresql", True),
        (index("x", "b", "a"), "postgresql", True),
        (index("x", "b", "a"), "mariadb", False),
        (index("x", "a-", "b"), "postgresql", True),
        (index("x", "a"), "postgresql", False),
        (index("x", "a", "b", where="c > 1"), "postgresql", False),
        (index("x", "a", "b", where="(a IS NOT NULL)"), "postgresql", True),
        (index("x", "a", "b", valid=False), "postgresql", False),
        (index("x", "a", "b", method="gin"), "postgresql", False),
        (index("x", keys=(Key("a"), Key("b", length=3))), "mariadb", False),
    ],
)
def test_which_index_serves_a_foreign_key(serving: Index, dialect: str, serves: bool) -> None:
    key = (ForeignKey("fk", "t", ("a", "b"), "p", ("k", "l")),)
    findings = found(serving, foreign_keys=key, dialect=dialect)
    assert any(one.kind == "foreign key" for one in findings) is not serves


def test_a_foreign_key_to_a_table_that_nothing_is_deleted_from_is_less_urgent() -> None:
    quiet = table(name="p", changes=Changes(100, 0, 0))
    child = table(foreign_keys=(ForeignKey("fk", "t", ("a",), "p", ("id",)),))
    one = only(audit(catalog(child, quiet, dialect="sqlite"), NOW, MONTH), "foreign key")
    assert (one.risk, one.evidence) == ("look first", ("nothing was deleted from p so far",))


def test_the_primary_key_serves_a_foreign_key_even_without_an_index_of_its_own() -> None:
    own = replace(PRIMARY, clustered=True)
    assert found(foreign_keys=(ForeignKey("fk", "t", ("id",), "p", ("id",)),), primary=own, dialect="sqlite") == ()


def test_a_build_that_failed_is_cleaned_up_unless_it_is_read() -> None:
    assert drops(found(index("x", "a", valid=False, uses=0))) == {"x"}
    one = only(found(index("x", "a", valid=False, uses=3)), "invalid")
    assert one.kept_because is not None
    assert one.risk == "look first"


def test_an_index_that_is_mostly_empty_is_built_anew() -> None:
    size = 100 << 20
    one = only(found(index("x", "a", size_bytes=size, bloat_bytes=60 << 20)), "bloat")
    assert (one.rebuild, one.frees_bytes) == ("x", 60 << 20)
    assert not found(index("x", "a", size_bytes=size, bloat_bytes=40 << 20))
    assert not found(index("x", "a", size_bytes=1 << 20, bloat_bytes=900_000))


def test_a_table_without_a_primary_key_is_said_to_have_none() -> None:
    assert not only(found(primary=None), "primary key").is_proposal


def test_many_indexes_on_a_table_that_is_mostly_written_are_listed_least_read_first() -> None:
    letters = [
        index(name, key, "s", uses=uses) for name, key, uses in zip("vwxyz", "abcsi", (5, 3, 9, 1, 4), strict=True)
    ]
    one = only(found(*letters, changes=Changes(1000, 0, 0)), "write share")
    assert one.indexes == ("y", "w", "z", "v", "x")
    assert not one.is_proposal
    assert not found(*letters, changes=Changes(60, 0, 0))


def test_columns_of_unlike_types_that_are_compared_are_named_once() -> None:
    use = TableUse("t", "t", joins=(Join("s", "u", "a"),))
    other = TableUse("u", "u", joins=(Join("a", "t", "s"),))
    both = catalog(table(), table(name="u"), dialect="postgresql")
    one = only(audit(both, NOW, MONTH, Observed(workload=workload(use, other))), "type")
    assert (
        one.reason
        == "t.s is compared with u.a, and one is varchar and the other int: one of them is converted row by row."
    )
    assert one.rewrite


def test_a_condition_that_no_index_serves_is_told_once_with_what_to_write_instead() -> None:
    defeat = Defeat("a", "function", "date(a) = ?", "Compare a with the day's bounds.", "date(a)")
    uses = (TableUse("t", "t", defeats=(defeat,)), TableUse("t", "t2", defeats=(defeat,)))
    one = only(found(observed=Observed(workload=workload(*uses))), "condition")
    assert (one.rewrite, one.statements) == (defeat.rewrite, ("p1",))
    there = index("x", keys=(Key(None, "date(a)"),))
    assert not found(there, observed=Observed(workload=workload(*uses)))


# All of it together.


@settings(max_examples=200, deadline=None)
@given(catalogs())
def test_all_proposals_can_be_followed_together_and_then_there_are_none(before: Catalog) -> None:
    findings = audit(before, NOW, MONTH)
    after = followed(before, findings)
    left = {one.name: one for one in after.tables["t"].indexes}
    assert [one for one in audit(after, NOW, MONTH) if one.is_proposal] == []
    for one in findings:
        if one.is_proposal and one.covered_by:
            assert one.covered_by in left or is_unread(findings, one.covered_by)
    for old in before.tables["t"].indexes:
        if old.name not in left:
            assert old.constraint is None or before.dialect in ("mariadb", "mysql")
            assert (
                not old.unique
                or not old.valid
                or any(new.unique and new.columns == old.columns for new in left.values())
            ), "a rule was lost"


def is_unread(findings: Iterable[Finding], name: str) -> bool:
    return any(one.drop == name and one.kind in ("unused", "ignored") for one in findings)


@settings(max_examples=200, deadline=None)
@given(catalogs())
def test_what_is_read_is_read_as_well_afterwards(before: Catalog) -> None:
    after = followed(before, audit(before, NOW, MONTH)).tables["t"].indexes
    for old in before.tables["t"].indexes:
        if old.uses and old.valid and not old.ignored:
            assert any(finds_as_much(new, old) for new in after), old


def finds_as_much(new: Index, old: Index) -> bool:
    """Told in another way than the audit does."""
    usable = new.valid and not new.ignored and new.where == old.where and new.columns[: len(old.columns)] == old.columns
    pairs = list(zip(new.keys, old.keys, strict=False))
    whole = all(one.length is None or one.length == other.length for one, other in pairs)
    return usable and whole and len({one.descending != other.descending for one, other in pairs}) == 1


# Recommended indexes.

PRICES = table(
    index("uq_daily_prices_symbol_date", "symbol", "date", unique=True, constraint="UNIQUE"),
    name="daily_prices",
    columns=(column("id"), column("symbol", "text"), column("date", "date"), column("close", "decimal")),
)


def test_a_pattern_that_is_a_prefix_of_an_index_needs_nothing() -> None:
    use = TableUse("daily_prices", "p", equal=("symbol",))
    verdict = check(Recommended("daily_prices", ("symbol",)), catalog(PRICES), workload(use))
    assert verdict.status == "satisfied"
    assert verdict.reason == "(symbol) is a prefix of uq_daily_prices_symbol_date (symbol, date), which serves it."
    assert (verdict.index, verdict.create) == ("uq_daily_prices_symbol_date", None)
    assert verdict.demand is not None
    assert (verdict.demand.statements, verdict.demand.calls, verdict.demand.total_s) == (("p1",), 100, 5.0)


@pytest.mark.parametrize(
    ("columns", "unique", "status", "index", "creates"),
    [
        (("symbol", "date"), True, "present", "uq_daily_prices_symbol_date", None),
        (("symbol", "date"), False, "present", "uq_daily_prices_symbol_date", None),
        (("id",), True, "present", "PRIMARY", None),
        (("date",), False, "missing", None, False),
        (("date", "symbol"), False, "missing", None, False),
        (("date", "symbol"), True, "missing", None, False),
        (("symbol",), True, "missing", None, True),
        (("nothing",), False, "unknown column", None, None),
    ],
)
def test_what_becomes_of_a_pattern(
    columns: tuple[str, ...], unique: bool, status: str, index: str | None, creates: bool | None
) -> None:
    verdict = check(Recommended("daily_prices", columns, unique), catalog(PRICES))
    assert (verdict.status, verdict.index) == (status, index)
    assert (verdict.create and verdict.create.unique) == creates
    assert verdict.demand is None


def test_an_unknown_table_is_told_with_near_names() -> None:
    verdict = check(Recommended("daily_price", ("symbol",)), catalog(PRICES))
    assert (verdict.status, verdict.reason) == (
        "unknown table",
        "There is no table daily_price; did you mean daily_prices?",
    )


def test_a_unique_pattern_is_not_satisfied_by_an_index_that_allows_duplicates() -> None:
    verdict = check(Recommended("t", ("a", "b"), unique=True), catalog(table(index("x", "a", "b"))))
    assert (verdict.status, verdict.index) == ("missing", "x")
    assert "Rows that repeat in them have to go first" in verdict.reason
    assert verdict.create is not None
    assert verdict.create.unique


@pytest.mark.parametrize(
    ("there", "why"),
    [
        (index("x", "a", "b", valid=False), "was never finished"),
        (index("x", "a", "b", ignored=True), "told to leave it alone"),
        (index("x", "a", "b", where="c > 1"), "only the rows WHERE c > 1"),
        (index("x", "b", "a"), "serves only where all of them are given"),
        (index("x", "a", "b-"), "sorts in another way"),
        (index("x", keys=(Key("a"), Key("b", length=9))), "first characters"),
    ],
)
def test_why_an_index_that_seems_to_be_the_one_is_not(there: Index, why: str) -> None:
    verdict = check(Recommended("t", ("a", "b")), catalog(table(there)))
    assert verdict.status == "missing"
    assert why in verdict.reason
    assert verdict.create == NewIndex("t", (Key("a"), Key("b")))

"""The laws of the score: 100 exactly when nothing is to be done, and never lowered by following advice."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dbpilot.dialects.catalog import Catalog, ForeignKey, Index, Key
from dbpilot.dialects.whatif import NewIndex
from dbpilot.indexes.audit import Finding, Observed, audit
from dbpilot.indexes.score import Score, Served, TableEvidence, evidence_of, overall, score
from tests.unit.index_catalogs import EVERY_READ, KEYS, MONTH, NOW, catalog, catalogs, followed, index, table

DONE = TableEvidence(calls=10, cost=5.0, achievable_cost=5.0, size=1 << 20, foreign_keys=2)
BUSY = Served(10, 5.0, 5.0)
COSTS = st.floats(0, 1e9)
BYTES = st.integers(0, 1 << 45)


@st.composite
def evidences(draw: st.DrawFn) -> TableEvidence:
    cost, size, keys = draw(COSTS), draw(BYTES), draw(st.integers(0, 5))
    return TableEvidence(
        calls=draw(st.integers(0, 100)),
        cost=cost,
        achievable_cost=draw(st.floats(0, cost)),
        size=size,
        needless=draw(st.integers(0, size)),
        foreign_keys=keys,
        unserved=draw(st.integers(0, keys)),
    )


def part(found: Score, name: str) -> float:
    [share] = [one.share for one in found.parts if one.name == name]
    return share


def test_with_nothing_to_do_it_is_100() -> None:
    assert score(DONE).value == 100
    assert score(DONE).reason == "There is nothing to do."


def test_a_table_that_nobody_queries_has_none() -> None:
    found = score(replace(DONE, calls=0, cost=0, achievable_cost=0, needless=1 << 19))
    assert found.value is None
    assert found.reason.startswith("No evidence")
    assert part(found, "needless") == 0.5, "what is known is shown all the same"


@pytest.mark.parametrize(
    ("evidence", "value", "reason"),
    [
        (replace(DONE, achievable_cost=2.0), 40.0, "Advised indexes would spare 60% of what its statements cost."),
        (
            replace(DONE, needless=1 << 19),
            85.0,
            "50% of what its indexes hold is redundant, unused, broken or empty.",
        ),
        (replace(DONE, unserved=1), 90.0, "1 of 2 foreign keys have no index."),
        (replace(DONE, achievable_cost=2.5, needless=1 << 20, unserved=2), 28.0, None),
        (
            replace(DONE, needless=1),
            99.9,
            "less than 1% of what its indexes hold is redundant, unused, broken or empty.",
        ),
        (replace(DONE, cost=5.0 + 1e-12), 99.9, None),
    ],
)
def test_the_formula(evidence: TableEvidence, value: float, reason: str | None) -> None:
    found = score(evidence)
    assert found.value == value
    assert reason is None or found.reason == reason


def test_all_tables_together_count_by_the_time_spent_on_them() -> None:
    slow, quick = TableEvidence(1, 90.0, 45.0), TableEvidence(1000, 10.0, 10.0)
    assert overall([slow, quick]).value == 55.0
    assert overall([]).value is None
    assert overall([TableEvidence(size=5, needless=5)]).value is None


@settings(deadline=None)
@given(evidences())
def test_it_is_100_exactly_when_nothing_is_to_be_done(evidence: TableEvidence) -> None:
    value = score(evidence).value
    if evidence.calls and evidence.cost:
        assert value is not None
        assert 0 <= value <= 100
        nothing = not evidence.needless and not evidence.unserved and evidence.cost == evidence.achievable_cost
        assert (value == 100) is nothing
    else:
        assert value is None


@st.composite
def steps(draw: st.DrawFn) -> tuple[TableEvidence, TableEvidence]:
    """A table before and after some advice was followed."""
    before = draw(evidences())
    freed, made = draw(st.integers(0, int(before.needless))), draw(BYTES)
    after = replace(
        before,
        cost=draw(st.floats(before.achievable_cost, before.cost)),
        size=before.size - freed + made,
        needless=before.needless - freed,
        unserved=draw(st.integers(0, before.unserved)),
    )
    return before, after


@settings(max_examples=200, deadline=None)
@given(steps(), st.lists(evidences(), max_size=3))
def test_following_advice_never_lowers_it(
    step: tuple[TableEvidence, TableEvidence], others: list[TableEvidence]
) -> None:
    before, after = step
    assert not_lower(score(before), score(after))
    assert not_lower(overall([before, *others]), overall([after, *others]))


def not_lower(before: Score, after: Score) -> bool:
    return before.value is None or after.value is None or after.value >= before.value


def test_evidence_comes_from_proposals_not_from_what_must_stay() -> None:
    key = ForeignKey("fk", "t", ("c",), "p", ("id",))
    known = catalog(
        table(index("x", "a"), index("y", "a", "b"), index("u", "b", unique=True, uses=0), foreign_keys=(key,)),
        dialect="sqlite",
    )
    found = evidence_of(known, audit(known, NOW, MONTH), {"t": BUSY})
    assert found["t"] == TableEvidence(10, 5.0, 5.0, 3 << 20, 1 << 20, 1, 1)


def test_what_only_an_index_that_is_not_there_yet_makes_needless_does_not_count() -> None:
    known, wider = catalog(table(index("x", "a"))), NewIndex("t", (Key("a"), Key("b")))
    findings, evidence = scored(known, [wider])
    assert [(one.drop, one.waits_for) for one in findings if one.is_proposal] == [("x", wider)]
    assert evidence["t"].needless == 0
    there, evidence = scored(made(known, [wider]), [])
    assert [(one.drop, one.waits_for) for one in there if one.is_proposal] == [("x", None)]
    assert evidence["t"].needless == 1 << 20


def test_indexes_of_unknown_size_count_alike() -> None:
    known = catalog(table(index("x", "a", size_bytes=None), index("y", "a", "b", size_bytes=None)))
    evidence = evidence_of(known, audit(known, NOW, MONTH), {"t": BUSY})["t"]
    assert evidence.needless / evidence.size == 0.5


@st.composite
def advised(draw: st.DrawFn) -> tuple[Catalog, list[NewIndex]]:
    """A catalogue, and up to two new indexes of which none makes another one needless."""
    known = draw(catalogs())
    keys = draw(st.lists(KEYS.map(tuple), max_size=2, unique=True))
    planned = [NewIndex("t", tuple(Key(name) for name in names)) for names in keys]
    there = made(known, planned)
    assume(not any(one.drop and one.drop.startswith("advised") for one in audit(there, NOW, MONTH)))
    return known, planned


def made(known: Catalog, planned: list[NewIndex]) -> Catalog:
    """The catalogue with the new indexes, which are read."""
    old = known.tables["t"]
    new = [
        Index(f"advised_{'_'.join(one.columns)}", "t", one.keys, uses=EVERY_READ, size_bytes=1 << 20) for one in planned
    ]
    return replace(known, tables={**known.tables, "t": replace(old, indexes=(*old.indexes, *new))})


def scored(known: Catalog, planned: list[NewIndex]) -> tuple[tuple[Finding, ...], Mapping[str, TableEvidence]]:
    """Each new index that is not there yet would spare a tenth."""
    findings = audit(known, NOW, MONTH, Observed(planned=tuple(planned)))
    return findings, evidence_of(known, findings, {"t": Served(10, 1.0 + len(planned) / 10, 1.0)})


@settings(max_examples=200, deadline=None)
@given(advised(), st.data())
def test_whatever_single_piece_of_real_advice_is_followed_it_is_not_lowered(
    case: tuple[Catalog, list[NewIndex]], data: st.DataObject
) -> None:
    known, planned = case
    for _ in range(3):
        findings, before = scored(known, planned)
        ready = [one for one in findings if one.is_proposal and one.waits_for is None and one.create not in planned]
        if not ready and not planned:
            break
        chosen = data.draw(st.sampled_from([*planned, *ready]))
        new = chosen if isinstance(chosen, NewIndex) else chosen.create
        known = made(known, [chosen]) if isinstance(chosen, NewIndex) else followed(known, [chosen])
        waiting = [one for one in findings if one.is_proposal and new is not None and one.waits_for == new]
        known = followed(known, [replace(one, waits_for=None) for one in waiting])
        planned = [one for one in planned if one != chosen]
        _, after = scored(known, planned)
        assert not_lower(score(before["t"]), score(after["t"]))
        assert not_lower(overall(before.values()), overall(after.values()))


@settings(max_examples=150, deadline=None)
@given(catalogs())
def test_when_all_advice_is_followed_it_is_100(known: Catalog) -> None:
    done = followed(known, audit(known, NOW, MONTH))
    assert score(scored(done, [])[1]["t"]).value == 100

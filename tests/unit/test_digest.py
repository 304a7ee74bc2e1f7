"""Equal rows have equal digests, whichever driver read them and in whatever order; other rows have others."""

import datetime as dt
import math
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from ipaddress import ip_address
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbpilot.errors import RefusedError
from dbpilot.retention.digest import Digest, digest_of, digest_of_columns, row_checksum

SEOUL = dt.timezone(dt.timedelta(hours=9))
NOON = dt.datetime.fromisoformat("2024-03-10T12:00:00.000120")

scalars = st.one_of(
    st.none(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.decimals(allow_nan=False),
    st.datetimes(),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
)
rows = st.fixed_dictionaries({"a": scalars, "b": scalars})
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


class Colour(Enum):
    RED = 1


class Text(str):
    """What an application made of a text."""


def checksum(*values: Any) -> int:
    return row_checksum(dict(enumerate_names(values)), [name for name, _ in enumerate_names(values)])


def enumerate_names(values: tuple[Any, ...]) -> list[tuple[str, Any]]:
    return [(f"c{number}", value) for number, value in enumerate(values)]


SAME = [
    (Decimal("1.50"), Decimal("1.5")),
    (Decimal("1.50"), 1.5),
    (Decimal("0.1"), 0.1),
    (Decimal("100.00"), 100),
    (Decimal("1E+2"), 100),
    (Decimal("-0.00"), 0),
    (-0.0, 0),
    (1e22, 10**22),
    (1e300, Decimal("1e300")),
    (5e-324, Decimal("5e-324")),
    (True, 1),
    (False, Decimal("0.0")),
    (math.nan, Decimal("NaN")),
    (-math.inf, Decimal("-Infinity")),
    (NOON.replace(tzinfo=dt.UTC), NOON),
    ((NOON + dt.timedelta(hours=9)).replace(tzinfo=SEOUL), NOON),
    (b"\x00\xff", bytearray(b"\x00\xff")),
    (b"\x00\xff", memoryview(b"\x00\xff")),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Colour.RED, "RED"),
    (Text("text"), "text"),
    (ip_address("10.0.0.1"), "10.0.0.1"),
    ({"a": 1, "b": [1.0, None]}, {"b": [1, None], "a": Decimal(1)}),
    ((1, "a"), [1, "a"]),
    ({"b", "a"}, frozenset(["a", "b"])),
]
OTHER = [
    (None, ""),
    (None, 0),
    (None, "None"),
    ("", 0),
    ("1", 1),
    ("a", b"a"),
    ("a", "a "),
    ("a\x00", "a"),
    ("é", "e\u0301"),
    ("😀", "?"),
    (b"", ""),
    (0.1 + 0.2, 0.3),
    (Decimal("0.10"), Decimal("0.01")),
    (-1, 1),
    (-1, -2),
    (dt.date(2024, 3, 10), dt.datetime.fromisoformat("2024-03-10")),
    (NOON, NOON.replace(tzinfo=SEOUL)),
    (NOON, NOON + dt.timedelta(microseconds=1)),
    (dt.time(1), dt.timedelta(hours=1)),
    ([True], [1]),
    ({"a": False}, {"a": 0}),
    ([], {}),
    ([], None),
    ([[1], 2], [1, [2]]),
    ({"a": None}, {}),
    ("[]", []),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_values_that_are_worth_the_same_have_one_checksum(one: Any, other: Any) -> None:
    assert checksum(one) == checksum(other)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_values_that_differ_have_two(one: Any, other: Any) -> None:
    assert checksum(one) != checksum(other)


@given(st.floats(allow_nan=False))
def test_a_float_is_worth_its_shortest_digits(value: float) -> None:
    assert checksum(value) == checksum(Decimal(repr(value)))


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20), st.integers(0, 20))
def test_a_scale_that_holds_all_digits_changes_nothing(value: Decimal, more: int) -> None:
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    digits = "".join(map(str, value.as_tuple().digits)) + "0" * more
    wider = Decimal((value.as_tuple().sign, tuple(map(int, digits)), exponent - more))
    assert checksum(value) == checksum(wider)


@given(scalars, scalars)
def test_unequal_values_have_unequal_checksums(one: Any, other: Any) -> None:
    alike = one == other or _as_text(one) == _as_text(other) or _as_number(one) == _as_number(other)
    assert (checksum(one) == checksum(other)) == alike


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, UUID | str) else object()


def _as_number(value: Any) -> Any:
    return Decimal(repr(value)) if isinstance(value, float) else value if isinstance(value, int | Decimal) else object()


@given(documents)
def test_json_is_the_same_whatever_the_order_of_its_keys(document: Any) -> None:
    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return [turned(item) for item in value] if isinstance(value, list) else value

    assert checksum(document) == checksum(turned(document))


@given(st.text(), st.text(), st.text(), st.text())
def test_text_never_runs_over_into_the_next_column(a: str, b: str, c: str, d: str) -> None:
    assert (checksum(a, b) == checksum(c, d)) == ((a, b) == (c, d))


def test_the_separator_and_a_forged_form_within_a_text_are_only_text() -> None:
    assert checksum("a\x1fs1:b", "c") != checksum("a", "b\x1fs1:c")
    assert checksum("a\x1fs1:b") != checksum("a", "b")
    assert checksum(["a\x1fs1:b"]) != checksum(["a", "b"])


@given(st.lists(rows, max_size=8), st.randoms())
def test_the_order_of_rows_does_not_matter(some: list[Mapping[str, Any]], random: Any) -> None:
    mixed = random.sample(some, len(some))
    assert digest_of(some, ["a", "b"]) == digest_of(mixed, ["a", "b"])


@given(st.lists(rows, max_size=8), st.integers(0, 8))
def test_digests_of_parts_add_up(some: list[Mapping[str, Any]], cut: int) -> None:
    columns = ["a", "b"]
    assert digest_of(some[:cut], columns) + digest_of(some[cut:], columns) == digest_of(some, columns)


@given(st.lists(rows, max_size=8))
def test_a_digest_adds_up_checksums_however_the_rows_lie(some: list[Mapping[str, Any]]) -> None:
    expected = Digest(len(some), sum(row_checksum(row, ["a", "b"]) for row in some) % 2**64)
    assert digest_of(iter(some), ["a", "b"]) == expected
    assert digest_of_columns([[row["a"] for row in some], [row["b"] for row in some]]) == expected


def test_many_rows_are_taken_part_by_part() -> None:
    many = [{"a": number} for number in range(2_500)]
    assert digest_of(many, ["a"]) == Digest(2_500, sum(row_checksum(row, ["a"]) for row in many) % 2**64)


@given(rows, st.integers(2, 5))
def test_doubled_rows_do_not_cancel_out(row: Mapping[str, Any], times: int) -> None:
    single = digest_of([row], ["a", "b"])
    assert digest_of([row] * times, ["a", "b"]).checksum == times * single.checksum % 2**64
    assert digest_of([row] * times, ["a", "b"]).rows == times


def test_two_columns_that_changed_places_are_noticed() -> None:
    assert checksum("a", "b") != checksum("b", "a")


def test_no_rows_have_a_digest() -> None:
    assert digest_of([], ["a"]) == Digest(0, 0)


def test_the_checksum_stays_the_same_from_release_to_release() -> None:
    """Journals and archives keep it."""
    row = {
        "id": 7,
        "title": "삼성전자 😀",
        "price": Decimal("71000.50"),
        "at": NOON,
        "raw": b"\x00",
        "tags": ["a", None],
    }
    assert row_checksum(row, list(row)) == 675223728410033223


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"type object cannot be compared"):
        checksum(object())

"""Which pieces of news are taken, and when two of them are the same."""

import io
import json
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.market.ingest.news import HTML_BYTES, LINE_LIMIT_BYTES, checked, content_hash
from app.market.ingest.rows import BadRow

NOW = datetime(2026, 1, 2, tzinfo=UTC)
GOOD = {
    "symbol": "fb",
    "title": " Facebook goes\tpublic ",
    "source": "wikipedia",
    "published_at": "2012-05-18T00:00:00Z",
}
PUBLISHED = datetime(2012, 5, 18, tzinfo=UTC)


def result(line: bytes) -> Any:
    (found,) = checked(io.BytesIO(line), NOW)
    return found


def of(**changed: object) -> Any:
    return result(json.dumps({**GOOD, **changed}).encode())


def test_the_canonical_form_is_the_documented_one() -> None:
    form = '["FB","wikipedia","Facebook goes public",null,"2012-05-18T00:00:00.000000Z"]'
    assert content_hash("FB", "wikipedia", "Facebook goes public", None, PUBLISHED) == sha256(form.encode()).hexdigest()
    assert (
        content_hash("FB", "wikipedia", "Facebook goes public", None, PUBLISHED)
        == "d0438be7a350a92f78d3a0b72adc432d2ab854af82775d89ebc570a64cbc8b03"
    )


def test_a_good_line_is_a_whole_row() -> None:
    assert of(url="https://en.wikipedia.org/wiki/Facebook", other="ignored") == {
        "symbol": "FB",
        "title": "Facebook goes\tpublic",
        "source": "wikipedia",
        "published_at": PUBLISHED,
        "summary": None,
        "url": "https://en.wikipedia.org/wiki/Facebook",
        "html": None,
        "crawled_at": NOW,
        "content_hash": content_hash("FB", "wikipedia", "Facebook goes public", None, PUBLISHED),
    }


@pytest.mark.parametrize(
    "changed",
    [
        {"symbol": "FB"},
        {"title": "Facebook  goes\npublic"},
        {"published_at": "2012-05-18T09:00:00+09:00"},
        {"summary": "   "},
        {"html": "<p>another crawl</p>", "url": "https://example.org/", "crawled_at": "2020-01-01T00:00:00Z"},
    ],
)
def test_the_same_piece_has_the_same_hash(changed: dict[str, object]) -> None:
    assert of(**changed)["content_hash"] == of()["content_hash"]


@pytest.mark.parametrize(
    "changed",
    [
        {"symbol": "IBM"},
        {"title": "Facebook goes private"},
        {"source": "other"},
        {"published_at": "2012-05-18T00:00:00.000001Z"},
        {"summary": "with a summary"},
    ],
)
def test_another_piece_has_another_hash(changed: dict[str, object]) -> None:
    assert of(**changed)["content_hash"] != of()["content_hash"]


def test_composed_and_decomposed_letters_are_the_same_text() -> None:
    assert of(title="Caf\u00e9 \uac00")["content_hash"] == of(title="Cafe\u0301 \u1100\u1161")["content_hash"]


@given(st.text(), st.text(), st.integers(-720, 720))
def test_white_space_and_zone_never_change_the_hash(title: str, summary: str, offset: int) -> None:
    there = PUBLISHED.astimezone(timezone(timedelta(minutes=offset)))
    spaced = content_hash("FB", "s", f"\n {title}\t", summary.replace(" ", "  "), there)
    assert spaced == content_hash("FB", "s", title, summary, PUBLISHED)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"published_at": "2012-05-18T00:00:00"}, "published_at: Input should have timezone info"),
        ({"published_at": "1337299200"}, "published_at: '1337299200' is not ISO 8601 with a zone, such as"),
        ({"published_at": 1337299200}, "published_at: '1337299200' is not ISO 8601 with a zone, such as"),
        ({"published_at": "2012-05-18"}, "published_at: '2012-05-18' is not ISO 8601 with a zone, such as"),
        ({"published_at": "2012-13-18T00:00Z"}, "published_at: Input should be a valid datetime"),
        ({"published_at": "0001-01-01T00:00:00+14:00"}, "published_at: is outside of the calendar in UTC"),
        ({"published_at": "0900-01-01T00:00:00Z"}, "published_at: is before the year 1000"),
        ({"crawled_at": "2012-05-18T00:00:00"}, "crawled_at: Input should have timezone info"),
        ({"symbol": "F B"}, "symbol: symbol 'F B' has characters other than"),
        ({"symbol": None}, "symbol: Input should be a valid string"),
        ({"title": "  "}, "title: String should have at least 1 character"),
        ({"title": "x" * 501}, "title: String should have at most 500 characters"),
        ({"title": "a\0b"}, "title: has a NUL character, which PostgreSQL cannot store"),
        ({"source": "x" * 101}, "source: String should have at most 100 characters"),
        ({"summary": "가" * 21_846}, "summary: is longer than 65,535 bytes in UTF-8"),
        ({"url": "javascript:alert(1)"}, "url: URL scheme should be 'http' or 'https'"),
        ({"html": "x" * (HTML_BYTES + 1)}, "html: is longer than 4,194,304 bytes in UTF-8"),
    ],
)
def test_a_bad_value_is_refused_with_its_key_and_the_reason(changed: dict[str, object], reason: str) -> None:
    found = of(**changed)
    assert isinstance(found, BadRow)
    assert found.reason.startswith(reason)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"symbol": ', "Invalid JSON: EOF while parsing a value at column 11"),
        (b"[1]", "Input should be an object"),
        (b"{}", "symbol: Field required"),
        (b'{"title": "\xff"}', "is not UTF-8 at byte 12"),
        (b'{"title": "\\ud800"}', "Invalid JSON: unexpected end of hex escape at column 18"),
        (b"x" * (LINE_LIMIT_BYTES + 1), "is longer than 16,777,216 bytes"),
    ],
    ids=["cut-off", "no-object", "empty", "latin-1", "half-a-character", "endless"],
)
def test_a_line_that_is_no_piece_of_news_is_refused_with_the_reason(line: bytes, reason: str) -> None:
    assert result(line) == BadRow(1, reason)


def test_a_missing_key_is_named() -> None:
    assert result(b'{"symbol":"FB","title":"t","source":"s"}') == BadRow(1, "published_at: Field required")

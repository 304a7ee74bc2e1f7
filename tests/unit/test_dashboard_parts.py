"""What the dashboard's pages are made of: words in two languages, figures, drawings, and files that came unchanged."""

import hashlib
import json
import re
from base64 import b64encode
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbpilot.history.tally import Tally
from dbpilot.reports.ranking import p95_of, ranked_by, ranked_by_p95
from dbpilot.web.pages.attention import short
from dbpilot.web.pages.drawing import meter, sparkline
from dbpilot.web.pages.figures import NONE, count, duration, share, size
from dbpilot.web.pages.query import readable
from dbpilot.web.pages.words import LANGUAGES, all_words, language_of

WEB = Path(str(files("dbpilot.web")))
VENDORED = [WEB / "static" / "vendor", Path(__file__).parents[1] / "e2e" / "vendor"]
KEY = re.compile(r"""\bt\(\s*["']([a-z_.0-9]+[a-z0-9])["']\s*[,)]""")
MADE_OF_DATA = re.compile(r"""\bt\(\s*["']([a-z_.]+\.)["']\s*[+~]""")


def _sentences() -> dict[str, dict[str, str]]:
    return {code: dict(words.sentences) for code, words in all_words().items()}


def test_both_languages_say_the_same() -> None:
    english, korean = _sentences()["en"], _sentences()["ko"]
    assert english.keys() == korean.keys()
    values = {key: sorted(re.findall(r"\{(\w+)\}", said)) for key, said in english.items()}
    assert values == {key: sorted(re.findall(r"\{(\w+)\}", said)) for key, said in korean.items()}
    assert all(said.strip() for said in [*english.values(), *korean.values()])


def _sources() -> str:
    templates = (WEB / "templates").glob("*.html")
    return "\n".join(path.read_text() for path in [*templates, *(WEB / "pages").glob("*.py")])


def test_every_key_that_is_used_is_there() -> None:
    used = set(KEY.findall(_sources()))
    assert len(used) > 200
    assert used <= _sentences()["en"].keys()


def test_every_key_that_is_there_is_used() -> None:
    source = _sources()
    made = (*MADE_OF_DATA.findall(source), "said.", "error.", "mark.", "why.", "step.", "alert.", "range.")
    known = [key for key in _sentences()["en"] if not key.startswith(made)]
    assert [key for key in known if f"'{key}'" not in source and f'"{key}"' not in source] == []


@pytest.mark.parametrize(
    ("asked", "kept", "accepted", "language"),
    [
        (None, None, "", "en"),
        (None, None, "ko-KR,ko;q=0.9,en-US;q=0.8", "ko"),
        (None, None, "fr, de;q=0.9, ko;q=0.1", "ko"),
        (None, None, "en;q=0.2, ko;q=0.9", "ko"),
        (None, "ko", "en", "ko"),
        ("en", "ko", "ko", "en"),
        ("xx", "yy", "ko", "ko"),
        (None, None, ";q=, ,;;q=x,ko;q=1", "ko"),
    ],
)
def test_a_reader_is_spoken_to_in_their_language(
    asked: str | None, kept: str | None, accepted: str, language: str
) -> None:
    assert language_of(asked, kept, accepted) == language


@settings(deadline=None)
@given(st.text())
def test_no_header_upsets_anybody(header: str) -> None:
    assert language_of(None, None, header) in LANGUAGES


@pytest.mark.parametrize("folder", VENDORED, ids=lambda folder: folder.parent.name)
def test_what_came_from_others_is_unchanged(folder: Path) -> None:
    for package in json.loads((folder / "VENDOR.json").read_text()):
        assert package["version"]
        assert package["licence"]
        assert any(name.endswith("LICENSE") for name in package["files"])
        for name, known in package["files"].items():
            digest = hashlib.sha384((folder / name).read_bytes()).digest()
            assert known == f"sha384-{b64encode(digest).decode()}", name


def test_nothing_else_came_from_others() -> None:
    for folder in VENDORED:
        listed = {name for package in json.loads((folder / "VENDOR.json").read_text()) for name in package["files"]}
        there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert there - {"VENDOR.json"} == listed


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, NONE),
        (0, "0"),
        (2.5e-6, "2.5 µs"),
        (0.0213, "21.3 ms"),
        (0.34, "340 ms"),
        (2.5, "2.5 s"),
        (90, "1.5 min"),
    ],
)
def test_durations_are_short(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


def test_what_is_not_known_is_no_zero() -> None:
    assert [count(None), share(None), size(None), duration(None)] == [NONE] * 4
    assert [count(0), share(0), size(0), duration(0)] == ["0", "0 %", "0 B", "0"]
    assert share(0.00001) == "<0.1 %"


def test_a_course_has_gaps_where_nothing_is_known() -> None:
    drawn = sparkline([1, 2, None, 3, 1, None, 5])
    assert drawn.count("<path") == 2
    assert drawn.count("<circle") == 1
    assert "<path" not in sparkline([None, None])
    assert 'class="none"' in sparkline([])


def test_a_meter_stays_in_its_frame() -> None:
    assert 'width="64.0"' in meter(7)
    assert 'width="0.0"' in meter(None)


def test_a_long_list_of_columns_is_cut_before_the_tables_are() -> None:
    said = short(f"SELECT {', '.join(f'shop.column_{n}' for n in range(30))} FROM shop WHERE id = ?")
    assert said.startswith("SELECT shop.column_0")
    assert said.endswith("FROM shop WHERE id = ?")
    assert len(short("x" * 500)) == 70


def test_a_statement_is_laid_out_and_not_changed() -> None:
    text = "SELECT a FROM t LEFT JOIN u ON t.id = u.id WHERE a = ? AND b IN (?) ORDER BY a LIMIT ?"
    laid = readable(text)
    assert laid.splitlines()[:3] == ["SELECT a", "FROM t", "LEFT JOIN u ON t.id = u.id"]
    assert " ".join(laid.split()) == text


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(1e-6, 100), min_size=1, max_size=20), max_size=40), st.integers(1, 10))
def test_the_highest_percentiles_are_found_without_looking_at_all(times: list[list[float]], limit: int) -> None:
    tallies = {}
    for number, durations in enumerate(times):
        tally = tallies[f"{number:016x}"] = Tally()
        for duration_s in durations:
            tally.histogram.add(duration_s)
            tally.calls, tally.max_s = tally.calls + 1, max(tally.max_s, duration_s)
    wanted = [p95_of(tallies[id_]) for id_ in ranked_by(tallies, p95_of)[:limit]]
    assert [p95_of(tallies[id_]) for id_ in ranked_by_p95(tallies, limit)] == wanted

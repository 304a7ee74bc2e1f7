"""What the dashboard's pages are made of: words in two languages, figures, drawings, and files that came unchanged."""

import hashlib
import json
import math
import re
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbpilot.history.store import Pattern
from dbpilot.history.tally import Tally
from dbpilot.pool.sample import PoolSample
from dbpilot.reports.indexes import StepReport, index_report
from dbpilot.reports.pool import PoolHistory, ProcessSample
from dbpilot.reports.queries import QueryStats, query_stats
from dbpilot.reports.ranking import p95_of, ranked_by, ranked_by_p95
from dbpilot.reports.search import QueryFilter, SeenPlan, wanted_ids
from dbpilot.web.pages.attention import of_indexes, short
from dbpilot.web.pages.charts import wait_heat
from dbpilot.web.pages.drawing import meter, sparkline
from dbpilot.web.pages.figures import NONE, count, duration, share, size
from dbpilot.web.pages.query import misjudged, plans_of, readable
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


def test_an_index_that_saves_hardly_anything_is_not_praised() -> None:
    step = StepReport(
        "1a2b3c4d", "create", "workload", "t", "ix", ("a",), "", None, "", (), "what-if", True, None, 4e-4, None, [],
        None, None,
    )  # fmt: skip
    nothing = index_report("ready", None, None, None, ())
    [little] = of_indexes(all_words()["en"], replace(nothing, steps=[step]))
    assert little.text.endswith("The best one saves less than 0.1 % of what the workload costs.")
    [much] = of_indexes(all_words()["en"], replace(nothing, steps=[step, replace(step, saves=0.2)]))
    assert much.text.endswith("The best one saves 20 % of what the workload costs.")


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


def _stats(rows: int, calls: int = 10, operation: str = "SELECT") -> QueryStats:
    tally = Tally(calls=calls, rows=rows, min_s=0.0)
    return query_stats(Pattern("a" * 16, "SELECT ?", operation, ()), tally, [])


@pytest.mark.parametrize(
    ("step", "stats", "said"),
    [
        ("Sort rows=5000 cost=1.00", _stats(500), (5000.0, 50.0)),
        ("Index Scan on t using i rows=1 cost=8.00", _stats(120), (1.0, 12.0)),
        ("Sort rows=400 cost=1.00", _stats(500), None),
        ("Sort rows=9 cost=1.00", _stats(5), None),  # less than a row is one
        ("query", _stats(500), None),  # MariaDB does not say
        ("Sort rows=5000 cost=1.00", _stats(0), None),  # nobody counted, or none came
        ("Insert on t rows=0 cost=1.00", _stats(5000, operation="INSERT"), None),
    ],
)
def test_an_estimate_is_held_against_what_came_where_both_are_known(
    step: str, stats: QueryStats, said: tuple[float, float] | None
) -> None:
    found = misjudged(step, stats)
    assert (None if found is None else (found.expected, found.came)) == said


def test_only_the_latest_plan_is_held_against_what_came_of_late() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    plans = [SeenPlan(now, now, name, "Sort rows=5000\n  Seq Scan on t rows=5000", ()) for name in "ab"]
    [(_, new), (_, old)] = plans_of(plans, _stats(10))
    assert [line.misjudged is not None for line in (*new, *old)] == [True, False, False, False]


def _waited(at: datetime, checkouts: int, p95_s: float) -> ProcessSample:
    sample = PoolSample(at, 5, 10, 1.0, 2, 4, 0, checkouts=checkouts, longest_p95_s=p95_s)
    return ProcessSample("host:1", sample)


def test_waits_are_where_the_p95_of_their_moment_is() -> None:
    until = datetime(2026, 1, 1, 12, tzinfo=UTC)
    since = until - timedelta(hours=1)
    samples = [_waited(since + timedelta(seconds=20 * n), 10, 0.0005) for n in range(180)]
    samples[90:92] = [_waited(since + timedelta(minutes=30), 7, 0.2), _waited(until, 3, 99.0)]
    heat = wait_heat(PoolHistory(since, until, samples, None))
    assert len(heat["cells"]) == len(heat["x"]) <= 182
    assert [sum(row[band] for row in heat["cells"]) for band in range(9)] == [1780, 0, 0, 0, 0, 7, 0, 0, 3]
    [at] = [x for x, row in zip(heat["x"], heat["cells"], strict=True) if row[5]]
    assert at <= (since + timedelta(minutes=30)).timestamp() <= at + heat["step"]


def test_of_waits_that_nobody_saw_there_is_no_heat() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    heat = wait_heat(PoolHistory(now - timedelta(days=7), now, [], None))
    assert not any(map(any, heat["cells"]))


def _ran(*durations_s: float) -> Tally:
    tally = Tally()
    for duration_s in durations_s:
        tally.add(datetime(2026, 1, 1, tzinfo=UTC), duration_s, 0.0, 1, None, 1.0)
    return tally


@pytest.mark.parametrize(
    ("took_s", "found"),
    [((0.0, 0.001), ["fast"]), ((0.01, 0.03), ["both"]), ((3.0, math.inf), ["both", "slow"]), ((0.1, 0.3), [])],
)
def test_a_cell_of_the_heatmap_leads_to_what_took_so_long(took_s: tuple[float, float], found: list[str]) -> None:
    tallies = {"fast": _ran(0.0004, 0.0005), "both": _ran(0.02, 9.0), "slow": _ran(4.0), "idle": Tally()}
    wanted = QueryFilter(took_s=took_s)
    assert sorted(wanted_ids(tallies, wanted, dict, lambda _: set())) == found

"""The benchmark of the report's figures runs to its end, at a size that takes seconds; what it measures here says
nothing. The page of all benchmarks shows what was measured."""

import json
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.figures import PICTURE_TITLE, Pace, bench, conditions, figures
from benchmarks.load import ROUTES
from benchmarks.pool_picture import picture
from benchmarks.report import PEERS, RESULTS, peers_table, with_conditions
from tests.acceptance import test_figures as promised

SCALE = 0.002
PACE = Pace(clients=len(ROUTES), think_s=0.2, warm_s=0, measured_s=3, watched_s=3, verified_s=2, archived_s=1, rounds=1)


def test_a_small_version_measures_everything_that_is_published(tmp_path: Path) -> None:
    found = bench("postgresql", SCALE, PACE, tmp_path / "built")
    told = {figure.name: figure for figure in figures([found])}
    marks = promised.test_the_reports_figure_was_measured_and_holds.pytestmark
    [names] = [mark.args[1] for mark in marks if mark.name == "parametrize"]
    assert set(names) <= told.keys()
    assert {f"postgresql: {route.name}, p95" for route in ROUTES} <= told.keys()
    assert [run.errors for run in found.runs.values()] == [0, 0, 0]
    assert {change["step"] for change in found.changes} <= {"kept", "reverted", "not now", "already there", "failed"}
    assert told["postgresql: steps that were advised, taken and kept"].value > 0
    assert found.archived.rows > 0
    assert found.pool
    json.dumps([figure.value for figure in told.values()], allow_nan=False)
    assert len(ElementTree.fromstring(picture({"postgresql": found.pool}, PICTURE_TITLE))) > 4
    assert any("0.002 of production size" in line for line in conditions([found], SCALE, PACE))


def test_the_page_of_all_peers_shows_what_was_published() -> None:
    assert "\n".join(peers_table(RESULTS)) in PEERS.read_text(), "results were copied: python -m benchmarks.gather"


def test_the_page_says_under_which_conditions_the_figures_were_measured() -> None:
    page, document = PEERS.read_text(), json.loads((RESULTS / "figures.json").read_text())
    assert with_conditions(page, "figures", document) == page

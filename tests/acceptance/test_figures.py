"""Contract: figures, measured before and after on a database of production size."""

import json
from typing import Any

import pytest

from tests.support import REPOSITORY


def _figure(name: str) -> dict[str, Any]:
    results = json.loads((REPOSITORY / "benchmarks" / "results" / "figures.json").read_text())
    [figure] = [figure for figure in results["figures"] if figure["name"] == name]
    return figure


@pytest.mark.parametrize(
    "name",
    [
        "average query time, after / before",
        "slow queries",
        "index score",
        "news by symbol",
        "technical-analysis data",
        "trading signals",
    ],
)
def test_the_reports_figure_was_measured_and_holds(name: str) -> None:
    assert _figure(name)["ok"] is True

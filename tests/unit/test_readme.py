"""What the READMEs show of the benchmarks is what was measured."""

import json
from pathlib import Path

import pytest

from benchmarks.report import PAGES, RESULTS, Figure, with_figures


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.parametrize("result", sorted(RESULTS.glob("*.json")), ids=lambda result: result.stem)
def test_the_figures_shown_are_the_figures_kept(page: Path, result: Path) -> None:
    kept = json.loads(result.read_text())
    figures = [Figure(**figure) for figure in kept["figures"]]
    assert with_figures(page.read_text(), kept["part"], figures) == page.read_text()

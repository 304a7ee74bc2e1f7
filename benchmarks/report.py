"""The form of every benchmark's result: a table on the terminal and ``results/<part>.json``."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

RESULTS: Final = Path(__file__).with_name("results")
PAGES: Final = tuple(
    Path(__file__).parents[1] / name for name in ("README.md", "README.ko.md", "docs/figures.md", "docs/benchmarks.md")
)
PEERS: Final = Path(__file__).parents[1] / "docs" / "benchmarks.md"
NOT_GATHERED: Final = ("figures",)
"""They stand on the page of all peers by themselves."""
MANY: Final = 40
PACKAGES: Final = ("dbpilot", "sqlalchemy", "fastapi", "uvicorn", "pyarrow", "pandas")


@dataclass(frozen=True)
class Figure:
    """One measured value, beside what others reach in the same run."""

    name: str
    value: float
    unit: str
    peers: dict[str, float] = field(default_factory=dict)
    """The same quantity of others, in the same unit."""
    goal: str | None = None
    ok: bool | None = None
    """Whether the goal was reached; None where there is none."""


def publish(part: str, seed: int | None, figures: Sequence[Figure], conditions: Sequence[str] = ()) -> None:
    """The figures are printed, and kept in ``results/<part>.json``; a page that has a place for it says under which
    conditions they were measured."""
    _print(part, figures)
    document = {
        "part": part,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {name: version(name) for name in PACKAGES},
        "seed": seed,
        "conditions": list(conditions),
        "figures": [asdict(figure) for figure in figures],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{part}.json"
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    for page in PAGES:
        page.write_text(with_conditions(with_figures(page.read_text(), part, figures), part, document))
    publish_peers(RESULTS)
    Console(stderr=True).print(f"written to benchmarks/results/{path.name} and to the pages that show it")


def publish_peers(results: Path) -> str:
    """The page of all peers has what was published last; returns its table."""
    table = peers_table(results)
    PEERS.write_text(_between(PEERS.read_text(), "peers", "", table))
    return "\n".join(table)


def peers_table(results: Path) -> list[str]:
    """What every benchmark measured beside others; of one that has many such figures those with a goal."""
    lines = ["| benchmark | | | beside | goal |", "|---|---|---|---|---|"]
    for path in sorted(results.glob("*.json")):
        document = json.loads(path.read_text())
        figures = [figure for one in document["figures"] if (figure := Figure(**one)).peers]
        shown = [figure for figure in figures if figure.goal] if len(figures) > MANY else figures
        if document["part"] not in NOT_GATHERED:
            lines += [f"| {document['part']} {_row(figure)}" for figure in shown]
    return lines


def published(part: str) -> list[Figure]:
    """What was published last; nothing where nothing was."""
    path = RESULTS / f"{part}.json"
    return [Figure(**figure) for figure in json.loads(path.read_text())["figures"]] if path.exists() else []


def with_figures(page: str, part: str, figures: Sequence[Figure]) -> str:
    """The page with the figures between its marks for this part, or those that have a goal between its marks for these
    in short; unchanged where it has none."""
    page = _between(page, f"bench-{part}", "| | | beside | goal |\n|---|---|---|---|", [_row(one) for one in figures])
    short = [f"| {one.name} | {_cell(one, one.value)} | {_verdict(one)} |" for one in figures if one.goal]
    return _between(page, f"bench-{part} in short", "| | | goal |\n|---|---|---|", short)


def with_conditions(page: str, part: str, document: Mapping[str, Any]) -> str:
    """The page with what a reader must know of the run between its marks for that; unchanged where it has none."""
    on, with_ = document["machine"], document["versions"]
    machine_line = (
        f"Measured {document['measured_at'][:10]} on {on['cores']} cores with {on['memory_mib']:,} MiB, {on['system']} "
        f"{on['architecture']}, Python {on['python']}, "
        f"{', '.join(f'{name} {with_[name]}' for name in ('dbpilot', 'sqlalchemy', 'uvicorn'))}."
    )
    rows = [f"- {line}" for line in (machine_line, *document["conditions"])]
    return _between(page, f"conditions of bench-{part}", "", rows) if document["conditions"] else page


def _between(page: str, name: str, heading: str, rows: Sequence[str]) -> str:
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    if begin not in page:
        return page
    head, _, rest = page.partition(begin)
    table = "\n".join([heading, *rows])
    return f"{head}{begin}{table}\n{end}{rest.partition(end)[2]}"


def _row(figure: Figure) -> str:
    return f"| {figure.name} | {_cell(figure, figure.value)} | {_beside(figure)} | {_verdict(figure)} |"


def _verdict(figure: Figure) -> str:
    return {True: "", False: "missed: ", None: ""}[figure.ok] + (figure.goal or "")


def _cell(figure: Figure, value: float) -> str:
    return f"{_number(value)} {figure.unit}"


def _beside(figure: Figure) -> str:
    return "; ".join(f"{name}: {_cell(figure, value)}" for name, value in figure.peers.items())


def machine() -> dict[str, str | int]:
    """What a reader must know of the machine to judge the figures."""
    return {
        "cores": os.cpu_count() or 0,
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


def _print(part: str, figures: Sequence[Figure]) -> None:
    table = Table(title=f"bench-{part}", title_justify="left")
    table.add_column("figure", overflow="fold")
    table.add_column("value", justify="right")
    table.add_column("beside", overflow="fold")
    table.add_column("goal", overflow="fold")
    for figure in figures:
        peers = _beside(figure).replace("; ", "\n")
        mark = {True: "reached: ", False: "MISSED: ", None: ""}[figure.ok]
        table.add_row(figure.name, _cell(figure, figure.value), peers, mark + (figure.goal or ""))
    Console(width=120).print(table)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

"""A connection pool over time, drawn."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any, Final

Samples = Sequence[Mapping[str, Any]]

WIDTH, PANEL, LEFT, RIGHT, TOP = 820, 190, 44, 16, 50
FOOT: Final = 30
STYLE: Final = """
    text { fill: #57606a; font-size: 12px; }
    .frame { fill: none; stroke: #8a94a6; stroke-width: 0.5; }
    .use { fill: #2f7ed8; fill-opacity: 0.35; stroke: none; }
    .size { fill: none; stroke: #d9480f; stroke-width: 1.5; }
"""


def picture(pools: Mapping[str, Samples], what: str) -> str:
    """An SVG with a panel for each database: the pool's size as a line, the connections in use as an area below it."""
    height = len(pools) * (PANEL + FOOT) + TOP
    panels = [
        line
        for place, (name, samples) in enumerate(pools.items())
        for line in _panel(name, samples, TOP + place * (PANEL + FOOT))
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, '
            'sans-serif" role="img" aria-labelledby="t">',
            f'  <title id="t">{escape(what)}</title>',
            f"  <style>{STYLE}  </style>",
            f'  <text x="{LEFT}" y="18">{escape(what)}</text>',
            *panels,
            "</svg>\n",
        ]
    )


def _panel(name: str, samples: Samples, top: int) -> Iterator[str]:
    yield f'  <text x="{LEFT}" y="{top - 6}">{escape(name)}</text>'
    yield f'  <rect class="frame" x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{PANEL - FOOT}"/>'
    if not samples:
        return
    minutes = _minutes(samples)
    most = max(max(one["size"], one["most_in_use"]) for one in samples)

    def x(at: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * at / max(minutes[-1], 0.1), 1)

    def y(count: float) -> float:
        return round(top + (PANEL - FOOT) * (1 - 0.9 * count / max(most, 1)), 1)

    used = [f"{x(at)},{y(one['most_in_use'])}" for at, one in zip(minutes, samples, strict=True)]
    yield f'  <polygon class="use" points="{x(minutes[0])},{y(0)} {" ".join(used)} {x(minutes[-1])},{y(0)}"/>'
    yield f'  <path class="size" d="M {_steps([(x(at), y(one["size"])) for at, one in _paired(minutes, samples)])}"/>'
    for count in sorted({0, most // 2, most}):
        yield f'  <text x="{LEFT - 6}" y="{y(count) + 4}" text-anchor="end">{count}</text>'
    for at in range(0, int(minutes[-1]) + 1, _every(minutes[-1])):
        yield f'  <text x="{x(at)}" y="{top + PANEL - FOOT + 16}" text-anchor="middle">{at} min</text>'


def _paired(minutes: Sequence[float], samples: Samples) -> list[tuple[float, Mapping[str, Any]]]:
    return list(zip(minutes, samples, strict=True))


def _steps(places: Sequence[tuple[float, float]]) -> str:
    """A size holds until the next one."""
    return " ".join(f"{x} {y}" if at == 0 else f"H {x} V {y}" for at, (x, y) in enumerate(places))


def _minutes(samples: Samples) -> list[float]:
    instants = [datetime.fromisoformat(one["at"]).timestamp() for one in samples]
    return [(instant - instants[0]) / 60 for instant in instants]


def _every(minutes: float) -> int:
    return max(1, round(minutes / 8))

"""A pool over time, drawn with characters."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dbpilot.cli.render import Drawing
from dbpilot.pool.sample import PoolSample, merged

HEIGHT: Final = 8
WAITING_HEIGHT: Final = 2
LABEL: Final = 6
"""Characters at the left, for the scale."""
LEAST_WIDTH: Final = 10


@dataclass(frozen=True, slots=True)
class Glyphs:
    """What is drawn with."""

    bars: str
    """From nothing to a full cell."""
    peak: str
    line: str


BLOCKS: Final = Glyphs(" ▁▂▃▄▅▆▇█", "░", "━")
ASCII: Final = Glyphs(" .:#", "'", "-")


@dataclass(frozen=True, slots=True)
class Scale:
    """What stands at the top, the same for all charts that are compared."""

    connections: int
    waiting: int

    @classmethod
    def of(cls, runs: Sequence[Sequence[PoolSample]]) -> "Scale":
        """The largest of all samples."""
        samples = [sample for run in runs for sample in run]
        connections = max((max(sample.size, sample.most_in_use) for sample in samples), default=1)
        return cls(max(1, connections), max((sample.waiting or 0 for sample in samples), default=0))


def glyphs_for(encoding: str | None) -> Glyphs:
    """What a terminal or file in this encoding can show."""
    try:
        (BLOCKS.bars + BLOCKS.peak + BLOCKS.line).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BLOCKS


def legend(glyphs: Glyphs) -> str:
    """What the characters mean."""
    bars, peak, line = glyphs.bars[-1], glyphs.peak, glyphs.line
    return f"{bars} in use on average   {peak} at most   {line} size"


def chart(samples: Sequence[PoolSample], scale: Scale, width: int, glyphs: Glyphs) -> Drawing:
    """The size as a line over the connections in use, below it who waits, over the time of the samples."""
    columns = in_columns(samples, max(LEAST_WIDTH, width - LABEL - 1))
    lines = [*_pool_lines(columns, scale, glyphs), *_waiting_lines(columns, scale, glyphs), _axis(samples, columns)]
    return Drawing(lines, ((glyphs.line, "cyan"), (glyphs.peak, "dim")) if glyphs is BLOCKS else ())


def in_columns(samples: Sequence[PoolSample], width: int) -> list[PoolSample]:
    """What each column shows: several samples merged, or the same one in several columns."""
    number = len(samples)
    edges = [column * number // width for column in range(width + 1)]
    return [merged(samples[edge : max(edge + 1, edges[column + 1])]) for column, edge in enumerate(edges[:-1])]


def _pool_lines(columns: Sequence[PoolSample], scale: Scale, glyphs: Glyphs) -> Iterator[str]:
    for level in range(HEIGHT, 0, -1):
        cells = "".join(_cell(sample, level, scale.connections / HEIGHT, glyphs) for sample in columns)
        yield f"{_label(level, scale.connections):>{LABEL}} {cells}"


def _label(level: int, top: int) -> str:
    return _top(top) if level == HEIGHT else "0" if level == 1 else ""


def _top(value: int) -> str:
    """The number, in at most LABEL characters."""
    return f"{value:,}" if value < 100_000 else f"{value / 1000:,.0f}k"


def _cell(sample: PoolSample, level: int, step: float, glyphs: Glyphs) -> str:
    """What stands at this height, a ``step`` high: the size goes before what is in use, and that before its peak."""
    if math.ceil(sample.size / step) == level:
        return glyphs.line
    bar = _bar(sample.in_use / step - (level - 1), glyphs)
    return glyphs.peak if bar == " " and sample.most_in_use / step > level - 1 else bar


def _bar(filled: float, glyphs: Glyphs) -> str:
    """A cell that is filled to this part."""
    full = len(glyphs.bars) - 1
    return glyphs.bars[min(full, max(0, math.ceil(filled * full)))]


def _waiting_lines(columns: Sequence[PoolSample], scale: Scale, glyphs: Glyphs) -> Iterator[str]:
    if not scale.waiting:
        yield f"{'':>{LABEL}} nobody waited"
        return
    step = scale.waiting / WAITING_HEIGHT
    for level in range(WAITING_HEIGHT, 0, -1):
        cells = "".join(_bar((sample.waiting or 0) / step - (level - 1), glyphs) for sample in columns)
        yield f"{_top(scale.waiting) if level == WAITING_HEIGHT else 'wait':>{LABEL}} {cells}"


def _axis(samples: Sequence[PoolSample], columns: Sequence[PoolSample]) -> str:
    length_s = sum(sample.over_s for sample in samples)
    end = f"{length_s:,.0f} s"
    return f"{'':>{LABEL}} 0{end:>{len(columns) - 1}}"

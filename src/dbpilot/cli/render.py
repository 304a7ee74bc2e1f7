"""What a command found, for whoever reads it: tables and colours on a terminal, plain lines elsewhere."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Column:
    """What stands in a column; figures are aligned to the right."""

    name: str
    figures: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table; ``style`` is rich's."""

    cells: Sequence[str]
    style: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Figures or words side by side."""

    columns: Sequence[Column]
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Heading:
    """What the parts after it are about."""

    text: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """Lines that stand under each other as they are, and the styles of the characters in them."""

    lines: Sequence[str]
    styles: Sequence[tuple[str, str]] = ()
    """Pairs of some characters and rich's style for them."""


Part: TypeAlias = Heading | Table | Drawing | str


def say(message: str) -> None:
    """The message stands on stderr; stdout is for data."""
    typer.echo(f"dbpilot: {message}", err=True)


def print_json(document: Any) -> None:
    """The document stands on stdout."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def show(parts: Iterable[Part], console: Console) -> None:
    """The parts stand on the console, one below the other."""
    if console.is_terminal:
        console.print(rendered(parts))
        return
    for line in plain(parts):
        typer.echo(line)


def rendered(parts: Iterable[Part]) -> Group:
    """The parts for a terminal."""
    return Group(*(_rendered(part) for part in parts))


def plain(parts: Iterable[Part]) -> Iterator[str]:
    """The parts as lines of text."""
    for part in parts:
        if isinstance(part, Table):
            yield from _aligned(part)
        elif isinstance(part, Drawing):
            yield from (line.rstrip() for line in part.lines)
        else:
            yield part.text if isinstance(part, Heading) else part


def _rendered(part: Part) -> RenderableType:
    if isinstance(part, Table):
        return _rich_table(part)
    if isinstance(part, Drawing):
        return _rich_drawing(part)
    return Text(part.text, style="bold") if isinstance(part, Heading) else Text(part)


def _rich_table(table: Table) -> RichTable:
    made = RichTable(box=None, header_style="dim", pad_edge=False, padding=(0, 1, 0, 0))
    for column in table.columns:
        justify: Literal["left", "right"] = "right" if column.figures else "left"
        made.add_column(column.name, justify=justify, no_wrap=column.figures, overflow="fold")
    for row in table.rows:
        made.add_row(*(Text(cell) for cell in row.cells), style=row.style)
    return made


def _rich_drawing(drawing: Drawing) -> Text:
    text = Text("\n".join(drawing.lines), no_wrap=True, overflow="crop")
    for characters, style in drawing.styles:
        text.highlight_regex(f"[{characters}]+", style)
    return text


def _aligned(table: Table) -> Iterator[str]:
    """Columns two blanks apart."""
    lines = [[column.name for column in table.columns], *(row.cells for row in table.rows)]
    widths = [max(len(line[number]) for line in lines) for number in range(len(table.columns))]
    for line in lines:
        cells = (
            cell.rjust(width) if column.figures else cell.ljust(width)
            for cell, width, column in zip(line, widths, table.columns, strict=True)
        )
        yield "  ".join(cells).rstrip()


def duration(seconds: float | None) -> str:
    """How long, to three figures."""
    if seconds is None:
        return "-"
    if seconds < 0.9995:  # what is rounded up to 1000 ms is a second
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 999.5 else f"{seconds:,.0f} s"


def ago(seconds: float) -> str:
    """How long it is since."""
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min ago"
    return f"{seconds / 3600:.0f} h ago" if seconds < 172_800 else f"{seconds / 86_400:.0f} days ago"


def count(value: float | None) -> str:
    """How many; fractions of averages to one place."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def size(value: float) -> str:
    """How many bytes."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"


def moment(at: datetime | None) -> str:
    """When, in UTC."""
    return "-" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def written(at: datetime) -> str:
    """The instant as JSON has it."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def share(value: float | None) -> str:
    """A share of one, in percent."""
    return "-" if value is None else f"{value:.0%}"

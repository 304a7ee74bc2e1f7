"""Small drawings that the server makes: they need no script, and are beside the figures that they show."""

from collections.abc import Iterable, Sequence

from markupsafe import Markup

WIDTH = 120
HEIGHT = 26


def sparkline(values: Sequence[float | None], width: int = WIDTH, height: int = HEIGHT) -> Markup:
    """The course of a figure; where nothing is known there is a gap."""
    known = [value for value in values if value is not None]
    if not known:
        return Markup(
            '<svg class="spark" width="{w}" height="{h}" viewBox="0 0 {w} {h}" aria-hidden="true">'
            '<line class="none" x1="0" x2="{w}" y1="{y}" y2="{y}"/></svg>'
        ).format(w=width, h=height, y=height - 2)
    most = max(known) or 1.0
    step = width / max(1, len(values) - 1)
    places = [
        None if value is None else (round(at * step, 1), round(height - 2 - (height - 4) * value / most, 1))
        for at, value in enumerate(values)
    ]
    runs = list(_runs(places))
    lines = Markup("").join(Markup('<path d="{}"/>').format(_path(run)) for run in runs if len(run) > 1)
    dots = Markup("").join(Markup('<circle cx="{}" cy="{}" r="1.5"/>').format(*run[0]) for run in runs if len(run) == 1)
    return Markup(
        '<svg class="spark" width="{w}" height="{h}" viewBox="0 0 {w} {h}" aria-hidden="true">{lines}{dots}</svg>'
    ).format(w=width, h=height, lines=lines, dots=dots)


def meter(part: float | None, width: int = 64, height: int = 6, level: str = "") -> Markup:
    """How much of a whole; an empty frame where that is not known."""
    filled = 0.0 if part is None else round(width * min(1.0, max(0.0, part)), 1)
    return Markup(
        '<svg class="meter {level}" width="{w}" height="{h}" viewBox="0 0 {w} {h}" aria-hidden="true">'
        '<rect class="whole" width="{w}" height="{h}" rx="2"/>'
        '<rect class="part" width="{f}" height="{h}" rx="2"/></svg>'
    ).format(w=width, h=height, f=filled, level=level)


def stack(parts: Sequence[tuple[str, float]], width: int = 600, height: int = 14) -> Markup:
    """Parts of a whole side by side, each with the class that colours it."""
    total = sum(part for _, part in parts) or 1.0
    left, drawn = 0.0, []
    for name, part in parts:
        wide = width * part / total
        rect = Markup('<rect class="{}" x="{}" width="{}" height="{}"/>')
        drawn.append(rect.format(name, round(left, 1), round(wide, 1), height))
        left += wide
    return Markup(
        '<svg class="stack" viewBox="0 0 {w} {h}" preserveAspectRatio="none" aria-hidden="true">{drawn}</svg>'
    ).format(w=width, h=height, drawn=Markup("").join(drawn))


def _runs(places: Iterable[tuple[float, float] | None]) -> Iterable[list[tuple[float, float]]]:
    """Neighbours that are known."""
    run: list[tuple[float, float]] = []
    for place in places:
        if place is not None:
            run.append(place)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _path(run: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in run)

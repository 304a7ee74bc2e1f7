"""Figures as people read them; what is not known is a dash, and never zero."""

from typing import Final

from markupsafe import Markup

NONE: Final = "–"
KIB: Final = 1024
MINUTE_S: Final = 60
HOUR_S: Final = 3600
DAY_S: Final = 86_400
LEAST_PERCENT: Final = 0.1
TWO_DIGITS: Final = 10
THREE_DIGITS: Final = 100


def duration(seconds: float | None) -> str:
    """``1.2 ms``, ``340 ms``, ``2.5 s``, ``3.0 min``."""
    if seconds is None:
        return NONE
    if seconds == 0:
        return "0"
    for bound_s, factor, unit in ((1e-3, 1e6, "µs"), (1, 1e3, "ms"), (MINUTE_S, 1, "s"), (HOUR_S, 1 / 60, "min")):
        if seconds < bound_s:
            return f"{_short(seconds * factor)} {unit}"
    return f"{_short(seconds / HOUR_S)} h" if seconds < 2 * DAY_S else f"{_short(seconds / DAY_S)} d"


def count(number: float | None) -> str:
    """``987``, ``12.3k``, ``4.5M``; small fractions with two digits."""
    if number is None:
        return NONE
    for bound, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(number) >= bound:
            return f"{_short(number / (1e3 if unit == 'k' else bound))}{unit}"
    return f"{number:,.0f}" if number == int(number) or abs(number) >= THREE_DIGITS else _short(number)


def whole(number: float | None) -> str:
    """All digits, in groups."""
    return NONE if number is None else f"{number:,.0f}"


def size(bytes_: float | None) -> str:
    """``1.5 MiB``."""
    if bytes_ is None:
        return NONE
    left = float(bytes_)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(left) < KIB:
            return f"{_short(left)} {unit}" if unit != "B" else f"{left:.0f} B"
        left /= KIB
    return f"{_short(left)} TiB"


def share(part: float | None) -> str:
    """``12.3 %``."""
    if part is None:
        return NONE
    percent = 100 * part
    if 0 < percent < LEAST_PERCENT:
        return f"<{LEAST_PERCENT} %"
    return f"{percent:.0f} %" if percent in (0, 100) or percent >= TWO_DIGITS else f"{percent:.1f} %"


def breakable(path: str) -> Markup:
    """The path, which may be broken after each of its folders."""
    return Markup("/<wbr>").join(path.split("/"))


def _short(number: float) -> str:
    if number == 0:
        return "0"
    if abs(number) >= THREE_DIGITS:
        return f"{number:.0f}"
    return f"{number:.1f}" if abs(number) >= 1 else f"{number:.2f}"

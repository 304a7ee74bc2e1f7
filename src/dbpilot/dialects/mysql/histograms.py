"""What MariaDB and MySQL keep of a column's values: mysql.column_stats, and information_schema.COLUMN_STATISTICS."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from itertools import accumulate
from typing import Any, Final

from dbpilot.dialects.catalog import Family

VALUES: Final[Mapping[Family, Callable[[str], Any]]] = {
    "integer": int,
    "boolean": int,
    "decimal": Decimal,
    "float": float,
    "text": str,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
}
"""How a value is read that is written as a text; of other families none is."""
ENCODED: Final = "base64:"
"""How MySQL writes texts in its histograms: ``base64:type254:YWJj``."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What is kept of one column."""

    nulls: float | None = None
    width: float | None = None
    distinct: float | None = None
    """How many different values; where negative, as a share of the rows."""
    common: tuple[tuple[Any, float], ...] = field(default=(), repr=False)
    bounds: tuple[Any, ...] = field(default=(), repr=False)


NOTHING: Final = Statistics()


def of_mariadb(family: Family, facts: Sequence[Any]) -> Statistics:
    """From a row of mysql.column_stats: the lowest and the highest value, the share of NULLs, the mean width, the mean
    number of rows of one value, the kind of histogram, and the histogram, as JSON or as decode_histogram() writes it.
    """
    low, high, nulls, width, each, kind, histogram = facts
    read = VALUES.get(family)
    common: tuple[tuple[Any, float], ...] = ()
    bounds: tuple[Any, ...] = ()
    if read is not None:
        try:
            if kind == "JSON_HB" and histogram:
                common, bounds = _buckets(read, json.loads(_text(histogram))["histogram_hb"])
            elif low is not None and high is not None:
                bounds = _between(read(_text(low)), read(_text(high)), _shares(histogram))
        except (ValueError, ArithmeticError, KeyError):  # a date that is none, or a form of a later version
            common, bounds = (), ()
    return Statistics(
        nulls=_number(nulls),
        width=_number(width),
        distinct=-(1 - float(nulls or 0)) / float(each) if each else None,
        common=common,
        bounds=bounds,
    )


def of_mysql(family: Family, histogram: str) -> Statistics:
    """From a histogram of MySQL 8, see "Optimizer Statistics" in its manual."""
    told = json.loads(histogram)
    buckets, nulls = told["buckets"], float(told.get("null-values", 0))
    parts = [after - before for before, after in zip([0.0, *_cumulated(buckets)], _cumulated(buckets), strict=False)]
    try:
        if told["histogram-type"] == "singleton":
            common = tuple((_decoded(family, value), part) for (value, _), part in zip(buckets, parts, strict=True))
            return Statistics(nulls, distinct=float(len(buckets)), common=common)
        bounds = [_decoded(family, bucket[0]) for bucket in buckets[:1]]
        bounds += [_decoded(family, bucket[1]) for bucket in buckets]
    except (ValueError, ArithmeticError):
        bounds = []
    return Statistics(nulls, distinct=float(sum(bucket[3] for bucket in buckets)), bounds=tuple(bounds))


def _cumulated(buckets: Sequence[Sequence[Any]]) -> list[float]:
    """Of a value it is the second figure, of a range the third."""
    return [float(bucket[1] if len(bucket) == 2 else bucket[2]) for bucket in buckets]


def _decoded(family: Family, value: Any) -> Any:
    if isinstance(value, str) and value.startswith(ENCODED):
        return base64.b64decode(value.rsplit(":", 1)[1]).decode()
    read = VALUES.get(family)
    return read(value) if read is not None and isinstance(value, str) else value


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _shares(histogram: bytes | str | None) -> list[float]:
    return [float(part) for part in _text(histogram).split(",")] if histogram else []


def _between(low: Any, high: Any, shares: Sequence[float]) -> tuple[Any, ...]:
    """Where parts end that divide the way from the lowest to the highest value so; of texts nobody can tell."""
    if not shares or isinstance(low, str):
        return (low, high)
    return (low, *(_at(low, high, place) for place in list(accumulate(shares))[:-1]), high)


def _at(low: Any, high: Any, place: float) -> Any:
    if isinstance(low, Decimal):
        return low + (high - low) * Decimal(str(place))
    return low + round((high - low) * place) if isinstance(low, int) else low + (high - low) * place


def _buckets(
    read: Callable[[str], Any], buckets: Sequence[Mapping[str, Any]]
) -> tuple[tuple[tuple[Any, float], ...], tuple[Any, ...]]:
    """Single values are the common ones, and the others' ends the bounds."""
    common = tuple((read(bucket["start"]), float(bucket["size"])) for bucket in buckets if bucket["ndv"] == 1)
    others = [bucket for bucket in buckets if bucket["ndv"] != 1]
    ends = [read(bucket["end"]) for bucket in others[-1:] if "end" in bucket]
    return common, (*(read(bucket["start"]) for bucket in others), *ends)

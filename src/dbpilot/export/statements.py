"""Statements as metrics: what this process counted since it started, or what all of them counted since midnight."""

from bisect import bisect_left
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.samples import Exemplar

from dbpilot.export.catalogue import Families
from dbpilot.history.store import OTHER_ID, Pattern, described
from dbpilot.history.tally import LatencyHistogram, Tally, bucket_of
from dbpilot.pilot import Autopilot
from dbpilot.queries.slow import SLOW
from dbpilot.queries.windows import MAX_SERIES, Series, SeriesByKey
from dbpilot.recall import Events

BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
RECENT_H: Final = 5 / 60
TOP_PATTERNS: Final = 20
SHOWN_OF_A_STATEMENT: Final = 100
EXEMPLARS_READ: Final = 200
OTHERS: Final = "other"

LAST_BUCKETS: Final = [bucket_of(bound) for bound in BUCKETS_S]
"""The numbers of the histograms' own buckets in which these end."""

Key: TypeAlias = tuple[str, str]
"""Operation and main table."""
Bounds: TypeAlias = list[tuple[str, float] | tuple[str, float, Exemplar]]


def bounds_of(histogram: LatencyHistogram, total: float, exemplars: Mapping[str, Exemplar] | None = None) -> Bounds:
    """The buckets as Prometheus wants them: each counts those below it as well, and the last one all."""
    return _bounds([histogram.at_most(bound) for bound in BUCKETS_S], total, exemplars or {})


def _bounds(at_most: Sequence[int], total: float, exemplars: Mapping[str, Exemplar]) -> Bounds:
    counts = [*zip(map(str, BUCKETS_S), map(float, at_most), strict=True), ("+Inf", total)]
    return [(bound, count, exemplars[bound]) if bound in exemplars else (bound, count) for bound, count in counts]


@dataclass(slots=True)
class Sums:
    """What was counted of one operation on one table, in the buckets of metrics: adding up whole histograms of a
    thousand patterns would take twice as long."""

    calls: int = 0
    failed: int = 0
    slow: int = 0
    total_s: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))

    def add(self, tally: Tally) -> None:
        """Add what was counted of one pattern."""
        self.calls += tally.calls
        self.failed += tally.failed
        self.slow += tally.slow
        self.total_s += tally.total_s
        for bucket, count in tally.histogram.items():
            self.counts[bisect_left(LAST_BUCKETS, bucket)] += count

    def merge(self, other: "Sums") -> None:
        """Add all that the other one counted."""
        self.calls += other.calls
        self.failed += other.failed
        self.slow += other.slow
        self.total_s += other.total_s
        self.counts = [mine + more for mine, more in zip(self.counts, other.counts, strict=True)]

    def bounds(self, exemplars: Mapping[str, Exemplar]) -> Bounds:
        """The buckets as Prometheus wants them."""
        return _bounds(list(accumulate(self.counts[:-1])), float(self.calls), exemplars)


def by_operation_and_table(
    tallies: Mapping[str, Tally], keys: Mapping[str, Key], most: int = MAX_SERIES
) -> dict[Key, Sums]:
    """The sums of the pairs that took most time; the rest goes to its operation's ``other``."""
    sums: dict[Key, Sums] = {}
    for id_, tally in tallies.items():
        sums.setdefault(keys[id_], Sums()).add(tally)
    first = sorted(sums, key=lambda key: sums[key].total_s, reverse=True)
    found = {key: sums[key] for key in first[:most]}
    for operation, table in first[most:]:
        found.setdefault((operation, OTHERS), Sums()).merge(sums[operation, table])
    return found


class ProcessStatements:
    """What this process counted since it started."""

    def __init__(self, pilot: Autopilot) -> None:
        self._pilot = pilot

    def collect(self, families: Families) -> Iterator[Metric]:
        """The three families of statements."""
        series = self._pilot.series()
        exemplars = _exemplars(self._pilot, families, series.keys())
        durations = families.histogram("db_operation_duration_seconds")
        for key, one in series.items():
            bounds = bounds_of(one.histogram, float(one.succeeded + one.failed), exemplars.get(key))
            durations.add_metric(key, bounds, one.total_s)
        yield durations
        yield _counts(families.counter("db_operations"), series, lambda one: (one.succeeded, one.failed))
        yield _counts(families.counter("slow_queries"), series, lambda one: (one.slow_succeeded, one.slow_failed))


def _counts(
    family: CounterMetricFamily, series: SeriesByKey, counts: Callable[[Series], tuple[int, int]]
) -> CounterMetricFamily:
    for key, one in series.items():
        for status, count in zip(("success", "error"), counts(one), strict=True):
            family.add_metric([*key, status], count)
    return family


class AllStatements:
    """What all processes that share the history counted since midnight UTC, as far as it is written there.

    Read from the store alone, so that a figure never becomes less from one process's answer to another's; at midnight
    they begin anew, which Prometheus takes for a restart.
    """

    def __init__(self, pilot: Autopilot) -> None:
        self._pilot = pilot
        self._keys: dict[str, Key] = {}
        """What patterns do, by id; looked up once."""

    def collect(self, families: Families) -> Iterator[Metric]:
        """The three families of statements.

        Raises:
            StoreError: the history does not answer.
        """
        tallies = self._pilot.written_today()
        sums = by_operation_and_table(tallies, self._keys_of(tallies))
        yield _durations(families, sums, _exemplars(self._pilot, families, sums.keys()))
        operations, slow = families.counter("db_operations"), families.counter("slow_queries")
        for key, one in sums.items():
            operations.add_metric([*key, "success"], one.calls - one.failed)
            operations.add_metric([*key, "error"], one.failed)
            slow.add_metric([*key, "success"], one.slow)  # the history does not keep how the slow ones ended
        yield from (operations, slow)

    def _keys_of(self, tallies: Mapping[str, Tally]) -> dict[str, Key]:
        known = {id_: key for id_, key in self._keys.items() if id_ in tallies}
        new = tallies.keys() - known.keys()
        named = self._pilot.named(new) if new else {}
        self._keys = known | {id_: key_of(pattern) for id_, pattern in named.items()}
        return {id_: self._keys.get(id_) or key_of(described(None, id_)) for id_ in tallies}


def _durations(
    families: Families, sums: Mapping[Key, Sums], exemplars: Mapping[Key, Mapping[str, Exemplar]]
) -> HistogramMetricFamily:
    durations = families.histogram("db_operation_duration_seconds")
    for key, one in sums.items():
        durations.add_metric(key, one.bounds(exemplars.get(key, {})), one.total_s)
    return durations


def key_of(pattern: Pattern) -> Key:
    """The series that the pattern belongs to."""
    return pattern.operation, pattern.tables[0] if pattern.tables else "none"


def _exemplars(pilot: Autopilot, families: Families, keys: Container[Key]) -> dict[Key, dict[str, Exemplar]]:
    return exemplars_of(pilot.events(SLOW, RECENT_H, EXEMPLARS_READ), keys) if families.exemplars else {}


def exemplars_of(slow: Events, keys: Container[Key]) -> dict[Key, dict[str, Exemplar]]:
    """The latest slow execution with a trace for each bucket, by its series; only of series that are shown."""
    found: dict[Key, dict[str, Exemplar]] = {}
    for event in slow.events:
        key = key_of(described(slow.patterns.get(event.key), event.key))
        if event.body.get("trace_id") is None or key not in keys:
            continue
        bucket = next((str(bound) for bound in BUCKETS_S if event.value <= bound), "+Inf")
        exemplar = Exemplar({"trace_id": event.body["trace_id"]}, event.value, event.at.timestamp())
        found.setdefault(key, {}).setdefault(bucket, exemplar)
    return found


def pattern_families(pilot: Autopilot, families: Families) -> Iterator[GaugeMetricFamily]:
    """The patterns on which most time was spent in the last minutes, by any process; the others together."""
    tallies = pilot.counted(RECENT_H).tallies
    apart = [id_ for id_ in tallies if id_ != OTHER_ID]
    top = sorted(apart, key=lambda id_: tallies[id_].total_s, reverse=True)[:TOP_PATTERNS]
    named = pilot.named(top)
    shown: dict[tuple[str, str], Tally] = {(id_, _short(described(named.get(id_), id_))): tallies[id_] for id_ in top}
    rest = Tally()
    for id_ in tallies.keys() - set(top):
        rest.merge(tallies[id_])
    seconds, calls = families.gauge("db_pattern_seconds"), families.gauge("db_pattern_calls")
    p95 = families.gauge("db_pattern_p95_seconds")
    for labels, tally in shown.items():
        p95.add_metric(labels, tally.histogram.quantile(0.95) or 0.0)
    for labels, tally in {**shown, (OTHERS, OTHERS): rest}.items():
        seconds.add_metric(labels, tally.total_s)
        calls.add_metric(labels, tally.calls)
    yield from (seconds, calls, p95)


def _short(pattern: Pattern) -> str:
    text = pattern.text
    return text if len(text) <= SHOWN_OF_A_STATEMENT else f"{text[:SHOWN_OF_A_STATEMENT]} ..."

"""The connection pool as metrics: this process's, and how the others' pools were when they were last looked at."""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.core import HistogramMetricFamily, Metric

from dbpilot.export.catalogue import Families
from dbpilot.export.statements import bounds_of
from dbpilot.history.store import POOL
from dbpilot.history.tally import LatencyHistogram
from dbpilot.pilot import Autopilot
from dbpilot.pool.regulator import sample_of
from dbpilot.pool.sample import PoolSample
from dbpilot.pool.sampler import PoolReading
from dbpilot.reports.pool import PoolReport
from dbpilot.unsupported import Unsupported

SEEN_H: Final = 30 / 3600
"""A process that said nothing of its pool for so long has ended, or cannot reach the history."""
MAX_SAMPLES: Final = 500
POOLS: Final = ("active", "idle", "max", "size", "waiting")


def connection_families(pilot: Autopilot, families: Families) -> Iterator[Metric]:
    """Everything about connections."""
    report = pilot.pool()
    reading = report.connections
    yield from _pools(pilot, families, reading)
    says = not isinstance(reading.waiting, Unsupported)  # SQLAlchemy's own pool knows no holders and no connects
    yield from _counters(families, reading, says=says)
    yield from _times(pilot, families, reading, says=says)
    resizes = families.counter("db_pool_resizes")
    for reason, count in pilot.resizes().items():
        resizes.add_metric(families.labels("db_pool_resizes", reason), count)
    yield resizes
    yield from _outlook(families, report, says=says)


def _pools(pilot: Autopilot, families: Families, reading: PoolReading) -> Iterator[Metric]:
    pools: dict[str, Mapping[str, float | None]] = {}
    if families.scope == "all":
        others = pilot.events(POOL, SEEN_H, MAX_SAMPLES).events
        pools = {event.key: _of_sample(sample_of(event)) for event in reversed(others)}
    pools[families.process] = _of_reading(reading)
    for name in POOLS:
        family = families.gauge(f"db_connections_{name}")
        for process, figures in pools.items():
            value = figures[name]
            if value is not None:  # what cannot be known is absent, not zero
                family.add_metric([process] if families.scope == "all" else [], value)
        yield family


def _of_reading(reading: PoolReading) -> Mapping[str, float | None]:
    return {
        "active": _known(reading.in_use),
        "idle": _known(reading.idle),
        "max": _known(reading.limit),
        "size": _known(reading.size),
        "waiting": _known(reading.waiting),
    }


def _of_sample(sample: PoolSample) -> Mapping[str, float | None]:
    return {
        "active": sample.in_use,
        "idle": sample.idle,
        "max": sample.limit,
        "size": sample.size,
        "waiting": sample.waiting,
    }


def _counters(families: Families, reading: PoolReading, *, says: bool) -> Iterator[Metric]:
    counts = {
        "created": reading.created,
        "closed": reading.closed,
        "failed": reading.failed,
        "checkouts": reading.checkouts,
        "timeouts": _known(reading.timeouts),
        "leaked": reading.collected if says else None,
    }
    for name, count in counts.items():
        yield families.one_counter(f"db_connections_{name}", count)


def _times(pilot: Autopilot, families: Families, reading: PoolReading, *, says: bool) -> Iterator[Metric]:
    times = pilot.pool_times()
    yield _histogram(families, "db_connection_wait_seconds", times.waits, reading.wait_s)
    if says:
        yield _histogram(families, "db_connection_hold_seconds", times.holds, reading.hold_s)
        yield _histogram(families, "db_connection_connect_seconds", times.connects, reading.connect_s)


def _histogram(families: Families, name: str, times: LatencyHistogram, sum_s: float) -> HistogramMetricFamily:
    family = families.histogram(name)
    total = float(sum(count for _, count in times.items()))
    family.add_metric(families.labels(name), bounds_of(times, total), sum_s)
    return family


def _outlook(families: Families, report: PoolReport, *, says: bool) -> Iterator[Metric]:
    budget = None if isinstance(report.budget, Unsupported) else report.budget.budget
    expected = None if report.expected is None else report.expected.connections
    yield families.one_gauge("db_pool_exhaustion_seconds", report.exhaustion.seconds_left)
    long = sum(holder.too_long for holder in report.holders)
    yield families.one_gauge("db_pool_long_holds", long if says else None)
    yield families.one_gauge("db_pool_expected_connections", expected)
    yield families.one_gauge("db_pool_budget_connections", budget)


def _known(value: int | Unsupported) -> int | None:
    return None if isinstance(value, Unsupported) else value

"""The pilot's figures as Prometheus metrics, read when Prometheus asks.

Series are bounded: one per operation and main table, the rest as ``other``. ``*_slow_queries_total`` has the labels of
``*_db_operations_total``, so that one can be divided by the other as they stand.
"""

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from dbpilot.history.tally import LatencyHistogram
from dbpilot.pilot import Autopilot
from dbpilot.queries.windows import Series, SeriesByKey
from dbpilot.unsupported import Unsupported

BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class PilotCollector(Collector):
    """Registers with a ``CollectorRegistry``; ``namespace`` begins every metric's name."""

    def __init__(self, pilot: Autopilot, namespace: str = "dbpilot") -> None:
        self._pilot = pilot
        self._namespace = namespace

    def collect(self) -> Iterator[Metric]:
        series = self._pilot.series()
        yield self._durations(series)
        yield self._counter("db_operations", "Statements executed.", series, lambda one: (one.succeeded, one.failed))
        yield self._counter(
            "slow_queries",
            f"Statements of {self._pilot.config.queries.slow_s:g} s or longer.",
            series,
            lambda one: (one.slow_succeeded, one.slow_failed),
        )
        yield from self._connections()

    def _durations(self, series: SeriesByKey) -> Metric:
        name = f"{self._namespace}_db_operation_duration_seconds"
        family = HistogramMetricFamily(name, "Duration of statements in seconds.", labels=["operation", "table"])
        for key, one in series.items():
            calls = one.succeeded + one.failed
            bounds = [(str(bound), float(one.histogram.at_most(bound))) for bound in BUCKETS_S]
            family.add_metric(key, [*bounds, ("+Inf", float(calls))], one.total_s)
        return family

    def _counter(
        self, name: str, help_: str, series: SeriesByKey, counts: Callable[[Series], tuple[int, int]]
    ) -> Metric:
        labels = ["operation", "table", "status"]
        family = CounterMetricFamily(f"{self._namespace}_{name}", help_, labels=labels)
        for key, one in series.items():
            for status, count in zip(("success", "error"), counts(one), strict=True):
                family.add_metric([*key, status], count)
        return family

    def _connections(self) -> Iterator[Metric]:
        reading = self._pilot.connections()
        gauges = {
            "db_connections_active": ("Connections that the application has checked out.", reading.in_use),
            "db_connections_idle": ("Connections that wait in the pool.", reading.idle),
            "db_connections_max": ("Connections that the pool may open at once.", reading.limit),
            "db_connections_size": ("Connections that the pool keeps open.", reading.size),
            "db_connections_waiting": ("Callers that wait for a connection.", reading.waiting),
        }
        for name, (help_, value) in gauges.items():
            if not isinstance(value, Unsupported):  # what cannot be known is absent, not zero
                yield GaugeMetricFamily(f"{self._namespace}_{name}", help_, value=value)
        counters: dict[str, tuple[str, float]] = {
            "db_connections_created": ("Connections opened.", reading.created),
            "db_connections_closed": ("Connections closed.", reading.closed),
            "db_connections_failed": ("Attempts to connect that failed.", reading.failed),
            "db_connections_checkouts": ("Connections asked for.", reading.checkouts),
        }
        if not isinstance(reading.timeouts, Unsupported):
            counters["db_connections_timeouts"] = ("Callers who waited for a connection in vain.", reading.timeouts)
        for name, (help_, count) in counters.items():
            yield CounterMetricFamily(f"{self._namespace}_{name}", help_, value=count)
        resizes = CounterMetricFamily(f"{self._namespace}_db_pool_resizes", "Resizes of the pool.", labels=["reason"])
        for reason, count in self._pilot.resizes().items():
            resizes.add_metric([reason], count)
        yield resizes
        times = self._pilot.pool_times()
        yield self._times("wait", "Time in which connections were waited for", times.waits, reading.wait_s)
        yield self._times(
            "hold",
            "Time for which connections were held, of those whose holders are known",
            times.holds,
            reading.hold_s,
        )
        yield self._times("connect", "Time that connections took to open", times.connects, reading.connect_s)

    def _times(self, what: str, help_: str, times: LatencyHistogram, sum_s: float) -> Metric:
        bounds = [(str(bound), float(times.at_most(bound))) for bound in BUCKETS_S]
        total = float(sum(count for _, count in times.items()))
        name = f"{self._namespace}_db_connection_{what}_seconds"
        return HistogramMetricFamily(name, f"{help_}, in seconds.", [*bounds, ("+Inf", total)], sum_s)

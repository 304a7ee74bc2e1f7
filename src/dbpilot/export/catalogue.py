"""Which metrics there are: names, types, labels and meanings, in one place that pages and tests can read."""

from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

Type = Literal["counter", "gauge", "histogram"]
Scope = Literal["process", "all"]
"""Whether the process that answers tells what it counted itself, or what all that share the history counted."""
Seen = Literal["everywhere", "process", "pool"]


@dataclass(frozen=True, slots=True)
class Described:
    """One metric; its whole name begins with the namespace."""

    name: str
    type: Type
    help: str
    labels: tuple[str, ...] = ()
    seen: Seen = "everywhere"
    """Whose it is: ``everywhere`` it is the same whichever process is asked in scope ``all``; of a ``process`` or its
    ``pool`` it has the label ``process`` there."""

    def labels_in(self, scope: Scope) -> tuple[str, ...]:
        """Its labels, in the order in which their values are given."""
        return (*self.labels, "process") if scope == "all" and self.seen != "everywhere" else self.labels


STATEMENTS: Final = (
    Described(
        "db_operation_duration_seconds", "histogram", "Duration of statements in the driver.", ("operation", "table")
    ),
    Described(
        "db_operations",
        "counter",
        "Statements executed; status is success or error.",
        ("operation", "table", "status"),
    ),
    Described(
        "slow_queries",
        "counter",
        "Statements that took queries.slow_s or longer; labels as those of db_operations.",
        ("operation", "table", "status"),
    ),
    Described(
        "db_pattern_seconds",
        "gauge",
        "Time spent in the last five minutes by each of the patterns that took most, and by all others.",
        ("pattern", "statement"),
    ),
    Described(
        "db_pattern_calls",
        "gauge",
        "Executions in the last five minutes of the same patterns, and of all others.",
        ("pattern", "statement"),
    ),
    Described(
        "db_pattern_p95_seconds",
        "gauge",
        "p95 of the last five minutes of the same patterns.",
        ("pattern", "statement"),
    ),
)

CONNECTIONS: Final = (
    Described("db_connections_active", "gauge", "Connections that the application has checked out.", seen="pool"),
    Described("db_connections_idle", "gauge", "Connections that wait in the pool.", seen="pool"),
    Described("db_connections_max", "gauge", "Connections that the pool may open at once.", seen="pool"),
    Described("db_connections_size", "gauge", "Connections that the pool keeps open.", seen="pool"),
    Described("db_connections_waiting", "gauge", "Callers that wait for a connection.", seen="pool"),
    Described("db_connections_created", "counter", "Connections opened.", seen="process"),
    Described("db_connections_closed", "counter", "Connections closed.", seen="process"),
    Described("db_connections_failed", "counter", "Attempts to get a connection that failed.", seen="process"),
    Described("db_connections_checkouts", "counter", "Connections asked for and handed out.", seen="process"),
    Described("db_connections_timeouts", "counter", "Callers who waited for a connection in vain.", seen="process"),
    Described("db_connections_leaked", "counter", "Connections that nobody returned.", seen="process"),
    Described("db_connection_wait_seconds", "histogram", "How long connections were waited for.", seen="process"),
    Described(
        "db_connection_hold_seconds",
        "histogram",
        "How long connections were held, of those whose holders are known.",
        seen="process",
    ),
    Described("db_connection_connect_seconds", "histogram", "How long connections took to open.", seen="process"),
    Described("db_pool_resizes", "counter", "Resizes of the pool.", ("reason",), seen="process"),
    Described(
        "db_pool_exhaustion_seconds",
        "gauge",
        "Until the pool reaches its limit, if the last minute's trend goes on; absent while the use does not grow.",
        seen="process",
    ),
    Described(
        "db_pool_long_holds",
        "gauge",
        "Connections held for pool.long_hold_s and more, of ten at most.",
        seen="process",
    ),
    Described(
        "db_pool_expected_connections",
        "gauge",
        "The most connections expected within two minutes; absent while too little is known of the days.",
        seen="process",
    ),
    Described(
        "db_pool_budget_connections",
        "gauge",
        "Connections that all processes may have open together; absent where there is no common bound.",
        seen="process",
    ),
)

ALERTS: Final = (
    Described("alerts_open", "gauge", "Alerts that are open, by severity.", ("severity",)),
    Described("alerts_open_of_kind", "gauge", "Alerts that are open, by kind.", ("kind",)),
    Described(
        "alert_messages",
        "counter",
        "Messages about alerts: sent, failed, or dropped behind a channel that hangs.",
        ("result",),
        seen="process",
    ),
)

INDEXES: Final = (
    Described("index_score", "gauge", "How good all indexes are, from 0 to 100, as of the last analysis."),
    Described(
        "index_score_of_table",
        "gauge",
        "The same of one table; of all tables beyond the largest, the lowest. Known to the process that analysed.",
        ("table",),
        seen="process",
    ),
    Described(
        "index_steps",
        "gauge",
        "Steps that are advised for a table: create, drop or rebuild. Known to the process that analysed.",
        ("table", "act"),
        seen="process",
    ),
    Described("index_steps_advised", "gauge", "Steps that are advised altogether, of twenty at most."),
    Described("index_analysis_timestamp_seconds", "gauge", "When the indexes were analysed last."),
)

CLEANUP: Final = (
    Described("cleanup_running", "gauge", "Whether this process cleans now.", seen="process"),
    Described("cleanup_last_run_timestamp_seconds", "gauge", "When the last cleaning ended, of any process."),
    Described("cleanup_last_success_timestamp_seconds", "gauge", "When the last cleaning ended that went well."),
    Described("cleanup_last_run_duration_seconds", "gauge", "How long the last cleaning took."),
    Described("cleanup_last_run_failed", "gauge", "Whether the last cleaning failed or was not finished."),
    Described("cleanup_last_run_rows", "gauge", "Rows that the last cleaning took away, by rule.", ("rule",)),
)

WATCHER: Final = (
    Described("history_up", "gauge", "Whether the history can be read and written.", seen="process"),
    Described("history_unwritten_windows", "gauge", "Finished windows that wait for the history.", seen="process"),
    Described("history_lost_windows", "counter", "Windows that never reached the history.", seen="process"),
    Described("watcher_up", "gauge", "Whether statements are watched.", seen="process"),
    Described("watcher_dropped", "counter", "Executions not counted: too many waited.", seen="process"),
    Described("watcher_failures", "counter", "Errors of the watcher's own.", seen="process"),
    Described("watcher_restarts", "counter", "Threads of the watcher that died and were replaced.", seen="process"),
    Described("watcher_start_time_seconds", "gauge", "Since when statements are watched.", seen="process"),
    Described("watcher_info", "gauge", "1; its labels name the database that answers.", ("database", "version")),
)

METRICS: Final = {
    one.name: one for part in (STATEMENTS, CONNECTIONS, ALERTS, INDEXES, CLEANUP, WATCHER) for one in part
}


class Families:
    """Makes empty families of metrics for one namespace and scope, and knows which labels they have."""

    def __init__(self, namespace: str, scope: Scope, process: str, *, exemplars: bool = False) -> None:
        """``process`` names the one that answers; ``exemplars`` says whether they can be told at all."""
        self._namespace = namespace
        self.scope = scope
        self.process = process
        self.exemplars = exemplars

    def counter(self, name: str) -> CounterMetricFamily:
        """A family without samples."""
        return CounterMetricFamily(*self._of(name, "counter"), labels=self._labels(name))

    def gauge(self, name: str) -> GaugeMetricFamily:
        """A family without samples."""
        return GaugeMetricFamily(*self._of(name, "gauge"), labels=self._labels(name))

    def histogram(self, name: str) -> HistogramMetricFamily:
        """A family without samples."""
        return HistogramMetricFamily(*self._of(name, "histogram"), labels=self._labels(name))

    def labels(self, name: str, *values: str) -> list[str]:
        """The values of the metric's own labels, and this process where it has to be named."""
        return [*values, *([self.process] if "process" in METRICS[name].labels_in(self.scope) else [])]

    def one_gauge(self, name: str, value: float | None, *values: str) -> GaugeMetricFamily:
        """A family with one sample; with none where the value is not known: that is not zero."""
        family = self.gauge(name)
        if value is not None:
            family.add_metric(self.labels(name, *values), value)
        return family

    def one_counter(self, name: str, value: float | None, *values: str) -> CounterMetricFamily:
        """As :meth:`one_gauge`."""
        family = self.counter(name)
        if value is not None:
            family.add_metric(self.labels(name, *values), value)
        return family

    def _of(self, name: str, type_: Type) -> tuple[str, str]:
        described = METRICS[name]
        if described.type != type_:
            raise TypeError(f"{name} is a {described.type}, not a {type_}")
        return f"{self._namespace}_{name}", described.help

    def _labels(self, name: str) -> tuple[str, ...]:
        return METRICS[name].labels_in(self.scope)

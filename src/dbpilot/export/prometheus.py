"""The pilot's figures as Prometheus metrics, read when Prometheus asks.

Which there are: :mod:`dbpilot.export.catalogue`. Series are bounded: so many pairs of operation and main table,
patterns and tables are told apart, the rest is ``other``. ``*_slow_queries_total`` has the labels of
``*_db_operations_total``, so that one can be divided by the other as they stand.

Several processes behind one address answer in turn, and each knows only what it counted itself. Prometheus takes the
figures of another process for a restart, so such an application is asked in scope ``all``: statements are then those
of all processes, from the history that they share, and what concerns one process or its pool names it in a label.
"""

import os
import socket
from collections.abc import Iterator
from itertools import chain
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from dbpilot.errors import StoreError
from dbpilot.export.catalogue import Families, Scope
from dbpilot.export.connections import connection_families
from dbpilot.export.state import alert_families, cleanup_families, index_families, watcher_families
from dbpilot.export.statements import AllStatements, ProcessStatements, pattern_families
from dbpilot.pilot import Autopilot

OPENMETRICS: Final = "application/openmetrics-text"
SCOPES: Final[tuple[Scope, ...]] = ("process", "all")
PARTS: Final = (
    pattern_families,
    connection_families,
    alert_families,
    index_families,
    cleanup_families,
    watcher_families,
)


class PilotCollector(Collector):
    """Registers with a ``CollectorRegistry``; ``namespace`` begins every metric's name."""

    def __init__(
        self, pilot: Autopilot, namespace: str = "dbpilot", scope: Scope = "process", *, exemplars: bool = False
    ) -> None:
        """``exemplars``: slow executions are told with their traces, which the older text format cannot express."""
        self._pilot = pilot
        self._namespace = namespace
        self._scope = scope
        self._exemplars = exemplars
        self._own = ProcessStatements(pilot)
        self._all = AllStatements(pilot)

    def collect(self) -> Iterator[Metric]:
        """Every family that has something to tell: what cannot be known is absent, not zero."""
        process = f"{socket.gethostname()}:{os.getpid()}"  # now: the process may have been forked
        families = Families(self._namespace, self._scope, process, exemplars=self._exemplars)
        parts = [part(self._pilot, families) for part in PARTS]
        yield from (family for family in chain(self._statements(families), *parts) if family.samples)

    def _statements(self, families: Families) -> Iterator[Metric]:
        if self._scope == "process":
            yield from self._own.collect(families)
            return
        try:
            yield from self._all.collect(families)
        except StoreError:
            return  # history_up says why


class Exposition:
    """Answers Prometheus, in the format and the scope that it asks for."""

    def __init__(self, pilot: Autopilot, namespace: str = "dbpilot") -> None:
        self._registries = {
            (scope, exemplars): _registry(PilotCollector(pilot, namespace, scope, exemplars=exemplars))
            for scope in SCOPES
            for exemplars in (False, True)
        }

    def answer(self, accept: str, scope: Scope = "process") -> tuple[bytes, str]:
        """The text and its content type; ``accept`` is the header of that name. OpenMetrics has exemplars."""
        encode, content_type = choose_encoder(accept)
        registry = self._registries[scope, content_type.startswith(OPENMETRICS)]
        return encode(registry), content_type


def _registry(collector: Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry

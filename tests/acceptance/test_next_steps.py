"""Contract: the report's next steps, which are built too."""

from importlib import import_module

import pytest

from tests.support import part


@pytest.mark.parametrize(
    "module",
    [
        pytest.param("dbpilot.scaling.replicas", marks=part("scaling: read replicas")),
        pytest.param("dbpilot.scaling.cache", marks=part("scaling: Redis query cache with invalidation")),
        pytest.param("dbpilot.scaling.partitions", marks=part("scaling: monthly and quarterly partitions")),
        "dbpilot.queries.plans",
        pytest.param("dbpilot.queries.deadlocks", marks=part("scaling: deadlock monitoring")),
        pytest.param("dbpilot.scaling.shards", marks=part("scaling: sharding by symbol")),
        pytest.param("dbpilot.queries.profile", marks=part("pool: learned query patterns")),
        "dbpilot.indexes.advisor",
        "dbpilot.pool.forecast",
    ],
)
def test_the_next_step_is_built(module: str) -> None:
    assert import_module(module)

"""Contract: files that must exist with real meaning, and the names other code imports from them."""

import ast
import inspect
from importlib import import_module

import pytest

from tests.support import REPOSITORY

DATABASE = "app.common.infra.database"

ROWS = [
    pytest.param(f"{DATABASE}.config.database_config", ["engine", "SessionLocal", "Base", "get_db"], id="config"),
    pytest.param(f"{DATABASE}.monitoring.query_monitor", ["QueryMonitor", "query_monitor"], id="query_monitor"),
    pytest.param(
        f"{DATABASE}.optimization.index_optimizer",
        ["IndexOptimizer", "analyze_database_indexes", "generate_index_optimization_sql"],
        id="index_optimizer",
    ),
    pytest.param(
        f"{DATABASE}.optimization.connection_pool_manager",
        ["ConnectionPoolConfig", "ConnectionPoolManager", "initialize_pool_manager", "get_pool_manager"],
        id="connection_pool_manager",
    ),
    pytest.param(
        f"{DATABASE}.maintenance.data_cleanup",
        ["CleanupRule", "CleanupResult", "DataCleanupManager", "run_database_cleanup"],
        id="data_cleanup",
    ),
    pytest.param(f"{DATABASE}.routes", ["router"], id="routes"),
]


@pytest.mark.parametrize(("module", "names"), ROWS)
def test_the_promised_names_are_there(module: str, names: list[str]) -> None:
    loaded = import_module(module)
    assert [name for name in names if not hasattr(loaded, name)] == []


@pytest.mark.parametrize(("module", "names"), ROWS)
def test_a_promised_file_holds_a_policy_or_wiring(module: str, names: list[str]) -> None:
    path = REPOSITORY / (module.replace(".", "/") + ".py")
    own = [node for node in ast.parse(path.read_text()).body if not isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(own) > 1, "more than a docstring and imports"


def test_the_router_serves_under_api_database() -> None:
    assert import_module(f"{DATABASE}.routes").router.prefix == "/api/database"


def test_the_index_functions_take_what_was_promised() -> None:
    optimizer = import_module(f"{DATABASE}.optimization.index_optimizer")
    assert list(inspect.signature(optimizer.analyze_database_indexes).parameters) == ["engine"]
    signature = inspect.signature(optimizer.generate_index_optimization_sql)
    assert list(signature.parameters) == ["engine", "table_name"]
    assert signature.parameters["table_name"].default is None

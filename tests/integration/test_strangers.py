"""An application that nobody here wrote is watched whole: Optuna, which keeps its studies by SQLAlchemy's ORM."""

import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa

from dbpilot import Autopilot
from dbpilot.history.store import MemoryStore

EXAMPLE = Path(__file__).parents[2] / "examples" / "optuna_study.py"


@pytest.fixture
def storage(sqlite_url: sa.URL) -> optuna.storages.RDBStorage:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.storages.RDBStorage(str(sqlite_url))


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_every_statement_of_a_study_is_counted(storage: optuna.storages.RDBStorage) -> None:
    traced: list[str] = []
    sa.event.listen(storage.engine, "connect", lambda connection, _: connection.set_trace_callback(traced.append))
    storage.engine.dispose()
    with Autopilot(storage.engine, store=MemoryStore()) as pilot:
        study = optuna.create_study(storage=storage)
        study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=10, n_jobs=2)
        lines = pilot.query_stats(hours=1, limit=1000, order="total_s").patterns
        assert pilot.performance_summary(1).watching.failures == 0
    storage.engine.dispose()
    # A statement that fires a trigger, or is sent with several rows, is several for SQLite; Optuna has neither.
    sent = [text for text in traced if text.split()[0] not in ("BEGIN", "COMMIT", "ROLLBACK")]
    assert sum(line.calls for line in lines) == len(sent) > 100
    assert {"trials", "studies", "trial_params"} <= {table for line in lines for table in line.tables}
    assert any("test_strangers.py" in source.callsite for line in lines for source in line.sources)


def test_the_example_prints_what_took_most_time(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE), f"sqlite:///{tmp_path}/study.sqlite3"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert "SELECT trial" in printed
    assert "optuna_study.py:" in printed, "and the line of the application that it comes from"
    assert "times in one unit of work" in printed

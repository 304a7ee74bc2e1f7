"""Watch an application that knows nothing of dbpilot: Optuna, which keeps its studies in a database by SQLAlchemy.

    pip install dbpilot optuna
    python examples/optuna_study.py [sqlite:///study.sqlite3]

Prints the statements that took the most of the database's time, and where Optuna runs them.
"""

import sys
import tempfile
from pathlib import Path

import optuna

from dbpilot import Autopilot, unit_of_work
from dbpilot.history.store import MemoryStore

TRIALS = 60
SHOWN = 8


def main() -> None:
    """A small study, and what it asked of its database."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{Path(folder)}/study.sqlite3"
        storage = optuna.storages.RDBStorage(url)
        with Autopilot(storage.engine, store=MemoryStore()) as pilot:
            study = optuna.create_study(storage=storage)
            with unit_of_work("study"):
                study.optimize(lambda trial: trial.suggest_float("x", -10, 10) ** 2, n_trials=TRIALS)
            report = pilot.query_stats(hours=1, limit=SHOWN, order="total_s")
            repeated = pilot.repetitions(hours=1, limit=3).repetitions
        storage.engine.dispose()
    print(f"{'calls':>6} {'total':>9} {'p95':>9}  statement")
    for line in report.patterns:
        print(f"{line.calls:6} {line.total_s * 1e3:6.1f} ms {(line.p95_s or 0) * 1e3:6.2f} ms  {line.query[:90]}")
        for source in line.sources[:1]:
            print(f"{'':27} {source.callsite} in {source.function}")
    for found in repeated:
        print(f"{found.calls} times in one unit of work: {found.query[:70]}")


if __name__ == "__main__":
    main()

"""The contract, row by row, against the program as a user starts it."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support import Finstage, environment, run_cli, serving


@pytest.fixture(scope="session")
def finstage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finstage]:
    """A server on embedded defaults, with the sample data of its first start."""
    folder = tmp_path_factory.mktemp("finstage")
    with serving(environment(folder / "var"), folder / "log") as server:
        yield server


@pytest.fixture
def env(tmp_path: Path) -> Mapping[str, str]:
    """Surroundings with a new SQLite database that has the tables and nothing in them."""
    surroundings = environment(tmp_path / "var")
    done = run_cli("migrate", env=surroundings)
    assert done.returncode == 0, done.stderr
    return surroundings

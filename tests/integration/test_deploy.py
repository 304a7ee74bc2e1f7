"""What deploy/ ships, as far as it can be tried without Docker."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from app.common.infra.database.config.database_config import database_url
from app.settings import Settings
from dbpilot import PilotConfig
from dbpilot.dialects import dialect_of
from dbpilot.dialects.connections import own_engine
from dbpilot.web.keys import refuse_open
from tests.support import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
ACCOUNT = "finstage"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return services


def test_the_wheels_of_the_image_hold_what_is_no_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--wheel-dir", tmp_path, REPOSITORY, REPOSITORY / "app"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    held = {name for wheel in tmp_path.glob("*.whl") for name in zipfile.ZipFile(wheel).namelist()}
    code = {"dbpilot": REPOSITORY / "src" / "dbpilot", "app": REPOSITORY / "app"}
    wanted = {
        f"{package}/{path.relative_to(folder)}"
        for package, folder in code.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path != folder / "pyproject.toml"
    }
    assert wanted - held == set()


def test_what_the_services_read_is_there_or_is_made_by_the_commands_above(services: dict[str, Any]) -> None:
    head = (DEPLOY / "compose.yaml").read_text().partition("name: finstage")[0]
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume["source"] if isinstance(volume, dict) else volume.partition(":")[0]
            if source.startswith("./var/"):
                assert f"deploy/{source[2:]}" in head
            elif source.startswith("."):
                assert (DEPLOY / source).exists(), source
    wanted = set(re.findall(r"\$\{(\w+):", (DEPLOY / "compose.yaml").read_text()))
    assert wanted == set(re.search(r"for name in (.*); do", head)[1].split())  # type: ignore[index]  # it is there


def test_the_settings_of_the_service_are_settings(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    for role in ("metrics", "admin"):
        command = [Path(sys.executable).with_name("dbpilot"), "key", "new", "--role", role, "--file", keys]
        subprocess.run(command, check=True, capture_output=True)
    environment = {
        name: re.sub(r"\$\{\w+:\?[^}]*\}", "0123456789abcdef" * 4, value)
        for name, value in services["finstage"]["environment"].items()
    } | {"DBPILOT_WEB__KEYS_FILE": str(keys)}
    url = database_url(environment["DATABASE_URL"], tmp_path)
    assert (url.username, url.host, url.database) == (ACCOUNT, "mariadb", ACCOUNT)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config = PilotConfig.from_env()
    refuse_open(Settings().host, config.web, "FINSTAGE_HOST")
    assert [line.split(":")[1] for line in keys.read_text().splitlines()] == ["metrics", "admin"]


def test_the_grants_are_all_that_advice_needs(mariadb_url: sa.URL) -> None:
    script = (DEPLOY / "mariadb" / "grants.sql").read_text()
    grants = re.findall(r"^(GRANT [^;]+);", script, re.M)
    admin = sa.create_engine(mariadb_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER)")
        connection.exec_driver_sql(f"CREATE USER {ACCOUNT}@'%%' IDENTIFIED BY 'of the test'")
        connection.exec_driver_sql(f"GRANT ALL ON `{mariadb_url.database}`.* TO {ACCOUNT}@'%%'")
        for grant in grants:
            connection.execute(sa.text(grant.replace(":", r"\:")))
    engine = sa.create_engine(mariadb_url.set(username=ACCOUNT, password="of the test"), poolclass=sa.NullPool)
    try:
        dialect = dialect_of(engine)
        with own_engine(engine).connect() as connection:
            catalog = dialect.catalog(connection)
        assert [note for note in catalog.notes if "GRANT" in note.fix] == []
        with dialect.what_if(own_engine(engine), catalog) as what_if:
            assert "of the whole tables" in what_if.method
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP USER {ACCOUNT}@'%%'")
        admin.dispose()

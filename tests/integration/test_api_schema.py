"""The API is what its OpenAPI document says, against a live server; and so is what the documents for people say."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.main import create_app
from dbpilot.config import WebConfig
from dbpilot.web.keys import NewKey, Role, new_key
from tests.support import REPOSITORY, Finstage, environment, serving

OURS = "^/(api/database|metrics)"
SEED = "7"
EXAMPLES = "5"
"""Per operation; besides them there are the cases at the edges of each parameter, some twenty per operation."""
DOCS = REPOSITORY / "docs"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app().openapi()


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What dbpilot answers, by verb and path."""
    return {
        f"{verb.upper()} {path}": operation
        for path, verbs in document["paths"].items()
        for verb, operation in verbs.items()
        if re.match(OURS, path)
    }


@pytest.fixture(scope="module")
def key() -> NewKey:
    return new_key("schemathesis", Role.ADMIN)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, key: NewKey) -> Iterator[Finstage]:
    """Finstage with a key, that lets it ask as much as it likes."""
    folder = tmp_path_factory.mktemp("schema")
    settings = {"DBPILOT_WEB__KEYS": f'["{key.hash.line}"]', "DBPILOT_WEB__EXPENSIVE_PER_MINUTE": "1000000"}
    with serving(environment(folder / "var", **settings), folder / "log") as server:
        yield server


def test_schemathesis_finds_nothing_that_is_not_documented(
    server: Finstage, key: NewKey, operations: dict[str, Any], tmp_path: Path
) -> None:
    command = [str(Path(sys.executable).parent / "st"), "run", f"{server.url}/openapi.json"]
    command += ["--include-path-regex", OURS, "--header", f"Authorization: Bearer {key.secret}"]
    # One worker: schemathesis parses Python as it draws, and CPython 3.11 counts all threads' parsing in one place.
    command += ["--seed", SEED, "--max-examples", EXAMPLES, "--workers", "1", "--no-color"]
    # Whether a table, a rule or a cursor exists is in no schema: what does not is answered with 422.
    command += ["--exclude-checks", "positive_data_acceptance"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=600, check=False)
    assert done.returncode == 0, done.stdout
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested, done.stdout
    assert int(tested[1]) == len(operations)


def test_every_answer_has_a_type(operations: dict[str, dict[str, Any]]) -> None:
    untyped = [
        f"{name} {status}"
        for name, operation in operations.items()
        for status, response in operation["responses"].items()
        if status.startswith("2") and name != "GET /metrics"
        if response.get("content", {}).get("application/json", {}).get("schema", {}) == {}
    ]
    assert not untyped


def test_every_error_is_documented_as_a_problem(operations: dict[str, dict[str, Any]]) -> None:
    for name, operation in operations.items():
        errors = {status: found for status, found in operation["responses"].items() if status >= "400"}
        assert {"401", "403", "422", "429"} <= errors.keys(), name
        for status, response in errors.items():
            assert list(response["content"]) == ["application/problem+json"], f"{name} {status}"


def test_what_is_read_can_be_unchanged_and_what_is_long_has_pages(operations: dict[str, dict[str, Any]]) -> None:
    reads = {name: operation for name, operation in operations.items() if name.startswith("GET")}
    assert all("304" in operation["responses"] for operation in reads.values())
    paged = {
        name.rpartition("/api/database/")[2]
        for name, operation in reads.items()
        if any(parameter["name"] == "cursor" for parameter in operation.get("parameters", ()))
    }
    assert paged == {
        "query-stats",
        "slow-queries",
        "slow-queries/patterns",
        "requests",
        "n-plus-one",
        "alerts",
        "activity",
    }


def test_every_route_is_in_the_document_for_people_and_no_other(operations: dict[str, dict[str, Any]]) -> None:
    text = (DOCS / "api.md").read_text()
    named = {f"{verb} {path}" for verb, path in re.findall(r"^\| `(GET|POST|DELETE) (/[^` ?]*)[^`]*` \|", text, re.M)}
    assert named == {name.replace("/api/database", "") for name in operations}


def test_every_setting_of_the_web_is_explained() -> None:
    text = (DOCS / "security.md").read_text()
    named = set(re.findall(r"^\| `DBPILOT_WEB__([A-Z_]+)` \|", text, re.M))
    assert named == {name.upper() for name in WebConfig.model_fields}

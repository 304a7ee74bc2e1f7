"""What the pages say is so: links lead somewhere, examples run; names, defaults and figures are those of the code."""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin
from urllib.parse import parse_qsl, urlsplit

import click
import pytest
import sqlalchemy as sa
import typer
from fastapi.testclient import TestClient
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from app.cli import finstage
from app.main import create_app
from app.settings import Settings
from benchmarks.report import PAGES, RESULTS, Figure, with_figures
from dbpilot import PilotConfig, alerts
from dbpilot.cli.program import program
from dbpilot.config import AlertsConfig, QueriesConfig
from dbpilot.health import NEARLY_FULL
from dbpilot.history import schema
from dbpilot.history.sql_store import VERSION_TABLE
from dbpilot.indexes import advisor, score, verify
from dbpilot.indexes.ledger import ledger
from dbpilot.pool import adaptive, outlook
from dbpilot.queries import advice, receipts
from dbpilot.retention import gentle, policy
from dbpilot.retention.live import MADE_BY_US
from tests.support import REPOSITORY

DOCS = REPOSITORY / "docs"
READMES = [REPOSITORY / "README.md", REPOSITORY / "README.ko.md"]
WRITTEN = [*sorted(DOCS.glob("*.md")), *READMES, REPOSITORY / "CONTRIBUTING.md"]
SECRET = SecretStr("drawn at each start, and here the same for all: 0123456789abcdef")
each_page = pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)


def section(page: str, title: str) -> str:
    """What stands under a heading of this page, as far as the next one."""
    text = (DOCS / page).read_text()
    [found] = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^##+ |\Z)", text, re.MULTILINE | re.DOTALL)
    return str(found)


def fenced(text: str, language: str) -> list[str]:
    """The blocks of this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """The page without its blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


# -- figures and links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.parametrize("result", sorted(RESULTS.glob("*.json")), ids=lambda result: result.stem)
def test_the_figures_shown_are_the_figures_kept(page: Path, result: Path) -> None:
    kept = json.loads(result.read_text())
    figures = [Figure(**figure) for figure in kept["figures"]]
    assert with_figures(page.read_text(), kept["part"], figures) == page.read_text()


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_every_page_is_in_the_index_and_the_index_in_the_readmes() -> None:
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / "index.md").read_text()))
    assert listed == {page.name for page in DOCS.glob("*.md")} - {"index.md"}
    assert all("(docs/index.md)" in readme.read_text() for readme in READMES)


# -- settings

SETTINGS = {
    f"DBPILOT_{name}__{setting}".upper(): field
    for name, part in PilotConfig.model_fields.items()
    for setting, field in getattr(part.annotation, "model_fields", {}).items()
}
BOUNDS = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
KINDS = {bool: "`true` or `false`", int: "whole number", float: "number", str: "text", SecretStr: "text", Path: "path"}
UNITS = {"_S": "seconds", "_HOURS": "hours", "_DAYS": "days", "_MB": "MiB"}


def kind_of(field: FieldInfo) -> str:
    """What may be written, in words."""
    bounds = [
        f"{BOUNDS[name]} {getattr(one, name):g}" for one in field.metadata for name in BOUNDS if hasattr(one, name)
    ]
    return ", ".join([named(field.annotation), *bounds])


def named(annotation: Any) -> str:
    """The kind of one type."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join(named(one) for one in inside if one is not type(None))
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in inside)
    if hasattr(annotation, "__metadata__"):
        return named(inside[0])
    return {tuple: "list", dict: "table"}.get(origin) or KINDS[annotation]


def default_of(field: FieldInfo) -> str:
    """As the environment would say it."""
    value = field.get_default()
    if field.default_factory is not None:
        return "drawn at each start"
    if isinstance(value, SecretStr):
        return f"`{value.get_secret_value()}`"
    return f"`{value}`" if isinstance(value, str | Path) else f"`{json.dumps(value)}`"


def unit_of(setting: str) -> str:
    return next((unit for ending, unit in UNITS.items() if setting.endswith(ending)), "")


def rows(page: str, beginning: str) -> dict[str, list[str]]:
    """The rows of tables whose first cell is a name that begins so: the other cells by name."""
    lines = re.findall(rf"^\| `({beginning}\w+)` \| (.*) \|$", (DOCS / page).read_text(), re.MULTILINE)
    return {name: re.split(r" ?\| ?", cells) for name, cells in lines}


def test_the_page_on_settings_has_every_setting_as_it_is() -> None:
    said = {name: tuple(cells[:3]) for name, cells in rows("settings.md", "DBPILOT_").items()}
    assert said == {name: (kind_of(field), default_of(field), unit_of(name)) for name, field in SETTINGS.items()}
    assert all(cells[3] for cells in rows("settings.md", "DBPILOT_").values())


def test_every_default_can_be_written_as_the_page_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (_, default, *_) in rows("settings.md", "DBPILOT_").items():
        monkeypatch.setenv(name, SECRET.get_secret_value() if default.startswith("drawn") else default.strip("`"))
    expected = PilotConfig.model_validate({"web": {"secret": SECRET}})
    assert PilotConfig.from_env() == expected


def test_the_page_on_settings_has_finstages_as_they_are() -> None:
    said = {name: tuple(cells[:2]) for name, cells in rows("settings.md", "FINSTAGE_").items()}
    fields = {f"FINSTAGE_{name.upper()}": field for name, field in Settings.model_fields.items()}
    assert said == {name: (kind_of(field), default_of(field)) for name, field in fields.items()}


@each_page
def test_no_page_names_a_setting_that_does_not_exist(page: Path) -> None:
    whole = {f"DBPILOT_{name.upper()}" for name in PilotConfig.model_fields}
    for name in re.findall(r"\bDBPILOT_[A-Z0-9_]*[A-Z0-9]\b(?!_)", page.read_text()):
        assert name in SETTINGS.keys() | whole, name
    for part, name in re.findall(
        r"`(queries|pool|retention|indexes|history|alerts|web)\.([a-z0-9_]+)[`=]", page.read_text()
    ):
        assert f"DBPILOT_{part}__{name}".upper() in SETTINGS or name in ("py", "md"), f"{part}.{name}"


# -- the command line


@cache
def commands() -> dict[str, click.Command]:
    """Every command of both programs, groups left out, by how it is written."""
    both = {"dbpilot": program, "finstage": finstage}
    return {name: one for root, app in both.items() for name, one in leaves(root, typer.main.get_command(app))}


def leaves(name: str, command: Any) -> Iterator[tuple[str, click.Command]]:
    if not hasattr(command, "list_commands"):
        yield name, command
        return
    context = click.Context(command)
    for child in command.list_commands(context):
        yield from leaves(f"{name} {child}", command.get_command(context, child))


def spelled(command: click.Command) -> set[str]:
    """Its arguments in capitals, and its options."""
    return {
        name.upper() if one.param_type_name == "argument" else name
        for one in command.params
        for name in (*one.opts, *one.secondary_opts)
    }


def borrowed() -> dict[str, str]:
    """Finstage's commands that are dbpilot's, for its own database, with their names there."""
    names = {f"finstage {name.removeprefix('dbpilot ')}": name for name in commands() if name.startswith("dbpilot ")}
    return {name: theirs for name, theirs in names.items() if name in commands() and name != "finstage serve"}


def test_what_finstage_has_of_dbpilot_takes_nothing_else() -> None:
    below = section("cli.md", "Every command").rpartition("|\n")[2]
    assert set(re.findall(r"`finstage (\w+)`", below)) == {name.split()[1] for name in borrowed()}
    assert all(spelled(commands()[name]) <= spelled(commands()[theirs]) for name, theirs in borrowed().items())


def test_the_page_on_the_command_line_has_every_command_with_its_options() -> None:
    page = (DOCS / "cli.md").read_text()
    found = re.findall(r"^\| `((?:dbpilot|finstage) [a-z ]+)` \| (.*?) \|", page, re.MULTILINE)
    listed = {name: cell for name, cell in found if name in commands()}
    own = {name: one for name, one in commands().items() if name not in borrowed()}
    assert {name: set(re.findall(r"`([^`]+)`", cell)) for name, cell in listed.items()} == {
        name: spelled(one) for name, one in own.items()
    }
    assert {
        name: dict(re.findall(r"`([^`]+)` \(([^)]+)\)", cell.replace(",", ""))) for name, cell in listed.items()
    } == {name: defaults(one) for name, one in own.items()}


def defaults(command: click.Command) -> dict[str, str]:
    """What options are where they are not given, other than nothing and no."""
    known = {one.opts[0]: one.default for one in command.params if not isinstance(one.default, bool | list | tuple)}
    return {
        name: f"{value:g}" if isinstance(value, float) else str(getattr(value, "value", value))
        for name, value in known.items()
        if value is not None and not callable(value)
    }


def said(page: Path) -> Iterator[list[str]]:
    """The commands that a page shows, in blocks and in its sentences, as words."""
    lines = [
        line for block in fenced(page.read_text(), "console") for line in re.findall(r"^\$ (.*)$", block, re.MULTILINE)
    ]
    for part in (part for line in lines for part in re.split(r" (?:\||\|\||&&|>) ", line.partition("  #")[0])):
        words = shlex.split(part)
        while words and re.match(r"[A-Z_]+=", words[0]):
            del words[0]
        if words and words[0] in ("dbpilot", "finstage"):
            yield words
    sentences = re.sub(r"^#.*$", "", prose(page), flags=re.MULTILINE)
    for inline in re.findall(r"(?<!`)`((?:dbpilot|finstage) [^`]+)`", sentences):
        yield shlex.split(inline)


@each_page
def test_every_command_that_a_page_shows_can_be_given(page: Path) -> None:
    nouns = {"dbpilot", "finstage", *(" ".join(name.split()[:2]) for name in commands())}
    for words in said(page):
        names = [word for word in words if not word.startswith("--")]
        whole = next((name for n in (3, 2) if (name := " ".join(names[:n])) in commands()), None)
        known = spelled(commands()[whole]) if whole else {"--install-completion", "--version", "--help"}
        assert whole or " ".join(names[:2]) in nouns, words
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, words


# -- the API


@pytest.fixture(scope="module")
def operations() -> dict[str, dict[str, Any]]:
    """What Finstage answers, by verb and path."""
    paths = create_app().openapi()["paths"].items()
    return {f"{verb.upper()} {path}": one for path, verbs in paths for verb, one in verbs.items()}


def test_the_page_on_the_api_has_every_parameter(operations: dict[str, dict[str, Any]]) -> None:
    lines = re.findall(
        r"^\| `(GET|POST|DELETE) (/[^` ]*)` \| (.*?) \| \w+ \|$", (DOCS / "api.md").read_text(), re.MULTILINE
    )
    listed = {f"{verb} {path}": set(re.findall(r"`\??(\w+)(?:=\w+)?`", cell)) for verb, path, cell in lines}
    taken = {
        name.replace("/api/database", ""): {
            one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"
        }
        for name, operation in operations.items()
    }
    assert listed == {name: taken[name] for name in listed}


@each_page
def test_every_address_that_a_page_asks_is_answered(page: Path, operations: dict[str, dict[str, Any]]) -> None:
    for line in re.findall(r"^.*\bcurl .*$", page.read_text(), re.MULTILINE):
        verb = "POST" if "-X POST" in line else "GET"
        for url in re.findall(r"https?://localhost:8081(/[^\s\"']*)", line):
            parts = urlsplit(url)
            matching = [
                one
                for name, one in operations.items()
                if re.fullmatch(re.sub(r"\{\w+\}", r"[^/]+", name), f"{verb} {parts.path}")
            ]
            assert matching, line
            known = {one["name"] for one in matching[0].get("parameters", ())}
            assert {name for name, _ in parse_qsl(parts.query)} <= known, line


# -- examples


@each_page
def test_what_examples_import_is_there(page: Path) -> None:
    for block in fenced(page.read_text(), "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in ("dbpilot", "app"):
                module = import_module(str(node.module))
                assert all(hasattr(module, one.name) for one in node.names), ast.unparse(node)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is empty but for a shop's database, and programs are run in it."""
    monkeypatch.chdir(tmp_path)
    engine = sa.create_engine("sqlite:///shop.sqlite3")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT)"))
        connection.execute(sa.text("INSERT INTO orders (customer) VALUES ('Kim'), ('Lee'), ('Kim')"))
    engine.dispose()


def run(title: str) -> dict[str, Any]:
    """The first example under this heading was run; what it defined."""
    return defined_by(fenced(section("install.md", title), "python")[0])


def defined_by(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, "example.py", "exec"), names)
    return names


def asked(names: dict[str, Any]) -> TestClient:
    """The example's application, asked from the machine on which it runs."""
    return TestClient(names["app"], client=("127.0.0.1", 5000), base_url="http://localhost")


def routes_seen(names: dict[str, Any]) -> set[str | None]:
    """The routes and jobs that the example's pilot saw statements of."""
    return {one.route for one in names["pilot"].receipts(hours=1, limit=10).receipts}


@pytest.mark.parametrize("title", ["FastAPI", "asyncio"])
def test_the_example_for_fastapi_runs(shop: None, title: str) -> None:
    names = run(title)
    with asked(names) as client:
        answer = client.get("/orders/Kim")
        assert answer.json() == [1, 3]
        receipt = client.get(f"/api/database/requests/{answer.headers['x-request-id']}").json()
        assert (receipt["route"], receipt["calls"]) == ("GET /orders/{customer}", 1)
        assert client.get("/dashboard/").status_code == 200
        assert "shop_db_operations_total" in client.get("/metrics").text
    assert not names["pilot"].is_running


@pytest.mark.parametrize("readme", READMES, ids=lambda readme: readme.name)
def test_the_example_of_a_readme_runs(shop: None, readme: Path) -> None:
    names = defined_by(fenced(readme.read_text(), "python")[0])
    with asked(names) as client:
        for path in ("/api/database/query-stats", "/metrics", "/dashboard/"):
            assert client.get(path).status_code == 200
    names["engine"].dispose()


def test_the_example_for_flask_runs(shop: None) -> None:
    names = run("Flask")
    try:
        with names["app"].test_client() as client:
            assert client.get("/orders/Kim").json == [1, 3]
            assert client.get("/nowhere").status_code == 404
        assert routes_seen(names) == {"GET /orders/<customer>"}
    finally:
        names["pilot"].stop()
        names["engine"].dispose()


def test_the_example_for_any_program_runs(shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    names = run("Any program")
    assert "1 x SELECT id FROM orders WHERE customer = ?" in capsys.readouterr().out
    assert routes_seen(names) == {"nightly report"}
    names["engine"].dispose()


def test_the_example_of_several_engines_runs(shop: None) -> None:
    names = run("Several engines")
    with asked(names) as client:
        for name in ("shop", "stock"):
            assert client.get(f"/api/{name}/query-stats").status_code == 200
    for name in ("shop", "stock"):
        names[name].dispose()


def test_the_dashboard_of_its_own_shows_what_others_counted(shop: None) -> None:
    run("Any program")["engine"].dispose()
    names = run("A dashboard of its own")
    with asked(names) as client:
        found = client.get("/api/database/query-stats").json()["patterns"]
    assert "SELECT id FROM orders WHERE customer = ?" in [one["query"] for one in found]
    names["engine"].dispose()


# -- troubleshooting and decisions


@cache
def messages() -> list[str]:
    """Every text in the code; where a value is put in, an ellipsis."""
    files = [*(REPOSITORY / "src/dbpilot").rglob("*.py"), *(REPOSITORY / "app").rglob("*.py")]
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text())))
    return [text for node in nodes if (text := worded(node)) is not None]


def worded(node: ast.AST) -> str | None:
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def test_every_message_that_is_explained_is_one_that_is_said() -> None:
    explained = re.findall(r"^### `(.+)`$", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(explained) > 20
    for message in explained:
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in message.split("...")), re.DOTALL)
        assert any(pattern.search(text) for text in messages()), message


def test_whoever_removes_dbpilot_is_told_of_every_table() -> None:
    told = set(re.findall(r"^DROP TABLE IF EXISTS (\w+);$", (DOCS / "operations.md").read_text(), re.MULTILINE))
    assert told == {*schema.metadata.tables, *VERSION_TABLE.values(), ledger.name, *MADE_BY_US}


QUERIES, ALERTS = QueriesConfig(), AlertsConfig()
DECIDED = (
    f"from `queries.slow_s` ({QUERIES.slow_s:g} s)",
    f"`queries.warning_s` ({QUERIES.warning_s:g} s)",
    f"`queries.critical_s` ({QUERIES.critical_s:g} s)",
    f"fewer than {receipts.ROWS_OF_A_BATCH} rows each",
    f"`queries.n_plus_one` ({QUERIES.n_plus_one})",
    f"{advice.ERROR_SHARE:.0%} of the calls fail",
    f"{advice.MANY_ROWS:,} rows per call",
    f"`alerts.regression_factor` ({ALERTS.regression_factor:g})",
    f"{ALERTS.regression_min_s * 1000:g} ms",
    f"`alerts.error_rate` ({ALERTS.error_rate:.0%})",
    f"`alerts.min_calls` ({ALERTS.min_calls})",
    f"below {alerts.CALM:.0%} of the threshold",
    f"within {outlook.SOON_S / 60:g} minutes",
    f"1 - {score.NEEDLESS_WEIGHT:g} x needless",
    f"1 - {score.UNSERVED_WEIGHT:g} x unserved",
    f"{advisor.PAYS:g} times what its upkeep costs",
    f"{advisor.PRICE_OF_A_WRITE:.0%} longer",
    f"more than {advisor.MAX_SHARE:.0%} of the workload",
    f"{verify.Rule().sigmas:g} standard errors",
    f"{verify.Rule().worth:.0%} of their time where that is less",
    f"{adaptive.SLOW:g} for {adaptive.SATURATED} seconds",
    f"{adaptive.HEADROOM:g} x in use / slowdown",
    f"below {adaptive.WELL:g}",
    f"{adaptive.SHRINK_AFTER.total_seconds():g} seconds",
    f"min({gentle.MOST_GROWTH:g}, {gentle.AIM:g} x batch_s / time taken)",
    f"between {policy.MIN_BATCH} and {policy.MAX_BATCH:,} rows",
    f"{NEARLY_FULL:.0%} of its connections",
)
"""What the page on decisions says, with the figures of the code."""


def test_monitoring_tells_the_rows_from_which_on_a_select_reads_in_batches() -> None:
    assert f"fewer than {receipts.ROWS_OF_A_BATCH} rows each" in (DOCS / "monitoring.md").read_text()


@pytest.mark.parametrize("sentence", DECIDED)
def test_decisions_are_told_with_the_figures_of_the_code(sentence: str) -> None:
    assert sentence in (DOCS / "decisions.md").read_text()

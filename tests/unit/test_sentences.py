"""The dashboard's Korean: each sentence of the library is in the catalogue, is found there, and reads well."""

import ast
import itertools
import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

import pytest

from dbpilot.web.pages.sentences import HOLE, TAIL, Sentences
from dbpilot.web.pages.site import make_templates
from dbpilot.web.pages.words import all_words

LIBRARY: Final = Path(str(files("dbpilot")))
HERE: Final = "\0"
"""Stands for what is put into a sentence."""

FACES: Final = ("cli", "export", "testing", "pytest_plugin.py")
"""The command line, the metrics and the tests' plugin stay English, and no page shows what they say."""
NOT_SHOWN: Final = {
    "__init__.py": "raised while a program is loaded",
    "config.py": "raised before there is a pilot",
    "dialects/catalog.py": "names of kinds, which pages have words for",
    "dialects/mysql/innodb.py": "names of columns",
    "dialects/postgresql/explain.py": "keys of PostgreSQL's plans",
    "dialects/sqlite/cost.py": "steps of SQLite's plans",
    "dialects/sqlite/explain.py": "steps of SQLite's plans",
    "indexes/slow_log.py": "read by the command line alone",
    "indexes/sql_file.py": "read by the command line alone",
    "indexes/workload_file.py": "read by the command line alone",
    "queries/callsite.py": "names of packages",
    "retention/cron.py": "raised where a schedule is made, before there is a page",
    "retention/digest.py": "raised where a rule is checked, before there is a page",
    "retention/policy.py": "raised where a rule is made, before there is a page",
    "sql/fingerprint.py": "words of SQL",
    "sql/literals.py": "raised and caught where a plan is asked for",
    "sql/syntax.py": "words of SQL",
    "web/keys.py": "raised where keys are read, before there is a page",
    "web/paging.py": "raised for the API's cursors alone",
    "web/standalone.py": "raised before there is a page",
}
_SETTING: Final = "a setting"
_TYPES: Final = "names of types"
_SQLALCHEMY: Final = "SQLAlchemy's own words, or what a repr says"
_SERVER: Final = "the server's own words"
EXCEPTIONS: Final = {
    "max_statement_time = 30": _SETTING,
    "max_execution_time = 30000": _SETTING,
    "lock_wait_timeout =": _SETTING,
    "innodb_lock_wait_timeout =": _SETTING,
    "unique_checks = 0": _SETTING,
    "foreign_key_checks = 0": _SETTING,
    "optimizer_trace = 'enabled=on'": _SETTING,
    "optimizer_trace_max_mem_size =": _SETTING,
    "check_constraint_checks = 0": _SETTING,
    "optimizer_switch = 'subquery_cache=on'": _SETTING,
    "max_statement_time = :s": _SETTING,
    "max_execution_time = :ms": _SETTING,
    "wsrep_on = 0": _SETTING,
    "sql_log_bin = 0": _SETTING,
    "11.4 or 11.8": "versions",
    "17 or 18": "versions",
    "tinytext text mediumtext longtext tinyblob blob mediumblob longblob": _TYPES,
    "tinyint smallint mediumint int bigint": _TYPES,
    "bigint GENERATED ALWAYS AS IDENTITY": _TYPES,
    "bigint AUTO_INCREMENT": _TYPES,
    "character varying": _TYPES,
    "char(?:acter)?\\b(?! varying)|bpchar": _TYPES,
    "n?varchar|character varying": _TYPES,
    "Waiting for table metadata lock": _SERVER,
    "Unknown schema content: .* IGNORED": _SQLALCHEMY,
    "<insufficient privilege>": _SERVER,
    "client backend": _SERVER,
    "at work": "the state of a build, compared and never shown",
    f"apt-get install postgresql-{HERE}-hypopg, then in this database": "commands to paste",
    "pip install 'dbpilot[parquet]'": "a command to paste",
    "see hides": "never raised where hides() was asked",
    "unknown table": "a status, which only the API tells",
    "unknown column": "a status, which only the API tells",
    "whole table": "what the operation of a plan is searched for",
    "default charset": "a key of SQLAlchemy's reflection",
    "leading wildcard": "one of the words of ``trouble``",
    "row values": "one of the words of ``trouble``",
    "pool.resize": "code to paste",
    f"AppriseNotifier({HERE} channels": _SQLALCHEMY,
    f"Detail(frame={HERE}, error=": _SQLALCHEMY,
    f"Pool size: {HERE}  Connections in pool: {HERE} Current Overflow: {HERE} Current Checked out connections": (
        _SQLALCHEMY
    ),
    f"QueuePool limit of size {HERE} overflow {HERE} reached, connection timed out, timeout": _SQLALCHEMY,
    "schedule: grace_s and lease_s are more than 0, jitter_s is not less than 0": "raised before there is a page",
    f"schedule: its name must have 1 to {HERE} characters": "raised before there is a page",
    "no receipt is kept under this id": "raised by the API alone",
    "no pattern is known under this id; it may have been forgotten": "raised by the API alone",
}
"""Strings that look like sentences of a page, and what they are."""

SQL: Final = re.compile(r"\W*(?:[A-Z]{2,}|wanted AS|sizes AS)\b")
PROSE: Final = re.compile(r" (?:a|also|and|gives|in|is|it|on|or|than|that|the|them|this|to|TO that user|from) ")
"""What begins with capitals is SQL, whose other words are in capitals, too; unless these are among them."""
SMALL: Final = re.compile(r"[a-z]{2}")
UNREAD: Final = frozenset({"debug", "info", "warning", "error", "exception", "compile", "cast", "text"})
"""Methods and functions whose strings nobody reads on a page: logs, regular expressions, types, SQL."""


def core(template: str) -> str:
    """What two templates have in common that are one: without names of holes, and without what is at their ends, for
    sentences are put together of pieces."""
    bare = re.sub(r"\{(?:\w+\*?|[:.\w]*)\}", HERE, template)
    return re.sub(rf"^[{HERE}\s.,;:()]+|[{HERE}\s.,;:()]+$", "", bare)


@cache
def in_source() -> dict[str, str]:
    """The cores of all strings of the library, and where each of them is."""
    return {core(text): where for where, text, _ in _strings()}


@cache
def sentences_in_source() -> dict[str, str]:
    """The cores of all strings that are sentences, and where each of them is."""
    found = {}
    for where, text, is_raised in _strings():
        module = where.partition(":")[0]
        is_seen = is_raised or not module.startswith("web/")  # what a page says by itself is in ko.json
        if is_seen and module not in NOT_SHOWN and _is_sentence(text):
            found[core(text)] = where
    return found


def _is_sentence(text: str) -> bool:
    bare = text.replace(HERE, "")
    if " " not in bare.strip() or not SMALL.search(bare):
        return False
    return not SQL.match(text) or bool(PROSE.search(bare))


@cache
def _strings() -> tuple[tuple[str, str, bool], ...]:
    """Each string: where it is, what it says, and whether it is raised."""
    return tuple(_read())


def _read() -> Iterator[tuple[str, str, bool]]:
    for path in sorted(LIBRARY.rglob("*.py")):
        name = path.relative_to(LIBRARY).as_posix()
        if name.split("/")[0] not in FACES:
            for line, text, is_raised in _strings_of(ast.parse(path.read_text())):
                yield f"{name}:{line}", text, is_raised


def _strings_of(tree: ast.Module) -> Iterator[tuple[int, str, bool]]:
    unread = {id(inner) for node in ast.walk(tree) for outer in _unread(node) for inner in ast.walk(outer)}
    raised = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.Raise) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
        if is_text and id(node) not in unread:
            for text in _texts(node):
                yield node.lineno, text, id(node) in raised


def _unread(node: ast.AST) -> Iterator[ast.AST]:
    """Those below it whose strings are not read one by one: docstrings, annotations, logs, pieces of others."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield from (one for one in node.values if isinstance(one, ast.Constant))
        yield from (one.format_spec for one in node.values if isinstance(one, ast.FormattedValue) and one.format_spec)
        yield from (choice for one in node.values for choice in _choices(one))
    elif isinstance(node, ast.Call) and _name(node.func) in UNREAD:
        yield from node.args
    for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
        if isinstance(annotation, ast.AST):
            yield annotation


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _choices(node: ast.expr) -> tuple[ast.expr, ...]:
    """Both sides of ``{'row' if n == 1 else 'rows'}``."""
    choice = node.value if isinstance(node, ast.FormattedValue) else None
    if not isinstance(choice, ast.IfExp):
        return ()
    sides = (choice.body, choice.orelse)
    return sides if all(isinstance(side, ast.Constant | ast.JoinedStr) for side in sides) else ()


def _texts(node: ast.AST) -> list[str]:
    """What a string may say, with a sign for what is put into it."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(pieces) for pieces in itertools.product(*map(_texts, node.values))]
    choices = _choices(node) if isinstance(node, ast.expr) else ()
    return [text for choice in choices for text in _texts(choice)] or [HERE]


@cache
def korean() -> dict[str, str]:
    """The sentences of the catalogue."""
    return _catalogue()[0]


@cache
def words() -> dict[str, dict[str, str]]:
    """What stands in some of their holes."""
    return _catalogue()[1]


def _catalogue() -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    found = json.loads((LIBRARY / "web/locale/sentences.ko.json").read_text("utf-8"))
    return found["sentences"], found["words"]


@pytest.fixture(scope="module")
def sentences() -> Sentences:
    """The catalogue as pages ask it."""
    return Sentences.read("ko")


def test_every_sentence_of_the_library_has_its_korean() -> None:
    known = {core(english) for english in korean()} | set(EXCEPTIONS)
    missing = [f"{where}: {one}" for one, where in sentences_in_source().items() if one not in known]
    assert missing == [], "write them into web/locale/sentences.ko.json"


def test_the_catalogue_and_the_exceptions_hold_nothing_that_nobody_says() -> None:
    said = in_source()
    assert [english for english in korean() if core(english) not in said] == []
    assert [exception for exception in EXCEPTIONS if exception not in sentences_in_source()] == []
    assert [module for module in NOT_SHOWN if not (LIBRARY / module).exists()] == []


def test_the_words_of_the_catalogue_are_words_of_the_library() -> None:
    made = {"ends", "weekday", "weekdays"}  # by the calendar
    found = [word for hole, meanings in words().items() if hole not in made for word in meanings]
    assert [word for word in found if core(word) not in in_source()] == []
    holes = {name for english in korean() for name, _ in _holes(english)}
    assert set(words()) <= holes


def test_no_sentence_is_both_said_and_excepted() -> None:
    assert {core(english) for english in korean()} & set(EXCEPTIONS) == set()


def test_both_languages_have_the_same_holes() -> None:
    for english, said in korean().items():
        holes = [name for name, _ in HOLE.findall(english)]
        assert len(holes) == len(set(holes)), english
        assert {name for name, _ in HOLE.findall(said)} == set(holes), english
        assert "*" not in "".join(star for _, star in HOLE.findall(said)), said


def test_both_languages_end_alike() -> None:
    wrong = [english for english, said in korean().items() if english.endswith(".") != said.endswith(".")]
    assert wrong == []


DEPENDENT: Final = r" (?:가|은|는|을|를|과|와|으로|로)(?![가-힣])"
AFTER_A_HOLE: Final = re.compile(rf"\}}[)'\"`\]]*(?P<after>[가-힣]+|{DEPENDENT})")
SAFE: Final = (
    # counted things and units, whose own sound decides what follows; particles and endings that are the same after
    # every sound
    *("개", "번", "회", "건", "행", "배", "점", "일", "월", "년", "초", "글자", "명", "시간", "권한"),
    *("에", "의", "도", "만", "보다", "부터", "까지", "마다", "처럼", "뿐", "만큼", "입니다", "외"),
)


def test_particles_after_a_hole_are_right_whatever_it_holds() -> None:
    """Those that depend on the sound before them (이/가, 은/는, 을/를, 과/와, 으로/로) never follow a hole."""
    pages = all_words()["ko"].sentences.values()
    everything = [*pages, *korean().values(), *(said for one in words().values() for said in one.values())]
    wrong = [said for said in everything for found in AFTER_A_HOLE.finditer(said) if not found[1].startswith(SAFE)]
    assert wrong == []


def test_a_sentence_is_found_whatever_its_holes_hold(sentences: Sentences) -> None:
    """Each template is filled with names and numbers, and read back: no other one is mistaken for it."""
    wrong = []
    for english, said in korean().items():
        holes = {name: ("", "") if star else _held(name, number) for number, (name, star) in enumerate(_holes(english))}
        filled = _filled(english, {name: value for name, (value, _) in holes.items()})
        expected = _filled(said, {name: meaning for name, (_, meaning) in holes.items()})
        if not TAIL.match(english) and sentences.of(filled) != expected:
            wrong.append((filled, sentences.of(filled), expected))
    assert wrong == []


def _holes(template: str) -> list[tuple[str, str]]:
    return HOLE.findall(template)


def _filled(template: str, values: dict[str, str]) -> str:
    return HOLE.sub(lambda hole: values[hole[1]], template)


def _held(name: str, number: int) -> tuple[str, str]:
    """Something that may stand in a hole, and what it means."""
    if name not in words():
        value = str(number + 2) if re.fullmatch(r"n\d*", name) else f"x{number}"
        return value, value
    english, said = next(iter(words()[name].items()))
    values = {inner: "7" for inner, _ in _holes(english)}
    return _filled(english, values), _filled(said, values)


@pytest.mark.parametrize(
    ("english", "said"),
    [
        (
            "Nothing has read ix_a since 2026-10-01, for 30 days.",
            "ix_a 인덱스를 읽은 쿼리가 2026-10-01부터 30일 동안 없습니다.",
        ),
        (
            "It reads the whole table orders (about 200,000 rows expected) to find customer_id = ?: an index on those "
            "columns would spare that.",
            "테이블 orders 전체를 읽습니다(예상 200,000행). 조건: customer_id = ?. "
            "해당 컬럼에 인덱스를 만들면 피할 수 있습니다.",
        ),
        (
            "It would make one statement 2,231 times cheaper, and saves 100.0% of what the whole workload costs.",
            "쿼리 하나의 비용이 2,231배 낮아지고, 전체 워크로드 비용이 100.0% 절감됩니다.",
        ),
        (
            "It would serve 2 statements, one of them 8,895 times cheaper, and saves less than 0.1% of what the whole "
            "workload costs, or 35.9% without ix_b, which is advised as well and could do nearly the same.",
            "쿼리 2개에 도움이 되며 그중 하나의 비용은 8,895배 낮아지고, 전체 워크로드 비용이 0.1% 미만 절감됩니다"
            "(함께 권장된 ix_b 인덱스로도 거의 같은 효과를 얻을 수 있으며, 그 인덱스가 없으면 35.9% 절감됩니다).",
        ),
        (
            "No index begins with (a, b): ix was never finished.",
            "(a, b) 컬럼으로 시작하는 인덱스가 없습니다: ix 인덱스는 생성이 끝나지 않았습니다.",
        ),
        (
            "Monday to Friday 12 connections are in use at 09:00, and today is as busy as usual",
            "월~금요일 09:00에는 커넥션 12개가 사용되며, 오늘은 평소만큼 바쁩니다",
        ),
        ("grow: 5 -> 8 connections, at most 18", "확대: 5 -> 커넥션 8개, 최대 18개"),
        ("MariaDB 10.5 has had no support since 24 June 2025", "MariaDB 10.5: 2025년 6월 24일에 지원이 끝났습니다"),
        (
            "the database: InsufficientPrivilege 42501, its user has not the right to do that; the batch in hand was "
            "undone, run the rule again, and it goes on from here",
            "데이터베이스: InsufficientPrivilege 42501, 이 데이터베이스 계정에는 그 권한이 없습니다. "
            "처리 중이던 묶음은 취소되었습니다. 규칙을 다시 실행하면 여기서부터 이어집니다",
        ),
        (
            "the database: OperationalError 1205; the batch in hand was undone, run the rule again, and it goes on "
            "from here",
            "데이터베이스: OperationalError 1205. 처리 중이던 묶음은 취소되었습니다. "
            "규칙을 다시 실행하면 여기서부터 이어집니다",
        ),
    ],
)
def test_sentences_are_put_together_as_the_library_puts_them_together(
    sentences: Sentences, english: str, said: str
) -> None:
    assert sentences.of(english) == said


def test_what_is_not_known_stays_english_and_is_marked(sentences: Sentences) -> None:
    found = sentences.parts("relation x does not exist; there is nothing to do here. There is nothing to do.")
    assert [(part.text, part.is_said) for part in found] == [
        ("relation x does not exist; there is nothing to do here. ", False),
        ("할 일이 없습니다.", True),
    ]
    assert sentences.of("Somebody said so.") is None
    assert sentences.of("There is nothing to do. " * 100) is None, "and nothing is looked for in what is very long"


def test_pages_in_english_show_the_library_as_it_is() -> None:
    everybody = all_words()
    assert everybody["en"].said("There is nothing to do.") == "There is nothing to do."
    assert everybody["ko"].said("There is nothing to do.") == "할 일이 없습니다."


def test_a_value_is_escaped_and_english_is_marked_in_a_page() -> None:
    environment = make_templates()
    page = environment.from_string("<p>{{ one|sentence }}</p><p title='{{ one|said }}'></p>")
    context = {"t": all_words()["ko"]}
    assert (
        page.render(context, one="there is no index <b>")
        == "<p>&lt;b&gt; 인덱스가 없습니다</p><p title='&lt;b&gt; 인덱스가 없습니다'></p>"
    )
    assert page.render(context, one="a <b> c").startswith('<p><span lang="en">a &lt;b&gt; c</span></p>')

"""Rules of retention as a command is told them: a name in a module, or a TOML file."""

import sys
import tomllib
import traceback
from calendar import monthrange
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from difflib import get_close_matches
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dbpilot.errors import ConfigError, PilotError
from dbpilot.retention import Rule

EXPECTED: Final = "name the rules as --rules MODULE:NAME or --rules FILE.toml"
TABLES: Final = "rule"


class _Written(BaseModel):
    """A ``[[rule]]`` table; what it leaves out is as :class:`dbpilot.retention.Rule` has it."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    name: str
    table: str
    time_column: str | None = None
    keep_days: float = Field(default=0, ge=0, le=1_000_000)
    keep_months: int = Field(default=0, ge=0, le=12_000)
    where: dict[str, Any] = {}
    duplicates: list[str] = []
    keep_which: Literal["first", "last"] = "first"
    target: str | None = None
    purge: bool = False
    archive_table: str | None = None
    batch: int = 1000
    batch_s: float = 0.5
    after: list[str] = []


def rules_of(named: str | None, now: datetime) -> tuple[Rule, ...]:
    """The rules that are named so; months are counted back from ``now``.

    Raises:
        ConfigError: there are none, or one of them makes no sense; says where.
    """
    if not named:
        raise ConfigError(EXPECTED)
    if named.endswith(".toml"):
        return _in_file(Path(named), now)
    return _in_module(named)


def _in_module(named: str) -> tuple[Rule, ...]:
    module, colon, name = named.partition(":")
    if not (module and colon and name):
        raise ConfigError(f"'{named}' names no rules; {EXPECTED}")
    if "" not in sys.path:
        sys.path.insert(0, "")  # the current folder, as `python -m` has it
    try:
        found = attrgetter(name)(_imported(module))
    except AttributeError:
        raise ConfigError(f"the module {module} has no {name}; {EXPECTED}") from None
    if not isinstance(found, Sequence) or not all(isinstance(one, Rule) for one in found):
        raise ConfigError(f"{named} is no sequence of dbpilot.retention.Rule")
    return _some(named, found)


def _imported(module: str) -> Any:
    try:
        return import_module(module)
    except PilotError as error:
        raise ConfigError(f"{module}: {error}") from None
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise ConfigError(
                f"there is no module {error.name}, neither in this folder nor installed; {EXPECTED}"
            ) from None
        raise ConfigError(f"the module {module} needs {error.name}, which is not installed") from None
    except Exception as error:  # noqa: BLE001 - the border to somebody else's module, which may do anything
        # Where, and of what kind; not its words, which may repeat a password.
        place = _last_line_here(error)
        raise ConfigError(
            f"the module {module} cannot be imported: {type(error).__name__} at {place.filename}:{place.lineno}"
        ) from None


def _last_line_here(error: Exception) -> traceback.FrameSummary:
    """The line of a file in the current folder that it came through, or where it was raised."""
    frames, here = traceback.extract_tb(error.__traceback__), Path.cwd()
    ours = [frame for frame in frames if frame.filename[0] != "<" and Path(frame.filename).is_relative_to(here)]
    return (ours or frames)[-1]


def _in_file(path: Path, now: datetime) -> tuple[Rule, ...]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no TOML: {error}") from None
    _refuse_unknown(str(path), found, [TABLES])
    tables = found.get(TABLES, [])
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise ConfigError(f"{path}: write each rule as a table of its own, under [[{TABLES}]]")
    return _some(str(path), [_rule(f"{path}: {_which(n, one)}", one, now) for n, one in enumerate(tables, 1)])


def _some(where: str, rules: Sequence[Rule]) -> tuple[Rule, ...]:
    if not rules:
        raise ConfigError(f"{where} holds no rule")
    return tuple(rules)


def _which(number: int, table: Mapping[str, Any]) -> str:
    return f"rule {number}" + (f" ('{table['name']}')" if "name" in table else "")


def _refuse_unknown(where: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
    known = list(known)
    for key in table:
        if key not in known:
            near = get_close_matches(key, known, 3) or known
            raise ConfigError(f"{where}: {key} is no key; did you mean {' or '.join(near)}?")


def _rule(where: str, table: Mapping[str, Any], now: datetime) -> Rule:
    _refuse_unknown(where, table, _Written.model_fields)
    try:
        written = _Written.model_validate(table)
        fields = written.model_dump(exclude={"keep_days", "keep_months"}, exclude_unset=True)
        if written.purge:
            fields.setdefault("target", None)  # TOML has no word for nothing
        return Rule(**fields, keep=_kept(written, now))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{where}: {key}: {first['msg']}") from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _kept(written: _Written, now: datetime) -> timedelta:
    if written.keep_days and written.keep_months:
        raise ConfigError("keep_days and keep_months contradict each other; write one of them")
    if written.keep_days:
        return timedelta(days=written.keep_days)
    return now - months_before(now, written.keep_months)


def months_before(now: datetime, months: int) -> datetime:
    """The same day so many months ago, or the last one of a month that is too short for it.

    Raises:
        ConfigError: that was before the first year.
    """
    year, month = divmod(now.year * 12 + now.month - 1 - months, 12)
    if year < 1:
        raise ConfigError(f"keep_months: {months} months ago there was no calendar")
    return now.replace(year=year, month=month + 1, day=min(now.day, monthrange(year, month + 1)[1]))

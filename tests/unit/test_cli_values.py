"""What is typed or written in a file of rules, as the values that it means."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from dbpilot.cli.rules import months_before, rules_of
from dbpilot.cli.urls import command_line
from dbpilot.cli.values import condition, instant, key, seconds, value
from dbpilot.errors import ConfigError

NOW = datetime(2026, 8, 31, 12, tzinfo=UTC)
THINGS = sa.Table(
    "things",
    sa.MetaData(),
    sa.Column("symbol", sa.String(16), primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("at", sa.DateTime),
    sa.Column("at_z", sa.DateTime(timezone=True)),
    sa.Column("price", sa.Numeric(12, 4)),
    sa.Column("open", sa.Boolean),
    sa.Column("id", sa.Uuid),
    sa.Column("data", sa.JSON),
)


@pytest.mark.parametrize(
    ("text", "wanted"), [("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2 h", 7200), ("1d", 86_400)]
)
def test_a_duration_has_a_unit_or_is_in_seconds(text: str, wanted: float) -> None:
    assert seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "h", "-1", "1w", "1h30m", "nan"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigError, match="no duration; write 90s"):
        seconds(text)


def test_an_instant_without_zone_is_in_utc() -> None:
    assert instant("2024-03-01") == datetime(2024, 3, 1, tzinfo=UTC)
    assert instant("2024-03-01T09:00:00+09:00") == datetime(2024, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("symbol", "7", "7"),
        ("day", "2024-03-01", date(2024, 3, 1)),
        ("at", "2024-03-01T09:00:00+09:00", datetime.fromisoformat("2024-03-01T00:00:00")),
        ("at_z", "2024-03-01T00:00:00", datetime(2024, 3, 1, tzinfo=UTC)),
        ("price", "1.50", Decimal("1.5")),
        ("open", "true", True),
        ("id", "12345678123456781234567812345678", UUID("12345678-1234-5678-1234-567812345678")),
    ],
)
def test_a_value_is_of_its_columns_type(name: str, text: str, wanted: Any) -> None:
    assert value(THINGS.c[name], text) == wanted


@pytest.mark.parametrize(("name", "text"), [("day", "x"), ("price", "x"), ("open", "2"), ("id", "7"), ("data", "{}")])
def test_what_is_none_is_refused(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=name):
        value(THINGS.c[name], text)


def test_a_key_of_several_columns_is_written_as_in_csv() -> None:
    columns = [THINGS.c.symbol, THINGS.c.day]
    assert key(columns, "AAPL,2024-03-01") == ("AAPL", date(2024, 3, 1))
    assert key(columns, '"A,B",2024-03-01') == ("A,B", date(2024, 3, 1))
    assert key(columns[:1], "A,B") == ("A,B",)
    with pytest.raises(ConfigError, match="'AAPL' is no key of things; write symbol,day"):
        key(columns, "AAPL")


def test_a_column_that_is_named_twice_may_have_either_value() -> None:
    found = condition(THINGS, ["symbol=a", "symbol=b=c", "open=false"])
    assert found == {"symbol": ["a", "b=c"], "open": False}


@pytest.mark.parametrize(
    ("months", "wanted"), [(0, NOW), (6, NOW.replace(month=2, day=28)), (12, NOW.replace(year=2025)), (8, None)]
)
def test_months_are_the_calendars(months: int, wanted: datetime | None) -> None:
    assert months_before(NOW, months) == (wanted or datetime(2025, 12, 31, 12, tzinfo=UTC))


def test_a_file_of_rules_says_what_the_fields_of_a_rule_say(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(
        """
        [[rule]]
        name = "a"
        table = "things"
        time_column = "at"
        keep_months = 6
        where = { symbol = ["x", "y"], day = 2024-03-01 }
        target = "postgresql+psycopg://u:s3cret@host/x"
        batch = 7
        after = ["b"]
        [[rule]]
        name = "b"
        table = "things"
        duplicates = ["symbol", "day"]
        keep_which = "last"
        [[rule]]
        name = "c"
        table = "things"
        time_column = "at"
        keep_days = 0.5
        purge = true
        """
    )
    old, twice, gone = rules_of(str(path), NOW)
    assert (old.keep, old.kind, old.batch, old.after) == (NOW - NOW.replace(month=2, day=28), "server", 7, ("b",))
    assert old.where == {"symbol": ["x", "y"], "day": date(2024, 3, 1)}
    assert "s3cret" not in repr(old)
    assert (twice.duplicates, twice.keep_which, twice.kind) == (("symbol", "day"), "last", "beside")
    assert (gone.keep, gone.kind) == (timedelta(hours=12), "purge")


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("keep_days = 1\nkeep_months = 1", "keep_days and keep_months contradict each other"),
        ("keep_months = 0.5", "keep_months: Input should be a valid integer"),
        ("keep_days = -1", "keep_days: Input should be greater than or equal to 0"),
        ("keep_days = inf", "keep_days: Input should be a finite number|keep_days: Input should be less than"),
        ('keep_days = 1\nafter = "b"', "after: Input should be a valid list"),
        ('keep_days = 1\ntarget = "x"\npurge = true', "it has a target and purge=True"),
    ],
)
def test_a_mistake_is_told_with_file_rule_and_key(tmp_path: Path, rule: str, said: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(f'[[rule]]\nname = "a"\ntable = "things"\ntime_column = "at"\n{rule}\n')
    with pytest.raises(ConfigError, match=f"rules.toml: rule 1 \\('a'\\): .*({said})"):
        rules_of(str(path), NOW)


@pytest.mark.parametrize(
    ("argument", "wanted"),
    [
        ("--url=mysql+pymysql://u:s3cret@h/x", "'--url=mysql+pymysql://u:***@h/x'"),
        ("postgresql://h/x?password=s3cret", "postgresql://h/x"),
        ("old news", "'old news'"),
        ("symbol=a", "symbol=a"),
        ("shop:RULES", "shop:RULES"),
    ],
)
def test_a_command_is_repeated_without_its_passwords(argument: str, wanted: str) -> None:
    assert command_line("dbpilot", ["cleanup", argument]) == f"dbpilot cleanup {wanted}"

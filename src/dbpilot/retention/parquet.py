"""Archives as Parquet files, which pandas, DuckDB and a hundred other programs read.

``FOLDER/rule=NAME/month=2024-03/0000000001-1-5000.parquet`` is a batch: its number, its first key and its last. A rule
archives one table. A folder's ``_tables`` says what the columns were when the table was last prepared.

Every column that is in the table is in the file: whole numbers with 64 bits, ``NUMERIC`` as decimal128 (as text without
a precision, or with one beyond 38 digits), JSON, UUIDs and enumerations as text, instants in microseconds: of UTC for
columns with a time zone, as they are for those without. A reader that takes ``rule`` and ``month`` from the folders'
names (``hive_partitioning``) hides columns of these names; tell it not to.
"""

import datetime as dt
import json
import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa

from dbpilot.errors import ConfigError, RefusedError, RetentionError
from dbpilot.retention.columns import Form, arrow_table, columns_of, forms_of, rows_of
from dbpilot.retention.digest import Digest, canonical, digest_of_columns, row_checksum
from dbpilot.retention.files import INSTALL, files_at
from dbpilot.retention.targets import BatchKey, Key, Written

log = logging.getLogger(__name__)

ROWS_AT_ONCE: Final = 5_000
"""Rows of a row group: as many as are read into memory at once."""
KEY_LENGTH: Final = 40
"""The longest a key is in a file's name; a longer one is cut, and told from others by a hash."""
SUFFIX: Final = ".parquet"


class ParquetTarget:
    """An archive of Parquet files in a local folder or at any fsspec URL; nothing is opened or made yet."""

    def __init__(self, url: str | os.PathLike[str]) -> None:
        """Raises ConfigError: pyarrow is not installed, or the URL names no place."""
        try:
            import pyarrow.parquet  # noqa: F401 - only whether it can be
        except ImportError:
            raise ConfigError(f"an archive in Parquet files needs pyarrow: {INSTALL}") from None
        self._files = files_at(url)
        self.name = self._files.name

    def __repr__(self) -> str:
        return f"ParquetTarget({self.name!r})"

    def differences(self, table: sa.Table) -> list[str]:
        """What is not as it was when the table was last prepared, in words; files that are there stay as they are.

        Raises:
            RefusedError: a column has no form in Parquet.
        """
        now, before = _described(table), self._prepared(table)
        if before is None:
            return [f"{self.name}: files of {table.fullname} are new here"]
        return [
            *(f"{name}: is new, and missing in older files" for name in now if name not in before),
            *(f"{name}: is gone from the table; older files keep it" for name in before if name not in now),
            *(
                f"{name}: is {now[name]} from now on, and {before[name]} in older files; readers of both must cast"
                for name in now
                if name in before and now[name] != before[name]
            ),
        ]

    def prepare(self, table: sa.Table) -> None:
        """The folder knows the table's columns as they are now."""
        now = _described(table)
        if self._prepared(table) != now:
            self._files.put(_description_path(table), json.dumps(now, indent=1, ensure_ascii=False).encode())

    def _prepared(self, table: sa.Table) -> dict[str, str] | None:
        data = self._files.read(_description_path(table))
        return None if data is None else dict(json.loads(data))

    def write(self, batch: BatchKey, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """The batch's file consists of exactly these rows, and survives whatever comes.

        Raises:
            RefusedError: a value does not fit its column.
            RetentionError: the file cannot be written.
        """
        about = {"dbpilot.rule": batch.rule, "dbpilot.table": table.fullname, "dbpilot.batch": str(batch.number)}
        self._files.put(_path(batch), _file_of(arrow_table(rows, table, about)))

    def holds(self, batch: BatchKey, table: sa.Table, written: Written) -> bool:
        """The medium gives back these values; those of lists are not compared so, in which true is like 1."""
        found = self._columns(batch, table)
        return found is not None and all(map(_alike, written.columns, found))

    def read_back(self, batch: BatchKey, table: sa.Table) -> Digest | None:
        """What the medium holds of the batch, in the table's columns; None for no file, or one that is not whole."""
        found = self._columns(batch, table)
        return None if found is None else digest_of_columns(found)

    def _columns(self, batch: BatchKey, table: sa.Table) -> list[list[Any]] | None:
        """The values that the medium holds of the batch, column by column."""
        data = self._files.read(_path(batch))
        read = None if data is None else _parsed(data)
        forms = forms_of(table)
        if read is None or read.column_names != list(forms):
            return None
        return list(columns_of(read, forms).values())

    def forget(self, batch: BatchKey, table: sa.Table) -> None:  # noqa: ARG002 - a rule archives one table
        """The batch has no file, nor a part of one."""
        self._files.delete(_path(batch))

    def rows(
        self, rule: str, table: sa.Table, since: dt.datetime | None, until: dt.datetime | None, time_column: str | None
    ) -> Iterator[Sequence[Mapping[str, Any]]]:
        """The rule's rows in chunks, oldest files first; from ``since`` to before ``until`` by the time column.

        A row has the columns that were archived and are in the table now.

        Raises:
            RefusedError: a time without a time column.
            RetentionError: a file is damaged or cannot be read.
        """
        within = _Within(since, until, time_column)
        forms = forms_of(table)
        for path in self._paths(rule):
            for group in list(self._groups(path, within)):  # the file may be replaced while its rows are given out
                if found := [row for row in rows_of(group, forms) if within.has(row)]:
                    yield found

    def _groups(self, path: str, within: "_Within") -> Iterator[Any]:
        """The row groups of a file that may have such rows."""
        with self._opened(path) as file:
            for number in range(file.num_row_groups):
                if within.may_have(file.metadata.row_group(number)):
                    yield file.read_row_group(number)

    def count(self, rule: str, table: sa.Table) -> int:  # noqa: ARG002 - a rule archives one table
        """The rows of the rule, as the ends of its files say."""
        return sum(map(self._count, self._paths(rule)))

    def _count(self, path: str) -> int:
        with self._opened(path) as file:
            return int(file.metadata.num_rows)

    def absent(self, batches: Sequence[BatchKey], table: sa.Table) -> dict[int, str]:  # noqa: ARG002 - as above
        """The batches whose file is not there, each with the file's name."""
        there = {path for rule in {batch.rule for batch in batches} for path in self._paths(rule)}
        return {batch.number: path for batch in batches if (path := _path(batch)) not in there}

    def remove(self, rule: str, table: sa.Table, keys: Collection[Key]) -> int:
        """The rows with these primary keys are in no file of the rule; returns how many were.

        Whatever interrupts it, each file is as it was or without them; doing it again does the rest. A key that has
        different rows in the archive, because it was used again, stays: nobody can say which of them is meant.

        Raises:
            RefusedError: the table has no primary key, or a file has columns that the table has no more.
            RetentionError: a file cannot be read or written.
        """
        names = [column.name for column in table.primary_key]
        if not names:
            raise RefusedError(f"{table.name} has no primary key to tell archived rows apart by")
        forms, wanted = forms_of(table), _Wanted(names, keys)
        found = {path: hits for path in self._paths(rule) if (hits := self._hits(path, forms, wanted))}
        unclear = _with_different_rows(found.values())
        if unclear:
            log.warning("archive %s: %d keys of rule %s have different rows and stay", self.name, len(unclear), rule)
        going = {path: {key for key, _ in hits} - unclear for path, hits in found.items()}
        return sum(self._remove_from(path, wanted.names, going[path]) for path in going if going[path])

    def _hits(self, path: str, forms: Mapping[str, Form], wanted: "_Wanted") -> list[tuple[str, int]]:
        """The wanted keys that a file has, each with the checksum of its row."""
        with self._opened(path) as file:
            if not wanted.may_be_in(file.metadata):
                return []
            chosen = [key in wanted.keys for key in _keys(file, wanted.names)]
            if not any(chosen):
                return []
            _refuse_to_lose(path, file.schema_arrow.names, forms)
            rows = rows_of(file.read().filter(chosen), forms)
        return [(canonical(row, wanted.names), row_checksum(row, list(row))) for row in rows]

    def _remove_from(self, path: str, names: Sequence[str], keys: Collection[str]) -> int:
        with self._opened(path) as file:
            stays = [key not in keys for key in _keys(file, names)]
            left = file.read().filter(stays) if any(stays) else None
        if left is None:
            self._files.delete(path)
        else:
            self._files.put(path, _file_of(left))
        return len(stays) - sum(stays)

    def close(self) -> None:
        """Nothing is held open anyway."""

    def _paths(self, rule: str) -> list[str]:
        return [path for path in self._files.paths(_folder(rule)) if path.endswith(SUFFIX)]

    def _opened(self, path: str) -> "_Opened":
        return _Opened(path, partial(self._files.open, path))


class _Opened:
    """A Parquet file inside of a ``with``; damage that is found there is told as such."""

    def __init__(self, path: str, opening: Any) -> None:
        self._path = path
        self._opening = opening

    def __enter__(self) -> Any:
        import pyarrow.parquet as pq

        self._source = self._opening()
        try:
            return pq.ParquetFile(self._source, page_checksum_verification=True)
        except (OSError, ValueError) as error:
            self.__exit__(type(error), error, None)
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._source.close()
        if isinstance(error, OSError | ValueError):
            raise RetentionError(
                f"the archive's file {self._path} is damaged or cannot be read; bring it back from a backup"
            ) from error


class _Within:
    """Which rows are from ``since`` to before ``until``."""

    def __init__(self, since: dt.datetime | None, until: dt.datetime | None, column: str | None) -> None:
        if column is None and (since or until):
            raise RefusedError("rows can be picked by time only where the rule has a time column")
        self._column = column if since or until else None
        self._since = since or dt.datetime.min.replace(tzinfo=dt.UTC)
        self._until = until or dt.datetime.max.replace(tzinfo=dt.UTC)

    def has(self, row: Mapping[str, Any]) -> bool:
        """Whether the row is one; one without a time is not."""
        if self._column is None:
            return True
        if self._column not in row:
            raise RefusedError(f"older files have no column {self._column}, so their rows cannot be picked by it")
        at = row[self._column]
        return at is not None and self._since <= _instant(at) < self._until

    def may_have(self, group: Any) -> bool:
        """Whether a row group's least and greatest time leave room for one."""
        bounds = _bounds(group, self._column)
        return bounds is None or (_instant(bounds[0]) < self._until and self._since <= _instant(bounds[1]))


class _Wanted:
    """Which keys are looked for."""

    def __init__(self, names: Sequence[str], keys: Collection[Key]) -> None:
        self.names = list(names)
        self.keys = {canonical(dict(zip(names, key, strict=True)), names) for key in keys}
        firsts = [key[0] for key in keys]
        whole = bool(firsts) and all(type(first) is int for first in firsts)
        self._span = (min(firsts), max(firsts)) if whole else None

    def may_be_in(self, metadata: Any) -> bool:
        """Whether the least and the greatest keys of a file leave room for one."""
        if not self.keys:
            return False
        groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
        return any(self._may_be_within(_bounds(group, self.names[0])) for group in groups)

    def _may_be_within(self, bounds: tuple[Any, Any] | None) -> bool:
        if bounds is None or self._span is None or type(bounds[0]) is not int:
            return True
        return bool(bounds[0] <= self._span[1] and self._span[0] <= bounds[1])


def _keys(file: Any, names: Sequence[str]) -> list[str]:
    """The key of each of a file's rows; none match where the file has no such columns."""
    read = file.read(columns=list(names))
    if read.num_columns < len(names):
        return [""] * file.metadata.num_rows
    columns = [read.column(name).to_pylist() for name in names]
    return [canonical(dict(zip(names, values, strict=True)), names) for values in zip(*columns, strict=True)]


def _with_different_rows(found: Iterable[Iterable[tuple[str, int]]]) -> set[str]:
    """The keys that have more than one checksum."""
    checksums: dict[str, set[int]] = {}
    for hits in found:
        for key, checksum in hits:
            checksums.setdefault(key, set()).add(checksum)
    return {key for key, different in checksums.items() if len(different) > 1}


def _alike(written: Sequence[Any], found: Sequence[Any]) -> bool:
    """All values are worth the same; what is like its equal for Python is so for a :class:`Digest`, but for lists."""
    return list(written) == found and list not in set(map(type, found))


def _bounds(group: Any, column: str | None) -> tuple[Any, Any] | None:
    """The least and the greatest value of a column in a row group, where the file says so."""
    chunks = (group.column(number) for number in range(group.num_columns))
    statistics = next((chunk.statistics for chunk in chunks if chunk.path_in_schema == column), None)
    return (statistics.min, statistics.max) if statistics is not None and statistics.has_min_max else None


def _instant(at: Any) -> dt.datetime:
    if not isinstance(at, dt.datetime):
        if not isinstance(at, dt.date):
            raise RefusedError("rows can be picked by time only where the time column has dates or instants")
        at = dt.datetime.combine(at, dt.time())
    instant: dt.datetime = at
    return instant.replace(tzinfo=dt.UTC) if instant.tzinfo is None else instant


def _file_of(table: Any) -> Any:
    """The bytes of a Parquet file. Its pages have checksums, its groups the bounds of their values."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pa.BufferOutputStream() as buffer:
        pq.write_table(table, buffer, row_group_size=ROWS_AT_ONCE, compression="zstd", write_page_checksum=True)
        return buffer.getvalue()


def _parsed(data: bytes) -> Any:
    """The table in a file's bytes; None if the file is not whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read()
    except (ValueError, OSError):  # pyarrow's errors; there is no medium here that could fail
        return None


def _described(table: sa.Table) -> dict[str, str]:
    """Each column's type in a file."""
    return {name: str(form.arrow) for name, form in forms_of(table).items()}


def _refuse_to_lose(path: str, columns: Sequence[str], forms: Mapping[str, Form]) -> None:
    if gone := [name for name in columns if name not in forms]:
        raise RefusedError(
            f"the archive's file {path} has columns that the table has no more ({', '.join(gone)}); taking its rows "
            "out would lose them. Add the columns to the table, or leave the rows in the archive"
        )


def _description_path(table: sa.Table) -> str:
    return f"_tables/{quote(table.fullname, safe='')}.json"


def _folder(rule: str) -> str:
    return f"rule={quote(rule, safe='')}"


def _path(batch: BatchKey) -> str:
    name = "-".join([f"{batch.number:010d}", _in_name(batch.first_key), _in_name(batch.last_key)])
    return f"{_folder(batch.rule)}/month={quote(batch.month, safe='')}/{name}{SUFFIX}"


def _in_name(key: Key) -> str:
    """A key as part of a file's name: legible where that is possible, and always the same."""
    said = "_".join(re.sub(r"[^\w.:+]", "~", str(part), flags=re.ASCII) for part in key)
    if len(said) <= KEY_LENGTH and "~" not in said:
        return said
    mark = blake2b(canonical({str(n): part for n, part in enumerate(key)}, [str(n) for n in range(len(key))]).encode())
    return f"{said[:KEY_LENGTH]}~{mark.hexdigest()[:12]}"

"""A file opened for reading, and its lines, however long somebody made them."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Protocol

from app.market.ingest.rows import UnusableFile

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Readable(Protocol):
    """What lines are read from."""

    def readline(self, limit: int = -1, /) -> bytes: ...


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """The file's bytes, closed at the end.

    Raises:
        UnusableFile: it cannot be opened.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UnusableFile(f"{path} cannot be read: {error.strerror}") from None
    with file:
        yield file


def numbered_lines(file: Readable, limit_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Each line that is not blank, with its number, without its end; a longer one is cut to ``limit_bytes`` + 1."""
    number = 0
    while line := file.readline(limit_bytes + 2):
        number += 1
        if number == 1:
            line = line.removeprefix(BYTE_ORDER_MARK)
        content = line.rstrip(b"\r\n")
        if len(content) > limit_bytes:
            _skip_rest(file, line, limit_bytes)
            content = content[: limit_bytes + 1]
        if content.strip():
            yield number, content


def _skip_rest(file: Readable, line: bytes, chunk_bytes: int) -> None:
    while line and not line.endswith(b"\n"):
        line = file.readline(chunk_bytes)

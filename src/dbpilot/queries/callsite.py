"""Which line of the application runs a statement?

The nearest frame that is neither SQLAlchemy's, a driver's, the standard library's, ours, nor that of another installed
package. Where the application is itself installed as a package, the nearest frame of any package that is not concerned
with databases.
"""

import sys
import sysconfig
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

import sqlalchemy

MAX_FRAMES: Final = 200
"""Frames looked at; an application's own is rarely further away than thirty."""
PARTS_SHOWN: Final = 3
MACHINERY: Final = frozenset(
    """aiomysql aiosqlite alembic asyncmy asyncpg flask_sqlalchemy greenlet mysql MySQLdb oracledb psycopg psycopg2
    psycopg_pool pymysql sqlalchemy sqlmodel""".split()
)
"""Packages between an application and its database."""

_OWN: Final = str(Path(__file__).resolve().parents[1])
_SQLALCHEMY: Final = str(Path(sqlalchemy.__file__).parent)
_LIBRARY: Final = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
_PACKAGES: Final = ("site-packages", "dist-packages")


class Frame(NamedTuple):
    """A line of code as Python names it."""

    file: str
    line: int
    function: str

    @property
    def callsite(self) -> str:
        """``folder/file.py:41``, from where the program was started, or with the last folders alone."""
        return f"{_short(self.file)}:{self.line}"


def calling_frame() -> Frame | None:
    """The line of the application that led here; None where only libraries are on the stack."""
    spare: Frame | None = None
    frame: FrameType | None = sys._getframe(1)
    for _ in range(MAX_FRAMES):
        if frame is None:
            return spare
        code = frame.f_code
        kind = _kind(code.co_filename)
        if kind == "application" or (kind == "package" and spare is None):
            found = Frame(code.co_filename, frame.f_lineno, getattr(code, "co_qualname", code.co_name))
            if kind == "application":
                return found
            spare = found
        frame = frame.f_back or _awaiting(frame)
    return spare


def is_ours() -> bool:
    """Whether it is dbpilot that runs a statement: nothing of the application stands between it and SQLAlchemy.

    The caller itself, which is dbpilot's, is left out.
    """
    frame: FrameType | None = sys._getframe(2)
    for _ in range(MAX_FRAMES):
        if frame is None:
            return False
        file = frame.f_code.co_filename
        if file.startswith(_OWN):
            return True
        if _kind(file) != "machinery":
            return False
        frame = frame.f_back
    return False


def _awaiting(last: FrameType) -> FrameType | None:
    """The frame that awaits, where this stack is a greenlet's: SQLAlchemy runs sync code under asyncio in one."""
    greenlet: Any = sys.modules.get("greenlet")
    if greenlet is None:
        return None
    parent = greenlet.getcurrent().parent
    frame: FrameType | None = parent.gr_frame if parent is not None else None
    return None if frame is last or _is_below(last, frame) else frame


def _is_below(last: FrameType, frame: FrameType | None) -> bool:
    """Whether the search has come from the parent's stack already: its last frame ends that one, too."""
    for _ in range(MAX_FRAMES):
        if frame is None:
            return False
        if frame is last:
            return True
        frame = frame.f_back
    return True


@lru_cache(4096)
def _kind(file: str) -> str:
    """What a file belongs to: the "application", a "package", or "machinery" that nobody asks about."""
    if file.startswith(("<", _OWN, _SQLALCHEMY)):
        return "machinery"
    parts = Path(file).parts
    place = next((number for number, part in enumerate(parts) if part in _PACKAGES), None)
    if place is not None:
        package = parts[place + 1].removesuffix(".py") if place + 1 < len(parts) else ""
        return "machinery" if package in MACHINERY else "package"
    return "machinery" if file.startswith(_LIBRARY) else "application"


@lru_cache(4096)
def _short(file: str) -> str:
    path = Path(file)
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except (ValueError, OSError):  # elsewhere, or the folder the program was started in is gone
        return Path(*path.parts[-PARTS_SHOWN:]).as_posix().lstrip("/")

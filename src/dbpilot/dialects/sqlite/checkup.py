"""What may be off with a SQLite file, and with the connections to it."""

from collections.abc import Iterator
from typing import Final

from sqlalchemy import text

from dbpilot.dialects.checkup import Ailment, Check, Patient, bytes_told

MUCH_FREE: Final = 0.25
MUCH_FREE_BYTES: Final = 64 * 2**20

JOURNAL: Final = text("PRAGMA journal_mode")
FOREIGN_KEYS: Final = text("PRAGMA foreign_keys")
PATIENCE: Final = text("PRAGMA busy_timeout")
FREE: Final = text("PRAGMA freelist_count")
PAGES: Final = text("PRAGMA page_count")
PAGE_SIZE: Final = text("PRAGMA page_size")
REFERENCES: Final = text(
    "SELECT count(*) FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f WHERE m.type = 'table'"
)
AT_CONNECT: Final = 'in the application, for each new connection (SQLAlchemy\'s event "connect"): '


def _journal(patient: Patient) -> Iterator[Ailment]:
    mode = str(patient.ask(JOURNAL)[0]).lower()
    if mode not in ("wal", "memory"):
        why = "whoever writes keeps everybody from reading, and the other way round"
        yield Ailment("amber", f"the journal's mode is {mode}", why, "PRAGMA journal_mode = WAL;")


def _foreign_keys(patient: Patient) -> Iterator[Ailment]:
    if not int(patient.ask(FOREIGN_KEYS)[0]) and int(patient.ask(REFERENCES)[0]):
        why = "rows may refer to rows that are not there"
        fix = f"{AT_CONNECT}PRAGMA foreign_keys = ON;"
        yield Ailment("amber", "foreign keys are declared, and not kept", why, fix)


def _patience(patient: Patient) -> Iterator[Ailment]:
    if int(patient.ask(PATIENCE)[0]) < 1000:
        why = "two writers at once are an error, `database is locked`, rather than a short wait"
        yield Ailment("amber", "connections do not wait for a lock", why, f"{AT_CONNECT}PRAGMA busy_timeout = 5000;")


def _space(patient: Patient) -> Iterator[Ailment]:
    free, pages, size = (int(patient.ask(question)[0]) for question in (FREE, PAGES, PAGE_SIZE))
    if free > MUCH_FREE * pages and free * size > MUCH_FREE_BYTES:
        what = f"{bytes_told(free * size)} of the file's {bytes_told(pages * size)} are free"
        yield Ailment("note", what, "the file stays as large as it was once", "VACUUM;")


CHECKS: Final = (
    Check("journal", "readers and writers do not wait for each other", _journal),
    Check("foreign keys", "references are kept", _foreign_keys),
    Check("patience", "writers wait for each other", _patience),
    Check("space", "the file is not much larger than its data", _space),
)

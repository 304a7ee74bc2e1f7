"""Which indexes a database has too few of, and which too many; proven before it is said, and undone when wrong."""

from dbpilot.indexes.patterns import Recommended

__all__ = ["Recommended"]

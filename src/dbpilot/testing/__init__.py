"""What tests of database applications need: a clock that obeys, and real servers that clean up after themselves."""

from dbpilot.testing.fakes import FakeClock

__all__ = ["FakeClock"]

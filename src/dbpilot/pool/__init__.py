"""The connection pool: what it holds and what happens to it."""

from dbpilot.pool.sampler import PoolReading

__all__ = ["PoolReading"]

"""The connection pool: what it holds and what happens to it."""

from dbpilot.pool.resizable import AsyncResizableQueuePool, PoolFull, ResizableQueuePool
from dbpilot.pool.sampler import PoolReading

__all__ = ["AsyncResizableQueuePool", "PoolFull", "PoolReading", "ResizableQueuePool"]

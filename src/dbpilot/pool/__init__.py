"""The connection pool: what it holds and what happens to it."""

"""A database that looks after itself, for Python backends on SQLAlchemy."""

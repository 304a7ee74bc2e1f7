"""What dbpilot raises; every message says what happened and what to do."""


class PilotError(Exception):
    """Something dbpilot could not do; the base of all its errors."""


class ConfigError(PilotError):
    """A setting has no meaning; names the setting."""


class WatchedDatabaseError(PilotError):
    """The watched database cannot be asked; says what kind of error, never its words, which repeat values."""


class StoreError(PilotError):
    """The history cannot be opened, read or written; names the store, never its password."""


class RefusedError(PilotError):
    """Something was asked for that must not be done here; says why, and what would change that."""


class RetentionError(PilotError):
    """Rows could not be archived, verified or restored; says which, where they are now, and what to do."""


class NotThereError(PilotError):
    """Something was named that does not exist; names what is near."""

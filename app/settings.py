"""What the environment decides about Finstage; every setting has a default that works on a laptop."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Finstage's settings, read from the environment once at start.

    ``DATABASE_URL`` chooses the database; the others are prefixed ``FINSTAGE_``.
    """

    model_config = SettingsConfigDict(env_prefix="FINSTAGE_", frozen=True, extra="ignore", populate_by_name=True)

    var: Path = Path("var")
    """Folder of everything the program writes when no server is configured."""

    host: str = "127.0.0.1"
    port: int = Field(default=8081, ge=0, le=65535)

    sample_data: bool = True
    """Load the real 2000-2013 price series into an empty database at first start."""

"""Every setting of the collector, read once from the environment (`TALLYMAN_…`) and a file."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """A wrong or unknown setting stops the start."""

    model_config = SettingsConfigDict(env_prefix="TALLYMAN_", extra="forbid")

    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(8888, ge=0, le=65535, description="Port that the API listens on; 0: any.")
    data_dir: Path = Field(
        Path("tallyman-data"), description="Directory of the embedded store: chDB and SQLite."
    )

"""All settings in one frozen object."""

from __future__ import annotations

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from .answers import Answers
from .identification import Identification
from .limits import Limits
from .listening import Listening
from .operation import Operation
from .sources import StrictToml
from .streams import Streams

__all__ = ["Settings"]


class Settings(Operation, Limits, Identification, Answers, Streams, Listening, BaseSettings):
    """Descriptions are what docs/configuration.md is made of: unit, and why this default."""

    model_config = SettingsConfigDict(
        env_prefix="YEOUL_",
        env_file=".env",
        toml_file="yeoul.toml",
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,  # it may be a key, or stand beside one
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, StrictToml(settings_cls)

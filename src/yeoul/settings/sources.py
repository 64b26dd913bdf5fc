"""Where settings come from."""

from __future__ import annotations

import os
import tomllib
from typing import Any

from dotenv import dotenv_values
from pydantic import AliasChoices
from pydantic_settings import TomlConfigSettingsSource

__all__ = ["StrictToml", "environment"]


def environment(name: str) -> str | None:
    """A variable that is no setting, but that one names: from the environment, else from `.env`."""
    return os.environ.get(name) or dotenv_values(".env").get(name)


class StrictToml(TomlConfigSettingsSource):
    """Refuses names that are no settings: a setting that is misspelled must not be without effect. (The environment and
    `.env` hold other programs' variables too.)"""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        try:
            return super()._read_file(file_path)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{file_path} is not TOML: {error}") from error

    def __call__(self) -> dict[str, Any]:
        known = set(self.settings_cls.model_fields)
        for field in self.settings_cls.model_fields.values():
            if isinstance(field.validation_alias, AliasChoices):
                known.update(map(str, field.validation_alias.choices))
        unknown = sorted(set(self.toml_data) - known)
        if unknown:
            raise ValueError(f"yeoul.toml has {', '.join(unknown)}: no setting is called so")
        return super().__call__()

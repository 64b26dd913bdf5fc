"""Variables that look like settings and are none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches

from dotenv import dotenv_values
from pydantic import AliasChoices

from .settings import Settings

__all__ = ["empty_keys", "misspelled", "variables"]

# Of the commands: where the server is, and who asks it.
_OF_COMMANDS = {"YEOUL_URL", "YEOUL_TOKEN"}

# Without these the server asks nobody who he is. One that is there and empty is a secret that was not handed over.
_KEYS = ("YEOUL_JWT_SECRET", "YEOUL_JWT_PUBLIC_KEY", "YEOUL_JWT_JWKS_URL")


def variables() -> dict[str, str | None]:
    """Of the environment and of `.env`."""
    return {**dotenv_values(".env"), **os.environ}


def misspelled(given: Mapping[str, str | None]) -> list[str]:
    """What to say of each `YEOUL_*` variable that has no effect."""
    known = {f"YEOUL_{name.upper()}" for name in Settings.model_fields} | _OF_COMMANDS
    for field in Settings.model_fields.values():
        if isinstance(field.validation_alias, AliasChoices):
            known.update(str(choice) for choice in field.validation_alias.choices)
    return [_said(name, known) for name in sorted(given) if name.startswith("YEOUL_") and name not in known]


def empty_keys(given: Mapping[str, str | None]) -> list[str]:
    return [f"{name} is set, but empty: give it its value, or take it away" for name in _KEYS if given.get(name) == ""]


def _said(name: str, known: set[str]) -> str:
    meant = get_close_matches(name, known, n=1)
    return f"{name} is no setting, and has no effect{f': is it meant to be {meant[0]}?' if meant else ''}"

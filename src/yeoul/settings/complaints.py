"""What to say of settings that are wrong."""

from __future__ import annotations

import re

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .settings import Settings

__all__ = ["complaints"]

_JSON_EXAMPLE = 'lists are written ["a", "b"], tables {"name": "value"}'


def complaints(error: ValidationError) -> list[str]:
    """What is wrong with the settings, a sentence each, for whoever has to put it right. Shows no key."""
    return [_complaint(entry) for entry in error.errors()]


def _complaint(entry: ErrorDetails) -> str:
    name = ".".join(map(str, entry["loc"]))
    said = entry["msg"].removeprefix("Value error, ")
    no_json = re.fullmatch(r'error parsing value for field "(\w+)".*', said)
    if no_json:
        return f"setting {no_json[1]}: it is not JSON: {_JSON_EXAMPLE}"
    if "codec can't decode" in said:
        return f"a file with settings (.env or yeoul.toml) is not UTF-8: {said}"
    if entry["type"] == "tuple_type":
        return f"setting {name}: it is no list: {_JSON_EXAMPLE}{_shown(name, entry['input'])}"
    return f"setting {name}: {said}{_shown(name, entry['input'])}" if name else said


def _shown(name: str, value: object) -> str:
    """What a setting was given, unless it is a key or may hold one."""
    field = Settings.model_fields.get(name)
    if field is None or isinstance(value, dict | list) or "SecretStr" in str(field.annotation):
        return ""
    return f" (it is {value!r})"

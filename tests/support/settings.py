"""Settings as a test gives them, whatever this machine's environment says."""

from __future__ import annotations

from yeoul.settings import Settings

__all__ = ["make_settings"]


def make_settings(**values: object) -> Settings:
    fixed = {"demo_pace_s": 0, "openai_api_key": None, "hf_token": None}
    return Settings(_env_file=None, **{**fixed, **values})  # type: ignore[arg-type]

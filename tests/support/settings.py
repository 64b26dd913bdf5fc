"""Settings as a test gives them, whatever this machine's environment says."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

from yeoul.settings import Settings

__all__ = ["make_data_dir", "make_settings"]


# The databases of all servers of a test run; in memory where that can be, since each one made waits for its disk.
_DATA = tempfile.mkdtemp(prefix="yeoul-test-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
atexit.register(shutil.rmtree, _DATA, ignore_errors=True)


def make_data_dir() -> str:
    """A new, empty folder."""
    return tempfile.mkdtemp(dir=_DATA)


def make_settings(**values: object) -> Settings:
    keys = {"openai_api_key": None, "hf_token": None}
    fixed = {**keys, "demo_pace_s": 0, "data_dir": make_data_dir(), "own_documents": False}
    return Settings(_env_file=None, **{**fixed, **values})  # type: ignore[arg-type]

"""Every setting of the server: from arguments, `YEOUL_*` variables, `.env`, `yeoul.toml`."""

from .answers import Upstream
from .complaints import complaints
from .settings import Settings
from .sources import environment
from .streams import RetentionRule
from .variables import empty_keys, misspelled, variables

__all__ = [
    "RetentionRule",
    "Settings",
    "Upstream",
    "complaints",
    "empty_keys",
    "environment",
    "misspelled",
    "variables",
]

"""What outlives the process: one SQLite file, and a module per kind of thing in it. `schema/` has its tables."""

from .database import Database

__all__ = ["Database"]

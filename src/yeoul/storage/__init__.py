"""What outlives the process: one SQLite file, and a module per kind of thing in it."""

from .database import Database

__all__ = ["Database"]

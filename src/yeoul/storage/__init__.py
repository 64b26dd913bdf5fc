"""Persistent data: one SQLite file, and a module per kind of record. `schema/` has its tables."""

from .database import Database

__all__ = ["Database"]

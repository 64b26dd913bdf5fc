"""Yeoul's own documentation as a collection: what `/ask` answers from until documents are added."""

from __future__ import annotations

from pathlib import Path

from ..observe import logger
from .document import digest_of, read
from .library import OWN, Library

__all__ = ["index_manual", "manual_files"]

# In a wheel (pyproject.toml), and in a checkout.
_PACKAGED = Path(__file__).parents[1] / "manual"
_CHECKOUT = Path(__file__).parents[3]

_FIRST = ("README.md", "README.ko.md", "ARCHITECTURE.md")


def manual_files() -> dict[str, Path]:
    """The pages by name; empty where they are not installed."""
    for root in (_PACKAGED, _CHECKOUT):
        if (root / "docs").is_dir() and (root / _FIRST[0]).is_file():
            names = [*_FIRST, *sorted(f"docs/{path.name}" for path in (root / "docs").glob("*.md"))]
            return {name: root / name for name in names if (root / name).is_file()}
    return {}


def index_manual(library: Library) -> None:
    """Updates the collection `yeoul` to the documentation of this version. Indexes only the pages that have changed."""
    known = {entry.source: entry for entry in library.list(OWN)}
    texts = {name: path.read_bytes() for name, path in manual_files().items()}
    for name, entry in known.items():
        if name not in texts:
            library.remove(str(entry.id))
    changed = [name for name, data in texts.items() if name not in known or known[name].digest != digest_of(data)]
    for name in changed:
        library.add(read(texts[name], name), OWN)
    if changed:
        logger.info("%d pages of Yeoul's documentation have been indexed", len(changed))

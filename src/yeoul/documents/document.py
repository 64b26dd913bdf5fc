"""Reading files: which formats are supported, and the document in a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from ..errors import UnreadableDocument
from .markup import Reading, read_html, read_markdown, read_pdf, read_text
from .passages import Piece, cut
from .words import plain_text

__all__ = ["FORMATS", "MAX_FILE_BYTES", "MAX_TEXT_CHARS", "Document", "digest_of", "find_files", "read", "read_file"]

# Larger than any manual. While it is parsed, a file takes several times its size in memory.
MAX_FILE_BYTES = 20_971_520
# About five thousand passages: a book of a thousand pages.
MAX_TEXT_CHARS = 4_000_000

_TITLE_CHARS = 200

FORMATS: Mapping[str, Callable[[bytes], Reading]] = {
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".txt": read_text,
    ".text": read_text,
    ".html": read_html,
    ".htm": read_html,
    ".pdf": read_pdf,
}

# Folders of installed packages, which are skipped like hidden folders.
_FOREIGN = frozenset({"node_modules", "__pycache__", "site-packages"})


@dataclass(frozen=True, slots=True)
class Document:
    """A document as a library stores it. `source`: where it is from; `digest`: of the file's bytes."""

    title: str
    source: str
    digest: bytes
    pieces: tuple[Piece, ...]


def find_files(paths: Iterable[Path]) -> Iterator[Path]:
    """The paths that are not folders, and the files of supported formats in those that are, at any depth."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _FOREIGN)
            for name in sorted(names):
                if not name.startswith(".") and Path(name).suffix.lower() in FORMATS:
                    yield Path(folder, name)


def read_file(path: Path) -> Document:
    """The document in a file. Raises UnreadableDocument, which says why it cannot be read."""
    _reader(path.name)
    try:
        if path.exists() and not path.is_file():
            raise UnreadableDocument("it is not a regular file")  # reading a pipe or a device might never end
        if path.exists() and path.stat().st_size > MAX_FILE_BYTES:
            raise UnreadableDocument(f"it is larger than {MAX_FILE_BYTES // 1_048_576} MiB: split it")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UnreadableDocument("the file does not exist") from error
    except OSError as error:
        raise UnreadableDocument(f"it cannot be read: {error.strerror or error}") from error
    return read(data, str(path.resolve()))


def read(data: bytes, source: str) -> Document:
    """The document in these bytes; `source` ends with the extension of their format. Raises UnreadableDocument."""
    reader = _reader(source)
    if not data.strip():
        raise UnreadableDocument("it is empty")
    found = reader(data)
    if sum(len(paragraph) for section in found.sections for paragraph in section.paragraphs) > MAX_TEXT_CHARS:
        raise UnreadableDocument(f"it has more than {MAX_TEXT_CHARS} characters of text: split it")
    pieces = tuple(cut(found.sections))
    if not pieces:
        raise UnreadableDocument("it contains no text")
    title = " ".join(plain_text(found.title).split())[:_TITLE_CHARS]
    return Document(title or Path(source).stem, source, digest_of(data), pieces)


def digest_of(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


def _reader(name: str) -> Callable[[bytes], Reading]:
    suffix = Path(name).suffix.lower()
    if suffix not in FORMATS:
        raise UnreadableDocument(
            f"{suffix or 'a file without an extension'} is not a supported format: use {', '.join(FORMATS)}"
        )
    return FORMATS[suffix]

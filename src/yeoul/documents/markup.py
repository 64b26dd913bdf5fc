"""Markdown, HTML, PDF and plain text, read as a title and sections.

The parsers are imported where they are used: together they take longer to load than the rest of the server.
"""

from __future__ import annotations

import codecs
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import groupby
from typing import TYPE_CHECKING

from ..errors import UnreadableDocument
from .passages import Section
from .words import plain_text

if TYPE_CHECKING:
    from bs4.element import Tag
    from markdown_it.token import Token

__all__ = ["MAX_PDF_PAGES", "Reading", "read_html", "read_markdown", "read_pdf", "read_text"]

# Extracting the text of a page takes about 10 ms.
MAX_PDF_PAGES = 3_000

# A longer first line is a paragraph, not a title.
_TITLE_CHARS = 120

# Tried in this order: the second is for old Korean text.
_ENCODINGS = ("utf-8", "cp949")
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
# Tags whose text does not belong to the document.
_UNREAD = frozenset(
    ("button", "form", "head", "iframe", "math", "nav", "noscript", "object", "script", "select", "style", "svg")
)
# Tags that separate paragraphs.
_BLOCK_TAGS = """
    address article aside blockquote body caption dd details div dl dt fieldset figcaption figure footer header hr
    html li main ol p pre section summary table tbody td tfoot th thead tr ul h1 h2 h3 h4 h5 h6
"""
_BLOCKS = frozenset(_BLOCK_TAGS.split())


@dataclass(frozen=True, slots=True)
class Reading:
    """The content of a file. `title` is "" where it has none."""

    title: str
    sections: Sequence[Section]


@dataclass(slots=True)
class _Outline:
    """Sections by heading. The first heading is the title if it is of level 1."""

    title: str = ""
    sections: list[Section] = field(default_factory=list)
    _path: list[tuple[int, str]] = field(default_factory=list)
    _paragraphs: list[str] = field(default_factory=list)

    def heading(self, level: int, text: str) -> None:
        text = " ".join(text.split())
        if not text:
            return
        self._close()
        if level == 1 and not self.title:
            self.title = text
            self._path = []
            return
        self._path = [part for part in self._path if part[0] < level] + [(level, text)]

    def paragraph(self, text: str) -> None:
        if text.strip():
            self._paragraphs.append(text.strip("\n"))

    def reading(self) -> Reading:
        self._close()
        return Reading(self.title, self.sections)

    def _close(self) -> None:
        if self._paragraphs:
            self.sections.append(Section(" › ".join(text for _, text in self._path), tuple(self._paragraphs)))
            self._paragraphs = []


def read_text(data: bytes) -> Reading:
    """Blank lines separate paragraphs; a short first line is the title. Raises UnreadableDocument."""
    text = _decode(data)
    return Reading(_first_line(text), [Section("", _paragraphs(text))])


def read_markdown(data: bytes) -> Reading:
    """CommonMark with tables, without its markup. Raises UnreadableDocument."""
    from markdown_it import MarkdownIt  # noqa: PLC0415

    outline = _Outline()
    tokens = MarkdownIt("commonmark").enable("table").parse(_decode(data))
    block: list[Token] = []
    for token in tokens:
        block.append(token)
        # A block of the top level: lists, quotes and tables are one paragraph each, with all that is in them.
        if token.level == 0 and token.nesting <= 0:
            if block[0].type == "heading_open":
                outline.heading(_HEADINGS[block[0].tag], _text_of(block))
            else:
                outline.paragraph(_text_of(block))
            block = []
    return outline.reading()


def read_html(data: bytes) -> Reading:
    """The visible text of the page, without its navigation. Raises UnreadableDocument."""
    try:
        from bs4 import BeautifulSoup  # noqa: PLC0415
        from bs4.dammit import EncodingDetector  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UnreadableDocument('to read HTML files, install the extra: pip install "yeoul[docs]"') from error

    declared = EncodingDetector.find_declared_encoding(data[:4_096], is_html=True)
    soup = BeautifulSoup(_decode(data, declared), "html.parser")
    outline = _Outline()
    for _, group in groupby(_strings(soup), key=lambda pair: id(pair[0])):  # tags that are equal need not be the same
        blocks, strings = zip(*group, strict=True)
        name, text = blocks[0].name, "".join(strings)
        if name in _HEADINGS:
            outline.heading(_HEADINGS[name], text)
        else:
            outline.paragraph(text if name == "pre" else " ".join(text.split()))
    found = outline.reading()
    title = soup.title.get_text() if soup.title is not None else ""
    return Reading(found.title or title, found.sections)


def read_pdf(data: bytes) -> Reading:
    """A section for each page. Raises UnreadableDocument."""
    try:
        from pypdf import PdfReader  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UnreadableDocument('to read PDF files, install the extra: pip install "yeoul[docs]"') from error

    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of each irregularity, and reads the file anyway
    try:
        reader = PdfReader(BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadableDocument("it is protected with a password")
        if len(reader.pages) > MAX_PDF_PAGES:
            raise UnreadableDocument(f"it has more than {MAX_PDF_PAGES} pages: split it")
        title = str((reader.metadata.title if reader.metadata else None) or "")
        texts = [plain_text(page.extract_text()) for page in reader.pages]
    except UnreadableDocument:
        raise
    except Exception as error:  # pypdf raises many kinds for a file that is not a PDF
        raise UnreadableDocument(f"it is not a readable PDF file ({type(error).__name__})") from error
    if not any(text.strip() for text in texts):
        raise UnreadableDocument("it contains no text: if it is scanned, run OCR on it first")
    pages = [Section(f"p. {number}", _paragraphs(text)) for number, text in enumerate(texts, 1)]
    return Reading(title.strip() or _first_line("\n".join(texts)), pages)


def _decode(data: bytes, declared: str | None = None) -> str:
    """Raises UnreadableDocument for data that is not text, or whose encoding is unknown."""
    marked = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)
    if marked is None and b"\0" in data:
        raise UnreadableDocument("it is a binary file, not text")
    for encoding in [marked] if marked else filter(None, [declared, *_ENCODINGS]):
        try:
            return plain_text(data.decode(encoding))
        except (UnicodeDecodeError, LookupError):
            continue
    raise UnreadableDocument("its encoding is unknown: save it as UTF-8")


def _paragraphs(text: str) -> list[str]:
    lines = (line.rstrip() for line in text.split("\n"))
    return ["\n".join(group) for blank, group in groupby(lines, key=lambda line: not line) if not blank]


def _first_line(text: str) -> str:
    line = next((line.strip() for line in text.split("\n") if line.strip()), "")
    return line if len(line) <= _TITLE_CHARS else ""


def _text_of(block: Iterable[Token]) -> str:
    """The text of one block of Markdown; each item of a list and each row of a table is a line."""
    text = ""
    for token in block:
        match token.type:
            case "inline":
                text += _inline(token)
            case "fence" | "code_block":
                text += token.content
            case "td_close" | "th_close":
                text += " | "
            case "paragraph_close" | "tr_close" | "heading_close" if not text.endswith("\n"):
                text = text.removesuffix(" | ") + "\n"
    return text


def _inline(token: Token) -> str:
    parts = {"hardbreak": "\n", "softbreak": " ", "html_inline": " "}
    shown = ("text", "code_inline", "image")
    return "".join(
        child.content if child.type in shown else parts.get(child.type, "") for child in token.children or ()
    )


def _strings(root: Tag) -> Iterator[tuple[Tag, str]]:
    """The strings that are read, in order, each with its block."""
    from bs4.element import PreformattedString, Tag  # noqa: PLC0415

    waiting: list[tuple[Tag, object]] = [(root, root)]
    while waiting:  # without recursion: pages may be nested to any depth
        block, node = waiting.pop()
        if isinstance(node, Tag) and node.name not in _UNREAD:
            inner = node if node.name in _BLOCKS else block
            waiting.extend((inner, child) for child in reversed(node.contents))
        elif isinstance(node, str) and not isinstance(node, PreformattedString):  # a comment, a doctype
            yield block, node

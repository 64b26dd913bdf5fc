"""Files as documents: titles, sections, passages, and why a file is not read."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from support.pdf import pdf
from yeoul.documents import document as documents
from yeoul.documents import markup
from yeoul.documents.document import Document, find_files, read, read_file
from yeoul.documents.passages import OVERLAP_CHARS, PASSAGE_CHARS, Section, cut
from yeoul.errors import UnreadableDocument

MARKDOWN = """\
# 양파 **수프**

Intro with a [link](https://example.com/x) and `code`.

<!-- not for readers -->

## Things

- onions
- potatoes

| thing | count |
| --- | --- |
| onion<br>red | 2 |

### Deep

```sh
make soup
```

## Last

> quoted
"""

HTML = """\
<!doctype html><html><head><title>Page title</title><style>p {}</style></head><body>
<nav>Home | About</nav>
<h1>Main <em>heading</em></h1>
<p>One <b>bold</b> word.<script>alert(1)</script></p>
<div>Loose text<p>inner</p>after</div>
<h2>Part</h2>
<pre>two
lines</pre><!-- a comment --><table><tr><td>a</td><td>b</td></tr></table>
</body></html>
"""


def headings(document: Document) -> list[str]:
    return [piece.heading for piece in document.pieces]


def text(document: Document) -> str:
    return "\n".join(piece.text for piece in document.pieces)


# --- formats


def test_markdown_has_its_headings_as_title_and_way_and_no_marks() -> None:
    document = read(MARKDOWN.encode(), "soup.md")
    assert document.title == "양파 수프"
    assert headings(document) == ["", "Things", "Things › Deep", "Last"]
    assert "Intro with a link and code." in text(document)
    assert "onions\npotatoes" in text(document)
    assert "thing | count\nonion red | 2" in text(document)
    assert "make soup" in text(document)
    assert not any(mark in text(document) for mark in ("**", "`", "https:", "not for readers", "---", ">"))


def test_html_has_what_its_reader_sees() -> None:
    document = read(HTML.encode(), "page.html")
    assert document.title == "Main heading"
    assert headings(document) == ["", "Part"]
    assert document.pieces[0].text == "One bold word.\n\nLoose text\n\ninner\n\nafter"
    assert document.pieces[1].text == "two\nlines\n\na\n\nb"


def test_paragraphs_that_say_the_same_stay_two() -> None:
    assert text(read(b"<p>again</p><p>again</p><ul><li>a</li><li>a</li></ul>", "a.html")) == "again\n\nagain\n\na\n\na"


def test_html_without_a_heading_has_the_title_of_its_head() -> None:
    assert read(b"<title>T &amp; U</title><p>text", "page.htm").title == "T & U"


@pytest.mark.parametrize(
    ("data", "title"),
    [("T\n\nsome text\nmore", "T"), ("\n\n" + "long " * 50, "notes"), ("\ufeffT\r\n\r\nx", "T")],
)
def test_plain_text_begins_with_its_title_if_that_is_short(data: str, title: str) -> None:
    assert read(data.encode(), "notes.txt").title == title


def test_a_pdf_has_a_section_for_each_page() -> None:
    document = read(pdf([["Onion soup", "Peel the onions."], ["Serve it hot."]], "Soups"), "soup.pdf")
    assert document.title == "Soups"
    assert headings(document) == ["p. 1", "p. 2"]
    assert "Peel the onions." in document.pieces[0].text


def test_a_pdf_without_a_title_has_its_first_line_as_one() -> None:
    assert read(pdf([["Onion soup", "Peel the onions."]]), "soup.pdf").title == "Onion soup"


# --- encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
def test_text_in_usual_encodings_is_read(encoding: str) -> None:
    assert text(read("양파를 볶아요".encode(encoding), "a.txt")) == "양파를 볶아요"


def test_a_page_is_read_in_the_encoding_that_it_declares() -> None:
    page = '<meta charset="iso-8859-1"><p>café</p>'
    assert "café" in text(read(page.encode("latin-1"), "a.html"))


def test_a_page_that_declares_what_it_is_not_is_read_all_the_same() -> None:
    page = '<meta charset="no-such"><p>양파</p>'
    assert "양파" in text(read(page.encode(), "a.html"))


def test_what_people_cannot_see_is_left_out() -> None:
    document = read("# a\x1b[31m\x07b\n\nc\x00d".replace("\x00", "\x01").encode(), "a.md")
    assert (document.title, text(document)) == ("a[31mb", "cd")


# --- what is not read


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.md", b"", "it is empty"),
        ("a.md", b" \n\t", "it is empty"),
        ("a.md", b"<!-- nothing -->", "it contains no text"),
        ("a.md", b"# only a title", "it contains no text"),
        ("a.html", b"<script>x</script>", "it contains no text"),
        ("a.txt", b"\x00\x01\x02", "a binary file"),
        ("a.html", b"\x89PNG\r\n\x1a\n\x00", "a binary file"),
        ("a.txt", "caf\u00e9 cr\u00e8me".encode("latin-1"), "save it as UTF-8"),
        ("a.pdf", b"not a pdf", "not a readable PDF file"),
        ("a.pdf", b"%PDF-1.4\n" + b"\xff" * 200, "not a readable PDF file"),
        ("a.pdf", pdf([[]]), "scanned"),
        ("a.docx", b"PK", "use .md"),
        ("README", b"text", "without an extension"),
    ],
)
def test_a_file_that_is_no_document_says_why(name: str, data: bytes, why: str) -> None:
    with pytest.raises(UnreadableDocument, match=why):
        read(data, name)


def test_too_much_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_TEXT_CHARS", 100)
    with pytest.raises(UnreadableDocument, match="more than 100 characters"):
        read(b"x " * 100, "a.txt")


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.txt"
    with file.open("wb") as sparse:
        sparse.truncate(documents.MAX_FILE_BYTES + 1)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("it was read"))
    with pytest.raises(UnreadableDocument, match="larger than 20 MiB"):
        read_file(file)


def test_too_many_pages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markup, "MAX_PDF_PAGES", 1)
    with pytest.raises(UnreadableDocument, match="more than 1 pages"):
        read(pdf([["a"], ["b"]]), "a.pdf")


def test_what_is_not_there_or_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnreadableDocument, match="the file does not exist"):
        read_file(tmp_path / "a.md")
    (tmp_path / "b.md").mkdir()
    os.mkfifo(tmp_path / "c.md")  # reading it would wait for a writer for ever
    for name in ("b.md", "c.md"):
        with pytest.raises(UnreadableDocument, match="not a regular file"):
            read_file(tmp_path / name)


# --- files of a folder


def test_a_folder_is_searched_for_files_that_can_be_read(tmp_path: Path) -> None:
    for name in ("b.md", "a.TXT", "c.png", ".hidden.md", "sub/d.html", ".git/e.md", "node_modules/f.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    found = [str(path.relative_to(tmp_path)) for path in find_files([tmp_path])]
    assert found == ["a.TXT", "b.md", "sub/d.html"]
    assert list(find_files([tmp_path / "c.png"])) == [tmp_path / "c.png"], "what is named is not left out in silence"


# --- passages


def test_paragraphs_are_joined_while_they_fit_and_no_passage_crosses_a_heading() -> None:
    pieces = cut([Section("a", ["one", "two"]), Section("b", ["three"])])
    assert [(piece.heading, piece.text) for piece in pieces] == [("a", "one\n\ntwo"), ("b", "three")]


@pytest.mark.parametrize(
    "paragraph",
    ["word " * 2_000, "가" * 5_000, "A sentence of words. " * 300, "row | of | a table\n" * 300, "x\n" * 3_000],
)
def test_a_long_paragraph_is_cut_into_passages_that_overlap(paragraph: str) -> None:
    texts = [piece.text for piece in cut([Section("", [paragraph])])]
    assert all(0 < len(passage) <= PASSAGE_CHARS for passage in texts)
    for before, after in pairwise(texts):
        overlap = after.split("\n\n")[0]
        assert before.endswith(overlap)
        assert 0 < len(overlap) <= OVERLAP_CHARS
    fresh = [texts[0], *(passage.split("\n\n", 1)[1] for passage in texts[1:])]
    assert "".join("".join(fresh).split()) == "".join(paragraph.split())


def test_a_cut_falls_between_sentences_where_there_are_any() -> None:
    pieces = cut([Section("", ["A sentence of words. " * 100])])
    assert all(piece.text.endswith(".") for piece in pieces)


def test_the_same_bytes_have_the_same_digest_wherever_they_are() -> None:
    assert read(b"text", "a.txt").digest == read(b"text", "b.txt").digest != read(b"text.", "a.txt").digest

"""`yeoul docs`: the documents that `/ask` answers from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from ..documents.document import FORMATS, find_files, read_file
from ..documents.library import COLLECTION, OWN, Library, check_collection
from ..documents.manual import index_manual
from ..errors import UnreadableDocument
from ..settings import Settings
from .console import note, plain_table, reporting_errors, results

__all__ = ["docs"]

docs = typer.Typer(help="Add, list, remove and search the documents that /ask answers from.", no_args_is_help=True)

Collection = Annotated[str | None, typer.Option("--collection", "-c", help="Only this collection.")]


@docs.command("add")
def _add(
    paths: Annotated[list[Path], typer.Argument(help=f"Files ({', '.join(FORMATS)}), and folders of such files.")],
    collection: Annotated[str, typer.Option("--collection", "-c", help="Where to put them.")] = COLLECTION,
) -> None:
    """Add documents, or update those whose text has changed. The folder of the index is the setting data_dir."""
    with _library() as library:
        check_collection(collection)
        if collection == OWN:
            raise ValueError(f"the collection {OWN!r} is for Yeoul's own documentation: choose another name")
        files = list(find_files(paths))
        counts, skipped = _add_all(library, files, collection)
    for path, why in skipped:
        note(f"skipped {path}: {why}")
    if not files:
        note(f"there is nothing to read: no file ends with {', '.join(FORMATS)}")
    summary = ", ".join(f"{counts[what]} {what}" for what in ("added", "updated", "unchanged"))
    note(f"{summary}, {len(skipped)} skipped in collection {collection!r} of {library.path}")
    if not counts.total():
        raise typer.Exit(1)


@docs.command("list")
def _list(collection: Collection = None) -> None:
    """List the documents."""
    with _library() as library:
        entries = library.list(collection)
    if not entries:
        note(f"no documents in {library.path}: `yeoul docs add PATH` adds some")
        return
    table = plain_table("id", "collection", "title", "passages", "from")
    for entry in entries:
        cells = (entry.id, entry.collection, entry.title, entry.passages, entry.source)
        table.add_row(*(Text(str(cell)) for cell in cells))
    results().print(table)


@docs.command("remove")
def _remove(
    which: Annotated[str, typer.Argument(metavar="ID|TITLE", help="The document's id, or its whole title.")],
    collection: Collection = None,
) -> None:
    """Remove a document."""
    with _library() as library:
        entry = library.remove(which, collection)
    note(f"removed {entry.title!r} from collection {entry.collection!r} of {library.path}")
    if entry.collection == OWN:
        note("it is added again at the next start, unless YEOUL_OWN_DOCUMENTS=false")


@docs.command("search")
def _search(
    question: Annotated[str, typer.Argument(help="A question, or words to search for.")],
    collection: Collection = None,
    top_k: Annotated[int, typer.Option(min=1, max=20, help="Passages to show.")] = 4,
) -> None:
    """Show the passages that /ask would use for a question."""
    with _library() as library:
        passages = library.search(question, top_k, collection)
    if not passages:
        note(f"nothing found in {library.path}: use other words, or add documents")
        raise typer.Exit(1)
    table = plain_table("n", "score", "title", "passage")
    for n, passage in enumerate(passages, 1):
        title = f"{passage.title} › {passage.heading}".removesuffix(" › ")
        table.add_row(str(n), f"{passage.score:.2f}", Text(title), Text(passage.snippet))
    results().print(table)


@contextmanager
def _library() -> Iterator[Library]:
    """The library in the folder of the setting data_dir. Errors are printed on one line."""
    with reporting_errors():
        settings = Settings()
        # Absolute: by default each working directory has a folder of its own, and messages must say which one it is.
        path = settings.data_dir.absolute() / "documents.db"
        is_new = not path.exists()
        library = Library(path)
        if is_new:
            note(f"created {path}: each working directory has its own, unless YEOUL_DATA_DIR names a folder")
        try:
            if settings.own_documents:
                index_manual(library)
            yield library
        finally:
            library.close()


def _add_all(
    library: Library, files: Sequence[Path], collection: str
) -> tuple[Counter[str], Sequence[tuple[Path, str]]]:
    """The number of documents by outcome, and the files that were skipped, with the reason."""
    counts: Counter[str] = Counter()
    skipped = []
    bar = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*bar, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(files))
        for path in files:
            progress.update(task, description=path.name)
            try:
                counts[library.add(read_file(path), collection)] += 1
            except UnreadableDocument as error:
                skipped.append((path, str(error)))
            progress.advance(task)
    return counts, skipped

"""Names that are imported when they are first used, and what is said where they cannot be."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from yeoul.lazy import exports


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package with a module that can be imported, one that lacks another package, and one that is broken."""
    folder = tmp_path / "lazily"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "good.py").write_text("class Thing: pass\n")
    (folder / "lacking.py").write_text("import not_installed.part\n")
    (folder / "broken.py").write_text("import yeoul.no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("lazily")
    yield "lazily"
    for name in [name for name in sys.modules if name.partition(".")[0] == "lazily"]:
        del sys.modules[name]


HOMES = {"Thing": ".good", "Lacking": ".lacking", "Broken": ".broken"}


def test_a_name_is_imported_once_when_it_is_used(package: str) -> None:
    find, _ = exports(package, HOMES)
    assert "lazily.good" not in sys.modules
    thing = find("Thing")
    assert thing is sys.modules["lazily.good"].Thing
    assert sys.modules[package].Thing is thing  # found without `__getattr__` from now on


def test_names_are_listed_before_they_are_imported(package: str) -> None:
    _, names = exports(package, HOMES)
    assert set(HOMES) <= set(names())
    assert "lazily.good" not in sys.modules


def test_an_unknown_name_is_an_attribute_error(package: str) -> None:
    find, _ = exports(package, HOMES)
    with pytest.raises(AttributeError, match="module 'lazily' has no attribute 'Other'"):
        find("Other")


def test_a_package_that_is_not_installed_is_named_with_the_extra_that_installs_it(package: str) -> None:
    find, _ = exports(package, HOMES, extra="fastapi")
    with pytest.raises(ImportError, match=r'lazily\.Lacking needs the package \'not_installed\'.* "yeoul\[fastapi\]"'):
        find("Lacking")


def test_a_fault_of_yeoul_itself_is_not_taken_for_a_missing_package(package: str) -> None:
    find, _ = exports(package, HOMES)
    with pytest.raises(ModuleNotFoundError, match=r"yeoul\.no_such_module"):
        find("Broken")

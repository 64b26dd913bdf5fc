"""What is written down agrees with what is there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import make_configuration
import yeoul

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/*.md")]


def test_the_page_of_settings_is_what_make_docs_writes() -> None:
    written = (ROOT / "docs" / "configuration.md").read_text()
    assert written == make_configuration.configuration(), "run `make docs`"


def test_every_setting_says_what_it_is_and_why() -> None:
    from yeoul.settings import Settings

    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_what_the_package_exports_is_there() -> None:
    for name in yeoul.__all__:
        assert getattr(yeoul, name) is not None
    assert set(yeoul.__all__) <= set(dir(yeoul))
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = yeoul.no_such_thing  # type: ignore[attr-defined]


MODULES = sorted(
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
    for path in (ROOT / "src" / "yeoul").rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py") and "migrations" not in path.parts
)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_names_what_it_offers(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, "says what it is for"
    assert module.__all__ == sorted(module.__all__, key=lambda n: (not n.isupper(), not n[:1].isupper(), n))
    for offered in module.__all__:
        assert hasattr(module, offered)


def test_requirements_name_tests_that_exist() -> None:
    named = re.findall(r"`(tests/[\w/.]+\.py)(?:::(\w+))?`", (ROOT / "docs" / "requirements.md").read_text())
    assert named
    for path, test in named:
        assert (ROOT / path).is_file(), path
        assert not test or f"def {test}(" in (ROOT / path).read_text(), f"{path}::{test}"

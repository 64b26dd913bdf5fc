"""Packages whose names are imported when they are first used (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module

__all__ = ["exports"]


def exports(
    package: str, homes: Mapping[str, str], *, extra: str = "fastapi"
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The functions `__getattr__` and `__dir__` of a package that offers the names in `homes`, each from a module.

    The modules are relative to the package, as in `.sse.event`. Where one needs a package that is not installed, the
    ImportError says which, and that `extra` of Yeoul installs it.
    """

    def getattr_(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            found: object = getattr(import_module(homes[name], package), name)
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing in ("", "yeoul"):
                raise
            raise ImportError(
                f"{package}.{name} needs the package {missing!r}, which is not installed: "
                f'pip install "yeoul[{extra}]" (or "yeoul[server]", with `yeoul serve`)',
                name=missing,
            ) from error
        setattr(sys.modules[package], name, found)  # from now on it is found without this function
        return found

    def dir_() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return getattr_, dir_

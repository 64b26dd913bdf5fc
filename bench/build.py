"""The load tools in C, compiled when they are needed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["OUT", "CannotBuild", "tool"]

HERE = Path(__file__).parent
OUT = HERE / "out"


class CannotBuild(Exception):
    """There is no compiler, or it failed; the text says what to do."""


def tool(name: str, out: Path = OUT) -> Path:
    """The program made of `load/<name>.c`, compiled anew where that is newer. Raises CannotBuild."""
    source, program = HERE / "load" / f"{name}.c", out / name
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    gcc = shutil.which("gcc")
    if gcc is None:
        raise CannotBuild("the load tools are written in C: install gcc (apt install gcc libc6-dev)")
    out.mkdir(parents=True, exist_ok=True)
    part = program.with_suffix(f".{os.getpid()}")  # another run may be starting the one that is there
    done = subprocess.run(
        [gcc, "-O2", "-Wall", "-o", str(part), str(source)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise CannotBuild(f"gcc could not compile {source.name}:\n{done.stderr}")
    part.replace(program)
    return program

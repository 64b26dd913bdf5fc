"""Yeoul as people install it: wheels, empty virtual environments, and what runs in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.serving import Served, free_port, listening

__all__ = ["ROOT", "Environment", "build", "pythons"]

ROOT = Path(__file__).parents[2]

# Installing downloads; nothing else here takes longer than a few seconds.
_INSTALL_S = 300


def pythons() -> list[str]:
    """The Python versions on this machine that Yeoul supports, newest last, and each once: paths of interpreters."""
    found = {f"{sys.version_info.major}.{sys.version_info.minor}": sys.executable}
    pyenv = Path.home() / ".pyenv" / "versions"
    for minor in range(11, 20):
        version = f"3.{minor}"
        candidates = [shutil.which(f"python{version}"), *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]
        for path in candidates:
            if path is not None and version not in found and _runs(path):
                found[version] = path
    return [found[version] for version in sorted(found, key=lambda text: int(text.partition(".")[2]))]


def _runs(python: str) -> bool:
    # pyenv has a shim for each version, also for those that are not installed.
    return subprocess.run([python, "-c", "import venv"], capture_output=True, check=False).returncode == 0


def build(folder: Path) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it, as an installer without a wheel would do. Returns their paths."""
    _run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(folder), cwd=ROOT)
    [sdist] = folder.glob("*.tar.gz")
    shutil.unpack_archive(sdist, folder, filter="data")
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=folder / sdist.stem[:-4])
    [wheel] = folder.glob("*.whl")
    return sdist, wheel


class Environment:
    """An empty virtual environment in `folder`."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        _run(python, "-m", "venv", str(folder))
        self.folder = folder
        self.python = str(folder / "bin" / "python")

    def install(self, *requirements: str) -> None:
        _run(
            self.python, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check", *requirements
        )

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """A program of the environment, away from the source, to its end."""
        program = [str(self.folder / "bin" / command[0]), *command[1:]]
        return subprocess.run(
            program, cwd=self.folder, env={**self.env, **env}, capture_output=True, text=True, timeout=60, check=False
        )

    def packages(self) -> dict[str, str]:
        """The name and version of each package that is installed."""
        listed = self.run("python", "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check").stdout
        return dict(line.lower().split("==") for line in listed.split())

    @contextmanager
    def serving(self, app: str, *options: str) -> Iterator[Served]:
        """`uvicorn OPTIONS APP` of the environment, once it listens."""
        port = free_port()
        command = [self.python, "-m", "uvicorn", "--port", str(port), *options, app]
        with listening(command, port, env={**self.env, "PYTHONPATH": str(self.folder)}, cwd=self.folder) as served:
            yield served

    @property
    def env(self) -> dict[str, str]:
        """This machine's environment without what points to the source, or is a setting."""
        ours = ("PYTHON", "YEOUL_", "OPENAI_", "HF_", "VIRTUAL_ENV")
        return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def _run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"

"""What `make run` says while it installs: it takes half a minute the first time."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

INSTALL = Path(__file__).parents[2] / "scripts" / "install.sh"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a lock file of 40 packages, and a virtual environment whose pip fetches them as long as there is no
    `broken` beside it."""
    (tmp_path / "lock.txt").write_text("# the lock\n" + "".join(f"package-{n}==1.0\n" for n in range(40)))
    pip = tmp_path / "venv" / "bin" / "pip"
    pip.parent.mkdir(parents=True)
    pip.write_text(
        """#!/bin/sh
case "$*" in *--no-deps*) exit 0 ;; esac
[ ! -e broken ] || { echo "Collecting package-0==1.0"; echo "ERROR: no matching distribution" >&2; exit 7; }
sed -n 's/^package/Collecting package/p' lock.txt
echo "Requirement already satisfied: package-3>=1 in venv/lib (from package-1)"
echo "Installing collected packages: package-0, package-1"
"""
    )
    pip.chmod(0o755)
    return tmp_path


def install(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(INSTALL), "venv", "lock.txt"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def test_progress_is_shown_while_packages_are_fetched(folder: Path) -> None:
    done = install(folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "installing the 40 packages of lock.txt into venv (up to a minute the first time) …",
        "  20 of 40: package-19",
        "  40 of 40: package-39",
        "  all fetched, writing them to the disk …",
    ]


def test_a_failure_of_pip_is_the_failure_of_the_command(folder: Path) -> None:
    (folder / "broken").touch()
    done = install(folder)
    assert (done.returncode, done.stderr) == (7, "ERROR: no matching distribution\n")

"""The scripts that install what `make run` and `make test` need."""

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


NODE = Path(__file__).parents[2] / "scripts" / "node.sh"


def node_packages(folder: Path, **tools: str) -> subprocess.CompletedProcess[str]:
    """Runs scripts/node.sh where these are the only tools besides those of every shell script."""
    for name, script in tools.items():
        tool = folder / name
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
    for name in ("sh", "dirname"):
        (folder / name).symlink_to(f"/bin/{name}" if name == "sh" else f"/usr/bin/{name}")
    return subprocess.run(
        ["/bin/sh", str(NODE), "clients/ts"],
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_node_and_apt_the_message_says_what_to_install(tmp_path: Path) -> None:
    done = node_packages(tmp_path)
    assert done.returncode == 1
    assert "please install: nodejs npm" in done.stderr
    assert "Node 20 or newer, and npm" in done.stderr


def test_an_old_node_is_refused_with_its_version(tmp_path: Path) -> None:
    done = node_packages(tmp_path, node="case $1 in --version) echo v18.20.4;; *) exit 1;; esac", npm="exit 9")
    assert done.returncode == 1
    assert "need Node 20 or newer; this is v18.20.4" in done.stderr


def test_the_locked_packages_are_installed_without_their_scripts(tmp_path: Path) -> None:
    done = node_packages(tmp_path, node="exit 0", npm='echo "npm $*"')
    assert done.returncode == 0
    assert "npm ci --prefix clients/ts --ignore-scripts" in done.stdout

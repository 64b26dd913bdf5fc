"""`yeoul` as its users run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["environment", "started", "yeoul"]

WAIT_S = 60


def environment(**env: str) -> dict[str, str]:
    """Without what this machine has set for a server of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("YEOUL_", "OPENAI_", "HF_"))}
    return {**clean, "COLUMNS": "100", **env}


def yeoul(
    *arguments: str, given: str | bytes = b"", cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """To its end; `given` on stdin."""
    done = subprocess.run(
        [sys.executable, "-m", "yeoul", *arguments],
        cwd=cwd,
        env=environment(**env),
        input=given.encode() if isinstance(given, str) else given,
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@contextmanager
def started(*arguments: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """While it runs, with pipes; killed at the end if it has not ended by itself."""
    process = subprocess.Popen(
        [sys.executable, "-m", "yeoul", *arguments],
        env=environment(**env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

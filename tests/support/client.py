"""The TypeScript client in a page: its source, bundled, beside a script of the test."""

from __future__ import annotations

import subprocess
from pathlib import Path

from playwright.async_api import Page, Route

__all__ = ["CLIENT", "bundle", "open_page"]

CLIENT = Path(__file__).parents[2] / "clients" / "ts"


def bundle(source: str, *, module: bool = False) -> str:
    """TypeScript with all that it imports, as one script. `yeoul` and `yeoul/react` are the client's source. `module`:
    it is for a `<script type="module">`, and may wait at its top level."""
    esbuild = CLIENT / "node_modules" / ".bin" / "esbuild"
    assert esbuild.exists(), "the client's packages are missing: `make unit` installs them (npm ci in clients/ts)"
    done = subprocess.run(
        [
            *(
                esbuild,
                "--bundle",
                "--format=esm" if module else "--format=iife",
                "--loader=tsx",
                "--jsx=automatic",
                "--log-level=error",
            ),
            *("--alias:yeoul/react=./src/react.ts", "--alias:yeoul=./src/index.ts"),
            '--define:process.env.NODE_ENV="development"',
        ],
        input=source,
        cwd=CLIENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def open_page(page: Page, port: int, script: str, body: str = "", *, module: bool = False) -> None:
    """A page of the server's origin with this script."""
    inline = script.replace("</", r"<\/")  # within strings only, where both are the same
    kind = "<script type=module>" if module else "<script>"
    html = f"<!doctype html><meta charset=utf-8><body>{body}{kind}{inline}</script></body>"

    async def show(route: Route) -> None:
        await route.fulfill(content_type="text/html; charset=utf-8", body=html)

    address = f"http://127.0.0.1:{port}/page-of-the-test"
    await page.route(address, show)
    await page.goto(address)

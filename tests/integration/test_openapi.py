"""The server is what its OpenAPI document says: thousands of requests, made from the document by Schemathesis.

Of each answer is checked: no 5xx; a status, a content type, headers and a body (each event of a stream, too) that are
documented; a request that breaks the schema is refused; a method that is not there is answered with 405, which names
those that are; with a key, nothing is answered without a token, or with a bad one, that the document says needs one.
`tests/support/schemathesis.toml` says what is left out, and why.

To look for more than this test has time for: `YEOUL_FUZZ_EXAMPLES=200 YEOUL_FUZZ_SEED=7 pytest tests/integration/
test_openapi.py --timeout=0`.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.reader import ask
from support.serving import Served, yeoul_serve
from support.tokens import SECRET, bearer, demo_token, make_jwt

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CONFIG = Path(__file__).parents[1] / "support" / "schemathesis.toml"
EXAMPLES = os.environ.get("YEOUL_FUZZ_EXAMPLES", "5")
SEED = os.environ.get("YEOUL_FUZZ_SEED", "1")

# Of a run with 5 examples for each of 54 operations, and one for each bound of each parameter: about 2200.
AT_LEAST = 1_500

MODES = {
    "demo": ({}, demo_token("tester", roles="admin")),
    "key": ({"YEOUL_JWT_SECRET": SECRET}, make_jwt("tester", roles=["admin"], seconds=86_400)),
}


@pytest.fixture(params=MODES)
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Served, str]]:
    key, token = MODES[request.param]
    # Its streams end by themselves, should one be read on; its bounds on how often are other tests' matter.
    bounds = {
        "YEOUL_MAX_LIFETIME_S": "1",
        "YEOUL_DEMO_PACE_S": "0",
        "YEOUL_LOG_LEVEL": "warning",
        "YEOUL_PUBLISH_RATE": "100000/second",
        "YEOUL_CONNECT_RATE": "100000/second",
    }
    with yeoul_serve(env={**bounds, **key}) as server:
        yield server, token


async def test_the_server_is_what_its_openapi_document_says(served: tuple[Served, str], tmp_path: Path) -> None:
    server, token = served
    code, told = await run_schemathesis(server.port, token, tmp_path)
    assert code == 0, told
    found = re.search(r"(\d+) generated", told)
    assert found is not None, told
    assert int(found[1]) >= AT_LEAST, told
    # Otherwise all of it was about 401.
    assert (await ask(server.port, "/auth/me", headers=bearer(token))).json()["user"] == "tester"
    server.signal()
    _, log = await asyncio.to_thread(server.wait, 30.0)
    assert "Traceback" not in log, log


async def run_schemathesis(port: int, token: str, folder: Path) -> tuple[int, str]:
    """Its exit code and report, in which each failure has its `curl` command. `folder`: for what it keeps."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"]
    command += [f"http://127.0.0.1:{port}/openapi.json", "--header", f"Authorization: Bearer {token}", "--no-color"]
    command += ["--phases", "coverage,fuzzing,stateful", "--max-examples", EXAMPLES, "--continue-on-failure"]
    command += ["--seed", SEED, "--generation-deterministic", "--no-shrink"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out.decode(errors="replace")

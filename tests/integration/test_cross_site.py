"""What pages of other sites may do: link here."""

from __future__ import annotations

import pytest

from support.reader import ask
from support.upstream import Upstream

FOREIGN = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Content-Type": "text/plain"}


@pytest.mark.parametrize("port", ["direct"], indirect=True)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/topics/a"), ("GET", "/sse/chat?message=hi"), ("GET", "/topics/a"), ("DELETE", "/generations/x")],
)
async def test_a_page_of_another_site_can_neither_publish_nor_start_work(
    port: int, upstream: Upstream, method: str, path: str
) -> None:
    answer = await ask(port, path, method=method, headers=FOREIGN, body=b"x" if method == "POST" else b"")
    assert answer.status == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert upstream.requests == []


@pytest.mark.parametrize("port", ["direct"], indirect=True)
async def test_a_link_leads_here_and_own_pages_and_programs_do_as_they_like(port: int) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert (await ask(port, "/", headers=link)).status == 200
    for site in ("same-origin", "same-site", "none"):
        headers = {**FOREIGN, "Sec-Fetch-Site": site}
        assert (await ask(port, "/topics/a", method="POST", headers=headers, body=b"x")).status == 202
    form = {**link, "Content-Type": "text/plain"}
    assert (await ask(port, "/topics/a", method="POST", headers=form, body=b"x")).status == 403, "a form is no link"


@pytest.mark.parametrize("port", ["direct"], indirect=True)
@pytest.mark.parametrize("dest", ["iframe", "document"])
async def test_neither_a_frame_nor_a_link_starts_an_answer(port: int, upstream: Upstream, dest: str) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": dest}
    assert (await ask(port, "/sse/chat?message=hi", headers=headers)).status == 403
    assert upstream.requests == []

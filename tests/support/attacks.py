"""What attackers write by hand: tokens that no library makes, and requests that no client sends."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from support.reader import WAIT_S

__all__ = ["base64url", "exchange", "forge"]


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(header: Mapping[str, Any] | bytes, claims: Mapping[str, Any] | bytes, key: bytes) -> str:
    """A JWS whose parts are these, byte for byte where they are bytes, with an HMAC by this key."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)]
    signed = ".".join(map(base64url, parts))
    return f"{signed}.{base64url(hmac.new(key, signed.encode(), hashlib.sha256).digest())}"


async def exchange(port: int, sent: bytes, *, most: int = 1_000_000) -> bytes:
    """All that a connection answers to these bytes until the server ends it, or has been silent for a moment."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    told = b""
    try:
        writer.write(sent)
        async with asyncio.timeout(WAIT_S):
            while len(told) < most:
                piece = await asyncio.wait_for(reader.read(65_536), 0.3)
                if not piece:
                    break
                told += piece
    except (TimeoutError, ConnectionResetError):
        pass
    finally:
        writer.close()
    return told

"""Bytes → the body in them: the chunked transfer coding (RFC 9112, 7.1), without I/O."""

from __future__ import annotations

import re

__all__ = ["ChunkedDecoder", "InvalidChunk"]

# The line with a chunk's size (8 bytes of digits, and extensions, which are ignored), and all trailers together.
_MAX_LINE = 4_096
_MAX_TRAILERS = 64 * 1024

_HEX = b"0123456789abcdefABCDEF"
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;.*)?")


class InvalidChunk(ValueError):
    """The body is not in chunks: where the response continues or ends is unknown. `before`: the part of the body in the
    bytes before the invalid ones."""

    before = b""


class ChunkedDecoder:
    """Decodes one body, fed in pieces of any size.

    `ended`: the last chunk and its trailers have come; `rest` has what was fed after them. Lines end with CRLF alone.
    """

    __slots__ = ("_left", "_line", "_trailers", "ended", "rest")

    def __init__(self) -> None:
        self.ended = False
        self.rest = b""
        self._left = 0  # of the chunk's data and the CRLF after it
        self._line = b""  # the beginning of a line whose end has not come yet
        self._trailers: int | None = None  # bytes of them, once the last chunk has come

    def feed(self, data: bytes) -> bytes:
        """The part of the body in these bytes. Raises InvalidChunk."""
        if not (self._left or self._line or self._trailers is not None):
            # Nearly all pieces of a stream of tokens are one whole chunk.
            end = data.find(b"\r\n", 0, 10)
            if end > 0 and data[-2:] == b"\r\n" and not data[:end].translate(None, _HEX):
                size = int(data[:end], 16)
                if size and size == len(data) - end - 4:
                    return data[end + 2 : -2]
        return self._feed_any(data)

    def _feed_any(self, data: bytes) -> bytes:
        parts: list[bytes] = []
        try:
            self._decode(data, parts)
        except InvalidChunk as error:
            error.before = b"".join(parts)
            raise
        return b"".join(parts)

    def _decode(self, data: bytes, parts: list[bytes]) -> None:
        at, size = 0, len(data)
        while at < size and not self.ended:
            if self._left:
                at = self._take_data(data, at, parts)
            else:
                end = data.find(b"\n", at) + 1
                self._line += data[at : end or size]
                at = end or size
                if end:
                    self._take_line()
                elif len(self._line) > _MAX_LINE:
                    raise InvalidChunk("the line of a chunk's size is too long")
        if self.ended:
            self.rest += data[at:]

    def _take_data(self, data: bytes, at: int, parts: list[bytes]) -> int:
        body = min(self._left - 2, len(data) - at)
        if body > 0:
            parts.append(data[at : at + body])
            self._left -= body
            at += body
        while at < len(data) and 0 < self._left <= 2:
            if data[at] != b"\n\r"[self._left - 1]:
                raise InvalidChunk("a chunk is longer than its size")
            self._left -= 1
            at += 1
        return at

    def _take_line(self) -> None:
        line, self._line = self._line, b""
        if line[-2:] != b"\r\n":
            raise InvalidChunk("a line ends without CR")
        if self._trailers is not None:
            self._trailers += len(line)
            self.ended = line == b"\r\n"
            if self._trailers > _MAX_TRAILERS:
                raise InvalidChunk("the trailers are too long")
            return
        form = _SIZE.fullmatch(line[:-2])
        if form is None:
            raise InvalidChunk("invalid size of a chunk")
        size = int(form[1], 16)
        if size:
            self._left = size + 2
        else:
            self._trailers = 0

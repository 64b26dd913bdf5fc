"""A second decoder, as plain and slow as can be: the standard's steps one after the other, over single characters.

It shares nothing with `yeoul.sse.decoder`, on purpose, so that the same mistake would have to be made twice. Not even
the text decoding: the steps of the Encoding Standard's UTF-8 decoder stand below. It sees a whole stream at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

REPLACEMENT = "\ufffd"


@dataclass
class Reading:
    """What a reader has after a whole stream: events as (type, data, last event ID), and its two settings."""

    events: list[tuple[str, str, str]] = field(default_factory=list)
    last_event_id: str = ""
    retry_ms: int | None = None


def utf8_decode(data: bytes) -> str:
    """Encoding Standard, 8.1.1, and "UTF-8 decode", which takes one byte order mark off the front."""
    out: list[str] = []
    point, seen, needed, lower, upper = 0, 0, 0, 0x80, 0xBF
    position = 0
    while position < len(data):
        byte = data[position]
        position += 1
        if needed == 0:
            if byte <= 0x7F:
                out.append(chr(byte))
            elif 0xC2 <= byte <= 0xDF:
                needed, point = 1, byte & 0x1F
            elif 0xE0 <= byte <= 0xEF:
                lower = 0xA0 if byte == 0xE0 else lower
                upper = 0x9F if byte == 0xED else upper
                needed, point = 2, byte & 0x0F
            elif 0xF0 <= byte <= 0xF4:
                lower = 0x90 if byte == 0xF0 else lower
                upper = 0x8F if byte == 0xF4 else upper
                needed, point = 3, byte & 0x07
            else:
                out.append(REPLACEMENT)
        elif not lower <= byte <= upper:
            point, seen, needed, lower, upper = 0, 0, 0, 0x80, 0xBF
            position -= 1  # this byte is read again, as the first of something
            out.append(REPLACEMENT)
        else:
            lower, upper = 0x80, 0xBF
            point = point << 6 | byte & 0x3F
            seen += 1
            if seen == needed:
                out.append(chr(point))
                point, seen, needed = 0, 0, 0
    if needed:
        out.append(REPLACEMENT)
    text = "".join(out)
    return text[1:] if text[:1] == "\ufeff" else text


def split_lines(text: str) -> list[str]:
    """The lines that have ended; what follows the last line end is dropped, as at the end of the file."""
    lines: list[str] = []
    line = ""
    position = 0
    while position < len(text):
        char = text[position]
        if char == "\r" and text[position + 1 : position + 2] == "\n":
            position += 1
        if char in ("\r", "\n"):
            lines.append(line)
            line = ""
        else:
            line += char
        position += 1
    return lines


def reference_decode(data: bytes, last_event_id: str = "") -> Reading:
    """HTML Standard, 9.2.6."""
    reading = Reading(last_event_id=last_event_id)
    data_buffer, type_buffer, id_buffer = "", "", last_event_id
    for line in split_lines(utf8_decode(data)):
        if line == "":
            reading.last_event_id = id_buffer
            if data_buffer != "":
                reading.events.append((type_buffer if type_buffer != "" else "message", data_buffer[:-1], id_buffer))
            data_buffer, type_buffer = "", ""
            continue
        if line[0] == ":":
            continue
        name, value = line, ""
        for position, char in enumerate(line):
            if char == ":":
                name, value = line[:position], line[position + 1 :]
                break
        if value[:1] == " ":
            value = value[1:]
        if name == "event":
            type_buffer = value
        elif name == "data":
            data_buffer = data_buffer + value + "\n"
        elif name == "id":
            id_buffer = id_buffer if "\0" in value else value
        elif name == "retry" and value != "" and all(char in "0123456789" for char in value):
            # Digit by digit, since int() has an upper bound; held at 2^53 - 1, as ours is.
            number = 0
            for char in value:
                number = min(number * 10 + "0123456789".index(char), 2**53 - 1)
            reading.retry_ms = number
    return reading


def bounded_prefix(data: bytes, limit: int) -> tuple[bytes, bool]:
    """The part of a stream that a reader with this bound takes, and whether it refuses what comes next.

    Line by line over bytes: a line may have `limit` bytes without its end, the data of an event as many with an LF
    for each of its lines.
    """
    start = position = size = 0
    while position < len(data):
        if data[position] not in b"\r\n":
            position += 1
            if position - start > limit:
                return data[:start], True
            continue
        line = data[start:position]
        after = position + (2 if data[position : position + 2] == b"\r\n" else 1)
        if start == 0 and line[:3] == b"\xef\xbb\xbf":
            line = line[3:]
        if line == b"":
            size = 0
        elif line == b"data" or line[:5] == b"data:":
            size += len(line[6:] if line[5:6] == b" " else line[5:]) + 1
            if size > limit:
                return data[:start], True
        start = position = after
    return data, False

from __future__ import annotations

from yeoul.hub import Encoding
from yeoul.hub.encoding import HEARTBEAT, WIRE
from yeoul.sse import Decoder, Event
from yeoul.stream import Frame


def frame(offset: int, data: str) -> Frame:
    return Frame("k3x9q0w2ab", offset, 0, Event(data), 0.0)


def test_a_heartbeat_is_a_comment_with_one_newline() -> None:
    assert HEARTBEAT == b": keep-alive\n"
    between = Decoder().feed(b"data: x\n\n" + HEARTBEAT + b"data: y\n\n")
    assert [event.data for event in between] == ["x", "y"]


def test_one_frame_is_written_with_its_own_bytes() -> None:
    one = frame(1, "x")
    assert WIRE.join([one]) is one.wire


def test_frames_are_joined_in_order() -> None:
    one, other = frame(1, "x"), frame(2, "y")
    assert WIRE.join([one, other]) == one.wire + other.wire
    assert WIRE.join([]) == b""


def test_chunks_carry_their_length_in_hexadecimal() -> None:
    chunked = Encoding(chunked=True)
    assert chunked.wrap(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    one = frame(1, "x")
    assert chunked.join([one, one]) == b"%x\r\n%b\r\n" % (2 * len(one.wire), one.wire * 2)


def test_nothing_is_not_written_as_a_chunk_which_would_end_the_response() -> None:
    silent = Encoding(lambda frame: b"", chunked=True)
    assert silent.wrap(b"") == b""
    assert silent.join([frame(1, "x")]) == b""
    assert silent.join([frame(1, "x"), frame(2, "y")]) == b""


def test_frames_that_are_not_shown_leave_no_trace() -> None:
    some = Encoding(lambda frame: b"" if frame.offset % 2 else frame.wire)
    assert some.join([frame(1, "x"), frame(2, "y"), frame(3, "z")]) == frame(2, "y").wire

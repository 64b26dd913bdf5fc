"""The chunked transfer coding: every body in any pieces, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yeoul.client.chunked import ChunkedDecoder, InvalidChunk

extensions = st.sampled_from([b"", b";", b"; a=b", b' ;x="y;z"', b" ", b"\t"])
chunks = st.lists(st.tuples(st.binary(min_size=1, max_size=40), extensions), max_size=6)
trailers = st.lists(st.sampled_from([b"A: b\r\n", b"Expires: now\r\n"]), max_size=2)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[start:end] for start, end in zip([0, *at], [*at, len(data)], strict=True)]


def decode(*data: bytes) -> tuple[bytes, ChunkedDecoder]:
    decoder = ChunkedDecoder()
    return b"".join(map(decoder.feed, data)), decoder


@settings(max_examples=300, deadline=None)
@given(chunks, trailers, st.binary(max_size=5), st.booleans(), st.lists(st.integers(0, 400), max_size=8))
def test_a_body_comes_out_as_it_went_in_whatever_the_pieces(
    sent: list[tuple[bytes, bytes]], trailing: list[bytes], rest: bytes, upper: bool, cuts: list[int]
) -> None:
    sizes = [(b"%X" if upper else b"%x") % len(data) for data, _ in sent]
    wire = b"".join(
        size + extension + b"\r\n" + data + b"\r\n" for size, (data, extension) in zip(sizes, sent, strict=True)
    )
    body, decoder = decode(*pieces(wire, cuts))
    assert body == b"".join(data for data, _ in sent)
    assert not decoder.ended
    wire += b"0\r\n" + b"".join(trailing) + b"\r\n"
    body, decoder = decode(*pieces(wire + rest, cuts))
    assert body == b"".join(data for data, _ in sent)
    assert decoder.ended
    assert decoder.rest == rest


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=6))
def test_any_bytes_mean_the_same_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    def outcome(*parts: bytes) -> tuple[bytes, bool] | None:
        try:
            body, decoder = decode(*parts)
        except InvalidChunk:
            return None
        return body, decoder.ended

    assert outcome(data) == outcome(*pieces(data, cuts)) == outcome(*(bytes([byte]) for byte in data))


@pytest.mark.parametrize(
    "wire",
    [
        b"zz\r\n",
        b"-5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5_0\r\n",
        b" 5\r\nhello\r\n",
        b"\r\n",
        b"5\nhello\n",
        b"5\rhello\r\n",
        b"5\r\nhelloXX",
        b"5\r\nhello\rX",
        b"123456789\r\n",
        b"5" * 5_000,
        b"0\r\n" + b"A: b\r\n" * 20_000,
        "５\r\nhello\r\n".encode(),
    ],
)
def test_what_is_not_in_chunks_is_refused(wire: bytes) -> None:
    for parts in ([wire], [wire[:1], wire[1:]]):
        with pytest.raises(InvalidChunk):
            decode(*parts)


@pytest.mark.parametrize("wrong", [b"QQ\r\n", b"2\r\nabc", b"0\n"])
def test_what_comes_before_an_invalid_chunk_is_not_lost(wrong: bytes) -> None:
    with pytest.raises(InvalidChunk) as caught:
        ChunkedDecoder().feed(b"1\r\na\r\n" + wrong)
    assert caught.value.before.startswith(b"a")

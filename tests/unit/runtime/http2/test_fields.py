"""Header blocks, against the library hpack: two opinions on the same bytes."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_runtime.http2.errors import BrokenConnection, ErrorCode
from skerry_runtime.http2.fields import TABLE_BYTES, FieldReader, block_of

texts = st.one_of(
    st.binary(max_size=40), st.sampled_from([b":method", b"POST", b"grpc-timeout", b"te", b""])
)
fields = st.lists(st.tuples(texts, texts), max_size=12)


def reader() -> FieldReader:
    return FieldReader(max_list_bytes=1 << 16, max_fields=100)


@given(st.lists(st.tuples(fields, st.booleans()), max_size=6))
def test_what_another_encoder_writes_is_read_in_any_order_of_blocks(
    blocks: list[tuple[list[tuple[bytes, bytes]], bool]],
) -> None:
    encoder, ours = hpack.Encoder(), reader()
    for wanted, huffman in blocks:
        read, is_all = ours.read(encoder.encode(wanted, huffman=huffman))
        assert read == wanted
        assert is_all


@given(fields)
def test_what_is_written_here_another_decoder_reads_and_its_table_stays_empty(
    wanted: list[tuple[bytes, bytes]],
) -> None:
    decoder = hpack.Decoder()
    read = decoder.decode(block_of(wanted), raw=True)
    assert [(bytes(name), bytes(value)) for name, value in read] == wanted
    assert not decoder.header_table.dynamic_entries


@given(st.binary(max_size=60))
def test_any_bytes_are_read_as_the_other_decoder_reads_them_or_refused(block: bytes) -> None:
    ours, theirs = reader(), hpack.Decoder(max_header_list_size=1 << 16)
    theirs.max_allowed_table_size = TABLE_BYTES
    try:
        read, _ = ours.read(block)
    except BrokenConnection:
        return
    wanted = theirs.decode(block, raw=True)
    assert read == [(bytes(name), bytes(value)) for name, value in wanted]


def test_the_table_forgets_what_is_beyond_its_size() -> None:
    encoder, ours = hpack.Encoder(), reader()
    for number in range(200):
        wanted = [(b"name-%d" % number, b"v" * 100), (b"name-%d" % (number // 2), b"v" * 100)]
        assert ours.read(encoder.encode(wanted))[0] == wanted


def test_changes_tell_whether_the_same_block_still_says_the_same() -> None:
    encoder, ours = hpack.Encoder(), reader()
    first = encoder.encode([(b"a", b"b")])
    ours.read(first)
    before = ours.changes
    again = encoder.encode([(b"a", b"b")])
    assert ours.read(again)[0] == [(b"a", b"b")]
    assert ours.changes == before
    ours.read(encoder.encode([(b"c", b"d")]))
    assert ours.changes > before


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xff\xff\xff\xff\xff\xff\xff\x7f",  # a number without an end
        b"\xff",
        b"\xbe",  # an index beyond the table
        b"\x00\x05a",  # a text that is longer than its block
        b"\x40\x0a",
        b"\x00\x81\x00\x00",  # Huffman: padding that is no padding
        b"\x3f\xe2\x1f",  # a table of 4097 bytes
        b"\x20\x20\x20",  # three changes of its size
        b"\x82\x20",  # a change behind a field
    ],
    ids=bytes.hex,
)
def test_a_block_that_is_none_ends_the_connection(block: bytes) -> None:
    with pytest.raises(BrokenConnection) as caught:
        reader().read(block)
    assert caught.value.code is ErrorCode.COMPRESSION_ERROR


def test_a_bomb_is_read_to_its_end_for_the_table_and_kept_no_further_than_allowed() -> None:
    encoder = hpack.Encoder()
    ours = FieldReader(max_list_bytes=8192, max_fields=100)
    ours.read(encoder.encode([(b"x", b"v" * 4000)]))
    bomb = encoder.encode([(b"x", b"v" * 4000)] * 300 + [(b"new", b"entry")])
    assert len(bomb) < 400
    read, is_all = ours.read(bomb)
    assert not is_all
    assert sum(len(name) + len(value) for name, value in read) <= 8192
    assert ours.read(encoder.encode([(b"new", b"entry")])) == ([(b"new", b"entry")], True)


def test_a_block_of_nothing_but_fields_is_given_up_early() -> None:
    with pytest.raises(BrokenConnection) as caught:
        FieldReader(8192, 100).read(b"\x82" * 32_000)
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM

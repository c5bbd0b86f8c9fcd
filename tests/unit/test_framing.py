"""Frames: whatever arrives in whatever pieces, and nothing that is not a frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdebug.errors import ProtocolViolation
from kdebug.protocol import framing
from kdebug.protocol.framing import Frame, FrameDecoder, Pieces
from kdebug.protocol.hello import BANNER, MAX_BEFORE_BANNER, BannerReader

frames = st.builds(
    Frame,
    st.sampled_from(sorted(framing.KIND_NAMES)),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=600),
    st.sampled_from([0, framing.MORE]),
)


@given(st.lists(frames, max_size=8), st.lists(st.integers(1, 700), min_size=1))
def test_any_cutting_gives_the_same_frames(sent: list[Frame], cuts: list[int]) -> None:
    stream = b"".join(framing.encode(frame) for frame in sent)
    decoder, received = FrameDecoder(), []
    position = index = 0
    while position < len(stream):
        step = cuts[index % len(cuts)]
        received += list(decoder.feed(stream[position : position + step]))
        position, index = position + step, index + 1
    assert whole(received, sent) == sent
    assert decoder.pending_bytes == 0


def whole(parts: list[Frame], sent: list[Frame]) -> list[Frame]:
    """The parts of DATA put together: each as long as the frame that was sent."""
    frames: list[Frame] = []
    for part in parts:
        last = frames[-1] if frames else None
        if (
            last is not None
            and last.kind == framing.DATA
            and len(last.payload) < len(sent[len(frames) - 1].payload)
        ):
            assert (part.kind, part.request_id, last.flags) == (framing.DATA, last.request_id, framing.MORE)
            frames[-1] = Frame(part.kind, part.request_id, last.payload + part.payload, part.flags)
        else:
            frames.append(Frame(part.kind, part.request_id, bytes(part.payload), part.flags))
    return frames


def test_header_layout_is_what_the_document_says() -> None:
    assert framing.encode(Frame(2, 7, b"abc", 1)) == b"\xf5\x4b\x02\x01\x00\x00\x00\x07\x00\x00\x00\x03abc"


@pytest.mark.parametrize(
    "bad",
    [
        b"bash: not found\n",
        b"x",
        b"\xf5X",
        b"\xf5\x4b\x63\x00" + bytes(8),
        b"\xf5\x4b\x00\x00" + bytes(8),
        b"\xf5\x4b\x02\x80" + bytes(8),
        b"\xf5\x4b\x02\x00" + bytes(4) + (framing.MAX_PAYLOAD + 1).to_bytes(4, "big"),
    ],
)
def test_garbage_is_refused_at_once(bad: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        list(FrameDecoder().feed(bad))


def test_the_largest_frame_passes_and_a_larger_one_is_a_bug() -> None:
    largest = Frame(framing.DATA, 1, bytes(framing.MAX_PAYLOAD))
    assert list(FrameDecoder().feed(framing.encode(largest))) == [largest]
    assert len(framing.encode(largest)) == 256 * 1024
    with pytest.raises(ValueError):
        framing.encode(Frame(framing.DATA, 1, bytes(framing.MAX_PAYLOAD + 1)))


def test_a_flood_is_never_kept_beyond_one_frame() -> None:
    decoder = FrameDecoder()
    stream = framing.encode(Frame(framing.DATA, 1, bytes(framing.MAX_PAYLOAD))) * 20
    for frame in decoder.feed(stream):
        assert len(frame.payload) == framing.MAX_PAYLOAD
        assert decoder.pending_bytes <= 2 * 256 * 1024


def test_data_is_given_on_without_waiting_for_the_whole_frame() -> None:
    decoder = FrameDecoder()
    stream = framing.encode(Frame(framing.DATA, 7, b"abcdef"))
    assert list(decoder.feed(stream[: framing.HEADER_BYTES])) == []
    assert list(decoder.feed(stream[framing.HEADER_BYTES : -2])) == [
        Frame(framing.DATA, 7, b"abcd", framing.MORE)
    ]
    assert decoder.pending_bytes <= framing.HEADER_BYTES
    assert list(decoder.feed(stream[-2:])) == [Frame(framing.DATA, 7, b"ef")]


def test_small_views_do_not_keep_what_they_are_cut_from() -> None:
    pieces, large, small = Pieces(), bytearray(b"l" * 50_000), bytearray(b"s" * 50_000)
    pieces.add(memoryview(small)[:5000])
    pieces.add(memoryview(large)[:20_000])
    small.clear()
    with pytest.raises(BufferError):
        large.clear()
    assert pieces.take() == b"s" * 5000 + b"l" * 20_000
    large.clear()


def test_an_answer_is_given_whole() -> None:
    decoder = FrameDecoder()
    stream = framing.encode(Frame(framing.ANSWER, 7, b"abcdef"))
    assert [frame for byte in stream for frame in decoder.feed(bytes([byte]))] == [
        Frame(framing.ANSWER, 7, b"abcdef")
    ]


@pytest.mark.parametrize(
    "size", [0, 1, framing.MAX_PAYLOAD, framing.MAX_PAYLOAD + 1, 3 * framing.MAX_PAYLOAD]
)
def test_split_flags_all_but_the_last(size: int) -> None:
    pieces = list(framing.split(framing.ANSWER, 5, bytes(size)))
    assert sum(len(piece.payload) for piece in pieces) == size
    assert [piece.flags for piece in pieces] == [framing.MORE] * (len(pieces) - 1) + [0]
    assert len(pieces) == max(1, -(-size // framing.MAX_PAYLOAD))


def after_banner(*pieces: bytes) -> bytes:
    reader, rest = BannerReader(), None
    for piece in pieces:
        rest = reader.feed(piece) if rest is None else rest + piece
    assert rest is not None, "no banner"
    return rest


def test_the_banner_is_a_line_of_its_own() -> None:
    """A greeting may speak of it in the middle of a line and is skipped all the same."""
    stream = b"this host runs kdebug-agent 1\n" + BANNER + b"frames"
    for cut in range(len(stream) + 1):
        assert after_banner(stream[:cut], stream[cut:]) == b"frames"


def test_how_much_may_come_before_the_banner_does_not_depend_on_the_pieces() -> None:
    most = b"x" * (MAX_BEFORE_BANNER - 1) + b"\n" + BANNER
    for cut in (0, 100, MAX_BEFORE_BANNER, MAX_BEFORE_BANNER + 3):
        assert after_banner(most[:cut], most[cut:]) == b""
        with pytest.raises(ProtocolViolation, match="not a kdebug agent"):
            after_banner(b"x" + most[:cut], most[cut:])

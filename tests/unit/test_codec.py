"""Records survive the wire exactly; what does not fit a record is refused."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdebug.errors import ProtocolViolation
from kdebug.protocol import codec, requests
from kdebug.protocol.files import Entry, Listing
from kdebug.protocol.processes import EnvPage, EnvVar, Process
from kdebug.protocol.search import EntryTable

any_bytes = st.binary(max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
entries = st.builds(
    Entry,
    name=any_bytes,
    kind=st.sampled_from(["file", "dir"]),
    size_bytes=st.none() | st.integers(0, 2**63),
    inode=st.none() | st.integers(0, 2**64 - 1),
    link_target=st.none() | any_bytes,
)


@given(st.builds(Listing, path=any_bytes, entries=st.lists(entries, max_size=5).map(tuple)))
def test_listings_round_trip(listing: Listing) -> None:
    assert codec.from_json(Listing, codec.to_json(listing)) == listing


@given(st.lists(st.builds(EnvVar, any_bytes, st.none() | any_bytes), max_size=5))
def test_environments_round_trip(variables: list[EnvVar]) -> None:
    page = EnvPage(1, tuple(variables))
    assert codec.from_json(EnvPage, codec.to_json(page)) == page


def process(**changes: object) -> Process:
    row = Process(
        1, 2, 0, "init", "S", 4096, 8192, 0.5, 1, 1.7e9, cmdline=("a", "b"), reasons={"fds": "no"}
    )
    return dataclasses.replace(row, **changes)  # type: ignore[arg-type]


def test_process_round_trip_keeps_the_difference_between_null_and_empty() -> None:
    for cmdline in (None, (), ("",)):
        row = process(cmdline=cmdline)
        assert codec.from_json(Process, codec.to_json(row)) == row


@pytest.mark.parametrize(
    "change",
    [
        {"pid": "1"},
        {"pid": True},
        {"pid": 2**128},
        {"pid": 1.5},
        {"name": None},
        {"name": 5},
        {"name": "\ud800"},
        {"name": "\udc7f"},
        {"cmdline": ["a", "\udfff"]},
        {"reasons": {"\ud800": "a"}},
        {"cmdline": "text"},
        {"cmdline": [1]},
        {"cpu_seconds": "1"},
        {"reasons": []},
        {"reasons": {"a": 1}},
        {"surprise": 1},
        {"kernel_thread": 0},
    ],
)
def test_a_field_of_another_kind_is_refused(change: dict[str, object]) -> None:
    plain = codec.to_plain(process()) | change
    with pytest.raises(ProtocolViolation):
        codec.from_json(Process, json.dumps(plain).encode())


@given(st.lists(any_bytes), st.lists(st.integers(-(2**128) + 1, 2**128 - 1)))
def test_columns_round_trip(names: list[str], sizes: list[int]) -> None:
    table = EntryTable("/", tuple(names), sizes=tuple(sizes))
    assert codec.from_json(EntryTable, codec.to_json(table)) == table


@pytest.mark.parametrize(
    "column",
    [
        {"names": ["a", 1]},
        {"names": ["a", "\ud800"]},
        {"names": ["a", None]},
        {"names": "ab"},
        {"sizes": [1, True]},
        {"sizes": [1, 1.0]},
        {"sizes": [1, "1"]},
        {"sizes": [1, [1]]},
        {"sizes": [1, 2**128]},
        {"sizes": [-(2**128), 1]},
        {"sizes": {"1": 1}},
    ],
)
def test_one_wrong_value_in_a_column_is_refused(column: dict[str, object]) -> None:
    with pytest.raises(ProtocolViolation):
        codec.from_plain(EntryTable, {"path": "/"} | column)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff", b'{"pid":NaN}', b"[" * 100_000])
def test_no_json_no_record(text: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        codec.from_json(Process, text)


def test_infinity_by_exponent_is_refused() -> None:
    plain = json.dumps(codec.to_plain(process())).replace("0.5", "1e999")
    with pytest.raises(ProtocolViolation):
        codec.from_json(Process, plain.encode())


def test_a_missing_field_is_refused() -> None:
    plain = codec.to_plain(process())
    del plain["pid"]
    with pytest.raises(ProtocolViolation, match="without pid"):
        codec.from_plain(Process, plain)


def test_every_request_and_answer_can_be_decoded() -> None:
    """Each registered type is one the codec understands, down to its last field."""
    for cls in requests.registered().values():
        codec._decoder(cls)
        codec._decoder(cls.result)


def test_bytes_never_travel_as_json() -> None:
    from kdebug.protocol.files import FileChunk

    chunk = FileChunk("/a", 0, 3, True, 1, 1, 1, data=b"abc")
    assert b"abc" not in codec.to_json(chunk)


def test_a_record_is_a_dataclass_that_is_made_once() -> None:
    """To make one takes milliseconds, and an answer of a thousand rows replaces a field in each."""
    assert dataclasses.fields(EnvVar) == tuple(EnvVar.__dataclass_fields__.values())
    assert EnvVar.__dataclass_fields__ is EnvVar.__dataclass_fields__
    assert dataclasses.replace(EnvVar("A", "b"), value="c") == EnvVar("A", "c")

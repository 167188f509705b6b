"""The file of a recording: round trip, cut-off, damaged and foreign files."""

from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.errors import RecordingError
from client.recording.format import (
    MAGIC,
    Entry,
    Failed,
    Left,
    Lost,
    Opened,
    Received,
    Recording,
    RecordingHeader,
    Sent,
    encode,
)

HEADER = RecordingHeader(
    date="2031-05-06T07:08:09.123+00:00", url="ws://h:1/v1/stream", kfusion="9.9"
)
US = st.integers(0, 2**53)
LINK = st.integers(0, 1000)
MESSAGE = st.one_of(st.text(max_size=200), st.binary(max_size=200))
ENTRIES = st.lists(
    st.one_of(
        st.builds(Opened, US, LINK),
        st.builds(Failed, US, LINK, st.text(max_size=50)),
        st.builds(Sent, US, LINK, MESSAGE),
        st.builds(Received, US, LINK, MESSAGE),
        st.builds(Lost, US, LINK, st.integers(1000, 4999), st.text(max_size=50)),
        st.builds(Left, US, LINK),
    ),
    max_size=8,
)


def written(entries: list[Entry]) -> bytes:
    return MAGIC + b"".join(encode(record) for record in (HEADER, *entries))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recordings") / "one.kfr"


def read_all(path: Path, data: bytes) -> tuple[list[Entry], Recording]:
    path.write_bytes(data)
    recording = Recording(path)
    return list(recording.entries()), recording


def test_the_bytes_of_a_record_are_documented() -> None:
    assert MAGIC == b"KFR1"
    data = b"\x94\xa4sent\x05\x00\xc4\x02\x01\x02"  # ["sent", 5, 0, bytes 1, 2]
    assert encode(Sent(5, 0, b"\x01\x02")) == b"\x0c\x00\x00\x00" + b"\xe6\x66\x17\xde" + data


@given(ENTRIES)
def test_entries_are_read_as_written(path: Path, entries: list[Entry]) -> None:
    read_back, recording = read_all(path, written(entries))
    assert read_back == entries
    assert [type(e) for e in read_back] == [type(e) for e in entries]
    assert (recording.header, recording.torn) == (HEADER, "")


@given(ENTRIES, st.data())
def test_a_cut_off_recording_gives_its_whole_records(
    path: Path, entries: list[Entry], data: st.DataObject
) -> None:
    least = len(written([]))
    whole = written(entries)
    end = data.draw(st.integers(least, len(whole)))
    read_back, recording = read_all(path, whole[:end])
    assert read_back == entries[: len(read_back)]
    assert len(written(list(read_back))) <= end
    if end < len(whole):
        assert end < len(written(entries[: len(read_back) + 1]))
    torn = end != len(written(list(read_back)))
    assert ("cut off at byte" in recording.torn) == torn


@given(ENTRIES.filter(bool), st.integers(1, 4096))
def test_zeros_at_the_end_are_a_cut(path: Path, entries: list[Entry], zeros: int) -> None:
    read_back, recording = read_all(path, written(entries) + bytes(zeros))
    assert read_back == entries
    assert f"cut off at byte {len(written(entries))}" in recording.torn


@given(ENTRIES.filter(bool), st.data())
def test_a_changed_byte_is_found(path: Path, entries: list[Entry], data: st.DataObject) -> None:
    whole = bytearray(written(entries))
    at = data.draw(st.integers(len(written([])), len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(whole))
    recording = Recording(path)
    read_back: list[Entry] = []
    try:
        read_back.extend(recording.entries())
    except RecordingError as error:
        assert f"{path}: the record at byte" in str(error)
    else:
        assert recording.torn
    assert read_back == entries[: len(read_back)] and len(read_back) < len(entries)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", r"begins with b''; wanted b'KFR1'"),
        (b"RIFF....WAVE", r"begins with b'RIFF'; wanted b'KFR1'"),
        (MAGIC, r"no header .*; wanted a recording"),
        (MAGIC + b"\x05\x00", r"no header \(.*cut off at byte 4"),
        (MAGIC + encode(Left(0, 0)), r"no header \("),
        (MAGIC + encode(RecordingHeader("", kfusion="7.0", format=2)), r"format 2; wanted 1.*7\.0"),
    ],
)  # fmt: skip
def test_another_file_is_refused(path: Path, data: bytes, says: str) -> None:
    path.write_bytes(data)
    with pytest.raises(RecordingError, match=rf"one\.kfr.*{says}"):
        Recording(path)


@pytest.mark.parametrize("other", [HEADER, Sent(1, 0, cast(str, 5))])
def test_a_record_of_another_kind_is_named(path: Path, other: RecordingHeader | Sent) -> None:
    data = written([Opened(1, 0)]) + encode(other)
    with pytest.raises(RecordingError, match=r"record 2: .*; wanted one of format 1"):
        read_all(path, data)


def test_a_missing_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"none\.kfr: cannot be read \(No such file"):
        Recording(tmp_path / "none.kfr")

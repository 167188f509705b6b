import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfusion import wire
from kfusion.errors import BadMessage
from kfusion.landmarks import NEUTRAL

POINTS = NEUTRAL.tolist()


def test_golden_bytes_of_a_binary_message() -> None:
    values = np.zeros((2, 136), np.float32)
    values[0, 0], values[1, 135] = 1.5, -2.0
    data = wire.encode_frames(wire.FrameBlock("points", 0x0102030405, 1_000_000, values))
    header = bytes.fromhex("4b464c31 01 00 0200 0504030201000000 40420f0000000000")
    assert data[:24] == header
    assert data[24:28] == bytes.fromhex("0000c03f")
    assert data[-4:] == bytes.fromhex("000000c0")
    assert len(data) == 24 + 2 * 136 * 4


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (wire.Silence(16), '{"type":"silence","samples":16}'),
        (wire.Mark("x"), '{"type":"mark","id":"x"}'),
        (wire.Reset(), '{"type":"reset"}'),
        (wire.EndOfAudio(), '{"type":"end"}'),
        (wire.SetIdentity("a"), '{"type":"identity","id":"a"}'),
        (wire.SetEmotion({"happy": 0.5}), '{"type":"emotion","weights":{"happy":0.5},"ramp":0.3}'),
        (
            wire.Dropped(3, 2, "reset"),
            '{"type":"dropped","first":3,"count":2,"reason":"reset"}',
        ),
        (wire.End(90, 1, 3.0), '{"type":"end","frames":90,"dropped":1,"seconds":3.0}'),
        (
            wire.Error("idle", "why", True),
            '{"type":"error","code":"idle","message":"why","fatal":true}',
        ),
        (wire.ResetDone(4, 99), '{"type":"reset","n":4,"audio_position":99}'),
        (wire.Frame(3, 0.1, [1.5]), '{"type":"frame","n":3,"t":0.1,"points":[1.5]}'),
    ],
)
def test_golden_text(message: Any, text: str) -> None:
    assert wire.encode(message) == text


def test_start_has_the_protocols_defaults() -> None:
    start = wire.parse_client('{"type":"start"}')
    assert isinstance(start, wire.Start)
    assert (start.audio.rate, start.audio.channels, start.audio.format) == (16_000, 1, "s16le")
    assert (start.hop, start.lookahead, start.encoding, start.mode) == (3, 3, "json", "live")
    assert (start.identity, start.emotion, start.life, start.seed) == ("neutral", {}, 0, 0)
    assert (start.outputs, start.media, start.resume) == (("points",), "socket", wire.UNSET)


def test_unknown_fields_are_ignored_both_ways() -> None:
    assert wire.parse_client('{"later":[{}],"type":"reset"}') == wire.Reset()
    assert wire.parse_server('{"type":"mark","id":"a","n":1,"new":2}') == wire.MarkReached("a", 1)


def test_a_client_ignores_unknown_types_and_a_server_answers_them() -> None:
    assert wire.parse_server('{"type":"later"}') is None
    with pytest.raises(BadMessage, match=r"later.*wanted type start"):
        wire.parse_client('{"type":"later"}')


BAD: list[tuple[str, str]] = [
    ("", "not JSON"),
    ("{", "not JSON"),
    ("[]", "object"),
    ("null", "object"),
    ("{}", "type"),
    ("[" * 100_000, "object"),
    ('{"type":"reset","x":' + "[" * 100_000, "not JSON"),
    ('{"type":"start","hop":7}', r"hop.*1, 2, 3, 5"),
    ('{"type":"start","hop":30,"lookahead":1}', "at most 30"),
    ('{"type":"start","lookahead":-1}', "lookahead"),
    ('{"type":"start","audio":{"rate":7999}}', r"8000.*rate"),
    ('{"type":"start","audio":{"rate":96001}}', r"96000.*rate"),
    ('{"type":"start","audio":{"rate":16000.5}}', "rate"),
    ('{"type":"start","audio":{"channels":3}}', "channels"),
    ('{"type":"start","audio":{"format":"mp3"}}', "format"),
    ('{"type":"start","encoding":"xml"}', "encoding"),
    ('{"type":"start","life":1.5}', "life"),
    ('{"type":"start","outputs":[]}', "outputs"),
    ('{"type":"emotion"}', "weights"),
    ('{"type":"emotion","weights":{"happy":NaN}}', "not JSON"),
    ('{"type":"emotion","weights":{"happy":1e999}}', "weights"),
    ('{"type":"emotion","weights":{"happy":"1"}}', "weights"),
    ('{"type":"emotion","weights":{},"ramp":-1}', "ramp"),
    ('{"type":"silence","samples":-1}', "samples"),
    ('{"type":"mark"}', "id"),
    (json.dumps({"type": "mark", "id": "é" * 129}), "258 bytes"),
    (json.dumps({"type": "identity", "id": "a", "points": POINTS[:67]}), "68"),
    (json.dumps({"type": "identity", "id": "a", "points": [*POINTS, [0, 0]]}), "68"),
    (json.dumps({"type": "identity", "id": "a", "points": POINTS, "image": ""}), "one of them"),
]


@pytest.mark.parametrize(("text", "says"), BAD, ids=[t[:40] for t, _ in BAD])
def test_a_bad_message_says_what_and_where(text: str, says: str) -> None:
    with pytest.raises(BadMessage, match=says):
        wire.parse_client(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
kinds = st.sampled_from(
    ["start", "silence", "emotion", "identity", "mark", "reset", "end", "offer", "x"]
)
fields = st.sampled_from(
    ["audio", "hop", "lookahead", "samples", "weights", "ramp", "id", "points", "image", "resume",
     "identity", "emotion", "life", "sdp", "mode"]
)  # fmt: skip


@given(st.one_of(st.text(), json_values.map(json.dumps)))
def test_any_text_is_a_message_or_a_bad_message(text: str) -> None:
    for parse in (wire.parse_client, wire.parse_server):
        try:
            parse(text)
        except BadMessage as error:
            assert str(error)


@given(kinds, st.dictionaries(fields, json_values, max_size=4))
def test_any_fields_are_a_message_or_a_bad_message(kind: str, rest: dict[str, Any]) -> None:
    try:
        message = wire.parse_client(json.dumps({"type": kind, **rest}))
    except BadMessage:
        return
    assert wire.parse_client(wire.encode(message)) == message


@given(st.binary(max_size=2000))
def test_any_bytes_are_frames_or_a_bad_message(data: bytes) -> None:
    for candidate in (data, b"KFL1\x01\x00" + data):
        try:
            block = wire.decode_frames(candidate)
        except BadMessage:
            continue
        assert len(block.values) > 0


@given(st.integers(1, 40), st.integers(0, 2**63), st.integers(0, 2**63), st.integers(0, 2**32 - 1))
def test_binary_frames_come_back(count: int, first: int, clock: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(0, 500, (count, 136)).astype(np.float32)
    block = wire.decode_frames(wire.encode_frames(wire.FrameBlock("points", first, clock, values)))
    assert (block.first, block.clock_us, block.output) == (first, clock, "points")
    assert np.array_equal(block.values, values)


@given(st.floats(-1e4, 1e4, width=32))
def test_json_keeps_float32s_precision(value: float) -> None:
    frame = wire.parse_server(wire.encode(wire.Frame(0, 0.0, [value])))
    assert isinstance(frame, wire.Frame)
    assert np.float32(frame.points[0]) == np.float32(value)


def test_the_schema_describes_every_message() -> None:
    schema = json.loads(wire.json_schema())
    tags = {
        part["properties"]["type"]["enum"][0]
        for part in schema["$defs"].values()
        if "type" in part.get("properties", {})
    }
    assert tags == {*wire.SERVER_TYPES, "start", "silence", "offer"}
    assert schema["$defs"]["Start"]["properties"]["hop"]["enum"] == [1, 2, 3, 5, 6, 10, 15, 30]

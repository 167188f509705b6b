"""Bytes that nobody meant: only the wire's own errors come of them.

    FUZZ_SECONDS=120 FUZZ_SEED=7 python -m pytest tests/system/test_fuzz.py -s

Seeded and bounded by time; a failure names the seed and the number of the input.
"""

import contextlib
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from kfusion import wire
from kfusion.audio import Format, decode_pcm
from kfusion.errors import BadAudio, BadMessage, WireError
from kfusion.landmarks import NEUTRAL
from kfusion.runtime import SyntheticEngine
from server.session.session import Session
from server.session.states import State
from tests.conftest import decoded

SECONDS: Final = float(os.environ.get("FUZZ_SECONDS", "6")) / 4  # for each of the tests below
SEED: Final = int(os.environ.get("FUZZ_SEED", "1"))
POINTS: Final = NEUTRAL.tolist()
FORMATS: Final[tuple[Format, ...]] = ("s16le", "f32le")

CLIENT: Final[list[dict[str, Any]]] = [
    {"type": "start"},
    {"type": "start", "audio": {"rate": 48000, "channels": 2, "format": "f32le"}, "hop": 1,
     "lookahead": 0, "encoding": "binary", "outputs": ["points", "vrm"], "life": 0.5, "seed": 3},
    {"type": "start", "mode": "file", "identity": {"points": POINTS}, "emotion": {"happy": 0.5}},
    {"type": "start", "resume": {"token": "t", "next": 3}},
    {"type": "silence", "samples": 4800},
    {"type": "emotion", "weights": {"sad": 0.25, "angry": 0.5}, "ramp": 0.1},
    {"type": "identity", "id": "me", "points": POINTS},
    {"type": "identity", "id": "me", "image": "aGVsbG8="},
    {"type": "mark", "id": "here"},
    {"type": "reset"},
    {"type": "offer", "sdp": "v=0"},
    {"type": "end"},
]  # fmt: skip
ODD: Final[list[Any]] = [
    None, True, -1, 0, 1e308, -0.0, 2**63, 2**64, 10**400, "", "\ud800", "\x00" * 300, [], {}, [[]],
    {"type": "start"}, "NaN", 1e-320, [1] * 1000,
]  # fmt: skip
RAW: Final = [
    "", "{", "[" * 5000, '{"a":' * 3000, '{"type":"start","type":"end"}', '{"type":NaN}',
    "\ufeff{}",
    '{"type":"silence","samples":1e999}', '{"type":"mark","id":"\\ud800"}', "null", "0",
]  # fmt: skip


def mutated(rng: random.Random, value: Any, depth: int = 0) -> Any:
    """The value with something in it replaced, left out or doubled."""
    if depth > 4 or rng.random() < 0.15:
        return rng.choice(ODD)
    if isinstance(value, dict) and value:
        out: dict[str, Any] = dict(value)
        key = rng.choice(list(out))
        match rng.randrange(4):
            case 0:
                del out[key]
            case 1:
                out[rng.choice(["type", "id", "x", ""])] = rng.choice(ODD)
            case _:
                out[key] = mutated(rng, out[key], depth + 1)
        return out
    if isinstance(value, list) and value:
        many: list[Any] = list(value)
        at = rng.randrange(len(many))
        many[at : at + 1] = rng.choice([[], [many[at]] * 2, [mutated(rng, many[at], depth + 1)]])
        return many
    return rng.choice(ODD)


def torn(rng: random.Random, text: str) -> str:
    """The text with a few characters changed, or cut off."""
    chars = list(text)
    for _ in range(rng.randrange(1, 4)):
        if chars:
            chars[rng.randrange(len(chars))] = chr(
                rng.choice([0, 34, 44, 91, 123, 0xD800, 0x1F600])
            )
    return "".join(chars[: rng.randrange(len(chars) + 1)] if rng.random() < 0.3 else chars)


def text_of(rng: random.Random, messages: list[dict[str, Any]]) -> str:
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice(RAW)
    if kind == 1:
        return "".join(chr(rng.randrange(1, 0x300)) for _ in range(rng.randrange(60)))
    message: Any = rng.choice(messages)
    if kind == 2:
        return torn(rng, json.dumps(message))
    for _ in range(rng.randrange(3)):
        message = mutated(rng, message)
    return json.dumps(message)


def bytes_of(rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice([0, 1, 2, 3, 4, 7, 320, 641, 3200, 9600]))


def inputs(name: str) -> Iterator[random.Random]:
    """A generator of its own for each input, until the time is up; says how many there were."""
    until, count = time.monotonic() + SECONDS, 0
    try:
        while time.monotonic() < until or count < 50:
            yield random.Random(f"{SEED} {name} {count}")
            count += 1
    finally:
        print(f"\n{name}: seed {SEED}, {count} inputs", end="")


def harmless(work: Callable[[], object], *allowed: type[Exception]) -> None:
    with contextlib.suppress(*allowed):
        work()


def test_what_a_client_may_send_is_read_or_refused() -> None:
    for rng in inputs("client text"):
        text = text_of(rng, CLIENT)
        harmless(lambda text=text: wire.parse_client(text), WireError)


def test_sound_is_decoded_or_refused() -> None:
    for rng in inputs("sound"):
        data, form = bytes_of(rng), rng.choice(FORMATS)
        try:
            samples = decode_pcm(data, form, rng.choice([1, 2]))
        except BadAudio:
            continue
        assert abs(samples).max(initial=0) <= 1


def test_what_a_server_may_send_is_read_or_refused() -> None:
    block = wire.encode_frames(wire.FrameBlock("points", 3, 5, NEUTRAL.reshape(1, -1).astype("f4")))
    said: list[dict[str, Any]] = [
        {"type": "frame", "n": 1, "t": 0.03, "points": [0.5] * 136},
        {"type": "dropped", "first": 1, "count": 2, "reason": "overload"},
        {"type": "error", "code": "busy", "message": "m", "fatal": True, "retry_after_s": 3},
        {"type": "mark", "id": "a", "n": 2}, {"type": "reset", "n": 2, "audio_position": 7},
        {"type": "end", "frames": 3, "dropped": 0, "seconds": 0.1}, {"type": "of a later version"},
    ]  # fmt: skip
    for rng in inputs("server"):
        text = text_of(rng, said)
        harmless(lambda text=text: wire.parse_server(text), BadMessage)
        data = bytearray(block)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data) if rng.random() < 0.2 else 24)] = rng.randrange(256)
        data = data[: rng.randrange(len(data) + 1)] if rng.random() < 0.2 else data
        harmless(lambda data=data: wire.decode_frames(bytes(data)), BadMessage)


def test_a_session_answers_whatever_it_is_told() -> None:
    engine = SyntheticEngine()
    for rng in inputs("conversation"):
        now, session = 0.0, Session(wire.Model("fuzz", ""), wire.Limits(), 0.0)
        if rng.random() < 0.9:
            session.receive(json.dumps(rng.choice(CLIENT[:3])), now)
        for _ in range(rng.randrange(1, 30)):
            now += rng.choice([0.0, 0.02, 0.5, 40.0])
            session.tick(now)
            session.receive(bytes_of(rng) if rng.random() < 0.5 else text_of(rng, CLIENT), now)
            while (job := session.take_window(now)) is not None:
                face = job.rendering.identity.canonical
                said = engine.step(job.window.audio[None], face[None], job.emotion[None])
                session.complete(job, said[0] if rng.random() < 0.9 else None, now)
            while (message := session.next_message(now)) is not None:
                assert decoded(message) is not None
        assert (session.state is State.CLOSED) <= (session.closing is not None)


@pytest.mark.parametrize("text", RAW)
def test_texts_that_once_were_trouble_are_refused_by_name(text: str) -> None:
    with pytest.raises(BadMessage):
        wire.parse_client(text)

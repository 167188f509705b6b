"""Stream protocol, version 1: every message, and the binary frames.

Text messages are JSON objects with a ``type``; the classes below are their schema, for both
directions. Unknown fields are ignored. A binary message of the server holds consecutive frames
of one kind::

    0        4     5      6       8              16                24
    "KFL1"   kind  flags  count   n of the first clock, us         count * width float32
    4s       u8    u8 0   u16     u64            u64               little endian

Binary messages of the client are raw PCM.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType
from numpy.typing import NDArray

from kfusion.audio import MAX_RATE, MIN_RATE
from kfusion.config import FPS
from kfusion.emotion import EMOTIONS
from kfusion.errors import BadMessage
from kfusion.landmarks import COUNT
from kfusion.stream import latency_ms

PROTOCOL: Final = 1
SUBPROTOCOL: Final = "kfusion.v1"
PATH: Final = "/v1/stream"
MESSAGE_BYTES: Final = 1 << 20

Pair = tuple[float, float]
Points = Annotated[list[Pair], Meta(min_length=COUNT, max_length=COUNT)]
Output = Literal["points", "arkit52", "vrm"]
DropReason = Literal["slow_reader", "overload", "reset", "resume"]


# Client to server


class AudioFormat(Struct, frozen=True):
    rate: Annotated[int, Meta(ge=MIN_RATE, le=MAX_RATE)] = 16_000
    channels: Literal[1, 2] = 1
    format: Literal["s16le", "f32le"] = "s16le"


class GivenPoints(Struct, frozen=True):
    points: Points


class ResumeFrom(Struct, frozen=True):
    token: str
    next: Annotated[int, Meta(ge=0)]


class Start(Struct, frozen=True, tag_field="type", tag="start"):
    audio: AudioFormat = AudioFormat()
    encoding: Literal["json", "binary"] = "json"
    outputs: Annotated[tuple[Output, ...], Meta(min_length=1)] = ("points",)
    hop: Literal[1, 2, 3, 5, 6, 10, 15, 30] = 3
    lookahead: Annotated[int, Meta(ge=0, le=29)] = 3
    mode: Literal["live", "file"] = "live"
    identity: str | GivenPoints = "neutral"
    emotion: dict[str, float] = {}
    life: Annotated[float, Meta(ge=0, le=1)] = 0.0
    seed: int = 0
    media: Literal["socket", "webrtc"] = "socket"
    resume: ResumeFrom | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.hop + self.lookahead > 30:
            raise ValueError(f"hop {self.hop} + lookahead {self.lookahead}: wanted at most 30")


class Silence(Struct, frozen=True, tag_field="type", tag="silence"):
    samples: Annotated[int, Meta(ge=0)]


class SetEmotion(Struct, frozen=True, tag_field="type", tag="emotion"):
    weights: dict[str, float]
    ramp: Annotated[float, Meta(ge=0, le=3600)] = 0.3


class SetIdentity(Struct, frozen=True, tag_field="type", tag="identity", omit_defaults=True):
    id: Annotated[str, Meta(min_length=1, max_length=256)]
    points: Points | UnsetType = UNSET
    image: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.points is not UNSET and self.image is not UNSET:
            raise ValueError("points and image both given; wanted one of them, or id alone")


class Mark(Struct, frozen=True, tag_field="type", tag="mark"):
    id: str

    def __post_init__(self) -> None:
        if len(self.id.encode()) > 256:
            raise ValueError(f"id of {len(self.id.encode())} bytes; wanted at most 256")


class Reset(Struct, frozen=True, tag_field="type", tag="reset"):
    pass


class EndOfAudio(Struct, frozen=True, tag_field="type", tag="end"):
    pass


class Offer(Struct, frozen=True, tag_field="type", tag="offer"):
    sdp: str


ClientMessage = Start | Silence | SetEmotion | SetIdentity | Mark | Reset | EndOfAudio | Offer


# Server to client


class Model(Struct, frozen=True):
    name: str
    sha256: str


class Limits(Struct, frozen=True):
    message_bytes: int = MESSAGE_BYTES
    held_s: float = 60.0
    idle_s: float = 300.0
    session_s: float = 86_400.0
    resume_s: float = 30.0
    identities: int = 64


class Ready(Struct, frozen=True, tag_field="type", tag="ready"):
    protocol: int
    session: str
    resume: str
    fps: int
    points: int
    hop: int
    lookahead: int
    outputs: dict[str, list[str]]
    latency_ms: float
    audio_position: int
    n: int
    model: Model
    emotions: list[str]
    emotion: dict[str, float]
    identity: str | None
    limits: Limits


class Frame(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="frame"):
    n: int
    t: float
    points: list[float] = []
    arkit52: list[float] | UnsetType = UNSET
    vrm: list[float] | UnsetType = UNSET


class EmotionSet(Struct, frozen=True, tag_field="type", tag="emotion"):
    weights: dict[str, float]
    n: int
    ramp: float


class IdentitySet(Struct, frozen=True, tag_field="type", tag="identity"):
    id: str
    n: int
    points: list[Pair]
    note: str | UnsetType = UNSET  # what was changed in a face that was found in a picture
    seen: list[Pair] | UnsetType = UNSET  # and its points as they lie in the picture


class MarkReached(Struct, frozen=True, tag_field="type", tag="mark"):
    id: str
    n: int


class ResetDone(Struct, frozen=True, tag_field="type", tag="reset"):
    n: int
    audio_position: int


class Answer(Struct, frozen=True, tag_field="type", tag="answer"):
    sdp: str


class Dropped(Struct, frozen=True, tag_field="type", tag="dropped"):
    first: int
    count: int
    reason: DropReason


class Error(Struct, frozen=True, tag_field="type", tag="error"):
    code: str
    message: str
    fatal: bool
    retry_after_s: int | UnsetType = UNSET


class End(Struct, frozen=True, tag_field="type", tag="end"):
    frames: int
    dropped: int
    seconds: float


Reply = EmotionSet | IdentitySet | MarkReached | ResetDone | Answer
ServerMessage = Ready | Frame | Reply | Dropped | Error | End


POINT_NAMES: Final = [f"{axis}{i}" for i in range(COUNT) for axis in "xy"]


def ready(
    start: Start,
    *,
    session: str,
    resume: str,
    audio_position: int = 0,
    n: int = 0,
    model: Model,
    emotion: dict[str, float],
    identity: str | None,
    limits: Limits,
    outputs: dict[str, list[str]] | None = None,
) -> Ready:
    """The answer to a ``start``; by default at a session's beginning, with points alone."""
    return Ready(
        protocol=PROTOCOL,
        session=session,
        resume=resume,
        fps=FPS,
        points=COUNT,
        hop=start.hop,
        lookahead=start.lookahead,
        outputs={"points": POINT_NAMES} if outputs is None else outputs,
        latency_ms=latency_ms(start.audio.rate, start.hop, start.lookahead),
        audio_position=audio_position,
        n=n,
        model=model,
        emotions=list(EMOTIONS),
        emotion=emotion,
        identity=identity,
        limits=limits,
    )


_client_decoder = msgspec.json.Decoder(ClientMessage)
_server_decoder = msgspec.json.Decoder(ServerMessage)
_type_decoder = msgspec.json.Decoder(dict[str, Any])
_encoder = msgspec.json.Encoder()

_CLIENT_TYPES: Final = ("start", "silence", "emotion", "identity", "mark", "reset", "end", "offer")
SERVER_TYPES: Final = (
    "ready", "frame", "emotion", "identity", "mark", "reset", "answer", "dropped", "error", "end",
)  # fmt: skip


def encode(message: ClientMessage | ServerMessage) -> str:
    """A message as JSON text."""
    return _encoder.encode(message).decode()


def parse_client(text: str) -> ClientMessage:
    """What a client said. Raises :class:`~kfusion.errors.BadMessage`, saying what and where."""
    try:
        return _client_decoder.decode(text)
    except msgspec.ValidationError as error:
        raise BadMessage(_hint(str(error))) from None
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise BadMessage(
            f"not JSON ({error}); wanted an object with type {', '.join(_CLIENT_TYPES)}"
        ) from None


def _hint(problem: str) -> str:
    if "`$.type`" in problem or "`type`" in problem:
        return f"{problem}; wanted type {', '.join(_CLIENT_TYPES)}"
    if "`$.hop`" in problem:
        return f"{problem}; wanted 1, 2, 3, 5, 6, 10, 15 or 30"
    return problem


def parse_server(text: str) -> ServerMessage | None:
    """What the server said; None for a type this version does not know.

    Raises :class:`~kfusion.errors.BadMessage` for anything else that is not the schema.
    """
    try:
        return _server_decoder.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        problem = str(error)
    try:
        kind = _type_decoder.decode(text).get("type")
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        kind = None
    if isinstance(kind, str) and kind not in SERVER_TYPES:
        return None
    raise BadMessage(f"from the server: {problem}")


KINDS: Final[dict[Output, int]] = {"points": 1, "arkit52": 2, "vrm": 3}
_OUTPUT_OF: Final[dict[int, Output]] = {number: name for name, number in KINDS.items()}
_MAGIC: Final = b"KFL1"
_HEADER: Final = struct.Struct("<4sBBHQQ")
MAX_COUNT: Final = 0xFFFF


@dataclass(frozen=True)
class FrameBlock:
    """``values`` (count, width) float32 of frames ``first`` ...; width 136 for points."""

    output: Output
    first: int
    clock_us: int
    values: NDArray[np.float32]


def encode_frames(block: FrameBlock) -> bytes:
    """1 to 65535 consecutive frames as one binary message."""
    values = np.ascontiguousarray(block.values, "<f4")
    header = _HEADER.pack(_MAGIC, KINDS[block.output], 0, len(values), block.first, block.clock_us)
    return header + values.tobytes()


def decode_frames(data: bytes) -> FrameBlock:
    """The inverse of :func:`encode_frames`.

    Raises :class:`~kfusion.errors.BadMessage` for bytes that are no such message.
    """
    if len(data) < _HEADER.size:
        raise BadMessage(f"binary frames: {len(data)} bytes; wanted at least {_HEADER.size}")
    magic, kind, flags, count, first, clock_us = _HEADER.unpack_from(data)
    if magic != _MAGIC or flags != 0:
        raise BadMessage(f"binary frames: begins {magic!r}, flags {flags}; wanted {_MAGIC!r}, 0")
    if kind not in _OUTPUT_OF:
        raise BadMessage(f"binary frames: kind {kind}; wanted one of {sorted(_OUTPUT_OF)}")
    body = len(data) - _HEADER.size
    if count == 0 or body == 0 or body % (4 * count):
        raise BadMessage(f"binary frames: {body} bytes for {count} frames; wanted whole float32s")
    output = _OUTPUT_OF[kind]
    if output == "points" and body != count * 2 * COUNT * 4:
        raise BadMessage(f"binary frames: {body} bytes for {count} frames of 136 float32")
    values = np.frombuffer(data, "<f4", offset=_HEADER.size).reshape(count, -1)
    return FrameBlock(output, int(first), int(clock_us), values)


def json_schema() -> bytes:
    """JSON Schema (2020-12) of every text message, both directions."""
    (client, server), parts = msgspec.json.schema_components(
        [ClientMessage, ServerMessage], ref_template="#/$defs/{name}"
    )
    return msgspec.json.encode(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "KFusion stream protocol, version 1",
            "anyOf": [{"$ref": "#/$defs/ClientMessage"}, {"$ref": "#/$defs/ServerMessage"}],
            "$defs": {"ClientMessage": client, "ServerMessage": server, **parts},
        }
    )

"""Text messages of the stream protocol, version 1: the schema for both directions."""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from kfusion.config import FPS, MAX_RATE, MIN_RATE
from kfusion.emotion import EMOTIONS
from kfusion.errors import BadMessage
from kfusion.landmarks import COUNT

__all__ = [
    "MESSAGE_BYTES", "PATH", "POINT_NAMES", "PROTOCOL", "SERVER_TYPES", "SUBPROTOCOL", "UNSET",
    "AudioFormat", "ClientMessage", "DropReason", "Dropped", "EmotionSet", "End", "EndOfAudio",
    "Error", "Frame", "IdentityPoints", "IdentitySet", "Limits", "Mark", "MarkReached", "Model",
    "Output", "Pair", "Points", "Ready", "Reply", "Reset", "ResetDone", "ResumeFrom",
    "SdpAnswer", "SdpOffer", "ServerMessage", "SetEmotion", "SetIdentity", "Silence", "Start",
    "UnsetType", "encode", "json_schema", "parse_client", "parse_server", "ready",
]  # fmt: skip

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


class IdentityPoints(Struct, frozen=True):
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
    identity: str | IdentityPoints = "neutral"
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


class SdpOffer(Struct, frozen=True, tag_field="type", tag="offer"):
    sdp: str


ClientMessage = Start | Silence | SetEmotion | SetIdentity | Mark | Reset | EndOfAudio | SdpOffer


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


class SdpAnswer(Struct, frozen=True, tag_field="type", tag="answer"):
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


Reply = EmotionSet | IdentitySet | MarkReached | ResetDone | SdpAnswer
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
    latency_ms: float = 0.0,
) -> Ready:
    """The reply to a ``start``; the defaults are those of a new session with points only."""
    return Ready(
        protocol=PROTOCOL,
        session=session,
        resume=resume,
        fps=FPS,
        points=COUNT,
        hop=start.hop,
        lookahead=start.lookahead,
        outputs={"points": POINT_NAMES} if outputs is None else outputs,
        latency_ms=latency_ms,
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
    """A server's message; None for an unknown type. Raises :class:`~kfusion.errors.BadMessage`."""
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

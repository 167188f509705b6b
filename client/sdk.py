"""Opens a stream::

async with connect("ws://127.0.0.1:8765") as face:
    await face.send(samples)  # float32 in -1..1, or PCM bytes
    await face.end()
    async for frame in face.frames():
        draw(frame.points)  # (68, 2)
"""

import contextlib
import functools
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypedDict, Unpack

from numpy.typing import ArrayLike

from client.recording.recorder import Recorder
from client.stream.clock import Clock, LoopClock
from client.stream.connection import Backoff, Connection
from client.stream.face import Face
from client.stream.messages import start_identity
from client.stream.state import ClientStream
from client.stream.transport import Opener, Transport
from client.stream.websocket import open_websocket
from kfusion import wire
from kfusion.audio import Format
from kfusion.emotion import vector
from kfusion.emotion_timeline import EmotionTimeline
from kfusion.errors import BadMessage

__all__ = ["Backoff", "ConnectionOptions", "Face", "connect"]


@dataclass(frozen=True)
class ConnectionOptions:
    """How a stream is connected. :func:`connect` takes each field as a keyword argument, too.

    Attributes:
        token: The server's token, if it requires one.
        open_timeout: Seconds for connecting, and for the answer to the start.
        reconnect: Whether a lost connection is replaced and the stream resumed, for as long as
            the server keeps the session; a :class:`Backoff` sets the waits between attempts.
        resend: Whether all audio that was lost with a connection is sent again, however late.
            None: in mode "file". A live stream resends only what is still to be played; what is
            past becomes silence, so that it does not fall behind.
        fill_silence: Whether a live stream sends silence when its source stops talking. False for
            a file that is played at live pace.
        transport: Replaces the WebSocket: a connection, e.g. :class:`client.memory.MemoryTransport`
            in tests, or a function that opens one, which reconnecting needs.
        clock: Replaces the event loop's clock.
        record: A file for all messages of the stream, without tokens (docs/recording.md).
    """

    token: str | None = None
    open_timeout: float = 10.0
    reconnect: bool | Backoff = True
    resend: bool | None = None
    fill_silence: bool = True
    transport: Transport | Opener | None = None
    clock: Clock | None = None
    record: str | Path | None = None


class ConnectionKeywords(TypedDict, total=False):
    """The fields of :class:`ConnectionOptions` as keyword arguments."""

    token: str | None
    open_timeout: float
    reconnect: bool | Backoff
    resend: bool | None
    fill_silence: bool
    transport: Transport | Opener | None
    clock: Clock | None
    record: str | Path | None


@contextlib.asynccontextmanager
async def connect(
    url: str,
    *,
    rate: int = 16_000,
    channels: Literal[1, 2] = 1,
    format: Format = "s16le",  # noqa: A002 - the protocol's word
    encoding: Literal["json", "binary"] = "binary",
    hop: int = 3,
    lookahead: int = 3,
    mode: Literal["live", "file"] = "live",
    identity: ArrayLike | str | None = None,
    emotion: Mapping[str, float] | EmotionTimeline | None = None,
    outputs: Iterable[wire.Output] = ("points",),
    life: float = 0.0,
    seed: int = 0,
    options: ConnectionOptions | None = None,
    **connection: Unpack[ConnectionKeywords],
) -> AsyncGenerator[Face, None]:
    """Opens a stream; leaving the block closes it.

    Args:
        url: The server: ws://HOST:8765 or wss://HOST.
        rate: Samples a second of the audio, 8000-96000.
        channels: Channels of the audio. The server mixes two.
        format: Format of the audio on the wire, "s16le" or "f32le".
        encoding: Encoding of the frames on the wire.
        hop: Frames of 1/30 s that the server computes at once. Latency is hop + lookahead.
        lookahead: Frames of audio after a frame that the server waits for.
        mode: "live" at the pace of speech; "file" as fast as the server can, with no frame
            dropped: send and read at once.
        identity: An id, or points (68, 2) of a face at rest in any coordinates, which the frames
            are then in. None: the neutral face.
        emotion: {name: 0..1}, the rest neutral; or an
            :class:`~kfusion.emotion_timeline.EmotionTimeline`, whose emotions are sent at their
            places in the audio.
        outputs: What frames carry besides points: "arkit52", "vrm".
        life: The amount of blinks, brow accents and head motion, 0..1.
        seed: Their random sequence.
        options: How the stream is connected.
        **connection: Fields of :class:`ConnectionOptions`; they replace those of ``options``.

    Raises:
        ConnectionFailed: No connection, or no answer.
        Busy: The server has no room; ``retry_after_s`` says when to try again.
        Unauthorized: The token is missing or wrong.
        BadMessage: A value that no stream can have; ``BadEmotion`` and ``BadIdentity`` for these.
    """
    timeline = emotion if isinstance(emotion, EmotionTimeline) else None
    weights = dict(emotion.initial if isinstance(emotion, EmotionTimeline) else emotion or {})
    vector(weights)
    try:
        start = wire.Start(
            audio=wire.AudioFormat(rate, channels, format),
            encoding=encoding,
            hop=hop,  # type: ignore[arg-type] - checked below, by the schema
            lookahead=lookahead,
            mode=mode,
            identity=start_identity(identity),
            emotion=weights,
            outputs=("points", *(name for name in dict.fromkeys(outputs) if name != "points")),
            life=life,
            seed=seed,
        )
    except ValueError as error:
        raise BadMessage(f"start: {error}") from None
    how = replace(options or ConnectionOptions(), **connection)
    async with _open(url, start, timeline, how) as face:
        yield face


@contextlib.asynccontextmanager
async def _open(
    url: str, start: wire.Start, timeline: EmotionTimeline | None, options: ConnectionOptions
) -> AsyncGenerator[Face, None]:
    clock = options.clock or LoopClock()
    opener, backoff = _opener(url, start, options), _backoff(options)
    stream = ClientStream(
        start,
        fill_silence=options.fill_silence,
        reconnects=backoff is not None,
        resend=options.resend,
        timeline=timeline,
    )
    stream.start_message()  # refuses a bad value before a connection is opened, or a file written
    recorder = None
    if options.record is not None:
        recorder = Recorder(options.record, url, options.token, clock.now)
        opener = recorder.opener(opener)
    with recorder or contextlib.nullcontext():
        transport = await opener()
        connection = Connection(stream, transport, clock, options.open_timeout, opener, backoff)
        face = Face(stream, connection, clock)
        try:
            await face.open()
            yield face
        finally:
            await face.close()


def _opener(url: str, start: wire.Start, options: ConnectionOptions) -> Opener:
    transport = options.transport
    if transport is None:
        return functools.partial(
            open_websocket,
            url,
            token=options.token,
            pings=start.mode == "live",
            open_timeout=options.open_timeout,
        )
    if callable(transport):
        return transport

    async def open_transport() -> Transport:
        return transport

    return open_transport


def _backoff(options: ConnectionOptions) -> Backoff | None:
    """The waits between attempts to reconnect; None where a lost connection is not replaced."""
    if options.transport is not None and not callable(options.transport):
        return None
    return Backoff() if options.reconnect is True else options.reconnect or None

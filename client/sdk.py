"""Connect, send, frames: a stream as a user writes it.

    async with connect("ws://127.0.0.1:8765") as face:
        await face.send(samples)  # float32 in -1..1, or PCM bytes
        async for frame in face.frames():
            draw(frame.points)  # (68, 2)

The protocol lies in protocol.py, what a stream offers in face.py.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator, Iterable, Mapping
from pathlib import Path
from typing import Literal, cast

from numpy.typing import ArrayLike

from client.recording.recorder import Recorder
from client.stream.clock import Clock, LoopClock
from client.stream.connection import Link
from client.stream.face import Face
from client.stream.messages import identity_of
from client.stream.reconnect import Backoff, Reconnection
from client.stream.state import ClientStream
from client.stream.transports import Opener, Transport, open_websocket
from kfusion import wire
from kfusion.audio import Format
from kfusion.emotion import vector
from kfusion.emotion_timeline import EmotionTimeline
from kfusion.errors import BadMessage

__all__ = ["Backoff", "Face", "connect"]


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
    token: str | None = None,
    fill_silence: bool = True,
    reconnect: bool | Backoff = True,
    resend: bool | None = None,
    open_timeout: float = 10.0,
    transport: Transport | Opener | None = None,
    clock: Clock | None = None,
    record: str | Path | None = None,
) -> AsyncGenerator[Face, None]:
    """Opens a stream; leaving the block closes it.

    ``url``: ws://HOST:8765 or wss://. ``rate`` 8000-96000 Hz. ``hop`` and ``lookahead`` in
    frames of 1/30 s: what they sum to is the latency. ``mode`` "file" is as fast as the server
    can, nothing dropped; send and read at once. ``identity``: an id, or points (68, 2) at rest
    in any coordinates, which the frames are then in. ``emotion``: {name: 0..1}, the rest neutral,
    or an :class:`~kfusion.emotion_timeline.EmotionTimeline`, each said in its place between the
    samples that are sent. ``outputs``: what else frames carry besides points, "arkit52" and
    "vrm". ``life`` 0..1: how much of blinks, brow accents and head motion is added, the same for
    the same ``seed``. ``fill_silence``: in live mode, send the
    silence of a source that stops talking; False for a file played at live pace.
    ``reconnect``: open another connection when this one is lost, and go on where it was, for as
    long as the server keeps the session. ``resend``: send again all the sound that was lost with
    it, late though it may be, as mode "file" does; by default a live stream sends again only
    what is still to be spoken, and what is past becomes silence, so that it does not fall behind.
    ``open_timeout`` in seconds, for connecting and for the answer. ``transport``: instead of a
    WebSocket, e.g. :class:`client.memory.MemoryTransport` in tests; or a function that opens one,
    for reconnecting needs another. ``record``: a file for every message of the stream, without
    tokens (record.py).

    Raises :class:`~kfusion.errors.ConnectionFailed`, ``Busy`` (with ``retry_after_s``),
    ``Unauthorized``, or ``BadMessage``, ``BadEmotion``, ``BadIdentity`` for a bad option.
    """
    score = emotion if isinstance(emotion, EmotionTimeline) else None
    weights = dict(emotion.initial if isinstance(emotion, EmotionTimeline) else emotion or {})
    vector(weights)
    try:
        start = wire.Start(
            audio=wire.AudioFormat(rate, channels, format),
            encoding=encoding,
            hop=hop,  # type: ignore[arg-type] - checked below, by the schema
            lookahead=lookahead,
            mode=mode,
            identity=identity_of(identity),
            emotion=weights,
            outputs=("points", *(name for name in dict.fromkeys(outputs) if name != "points")),
            life=life,
            seed=seed,
        )
    except ValueError as error:
        raise BadMessage(f"start: {error}") from None
    clock = clock or LoopClock()
    opener: Opener | None = None
    if transport is None:
        opener = functools.partial(
            open_websocket, url, token=token, pings=mode == "live", open_timeout=open_timeout
        )
    elif callable(transport):
        opener = transport
    reconnection = None
    if reconnect and opener is not None:
        backoff = Backoff() if reconnect is True else reconnect
        reconnection = Reconnection(opener, backoff, clock, open_timeout)
    stream = ClientStream(
        start,
        fill_silence=fill_silence,
        reconnects=reconnection is not None,
        resend=resend,
        score=score,
    )
    stream.open()  # tells a bad option before a server is asked, or a file is written
    recorder = None if record is None else Recorder(record, url, token, clock.now)
    if recorder is not None and opener is not None:
        opener = recorder.opener(opener)
        if reconnection is not None:
            reconnection.opener = opener
    with recorder or contextlib.nullcontext():
        first = cast(Transport, transport) if opener is None else await opener()
        if recorder is not None and opener is None:
            first = recorder.transport(first)
        face = Face(stream, Link(stream, first, reconnection), clock)
        try:
            await face.open(open_timeout)
            yield face
        finally:
            await face.close()

"""What a session has from its ``start`` on, and what the client's messages do to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec

from kfusion import emotion as emotions
from kfusion import wire
from kfusion.audio import decode_pcm
from kfusion.config import FPS
from kfusion.emotion import EmotionCurve
from kfusion.errors import BadMessage
from kfusion.landmarks import Identity
from kfusion.life import Life
from kfusion.stream import latency_ms
from server.pictures.request import FoundFace
from server.session.identities import Identities
from server.session.negotiation import Negotiation
from server.session.outbox import Outbox
from server.session.rendering import (
    FrameChunk,
    FrameEncoder,
    Rendering,
    ordered_outputs,
    output_names,
)
from server.session.states import RepeatedEnd
from server.session.windows import WindowScheduler

StreamMessage = (
    bytes
    | wire.Silence
    | wire.SetEmotion
    | wire.Mark
    | wire.Reset
    | wire.SdpOffer
    | wire.EndOfAudio
    | RepeatedEnd
)


class OpenStream:
    """``rendering`` is that of the next windows; ``identity_id`` is None for points in `start`.

    Raises :class:`~kfusion.errors.WireError` for a start that is refused.
    """

    def __init__(
        self,
        start: wire.Start,
        limits: wire.Limits,
        outbox: Outbox,
        identities: Identities,
        negotiation: Negotiation,
        publish: Callable[[FrameChunk, int], None] | None,
    ) -> None:
        if start.media == "webrtc":
            if start.mode == "file":
                raise BadMessage("start.mode file with media webrtc; wanted live, or media socket")
            start = msgspec.structs.replace(
                start, audio=wire.AudioFormat(rate=48_000), encoding="binary"
            )
        self.start, self.outbox, self.negotiation = start, outbox, negotiation
        self.emotion = EmotionCurve(emotions.vector(start.emotion))
        self.identity_id: str | None = None
        if isinstance(start.identity, wire.IdentityPoints):
            identity = Identity.from_points(start.identity.points)
        else:
            identity, self.identity_id = identities[start.identity], start.identity
        life = Life(start.seed, start.life) if start.life else None
        self.rendering = Rendering(identity, ordered_outputs(start.outputs), life)
        self.windows = WindowScheduler(start, limits.held_s, outbox, publish)

    @property
    def demand(self) -> float:
        """Windows a second; 0 for a file, which takes what is left."""
        return FPS / self.start.hop if self.windows.live else 0.0

    def make_encoder(self) -> FrameEncoder:
        return FrameEncoder("pairs" if self.start.media == "webrtc" else self.start.encoding)

    def ready(
        self, session: str, token: str, n: int, model: wire.Model, limits: wire.Limits
    ) -> wire.Ready:
        """The answer to a client that has all frames below ``n``."""
        return wire.ready(
            self.start,
            session=session,
            resume=token,
            audio_position=self.windows.slider.received,
            n=n,
            model=model,
            emotion=emotions.named(self.emotion.target),
            identity=self.identity_id,
            limits=limits,
            latency_ms=latency_ms(self.start.audio.rate, self.start.hop, self.start.lookahead),
            outputs=output_names(self.start.outputs),
        )

    def handle(self, message: StreamMessage, now: float) -> None:
        """Does what a message says.

        Raises :class:`~kfusion.errors.WireError`, and changes nothing, for one that is refused.
        """
        match message:
            case bytes():
                if self.start.media == "webrtc":
                    raise BadMessage(
                        "audio on the socket; with media webrtc wanted it on the track"
                    )
                self.add_sound(message, now)
            case wire.Silence(samples):
                self._add_silence(samples, now)
            case wire.SetEmotion():
                self._set_emotion(message)
            case wire.Mark(name):
                self.windows.add_mark(name)
            case wire.Reset():
                self.windows.reset(now)
            case wire.SdpOffer(sdp):
                if self.start.media != "webrtc":
                    raise BadMessage("offer: only with media webrtc, which start did not ask for")
                self.negotiation.begin(sdp, now)
            case wire.EndOfAudio():
                if self.negotiation.media is not None:
                    self.negotiation.media.flush()
                self.windows.slider.finish()
            case RepeatedEnd():
                pass

    def add_sound(self, sound: bytes | int, now: float) -> None:
        """PCM, or samples of silence."""
        if isinstance(sound, int):
            self.windows.add_silence(sound, now)
        else:
            audio = self.start.audio
            self.windows.add_audio(decode_pcm(sound, audio.format, audio.channels), now)

    def _add_silence(self, samples: int, now: float) -> None:
        most = 60 * self.start.audio.rate
        if samples > most:
            raise BadMessage(f"silence.samples is {samples}; wanted at most {most} (60 s)")
        self.windows.add_silence(samples, now)
        if self.negotiation.media is not None:
            self.negotiation.media.skip(samples)

    def _set_emotion(self, message: wire.SetEmotion) -> None:
        """From the present audio position on."""
        vector = emotions.vector(message.weights)
        n = self.windows.slider.total
        self.emotion.start(n, vector, message.ramp * FPS)
        self.outbox.put(wire.EmotionSet(emotions.named(vector), n, message.ramp))

    def set_identity(self, name: str, face: FoundFace) -> None:
        """From the next window on."""
        self.identity_id = name
        self.rendering = replace(self.rendering, identity=face.identity)
        n = max(self.windows.next_frame, self.windows.slider.next_first)
        seen = wire.UNSET if face.seen is None else list(face.seen)
        pairs, note = face.identity.pairs, face.note or wire.UNSET
        self.outbox.put(wire.IdentitySet(name, n, pairs, note, seen))

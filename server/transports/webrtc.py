"""WebRTC: the microphone as an Opus track, frames on a data channel, through aiortc.

Only :func:`_replace_jitter_buffer` and :func:`_offer_addresses` change the inside of aiortc and
aioice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final

import aioice.ice
import av
import numpy as np
from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCSessionDescription,
)
from aiortc.sdp import SessionDescription
from av.audio.codeccontext import AudioCodecContext
from av.error import FFmpegError

from kfusion.errors import BadAudio, BadMessage, BadOptions
from server.transports.rtp import RATE, Packet, ReceiveBuffer, opus_samples

log = logging.getLogger("kfusion.webrtc")

CHANNEL: Final = "kfusion"
ANSWER_S: Final = 10.0  # to gather addresses, some of which a STUN server tells
CLOSE_S: Final = 2.0
DRAIN_S: Final = 2.0  # for a client to receive the last frames
MAX_SDP: Final = 64_000  # bytes of an offer
MAX_CANDIDATES: Final = 64
MAX_BUFFERED: Final = 16_000  # unsent bytes; beyond, frames wait and then are dropped
JITTER_BUFFER: Final = "_RTCRtpReceiver__jitter_buffer"
FIRST_RTO_S: Final = 0.5  # of SCTP's handshake; RFC 9260 has 1 s, aiortc 3 s, Chromium 0.5 s


class PeerFactory:
    """Makes the peers of one server; for a running event loop. ``addresses`` of this machine are
    offered (empty: all but loopback); ``servers``: STUN and TURN URLs, with name and password.

    Raises :class:`~kfusion.errors.BadOptions` for an ICE server that cannot be, and where the
    installed aiortc has not the two places that are replaced.
    """

    def __init__(self, addresses: tuple[str, ...] = (), servers: tuple[str, ...] = ()) -> None:
        _check_aiortc()
        if addresses:
            _offer_addresses(addresses)
        self.configuration = RTCConfiguration(iceServers=[_server(text) for text in servers])

    def make(self, on_audio: Callable[[bytes | int], None], on_room: Callable[[], None]) -> Peer:
        return Peer(self.configuration, on_audio, on_room)


def _check_aiortc() -> None:
    receiver = RTCPeerConnection(RTCConfiguration(iceServers=[])).addTransceiver("audio").receiver
    known = callable(getattr(getattr(receiver, JITTER_BUFFER, None), "add", None))
    if not known or not callable(getattr(aioice.ice, "get_host_addresses", None)):
        raise BadOptions(
            f"aiortc {version('aiortc')} with aioice {version('aioice')} keeps its jitter buffer, "
            "which is replaced, in another place; wanted aiortc 1.16 (or --no-webrtc)"
        )


def _offer_addresses(addresses: tuple[str, ...]) -> None:
    """aioice offers every address but loopback, and has no setting for it."""

    def chosen(use_ipv4: bool, use_ipv6: bool) -> list[str]:
        return [a for a in addresses if (use_ipv6 if ":" in a else use_ipv4)]

    aioice.ice.get_host_addresses = chosen


def _server(text: str) -> RTCIceServer:
    url, *account = text.split()
    if url.partition(":")[0] not in ("stun", "stuns", "turn", "turns") or len(account) not in (
        0,
        2,
    ):
        raise BadOptions(
            f"--ice-server {url!r}: wanted stun:HOST:PORT, or 'turn:HOST:PORT NAME PASSWORD'"
        )
    name, password = account or (None, None)
    return RTCIceServer(urls=url, username=name, credential=password)


class _PassThroughBuffer:
    """In the place of aiortc's jitter buffer: gives every packet to ``on_packet`` at once."""

    def __init__(self, on_packet: Callable[[Any], None]) -> None:
        self.on_packet = on_packet

    def add(self, packet: Any) -> tuple[bool, None]:
        self.on_packet(packet)
        return False, None  # no key frame is requested, and aiortc's decoder gets nothing


def _replace_jitter_buffer(receiver: RTCRtpReceiver, on_packet: Callable[[Any], None]) -> None:
    """aiortc's own buffer holds back 80 ms where nothing is lost, and more where something is."""
    setattr(receiver, JITTER_BUFFER, _PassThroughBuffer(on_packet))


class Decoder:
    """Opus to mono PCM, s16le at 48 kHz: as many samples as the packet says it has."""

    def __init__(self) -> None:
        codec = av.CodecContext.create("libopus", "r")
        assert isinstance(codec, AudioCodecContext)
        codec.layout, codec.format, codec.sample_rate = "mono", "s16", RATE
        self.codec = codec

    def decode(self, payload: bytes) -> bytes:
        """What cannot be decoded is silence."""
        samples = opus_samples(payload)
        try:
            frames = self.codec.decode(av.Packet(payload))
        except FFmpegError:
            frames = []
        pcm = b"".join(np.ascontiguousarray(f.to_ndarray()).tobytes() for f in frames)
        return pcm[: 2 * samples].ljust(2 * samples, b"\0")


class Peer:
    """One client's media: ``on_audio`` gets its PCM, or a number of samples of silence, in order.

    ``on_room`` is called when there may be room for frames again, and when the state changes.
    """

    def __init__(
        self,
        configuration: RTCConfiguration,
        on_audio: Callable[[bytes | int], None],
        on_room: Callable[[], None],
    ) -> None:
        self.on_audio, self.on_room = on_audio, on_room
        self.loop = asyncio.get_running_loop()
        self.pc = RTCPeerConnection(configuration)
        self.buffer = ReceiveBuffer()
        self.decoder = Decoder()
        self.channel: RTCDataChannel | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.closing = False
        self.pc.on("datachannel", self._channel_opened)
        self.pc.on("connectionstatechange", self._state_changed)

    async def answer(self, offer: str) -> str:
        """The answer to an offer, with all addresses in it.

        Raises :class:`~kfusion.errors.BadMessage` for an offer that cannot be answered.
        """
        _check_offer(offer)
        try:
            async with asyncio.timeout(ANSWER_S):
                transceiver = self.pc.addTransceiver("audio", direction="recvonly")
                capabilities = RTCRtpReceiver.getCapabilities("audio")
                assert capabilities is not None
                opus = [c for c in capabilities.codecs if c.mimeType.lower() == "audio/opus"]
                transceiver.setCodecPreferences(opus)
                await self.pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
                _replace_jitter_buffer(transceiver.receiver, self._packet)
                setattr(self.pc.sctp, "_rto", FIRST_RTO_S)  # noqa: B010 - aiortc's own
                await self.pc.setLocalDescription(await self.pc.createAnswer())
        except TimeoutError:
            raise BadMessage(f"offer.sdp: not answered within {ANSWER_S:g} s; try again") from None
        except Exception as error:  # aiortc raises whatever parsing raises
            raise BadMessage(
                f"offer.sdp cannot be answered ({type(error).__name__}: {error}); wanted the "
                "complete offer of a peer connection"
            ) from error
        return self.pc.localDescription.sdp

    # Audio in

    def _packet(self, packet: Any) -> None:
        if self.closing or not packet.payload:
            return
        payload = bytes(packet.payload)
        try:
            samples = opus_samples(payload)
        except BadAudio:
            return  # counts as lost
        arrived = Packet(packet.sequence_number, packet.timestamp, payload, samples)
        self.buffer.push(arrived, self.loop.time())
        self._take()

    def _take(self, *, flush: bool = False) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        for part in self.buffer.take(self.loop.time(), flush=flush):
            self.on_audio(part if isinstance(part, int) else self.decoder.decode(part))
        at = self.buffer.wake_at()
        if at < float("inf"):
            self.timer = self.loop.call_at(at, self._take)

    def skip(self, samples: int) -> None:
        """So many samples of silence came over the socket."""
        self.buffer.skip(samples)

    def flush(self) -> None:
        """Gives what the buffer holds to ``on_audio`` at once."""
        self._take(flush=True)

    # Frames out

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        if channel.label != CHANNEL or self.channel is not None:
            channel.close()
            return
        self.channel = channel
        channel.bufferedAmountLowThreshold = MAX_BUFFERED // 2
        channel.on("bufferedamountlow", self.on_room)
        self.on_room()

    @property
    def room(self) -> bool:
        """Whether a frame may be sent now."""
        channel = self.channel
        return (
            channel is not None
            and channel.readyState == "open"
            and channel.bufferedAmount < MAX_BUFFERED
        )

    def send(self, message: bytes) -> None:
        """One message of frames, while there is ``room``; it may be lost."""
        if self.channel is not None:
            self.channel.send(message)

    # Ends

    def _state_changed(self) -> None:
        log.debug("peer: %s", self.pc.connectionState)
        self.on_room()

    @property
    def closed(self) -> bool:
        """Whether nothing will be received or sent any more."""
        return self.closing or self.pc.connectionState in ("failed", "closed")

    async def drain(self) -> None:
        """Waits until the client has all frames: closing a connection drops what is still queued,
        closing a channel sends it first."""
        channel = self.channel
        if self.closed or channel is None or channel.readyState != "open":
            return
        closed = asyncio.Event()
        channel.on("close", closed.set)
        channel.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await closed.wait()

    async def close(self) -> None:
        self.closing = True
        if self.timer is not None:
            self.timer.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self.pc.close()


def _check_offer(offer: str) -> None:
    """Raises :class:`~kfusion.errors.BadMessage` for other media than a session has."""
    wanted = (
        "wanted one audio track with Opus and a data channel named "
        f"{CHANNEL!r}, with all candidates in the offer"
    )
    if len(offer) > MAX_SDP:
        raise BadMessage(f"offer.sdp of {len(offer)} characters; wanted at most {MAX_SDP}")
    try:
        media = SessionDescription.parse(offer).media
    except Exception as error:
        raise BadMessage(f"offer.sdp: no SDP ({type(error).__name__}); {wanted}") from None
    kinds = sorted(m.kind for m in media)
    if kinds != ["application", "audio"]:
        raise BadMessage(f"offer.sdp has {', '.join(kinds) or 'no media'}; {wanted}")
    codecs = [c for m in media if m.kind == "audio" for c in m.rtp.codecs]
    if not any(c.mimeType.lower() == "audio/opus" for c in codecs):
        raise BadMessage(f"offer.sdp: an audio track without Opus; {wanted}")
    candidates = sum(len(m.ice_candidates) for m in media)
    if not 0 < candidates <= MAX_CANDIDATES:
        raise BadMessage(f"offer.sdp has {candidates} candidates; {wanted}")

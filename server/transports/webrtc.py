"""WebRTC: the microphone as an Opus track, frames on a data channel, through aiortc.

The offer and the answer travel on the session's WebSocket, which stays open; one peer serves one
offer. All that is done to the inside of aiortc and aioice is by :func:`_listen` and
:func:`_offer_addresses`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
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
ANSWER_S: Final = 10.0  # to gather addresses, of which a STUN server may tell some
CLOSE_S: Final = 2.0
SENT_S: Final = 2.0  # for a client to take the last frames
MAX_SDP: Final = 64_000  # bytes of an offer
MAX_CANDIDATES: Final = 64
MAX_BUFFERED: Final = 16_000  # bytes: with more unsent, frames wait and then are dropped
JITTER_BUFFER: Final = "_RTCRtpReceiver__jitter_buffer"
FIRST_RTO_S: Final = 0.5  # of SCTP's handshake; RFC 9260 has 1 s, aiortc 3 s, Chromium 0.5 s


@dataclass(frozen=True)
class Ice:
    """How peers are reached. ``addresses`` of this machine to offer; empty: all but loopback.

    ``servers``: STUN and TURN URLs, with name and password after spaces; none by default.
    """

    addresses: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()


class Peers:
    """Makes the peers of one server; for a running event loop.

    Raises :class:`~kfusion.errors.BadOptions` for an ICE server that cannot be, and where the
    installed aiortc has not the two places that are replaced.
    """

    def __init__(self, ice: Ice) -> None:
        _check_aiortc()
        if ice.addresses:
            _offer_addresses(ice.addresses)
        self.configuration = RTCConfiguration(iceServers=[_server(text) for text in ice.servers])

    def make(self, heard: Callable[[bytes | int], None], moved: Callable[[], None]) -> Peer:
        return Peer(self.configuration, heard, moved)


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


class _Listener:
    """Stands where aiortc has its jitter buffer: every packet goes to ``heard`` at once."""

    def __init__(self, heard: Callable[[Any], None]) -> None:
        self.heard = heard

    def add(self, packet: Any) -> tuple[bool, None]:
        self.heard(packet)
        return False, None  # no picture is asked for, and nothing is left for its own decoder


def _listen(receiver: RTCRtpReceiver, heard: Callable[[Any], None]) -> None:
    """aiortc's own buffer holds back 80 ms where nothing is lost, and more where something is."""
    setattr(receiver, JITTER_BUFFER, _Listener(heard))


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
    """One client's media: ``heard`` is given its PCM, or samples of silence, in order.

    ``moved`` is called when there may be room for frames that there was not.
    """

    def __init__(
        self,
        configuration: RTCConfiguration,
        heard: Callable[[bytes | int], None],
        moved: Callable[[], None],
    ) -> None:
        self.heard, self.moved = heard, moved
        self.loop = asyncio.get_running_loop()
        self.pc = RTCPeerConnection(configuration)
        self.buffer = ReceiveBuffer()
        self.decoder = Decoder()
        self.channel: RTCDataChannel | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.closed = False
        self.pc.on("datachannel", self._channel_opened)
        self.pc.on("connectionstatechange", self._changed)

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
                _listen(transceiver.receiver, self._packet)
                setattr(self.pc.sctp, "_rto", FIRST_RTO_S)  # noqa: B010 - aiortc's own
                await self.pc.setLocalDescription(await self.pc.createAnswer())
        except TimeoutError:
            raise BadMessage(f"offer.sdp: not answered within {ANSWER_S:g} s; try again") from None
        except Exception as error:  # aiortc raises what it comes across in parsing
            raise BadMessage(
                f"offer.sdp cannot be answered ({type(error).__name__}: {error}); wanted the "
                "complete offer of a peer connection"
            ) from error
        return self.pc.localDescription.sdp

    # Sound in

    def _packet(self, packet: Any) -> None:
        if self.closed or not packet.payload:
            return
        payload = bytes(packet.payload)
        try:
            samples = opus_samples(payload)
        except BadAudio:
            return  # lost, as far as anybody can tell
        came = Packet(packet.sequence_number, packet.timestamp, payload, samples)
        self.buffer.push(came, self.loop.time())
        self._take()

    def _take(self, *, all_: bool = False) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        for part in self.buffer.take(self.loop.time(), all_=all_):
            self.heard(part if isinstance(part, int) else self.decoder.decode(part))
        at = self.buffer.wake_at()
        if at < float("inf"):
            self.timer = self.loop.call_at(at, self._take)

    def skip(self, samples: int) -> None:
        """So much silence came over the socket."""
        self.buffer.skip(samples)

    def flush(self) -> None:
        """Nothing more is awaited: what is held goes on."""
        self._take(all_=True)

    # Frames out

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        if channel.label != CHANNEL or self.channel is not None:
            channel.close()
            return
        self.channel = channel
        channel.bufferedAmountLowThreshold = MAX_BUFFERED // 2
        channel.on("bufferedamountlow", self.moved)
        self.moved()

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

    def _changed(self) -> None:
        log.debug("peer: %s", self.pc.connectionState)
        self.moved()

    @property
    def over(self) -> bool:
        """Whether nothing will come or go any more."""
        return self.closed or self.pc.connectionState in ("failed", "closed")

    async def sent(self) -> None:
        """Until a client has what it was sent: closing a connection forgets what is still queued,
        closing a channel sends it first."""
        channel = self.channel
        if self.over or channel is None or channel.readyState != "open":
            return
        closed = asyncio.Event()
        channel.on("close", closed.set)
        channel.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SENT_S):
                await closed.wait()

    async def close(self) -> None:
        self.closed = True
        if self.timer is not None:
            self.timer.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self.pc.close()


def _check_offer(offer: str) -> None:
    """Raises :class:`~kfusion.errors.BadMessage` for one that asks for something else."""
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

"""A client of the server's WebRTC, on aiortc's own peer, and a network that loses packets."""

from __future__ import annotations

import asyncio
import fractions
import json
import random
import re
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import aioice.ice
import av
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCSessionDescription,
)
from numpy.typing import NDArray
from websockets.asyncio.client import connect

from kfusion import wire
from tests.conftest import eventually, voice

RATE = 48_000
BLOCK = 960  # 20 ms
_CANDIDATE = re.compile(r"(a=candidate:\S+ \d+ udp \d+) (\S+) (\d+) (typ host)", re.IGNORECASE)


def on_loopback() -> None:
    """Lets every peer of this process be found at 127.0.0.1 alone."""
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]


class Speech(MediaStreamTrack):
    """Samples (N,) of 48 kHz at live pace, then silence, from when ``may`` is set on.

    ``began`` is when the first was sent.
    """

    kind = "audio"

    def __init__(self, samples: NDArray[np.float32], may: asyncio.Event) -> None:
        super().__init__()
        self.may = may
        pcm = np.clip(np.rint(samples * 32767), -32768, 32767).astype(np.int16)
        self.pcm = np.pad(pcm, (0, -len(pcm) % BLOCK))
        self.began: float | None = None
        self.sent = 0

    def pause(self, samples: int) -> None:
        """Sends nothing for so long; the clock goes on."""
        self.sent += samples

    async def recv(self) -> av.AudioFrame:
        if self.began is None:
            await self.may.wait()
            self.began = time.monotonic()
        await asyncio.sleep(self.began + self.sent / RATE - time.monotonic())
        block = self.pcm[self.sent : self.sent + BLOCK]
        block = np.pad(block, (0, BLOCK - len(block)))
        frame = av.AudioFrame.from_ndarray(block[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE, self.sent
        frame.time_base = fractions.Fraction(1, RATE)
        self.sent += BLOCK
        return frame


class Relay:
    """Carries UDP between a client and a server, and loses a share of it, each way, by chance.

    ``delay``: seconds, each way.
    """

    def __init__(self, loss: float = 0.0, seed: int = 0, delay: float = 0.0) -> None:
        self.loss, self.chance, self.delay = loss, random.Random(seed), delay
        self.near, self.far = _End(self), _End(self)  # of the client, of the server
        self.passed = self.lost = 0

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        for end in (self.near, self.far):
            await loop.create_datagram_endpoint(lambda end=end: end, local_addr=("127.0.0.1", 0))

    def close(self) -> None:
        self.near.transport.close()
        self.far.transport.close()

    def came(self, end: _End, data: bytes) -> None:
        if self.chance.random() < self.loss:
            self.lost += 1
            return
        self.passed += 1
        if self.delay:
            asyncio.get_running_loop().call_later(self.delay, self._pass, end, data)
        else:
            self._pass(end, data)

    def _pass(self, end: _End, data: bytes) -> None:
        other = self.far if end is self.near else self.near
        if other.peer is not None and not other.transport.is_closing():
            other.transport.sendto(data, other.peer)

    def through(self, sdp: str, end: _End) -> str:
        """A description whose only address is one of the relay's; that of its author is noted."""
        found = _CANDIDATE.search(sdp)
        assert found is not None, sdp
        other = self.far if end is self.near else self.near
        other.peer = (found[2], int(found[3]))
        lines = [line for line in sdp.splitlines() if not line.startswith("a=candidate")]
        at = next(k for k, line in enumerate(lines) if line.startswith("m=")) + 1
        host, port = end.transport.get_extra_info("sockname")
        lines.insert(at, f"{found[1]} {host} {port} {found[4]}")
        return "\r\n".join(lines) + "\r\n"


class _End(asyncio.DatagramProtocol):
    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.peer: tuple[str, int] | None = None
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.peer = self.peer or addr
        self.relay.came(self, data)


@dataclass
class Call:
    """One session as its client has it; times are those of ``time.monotonic``."""

    ws: Any
    pc: RTCPeerConnection
    track: Speech
    open: asyncio.Event  # the data channel is
    shut: asyncio.Event  # and is no more
    ready: dict[str, Any]
    ready_at: float  # when it came: the server's clock began a moment before
    said: list[dict[str, Any]] = field(default_factory=list)
    frames: dict[int, NDArray[np.float32]] = field(default_factory=dict)  # (68, 2) by n
    came: dict[int, float] = field(default_factory=dict)
    messages: list[wire.FrameBlock] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)  # when, each of them

    def received(self, message: bytes) -> None:
        block = wire.decode_frames(message)
        now = time.monotonic()
        self.messages.append(block)
        self.arrived.append(now)
        if block.output != "points":
            return
        for k, values in enumerate(block.values):
            self.frames.setdefault(block.first + k, values.reshape(68, 2))
            self.came.setdefault(block.first + k, now)

    async def say(self, **message: Any) -> None:
        await self.ws.send(json.dumps(message))

    async def hear(self, kind: str) -> dict[str, Any]:
        """The next message of this type; the others are noted."""
        while True:
            message = json.loads(await self.ws.recv())
            self.said.append(message)
            if message["type"] == kind:
                return message

    def latencies(self) -> NDArray[np.float64]:
        """Seconds from each frame's own time to its coming, in the order of n."""
        assert self.track.began is not None
        return np.array([at - self.track.began - n / 30 for n, at in sorted(self.came.items())])


def peer_of(samples: NDArray[np.float32]) -> tuple[RTCPeerConnection, RTCDataChannel, Speech]:
    """A peer that says these samples from when its data channel is open."""
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    channel = pc.createDataChannel("kfusion", ordered=False, maxRetransmits=0)
    track = Speech(samples, asyncio.Event())
    channel.on("open", track.may.set)
    pc.addTrack(track)
    return pc, channel, track


async def call_again(call: Call, ws: Any, frame: int) -> None:
    """Another peer for the same session, until the call has frames up to this one."""
    pc, channel, _ = peer_of(voice(1.0, RATE))
    channel.on("message", call.received)
    try:
        await ws.send(json.dumps({"type": "offer", "sdp": await offer_of(pc)}))
        while (answer := json.loads(await ws.recv()))["type"] != "answer":
            pass
        await pc.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
        await eventually(lambda: max(call.frames) >= frame)
    finally:
        await pc.close()


async def offer_of(pc: RTCPeerConnection) -> str:
    """A complete offer, with all candidates."""
    await pc.setLocalDescription(await pc.createOffer())
    return pc.localDescription.sdp


@asynccontextmanager
async def calling(
    url: str, samples: NDArray[np.float32], relay: Relay | None = None, **start: Any
) -> AsyncGenerator[Call]:
    """A session over WebRTC that says these samples of 48 kHz, from when it is connected."""
    on_loopback()
    pc, channel, track = peer_of(samples)
    shut = asyncio.Event()
    try:
        async with connect(url, max_size=1 << 22) as ws:
            await ws.send(json.dumps({"type": "start", "media": "webrtc", **start}))
            ready = json.loads(await ws.recv())
            call = Call(ws, pc, track, track.may, shut, ready, time.monotonic())
            assert call.ready["type"] == "ready", call.ready
            channel.on("message", call.received)
            channel.on("close", shut.set)
            offer = await offer_of(pc)
            await call.say(
                type="offer", sdp=offer if relay is None else relay.through(offer, relay.far)
            )
            answer = (await call.hear("answer"))["sdp"]
            if relay is not None:
                answer = relay.through(answer, relay.near)
            await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
            yield call
    finally:
        await pc.close()

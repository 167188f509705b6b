"""Sound that came in RTP packets, put in order by its timestamps: the receive buffer of WebRTC.

No socket and no clock. Timestamps and lengths are samples of 48 kHz, as RFC 7587 has them for
Opus whatever it was recorded at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kfusion.errors import BadAudio

RATE: Final = 48_000
WAIT_S: Final = 0.06  # for a packet that is missing while later ones are there
MOST: Final = 100  # packets held
JUMP: Final = 55 * RATE  # a step in time beyond this is another clock's, not a pause
SEQUENCES: Final = 1 << 16
STAMPS: Final = 1 << 32

# RFC 6716, table 2: the length of one frame by the configuration number, in samples of 48 kHz.
_FRAME: Final = (
    *(480, 960, 1920, 2880) * 3,  # SILK: 10, 20, 40, 60 ms
    *(480, 960) * 2,  # hybrid: 10, 20 ms
    *(120, 240, 480, 960) * 4,  # CELT: 2.5, 5, 10, 20 ms
)
LONGEST: Final = 5760  # 120 ms


def opus_samples(packet: bytes) -> int:
    """How long an Opus packet is, in samples of 48 kHz (RFC 6716, 3.1 and 3.2).

    Raises :class:`~kfusion.errors.BadAudio` for what is no Opus packet.
    """
    if not packet:
        raise BadAudio("an Opus packet without a byte")
    frames = (1, 2, 2, 0)[packet[0] & 3]
    if not frames:
        frames = packet[1] & 63 if len(packet) > 1 else 0
    samples = frames * _FRAME[packet[0] >> 3]
    if not 0 < samples <= LONGEST:
        raise BadAudio(f"an Opus packet of {samples} samples; wanted 120 to {LONGEST}")
    return samples


@dataclass(frozen=True)
class Packet:
    """One RTP packet: its numbers as they were sent, and how long its sound is."""

    sequence: int
    timestamp: int
    payload: bytes
    samples: int


@dataclass(frozen=True)
class _Held:
    sequence: int  # unwrapped, as is ``start``
    start: int
    packet: Packet
    came: float


class ReceiveBuffer:
    """Packets in the order of their time, each once, and silence where one did not come.

    A packet that is next goes on at once. Where one is missing, later ones wait up to ``wait_s``
    for it; then silence of exactly its length takes its place, and it is too late. A pause of the
    sender, which leaves timestamps out but no sequence numbers, is silence at once. ``lost``
    counts samples of packets that did not come, ``late`` packets that came in vain.
    """

    def __init__(self, wait_s: float = WAIT_S) -> None:
        self.wait_s = wait_s
        self.held: dict[int, _Held] = {}  # by start
        self.sequence = 0  # of the next packet
        self.start = 0  # of the next sample
        self.begun = False
        self.ahead = 0  # samples of silence that were given before their time
        self.lost = 0
        self.late = 0

    def push(self, packet: Packet, now: float) -> None:
        """A packet that came at this time, s."""
        if not self.begun:
            self._begin(packet)
        sequence = self.sequence + _near(packet.sequence - self.sequence, SEQUENCES)
        start = self.start + _near(packet.timestamp - self.start, STAMPS)
        if abs(start - self.start) > JUMP:
            # The sender began anew: what follows has nothing to do with what came before.
            self.held.clear()
            self._begin(packet)
            sequence, start = self.sequence, self.start
        if start < self.start or start in self.held or len(self.held) >= MOST:
            self.late += 1
            return
        self.held[start] = _Held(sequence, start, packet, now)

    def _begin(self, packet: Packet) -> None:
        self.begun = True
        self.sequence, self.start, self.ahead = packet.sequence, packet.timestamp, 0

    def skip(self, samples: int) -> None:
        """So much silence was taken from elsewhere: a pause as long is not filled again."""
        self.ahead += samples

    def take(self, now: float, *, all_: bool = False) -> list[bytes | int]:
        """What can go on: payloads, and samples of silence. ``all_``: nothing more is awaited."""
        out: list[bytes | int] = []
        while self.held:
            first = self.held[min(self.held)]
            gap = first.start - self.start
            if gap:
                missing = first.sequence != self.sequence
                full = len(self.held) >= MOST  # and what comes next would have no room
                if missing and not (all_ or full) and now < self._until():
                    break
                self.lost += gap if missing else 0
                filled = max(0, gap - self.ahead)
                self.ahead = max(0, self.ahead - gap)
                if filled:
                    out.append(filled)
            out.append(first.packet.payload)
            del self.held[first.start]
            self.sequence, self.start = first.sequence + 1, first.start + first.packet.samples
            for start in [k for k in self.held if k < self.start]:
                del self.held[start]  # it would overlap what has gone on
                self.late += 1
        return out

    def _until(self) -> float:
        return min(held.came for held in self.held.values()) + self.wait_s

    def wake_at(self) -> float:
        """When ``take`` will have more, though nothing came; inf: not by waiting."""
        return self._until() if self.held else float("inf")


def _near(difference: int, modulus: int) -> int:
    """The least difference of two numbers that count around."""
    return (difference + modulus // 2) % modulus - modulus // 2

"""The receive buffer of WebRTC: puts RTP packets in order by their timestamps.

No socket and no clock. Timestamps and lengths are samples of 48 kHz, as RFC 7587 has them for
Opus whatever it was recorded at.
"""

from dataclasses import dataclass
from typing import Final

from kfusion.errors import BadAudio

RATE: Final = 48_000
WAIT_S: Final = 0.06  # for a packet that is missing while later ones are there
MAX_PACKETS: Final = 100  # in the buffer
MAX_PAUSE: Final = 55 * RATE  # a longer step in time is a new clock, not a pause
SEQUENCE_NUMBERS: Final = 1 << 16
TIMESTAMPS: Final = 1 << 32

# RFC 6716, table 2: the length of one frame by the configuration number, in samples of 48 kHz.
_FRAME_SAMPLES: Final = (
    *(480, 960, 1920, 2880) * 3,  # SILK: 10, 20, 40, 60 ms
    *(480, 960) * 2,  # hybrid: 10, 20 ms
    *(120, 240, 480, 960) * 4,  # CELT: 2.5, 5, 10, 20 ms
)
MAX_SAMPLES: Final = 5760  # 120 ms


def opus_samples(packet: bytes) -> int:
    """How long an Opus packet is, in samples of 48 kHz (RFC 6716, 3.1 and 3.2).

    Raises :class:`~kfusion.errors.BadAudio` for what is no Opus packet.
    """
    if not packet:
        raise BadAudio("an Opus packet without a byte")
    frames = (1, 2, 2, 0)[packet[0] & 3]
    if not frames:
        frames = packet[1] & 63 if len(packet) > 1 else 0
    samples = frames * _FRAME_SAMPLES[packet[0] >> 3]
    if not 0 < samples <= MAX_SAMPLES:
        raise BadAudio(f"an Opus packet of {samples} samples; wanted 120 to {MAX_SAMPLES}")
    return samples


@dataclass(frozen=True)
class Packet:
    """One RTP packet: its numbers as they were sent, and how long its sound is."""

    sequence: int
    timestamp: int
    payload: bytes
    samples: int


@dataclass(frozen=True)
class _Buffered:
    sequence: int  # unwrapped, as is ``start``
    start: int
    packet: Packet
    arrived: float


class ReceiveBuffer:
    """Packets in the order of their time, each once, with silence in the place of missing ones.

    The next packet is given at once. Where one is missing, later ones wait up to ``wait_s`` for
    it; then silence of exactly its length takes its place, and it is too late. A pause of the
    sender, which leaves timestamps out but no sequence numbers, is silence at once. ``lost``
    counts the samples of packets that did not arrive, ``late`` the packets that arrived in vain.
    """

    def __init__(self, wait_s: float = WAIT_S) -> None:
        self.wait_s = wait_s
        self.packets: dict[int, _Buffered] = {}  # by start
        self.sequence = 0  # of the next packet
        self.start = 0  # of the next sample
        self.started = False
        self.skipped = 0  # samples of silence that came otherwise, before a pause
        self.lost = 0
        self.late = 0

    def push(self, packet: Packet, now: float) -> None:
        """A packet that arrived at this time, s."""
        if not self.started:
            self._begin(packet)
        sequence = self.sequence + _wrapped(packet.sequence - self.sequence, SEQUENCE_NUMBERS)
        start = self.start + _wrapped(packet.timestamp - self.start, TIMESTAMPS)
        if abs(start - self.start) > MAX_PAUSE:
            # The sender restarted: its new timestamps have nothing to do with the earlier ones.
            self.packets.clear()
            self._begin(packet)
            sequence, start = self.sequence, self.start
        if start < self.start or start in self.packets or len(self.packets) >= MAX_PACKETS:
            self.late += 1
            return
        self.packets[start] = _Buffered(sequence, start, packet, now)

    def _begin(self, packet: Packet) -> None:
        self.started = True
        self.sequence, self.start, self.skipped = packet.sequence, packet.timestamp, 0

    def skip(self, samples: int) -> None:
        """So much silence came otherwise: a pause of this length is not filled again."""
        self.skipped += samples

    def take(self, now: float, *, flush: bool = False) -> list[bytes | int]:
        """Payloads, and numbers of samples of silence. ``flush``: waits for no missing packet."""
        out: list[bytes | int] = []
        while self.packets:
            first = self.packets[min(self.packets)]
            gap = first.start - self.start
            if gap:
                missing = first.sequence != self.sequence
                full = len(self.packets) >= MAX_PACKETS  # the next packet would have no room
                if missing and not (flush or full) and now < self._deadline():
                    break
                self.lost += gap if missing else 0
                filled = max(0, gap - self.skipped)
                self.skipped = max(0, self.skipped - gap)
                if filled:
                    out.append(filled)
            out.append(first.packet.payload)
            del self.packets[first.start]
            self.sequence, self.start = first.sequence + 1, first.start + first.packet.samples
            for start in [k for k in self.packets if k < self.start]:
                del self.packets[start]  # it would overlap what was given
                self.late += 1
        return out

    def _deadline(self) -> float:
        return min(packet.arrived for packet in self.packets.values()) + self.wait_s

    def wake_at(self) -> float:
        """When ``take`` will have more without another packet; inf: never."""
        return self._deadline() if self.packets else float("inf")


def _wrapped(difference: int, modulus: int) -> int:
    """The difference of two counters that wrap around, nearest to zero."""
    return (difference + modulus // 2) % modulus - modulus // 2

"""What a run sends: the load, its clips, and which of them each stream sends from when. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

import numpy as np

from client.stream.pcm import encode_pcm
from kfusion import wire
from kfusion.audio import Samples, read_audio
from kfusion.config import FPS
from kfusion.errors import BadOptions
from kfusion.options import option
from kfusion.wire import AudioFormat

Starts = Literal["spread", "phase"]
DEFAULT_BOUND_MS: Final[dict[Starts, float]] = {"spread": 260.0, "phase": 300.0}
SYNTHETIC_S: Final = 20.0  # of sound, where no clip is given
DAY_S: Final = 86_400.0


@dataclass(frozen=True)
class Load:
    """A run: ``streams`` of ``seconds`` each; frames of its first ``warmup`` s are not timed."""

    url: str
    streams: int = option(1, "at once (%(default)s)", metavar="N")
    seconds: float = option(15.0, "of audio a stream, a trial (%(default)g)", metavar="S")
    rate: int = option(16_000, "Hz, 8000 to 96000 (%(default)s)")
    chunk_ms: int = option(20, "of a message (%(default)s)")
    hop: int = option(3, "frames a step (%(default)s)")
    lookahead: int = option(3, "frames (%(default)s)")
    starts: Starts = option(
        "spread",
        "over one hop by the seed, or all at one instant (%(default)s)",
        choices=("spread", "phase"),
    )
    seed: int = option(0, "of starts and positions (%(default)s)")
    warmup: float = option(2.0, "not timed (%(default)g)", metavar="S")
    processes: int = option(1, "of the loader (%(default)s)", metavar="P")
    token: str | None = None

    def check(self) -> None:
        """Raises :class:`~kfusion.errors.BadOptions`, or what a server would answer."""
        _ = self.start
        for name, value, low, high in (
            ("streams", self.streams, 1, 100_000),
            ("chunk-ms", self.chunk_ms, 1, 1000),
            ("processes", self.processes, 1, 256),
        ):
            if not low <= value <= high:
                raise BadOptions(f"--{name} {value}: wanted {low} to {high}")
        if self.seed < 0:
            raise BadOptions(f"--seed {self.seed}: wanted 0 or more")
        if not 0 < self.seconds <= DAY_S:
            raise BadOptions(f"--seconds {self.seconds:g}: wanted more than 0, at most {DAY_S:g}")
        if not 0 <= self.warmup < self.seconds:
            raise BadOptions(
                f"--warmup {self.warmup:g}: wanted 0 or more, and less than the "
                f"{self.seconds:g} s of --seconds"
            )

    @property
    def start(self) -> wire.Start:
        """The first message of every stream. Raises what a server would answer to it."""
        message = {
            "type": "start",
            "audio": {"rate": self.rate},
            "encoding": "binary",
            "hop": self.hop,
            "lookahead": self.lookahead,
        }
        start = wire.parse_client(json.dumps(message))
        assert isinstance(start, wire.Start)
        return start

    @property
    def samples(self) -> int:
        """The least number that every stream sends; its last chunk is whole."""
        return round(self.seconds * self.rate)


@dataclass(frozen=True)
class LoadClip:
    """A sound that is repeated without end: ``pcm`` and number of ``samples`` of each chunk."""

    name: str
    pcm: tuple[bytes, ...]
    samples: tuple[int, ...]


@dataclass(frozen=True)
class StreamPlan:
    """Stream ``index`` sends clip ``clip`` from chunk ``chunk`` on and starts after ``delay_s``."""

    index: int
    clip: int
    chunk: int
    delay_s: float


def chunked(name: str, samples: Samples, rate: int, chunk_ms: int) -> LoadClip:
    """(n,) in -1..1 -> whole chunks of ``chunk_ms``; a sound shorter than a chunk is repeated."""
    shortest = -(-rate * chunk_ms // 1000)
    if len(samples) < shortest:
        samples = np.tile(samples, -(-shortest // len(samples)))
    count = len(samples) * 1000 // (rate * chunk_ms)
    edges = [k * rate * chunk_ms // 1000 for k in range(count + 1)]
    audio = AudioFormat(rate)
    spans = list(pairwise(edges))
    pcm = tuple(encode_pcm(samples[begin:end], audio) for begin, end in spans)
    return LoadClip(name, pcm, tuple(end - begin for begin, end in spans))


def speech_like(seconds: float, rate: int, seed: int = 0) -> Samples:
    """Harmonics of a voice's pitch under syllables and phrases, with pauses; (n,) in -1..1."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    pitch = 120 + 15 * np.sin(2 * np.pi * 0.7 * t + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    tone = sum((np.sin(k * phase) / k for k in range(1, 25)), np.zeros_like(t))
    syllables = np.clip(np.sin(2 * np.pi * 3.5 * t + rng.uniform(0, 6)) + 0.3, 0, None)
    phrases = np.clip(4 * np.sin(2 * np.pi * 0.4 * t) + 2, 0, 1)
    sound = 0.2 * tone * syllables * phrases + 0.002 * rng.normal(size=len(t))
    return np.clip(sound, -1, 1).astype(np.float32)


def read_clips(paths: Sequence[Path], rate: int, chunk_ms: int) -> list[LoadClip]:
    """The clips of sound files at ``rate``; without any, one synthetic clip."""
    if not paths:
        sound = speech_like(SYNTHETIC_S, rate)
        return [chunked("synthetic: speech-like", sound, rate, chunk_ms)]
    return [chunked(str(p), _resampled(rate, *read_audio(p)), rate, chunk_ms) for p in paths]


def _resampled(rate: int, samples: Samples, source_rate: int) -> Samples:
    if source_rate == rate:
        return samples
    import soxr

    return soxr.resample(samples, source_rate, rate).astype(np.float32)


def plan_streams(load: Load, clips: Sequence[LoadClip]) -> list[StreamPlan]:
    """Each stream's clip, position in it and start within one hop, by the seed and its index."""
    plans: list[StreamPlan] = []
    for index in range(load.streams):
        rng = np.random.default_rng((load.seed, index))
        clip = index % len(clips)
        chunk = int(rng.integers(len(clips[clip].pcm)))
        delay_s = float(rng.uniform(0, load.hop / FPS)) if load.starts == "spread" else 0.0
        plans.append(StreamPlan(index, clip, chunk, delay_s))
    return plans

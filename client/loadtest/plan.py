"""Who speaks what, and when: the streams of a run, before any of them is opened. Pure."""

from __future__ import annotations

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
from kfusion.wire import AudioFormat

Starts = Literal["spread", "phase"]
BOUNDS_MS: Final[dict[Starts, float]] = {"spread": 260.0, "phase": 300.0}
MADE_S: Final = 20.0  # of sound, where no clip is given
DAY_S: Final = 86_400.0


@dataclass(frozen=True)
class Load:
    """A run: ``streams`` of ``seconds`` each; frames of its first ``warmup`` s are not timed."""

    url: str
    streams: int = 1
    seconds: float = 15.0
    rate: int = 16_000
    chunk_ms: int = 20
    hop: int = 3
    lookahead: int = 3
    encoding: Literal["json", "binary"] = "binary"
    mode: Literal["live", "file"] = "live"
    starts: Starts = "spread"
    ramp: bool = True  # every stream is open before the first one speaks
    seed: int = 0
    warmup: float = 2.0
    token: str | None = None
    processes: int = 1
    server_pid: int | None = None

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
        """What every stream says first. Raises what a server would answer to it."""
        said = {
            "type": "start",
            "audio": {"rate": self.rate},
            "encoding": self.encoding,
            "hop": self.hop,
            "lookahead": self.lookahead,
            "mode": self.mode,
        }
        start = wire.parse_client(json.dumps(said))
        assert isinstance(start, wire.Start)
        return start

    @property
    def samples(self) -> int:
        """The least that every stream says; its last chunk is whole."""
        return round(self.seconds * self.rate)


@dataclass(frozen=True)
class Sound:
    """A sound to be repeated for ever: ``pcm`` of each chunk, and ``samples`` in it."""

    name: str
    pcm: tuple[bytes, ...]
    samples: tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """What stream ``index`` says: sound ``sound`` from its chunk ``chunk``, ``after`` s late."""

    index: int
    sound: int
    chunk: int
    after: float


def cut(name: str, samples: Samples, rate: int, chunk_ms: int) -> Sound:
    """(n,) in -1..1 -> chunks that end at whole multiples of ``chunk_ms``, to the sample.

    What is left over at the end is left out; a sound shorter than a chunk is repeated.
    """
    least = -(-rate * chunk_ms // 1000)
    if len(samples) < least:
        samples = np.tile(samples, -(-least // len(samples)))
    count = len(samples) * 1000 // (rate * chunk_ms)
    edges = [k * rate * chunk_ms // 1000 for k in range(count + 1)]
    audio = AudioFormat(rate)
    pairs = list(pairwise(edges))
    pcm = tuple(encode_pcm(samples[low:high], audio) for low, high in pairs)
    return Sound(name, pcm, tuple(high - low for low, high in pairs))


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


def sounds_of(clips: Sequence[Path], rate: int, chunk_ms: int) -> list[Sound]:
    """The sounds of files at ``rate``; without any, one that is made here.

    Raises :class:`~kfusion.errors.AudioFileError` for a file that cannot be read.
    """
    if not clips:
        return [cut("made: speech-like", speech_like(MADE_S, rate), rate, chunk_ms)]
    return [cut(str(path), _at(rate, *read_audio(path)), rate, chunk_ms) for path in clips]


def _at(rate: int, samples: Samples, given: int) -> Samples:
    if given == rate:
        return samples
    import soxr

    return soxr.resample(samples, given, rate).astype(np.float32)


def parts_of(load: Load, sounds: Sequence[Sound]) -> list[Part]:
    """Each stream's own place in its sound, and its start within one hop, by the seed.

    A stream's part depends on the seed and its index alone, so that a run of more streams is one
    of fewer with others beside them.
    """
    parts: list[Part] = []
    for index in range(load.streams):
        rng = np.random.default_rng((load.seed, index))
        sound = index % len(sounds)
        chunk = int(rng.integers(len(sounds[sound].pcm)))
        after = float(rng.uniform(0, load.hop / FPS)) if load.starts == "spread" else 0.0
        parts.append(Part(index, sound, chunk, after))
    return parts

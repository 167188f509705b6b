"""The same speech in other voices: pitch, intonation and vocal tract changed, lips' timing kept.

    python -m training.voices --data CORPUS --out CORPUS --each 3

WORLD (Morise, Yokomori & Ozawa 2016) takes sound apart into pitch, spectral envelope and
aperiodicity and puts it together again.
"""

import argparse
import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from kfusion.config import SAMPLE_RATE
from kfusion.errors import DataError, run_command
from training.corpus.clips import Clip, Samples
from training.corpus.format import Corpus, CorpusWriter


@dataclass(frozen=True)
class Voice:
    """``pitch``: factor of the fundamental frequency; ``intonation``: of its rise and fall, in
    octaves around its median; ``tract``: of every formant's frequency (a vocal tract so much
    shorter); ``breath``: aperiodicity added, 0 to 1; ``tilt`` of the spectrum in dB an octave
    around 1 kHz.
    """

    pitch: float = 1.0
    intonation: float = 1.0
    tract: float = 1.0
    breath: float = 0.0
    tilt: float = 0.0


def random_voice(rng: np.random.Generator) -> Voice:
    """For a man's voice: from a deeper man to a child, pitch and tract going together."""
    size = rng.uniform(-0.35, 1.0)  # 0: this man, 1: a child
    return Voice(
        pitch=float(2 ** (1.1 * size + rng.normal(0, 0.12))),
        intonation=float(rng.uniform(0.6, 1.8)),
        tract=float(np.clip(1 + 0.24 * size + rng.normal(0, 0.03), 0.84, 1.32)),
        breath=float(rng.uniform(0, 0.35)) if rng.random() < 0.5 else 0.0,
        tilt=float(rng.normal(0, 1.5)),
    )


class Speech:
    """The analysis of a sound; :meth:`synthesise` gives it in a voice. About 0.2 s a second."""

    def __init__(self, samples: Samples) -> None:
        world = _world()
        sound = samples.astype(np.float64)
        # Without a whisper of noise silence has no spectrum.
        sound = sound + np.random.default_rng(0).normal(0, 1e-5, len(sound))
        pitch, times = world.dio(sound, SAMPLE_RATE, f0_floor=60.0, f0_ceil=500.0)
        self.pitch: NDArray[np.float64] = world.stonemask(sound, pitch, times, SAMPLE_RATE)
        self.envelope: NDArray[np.float64] = world.cheaptrick(sound, self.pitch, times, SAMPLE_RATE)
        self.aperiodicity: NDArray[np.float64] = world.d4c(sound, self.pitch, times, SAMPLE_RATE)
        self.count, self.rms = len(samples), float(np.sqrt(np.mean(sound**2)))

    def synthesise(self, voice: Voice) -> Samples:
        """As many samples as there were; as loud, but for what would leave -1..1."""
        voiced = self.pitch > 0
        pitch = self.pitch.copy()
        if voiced.any():
            middle = np.median(pitch[voiced])
            pitch[voiced] = (pitch[voiced] / middle) ** voice.intonation * middle * voice.pitch
        pitch = np.where(voiced, np.clip(pitch, 50.0, 600.0), 0.0)
        bins = np.arange(self.envelope.shape[1])
        octaves = np.log2(np.maximum(bins, 1) / (1000 / (SAMPLE_RATE / 2) * (len(bins) - 1)))
        slope = 10 ** (voice.tilt * np.clip(octaves, -3, 3) / 10)
        envelope = np.exp(_warped(np.log(self.envelope), voice.tract)) * slope
        noisy = _warped(self.aperiodicity, voice.tract)
        noisy = np.clip(noisy + voice.breath * (1 - noisy) * (bins / bins[-1]), 0, 1)
        sound = _world().synthesize(
            pitch, np.ascontiguousarray(envelope), np.ascontiguousarray(noisy), SAMPLE_RATE
        )[: self.count]
        sound = np.pad(sound, (0, self.count - len(sound)))
        sound *= self.rms / max(1e-9, float(np.sqrt(np.mean(sound**2))))
        return np.clip(sound, -1, 1).astype(np.float32)


def _warped(rows: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Each row's value at bin k moved to bin k x factor; beyond the last, the last is held."""
    at = np.clip(np.arange(rows.shape[1]) / factor, 0, rows.shape[1] - 1)
    low = np.floor(at).astype(int)
    high, share = np.minimum(low + 1, rows.shape[1] - 1), at - low
    return rows[:, low] * (1 - share) + rows[:, high] * share


def _world() -> Any:
    try:
        import pyworld
    except ImportError:
        raise DataError("other voices need WORLD: pip install kfusion[training]") from None
    return pyworld


_corpus = lru_cache(1)(Corpus)


def _convert(job: tuple[Path, int, list[int]]) -> list[Clip]:
    folder, number, voices = job
    corpus = _corpus(folder)
    clip = corpus.clip(corpus.select("train")[number])
    speech = Speech(clip.audio)
    converted: list[Clip] = []
    for k in voices:
        voice = random_voice(np.random.default_rng([number, k]))
        converted.append(
            replace(clip, name=_clip_name(clip.name, k), audio=speech.synthesise(voice))
        )
    return converted


def _clip_name(clip: str, voice: int) -> str:
    return f"{clip}-{voice + 1}"


def convert_clips(
    corpus: Corpus, each: int, processes: int, done: Collection[str] = ()
) -> Iterator[Clip]:
    """Every train clip of a corpus in ``each`` random voices, seeded by the clip's number among
    them and the voice's; those ``done``, by their new names, are left out.
    """
    jobs: list[tuple[Path, int, list[int]]] = []
    for number, entry in enumerate(corpus.select("train")):
        voices = [k for k in range(each) if _clip_name(entry.name, k) not in done]
        if voices:
            jobs.append((corpus.folder, number, voices))
    with ProcessPoolExecutor(processes) as pool:
        for converted in pool.map(_convert, jobs, chunksize=4):
            yield from converted


def run(options: argparse.Namespace) -> None:
    corpus = Corpus(options.data)
    header = msgspec.structs.replace(
        corpus.header, source=f"{corpus.header.source} in other voices", dubbed=True
    )
    with CorpusWriter(options.out, header) as writer:
        done = writer.done
        total = options.each * len(corpus.select("train"))
        converted = convert_clips(corpus, options.each, options.processes, done)
        sources = {
            _clip_name(e.name, k): e for e in corpus.select("train") for k in range(options.each)
        }
        for clip in tqdm(converted, initial=len(done), total=total, unit="clip"):
            entry = sources[clip.name]
            writer.add(clip, "train", fps=entry.fps, tracked=entry.tracked)
        writer.finish()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--each", type=int, default=3, help="voices for each clip")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args(argv)
    return run_command("training.voices", lambda: run(options))


if __name__ == "__main__":
    raise SystemExit(main())

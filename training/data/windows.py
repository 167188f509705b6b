"""The windows that training sees: every second of every clip, from any frame on.

A window is a function of (seed, epoch, sample) alone, never of the process or the worker that makes
it, so that runs can be resumed, repeated and spread over processes. Corpora are mapped into
memory; what is kept of a clip is its face at rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from kfusion import emotion
from kfusion.config import FPS, FRAMES, SAMPLE_RATE, WINDOW
from kfusion.landmarks import MIRROR, align, mirrored, to_canonical
from training import phones
from training.corpus.clips import at_times
from training.corpus.format import Corpus, Entry, Subset, select_entries
from training.data.augment import (
    Augmentation,
    Sound,
    another_face,
    mixed,
    parted,
    random_emotion,
)
from training.data.pauses import STEPS, to_rest

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """``audio`` (B, 16000); ``identity`` (B, 68, 2) canonical; ``emotion`` (B, 8); ``target``
    (B, 30, 68, 2) displacements in canonical pixels; ``mask`` (B, 30), 0 where the truth is
    unknown; ``stretch`` (B,), a factor of the mel axis; ``phones`` (B, 50) of every 20 ms, 255
    where they are not known; ``index`` (B,), the samples' numbers.
    """

    audio: torch.Tensor
    identity: torch.Tensor
    emotion: torch.Tensor
    target: torch.Tensor
    mask: torch.Tensor
    stretch: torch.Tensor
    phones: torch.Tensor
    index: torch.Tensor

    @classmethod
    def of(cls, rows: Sequence[tuple[Any, ...]]) -> Batch:
        columns = [np.stack(column) for column in zip(*rows, strict=True)]
        *parts, spoken, index = columns
        audio, identity, label, target, mask, stretch = (
            torch.from_numpy(np.asarray(p, np.float32)) for p in parts
        )
        names, numbers = torch.from_numpy(spoken).long(), torch.from_numpy(index)
        return cls(audio, identity, label, target, mask, stretch, names, numbers)

    def to(self, device: str) -> Batch:
        return Batch(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))


@dataclass(frozen=True)
class _Known:
    """A clip: where it lies, its reference face at rest (canonical), and by how much the clip's
    own face at rest differs from that: 0 but for clips with an emotion, whose reference is neutral.
    """

    corpus: Corpus
    entry: Entry
    at_rest: Array
    settled: Array


class Windows(Dataset[tuple[Any, ...]]):
    """Sample g is one second of sound with what the face did; g counts on from epoch to epoch.

    An epoch has one window for each second of each clip, in an order drawn anew, each starting at
    a frame drawn anew from its part of the clip. The reference of a clip labelled with an emotion
    other than neutral is its speaker's face at rest in their neutral clips, where there are any;
    of every other clip, that clip's own face at rest. With ``by_level`` a clip's level of 1 to 3
    thirds is its emotion's weight, else every label counts in full. Lips of dubbed corpora part
    by ``wider`` further: most people's do by more than those of the one who was filmed.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        split: Subset,
        augmentation: Augmentation,
        seed: int = 0,
        *,
        by_level: bool = False,
        wider: float = 0.0,
    ) -> None:
        self.augmentation, self.seed = augmentation, seed
        self.by_level, self.wider = by_level, wider
        self._sound = Sound(augmentation)
        self.clips = [_known(corpus, entry) for corpus, entry in select_entries(corpora, split)]
        seconds = [max(1, round(k.entry.points[1] / FPS)) for k in self.clips]
        self._owner = np.repeat(np.arange(len(seconds)), seconds)
        self._part = np.concatenate([np.arange(s) for s in seconds])
        self._parts = np.repeat(seconds, seconds)
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def __len__(self) -> int:
        """Windows in an epoch."""
        return len(self._owner)

    def order(self, epoch: int) -> NDArray[np.int64]:
        if self._order[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            self._order = epoch, rng.permutation(len(self))
        return self._order[1]

    def name_of(self, index: int) -> str:
        """For people: which clip a sample comes from, and which epoch it is of."""
        epoch, place = divmod(index, len(self))
        owner = self._owner[self.order(epoch)[place]]
        return f"{self.clips[owner].entry.name} (epoch {epoch}, sample {place})"

    def batch(self, rows: int, step: int) -> Batch:
        """The batch of a step of one process."""
        return Batch.of([self[g] for g in range(step * rows, (step + 1) * rows)])

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        epoch, place = divmod(index, len(self))
        sample = int(self.order(epoch)[place])
        rng = np.random.default_rng([self.seed, epoch, sample])
        clip = self.clips[self._owner[sample]]
        a = self.augmentation
        speed = a.speeds[rng.integers(len(a.speeds))] if rng.random() < a.speed else 1.0

        # Where: of a clip's T frames any may be the first whose second is whole; with `edges` a
        # window may also hang over either end, as it does live.
        frames = int(clip.entry.points[1] / speed)
        low, high = (-24, frames - 6) if rng.random() < a.edges else (0, frames - FRAMES)
        choices, parts = max(0, high - low) + 1, int(self._parts[sample])
        begin, stop = (choices * (int(self._part[sample]) + k) // parts for k in (0, 1))
        first = low + int(rng.integers(begin, max(begin + 1, stop)))

        audio = self._sound.window(clip.corpus, clip.entry, first, speed)
        times = (first + np.arange(FRAMES)) / FPS
        end = min(clip.entry.audio[1] / SAMPLE_RATE / speed, (frames - 1) / FPS)
        mask = ((times >= 0) & (times <= end + 1e-9)).astype(np.float32)
        target = self._target(clip, times * speed)
        if self.wider and clip.corpus.header.dubbed:
            target = parted(target, self.wider)
        spoken = self._phones(clip, (first / FPS + STEPS) * speed)
        if rng.random() < a.rest:
            target -= clip.settled
            audio, target, mask, spoken = to_rest(rng, audio, target, spoken, times, end)
            target += clip.settled
        if rng.random() < a.babble:
            audio = mixed(audio, self._babble(rng), rng.uniform(*a.babble_snr_db))
        audio = self._sound.augmented(rng, audio)

        identity = clip.at_rest
        if rng.random() < a.mirror:
            identity = mirrored(identity)
            target = target.take(MIRROR, axis=1)
            target[..., 0] *= -1
        if rng.random() < a.face:
            identity = another_face(rng, identity)
        label = self._label(clip.entry)
        if label[emotion.NEUTRAL_INDEX] == 1 and rng.random() < a.emotion:
            label = random_emotion(rng)
            further = float(emotion.articulation(label))
            target = parted(target, further) + emotion.displacement(label)
        stretch = 1 + a.vtlp * rng.uniform(-1, 1)
        return audio, identity, label, target, mask, stretch, spoken, index

    def _target(self, clip: _Known, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Displacements from the face at rest at times of the clip (s), canonical (30, 68, 2)."""
        start, count = clip.entry.points
        low = min(max(math.floor(seconds[0] * FPS) - 1, 0), count - 2)
        high = min(max(math.ceil(seconds[-1] * FPS) + 2, low + 2), count)
        track = align(clip.corpus.points[start + low : start + high] / 64.0, clip.at_rest)
        track -= clip.at_rest
        at = seconds * FPS - low
        whole = np.round(at).astype(int)
        if np.abs(at - whole).max() < 1e-6:
            return track.take(whole, axis=0, mode="clip")
        return at_times(track, np.arange(len(track)) / FPS, at / FPS)

    def _phones(self, clip: _Known, seconds: NDArray[np.float64]) -> phones.Track:
        track = clip.corpus.phones(clip.entry)
        if track is None:
            return np.full(len(seconds), phones.UNKNOWN, np.uint8)
        return phones.at(track, seconds)

    def _babble(self, rng: np.random.Generator) -> Array:
        """Three to six of the clips at once, (16000,)."""
        voices = np.zeros(WINDOW, np.float32)
        for k in rng.integers(len(self.clips), size=rng.integers(3, 7)):
            other = self.clips[k]
            first = int(rng.integers(max(1, other.entry.audio[1] - WINDOW)))
            voices += other.corpus.sound(other.entry, first, WINDOW)
        return voices

    def _label(self, entry: Entry) -> Array:
        if entry.emotion in (None, "neutral"):
            return emotion.vector({})
        weight = min(entry.level or 3, 3) / 3 if self.by_level else 1.0
        return emotion.vector({entry.emotion: weight})


def _known(corpus: Corpus, entry: Entry) -> _Known:
    own, neutral = corpus.clip_identity(entry), corpus.clip_neutral(entry)
    reference = own if neutral is None else neutral
    at_rest = to_canonical(reference).apply(reference).astype(np.float32)
    settled = np.zeros_like(at_rest) if neutral is None else align(own[None], at_rest)[0] - at_rest
    return _Known(corpus, entry, at_rest, settled.astype(np.float32))


class _Steps(Sampler[list[int]]):
    """The sample numbers of one process's batches, step after step."""

    def __init__(self, first: int, last: int, rows: int, rank: int, world: int) -> None:
        self.first, self.last, self.rows, self.rank, self.world = first, last, rows, rank, world

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first, self.last):
            start = (step * self.world + self.rank) * self.rows
            yield list(range(start, start + self.rows))


def loader(
    windows: Windows,
    rows: int,
    steps: range,
    *,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    pin: bool = False,
) -> Iterable[Batch]:
    """Batches of ``rows`` for ``steps``, made by ``workers`` processes (0: by this one).

    Of ``world`` processes each takes its ``rank``'s rows of a step's ``world * rows``.
    """
    batches: Any = DataLoader(
        windows,
        batch_sampler=_Steps(steps.start, steps.stop, rows, rank, world),
        collate_fn=Batch.of,
        num_workers=workers,
        worker_init_fn=_quiet,
        pin_memory=pin,
    )
    return batches if workers else _ahead(batches)


def _ahead(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Each batch is made while the step before it runs, by a thread that shares its work with no
    other: a window is too little of it, and waking threads takes longer.
    """
    waiting = iter(batches)
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as maker:
        made = maker.submit(next, waiting, None)
        while (batch := made.result()) is not None:
            made = maker.submit(next, waiting, None)
            yield batch


def _quiet(_: int) -> None:
    """Ctrl-C is for the process that trains; its workers end with it."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)

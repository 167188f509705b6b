"""The windows that training sees: every second of every clip, from any frame on.

A window is a function of (seed, epoch, sample) alone, never of the process or the worker that makes
it, so that runs can be resumed, repeated and spread over processes. Corpora are mapped into
memory; only a clip's face at rest is kept. :class:`Windows` reads what is true of a window, and
:func:`~training.data.augment.augment` changes it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from kfusion import emotion
from kfusion.config import FPS, FRAMES, SAMPLE_RATE, WINDOW
from kfusion.errors import DataError
from training.corpus.format import Corpus, Entry, Subset, select_entries
from training.data.augment import Augmentation, augment, opened_further
from training.data.batch import NO_FEATURES, Batch, TrainingWindow
from training.data.features import StoredFeatures
from training.data.pauses import PHONE_TIMES
from training.data.source_clip import SourceClip

Array = NDArray[np.float32]


class Windows(Dataset[TrainingWindow]):
    """Sample g is one second of sound with what the face did; g counts on from epoch to epoch.

    An epoch has one window for each second of each clip, in an order drawn anew, each starting at
    a frame drawn anew from its part of the clip. The reference of a clip labelled with an emotion
    other than neutral is its speaker's face at rest in their neutral clips, where there are any;
    of every other clip, that clip's own face at rest. With ``by_level`` a clip's level of 1 to 3
    thirds is its emotion's weight, else every label counts in full. Lips of dubbed corpora part
    by ``wider`` further: most people's do by more than those of the one who was filmed. Windows
    begin at every ``start_every``-th of those frames, and have the stored ``features`` of their
    sound where these are given.
    """

    features: StoredFeatures | None = None

    def __init__(
        self,
        corpora: Sequence[Corpus],
        split: Subset,
        augmentation: Augmentation,
        seed: int = 0,
        *,
        by_level: bool = False,
        wider: float = 0.0,
        start_every: int = 1,
    ) -> None:
        if start_every < 1:
            raise DataError(f"--start-every {start_every}; wanted 1 or more")
        self.augmentation, self.seed = augmentation, seed
        self.by_level, self.wider, self.start_every = by_level, wider, start_every
        self.clips = [
            SourceClip.of(corpus, entry) for corpus, entry in select_entries(corpora, split)
        ]
        seconds = [max(1, round(clip.entry.points[1] / FPS)) for clip in self.clips]
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

    def describe(self, index: int) -> str:
        """For people: which clip a sample comes from, and which epoch it is of."""
        epoch, place = divmod(index, len(self))
        owner = self._owner[self.order(epoch)[place]]
        return f"{self.clips[owner].entry.name} (epoch {epoch}, sample {place})"

    def batch(self, rows: int, step: int) -> Batch:
        """The batch of a step of one process."""
        return Batch.of([self[g] for g in range(step * rows, (step + 1) * rows)])

    def __getitem__(self, index: int) -> TrainingWindow:
        epoch, place = divmod(index, len(self))
        sample = int(self.order(epoch)[place])
        rng = np.random.default_rng([self.seed, epoch, sample])
        clip = self.clips[self._owner[sample]]
        first, speed = self._draw_place(rng, sample, clip)
        return augment(
            rng, self._window(clip, first, speed, index), self.augmentation, self._babble
        )

    def _draw_place(
        self, rng: np.random.Generator, sample: int, clip: SourceClip
    ) -> tuple[int, float]:
        """The first frame of a sample's window in its clip, and the speed of the clip.

        Of a clip's T frames any may be the first whose second is whole; with the augmentation
        ``edges`` a window may also hang over either end, as it does live.
        """
        chances = self.augmentation
        speed = 1.0
        if rng.random() < chances.speed:
            speed = chances.speeds[rng.integers(len(chances.speeds))]
        frames = int(clip.entry.points[1] / speed)
        low, high = (-24, frames - 6) if rng.random() < chances.edges else (0, frames - FRAMES)
        every, parts = self.start_every, int(self._parts[sample])
        choices = max(0, high - low) // every + 1
        begin, stop = (choices * (int(self._part[sample]) + k) // parts for k in (0, 1))
        return low + every * int(rng.integers(begin, max(begin + 1, stop))), speed

    def _window(self, clip: SourceClip, first: int, speed: float, index: int) -> TrainingWindow:
        """What is true of the second of a clip that begins at frame ``first``."""
        times = (first + np.arange(FRAMES)) / FPS
        last_frame = (int(clip.entry.points[1] / speed) - 1) / FPS
        end = min(clip.entry.audio[1] / SAMPLE_RATE / speed, last_frame)
        target = clip.displacements(times * speed)
        if self.wider and clip.corpus.header.dubbed:
            target = opened_further(target, self.wider)
        return TrainingWindow(
            audio=clip.sound(first, speed),
            identity=clip.identity,
            emotion=self._emotion(clip.entry),
            target=target,
            mask=((times >= 0) & (times <= end + 1e-9)).astype(np.float32),
            phones=clip.phones((first / FPS + PHONE_TIMES) * speed),
            index=index,
            times=times,
            end=end,
            rest_offset=clip.rest_offset,
            features=self.features.read(clip, first) if self.features else NO_FEATURES,
        )

    def _babble(self, rng: np.random.Generator) -> Array:
        """Three to six of the clips at once, (16000,)."""
        voices = np.zeros(WINDOW, np.float32)
        for k in rng.integers(len(self.clips), size=rng.integers(3, 7)):
            other = self.clips[k]
            first = int(rng.integers(max(1, other.entry.audio[1] - WINDOW)))
            voices += other.corpus.sound(other.entry, first, WINDOW)
        return voices

    def _emotion(self, entry: Entry) -> Array:
        if entry.emotion in (None, "neutral"):
            return emotion.vector({})
        weight = min(entry.level or 3, 3) / 3 if self.by_level else 1.0
        return emotion.vector({entry.emotion: weight})


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
    starts = ((step * world + rank) * rows for step in steps)
    batches: Any = DataLoader(
        windows,
        batch_sampler=(list(range(start, start + rows)) for start in starts),
        collate_fn=Batch.of,
        num_workers=workers,
        worker_init_fn=_start_worker,
        pin_memory=pin,
    )
    return batches if workers else _prefetched(batches)


def _prefetched(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Batches made by one thread, each while the step before it runs."""
    waiting = iter(batches)
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as maker:
        future = maker.submit(next, waiting, None)
        while (batch := future.result()) is not None:
            future = maker.submit(next, waiting, None)
            yield batch


def _start_worker(_: int) -> None:
    """Workers ignore Ctrl-C: the process that trains ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)

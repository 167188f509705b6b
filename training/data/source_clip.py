"""A clip of a corpus as training reads it: its sound, and its face as displacements from rest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kfusion.config import FPS, SAMPLE_RATE, WINDOW
from kfusion.landmarks import align, to_canonical
from training.corpus.clips import at_times
from training.corpus.format import Corpus, Entry
from training.data.time_stretch import resampled, resampling
from training.phones import UNKNOWN, PhoneTrack, phones_at

Array = NDArray[np.float32]


@dataclass(frozen=True)
class SourceClip:
    """A clip of a corpus, its reference face at rest (canonical), and the displacement from that of
    the clip's own face at rest: 0 unless the clip has an emotion and its reference is neutral.
    """

    corpus: Corpus
    entry: Entry
    identity: Array
    rest_offset: Array

    @classmethod
    def of(cls, corpus: Corpus, entry: Entry) -> SourceClip:
        own, neutral = corpus.clip_identity(entry), corpus.clip_neutral(entry)
        reference = own if neutral is None else neutral
        identity = to_canonical(reference).apply(reference).astype(np.float32)
        offset = np.zeros_like(identity)
        if neutral is not None:
            offset = (align(own[None], identity)[0] - identity).astype(np.float32)
        return cls(corpus, entry, identity, offset)

    def sound(self, first: int, speed: float) -> Array:
        """(16000,) samples from frame ``first`` on of the clip played ``speed`` times as fast."""
        start = round(first * SAMPLE_RATE / FPS * speed)
        if speed == 1.0:
            return self.corpus.sound(self.entry, start, WINDOW)
        kernel, hop = resampling(speed)
        blocks = -(-WINDOW // kernel.shape[1])
        reach = (len(kernel) - hop) // 2
        source = self.corpus.sound(self.entry, start - reach, (blocks - 1) * hop + len(kernel))
        return resampled(torch.from_numpy(source), speed).numpy()[:WINDOW]

    def displacements(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Displacements from the identity at times of the clip (s), canonical (30, 68, 2)."""
        start, count = self.entry.points
        low = min(max(math.floor(seconds[0] * FPS) - 1, 0), count - 2)
        high = min(max(math.ceil(seconds[-1] * FPS) + 2, low + 2), count)
        track = align(self.corpus.points[start + low : start + high] / 64.0, self.identity)
        track -= self.identity
        at = seconds * FPS - low
        whole = np.round(at).astype(int)
        if np.abs(at - whole).max() < 1e-6:
            return track.take(whole, axis=0, mode="clip")
        return at_times(track, np.arange(len(track)) / FPS, at / FPS)

    def phones(self, seconds: NDArray[np.float64]) -> PhoneTrack:
        track = self.corpus.phones(self.entry)
        if track is None:
            return np.full(len(seconds), UNKNOWN, np.uint8)
        return phones_at(track, seconds)

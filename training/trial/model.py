"""The model on trial, and the real speech that it is tried on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion.config import SAMPLE_RATE
from kfusion.runtime import Animator, Engine, OnnxEngine
from training.corpus.clips import Clip, Points, read_folder
from training.models.networks import load_engine
from training.scores.scoring import Closures, read_closures

HOP: Final = 3
LOOKAHEAD: Final = 3
SETS: Final = ("grid_s1", "grid_others", "mead_speech", "speakers")
"""Folders of tracked speech under the data; of grid_s1 only the validation side is scored."""


def open_engine(path: Path, threads: int = 1) -> Engine:
    """ONNX Runtime for an .onnx, torch for any checkpoint that training wrote."""
    return OnnxEngine(path, threads) if path.suffix == ".onnx" else load_engine(path)


@dataclass
class TrialModel:
    """A model, and the folder that holds the sets. Each set is read once."""

    animator: Animator
    data: Path
    sets: dict[str, list[Clip]] = field(default_factory=dict[str, list[Clip]])

    def clips(self, name: str) -> list[Clip]:
        if name not in self.sets:
            split = "validation" if name == "grid_s1" else "all"
            self.sets[name] = read_folder(self.data / name, split)
        return self.sets[name]

    def subset(self, count: int) -> list[Clip]:
        """``count`` of grid_s1's validation clips, evenly over their names, always the same."""
        clips = self.clips("grid_s1")
        count = min(count, len(clips))
        return [clips[i * len(clips) // count] for i in range(count)]

    @cached_property
    def closures(self) -> Closures:
        return read_closures(self.data / "grid_s1_phones.tsv")

    def animate(
        self,
        audio: NDArray[Any],
        identity: NDArray[Any] | None = None,
        emotion: Mapping[str, float] | None = None,
    ) -> Points:
        """The frames (T, 68, 2) for samples at 16 kHz at hop 3, look-ahead 3."""
        return self.animator.animate(
            audio, SAMPLE_RATE, emotion=emotion, identity=identity, hop=HOP, lookahead=LOOKAHEAD
        ).astype(np.float64)

    def predict(self, clip: Clip) -> Points:
        """:meth:`animate` of a clip, with the emotion neutral."""
        return self.animate(clip.audio, clip.identity)
